"""The time that deadlines and pauses are measured in: nobody can set it while the process lives.

A wall clock that is set right by an hour would end what has an hour left, or hold up for an hour
what is due. So time passes here as the event loop's monotonic clock says, and the wall clock is
asked once, at the start: how long nobody was here only it can tell.
"""

from __future__ import annotations

import asyncio
from typing import Final

from gbcs.ports import Clock

_NOTED_FROM_S: Final = 1.0
"""A smaller step of the wall clock is not worth a write."""


class SteadyClock:
    """Tells seconds that began as those since 1970 and pass evenly; a `Clock`, in a running loop.

    Times on disk are in these seconds. So that the next process can go on with them, ``moved``
    tells when the wall clock was set, by what is then given to that process.

    Args:
        wall: the wall clock.
        wall_ahead_s: how far the wall clock was ahead of this one in the process before.
    """

    def __init__(self, wall: Clock, *, wall_ahead_s: float = 0.0) -> None:
        self._wall = wall
        self._loop = asyncio.get_running_loop()
        self._begun = self._loop.time()
        self._start = wall() - wall_ahead_s
        self._noted_s = wall_ahead_s

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self._start + (self._loop.time() - self._begun)

    def moved(self) -> float | None:
        """Return how far the wall clock is ahead now, in seconds; None: as was noted last."""
        ahead_s = self._wall() - self()
        return None if abs(ahead_s - self._noted_s) < _NOTED_FROM_S else ahead_s

    def note(self, wall_ahead_s: float) -> None:
        """Take down that this is stored."""
        self._noted_s = wall_ahead_s
