"""A request and its answer by route 2b against HTTPS and a floor, in one run: here, on a line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/measure_route_2b_latency.py"
ROUNDS = int(os.environ.get("SMTUNNEL_ROUNDS", "300"))
MOST_ON_A_LINE = 1.2
"""With 30 ms there and back; on the machine alone the floor is more than that."""

pytestmark = pytest.mark.bench


def figures(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--json", *arguments], capture_output=True, check=True
    )
    told: dict[str, Any] = json.loads(done.stdout)
    print()
    for name, value in told.items():
        print(f"  {name:<24}{value:,.2f}" if isinstance(value, float) else f"  {name:<24}{value}")
    return told


@pytest.mark.parametrize("memory", [False, True])
def test_on_the_machine(memory: bool) -> None:
    told = figures("--rounds", str(ROUNDS), *(["--memory"] if memory else []))
    assert told["route_2b_median_us"] > 0


def test_on_a_line_of_30_ms() -> None:
    told = figures("--rounds", str(max(50, ROUNDS // 4)), "--line-ms", "30")
    assert told["median_ratio"] < MOST_ON_A_LINE
