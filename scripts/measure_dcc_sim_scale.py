"""Measure what the DCC simulator holds and carries; write specs/dcc-sim-scale.md.

Usage: .venv/bin/python scripts/measure_dcc_sim_scale.py, or `make scale`. Takes about three
minutes, makes real processes, and wants the machine for itself.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from pathlib import Path

from lab.pki_files import write_test_pki
from lab.scale.figures import describe_flow, describe_holding
from lab.scale.runs import measure_holding, measure_simulator, measure_system

SPECIFICATION = Path(__file__).resolve().parent.parent / "specs" / "dcc-sim-scale.md"
BEGIN = "<!-- figures -->\n"


async def measure() -> str:
    """Return all figures as Markdown."""
    parts = [_machine()]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for sub in ("holding", "one", "many", "system"):
            (folder / sub).mkdir()
        holding = await measure_holding(
            folder / "holding", devices=100_000, connections=2_000, idle_s=45.0
        )
        parts += ["### Devices and connections", describe_holding(holding)]
        for sub, at_once in (("one", 1), ("many", 32)):
            flow = await measure_simulator(folder / sub, fragments=4_000, at_once=at_once)
            parts += [
                f"### The simulator alone, {at_once} fragment{'s'[: at_once - 1]} at once",
                describe_flow(flow),
            ]
        write_test_pki(folder / "pki", now=None, random_octets=os.urandom)
        system = await measure_system(
            folder / "system", folder / "pki", messages=100, message_octets=2_000
        )
        parts += ["### From DSRSP to CEM, all three processes", describe_flow(system)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


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
