"""A gateway's process inside a simulation, which can be killed at any moment and started again.

A kill cuts a process off from everything outside at once: its store, its network, its journal.
What its objects still do while they are cleared away reaches nobody, as with a process that the
operating system ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, Protocol, TypeVar, cast

from gbcs.counters import CounterStore
from gbcs.ports import Journal, JournalValue
from lab.errors import VirtualError

G = TypeVar("G", bound=AbstractAsyncContextManager[Any])
S = TypeVar("S", bound="_Closable")


class _Closable(Protocol):
    def abandon(self) -> None:
        """Forget what is not durable yet."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


class Life:
    """One life of a process, from its start to its end."""

    def __init__(self) -> None:
        self.alive = True
        self.ended = asyncio.Event()
        self._cuts: list[Callable[[], None]] = []
        self._writes_left: int | None = None
        self._dies_before_write = False

    def end(self) -> None:
        """Cut the process off; a second time does nothing."""
        if not self.alive:
            return
        self.alive = False
        self.ended.set()
        cuts, self._cuts = self._cuts, []
        for cut in cuts:
            cut()

    def at_end(self, cut: Callable[[], None]) -> None:
        """Do something when the process is cut off."""
        self._cuts.append(cut)

    def not_at_end(self, cut: Callable[[], None]) -> None:
        """Take back what at_end was told."""
        if cut in self._cuts:
            self._cuts.remove(cut)

    def end_at_write(self, number: int, *, before: bool) -> None:
        """Let the process die at one of its next writes to its store.

        Args:
            number: at which, from 1.
            before: die just before it, so that nothing of it is kept; else just after it, so that
                it is kept and nothing that should follow from it happens.
        """
        self._writes_left = number
        self._dies_before_write = before

    def write_begins(self) -> None:
        """A write to the store begins."""
        if self._writes_left is not None:
            self._writes_left -= 1
            if self._writes_left == 0 and self._dies_before_write:
                self.end()

    def write_ended(self) -> None:
        """A write to the store is durable."""
        if self._writes_left == 0:
            self.end()


class MortalJournal:
    """A journal of a process: nothing is written after its end."""

    def __init__(self, life: Life, journal: Journal) -> None:
        self._life = life
        self._journal = journal

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Write one event."""
        if self._life.alive:
            self._journal.record(event, **fields)


class _MortalPort:
    """Any storage port, until its process ends; then every call fails as the port's calls do.

    Args:
        port: what it stands before.
        life: of the process.
        refusal: makes the exception.
        writes: names of the methods that write.
        close: instead of the port's own.
    """

    def __init__(
        self,
        port: object,
        life: Life,
        refusal: Callable[[], Exception],
        writes: frozenset[str],
        close: Callable[[], None] | None = None,
    ) -> None:
        self._port = port
        self._life = life
        self._refusal = refusal
        self._writes = writes
        if close is not None:
            self.close = close

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._port, name)
        if not callable(found):
            return self._wrapped(found)
        method = self._writer(found) if name in self._writes else self._reader(found)
        setattr(self, name, method)  # found at once from now on
        return method

    def _reader(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._check()
            return self._wrapped(method(*arguments, **named))

        return call

    def _writer(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self._life.write_begins()
            self._check()
            result = method(*arguments, **named)
            self._life.write_ended()
            return result

        return call

    def _check(self) -> None:
        if not self._life.alive:
            raise self._refusal()

    def _wrapped(self, found: Any) -> Any:
        if hasattr(found, "reserve") and hasattr(found, "load"):
            counters = _MortalPort(found, self._life, self._refusal, frozenset({"reserve"}))
            return cast("CounterStore", counters)
        return found


class StateHome(Generic[S]):
    """Where the state of a process is between its lives.

    Args:
        make: opens the store.
        in_memory: whether the state is gone when the store is closed: then it stays open.
        refusal: makes the exception that the store raises when it cannot do its work.
        writes: names of the store's methods that write.
    """

    def __init__(
        self,
        make: Callable[[], S],
        *,
        in_memory: bool,
        refusal: Callable[[], Exception],
        writes: frozenset[str],
    ) -> None:
        self._make = make
        self._in_memory = in_memory
        self._refusal = refusal
        self._writes = writes
        self._store: S | None = None

    def open(self, life: Life) -> S:
        """Return the store for one life of the process."""
        if self._store is None:
            self._store = self._make()
        port = _MortalPort(self._store, life, self._refusal, self._writes, self._left)
        return cast("S", port)

    def close(self) -> None:
        """Let go of the state for good."""
        if self._store is not None:
            self._store.close()
            self._store = None

    def _left(self) -> None:
        if not self._in_memory:
            self.close()
        elif self._store is not None:
            self._store.abandon()


class VirtualProcess(Generic[G]):
    """A gateway that can be killed and started again with the state that it left.

    Args:
        name: for errors.
        make: makes a gateway for one life.
    """

    def __init__(self, name: str, make: Callable[[Life], G]) -> None:
        self.name = name
        self.starts = 0
        self._make = make
        self._life: Life | None = None
        self._gateway: G | None = None
        self._burial: asyncio.Task[None] | None = None
        self._started = asyncio.Event()

    @property
    def life(self) -> Life | None:
        """The present life; None between two."""
        return self._life

    def living(self) -> tuple[G, Life] | None:
        """Return the gateway while its process runs."""
        if self._gateway is None or self._life is None or not self._life.alive:
            return None
        return self._gateway, self._life

    async def running(self) -> tuple[G, Life]:
        """Return the gateway, as soon as its process runs."""
        while (found := self.living()) is None:
            self._started.clear()
            await self._started.wait()
        return found

    async def start(self) -> None:
        """Start the process.

        Raises:
            VirtualError: it runs already.
        """
        if self._life is not None:
            raise VirtualError(f"{self.name} runs already: stop or kill it first")
        life = self._life = Life()
        gateway = self._make(life)
        try:
            await gateway.__aenter__()
        except BaseException:
            self._life = None
            raise
        self._gateway = gateway
        self.starts += 1
        self._burial = asyncio.get_running_loop().create_task(self._bury(life, gateway))
        self._started.set()

    async def stop(self) -> None:
        """End the process in order; without one nothing is done."""
        living = self.living()
        if living is None:
            await self.buried()
            return
        gateway, life = living
        self._gateway = None
        await gateway.__aexit__(None, None, None)
        life.end()
        await self.buried()

    def kill(self) -> None:
        """Kill the process now; without one nothing is done."""
        if self._life is not None:
            self._life.end()

    async def buried(self) -> None:
        """Return when nothing is left of a process that was killed or stopped."""
        if self._burial is not None:
            await self._burial

    async def _bury(self, life: Life, gateway: G) -> None:
        await life.ended.wait()
        if self._gateway is gateway:
            self._gateway = None
            await gateway.__aexit__(None, None, None)
        self._life = None
        self._burial = None
