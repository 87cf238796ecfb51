"""The network by itself: what happens to each message, and when."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.core.faults import Fault, FaultKind, Faults, Hop
from dcc_sim.core.network import Arrived, Lost, Network, NetworkProfile, Parcel, Place
from dcc_sim.core.network.distributions import Constant, Exponential, Lognormal
from dcc_sim.core.network.profile import (
    BurstLoss,
    DccTimes,
    Parameter,
    RandomOutages,
    Region,
    ScheduledOutage,
    Standing,
)
from dcc_sim.core.network.transport import MAX_IN_FLIGHT
from dcc_sim.profile_files import load_profile
from dcc_sim.randomness import SeededStreams
from gbcs import EntityId

A, B, C = (EntityId(bytes(7) + bytes([number])) for number in (1, 2, 3))
HUBS = {A: "shared", B: "shared", C: "own"}


class Events:
    def __init__(self):
        self.rows = []

    def record(self, event, /, **fields):
        self.rows.append((event, fields))


def p(value):
    return Parameter(value, Standing.ASSUMED, "a test")


def region(**parameters):
    return Region(**{name: p(value) for name, value in parameters.items()})


class Lab:
    """A network with a clock set by hand; remembers what became of each message."""

    def __init__(self, *, profile=None, seed=1, faults=None, scale=1.0, epoch=0.0, **parameters):
        self.faults = Faults() if faults is None else faults
        self.journal = Events()
        self.epoch = epoch
        if profile is None:
            profile = NetworkProfile(
                summary="", default_region="r", regions={"r": region(**parameters)}
            )
        name = profile.default_region
        self.network = Network(
            profile,
            SeededStreams(seed),
            place_of=lambda device: Place(name, HUBS.get(device, str(device))),
            faults=self.faults,
            journal=self.journal,
            epoch=epoch,
            time_scale=scale,
        )
        self.seen = []

    def send(self, at=0.0, device=A, hop=Hop.COMMAND, octets=bytes(100), reference="m"):
        self.run(at)
        self.network.send(Parcel(hop, device, reference, octets), self.epoch + at)
        self.collect(at)

    def collect(self, at):
        for outcome in self.network.take_outcomes():
            self.seen.append((at, outcome))

    def run(self, until=1e9):
        while (when := self.network.get_timer()) is not None and when <= self.epoch + until:
            self.network.handle_timer(when)
            self.collect(when - self.epoch)

    def arrivals(self):
        return [
            (round(at, 6), outcome.parcel.reference)
            for at, outcome in self.seen
            if isinstance(outcome, Arrived)
        ]

    def losses(self):
        return [outcome.reason for _, outcome in self.seen if isinstance(outcome, Lost)]


def test_without_regions_all_passes_at_once_and_has_no_parts():
    lab = Lab(profile=load_profile("none"))
    for n in range(3):
        lab.send(at=0.0, reference=str(n))
    assert lab.arrivals() == [(0.0, "0"), (0.0, "1"), (0.0, "2")]
    assert [fields["reference"] for _, fields in lab.journal.rows] == ["0", "1", "2"]
    assert all("total_s" not in fields for _, fields in lab.journal.rows)
    assert lab.network.get_timer() is None


def test_latency_each_way():
    lab = Lab(latency_down=Constant(value_s=3.0), latency_up=Constant(value_s=5.0))
    lab.send(reference="down")
    lab.send(hop=Hop.ALERT, reference="up")
    lab.run()
    assert lab.arrivals() == [(3.0, "down"), (5.0, "up")]


def test_bandwidth_and_fragments_make_a_queue():
    # 100 octets at 800 bits/s: 1 s; two fragments of 61 octets, 0.5 s each: 1 s.
    lab = Lab(
        bandwidth_down_bits_s=800.0,
        bandwidth_up_bits_s=400.0,
        han_fragment_octets=61,
        han_fragment_s=0.5,
    )
    for n, device in enumerate((A, B, A, C)):
        lab.send(device=device, reference=f"down {n}")
    lab.send(hop=Hop.RESPONSE, reference="up")
    lab.run()
    # A and B share a hub, C has its own; up and down do not wait for each other.
    assert sorted(lab.arrivals()) == [
        (2.0, "down 0"),
        (2.0, "down 3"),
        (3.0, "up"),
        (4.0, "down 1"),
        (6.0, "down 2"),
    ]
    waits = {fields["reference"]: fields["queue_s"] for _, fields in lab.journal.rows}
    assert waits == {"down 0": 0.0, "down 1": 2.0, "down 2": 4.0, "down 3": 0.0, "up": 0.0}


def test_the_journal_tells_the_parts_of_the_way():
    profile = NetworkProfile(
        summary="",
        default_region="r",
        regions={
            "r": region(
                latency_down=Constant(value_s=3.0),
                bandwidth_down_bits_s=800.0,
                han_fragment_octets=61,
                han_fragment_s=0.5,
            )
        },
        dcc=DccTimes(dispatch=p(Constant(value_s=0.25))),
    )
    lab = Lab(profile=profile)
    lab.send(at=10.0)
    lab.run()
    ((event, fields),) = lab.journal.rows
    assert event == "network"
    assert fields == {
        "hop": "command",
        "link": "r/shared/down",
        "device": str(A),
        "reference": "m",
        "copy": 0,
        "octets": 100,
        "outcome": "arrived",
        "reason": "",
        "entered_s": 10.0,
        "total_s": 5.25,
        "dcc_s": 0.25,
        "fault_s": 0.0,
        "wan_s": 3.0,
        "queue_s": 0.0,
        "transfer_s": 1.0,
        "han_s": 1.0,
    }


def test_queueing_is_that_of_one_server():
    """Poisson arrivals, constant service: the mean wait is that of an M/D/1 queue."""
    lab = Lab(bandwidth_down_bits_s=800.0)
    stream = SeededStreams(5).stream("arrivals")
    gaps = Exponential(mean_s=2.0)
    at = 0.0
    for n in range(20_000):
        at += gaps.draw(stream)
        lab.send(at=at, reference=str(n))
    lab.run()
    waits = [fields["queue_s"] for _, fields in lab.journal.rows]
    load, service_s = 0.5, 1.0
    assert statistics.fmean(waits) == pytest.approx(load * service_s / (2 * (1 - load)), rel=0.05)


def test_losses_come_in_bursts():
    lab = Lab(loss=BurstLoss(good_mean_s=90.0, bad_mean_s=10.0, loss_good=0.0, loss_bad=0.8))
    count = 20_000
    for n in range(count):
        lab.send(at=float(n), reference=str(n))
    lost = [fields["outcome"] == "lost" for _, fields in lab.journal.rows if fields["copy"] == 0]
    share = statistics.fmean(lost)
    assert share == pytest.approx(0.08, rel=0.25)
    after_a_loss = statistics.fmean(after for before, after in itertools.pairwise(lost) if before)
    assert after_a_loss > 5 * share
    assert set(lab.losses()) == {"lost on the SM WAN in a bad time"}


def test_duplicates():
    lab = Lab(duplicate_probability=0.1, latency_down=Exponential(mean_s=3.0))
    for n in range(5000):
        lab.send(at=100.0 * n, reference=str(n))
    lab.run()
    times = Counter(reference for _, reference in lab.arrivals())
    assert set(times.values()) == {1, 2}
    assert sum(count == 2 for count in times.values()) == pytest.approx(500, rel=0.15)
    copies = [outcome for _, outcome in lab.seen if outcome.is_copy]
    assert len(copies) == sum(count == 2 for count in times.values())


def overtakings(lab):
    order = [int(reference) for _, reference in lab.arrivals()]
    return sum(after < before for before, after in itertools.pairwise(order))


def test_reordering_by_latency_and_by_the_knob():
    steady = Lab(latency_down=Constant(value_s=5.0))
    spread = Lab(latency_down=Lognormal(median_s=5.0, sigma=1.0))
    knob = Lab(
        latency_down=Constant(value_s=5.0),
        reorder_probability=0.1,
        reorder_delay=Constant(value_s=2.5),
    )
    for lab in (steady, spread, knob):
        for n in range(1000):
            lab.send(at=float(n), reference=str(n))
        lab.run()
        assert len(lab.arrivals()) == 1000
    assert overtakings(steady) == 0
    assert overtakings(spread) > 100
    assert 50 < overtakings(knob) < 150
    reasons = Counter(fields["reason"] for _, fields in knob.journal.rows)
    assert reasons["held up"] == pytest.approx(100, abs=30)


WINDOW = (ScheduledOutage(start_s=10.0, duration_s=3600.0, hubs=("shared",)),)


def test_a_hub_that_is_down_holds_messages():
    lab = Lab(
        scheduled_outages=WINDOW, bandwidth_down_bits_s=800.0, latency_up=Constant(value_s=2.0)
    )
    lab.send(at=9.5, reference="in transfer")
    lab.send(at=11.0, reference="first")
    lab.send(at=12.0, device=B, reference="second")
    lab.send(at=13.0, device=C, reference="another hub")
    lab.send(at=14.0, hop=Hop.ALERT, reference="up")
    lab.run()
    assert lab.arrivals() == [
        (10.5, "in transfer"),
        (14.0, "another hub"),
        (3611.0, "first"),
        (3612.0, "up"),
        (3612.0, "second"),
    ]
    reasons = {fields["reference"]: fields["reason"] for _, fields in lab.journal.rows}
    assert reasons["in transfer"] == ""
    assert reasons["first"] == reasons["second"] == reasons["up"] == "hub down"


def test_a_hub_that_is_down_can_drop_messages():
    lab = Lab(scheduled_outages=WINDOW, in_outage="drop", bandwidth_down_bits_s=800.0)
    for n, at in enumerate((9.5, 9.6, 9.7, 11.0, 4000.0)):
        lab.send(at=at, reference=str(n))
    lab.run()
    # Two waited for the first when the hub went down.
    assert lab.arrivals() == [(10.5, "0"), (4001.0, "4")]
    assert lab.losses() == ["the hub is down"] * 3


def test_a_hub_goes_down_and_up_on_order():
    lab = Lab(latency_down=Constant(value_s=1.0))
    lab.faults.inject(Fault(kind=FaultKind.HUB_DOWN, hub="shared"), 0.0)
    lab.send(reference="held")
    lab.send(device=C, reference="another")
    lab.run(100.0)
    assert lab.arrivals() == [(1.0, "another")]
    lab.faults.inject(Fault(kind=FaultKind.HUB_UP, hub="shared"), 100.0)
    lab.network.hub_changed("shared", 100.0)
    lab.collect(100.0)
    assert lab.arrivals() == [(1.0, "another"), (100.0, "held")]


def test_buffers_are_bounded():
    lab = Lab(bandwidth_down_bits_s=800.0, buffer_messages=2)
    for n in range(5):
        lab.send(reference=str(n))
    lab.run()
    assert [reference for _, reference in lab.arrivals()] == ["0", "1", "2"]
    assert lab.losses() == ["2 messages wait at the hub already"] * 2
    flood = Lab(latency_up=Constant(value_s=100.0))
    for _ in range(MAX_IN_FLIGHT + 7):
        flood.send(hop=Hop.ALERT)
    assert len(flood.losses()) == 7
    assert flood.network.in_flight == MAX_IN_FLIGHT
    flood.run()
    assert flood.network.in_flight == 0


@pytest.mark.parametrize("scale", [60.0, 3600.0])
def test_scaled_time_is_the_same_network_faster(scale):
    def run(scale):
        lab = Lab(profile=load_profile("bad-day"), scale=scale, epoch=1_800_000_000.0)
        for n in range(200):
            lab.send(at=30.0 * n / scale, reference=str(n))
        lab.run()
        return [
            (fields["reference"], fields["outcome"], round(fields["total_s"], 1))
            for _, fields in lab.journal.rows
        ]

    assert run(scale) == run(1.0)


def test_the_same_seed_is_the_same_network_whatever_else_happens():
    def run(*, seed, others):
        lab = Lab(profile=load_profile("bad-day"), seed=seed)
        for n in range(300):
            if others:
                lab.send(at=20.0 * n, device=C, hop=Hop.ALERT)
                lab.send(at=20.0 * n, hop=Hop.ALERT)
            lab.send(at=20.0 * n, reference=str(n))
        lab.run()
        return [
            fields
            for _, fields in lab.journal.rows
            if fields["link"] == "central-south/shared/down"
        ]

    quiet = run(seed=1, others=False)
    assert len(quiet) > 300
    assert run(seed=1, others=True) == quiet
    assert run(seed=2, others=False) != quiet


@given(
    st.lists(
        st.tuples(
            st.floats(0, 5000),
            st.sampled_from((A, B, C)),
            st.sampled_from((Hop.COMMAND, Hop.ALERT)),
        ),
        max_size=40,
    ),
    st.integers(0, 5),
)
def test_every_copy_ends_once_with_a_reason(messages, seed):
    lab = Lab(
        seed=seed,
        latency_down=Lognormal(median_s=5.0, sigma=1.5),
        latency_up=Exponential(mean_s=5.0),
        bandwidth_down_bits_s=300.0,
        loss=BurstLoss(good_mean_s=50.0, bad_mean_s=50.0, loss_good=0.1, loss_bad=0.9),
        duplicate_probability=0.3,
        random_outages=RandomOutages(
            mean_interval_s=500.0, duration_s=Exponential(mean_s=200.0), max_duration_s=1000.0
        ),
        buffer_messages=3,
    )
    for n, (at, device, hop) in enumerate(sorted(messages, key=lambda one: one[0])):
        lab.send(at=at, device=device, hop=hop, reference=str(n))
    lab.run()
    assert lab.network.in_flight == 0
    firsts = [outcome for _, outcome in lab.seen if not outcome.is_copy]
    assert sorted(int(one.parcel.reference) for one in firsts) == list(range(len(messages)))
    assert len(lab.journal.rows) == len(lab.seen)
    for _, fields in lab.journal.rows:
        assert fields["outcome"] == "arrived" or fields["reason"]
        parts = ("dcc_s", "fault_s", "wan_s", "queue_s", "transfer_s", "han_s")
        assert fields["total_s"] == pytest.approx(sum(fields[part] for part in parts), abs=1e-4)


@pytest.mark.parametrize("hop", [Hop.COMMAND, Hop.RESPONSE, Hop.ALERT])
@pytest.mark.parametrize("profile", ["none", "gb-assumed"])
def test_faults_on_every_hop(hop, profile):
    faults = Faults()
    lab = Lab(profile=load_profile(profile), faults=faults)
    octets = bytes(range(100))

    def arm(kind, **fields):
        return faults.inject(Fault(kind=kind, hop=hop, **fields), 0.0)

    arm(FaultKind.DROP, count=2, entity_id=A)
    lab.send(hop=hop, octets=octets, reference="0")
    lab.send(hop=hop, octets=octets, reference="1", device=C)
    lab.send(hop=hop, octets=octets, reference="2")
    assert faults.armed == []
    arm(FaultKind.CORRUPT)
    lab.send(hop=hop, octets=octets, reference="3")
    arm(FaultKind.DUPLICATE)
    lab.send(hop=hop, octets=octets, reference="4")
    arm(FaultKind.DELAY, delay_s=5000.0)
    lab.send(hop=hop, octets=octets, reference="5")
    lab.run()
    assert lab.losses() == ["fault 1, dropped"] * 2
    came = {outcome.parcel.reference: (at, outcome) for at, outcome in lab.seen}
    assert came["1"][1].octets == octets
    bent = came["3"][1].octets
    assert bent != octets
    assert sum(one != other for one, other in zip(bent, octets, strict=True)) == 1
    assert [reference for _, reference in lab.arrivals()].count("4") == 2
    assert came["5"][0] >= 5000.0
