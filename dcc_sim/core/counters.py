"""Which originator counters a user has used: the last N and a floor."""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterable


class CounterStanding(enum.Enum):
    """What is known of a counter."""

    NEW = enum.auto()
    USED = enum.auto()
    STALE = enum.auto()


class CounterWindow:
    """A set of the last ``capacity`` accepted counters and a floor.

    One counter serves all devices of an organisation and requests may overtake each other, so
    a counter need not be the highest so far; it must be above the floor and not in the set.

    Args:
        capacity: how many counters are remembered, at least 1.
        floor: every counter up to this one is stale.
        used: counters above the floor that were accepted before.
    """

    def __init__(self, capacity: int, *, floor: int = -1, used: Iterable[int] = ()) -> None:
        self._capacity = capacity
        self._floor = floor
        self._used = {counter for counter in used if counter > floor}
        self._heap = list(self._used)
        heapq.heapify(self._heap)
        self._trim()

    @property
    def floor(self) -> int:
        """Every counter up to this one is stale; -1 at the beginning."""
        return self._floor

    def standing(self, counter: int) -> CounterStanding:
        """Say whether a counter is new, used or stale; changes nothing."""
        if counter in self._used:
            return CounterStanding.USED
        # In a full window a counter below all others would fall out as soon as it came in.
        full = len(self._used) >= self._capacity
        if counter <= self._floor or (full and counter < self._heap[0]):
            return CounterStanding.STALE
        return CounterStanding.NEW

    def displaced(self) -> int | None:
        """Return the counter that falls out of the window when a new one comes in, if any."""
        return self._heap[0] if len(self._used) >= self._capacity else None

    def accept(self, counter: int) -> None:
        """Remember a new counter; what falls out of the window raises the floor."""
        self._used.add(counter)
        heapq.heappush(self._heap, counter)
        self._trim()

    def _trim(self) -> None:
        while len(self._used) > self._capacity:
            self._floor = heapq.heappop(self._heap)
            self._used.discard(self._floor)
