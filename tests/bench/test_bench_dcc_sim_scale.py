"""How much the DCC simulator holds and carries; `make scale` measures the same at full size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lab.pki_files import write_test_pki
from lab.scale.figures import describe_flow, describe_holding
from lab.scale.runs import measure_holding, measure_simulator, measure_system


@pytest.mark.bench
async def test_hold_an_inventory_and_connections(tmp_path: Path) -> None:
    holding = await measure_holding(tmp_path, devices=100_000, connections=200, idle_s=1.0)
    print(f"\n{describe_holding(holding)}")


@pytest.mark.bench
@pytest.mark.parametrize("at_once", [1, 32])
async def test_fragments_through_the_simulator(tmp_path: Path, at_once: int) -> None:
    flow = await measure_simulator(tmp_path, fragments=500, at_once=at_once)
    print(f"\ndcc-sim alone, {at_once} at once: {describe_flow(flow)}")


@pytest.mark.bench
async def test_fragments_from_end_to_end(tmp_path: Path) -> None:
    write_test_pki(tmp_path / "pki", now=None, random_octets=os.urandom)
    flow = await measure_system(tmp_path, tmp_path / "pki", messages=20, message_octets=1000)
    print(f"\nDSRSP to CEM: {describe_flow(flow)}")
