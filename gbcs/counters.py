"""Originator Counters: strictly increasing, never reused, also after a crash.

Numbers are reserved on disk before the first of them is given out. After a crash
the unused rest of a reservation is skipped: a gap is harmless, a number used twice
is not, for receivers tell replays by it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

from gbcs.errors import BuildError

MAX_ORIGINATOR_COUNTER: Final = 2**64 - 1
"""The Originator Counter has 64 bits."""

TAGS: Final = 65_536
"""A counter's tag is its low 16 bits: the smart metering tunnel tells messages apart by it."""


class CounterStore(Protocol):
    """Keeps the high-water mark of one originator's counter."""

    def load(self) -> int:
        """Return the highest number ever reserved; 0 where none was."""
        ...

    def reserve(self, up_to: int) -> None:
        """Commit ``up_to`` as the high-water mark; on return it survives a power cut.

        Args:
            up_to: the new mark, higher than the one before.
        """
        ...


class OriginatorCounter:
    """Issues the Originator Counters of one originator.

    The originator must have one living instance for its store: two would give
    the same numbers out.

    Args:
        store: keeps the high-water mark.
        reserve: how many numbers one write to the store covers, at least 1: the
            most that a crash skips, but for larger blocks.
        floor: every issued number is above this; for an originator that used
            numbers before its store was made.

    Raises:
        BuildError: reserve or floor is out of range, or the store holds what is no counter.

    Source: GBCS (Originator Counter)
    """

    __slots__ = ("_next", "_reserve", "_reserved", "_store")

    def __init__(self, store: CounterStore, *, reserve: int = 64, floor: int = 0) -> None:
        if reserve < 1:
            raise BuildError(f"a reservation must cover at least 1 number, not {reserve}")
        if not 0 <= floor <= MAX_ORIGINATOR_COUNTER:
            raise BuildError(f"the floor must be 0 to 2**64-1, not {floor}")
        mark = store.load()
        if not 0 <= mark <= MAX_ORIGINATOR_COUNTER:
            raise BuildError(
                f"the counter store holds {mark}, which is no Originator Counter (0 to 2**64-1): "
                "restore it, or start a new store with a floor above every number ever used"
            )
        self._store = store
        self._reserve = reserve
        self._reserved = mark
        self._next = max(mark, floor) + 1

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        """Issue ``count`` numbers without a gap and return the first of them.

        Args:
            count: how many, at least 1.
            avoid_tags: what the low 16 bits of the first number must not be; numbers are
                skipped where they are.

        Returns:
            The first number; the block is first to first + count - 1.

        Raises:
            BuildError: count is below 1, every tag is to be avoided, or the 64 bits are used up.
            Exception: what the store raises; then no number was given out.
        """
        if count < 1:
            raise BuildError(f"a block must have at least 1 counter, not {count}")
        avoided = frozenset(avoid_tags)
        if len(avoided) >= TAGS:
            raise BuildError(f"all {TAGS} tags are to be avoided: no number is left")
        first = self._next
        while first % TAGS in avoided:
            first += 1
        self._take(first, count)
        return first

    def issue_for_tag(self, tag: int, index: int) -> int:
        """Issue the smallest number c above all issued before with (c - index) mod 65536 = tag.

        Numbers between are skipped.

        Args:
            tag: 0 to 65535.
            index: of the fragment that the number is for, 0 to 2047.

        Raises:
            BuildError: tag is out of range, index is negative, or the 64 bits are used up.
            Exception: what the store raises; then no number was given out.
        """
        if not 0 <= tag < TAGS or index < 0:
            raise BuildError(f"tag {tag} is not in 0 to {TAGS - 1}, or index {index} is negative")
        start = max(self._next, index)
        number = start + (tag + index - start) % TAGS
        self._take(number, 1)
        return number

    def _take(self, first: int, count: int) -> None:
        """Reserve what is needed to give out first to first + count - 1, and count them issued."""
        last = first + count - 1
        if last > MAX_ORIGINATOR_COUNTER:
            raise BuildError("the originator counter's 64 bits are used up: a new identity is due")
        if last > self._reserved:
            up_to = min(max(last, first + self._reserve - 1), MAX_ORIGINATOR_COUNTER)
            self._store.reserve(up_to)
            self._reserved = up_to
        self._next = last + 1
