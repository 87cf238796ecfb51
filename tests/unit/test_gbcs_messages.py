"""Sizes, refusals and the small things of the message types; values are property-tested."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import pytest

from gbcs import (
    Alert,
    Command,
    EntityId,
    GbcsDateTime,
    Label,
    PreCommand,
    Response,
    SignedPreCommand,
    parse_untrusted,
)
from gbcs.errors import BuildError, FormatError

SUPPLIER, DEVICE, LOAD_CONTROLLER = (EntityId(bytes(7) + bytes((n,))) for n in (1, 2, 3))
FULL = tuple(Label(index, "x" * 22) for index in range(1, 6))
PRE_COMMAND = PreCommand(SUPPLIER, DEVICE, 5, FULL)
SIGNED = SignedPreCommand(PRE_COMMAND, bytes(64))
COMMAND = Command(SIGNED, bytes(12))


def alert(**fields: Any) -> Alert:
    values: dict[str, Any] = {
        "originator_id": DEVICE,
        "target_id": SUPPLIER,
        "originator_counter": 1,
        "text": "x",
        "date_time": GbcsDateTime(),
        "supplementary_remote_party_id": LOAD_CONTROLLER,
        **fields,
    }
    return Alert(**values)


def test_sizes_of_a_full_ecs46a() -> None:
    assert len(PRE_COMMAND.to_bytes()) == 213
    assert len(SIGNED.to_bytes()) == 278
    assert len(COMMAND.to_bytes()) == 305
    response = dataclasses.replace(Response.answering(COMMAND, (0,) * 5), signature=bytes(64))
    assert len(response.to_bytes()) == 123


def test_size_of_an_ecs46a_with_one_full_label() -> None:
    one = PreCommand(SUPPLIER, DEVICE, 5, FULL[:1])
    assert len(Command(SignedPreCommand(one, bytes(64)), bytes(12)).to_bytes()) == 167


def test_size_of_a_full_ecs200() -> None:
    full = alert(text="x" * 1062, signature=bytes(64))
    assert len(full.to_bytes()) == 1200


def test_an_alert_too_long_for_the_network_is_refused_with_the_excess() -> None:
    with pytest.raises(BuildError, match=r"shorten the text of 1063 characters by 1$"):
        alert(text="x" * 1063)
    alert(text="x" * 1070, supplementary_remote_party_id=None)
    with pytest.raises(BuildError, match="1201 octets"):
        alert(text="x" * 1071, supplementary_remote_party_id=None)


def test_a_command_shows_its_parts() -> None:
    assert COMMAND.pre_command is PRE_COMMAND
    assert COMMAND.signed_part() == SIGNED.signed_part() == PRE_COMMAND.to_bytes()[1:]
    assert (PRE_COMMAND.use_case, PRE_COMMAND.service_reference_variant) == ("ECS46a", "6.14.1")


def test_a_response_swaps_the_titles_and_keeps_the_counter() -> None:
    response = Response.answering(PRE_COMMAND, (0, 0, 3, 0, 0))
    assert (response.originator_id, response.target_id) == (DEVICE, SUPPLIER)
    assert response.originator_counter == 5
    assert not response.success
    assert Response.answering(PRE_COMMAND, (0,) * 5).success
    with pytest.raises(BuildError, match="2 results for 5 labels"):
        Response.answering(PRE_COMMAND, (0, 0))


def test_unsigned_responses_and_alerts_end_with_nought() -> None:
    for message in (Response.answering(PRE_COMMAND, (0,) * 5), alert()):
        octets = message.to_bytes()
        assert octets[-1] == 0
        assert parse_untrusted(octets) == message
        assert message.with_signature(bytes(64)).to_bytes()[: len(octets) - 1] == octets[:-1]


def test_messages_can_be_copied_compared_and_pickled() -> None:
    for message in (PRE_COMMAND, COMMAND, alert(), Response.answering(PRE_COMMAND, (0,) * 5)):
        octets = message.to_bytes()
        for other in (copy.copy(message), pickle.loads(pickle.dumps(message))):
            assert other == message
            assert hash(other) == hash(message)
            assert other.to_bytes() == octets


@pytest.mark.parametrize(
    ("index", "text", "told"),
    [
        (0, "x", "1 to 5"),
        (6, "x", "1 to 5"),
        (1, "", "leave the label out"),
        (1, "x" * 23, "1 to 22 characters"),
        (1, "a\nb", "printable"),
        (1, "é", "printable"),
        (1, b"x", "characters"),
    ],
)
def test_impossible_labels_are_refused(index: int, text: Any, told: str) -> None:
    with pytest.raises(BuildError, match=told):
        Label(index, text)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"originator_id": b"12345678"}, "originator_id must be an EntityId"),
        ({"target_id": None}, "target_id must be an EntityId"),
        ({"originator_counter": -1}, "originator_counter"),
        ({"originator_counter": 2**64}, "originator_counter"),
        ({"originator_counter": True}, "originator_counter"),
        ({"labels": ()}, "at least one label"),
        ({"labels": [Label(1, "x")]}, "tuple of Label"),
        ({"labels": (Label(2, "x"), Label(1, "x"))}, "must rise"),
        ({"labels": (Label(2, "x"), Label(2, "x"))}, "must rise"),
    ],
)
def test_impossible_pre_commands_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BuildError, match=told):
        dataclasses.replace(PRE_COMMAND, **fields)


@pytest.mark.parametrize("results", [(), (0,) * 6, (256,), (-1,), [0]])
def test_impossible_results_are_refused(results: Any) -> None:
    with pytest.raises(BuildError):
        Response(DEVICE, SUPPLIER, 1, results)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"text": "é"}, "printable"),
        ({"text": "a\tb"}, "printable"),
        ({"date_time": None}, "GbcsDateTime"),
        ({"alert_code": 0x10000}, "alert_code"),
        ({"supplementary_remote_party_id": b"12345678"}, "EntityId"),
        ({"supplementary_remote_party_id": None, "supplementary_remote_party_counter": 1}, "order"),
        ({"supplementary_originator_counter": 1}, "order"),
        ({"supplementary_remote_party_counter": -1}, "supplementary counter"),
        ({"signature": bytes(63)}, "64 octets"),
    ],
)
def test_impossible_alerts_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BuildError, match=told):
        alert(**fields)


def test_signatures_and_macs_have_one_length() -> None:
    with pytest.raises(BuildError, match="64 octets"):
        SignedPreCommand(PRE_COMMAND, bytes(65))
    with pytest.raises(BuildError, match="12 octets"):
        Command(SIGNED, bytes(16))
    with pytest.raises(BuildError, match="64 octets"):
        Response(DEVICE, SUPPLIER, 1, (0,), b"")


def test_a_format_error_says_where_and_what() -> None:
    octets = bytearray(COMMAND.to_bytes())
    octets[9] += 1  # the length in the MAC header
    with pytest.raises(FormatError) as refused:
        parse_untrusted(bytes(octets))
    assert refused.value.offset == 7
    assert refused.value.field == "length of what follows"
    assert "says 296 octets, but 295 follow" in str(refused.value)


def test_a_date_time_that_cannot_be_is_refused() -> None:
    octets = bytearray(alert(date_time=GbcsDateTime(2023, 2, 28)).to_bytes())
    place = octets.index(bytes((2, 28)))
    octets[place + 1] = 29
    with pytest.raises(FormatError, match="no day 2023-02-29"):
        parse_untrusted(bytes(octets))
