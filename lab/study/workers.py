"""Processes that take cases or parts of one, and end with the study however it ends."""

from __future__ import annotations

import contextlib
import logging
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.connection import wait
from typing import Any, TypeVar

from lab.interruption import signals_wait

T = TypeVar("T")


def quieten() -> None:
    """Silence warnings of gateways: what a bad network does stands in the results."""
    logging.getLogger().addHandler(logging.NullHandler())


class _Pool(ProcessPoolExecutor):
    """Whose processes get no Ctrl-C, not even while they start."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        with signals_wait():  # it starts a process for each of the first tasks
            return super().submit(fn, *args, **kwargs)


@contextlib.contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Let processes take work; whatever goes wrong, none of them works on.

    Args:
        count: how many at most.
    """
    # A fresh interpreter each: what runs in this one (threads, sockets) is nobody else's business.
    context = multiprocessing.get_context("spawn")
    others = set(multiprocessing.active_children())
    with signals_wait():  # it starts a process that keeps account of semaphores
        made = _Pool(count, mp_context=context, initializer=_begin)
    with made as pool:
        try:
            yield pool
        except BaseException:
            # Leaving the pool would wait for the cases under way, minutes perhaps.
            for process in set(multiprocessing.active_children()) - others:
                process.kill()
            raise


def _begin() -> None:
    quieten()
    threading.Thread(target=_end_with_the_study, daemon=True).start()


def _end_with_the_study() -> None:
    """End this process when the one that started it has ended, killed perhaps."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
