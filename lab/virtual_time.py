"""An event loop whose time jumps: hours of waiting pass in the time that the work takes."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

from lab.errors import LabError
from lab.interruption import run_interruptibly

T = TypeVar("T")


class NothingLeftToHappen(LabError):
    """A simulation waits for something that no timer, task or socket will bring."""


class _JumpingSelector(selectors.DefaultSelector):
    """Never sleeps: where the loop would wait for its next timer, it is there at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:
            # Something is to be done at once: files are looked at before time moves, no earlier.
            return []
        ready = super().select(0)
        if ready:
            return ready
        if timeout is None:
            raise NothingLeftToHappen(
                f"at {self.now_s:g} s of virtual time everything waits and no timer runs; "
                "virtual time cannot wait for threads, processes or sockets"
            )
        self.now_s += max(0.0, timeout)
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop with a clock of its own.

    ``loop.time()`` starts at ``start_s`` and moves only when nothing is left to do at once; then
    it moves to the next timer. Everything in it has to take its time from the loop: timers,
    ``asyncio.sleep``, ``asyncio.timeout``, and clocks made with `virtual_clock`.

    Args:
        start_s: what the clock shows first, in seconds.
    """

    def __init__(self, start_s: float = 0.0) -> None:
        self._jumping = _JumpingSelector()
        self._jumping.now_s = start_s
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual time, in seconds."""
        return self._jumping.now_s


def virtual_clock() -> float:
    """Return the running loop's time: the clock to give to whatever runs on it."""
    return asyncio.get_running_loop().time()


def run_virtual(main: Coroutine[Any, Any, T], *, start_s: float = 0.0) -> T:
    """Run a coroutine on a virtual-time loop until it ends.

    Args:
        main: what to run.
        start_s: what the clock shows first, in seconds.

    Raises:
        NothingLeftToHappen: it waits for what will never come.
    """
    return run_interruptibly(main, lambda: VirtualTimeLoop(start_s))
