"""Faults on order: how they are spelt, armed, counted and scheduled; alert storm protection."""

from __future__ import annotations

import msgspec
import pytest

from dcc_sim import ConfigError, Fault, FaultKind, Hop
from dcc_sim.core.faults import Faults, corrupted, parse_scenario, parse_untrusted_fault
from dcc_sim.core.network import AlertStormProtection, Parameter, Standing
from dcc_sim.core.network.profile import AlertStorm
from gbcs import EntityId
from gbcs.duis import Throttled

A, B = (EntityId(bytes(7) + bytes([number])) for number in (1, 2))


def drop(**fields):
    return Fault(kind=FaultKind.DROP, hop=Hop.COMMAND, **fields)


def test_faults_are_counted_by_hop_and_device():
    faults = Faults()
    assert not faults.active
    number = faults.inject(drop(count=2, entity_id=A), 0.0)
    assert faults.active
    assert not faults.hit(Hop.ALERT, A).drop
    assert not faults.hit(Hop.COMMAND, B).drop
    hits = [faults.hit(Hop.COMMAND, A) for _ in range(3)]
    assert [hit.drop for hit in hits] == [True, True, False]
    assert hits[0].reason == f"fault {number}"
    assert not faults.active


def test_several_faults_meet_one_message():
    faults = Faults()
    faults.inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.POST), 0.0)
    faults.inject(Fault(kind=FaultKind.DELAY, hop=Hop.POST, delay_s=2.0), 0.0)
    faults.inject(Fault(kind=FaultKind.DELAY, hop=Hop.POST, delay_s=3.0), 0.0)
    faults.inject(Fault(kind=FaultKind.DUPLICATE, hop=Hop.POST), 0.0)
    hit = faults.hit(Hop.POST, A)
    assert (hit.drop, hit.corrupt, hit.copies, hit.delay_s) == (False, True, 1, 5.0)
    assert hit.reason == "fault 1, fault 2, fault 3, fault 4"


def test_a_lost_message_uses_up_nothing_else():
    faults = Faults()
    faults.inject(drop(), 0.0)
    faults.inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.COMMAND), 0.0)
    assert faults.hit(Hop.COMMAND, None).drop
    assert faults.hit(Hop.COMMAND, None).corrupt


def test_cancelling():
    faults = Faults()
    numbers = [faults.inject(drop(), 0.0) for _ in range(3)]
    assert faults.cancel(numbers[1]) == 1
    assert faults.cancel(numbers[1]) == 0
    assert [armed.fault_id for armed in faults.armed] == [numbers[0], numbers[2]]
    assert faults.cancel() == 2


SCENARIO = """
[[fault]]
at_s = 60
kind = "hub-down"
hub = "H1"
duration_s = 30

[[fault]]
at_s = 10
kind = "drop"
hop = "command"
entity_id = "00-00-00-00-00-00-00-01"
count = 3

[[fault]]
at_s = 20
kind = "revoke"
entity_id = "00-00-00-00-00-00-00-02"
"""


def test_a_scenario_comes_in_order():
    faults = Faults(parse_scenario(SCENARIO, where="x"))
    assert faults.begin(0.0) == []
    assert faults.get_timer() == 10.0
    (first,) = faults.due(10.0)
    assert first == drop(at_s=10.0, count=3, entity_id=A)
    assert faults.get_timer() == 20.0
    assert [fault.kind for fault in faults.due(70.0)] == [FaultKind.REVOKE, FaultKind.HUB_DOWN]
    faults.inject(Fault(kind=FaultKind.HUB_DOWN, hub="H1", duration_s=30.0), 70.0)
    assert faults.is_hub_down("H1")
    assert faults.hubs_down == ["H1"]
    assert faults.get_timer() == 100.0
    (back,) = faults.due(100.0)
    faults.inject(back, 100.0)
    assert not faults.is_hub_down("H1")


def test_a_new_process_takes_up_the_scenario_where_it_is():
    for at, is_down in ((70.0, True), (95.0, True), (15.0, False)):
        faults = Faults(parse_scenario(SCENARIO, where="x"))
        revocations = faults.begin(at)
        assert [fault.entity_id for fault in revocations] == ([B] if at > 20 else [])
        assert faults.is_hub_down("H1") == is_down
        assert faults.armed == []
        assert faults.begin(at) == []
    # The hub that should be back by 95 s comes back with the first timer.
    late = Faults(parse_scenario(SCENARIO, where="x"))
    late.begin(95.0)
    (back,) = late.due(95.0)
    assert (back.kind, back.hub) == (FaultKind.HUB_UP, "H1")


