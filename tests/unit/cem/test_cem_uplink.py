"""Messages of the application become signed alerts."""

from __future__ import annotations

import random

import pytest

from cem.ports import OutgoingMessage
from gbcs import MAX_MESSAGE_OCTETS, GbcsDateTime
from smtunnel import ECS200, MessageReassembled, Originator, Reassembler
from smtunnel.errors import LocalError, MessageTooLong

NOW = 1_700_000_000.25
MESSAGE = random.Random(2).randbytes(3000)  # does not shrink: four fragments


@pytest.fixture
def store(world):
    return world.store()


@pytest.fixture
def uplink(world, store):
    return world.uplink(store)


def build(uplink, message, compression="auto"):
    status = uplink.accept("a", message, compression)
    return uplink.build(OutgoingMessage("a", message, compression, status), status, NOW)


def reassembled(world, alerts):
    reassembler = Reassembler(originator=Originator.CEM, carrier=ECS200)
    events = []
    for alert in alerts:
        events += reassembler.receive_fragment(
            alert.originator_id.octets,
            alert.text,
            originator_counter=alert.originator_counter,
            now=NOW,
        )
    return [event.message for event in events if isinstance(event, MessageReassembled)]


def test_a_long_message(world, uplink) -> None:
    built = build(uplink, MESSAGE)
    alerts = [world.alert(alert.octets) for alert in built.alerts]
    assert [alert.originator_counter for alert in alerts] == [1, 2, 3, 4]
    assert [alert.text for alert in alerts] == [alert.payload for alert in built.alerts]
    assert len(built.alerts[0].octets) == MAX_MESSAGE_OCTETS
    assert reassembled(world, alerts) == [MESSAGE]
    assert built.status.first_counter == 1
    assert built.status.fragments_total == 4
    assert built.status.message_octets == len(MESSAGE)


@pytest.mark.parametrize("compression", ["auto", "zlib", "none"])
@pytest.mark.parametrize("message", [b"", b"<a/>", b"<a/>" * 100])
def test_a_short_message(world, uplink, message, compression) -> None:
    (alert,) = build(uplink, message, compression).alerts
    assert reassembled(world, [world.alert(alert.octets)]) == [message]


def test_alert_carries_the_time(world, uplink) -> None:
    alert = world.alert(build(uplink, b"x").alerts[0].octets)
    assert alert.date_time == GbcsDateTime.from_timestamp(NOW)


def test_message_ids_go_round(uplink) -> None:
    ids = [build(uplink, b"x").status.tunnel_message_id for _ in range(258)]
    assert ids == [*range(256), 0, 1]


def test_message_id_goes_on_after_a_restart(world, store, uplink) -> None:
    status = uplink.accept("a", b"x", "auto")
    outgoing = OutgoingMessage("a", b"x", "auto", status)
    store.add_outgoing(outgoing)
    built = uplink.build(outgoing, status, NOW)
    store.save_alerts(built.status, built.alerts)
    assert build(world.uplink(store), b"y").status.tunnel_message_id == 1


def test_too_long(world, store) -> None:
    with pytest.raises(MessageTooLong, match="at most 100"):
        world.uplink(store, message_octets=100).accept("a", bytes(101), "auto")


def test_unknown_compression(uplink) -> None:
    with pytest.raises(LocalError, match="brotli"):
        uplink.accept("a", b"x", "brotli")


def test_accepting_uses_no_counter(world, store, uplink) -> None:
    uplink.accept("a", MESSAGE, "auto")
    assert store.counters.load() == 0
