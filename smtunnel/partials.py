"""Which messages are incomplete, how much they hold, and which of them has to go first.

Source: specs/tunnel-protocol.md, limits.
"""

from __future__ import annotations

import heapq
from typing import Final

from smtunnel.uses import Use

_SLACK: Final = 64


class Partials:
    """Counts the incomplete messages of all peers, by their deadlines and their silence."""

    __slots__ = ("_deadlines", "_lifetime_s", "_sequence", "_silent", "held_octets", "live")

    def __init__(self, lifetime_s: float) -> None:
        """Begin with none.

        Args:
            lifetime_s: from a message's first accepted fragment to its expiry, in seconds.
        """
        self._lifetime_s = lifetime_s
        # Of each its deadline, and when it was heard of last, or earlier. Ended ones stay until
        # they reach the top or are swept out.
        self._deadlines: list[tuple[float, int, Use]] = []
        self._silent: list[tuple[float, int, Use]] = []
        self._sequence = 0
        self.live = 0
        """How many there are."""
        self.held_octets = 0
        """What they hold, in octets."""

    def add(self, use: Use, held_octets: int) -> None:
        """Take in a message that is incomplete after its first fragment."""
        use.registered = True
        self.live += 1
        self.held_octets += held_octets
        self._sequence += 1
        deadline = use.started_at + self._lifetime_s
        heapq.heappush(self._deadlines, (deadline, self._sequence, use))
        heapq.heappush(self._silent, (use.heard_at, self._sequence, use))

    def remove(self, use: Use, held_octets: int) -> None:
        """Let a message go that has ended."""
        use.registered = False
        self.live -= 1
        self.held_octets -= held_octets
        # Ended messages must not fill the memory until their deadlines.
        for heap in (self._deadlines, self._silent):
            if len(heap) > 2 * self.live + _SLACK:
                heap[:] = [entry for entry in heap if entry[2].registered]
                heapq.heapify(heap)

    def due(self, now: float) -> bool:
        """Tell, cheaply, whether any deadline may have come."""
        return bool(self._deadlines) and self._deadlines[0][0] <= now

    def first_deadline(self) -> tuple[float, Use] | None:
        """Return the first deadline and whose it is."""
        while self._deadlines:
            deadline, _, use = self._deadlines[0]
            if use.registered:
                return deadline, use
            heapq.heappop(self._deadlines)
        return None

    def take_silent(self) -> Use | None:
        """Take the message that has been silent for longest: it has to end."""
        while self._silent:
            heard_at, sequence, use = heapq.heappop(self._silent)
            if not use.registered:
                continue
            if use.heard_at <= heard_at:
                return use
            heapq.heappush(self._silent, (use.heard_at, sequence, use))
        return None
