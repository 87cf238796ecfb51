"""Handshakes one after another: what a restart brings at once is taken at a pace."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator

SLOT_S = 1.0
"""How long a handshake that stalls keeps others waiting, in seconds."""


class Gate:
    """Lets so many pass at once, first come, first served.

    A place is free again when its holder leaves, or after `SLOT_S`: who is slow goes on, but
    nobody waits for it.

    Args:
        at_once: how many places there are.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def waiting(self) -> int:
        """How many wait for a place."""
        return len(self._waiting)

    async def enter(self) -> Callable[[], None]:
        """Wait for a place.

        Returns:
            What gives it back; may be called more than once.
        """
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            turn = loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                else:
                    self._waiting.remove(turn)
                raise
        timer: asyncio.TimerHandle | None = None

        def leave() -> None:
            nonlocal timer
            if timer is not None:
                timer.cancel()
                timer = None
                self._leave()

        timer = loop.call_later(SLOT_S, leave)
        return leave

    def _leave(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1


class HalfOpen:
    """Counts connections that have not proven their device, in all and by address.

    Args:
        total: the most that may stand.
        per_address: the most from one address.
    """

    def __init__(self, total: int, per_address: int) -> None:
        self._total = total
        self._per_address = per_address
        self._by_address: Counter[str] = Counter()
        self.count = 0

    def full(self, address: str) -> str | None:
        """Say why one more cannot be taken, or None."""
        if self.count >= self._total:
            return f"{self.count} connections without a proven device"
        if self._by_address[address] >= self._per_address:
            return f"{self._by_address[address]} connections without a proven device from there"
        return None

    @contextlib.contextmanager
    def counted(self, address: str) -> Iterator[Callable[[], None]]:
        """Count one until it is left, or until what is given is called: then it is proven."""
        self.count += 1
        self._by_address[address] += 1
        left = False

        def leave() -> None:
            nonlocal left
            if left:
                return
            left = True
            self.count -= 1
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

        try:
            yield leave
        finally:
            leave()


class CallBack:
    """Spreads those told to try later: each gets a moment of its own.

    Args:
        per_s: how many are called back in a second.
        longest_s: the longest wait that anybody is told, in seconds.
    """

    def __init__(self, per_s: float, longest_s: float) -> None:
        self._step_s = 1 / per_s
        self._longest_s = longest_s
        self._next = 0.0

    def wait_s(self, now: float) -> float:
        """Return how long the next one is to wait, in seconds.

        Args:
            now: monotonic, in seconds.
        """
        self._next = min(max(self._next, now + 1.0) + self._step_s, now + self._longest_s)
        return self._next - now
