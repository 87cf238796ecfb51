"""An electric vehicle's charger, simulated: it draws what the events let it draw."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that may be drawn from one time to another, in watts."""

    start: datetime
    end: datetime
    power_w: float


class Charger:
    """A charger whose vehicle takes all that it may have.

    Args:
        clock: tells the time, aware.
        full_power_w: what is drawn without an event, in watts.
    """

    def __init__(self, clock: Callable[[], datetime], *, full_power_w: float = 7400.0) -> None:
        self._clock = clock
        self._full_power_w = full_power_w
        self._limits: dict[str, list[Limit]] = {}
        self._obeyed = asyncio.Event()

    @property
    def events(self) -> list[str]:
        """The events that are obeyed, by eventID."""
        return list(self._limits)

    def obey(self, event: dict[str, Any]) -> None:
        """Take an event, or a newer version of one; a cancelled one is forgotten.

        Args:
            event: as openleadr gives it to a VEN.
        """
        event_id = event["event_descriptor"]["event_id"]
        self._limits.pop(event_id, None)
        self._obeyed.set()
        if event["event_descriptor"]["event_status"] == "cancelled":
            return
        self._limits[event_id] = [
            Limit(
                interval["dtstart"],
                interval["dtstart"] + interval["duration"],
                float(interval["signal_payload"]),
            )
            for signal in event["event_signals"]
            for interval in signal["intervals"]
        ]

    def power_w(self, at: datetime | None = None) -> float:
        """Return what is drawn, in watts.

        Args:
            at: when; None: now.
        """
        now = self._clock() if at is None else at
        limits = [
            limit.power_w
            for event in self._limits.values()
            for limit in event
            if limit.start <= now < limit.end
        ]
        return min([self._full_power_w, *limits])

    def next_change(self) -> datetime | None:
        """Return when what is drawn may change next by itself; None: never, as things stand."""
        now = self._clock()
        moments = [
            moment
            for event in self._limits.values()
            for limit in event
            for moment in (limit.start, limit.end)
            if moment > now
        ]
        return min(moments, default=None)

    async def watch(self, tell: Callable[[float], Awaitable[None]]) -> None:
        """Tell what is drawn, in watts: at once, and whenever it changes; until cancelled."""
        told: float | None = None
        while True:
            self._obeyed.clear()
            if (power_w := self.power_w()) != told:
                told = power_w
                await tell(power_w)
            moment = self.next_change()
            wait_s = None if moment is None else (moment - self._clock()).total_seconds()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._obeyed.wait()
