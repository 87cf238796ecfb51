"""The SQLite store: whole or not at all, private, and of one process."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from cem.errors import StoreError, StoreInUse
from cem.ports import (
    Answer,
    BuiltAlert,
    CommandOutcome,
    MessageKey,
    NewMessage,
    OutgoingMessage,
    StoredFragment,
)
from cem.store import SqliteStore
from smtunnel import DeliveryState, MessageStatus, advance

PEER = bytes(8)
ANSWER = Answer(bytes(32), b"response")


def outcome(counter, **changes):
    return CommandOutcome(peer=PEER, originator_counter=counter, answer=ANSWER, **changes)


def new_message(world, ref="r"):
    return NewMessage(ref, world.supplier_id, b"message", 5.0)


def outgoing(ref):
    status = MessageStatus(ref=ref, fragments_total=2, message_octets=1)
    return OutgoingMessage(ref, b"m", "auto", status)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "cem.sqlite"


@pytest.fixture
def store(world, path):
    opened = world.store(path)
    yield opened
    opened.close()


def test_counters_survive(world, path) -> None:
    for mark in (64, 2**63, 2**64 - 1):
        store = world.store(path)
        store.counters.reserve(mark)
        store.close()
        store = world.store(path)
        assert store.counters.load() == mark
        store.close()


def test_mark_does_not_go_back(store) -> None:
    store.counters.reserve(100)
    for mark in (100, 99):
        with pytest.raises(StoreError, match="twice"):
            store.counters.reserve(mark)
    assert store.counters.load() == 100


def test_everything_survives(world, path) -> None:
    key = MessageKey(PEER, 3, 2**63 + 1)
    fragment = StoredFragment(key, 2**63 + 2, "payload", 1.5)
    store = world.store(path)
    store.commit_command(outcome(7, window=b"w", fragment=fragment, labels=((2, "EV"),)))
    store.commit_command(outcome(8, window=b"w2", message=new_message(world)))
    store.add_outgoing(outgoing("out"))
    store.close()
    store = world.store(path)
    assert store.fragments() == [fragment]
    assert store.replay_windows() == {PEER: b"w2"}
    assert store.answer(PEER, 7) == ANSWER
    assert store.labels() == {2: "EV"}
    assert store.next_received(0).message == b"message"
    assert store.next_outgoing() == outgoing("out")
    store.close()


def test_a_command_is_stored_as_one(world, store) -> None:
    store.commit_command(outcome(1, message=new_message(world)))
    fragment = StoredFragment(MessageKey(PEER, 0, 2), 2, "x", 0.0)
    with pytest.raises(StoreError):  # the same message again
        store.commit_command(outcome(2, fragment=fragment, message=new_message(world)))
    assert store.fragments() == []
    assert store.answer(PEER, 2) is None
    assert store.count_received() == 1


def test_completing_drops_the_fragments(world, store) -> None:
    key, other = MessageKey(PEER, 0, 1), MessageKey(PEER, 1, 10)
    for counter, owner in ((1, key), (10, other)):
        fragment = StoredFragment(owner, counter, "x", 0.0)
        store.commit_command(outcome(counter, fragment=fragment))
    store.commit_command(outcome(2, ended=(key,), message=new_message(world)))
    assert [fragment.key for fragment in store.fragments()] == [other]
    store.end_messages([other])
    assert store.fragments() == []


def test_answers_are_kept_for_the_window(world) -> None:
    store = world.store(replay_window=3)
    for counter in (5, 1, 9, 2**63, 7):
        store.commit_command(outcome(counter))
    kept = [counter for counter in (1, 5, 7, 9, 2**63) if store.answer(PEER, counter)]
    assert kept == [7, 9, 2**63]


def test_received_in_order_until_acknowledged(world, store) -> None:
    for counter, ref in enumerate("abc"):
        store.commit_command(outcome(counter, message=new_message(world, ref)))
    store.acknowledge("a", None)
    first = store.next_received(0)
    assert first.ref == "b"
    assert store.next_received(first.number).ref == "c"
    store.acknowledge("a", None)  # twice is once
    assert store.count_received() == 2


def test_life_of_an_outgoing_message(store) -> None:
    for ref in ("one", "two"):
        store.add_outgoing(outgoing(ref))
    assert store.count_outgoing() == 2
    assert store.last_tunnel_message_id() is None
    status = advance(outgoing("one").status, tunnel_message_id=9, first_counter=2**64 - 2)
    alerts = [BuiltAlert(n, 2**64 - 2 + n, f"p{n}", bytes([n])) for n in range(2)]
    store.save_alerts(status, alerts)
    assert store.next_outgoing().status == status
    assert store.last_tunnel_message_id() == 9
    assert store.unsent_alerts("one") == alerts
    status = advance(status, fragments_accepted=1)
    store.alert_sent(status, 0)
    assert store.unsent_alerts("one") == alerts[1:]
    assert store.status("one") == status
    store.finish_outgoing(advance(status, DeliveryState.SENT))
    assert store.unsent_alerts("one") == []
    assert store.next_outgoing().ref == "two"
    assert store.status("one").state is DeliveryState.SENT
    assert store.count_outgoing() == 1


def test_answered_message_is_sent_no_more(store) -> None:
    store.add_outgoing(outgoing("one"))
    store.acknowledge("r", advance(outgoing("one").status, DeliveryState.ANSWERED))
    assert store.next_outgoing() is None


def test_only_the_newest_finished_messages_are_remembered(world) -> None:
    store = world.store(finished_messages=2)
    for ref in "abcd":
        store.add_outgoing(outgoing(ref))
        if ref != "b":
            store.finish_outgoing(advance(outgoing(ref).status, DeliveryState.SENT))
    # b waits still; of the finished a, c, d the two newest are known.
    assert [ref for ref in "abcd" if store.status(ref)] == ["b", "c", "d"]


def test_file_is_private(store, path) -> None:
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


def test_second_process_is_refused(store, path, world) -> None:
    program = (
        "import sys; from cem import SqliteStore, StoreInUse; from gbcs import EntityId\n"
        "try: SqliteStore(sys.argv[1], EntityId.parse(sys.argv[2]), replay_window=4)\n"
        "except StoreInUse as error: print(error)"
    )
    arguments = [sys.executable, "-c", program, str(path), str(world.device_id)]
    told = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
    assert "another process" in told


def test_second_opening_in_one_process_is_refused(store, path, world) -> None:
    with pytest.raises(StoreInUse):
        world.store(path)


def test_state_of_another_device_is_refused(world, path) -> None:
    world.store(path).close()
    with pytest.raises(StoreError, match="another device"):
        SqliteStore(str(path), world.other_device_id, replay_window=4)


def test_state_of_another_format_is_refused(world, path) -> None:
    world.store(path).close()
    with sqlite3.connect(path) as database:
        database.execute("UPDATE facts SET value = '0' WHERE name = 'format'")
    database.close()
    with pytest.raises(StoreError, match="another version"):
        world.store(path)


def test_not_a_database(world, path) -> None:
    path.parent.mkdir()
    path.write_bytes(os.urandom(5000))
    with pytest.raises(StoreError, match="counter_floor"):
        world.store(path)


def test_folder_that_cannot_be_made(world, path) -> None:
    path.parent.write_bytes(b"a file")
    with pytest.raises(StoreError, match="cannot open or make"):
        world.store(path)


def test_closed_store(world) -> None:
    store = world.store()
    store.close()
    with pytest.raises(StoreError):
        store.counters.load()
