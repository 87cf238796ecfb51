"""Commands in, responses out: every good and bad input of the device side, without any I/O."""

from __future__ import annotations

import os
import random
from base64 import b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from cem.core.downlink import Outcome
from cem.errors import CommandRefused, StoreError
from cem.ports import Changes
from cem.store import SqliteStore
from gbcs import DataAccessResult, EcdsaSigner, parse_untrusted
from smtunnel import (
    ECS200,
    Compression,
    ControlReceived,
    FragmentHeader,
    Limits,
    MessageAborted,
    MessageExpired,
    Originator,
    Reassembler,
)
from smtunnel.control import build_control
from smtunnel.records import (
    Abort,
    Capabilities,
    CapabilitiesWanted,
    EchoReply,
    EchoRequest,
    ReceiptPolicy,
)

NOW = 1_700_000_000.0
OK = DataAccessResult.SUCCESS
FA = DataAccessResult.OTHER_REASON
LATER = DataAccessResult.TEMPORARY_FAILURE
MESSAGE = random.Random(1).randbytes(700)  # does not shrink: nine fragments


def snapshot(store):
    """All that a command could change."""
    return (
        store.tunnel_rows(),
        store.labels(),
        store.count_received(),
        store.alert_counters(),
    )


def fragments(store):
    """The stored fragments of incomplete messages."""
    return [key for key in store.tunnel_rows() if "/f/" in key]


@pytest.fixture
def store(world):
    return world.store()


@pytest.fixture
def downlink(world, store):
    return world.downlink(store)


def results(world, handled):
    return set(world.response(handled.response).results)


def test_fragments_become_a_message(world, store, downlink) -> None:
    commands = world.commands(MESSAGE, 500, message_id=7)
    outcomes = [downlink.receive_untrusted(command, NOW) for command in commands]
    assert [handled.outcome for handled in outcomes] == [Outcome.FRAGMENT] * 8 + [Outcome.MESSAGE]
    assert all(results(world, handled) == {OK} for handled in outcomes)
    stored = store.next_received(0)
    assert (stored.message, stored.peer, stored.received_at) == (MESSAGE, world.supplier_id, NOW)
    assert stored.ref == f"{world.supplier_id.hex}-7-500"
    assert fragments(store) == []


def test_response_names_the_command(world, downlink) -> None:
    handled = downlink.receive_untrusted(world.command(77, ((2, "Boiler"), (4, "Lamp"))), NOW)
    response = world.response(handled.response)
    assert response.originator_counter == 77
    assert response.results == (0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_wrong_order_is_put_right(world, store, downlink, seed) -> None:
    commands = world.commands(MESSAGE, 500)
    random.Random(seed).shuffle(commands)
    for command in commands:
        downlink.receive_untrusted(command, NOW)
    assert store.next_received(0).message == MESSAGE


def test_two_messages_may_interleave(world, store, downlink) -> None:
    other = MESSAGE[::-1]
    pairs = zip(world.commands(MESSAGE, 100, 1), world.commands(other, 200, 2), strict=True)
    for pair in pairs:
        for command in pair:
            downlink.receive_untrusted(command, NOW)
    first = store.next_received(0)
    assert {first.message, store.next_received(first.number).message} == {MESSAGE, other}


def test_replay_gets_the_same_response_and_changes_nothing(world, store, downlink) -> None:
    commands = world.commands(MESSAGE, 500)
    responses = [downlink.receive_untrusted(command, NOW).response for command in commands]
    before = snapshot(store)
    for command, response in zip(commands, responses, strict=True):
        handled = downlink.receive_untrusted(command, NOW + 1)
        assert handled.outcome is Outcome.REPLAY
        assert handled.response == response
    assert snapshot(store) == before


def test_replay_after_a_restart(world, store, downlink) -> None:
    commands = world.commands(MESSAGE, 500)
    responses = [downlink.receive_untrusted(command, NOW).response for command in commands]
    restarted = world.downlink(store)
    for command, response in zip(commands, responses, strict=True):
        assert restarted.receive_untrusted(command, NOW).response == response
    assert store.count_received() == 1


def test_command_signed_again_with_the_same_content_is_a_replay(world, downlink) -> None:
    first = downlink.receive_untrusted(world.command(9, ((1, "Kettle"),)), NOW)
    again = world.command(9, ((1, "Kettle"),))  # ECDSA: another signature, another MAC
    handled = downlink.receive_untrusted(again, NOW)
    assert (handled.outcome, handled.response) == (Outcome.REPLAY, first.response)


def test_counter_used_twice_with_other_content(world, store, downlink) -> None:
    commands = world.commands(MESSAGE, 500)
    downlink.receive_untrusted(commands[0], NOW)
    before = snapshot(store)
    conflicting = world.command(500, world.payloads(MESSAGE[::-1])[0])
    handled = downlink.receive_untrusted(conflicting, NOW)
    assert handled.outcome is Outcome.COUNTER_REUSED
    assert results(world, handled) == {FA}
    assert snapshot(store) == before
    for command in commands[1:]:  # the genuine message is unharmed
        downlink.receive_untrusted(command, NOW)
    assert store.next_received(0).message == MESSAGE


def test_conflicting_fragment_ends_the_message(world, store, downlink) -> None:
    payloads = world.payloads(MESSAGE)
    commands = world.commands(MESSAGE, 500)
    for command in (*commands[:3], commands[6]):
        downlink.receive_untrusted(command, NOW)
    # Of the same message by id and first counter, but it says that fragment 4 is the last.
    header = FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, True, 4, 0)
    conflicting = world.command(504, header.encode() + payloads[4][4:])
    handled = downlink.receive_untrusted(conflicting, NOW)
    assert handled.outcome is Outcome.REJECTED
    assert results(world, handled) == {FA}
    assert fragments(store) == []
    handled = downlink.receive_untrusted(commands[7], NOW)
    assert handled.outcome is Outcome.REFUSED
    assert results(world, handled) == {FA}
    assert store.count_received() == 0


