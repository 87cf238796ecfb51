"""The SQLite store: whole or not at all, private, and of one process."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys

import pytest

from cem.core.routes import KnownOffer
from cem.errors import StoreError, StoreInUse
from cem.ports import BuiltAlert, Changes, CommandAnswer, NewMessage
from cem.store import SqliteStore
from smtunnel import DeliveryState, MessageStatus, Route, advance
from smtunnel.routes import RouteOffer, RouteStatus

PEER = bytes(8)


def answer(counter):
    return CommandAnswer(PEER, counter, bytes(32), b"response")


def new_message(world, ref="r"):
    return NewMessage(ref, world.supplier_id, b"message", 5.0, Route.ROUTE_2B)


def status(ref, **changes):
    return MessageStatus(ref=ref, fragments_total=2, message_octets=1, **changes)


def alert(counter, ref="one", **changes):
    index = changes.get("index", 0)
    return BuiltAlert(counter, ref, index, 1, PEER, f"p{counter}", b"alert %d" % counter)


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
    sent = status(
        "out", tunnel_message_id=3, first_counter=2**63, receipt_expected=True,
        routes=frozenset(Route),
    )  # fmt: skip
    offer = RouteOffer(
        offer=7, addresses=("wss://a:1",), pins=(bytes(32),), not_before=1, not_after=2,
        message_octets=65536,
    )  # fmt: skip
    store = world.store(path)
    store.commit(Changes(rows={"a": b"1", "b": b"2"}, labels=((2, "EV"),), answer=answer(7)))
    store.commit(Changes(rows={"a": None, "b": b"3"}, received=(new_message(world),)))
    store.commit(Changes(statuses=(sent,), alerts=(alert(2**63, "out"),)))
    store.commit(Changes(offer=KnownOffer(offer, RouteStatus.ACCEPTED)))
    store.commit(Changes(offer=KnownOffer(offer, RouteStatus.ACCEPTED, withdrawn=True)))
    store.close()
    store = world.store(path)
    assert store.offer() == KnownOffer(offer, RouteStatus.ACCEPTED, withdrawn=True)
    assert store.tunnel_rows() == {"b": b"3"}
    assert store.answer(PEER, 7) == answer(7)
    assert store.labels() == {2: "EV"}
    received = store.next_received(0)
    assert (received.message, received.route) == (b"message", Route.ROUTE_2B)
    assert store.status("out") == sent
    assert store.next_alert() == alert(2**63, "out")
    store.close()


def test_an_input_is_stored_as_one(world, store) -> None:
    store.commit(Changes(received=(new_message(world),)))
    with pytest.raises(StoreError):  # the same message again
        store.commit(
            Changes(
                rows={"a": b"1"},
                received=(new_message(world),),
                statuses=(status("s"),),
                alerts=(alert(1),),
                answer=answer(2),
                labels=((1, "x"),),
            )
        )
    assert (store.tunnel_rows(), store.labels(), store.alert_counters()) == ({}, {}, set())
    assert store.answer(PEER, 2) is None
    assert store.status("s") is None
    assert store.count_received() == 1


def test_answers_are_kept_for_the_window(world) -> None:
    store = world.store(replay_window=3)
    for counter in (5, 1, 9, 2**63, 7):
        store.commit(Changes(answer=answer(counter)))
    kept = [counter for counter in (1, 5, 7, 9, 2**63) if store.answer(PEER, counter)]
    assert kept == [7, 9, 2**63]


def test_received_in_order_until_acknowledged(world, store) -> None:
    for ref in "abc":
        store.commit(Changes(received=(new_message(world, ref),)))
    store.commit(Changes(acknowledged="a"))
    first = store.next_received(0)
    assert first.ref == "b"
    assert store.next_received(first.number).ref == "c"
    store.commit(Changes(acknowledged="a"))  # twice is once
    assert store.count_received() == 2


def test_alerts_go_out_in_the_order_of_their_coming(store) -> None:
    store.commit(Changes(alerts=(alert(9), alert(2**63))))
    store.commit(Changes(alerts=(alert(5, "other"),)))
    assert store.alert_counters() == {9, 2**63, 5}
    for counter in (9, 2**63, 5):
        assert store.next_alert().originator_counter == counter
        store.commit(Changes(done_alerts=(counter,)))
    assert store.next_alert() is None


def test_life_of_an_outgoing_message(store) -> None:
    store.commit(Changes(statuses=(status("one"), status("two"))))
    assert store.count_outgoing() == 2
    started = status("one", tunnel_message_id=9, first_counter=2**64 - 2, receipt_expected=True)
    sent = advance(started, DeliveryState.SENT, fragments_accepted=2)
    store.commit(Changes(statuses=(started,), alerts=(alert(1), alert(2), alert(3, "two"))))
    store.commit(Changes(statuses=(sent,)))
    assert store.status("one") == sent
    assert store.count_outgoing() == 2  # its receipt is to come
    store.commit(Changes(statuses=(advance(sent, DeliveryState.REASSEMBLED),)))
    assert store.status("one").state is DeliveryState.REASSEMBLED
    assert store.count_outgoing() == 1
    assert store.alert_counters() == {3}  # what has arrived is sent no more


def test_message_that_begins_anew_drops_its_old_alerts_only(store) -> None:
    started = status("one", tunnel_message_id=9, first_counter=1)
    store.commit(Changes(statuses=(started,), alerts=(alert(1), alert(2))))
    anew = status("one", tunnel_message_id=10, first_counter=7)
    store.commit(Changes(statuses=(status("one"), anew), alerts=(alert(7), alert(8))))
    assert store.alert_counters() == {7, 8}
    assert store.status("one") == anew


def test_only_the_newest_finished_messages_are_remembered(world) -> None:
    store = world.store(finished_messages=2)
    for ref in "abcd":
        store.commit(Changes(statuses=(status(ref),)))
        if ref != "b":
            store.commit(Changes(statuses=(advance(status(ref), DeliveryState.SENT),)))
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
    with pytest.raises(StoreError, match="give each device a state file"):
        SqliteStore(str(path), world.other_device_id, replay_window=4)


def test_state_of_another_format_is_refused(world, path) -> None:
    path.parent.mkdir(parents=True)
    with sqlite3.connect(path) as database:  # as formats 1 to 3 were
        database.execute("CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    database.close()
    with pytest.raises(StoreError, match=r"the version that wrote it.*counter_floor"):
        world.store(path)


def test_not_a_database(world, path) -> None:
    path.parent.mkdir()
    path.write_bytes(os.urandom(5000))
    with pytest.raises(StoreError, match="counter_floor"):
        world.store(path)


def test_closed_store(world) -> None:
    store = world.store()
    store.close()
    with pytest.raises(StoreError):
        store.counters.load()


def test_what_is_held_is_seen_and_is_durable_with_the_next_commit(world, path) -> None:
    store = world.store(path)
    store.hold(Changes(rows={"a": b"1"}))
    assert store.holds
    assert store.tunnel_rows() == {"a": b"1"}
    store.abandon()  # killed
    assert (store.tunnel_rows(), store.holds) == ({}, False)
    for name in ("flush", "commit"):
        store.hold(Changes(rows={name: b"1"}))
        store.flush() if name == "flush" else store.commit(Changes(rows={"b": b"2"}))
        assert not store.holds
    store.hold(Changes(rows={"last": b"1"}))
    store.close()
    store = world.store(path)
    assert set(store.tunnel_rows()) == {"flush", "commit", "b"}
    store.close()
