from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.core.network.distributions import Constant, Exponential
from dcc_sim.core.network.profile import AlertStorm, BurstLoss, Parameter, Standing
from dcc_sim.core.network.storm import AlertStormProtection
from gbcs import EntityId
from lab.study.cases import Case, OwnTime
from lab.study.engine import Surroundings
from lab.study.fleet import FleetEngine
from lab.study.fleet.chunk import CHUNK
from lab.study.fleet.draws import generator
from lab.study.fleet.fluid import GRID
from lab.study.fleet.lines import Lines, Pilot
from lab.study.fleet.model import model_of
from lab.study.fleet.up import storm_passes
from lab.study.fleet.weather import LossWeather
from lab.study.networks import Capacity, Internet, Network
from lab.study.parameters import Route, Workload
from lab.study.tables import Tables
from lab.study.virtual import VirtualEngine

CONSTANT = """
summary = "all times constant, nothing lost"
default_region = "all"
[regions.all.latency_down]
value = {{ kind = "constant", value_s = 2.0 }}
standing = "assumed"
source = "test"
[regions.all.latency_up]
value = {{ kind = "constant", value_s = 3.0 }}
standing = "assumed"
source = "test"
[regions.all.bandwidth_down_bits_s]
value = 4800.0
standing = "assumed"
source = "test"
[regions.all.bandwidth_up_bits_s]
value = 2400.0
standing = "assumed"
source = "test"
[regions.all.han_fragment_octets]
value = 61
standing = "assumed"
source = "test"
[regions.all.han_fragment_s]
value = 0.1
standing = "assumed"
source = "test"
[dcc.transform]
value = {{ kind = "constant", value_s = 0.25 }}
standing = "assumed"
source = "test"
[dcc.send_command]
value = {{ kind = "constant", value_s = 0.5 }}
standing = "assumed"
source = "test"
[dcc.dispatch]
value = {{ kind = "constant", value_s = 0.75 }}
standing = "assumed"
source = "test"
[dcc.response]
value = {{ kind = "constant", value_s = 1.0 }}
standing = "assumed"
source = "test"
[dcc.alert]
value = {{ kind = "constant", value_s = 1.5 }}
standing = "assumed"
source = "test"
"""


def assumed(value: Any) -> Parameter[Any]:
    return Parameter(value=value, standing=Standing.ASSUMED, source="test")


def make_case(cems: int = 100, *, kind: str = "dispatch", **options: Any) -> Case:
    route = options.pop("route", Route(name="2a", kind="2a"))
    network = options.pop("network", Network(name="day"))
    return Case(
        experiment="test",
        engine="fleet",
        route=route,
        workload=Workload(name="w", kind=kind, cems=cems, **options),  # type: ignore[arg-type]
        network=network,
        deadlines_s=(2.0, 10.0, 30.0, 300.0),
    )


def run(case: Case, surroundings: Surroundings | None = None) -> Tables:
    return FleetEngine().run(case, surroundings or Surroundings())


def latencies(tables: Tables, direction: str) -> list[float | None]:
    rows = tables.messages.to_pylist()
    return [row["latency_s"] for row in rows if row["direction"] == direction]


def counter(tables: Tables, name: str, direction: str = "") -> float:
    rows = tables.counters.to_pylist()
    return math.fsum(
        row["value"] for row in rows if row["counter"] == name and row["direction"] == direction
    )


@pytest.fixture
def constant(tmp_path: Path) -> Network:
    path = tmp_path / "constant.toml"
    path.write_text(CONSTANT.format(), encoding="utf-8")
    free = assumed(1e12)
    capacity = Capacity(
        dcc_requests_per_s=free, region_octets_per_s_down=free, region_octets_per_s_up=free
    )
    return Network(name="constant", profile=str(path), capacity=capacity)


@pytest.mark.parametrize("in_flight", [1, 2, 4, 8])
@pytest.mark.parametrize("kind", ["dispatch", "registration"])
def test_on_a_network_without_chance_the_model_is_the_software(
    constant: Network, in_flight: int, kind: str
) -> None:
    route = Route(name="2a", kind="2a", fragments_in_flight=in_flight)
    case = make_case(1, kind=kind, route=route, network=constant)
    model, real = run(case), VirtualEngine().run(case, Surroundings())
    for direction in ("down", "up"):
        said, was = latencies(model, direction), latencies(real, direction)
        assert len(said) == len(was) > 0
        # Identifiers in messages differ, so one may need a Zigbee fragment more than the other.
        assert said == pytest.approx(was, abs=0.15)
    down = [row for row in model.fragments.to_pylist() if row["request_s"]]
    assert {row["request_s"] for row in down} == {0.25}