@pytest.mark.parametrize(
    ("compression", "body"),
    [
        (Compression.ZLIB, "AAAA"),  # no zlib stream
        (Compression.ZLIB, "AAA"),  # cut base64
        (Compression.NONE, "AAF="),  # base64 with bits behind its end
        (Compression.RESERVED, "AAAA"),
    ],
)
def test_message_that_does_not_decode(world, store, downlink, compression, body) -> None:
    header = FragmentHeader(Originator.DSRSP, compression, True, True, 0, 3)
    command = world.command(40, header.encode() + body)
    handled = downlink.receive_untrusted(command, NOW)
    assert handled.outcome is Outcome.REJECTED
    assert results(world, handled) == {FA}
    assert handled.detail
    assert (store.count_received(), fragments(store)) == (0, [])
    assert downlink.receive_untrusted(command, NOW).response == handled.response


def test_message_that_is_too_large(world, store) -> None:
    downlink = world.downlink(store, limits=Limits(message_octets=1000))
    commands = world.commands(bytes(60_000), 10)  # shrinks well: a bomb
    handled = [downlink.receive_untrusted(command, NOW) for command in commands][-1]
    assert handled.outcome is Outcome.REJECTED
    assert "1000 octets" in handled.detail
    assert results(world, handled) == {FA}
    assert store.count_received() == 0


def test_real_labels_are_stored_as_labels(world, store, downlink) -> None:
    handled = downlink.receive_untrusted(
        world.command(
            5,
            ((1, "Heater"), (3, "EV")),
        ),
        NOW,
    )
    assert handled.outcome is Outcome.LABELS
    assert results(world, handled) == {OK}
    assert store.labels() == {1: "Heater", 3: "EV"}
    downlink.receive_untrusted(world.command(6, ((3, "Car"),)), NOW)
    assert store.labels() == {1: "Heater", 3: "Car"}


@pytest.mark.parametrize("text", ["Heater", "Hot water", "Immersion heater boost", "~", "EVSE"])
def test_one_real_label(world, store, downlink, text) -> None:
    handled = downlink.receive_untrusted(world.command(5, ((1, text),)), NOW)
    assert results(world, handled) == {OK}
    assert store.labels() == {1: text}


def test_our_own_sides_fragment_is_only_text(world, store, downlink) -> None:
    header = FragmentHeader(Originator.CEM, Compression.NONE, True, True, 0, 3)
    handled = downlink.receive_untrusted(world.command(5, header.encode() + "AAAA"), NOW)
    assert handled.outcome is Outcome.LABELS
    assert store.count_received() == 0


def test_replayed_labels_do_not_come_back(world, store, downlink) -> None:
    old = world.command(5, ((1, "old"),))
    downlink.receive_untrusted(old, NOW)
    downlink.receive_untrusted(world.command(6, ((1, "new"),)), NOW)
    assert downlink.receive_untrusted(old, NOW).outcome is Outcome.REPLAY
    assert store.labels() == {1: "new"}


def test_control_message_is_no_label(world, store, downlink) -> None:
    handled = downlink.receive_untrusted(control(world, 5, CapabilitiesWanted()), NOW)
    assert handled.outcome is Outcome.CONTROL
    assert results(world, handled) == {OK}
    assert (store.labels(), store.count_received()) == ({}, 0)


