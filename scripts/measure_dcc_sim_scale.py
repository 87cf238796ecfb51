"""Measure what the DCC simulator holds and carries; write specs/dcc-sim-scale.md.

Usage: .venv/bin/python scripts/measure_dcc_sim_scale.py, or `make scale`. Takes about four
minutes, makes real processes, and wants the machine for itself.
"""

from __future__ import annotations

import asyncio
import functools
import os
import platform
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

from lab.pki_files import write_test_pki
from lab.scale.figures import describe_flow, describe_holding
from lab.scale.runs import Flow, measure_holding, measure_simulator, measure_system

SPECIFICATION = Path(__file__).resolve().parent.parent / "specs" / "dcc-sim-scale.md"
BEGIN = "<!-- figures -->\n"
RUNS = 5


async def measure() -> str:
    """Return all figures as Markdown."""
    parts = [_machine()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "holding").mkdir()
        holding = await measure_holding(
            folder / "holding", devices=100_000, connections=2_000, idle_s=45.0
        )
        parts += ["### Devices and connections", describe_holding(holding)]
        for at_once in (1, 32):
            flow = await _median(
                folder,
                functools.partial(measure_simulator, fragments=2_000, at_once=at_once),
            )
            parts += [
                f"### The simulator alone, {at_once} fragment{'s'[: at_once - 1]} at once",
                describe_flow(flow),
            ]
        write_test_pki(folder / "pki", now=None, random_octets=os.urandom)
        system = await _median(
            folder,
            functools.partial(
                measure_system, pki=folder / "pki", messages=50, message_octets=2_000
            ),
        )
        parts += ["### From DSRSP to CEM, all three processes", describe_flow(system)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


async def _median(folder: Path, measure_once: Callable[[Path], Awaitable[Flow]]) -> Flow:
    """Measure several times and return the run in the middle: other work disturbs single ones."""
    flows = []
    for _ in range(RUNS):
        flows.append(await measure_once(Path(tempfile.mkdtemp(dir=folder))))
    return sorted(flows, key=lambda flow: flow.ratio)[RUNS // 2]


def _machine() -> str:
    return (
        f"Measured on one machine: {os.cpu_count()} cores ({platform.machine()}), "
        f"{platform.system()}, Python {platform.python_version()}."
    )


def main() -> None:
    """Replace the figures in the specification."""
    text = SPECIFICATION.read_text(encoding="utf-8")
    before, mark, _ = text.partition(BEGIN)
    if not mark:
        sys.exit(f"{SPECIFICATION}: the line {BEGIN.strip()} is missing")
    SPECIFICATION.write_text(f"{before}{mark}\n{asyncio.run(measure())}", encoding="utf-8")


if __name__ == "__main__":
    main()