def test_a_serial_message_takes_its_round_trips_one_after_another(constant: Network) -> None:
    route = Route(name="2a", kind="2a", fragments_in_flight=1)
    tables = run(make_case(1, route=route, network=constant))
    rows = [row for row in tables.fragments.to_pylist() if row["message"] == 0]
    assert len(rows) >= 4
    for before, after in itertools.pairwise(rows):
        ended = before["started_s"] + before["answered_s"]
        assert after["started_s"] == pytest.approx(ended, abs=2e-6)


def test_the_number_of_workers_changes_nothing() -> None:
    case = make_case(CHUNK + 2000, spread_s=3600.0)
    alone = run(case)
    with ThreadPoolExecutor(4) as executor:
        together = run(case, Surroundings(executor, 4))
    for name in ("messages", "fragments", "counters", "histograms", "loads"):
        assert getattr(alone, name).equals(getattr(together, name))


def test_all_are_counted_and_the_rows_stand_for_all() -> None:
    tables = run(make_case(10_000, spread_s=36_000.0))
    assert counter(tables, "messages", "down") == 10_000
    assert counter(tables, "delivered", "down") + counter(tables, "failed", "down") == 10_000
    weights = tables.messages["weight"].to_pylist()
    down = sum(
        weight
        for weight, way in zip(weights, tables.messages["direction"].to_pylist(), strict=True)
        if way == "down"
    )
    assert down == pytest.approx(10_000)
    assert sum(tables.histograms["count"].to_pylist()) == counter(
        tables, "delivered", "down"
    ) + counter(tables, "delivered", "up")


def test_parts_of_the_way_sum_up_to_the_whole() -> None:
    tables = run(make_case(500, spread_s=36_000.0))
    rows = [row for row in tables.fragments.to_pylist() if row["arrived_s"] is not None]
    latency = {row["message"]: row["latency_s"] for row in tables.messages.to_pylist()}
    names = ("request_s", "dcc_s", "wan_s", "queue_s", "transfer_s", "han_s", "other_s")
    for row in rows:
        assert sum(row[name] for name in names) == pytest.approx(row["arrived_s"], abs=1e-4)
        if row["completes"]:
            whole = row["wait_s"] + row["arrived_s"]
            assert whole == pytest.approx(latency[row["message"]], abs=1e-4)


def test_more_loss_takes_longer_and_gives_more_repetitions() -> None:
    means, sent = [], []
    for loss in (0.0, 0.1, 0.4):
        tables = run(make_case(1000, spread_s=36_000.0, network=Network(name="n", loss=loss)))
        means.append(np.mean([one for one in latencies(tables, "down") if one is not None]))
        sent.append(counter(tables, "dcc_attempts"))
    assert means == sorted(means)
    assert sent == sorted(sent)
    assert means[2] > 2 * means[0]


def test_everything_lost_is_everything_failed() -> None:
    route = Route(name="2a", kind="2a", fragment_attempts=2)
    tables = run(make_case(50, route=route, network=Network(name="n", loss=1.0)))
    assert counter(tables, "failed", "down") == 50
    assert counter(tables, "messages", "up") == 0
    assert latencies(tables, "down") == [None] * 50
    # Two attempts of each fragment, each tried three times by the DCC.
    assert counter(tables, "dcc_attempts") == 3 * counter(tables, "transmissions", "down")


def test_routes_over_the_internet() -> None:
    whole = {}
    for route in (
        Route(name="2b", kind="2b"),
        Route(name="pushed", kind="stream1", poll_s=0.0),
        Route(name="polled", kind="stream1"),
    ):
        tables = run(make_case(2000, route=route))
        found = [one for one in latencies(tables, "down") if one is not None]
        whole[route.name] = (np.median(found), counter(tables, "failed", "down"))
        assert counter(tables, "internet_octets") > 0
    assert whole["2b"][0] < whole["pushed"][0] < whole["polled"][0]
    # Who has no internet is reached through the smart metering system on 2b alone.
    assert whole["2b"][1] == 0 < whole["pushed"][1]


