"""A long piece of work that is told to end tidies up once, undisturbed, and leaves nothing behind.

Ctrl-C, SIGTERM and a terminal that closes do the same. Whoever asks twice gets it no faster: what
tidies up is bounded in time, and half of it would leave processes and files.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What tells a program to end."""

_Handler: TypeAlias = Callable[[int, Any], None]


def _take(handler: _Handler) -> dict[int, Any]:
    """Let a handler have the signals; returns who had those that it now has.

    Signals belong to the main thread: in any other nothing is changed. What the caller lets this
    process ignore (``nohup``) stays ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return {}
    before: dict[int, Any] = {number: signal.getsignal(number) for number in SIGNALS}
    ours = {number: had for number, had in before.items() if had is not signal.SIG_IGN}
    for number in ours:
        signal.signal(number, handler)
    return ours


def _give_back(before: dict[int, Any]) -> None:
    for number, handler in before.items():
        signal.signal(number, handler)


def _nothing(_number: int, _frame: object) -> None:
    """Ignore a signal; SIG_IGN makes Python complain of those that come at the same moment."""


def _interrupt(_number: int, _frame: object) -> None:
    _take(_nothing)
    raise KeyboardInterrupt


@contextlib.contextmanager
def interruptible(*, leaves: bool = False) -> Iterator[None]:
    """Let the first of the signals be a KeyboardInterrupt, so that every ``finally`` is reached.

    Those that follow are ignored until the end of this; inside another one, until the end of that.

    Args:
        leaves: whether the process ends when it is interrupted: signals are then ignored to its
            end, so that it says what it has to say, and ends with the exit code that it should.
    """
    if any(signal.getsignal(number) is _interrupt for number in SIGNALS):
        yield
        return
    before = _take(_interrupt)
    try:
        yield
    finally:
        came = any(signal.getsignal(number) is _nothing for number in before)
        if came and leaves:  # at its very end Python gives its own handlers back, but not this
            before = dict.fromkeys(before, signal.SIG_IGN)
        _give_back(before)


def run_interruptibly(
    work: Coroutine[Any, Any, T],
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> T:
    """Run a coroutine to its end; the first of the signals cancels it, in its order.

    Args:
        work: what to run.
        loop_factory: makes the loop; None: asyncio's.

    Raises:
        KeyboardInterrupt: a signal came, and all is tidied up.
    """
    came: list[int] = []

    async def watched() -> T:
        loop, task = asyncio.get_running_loop(), asyncio.ensure_future(work)

        def cancel(number: int, _frame: object) -> None:
            if not came:
                came.append(number)
                loop.call_soon_threadsafe(task.cancel)

        before = _take(cancel)
        try:
            return await task
        finally:
            _give_back(before)

    try:
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(watched())
    finally:
        if came:  # whatever became of the work: whoever had the signals before is told now
            signal.raise_signal(came[0])


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """Hold the signals back; processes that start meanwhile never get them at all.

    Ctrl-C in a terminal goes to all processes there: those that only compute are ended by the one
    that started them, and have nothing to say.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
