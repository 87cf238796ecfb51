"""A fuzzing run over several processes, until its time is over."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fuzzing.engine import Decoder, Finding, make_input, try_input

HANG_S: Final = 10
"""An input that is not through after so many seconds is a finding."""

MAX_ADDRESS_OCTETS: Final = 4 << 30
_SLICE_S: Final = 0.2


@dataclass
class Tally:
    """What a run has come to.

    Attributes:
        inputs: tried, by decoder.
        findings: the first of each decoder and place.
    """

    inputs: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str], Finding] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Take over what another process has come to."""
        self.inputs += other.inputs
        self.findings = {**other.findings, **self.findings}


class Hang(Exception):
    """An input took too long."""


def _ring(_signal: int, _frame: object) -> None:
    raise Hang(f"not through after {HANG_S} s")


def run_worker(
    decoders: Sequence[Decoder], *, seed: int, first: int, step: int, until: float, current: Path
) -> Tally:
    """Try the inputs first, first + step, and so on, of each decoder in turn.

    Args:
        decoders: the table.
        seed: of the run.
        first: the number of the first input.
        step: how many processes share the numbers.
        until: when to stop, on the clock of time.monotonic.
        current: the file that always holds the input that is being tried, so that it is known
            when a library takes the process down.
    """
    resource.setrlimit(resource.RLIMIT_AS, (MAX_ADDRESS_OCTETS, MAX_ADDRESS_OCTETS))
    signal.signal(signal.SIGALRM, _ring)
    tally = Tally()
    numbers = {decoder.name: itertools.count(first, step) for decoder in decoders}
    with current.open("wb", buffering=0) as file:
        for decoder in itertools.cycle(decoders):
            if time.monotonic() >= until:
                break
            end = min(until, time.monotonic() + _SLICE_S)
            while time.monotonic() < end:
                octets = make_input(decoder, seed, next(numbers[decoder.name]))
                os.pwrite(file.fileno(), decoder.name.encode() + b"\n" + octets, 0)
                os.ftruncate(file.fileno(), len(decoder.name) + 1 + len(octets))
                signal.setitimer(signal.ITIMER_REAL, HANG_S)
                finding = try_input(decoder, octets)
                signal.setitimer(signal.ITIMER_REAL, 0)
                tally.inputs[decoder.name] += 1
                if finding is not None:
                    tally.findings.setdefault((decoder.name, finding.place), finding)
    return tally


def _work(arguments: tuple[Sequence[Decoder], dict[str, object]], results: object) -> None:
    decoders, settings = arguments
    results.send(run_worker(decoders, **settings))  # type: ignore[attr-defined, arg-type]


def run_session(
    decoders: Sequence[Decoder], *, seed: int, seconds: float, processes: int, folder: Path
) -> Tally:
    """Fuzz for a while on several processors.

    Args:
        decoders: the table.
        seed: of the run.
        seconds: how long.
        processes: how many share the work.
        folder: for the inputs that are being tried.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("fork")
    until = time.monotonic() + seconds
    workers = []
    for number in range(processes):
        current = folder / f"current-{number}.bin"
        settings: dict[str, object] = {
            "seed": seed, "first": number, "step": processes, "until": until, "current": current,
        }  # fmt: skip
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=((decoders, settings), sender))
        process.start()
        sender.close()
        workers.append((process, receiver, current))
    tally = Tally()
    for process, receiver, current in workers:
        try:
            tally.add(receiver.recv())
        except EOFError:
            process.join()
            name, _, octets = current.read_bytes().partition(b"\n")
            died = f"the process ended with code {process.exitcode}"
            tally.findings[name.decode(), "died"] = Finding(name.decode(), octets, died, "died", "")
        process.join()
        current.unlink()
    return tally
