"""A study that is ended from outside, or that finds no room: nothing half done is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from lab.study.parameters import EngineName
from lab.study.store import UNFINISHED

STUDY = """
name = "interrupted"
[[routes]]
name = "2a"
kind = "2a"
[[routes]]
name = "stream1"
kind = "stream1"
poll_s = 0.0
[[workloads]]
name = "homes"
kind = "session"
cems = {cems}
times = {times}
[[networks]]
name = "day"
[[experiments]]
name = "long"
engines = ["{engine}"]
routes = ["{route}"]
repetitions = {repetitions}
"""

# Says which processes the study starts, and when it is at work.
TELLING = """
import os, resource, sys
from lab.cli.app import run
from lab.local_system import LocalSystem
from lab.study.engine import Surroundings
from lab.study.stream_1_live import End

if "LARGEST_FILE" in os.environ:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(os.environ["LARGEST_FILE"]),) * 2)

start, ready, take = LocalSystem.start, End._ready, Surroundings.map

async def telling_start(self, name):
    await start(self, name)
    print(self.pid(name), flush=True)

async def telling_ready(self, process):
    await ready(self, process)
    print(process.pid, flush=True)

def telling_map(self, work, tasks):
    results = take(self, work, tasks)
    yield next(results)
    print("at work", flush=True)
    yield from results

LocalSystem.start = telling_start
End._ready = telling_ready
Surroundings.map = telling_map
sys.exit(run(sys.argv[1:]))
"""

TOGETHER_S = 60

Start: TypeAlias = Callable[..., Awaitable[Process]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a study in a process; its group is killed at the end, whatever it was to do."""
    started: list[Process] = []

    async def begin(
        engine: EngineName, *, cems: int = 1, route: str = "2a", workers: int = 1
    ) -> Process:
        study = tmp_path / "study.toml"
        # More than anybody waits for: many short cases, or one home that goes on and on.
        times, repetitions = (1, 1000) if cems > 1 else (1000, 1)
        study.write_text(
            STUDY.format(
                engine=engine, cems=cems, route=route, times=times, repetitions=repetitions
            ),
            encoding="utf-8",
        )
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", TELLING, "study", "run", str(study)),
            *("--out", str(tmp_path / "deep" / "out"), "--workers", str(workers)),
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            # A group of its own, as a terminal gives it.
            start_new_session=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def line_of(process: Process) -> str:
    assert process.stdout is not None
    return (await process.stdout.readline()).decode().strip()


def check_ended(folder: Path, said: bytes) -> None:
    text = said.decode()
    last = text.strip().splitlines()[-1]
    assert last == f"smtunnel: interrupted: nothing of this run is left in {folder / 'deep/out'}"
    assert "Traceback" not in text
    assert [path.name for path in folder.iterdir()] == ["study.toml"]


@pytest.mark.parametrize(
    ("engine", "cems", "workers", "number", "in_terminal"),
    [
        ("fleet", 2000, 2, signal.SIGINT, True),
        ("virtual", 2, 1, signal.SIGINT, False),
        ("virtual", 2, 2, signal.SIGHUP, True),
    ],
)
async def test_processors_at_work_are_interrupted(
    start: Start,
    tmp_path: Path,
    engine: EngineName,
    cems: int,
    workers: int,
    number: signal.Signals,
    in_terminal: bool,
) -> None:
    async with asyncio.timeout(TOGETHER_S):
        process = await start(engine, cems=cems, workers=workers)
        if workers > 1:
            assert await line_of(process) == "at work"
        else:
            assert process.stderr is not None
            await process.stderr.readuntil(b"1 of 1000")
        assert (tmp_path / "deep" / "out" / UNFINISHED).is_dir()
        # Ctrl-C in a terminal goes to all processes there, and some press it twice.
        for _ in range(2):
            if in_terminal:
                os.killpg(process.pid, number)
            else:
                process.send_signal(number)
        # Its output ends when all that can write to it have ended: no worker is left.
        _, said = await process.communicate()
    assert process.returncode == 130
    check_ended(tmp_path, said)


@pytest.mark.parametrize(("route", "processes"), [("2a", 3), ("stream1", 2)])
async def test_a_live_study_that_is_interrupted_ends_its_processes(
    start: Start, tmp_path: Path, route: str, processes: int
) -> None:
    async with asyncio.timeout(TOGETHER_S):
        process = await start("live", route=route)
        pids = [int(await line_of(process)) for _ in range(processes)]
        for number in (signal.SIGTERM, signal.SIGINT):
            process.send_signal(number)
        _, said = await process.communicate()
    assert process.returncode == 130
    check_ended(tmp_path, said)
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


async def test_a_live_study_that_is_killed_takes_its_processes_along(start: Start) -> None:
    async with asyncio.timeout(TOGETHER_S):
        process = await start("live")
        ends = [os.pidfd_open(int(await line_of(process))) for _ in range(3)]
        process.kill()
        for end in ends:
            # Readable as soon as the process has ended.
            assert await asyncio.to_thread(select.select, [end], [], [], TOGETHER_S)
            os.close(end)
        await process.communicate()


async def test_a_study_that_is_killed_takes_its_workers_along(start: Start) -> None:
    async with asyncio.timeout(TOGETHER_S):
        process = await start("virtual", cems=2, workers=2)
        assert await line_of(process) == "at work"
        process.kill()
        # So does its output, when all that can write to it have ended.
        await process.communicate()
    # Nobody could tidy up; the next study says what lies there.
    again = await start("fleet")
    _, said = await again.communicate()
    assert again.returncode == 3
    assert b"unfinished exists: another study is writing there, or one was killed" in said


async def test_a_full_disk_is_one_sentence(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LARGEST_FILE", "100000")
    process = await start("fleet", cems=20_000)
    _, said = await process.communicate()
    assert process.returncode == 3
    assert b"deep/out: cannot write results: " in said
    assert b"Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]
