"""What every engine has: a case in, tables out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from typing import Protocol, TypeVar

from lab.study.cases import Case
from lab.study.errors import EngineError
from lab.study.tables import Tables

A = TypeVar("A")
B = TypeVar("B")


def _no_progress(done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What an engine may use.

    Attributes:
        executor: takes work to other cores or machines; None: there are none.
        workers: how many tasks it does at once.
        progress: told how much of the case is done.
    """

    executor: Executor | None = None
    workers: int = 1
    progress: Callable[[int, int], None] = _no_progress

    def map(self, work: Callable[[A], B], tasks: Iterable[A]) -> Iterator[B]:
        """Do work on all tasks; yields the results in the tasks' order, few in memory at once.

        Raises:
            EngineError: a process that worked on one has died.
        """
        if self.executor is None:
            yield from map(work, tasks)
            return
        waiting: list[Future[B]] = []
        try:
            for task in tasks:
                waiting.append(self.executor.submit(work, task))
                if len(waiting) > 2 * self.workers:
                    yield waiting.pop(0).result()
            while waiting:
                yield waiting.pop(0).result()
        except BrokenExecutor:
            raise EngineError(
                "a worker process has died: killed from outside, or for want of memory; with "
                "--workers 1 the study runs in one process"
            ) from None
        finally:
            for future in waiting:
                future.cancel()


class Engine(Protocol):
    """Carries cases out.

    Attributes:
        is_parallel: whether it divides one case itself; else several cases run at once.
        is_exact: whether the same case always gives the same octets.
    """

    is_parallel: bool
    is_exact: bool

    def run(self, case: Case, surroundings: Surroundings) -> Tables:
        """Carry a case out.

        Raises:
            EngineError: it cannot.
        """
        ...
