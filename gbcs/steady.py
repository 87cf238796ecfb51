"""The time that deadlines and pauses are measured in: nobody can set it while the process lives.

A wall clock that is set right by an hour would end what has an hour left, or hold up for an hour
what is due. So time passes here as a monotonic clock says, and the wall clock is asked once, at the
start: how long nobody was here only it can tell. Where it tells less than nothing, as that of a
device without a battery does until it has been set, no time has passed.
"""

from __future__ import annotations

import math
from typing import Final

from gbcs.ports import Clock

_NOTED_FROM_S: Final = 1.0
"""A smaller step of the wall clock is not worth a write."""


class SteadyClock:
    """Tells seconds that began as those since 1970 and pass evenly; a `gbcs.ports.Clock`.

    Times on disk are in these seconds. So that the next process can go on with them, ``moved``
    tells when the wall clock was set, by what is then given to that process.

    Args:
        wall: the wall clock.
        monotonic: seconds from any beginning, which nobody sets: an event loop's time.
        wall_ahead_s: how far the wall clock was ahead of this one in the process before.
        not_before: the latest time that the process before is known to have seen.
    """

    def __init__(
        self,
        wall: Clock,
        monotonic: Clock,
        *,
        wall_ahead_s: float = 0.0,
        not_before: float = -math.inf,
    ) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._begun = monotonic()
        self._start = max(wall() - wall_ahead_s, not_before)
        self._noted_s = wall_ahead_s

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self._start + (self._monotonic() - self._begun)

    def moved(self) -> float | None:
        """Return how far the wall clock is ahead now, in seconds; None: as was noted last."""
        ahead_s = self._wall() - self()
        return None if abs(ahead_s - self._noted_s) < _NOTED_FROM_S else ahead_s

    @property
    def noted_s(self) -> float:
        """How far the wall clock was ahead when that was noted last, in seconds."""
        return self._noted_s

    def note(self, wall_ahead_s: float) -> None:
        """Take down that this is stored."""
        self._noted_s = wall_ahead_s