def test_a_line_serves_who_comes_first_at_its_rate() -> None:
    network = Network(name="n", capacity=Capacity(dcc_requests_per_s=assumed(480.0)))
    route = Route(name="2a", kind="2a", fragments_in_flight_total=10**9)
    model = model_of(make_case(10_000, route=route, network=network))
    lines = Lines(model, (Pilot(1.0, 5.0, 10.0), Pilot(1.0, 0.0, 10.0)))
    down, up = lines.waits()[0]
    requests = 10_000 * model.messages[0].mean_fragments * 2
    assert down.release[-1] == pytest.approx(requests / 100.0, rel=0.01)
    assert down.release[GRID // 2] == pytest.approx(requests / 200.0, rel=0.01)
    assert np.all(np.diff(down.release) >= 0)
    assert up.begin[-1] >= down.release[-1]


def test_pacing_lets_a_window_s_worth_go_at_once() -> None:
    route = Route(
        name="2a",
        kind="2a",
        fragments_per_window=6000,
        window_s=3600.0,
        fragments_in_flight_total=10**9,
    )
    free = Capacity(dcc_requests_per_s=assumed(1e9), region_octets_per_s_down=assumed(1e9))
    model = model_of(make_case(10_000, route=route, network=Network(name="n", capacity=free)))
    lines = Lines(model, (Pilot(1.0, 5.0, 10.0), Pilot(1.0, 0.0, 10.0)))
    release = lines.waits()[0][0].release
    fragments = 10_000 * model.messages[0].mean_fragments
    inside = int(6000 / fragments * GRID)
    assert release[inside - 5] < 1.0
    rate = 6000 / 3600 * 16 / 17
    assert release[-1] == pytest.approx((fragments - 6000) / rate, rel=0.02)


STORM = AlertStorm(
    enabled=assumed(True),
    codes=assumed(("8F88",)),
    threshold=assumed(3),
    window_s=assumed(10.0),
    period_s=assumed(7.0),
)


@given(st.lists(st.floats(0, 60), min_size=1, max_size=25))
def test_the_fleet_s_storm_protection_is_the_simulator_s(times: list[float]) -> None:
    protection = AlertStormProtection(STORM)
    device = EntityId(bytes(8))
    ordered = sorted(range(len(times)), key=lambda place: times[place])
    expected = [False] * len(times)
    for place in ordered:
        expected[place] = protection.receive(device, 0x8F88, times[place]).passes
    assert storm_passes(np.asarray([times]), STORM)[0].tolist() == expected


def test_storm_protection_discards_and_repetitions_heal() -> None:
    calm = Network(name="n", alert_storm_protection=False)
    stormy = Network(name="n", alert_storm_protection=True)
    open_, held = (
        run(make_case(50, kind="alert-storm", alerts_per_cem=40, network=one))
        for one in (calm, stormy)
    )
    assert counter(open_, "alerts_discarded") == 0
    assert counter(held, "alerts_discarded") > 50 * 5
    assert counter(held, "delivered", "up") == counter(open_, "delivered", "up") == 2000
    assert counter(held, "transmissions", "up") > counter(open_, "transmissions", "up")


def test_bad_times_have_their_share_and_come_in_bursts() -> None:
    loss = BurstLoss(good_mean_s=900.0, bad_mean_s=100.0, loss_good=0.0, loss_bad=1.0)
    hubs = np.arange(20_000)
    at = np.zeros(len(hubs))
    weather = LossWeather([loss], np.zeros(len(hubs), dtype=np.int64), at, generator(1))
    first = weather.lost(hubs, at)
    soon = weather.lost(hubs, at + 10.0)
    late = weather.lost(hubs, at + 10_000.0)
    assert first.mean() == pytest.approx(0.1, abs=0.01)
    # exp(-10 (1/900 + 1/100)) = 0.895: nine of ten bad times still last
    assert soon[first].mean() == pytest.approx(0.1 + 0.9 * 0.895, abs=0.03)
    assert late[first].mean() == pytest.approx(0.1, abs=0.03)


def test_homes_without_internet_wait_in_the_smart_metering_system_s_line() -> None:
    """One home in ten falls back to 2a: they are many at once, and the DCC takes its time."""
    route = Route(name="2b", kind="2b", fallback_after_s=60.0)
    internet = Internet(offline_share=assumed(0.1), offline_mean_s=assumed(1e-3))
    capacity = Capacity(dcc_requests_per_s=assumed(480.0), dcc_background_per_s=assumed(380.0))
    network = Network(name="day", internet=internet, capacity=capacity)
    case = make_case(40_000, route=route, network=network)
    times = np.asarray([one for one in latencies(run(case), "down") if one is not None])
    late = np.sort(times[times > 60.0])
    assert 0.07 < len(late) / len(times) < 0.13
    fragments = 4_000 * model_of(case).messages[0].as_fallback().mean_fragments
    # Answers come at once from those who have it: their receipts wait in the same line.
    assert late[-1] > 0.8 * 2 * fragments / 100.0


def test_receipts_and_responses_take_capacity_of_what_they_answer() -> None:
    model = model_of(make_case(10_000, kind="reports", spread_s=1000.0))
    lines = Lines(model, (Pilot(1.0, 0.0, 10.0),))
    lines.waits()
    loads = {load.stage: load for load in lines.loads}
    # A receipt for each report is a command: two requests.
    arriving = float(loads["dcc"].arriving_per_s.mean())
    assert arriving == pytest.approx(20.0, rel=0.05)
    assert loads["dcc"].capacity_per_s == pytest.approx(1620.0)
    assert loads["central-south down"].arriving_per_s.mean() > 0


def test_over_an_internet_without_chance_the_model_is_the_software(constant: Network) -> None:
    internet = Internet(
        round_trip=assumed(Constant(value_s=0.2)),
        loss_probability=assumed(0.0),
        offline_share=assumed(0.0),
        server_s=assumed(0.05),
        server_messages_per_s=assumed(1e9),
    )
    network = msgspec.structs.replace(constant, internet=internet)
    case = msgspec.structs.replace(
        make_case(1, kind="registration", route=Route(name="2b", kind="2b"), network=network),
        own_time=OwnTime(down=(0.003,), up=(0.007,)),
    )
    model, real = run(case), VirtualEngine().run(case, Surroundings())
    for direction, expected in (("down", 0.153), ("up", 0.157)):
        # Half a round trip, the server and the software.
        said = latencies(model, direction)
        assert said == pytest.approx([expected] * len(said))
        assert latencies(real, direction) == pytest.approx(latencies(model, direction), abs=1e-3)
    assert counter(real, "internet_octets") > counter(model, "internet_octets") > 0
    assert {row["transmissions"] for row in real.messages.to_pylist()} == {1}


def test_each_part_of_a_connection_has_a_round_trip_of_its_own() -> None:
    internet = Internet(
        round_trip=assumed(Exponential(mean_s=0.1)),
        loss_probability=assumed(0.0),
        offline_share=assumed(0.0),
        server_s=assumed(0.0),
        server_messages_per_s=assumed(1e9),
    )
    route = Route(name="s", kind="stream1", poll_s=0.0)
    network = Network(name="line", internet=internet)
    case = make_case(2000, kind="reports", route=route, network=network)
    times = np.asarray(latencies(run(case), "up"), dtype=np.float64)
    assert times.mean() == pytest.approx(0.25, rel=0.05)
    # TCP's round trip, then three ways: variances add up. One draw for all would have 0.25.
    assert times.std() == pytest.approx(0.1 * math.sqrt(1 + 3 / 4), rel=0.08)


def test_a_large_message_waits_for_tcp_s_slow_start_in_model_and_software(
    constant: Network,
) -> None:
    internet = Internet(
        round_trip=assumed(Constant(value_s=0.2)),
        loss_probability=assumed(0.0),
        offline_share=assumed(0.0),
        server_s=assumed(0.0),
        server_messages_per_s=assumed(1e9),
    )
    network = msgspec.structs.replace(constant, internet=internet)
    route = Route(name="2b", kind="2b", compact=False, dictionary=False)
    case = make_case(1, kind="message", message_octets=65_000, route=route, network=network)
    model, real = run(case), VirtualEngine().run(case, Surroundings())
    stream1 = msgspec.structs.replace(case, route=Route(name="s", kind="stream1", poll_s=0.0))
    assert latencies(real, "down") == pytest.approx(latencies(model, "down"), abs=1e-3)
    # 65,600 octets and a certificate are 48 packets: windows of 10, 20 and 40.
    assert latencies(run(stream1), "down") == pytest.approx([0.2 * (2.5 + 2)])


def test_a_home_without_internet_gets_its_messages_all_the_same() -> None:
    network = Network(name="day", internet=Internet(offline_share=assumed(1.0)))
    case = make_case(4, route=Route(name="2b", kind="2b"), network=network, spread_s=60.0)
    tables = VirtualEngine().run(case, Surroundings())
    rows = tables.messages.to_pylist()
    assert [row["outcome"] for row in rows] == ["delivered"] * 8
    assert all(1.0 < row["latency_s"] < 300.0 for row in rows)
    assert tables.messages.equals(VirtualEngine().run(case, Surroundings()).messages)
