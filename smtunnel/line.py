"""The line in which peers wait for their turn: what is more urgent first, among equals in turn."""

from __future__ import annotations

from bisect import insort
from collections import deque
from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Waiting(Protocol):
    """A peer that may stand in the line."""

    levels: set[int]
    """The priorities at which it stands there."""


W = TypeVar("W", bound=Waiting)


class Line(Generic[W]):
    """One queue for each priority at which anybody waits."""

    def __init__(self) -> None:
        """Begin empty."""
        self._queues: dict[int, deque[W]] = {}
        self._priorities: list[int] = []  # rising

    def __bool__(self) -> bool:
        return bool(self._priorities)

    def add(self, one: W, priorities: Iterable[int]) -> None:
        """Let a peer stand in the line at some priorities; where it stands already it stays."""
        for priority in priorities:
            if priority in one.levels:
                continue
            one.levels.add(priority)
            queue = self._queues.get(priority)
            if queue is None:
                queue = self._queues[priority] = deque()
                insort(self._priorities, priority)
            queue.append(one)

    def first(self) -> tuple[W, int]:
        """Return whose turn it is, and at which priority."""
        priority = self._priorities[-1]
        return self._queues[priority][0], priority

    def next_turn(self, priority: int) -> None:
        """Let the first at a priority stand behind the others there."""
        self._queues[priority].rotate(-1)

    def leave(self, priority: int) -> None:
        """Let the first at a priority leave: it has nothing for now."""
        queue = self._queues[priority]
        queue.popleft().levels.discard(priority)
        if not queue:
            del self._queues[priority]
            self._priorities.remove(priority)
