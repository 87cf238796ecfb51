"""Runs all cases of a study and keeps what they give."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol

import msgspec

from lab.interruption import interruptible
from lab.study.cases import Case, OwnTime
from lab.study.engine import Engine, Surroundings
from lab.study.engines import make_engine
from lab.study.errors import StudyError
from lab.study.fit import FittedTimes
from lab.study.own_time import OwnTimes
from lab.study.parameters import Study
from lab.study.store import FORMAT, ResultWriter, machine
from lab.study.study_file import cases_of, configuration_hash
from lab.study.tables import Tables
from lab.study.workers import worker_processes


class Watcher(Protocol):
    """Is told how far a study is."""

    def begin(self, cases: int) -> None:
        """So many cases are to come."""

    def case(self, case: Case) -> None:
        """This case comes now."""

    def part(self, done: int, total: int) -> None:
        """So much of the case is done."""

    def end(self, case: Case, seconds: float) -> None:
        """A case is done."""


class NoWatcher:
    """Tells nobody."""

    def begin(self, cases: int) -> None:
        """Tell nobody."""

    def case(self, case: Case) -> None:
        """Tell nobody."""

    def part(self, done: int, total: int) -> None:
        """Tell nobody."""

    def end(self, case: Case, seconds: float) -> None:
        """Tell nobody."""


@dataclass(frozen=True, slots=True)
class RunSettings:
    """How a study is run; of it only fitted and own times change a table.

    Attributes:
        workers: processes at once; None: one for each processor.
        dask: address of a dask scheduler that takes the work to its workers; None: this machine.
        fitted: times that replace the profile's in the fleet engine.
        own_times: of an earlier run, in place of what this one measures, see `lab.study.own_time`.
    """

    workers: int | None = None
    dask: str | None = None
    fitted: FittedTimes | None = None
    own_times: dict[str, OwnTime] | None = None


def run_study(
    study: Study, folder: Path, settings: RunSettings, watcher: Watcher | None = None
) -> dict[str, Any]:
    """Run a study; returns its manifest.

    Args:
        study: which.
        folder: for the results; must hold none.
        settings: how.
        watcher: is told how far it is.

    Raises:
        StudyError: the folder holds results, or an engine cannot carry a case out.
    """
    watcher = watcher or NoWatcher()
    cases = list(cases_of(study))
    began = time.monotonic()
    times: list[dict[str, Any]] = []
    own_times = OwnTimes(settings.own_times, cases)
    with (
        interruptible(),
        ResultWriter(folder) as writer,
        _executor(settings) as (executor, workers),
    ):
        watcher.begin(len(cases))
        for name, group in groupby(cases, key=lambda case: case.engine):
            engine = make_engine(name, settings.fitted)
            surroundings = Surroundings(executor, workers, watcher.part)
            # Whatever measures an own time is done before the group that asks for it begins.
            given = [own_times.given(case) for case in group]
            for case, tables, seconds in _results(engine, given, surroundings, watcher):
                writer.add(case, tables)
                own_times.learn(case, tables)
                watcher.end(case, seconds)
                times.append({"case": case.number, "seconds": round(seconds, 3)})
        manifest = {
            "format": FORMAT,
            "study": msgspec.to_builtins(study),
            "configuration_sha256": configuration_hash(study),
            "fitted": msgspec.to_builtins(settings.fitted),
            "own_times": msgspec.to_builtins(own_times.values()),
            "cases": len(cases),
            "machine": machine(),
            "seconds": round(time.monotonic() - began, 3),
            "case_seconds": times,
            "workers": workers,
        }
        return writer.finish(manifest)


def _results(
    engine: Engine, cases: list[Case], surroundings: Surroundings, watcher: Watcher
) -> Iterator[tuple[Case, Tables, float]]:
    if engine.is_parallel or surroundings.executor is None:
        for case in cases:
            watcher.case(case)
            began = time.monotonic()
            tables = engine.run(case, surroundings)
            yield case, tables, time.monotonic() - began
        return
    watcher.case(cases[0])
    work = _CaseWork(engine)
    for number, (case, (tables, seconds)) in enumerate(
        zip(cases, surroundings.map(work, cases), strict=True), start=1
    ):
        watcher.part(number, len(cases))
        yield case, tables, seconds


@dataclass(frozen=True, slots=True)
class _CaseWork:
    engine: Engine

    def __call__(self, case: Case) -> tuple[Tables, float]:
        began = time.monotonic()
        return self.engine.run(case, Surroundings()), time.monotonic() - began


@contextlib.contextmanager
def _executor(settings: RunSettings) -> Iterator[tuple[Executor | None, int]]:
    if settings.dask is not None:
        yield from _dask(settings.dask)
        return
    workers = settings.workers or os.cpu_count() or 1
    if workers == 1:
        yield None, 1
        return
    with worker_processes(workers) as executor:
        yield executor, workers


def _dask(address: str) -> Iterator[tuple[Executor | None, int]]:
    try:
        import distributed
    except ModuleNotFoundError:
        raise StudyError(
            "several machines need the package distributed: pip install 'smtunnel[cluster]'"
        ) from None
    try:
        client = distributed.Client(address, timeout="10s")
    except (OSError, TimeoutError, ValueError) as error:
        raise StudyError(
            f"no dask scheduler at {address}: {error}; start one with `dask scheduler`, and "
            "`dask worker ADDRESS` on each machine"
        ) from None
    with client:
        workers = sum(client.nthreads().values())
        if not workers:
            raise StudyError(f"the dask scheduler at {address} has no workers: start some")
        yield client.get_executor(), workers
