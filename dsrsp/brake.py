"""Holds commands back before they are signed: below the anomaly threshold, and after a quarantine.

The tunnel's end paces what it gives out. What it gave out may be held up on its way to the DCC, by
an hour without transforms for instance, and then comes with what is given out later; so what is
about to be signed is counted once more, here. A counted command is posted under one Originator
Counter however often, and the DCC counts it once (assumed).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from gbcs.ports import Clock
from smtunnel.pacing import Pace

logger = logging.getLogger("dsrsp")


class Brake:
    """Lets commands go on one by one.

    Args:
        clock: see `dsrsp.steady`.
        per_window: the most in any window; None: any number.
        window_s: length of the window, in seconds.
        stops_on_quarantine: whether nothing goes while the DCC holds commands in quarantine.
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
        self._quarantined: set[int] = set()
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
        if self._stops and self._free.is_set():
            self._free.clear()
            logger.error(
                "the DCC has quarantined command %d: no other is signed until it is released or "
                "discarded there, or its time is up; set fragments_per_window below the threshold",
                originator_counter,
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
            await self._free.wait()
            now = self._clock()
            free_at = self._pace.free_at(now)
            if free_at is None:
                self._pace.count(now)
                return
            await asyncio.sleep(max(free_at - now, 0.001))
