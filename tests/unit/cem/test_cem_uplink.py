"""Fragments become signed alerts."""

from __future__ import annotations

import pytest

from cem.core.uplink import AlertBuilder
from cem.credentials import load_credentials
from cem.errors import AlertError
from gbcs import MAX_MESSAGE_OCTETS, GbcsDateTime
from smtunnel import ECS200
from smtunnel.send_events import Transmit

NOW = 1_700_000_000.25


@pytest.fixture
def builder(world):
    credentials = load_credentials(world.config(), world.keystore, NOW)
    return AlertBuilder(credentials.identities, credentials.signer)


def transmit(world, payload="EAAAeA==", counter=77):
    return Transmit("ref", world.supplier_id.octets, 3, payload, counter, 2)


def test_alert_carries_the_fragment(world, builder) -> None:
    built = builder.build(transmit(world), NOW)
    alert = world.alert(built.octets)
    assert (alert.text, alert.originator_counter) == ("EAAAeA==", 77)
    assert alert.date_time == GbcsDateTime.from_timestamp(NOW)
    assert (built.ref, built.index, built.attempt, built.payload) == ("ref", 3, 2, alert.text)


def test_largest_fragment_makes_the_largest_message(world, builder) -> None:
    built = builder.build(transmit(world, "x" * ECS200.capacity), NOW)
    assert len(built.octets) == MAX_MESSAGE_OCTETS


@pytest.mark.parametrize(
    ("payload", "counter", "now"),
    [("x" * 2000, 1, NOW), ("x", 2**64, NOW), ("x", 1, -1e20)],
)
def test_impossible_alerts(world, builder, payload, counter, now) -> None:
    with pytest.raises(AlertError, match="cannot be built"):
        builder.build(transmit(world, payload, counter), now)
