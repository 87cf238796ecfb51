"""What the engines with real software take, and where the virtual one puts its CEMs."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.profile_files import load_profile
from lab.errors import VirtualError
from lab.study.cases import Case
from lab.study.engine import Surroundings
from lab.study.errors import EngineError
from lab.study.networks import Network
from lab.study.parameters import EngineName, Route, Workload
from lab.study.parcels import check_case
from lab.study.virtual import VirtualEngine
from lab.virtual_system import regions_of

PROFILE = load_profile("gb-assumed")


def case_of(engine: EngineName, cems: int = 1, **route: Any) -> Case:
    return Case(
        experiment="test",
        engine=engine,
        route=Route(name="r", **route),
        workload=Workload(name="w", kind="reports", cems=cems),
        network=Network(name="day"),
    )


@pytest.mark.parametrize("round_trips", [0.5, 2.5])
def test_the_live_engine_takes_stream_1_that_is_pushed(round_trips: float) -> None:
    check_case(case_of("live", kind="stream1", poll_s=0.0, exchange_round_trips=round_trips))


@pytest.mark.parametrize(
    ("engine", "route", "told"),
    [
        ("virtual", {"poll_s": 0.0}, "stream1"),
        ("live", {}, "poll_s = 0"),
        ("live", {"poll_s": 0.0, "exchange_round_trips": 1.5}, "a new one 2.5"),
    ],
)
def test_what_no_software_does_is_left_to_the_model(
    engine: EngineName, route: dict[str, Any], told: str
) -> None:
    with pytest.raises(EngineError, match=told) as caught:
        check_case(case_of(engine, kind="stream1", **route))
    assert 'engines = ["fleet"]' in str(caught.value)


@given(north=st.floats(0, 1), devices=st.integers(1, 300))
def test_the_first_devices_have_the_shares_however_many_they_are(
    north: float, devices: int
) -> None:
    shares = {"north": north, "central-south": 1 - north}
    found = regions_of(devices, PROFILE, shares)
    assert found == regions_of(300, PROFILE, shares)[:devices]
    for region, share in shares.items():
        assert abs(found.count(region) - share * devices) <= 1


def test_without_shares_regions_take_turns() -> None:
    assert regions_of(5, PROFILE, None) == ["central-south", "north"] * 2 + ["central-south"]
    assert regions_of(2, load_profile("none"), None) == ["", ""]


@pytest.mark.parametrize(
    ("shares", "told"),
    [
        ({"wales": 1.0}, "central-south, north"),
        ({"north": -1.0, "central-south": 2.0}, "below 0"),
        ({"north": 0.0}, "one must be above"),
    ],
)
def test_shares_that_are_none_are_refused(shares: dict[str, float], told: str) -> None:
    with pytest.raises(VirtualError, match=told):
        regions_of(3, PROFILE, shares)


def test_the_virtual_engine_has_the_study_s_regions() -> None:
    tables = VirtualEngine().run(case_of("virtual", 10, kind="2a"), Surroundings())
    rows = tables.messages.to_pylist()
    assert Counter(row["region"] for row in rows) == {"central-south": 7, "north": 3}
    # Nothing but reports up, and still each is told from the others.
    assert len({row["cem"] for row in rows}) == len({row["latency_s"] for row in rows}) == 10