def test_below_the_replay_window(world) -> None:
    store = world.store(replay_window=4)
    downlink = world.downlink(store, limits=Limits(replay_window=4), inbox=100)
    old = world.commands(b"old", 1, 9)[0]
    downlink.receive_untrusted(old, NOW)
    for counter in range(10, 20):
        downlink.receive_untrusted(world.commands(b"new", counter, counter)[0], NOW)
    received = store.count_received()
    handled = downlink.receive_untrusted(old, NOW)
    # Its counter is forgotten, but not that its message was delivered.
    assert handled.outcome is Outcome.REPLAY
    assert results(world, handled) == {0}
    assert store.count_received() == received


# What gets no answer


def refused(downlink, store, octets, match) -> None:
    before = snapshot(store)
    with pytest.raises(CommandRefused, match=match):
        downlink.receive_untrusted(octets, NOW)
    assert snapshot(store) == before


def test_garbage(downlink, store) -> None:
    for octets in (b"", b"\x00", b"\xdd", b"<xml/>", bytes(300), os.urandom(305), bytes(5000)):
        refused(downlink, store, octets, "not a GBCS message")


def test_truncated_anywhere(world, downlink, store) -> None:
    command = world.commands(MESSAGE, 500)[0]
    for end in range(len(command)):
        refused(downlink, store, command[:end], "not a GBCS message|MAC")
    refused(downlink, store, command + b"\x00", "not a GBCS message")


def test_any_flipped_bit(world, downlink, store) -> None:
    command = world.commands(MESSAGE, 500)[0]
    for place in range(len(command)):
        broken = bytearray(command)
        broken[place] ^= 1 << (place % 8)
        refused(downlink, store, bytes(broken), "not a GBCS|is for|obeys|does not hold|MAC only")


def test_forged_mac(world, downlink, store) -> None:
    forged = world.command(1, ((1, "x"),), broker_secret=os.urandom(32))
    refused(downlink, store, forged, "MAC does not hold")


def test_forged_signature(world, downlink, store) -> None:
    stranger = EcdsaSigner(ec.generate_private_key(ec.SECP256R1()))
    refused(downlink, store, world.command(1, ((1, "x"),), signer=stranger), "signature does not")


def test_wrong_target(world, downlink, store) -> None:
    foreign = world.command(1, ((1, "x"),), target_id=world.other_device_id)
    refused(downlink, store, foreign, str(world.other_device_id))


def test_foreign_supplier(world, downlink, store) -> None:
    foreign = world.command(1, ((1, "x"),), originator_id=world.load_controller_id)
    refused(downlink, store, foreign, "obeys")


def test_other_kinds_of_message(world, downlink, store) -> None:
    command = parse_untrusted(world.command(1, ((1, "x"),)))
    signed = command.signed_pre_command
    for octets in (signed.to_bytes(), signed.pre_command.to_bytes()):
        refused(downlink, store, octets, "with a MAC only")
    handled = downlink.receive_untrusted(command.to_bytes(), NOW)
    refused(downlink, store, handled.response, "a Response")


@given(octets=st.binary(max_size=1300))
def test_any_octets_end_in_refusal(world, octets) -> None:
    downlink = world.downlink(world.store())
    with pytest.raises(CommandRefused):
        downlink.receive_untrusted(octets, NOW)


# Durability, seen from the core


class FailingStore(SqliteStore):
    """A store whose disk is full when it is told so."""

    full = False

    def commit(self, changes) -> None:
        if self.full:
            raise StoreError("the disk is full")
        super().commit(changes)


def test_full_disk_is_a_temporary_failure_and_nothing_is_believed(world) -> None:
    store = FailingStore(":memory:", world.device_id, replay_window=64)
    downlink = world.downlink(store)
    commands = world.commands(MESSAGE, 500)
    for command in commands[:3]:
        downlink.receive_untrusted(command, NOW)
    for command in commands[3:]:
        store.full = True
        handled = downlink.receive_untrusted(command, NOW)
        assert handled.outcome is Outcome.STORE_FAILED
        assert results(world, handled) == {LATER}
        assert store.count_received() == 0
        store.full = False
        assert results(world, downlink.receive_untrusted(command, NOW)) == {OK}
    assert store.next_received(0).message == MESSAGE


def test_restart_after_every_fragment(world, store) -> None:
    commands = world.commands(MESSAGE, 500)
    random.Random(3).shuffle(commands)
    for command in commands:
        world.downlink(store).receive_untrusted(command, NOW)
    assert store.next_received(0).message == MESSAGE


def test_application_that_takes_nothing(world, store) -> None:
    downlink = world.downlink(store, inbox=2)
    for counter in (10, 20):
        downlink.receive_untrusted(world.commands(b"x", counter, counter)[0], NOW)
    late = world.commands(b"y", 30, 30)[0]
    handled = downlink.receive_untrusted(late, NOW)
    assert handled.outcome is Outcome.BUSY
    assert results(world, handled) == {LATER}
    store.commit(Changes(acknowledged=store.next_received(0).ref))
    assert downlink.receive_untrusted(late, NOW).outcome is Outcome.MESSAGE


