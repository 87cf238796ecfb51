"""Which originator counters of one peer have been accepted: the defence against replay.

One counter serves all devices of an organisation, so one device sees a sparse, growing sequence:
the window is a set of the last accepted counters and a floor, not a bitmap over values.
"""

from __future__ import annotations

import enum
import sys
from array import array
from bisect import bisect_left
from typing import Final

from smtunnel.errors import LocalError, StateError

MAX_COUNTER: Final = 2**64 - 1


class Verdict(enum.Enum):
    """What the window says of a counter."""

    NEW = "new"
    """Never accepted."""
    REPLAY = "replay"
    """Accepted before, with the same content."""
    REUSED = "reused"
    """Accepted before, with other content: the originator broke its promise."""
    STALE = "stale"
    """Below the floor: too old to tell."""


# Looked up once: reading an enum's member costs more than the comparisons.
_NEW: Final = Verdict.NEW


class ReplayWindow:
    """The last accepted counters of one peer, each with a check value of what it carried.

    Twelve octets an entry. Only authenticated content may be shown to it.
    """

    __slots__ = ("_checks", "_counters", "_floor", "_size")

    def __init__(self, size: int) -> None:
        """Begin empty.

        Args:
            size: how many counters are remembered, at least 1.
        """
        self._size = size
        self._floor = 0
        # Two parallel arrays in rising order of counters: tens of octets less than a dict.
        self._counters = array("Q")
        self._checks = array("I")

    @property
    def floor(self) -> int:
        """The smallest counter that can still be judged; smaller ones are stale."""
        return self._floor

    @property
    def counters(self) -> tuple[int, ...]:
        """The remembered counters, rising."""
        return tuple(self._counters)

    def __len__(self) -> int:
        return len(self._counters)

    def judge(self, counter: int, check: int) -> Verdict:
        """Say what is known of a counter, without remembering it.

        Args:
            counter: the originator counter, 64 bits.
            check: a check value of what it carried, 32 bits.
        """
        counters = self._counters
        if counters and counter <= counters[-1]:
            place = bisect_left(counters, counter)
            if counters[place] == counter:
                same = self._checks[place] == check
                return Verdict.REPLAY if same else Verdict.REUSED
        return Verdict.STALE if counter < self._floor else _NEW

    def accept(self, counter: int, check: int) -> None:
        """Remember a counter and the check value; one known already stays as it is.

        Raises:
            LocalError: the counter is not of 64 bits.
        """
        counters = self._counters
        if counters and MAX_COUNTER >= counter > counters[-1]:
            counters.append(counter)
            self._checks.append(check)
        else:
            self._insert(counter, check)
        if len(counters) > self._size:
            self._floor = counters.pop(0) + 1
            self._checks.pop(0)

    def _insert(self, counter: int, check: int) -> None:
        if not 0 <= counter <= MAX_COUNTER:
            raise LocalError(f"originator counter {counter} is not of 64 bits")
        if counter < self._floor:
            return
        counters = self._counters
        place = bisect_left(counters, counter)
        if place == len(counters) or counters[place] != counter:
            counters.insert(place, counter)
            self._checks.insert(place, check)

    def to_bytes(self) -> bytes:
        """Build the saved form: floor(8), count(2), all counters(8 each), all checks(4 each)."""
        head = self._floor.to_bytes(8, "big") + len(self._counters).to_bytes(2, "big")
        return head + _big_endian(self._counters) + _big_endian(self._checks)

    def merge(self, saved: bytes) -> int:
        """Take over what a saved form remembers, and the higher floor.

        Returns:
            How many octets of saved were used.

        Raises:
            StateError: cut short.
        """
        count = int.from_bytes(saved[8:10], "big")
        end = 10 + 12 * count
        if len(saved) < max(10, end):
            raise StateError(f"the saved window of {len(saved)} octets is cut short")
        counters = array("Q", saved[10 : 10 + 8 * count])
        checks = array("I", saved[10 + 8 * count : end])
        if sys.byteorder == "little":
            counters.byteswap()
            checks.byteswap()
        for counter, check in zip(counters, checks, strict=True):
            self.accept(counter, check)
        floor = int.from_bytes(saved[:8], "big")
        if floor > self._floor:
            keep = bisect_left(self._counters, floor)
            self._counters, self._checks = self._counters[keep:], self._checks[keep:]
            self._floor = floor
        return end


def _big_endian(numbers: array[int]) -> bytes:
    if sys.byteorder == "big":
        return numbers.tobytes()
    swapped = numbers[:]
    swapped.byteswap()
    return swapped.tobytes()
