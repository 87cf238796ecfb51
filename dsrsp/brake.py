"""Holds commands back before they are signed: below the anomaly threshold, and after a quarantine.

The tunnel's end paces what it gives out. What it gave out may be held up on its way to the DCC, by
an hour without transforms for instance, and then comes with what is given out later; so what is
about to be signed is counted once more, here. A counted command is posted under one Originator
Counter however often, and the DCC counts it once (assumed).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable

from gbcs.ports import Clock
from smtunnel.pacing import Pace

logger = logging.getLogger("dsrsp")


class Brake:
    """Lets commands go on one by one.

    Args:
        clock: see `gbcs.steady`.
        per_window: the most in any window; None: any number.
        window_s: length of the window, in seconds.
        stops_on_quarantine: whether nothing goes while the DCC holds commands in quarantine, for
            at most a window after the last was held.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        per_window: int | None,
        window_s: float,
        stops_on_quarantine: bool,
    ) -> None:
        self._clock = clock
        self._pace = Pace(per_window, window_s)
        self._stops = stops_on_quarantine
        self._window_s = window_s
        self._quarantined: set[int] = set()
        self._stopped_at = 0.0
        self._free = asyncio.Event()
        self._free.set()

    def restore(self, signed: Iterable[float]) -> None:
        """Count what earlier processes signed.

        Args:
            signed: when, in seconds, in order.
        """
        for at in signed:
            self._pace.count(at)

    @property
    def quarantined(self) -> frozenset[int]:
        """The Originator Counters of commands that the DCC holds in quarantine."""
        return frozenset(self._quarantined)

    def hold(self, originator_counter: int) -> None:
        """Note that the DCC holds a command in quarantine."""
        self._quarantined.add(originator_counter)
        if not self._stops:
            return
        self._stopped_at = self._clock()
        if self._free.is_set():
            self._free.clear()
            logger.error(
                "the DCC has quarantined command %d: no other is signed until it is released or "
                "discarded there, its time is up, or a window of %g s has passed; set "
                "fragments_per_window below the threshold",
                originator_counter,
                self._window_s,
            )

    def ended(self, originator_counter: int) -> None:
        """Note that a command has ended, whatever became of it."""
        self._quarantined.discard(originator_counter)
        if not self._quarantined and not self._free.is_set():
            logger.warning("nothing is in quarantine any more: commands go on")
            self._free.set()

    async def wait(self) -> None:
        """Wait until one more command may be signed, and count it."""
        while True:
            await self._until_free()
            now = self._clock()
            free_at = self._pace.free_at(now)
            if free_at is None:
                self._pace.count(now)
                return
            await asyncio.sleep(max(free_at - now, 0.001))

    async def _until_free(self) -> None:
        """Wait for the end of a stop; one window after the last quarantine counting begins anew.

        Whoever leaves a command in quarantine must not silence every other CEM for its time-out.
        What goes then tries the threshold: if the DCC holds it too, the stop begins again.
        """
        left_s = self._stopped_at + self._window_s - self._clock()
        if self._free.is_set() or left_s <= 0:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(left_s):
                await self._free.wait()
                return
        if not self._free.is_set():
            logger.warning("a window has passed since the last quarantine: commands go on")
            self._free.set()