def test_message_that_never_completes_expires(world, store) -> None:
    told = []
    tunnel = world.tunnel(store, told=told.append)
    downlink = world.downlink(store, tunnel=tunnel)
    commands = world.commands(MESSAGE, 500)
    downlink.receive_untrusted(commands[0], NOW)
    deadline = tunnel.get_timer()
    tunnel.handle_timer(deadline - 1)
    assert len(fragments(store)) == 1
    tunnel.handle_timer(deadline)
    assert [type(event) for event in told[-1].events] == [MessageExpired]
    assert fragments(store) == []
    handled = downlink.receive_untrusted(commands[1], deadline + 1)
    assert results(world, handled) == {FA}


def test_expiry_is_kept_over_a_restart(world, store) -> None:
    tunnel = world.tunnel(store)
    world.downlink(store, tunnel=tunnel).receive_untrusted(world.commands(MESSAGE, 500)[0], NOW)
    restarted = world.tunnel(store)
    restarted.start(NOW + 1)
    world.downlink(store, tunnel=restarted)
    restarted.handle_timer(tunnel.get_timer() - 1)
    assert len(fragments(store)) == 1
    restarted.handle_timer(tunnel.get_timer())
    assert fragments(store) == []


def test_newer_use_of_an_id_ends_the_older_message(world, store) -> None:
    told = []
    downlink = world.downlink(store, tunnel=world.tunnel(store, told=told.append))
    downlink.receive_untrusted(world.commands(MESSAGE, 500, 1)[0], NOW)
    handled = downlink.receive_untrusted(world.commands(MESSAGE, 600, 1)[0], NOW)
    assert handled.outcome is Outcome.FRAGMENT
    (end,) = [event for event in told[-1].events if isinstance(event, MessageAborted)]
    assert end.first_counter == 500
    assert len(fragments(store)) == 1


# Control messages


def control(world, counter, *records, number=3):
    header = FragmentHeader(Originator.DSRSP, Compression.CONTROL, True, True, 0, number)
    text = b64encode(build_control(records)).decode("ascii")
    return world.command(counter, header.encode() + text)


def sent_records(world, store):
    """What the alerts that wait to be sent tell."""
    records = []
    reassembler = Reassembler(originator=Originator.CEM, carrier=ECS200)
    while (alert := store.next_alert()) is not None:
        text = world.alert(alert.octets).text
        for event in reassembler.receive_fragment(
            b"cem", text, originator_counter=alert.originator_counter, now=NOW
        ):
            if isinstance(event, ControlReceived):
                records += event.message.records
        store.commit(Changes(done_alerts=(alert.originator_counter,)))
    return records


def test_echo_is_answered(world, store, downlink) -> None:
    handled = downlink.receive_untrusted(control(world, 5, EchoRequest(b"nonce123", b"x")), NOW)
    assert (handled.outcome, results(world, handled)) == (Outcome.CONTROL, {OK})
    assert sent_records(world, store) == [EchoReply(b"nonce123", b"x")]


def test_replayed_echo_is_not_answered_twice(world, store, downlink) -> None:
    command = control(world, 5, EchoRequest(b"nonce123", b"x"))
    first = downlink.receive_untrusted(command, NOW)
    assert len(sent_records(world, store)) == 1
    assert downlink.receive_untrusted(command, NOW).response == first.response
    assert sent_records(world, store) == []


def test_capabilities_are_told_and_learnt(world, store, downlink) -> None:
    theirs = Capabilities(window_bits=12)
    downlink.receive_untrusted(control(world, 5, CapabilitiesWanted(), theirs), NOW)
    records = sent_records(world, store)
    assert {type(record) for record in records} == {Capabilities}
    assert records[0].receipts is ReceiptPolicy.OFF
    assert any(key.endswith("/c") for key in store.tunnel_rows())


def test_rejected_message_is_told_with_its_reason(world, store, downlink) -> None:
    header = FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, True, 0, 3)
    downlink.receive_untrusted(world.command(40, header.encode() + "AAAA"), NOW)
    (abort,) = sent_records(world, store)
    assert isinstance(abort, Abort)
    assert abort.message.tunnel_message_id == 3


def test_damaged_state_is_told(world, store) -> None:
    store.commit(Changes(rows={"nonsense": b"x"}))
    with pytest.raises(StoreError, match="damaged"):
        world.tunnel(store).start(NOW)
    handled = world.downlink(store).receive_untrusted(world.commands(b"x", 1)[0], NOW)
    assert results(world, handled) == {LATER}