WRONG = {
    '{"kind": "drop"}': "needs hop",
    '{"kind": "explode"}': "explode",
    '{"kind": "drop", "hop": "moon"}': "moon",
    '{"kind": "drop", "hop": "command", "count": 0}': "count",
    '{"kind": "drop", "hop": "command", "delay_s": 1}': "delay_s says nothing",
    '{"kind": "drop", "hop": "command", "hub": "H"}': "hub says nothing",
    '{"kind": "drop", "hop": "command", "entity_id": "xyz"}': "xyz",
    '{"kind": "drop", "hop": "command", "entity_id": 5}': "EUI-64 as text",
    '{"kind": "drop", "hop": "answer", "entity_id": "00-00-00-00-00-00-00-01"}': "nobody knows",
    '{"kind": "delay", "hop": "command"}': "needs delay_s",
    '{"kind": "delay", "hop": "command", "delay_s": -1}': "at least 0",
    '{"kind": "duplicate", "hop": "answer"}': "one answer",
    '{"kind": "hub-down"}': "needs hub",
    '{"kind": "hub-up", "hub": "H", "duration_s": 1}': "duration_s says nothing",
    '{"kind": "hub-up", "hub": "H", "entity_id": "00-00-00-00-00-00-00-01"}': "says nothing",
    '{"kind": "revoke"}': "needs entity_id",
    '{"kind": "restart", "hop": "command"}': "hop says nothing",
    '{"kind": "restart", "more": 1}': "more",
    "[[[": "not a fault",
    "[" * 100_000: "not a fault",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:60])
def test_wrong_faults_are_told_what_is_wrong(text):
    with pytest.raises(ConfigError, match=WRONG[text]):
        parse_untrusted_fault(text.encode())


def test_wrong_scenarios():
    for text in ("= =", "[[fault]]\nkind = 'drop'", "[fault]", "[[other]]"):
        with pytest.raises(ConfigError, match=r"^here\.toml: "):
            parse_scenario(text, where="here.toml")


@pytest.mark.parametrize("octets", [b"", b"\x00", b"ab", b"abc"])
def test_corrupted_octets_differ_in_one_bit(octets):
    bent = corrupted(octets)
    assert len(bent) == len(octets)
    bits = sum((one ^ other).bit_count() for one, other in zip(bent, octets, strict=True))
    assert bits == (1 if octets else 0)


def storm(**changes):
    values = {
        "enabled": True,
        "codes": ("8F88",),
        "threshold": 3,
        "window_s": 60.0,
        "period_s": 30.0,
    } | changes
    return AlertStorm(
        **{name: Parameter(value, Standing.ASSUMED, "a test") for name, value in values.items()}
    )


def test_a_storm_passes_one_copy_a_period_and_tells_the_rest():
    protection = AlertStormProtection(storm())
    passed = {}
    for second in range(100):
        verdict = protection.receive(A, 0x8F88, float(second))
        if verdict.passes:
            passed[second] = verdict.throttled
    # Three are below the threshold; then one every 30 s, with 29 held back before each.
    assert passed == {
        0: None,
        1: None,
        2: None,
        32: Throttled(1, 29),
        62: Throttled(2, 29),
        92: Throttled(3, 29),
    }
    # Silence ends the storm; the first alert after it tells the last that were held back.
    assert protection.receive(A, 0x8F88, 200.0).throttled == Throttled(4, 7)
    assert protection.receive(A, 0x8F88, 201.0).throttled is None


def test_a_storm_is_one_devices_and_one_codes():
    protection = AlertStormProtection(storm())
    for second in range(4):
        last = protection.receive(A, 0x8F88, float(second))
    assert not last.passes
    assert protection.receive(B, 0x8F88, 4.0).passes
    assert all(protection.receive(A, 0x8F01, 4.0).passes for _ in range(10))
    everything = AlertStormProtection(storm(codes=()))
    assert [everything.receive(A, 0x8F01, 4.0).passes for _ in range(4)] == [True] * 3 + [False]


def test_below_the_threshold_nothing_is_held_back():
    protection = AlertStormProtection(storm())
    assert all(protection.receive(A, 0x8F88, 20.0 * n).passes for n in range(100))


@pytest.mark.parametrize("settings", [None, storm(enabled=False)])
def test_the_switch(settings):
    protection = AlertStormProtection(settings)
    assert all(protection.receive(A, 0x8F88, 0.0).passes for _ in range(100))


def test_wrong_alert_codes():
    with pytest.raises(ValueError, match="four hexadecimal digits"):
        storm(codes=("8F8",))
    with pytest.raises(msgspec.ValidationError, match="four hexadecimal digits"):
        msgspec.convert(
            msgspec.to_builtins(storm())
            | {"codes": {"value": ["ZZZZ"], "standing": "assumed", "source": "x"}},
            AlertStorm,
        )
