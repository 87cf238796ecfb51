"""Handshakes one after another: what a restart brings at once is taken at a pace."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator

SLOT_S = 1.0
"""How long a handshake that stalls keeps others waiting, in seconds."""

_FIRST_PACE_S = 0.002
_PACE_MEMORY = 64
_TOLD_EVERY_S = 1.0
_COMPLAINTS_AT_ONCE = 200
_COMPLAINTS_A_SECOND = 10.0
_IPV6_HOME_BITS = 64
"""What a provider gives to one home, at least: its addresses are one peer's."""


class Gate:
    """Lets so many pass at once; of those who wait, each address in its turn.

    Within an address it is first come, first served: who opens a thousand connections and lets
    them stall keeps waiting who comes from the same place, and nobody else for long.

    A place is free again when its holder leaves, or after `SLOT_S`: who is slow goes on, but
    nobody waits for it.

    Args:
        at_once: how many places there are.
    """

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._pace_s = _FIRST_PACE_S
        self._left_at = 0.0
        # By address, that whose turn it is first.
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        self.waiting = 0
        """How many wait for a place."""

    @property
    def pace_s(self) -> float:
        """How far apart places have become free lately, while somebody waited, in seconds."""
        return self._pace_s

    @property
    def wait_s(self) -> float:
        """How long until all who wait now have had their turn, in seconds."""
        return self.waiting * self._pace_s

    def before(self, address: str) -> int:
        """Return how many have their turn before whoever comes from an address now, at most."""
        own = self._waiting.get(_home(address), ())
        return min(self.waiting, (len(own) + 1) * len(self._waiting))

    async def enter(self, address: str = "") -> Callable[[], None]:
        """Wait for a place.

        Args:
            address: who comes.

        Returns:
            What gives it back; may be called more than once.
        """
        loop = asyncio.get_running_loop()
        if self._free:
            self._free -= 1
        else:
            turn = loop.create_future()
            home = _home(address)
            self._waiting.setdefault(home, deque()).append(turn)
            self.waiting += 1
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self._leave()
                else:
                    self._forget(home, turn)
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
        now = asyncio.get_running_loop().time()
        while self._waiting:
            home, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            self.waiting -= 1
            if turns:
                self._waiting[home] = turns
            if not turn.done():
                gap_s = min(now - self._left_at, SLOT_S)
                self._pace_s += (gap_s - self._pace_s) / _PACE_MEMORY
                self._left_at = now
                turn.set_result(None)
                return
        self._left_at = now
        self._free += 1

    def _forget(self, home: str, turn: asyncio.Future[None]) -> None:
        turns = self._waiting.get(home, deque())
        if turn in turns:
            turns.remove(turn)
            self.waiting -= 1
            if not turns:
                del self._waiting[home]


class HalfOpen:
    """Counts connections that have not proven their device, in all and by address.

    Args:
        total: the most that may stand.
        per_address: the most from one IPv4 address, or one IPv6 network of 64 bits.
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
        standing = self._by_address[_home(address)]
        if standing >= self._per_address:
            return f"{standing} connections without a proven device from there"
        return None

    @contextlib.contextmanager
    def counted(self, address: str) -> Iterator[Callable[[], None]]:
        """Count one until it is left, or until what is given is called: then it is proven."""
        address = _home(address)
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
    """Spreads those told to try later: each gets a moment of its own, after those who wait now.

    Args:
        longest_s: the longest wait that anybody is told, in seconds.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._next = 0.0

    def wait_s(self, now: float, gate: Gate) -> float:
        """Return how long the next one is to wait, in seconds.

        Args:
            now: monotonic, in seconds.
            gate: whose pace counts, and those who wait there.
        """
        soonest = now + 1.0 + gate.wait_s
        self._next = min(max(self._next, soonest) + gate.pace_s, now + self._longest_s)
        return self._next - now


class Tally:
    """Tells of what happens to very many at once once a second, with how many they were.

    Args:
        logger: where to.
        text: of the log; takes the count, who was the last, and why.
    """

    def __init__(self, logger: logging.Logger, text: str) -> None:
        self._logger = logger
        self._text = text
        self._count = 0
        self._told_at = float("-inf")

    def note(self, who: object, why: str) -> None:
        """Count one."""
        self._count += 1
        now = asyncio.get_running_loop().time()
        if now - self._told_at >= _TOLD_EVERY_S:
            self._logger.warning(self._text, self._count, who, why)
            self._told_at, self._count = now, 0


class Allowance:
    """What one peer may ask for: so much at once, then so much a second.

    Args:
        per_s: how much it earns a second.
        at_once: the most that it keeps, and has at first.
    """

    __slots__ = ("_at_once", "_counted_at", "_left", "_per_s")

    def __init__(self, per_s: float, at_once: float) -> None:
        self._per_s = per_s
        self._left = self._at_once = at_once
        self._counted_at = float("-inf")

    def wait_s(self, now: float) -> float:
        """Return how long to wait until there is something left, in seconds.

        Args:
            now: monotonic, in seconds.
        """
        earned = (now - self._counted_at) * self._per_s
        self._left = min(self._at_once, self._left + earned)
        self._counted_at = now
        return max(0.0, (1.0 - self._left) / self._per_s)

    def take(self, now: float, cost: float = 1.0) -> float:
        """Take something, on credit where nothing is left.

        Returns:
            How long to wait before anything more is done, in seconds.
        """
        wait_s = self.wait_s(now)
        self._left -= cost
        return wait_s


class Complaints:
    """Tells of single connections that come to nothing, so many at once; then counts only.

    Anybody on the internet can cause such lines: they must not fill a disk.

    Args:
        logger: where to.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._allowance = Allowance(_COMPLAINTS_A_SECOND, _COMPLAINTS_AT_ONCE)
        self._untold = 0

    def tell(self, text: str, *arguments: object) -> None:
        """Tell of one, or count it."""
        now = asyncio.get_running_loop().time()
        if self._allowance.wait_s(now) > 0:
            self._untold += 1
            return
        self._allowance.take(now)
        if self._untold:
            self._logger.warning("route 2b: %d more complaints were not told", self._untold)
            self._untold = 0
        self._logger.warning(text, *arguments)


def _home(address: str) -> str:
    """Return what counts as one address: of IPv6 the network that one home has."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if found.version == 4:
        return address
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found.packed, _IPV6_HOME_BITS), strict=False))
