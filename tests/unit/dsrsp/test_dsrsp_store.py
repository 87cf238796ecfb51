"""The state file: whose it is, who may read it, and what happens when it is no state file."""

from __future__ import annotations

import sqlite3
import stat
from dataclasses import replace
from pathlib import Path

import pytest

import dsrsp.errors
from dsrsp.core.offers import OfferState, RouteRecord
from dsrsp.core.request import Request, State
from dsrsp.errors import DsrspError, StorageError
from dsrsp.ports import Changes, IncomingMessage, SentMessage
from dsrsp.store import SqliteStore
from gbcs.counters import OriginatorCounter
from gbcs.entity_id import EntityId
from gbcs.messages import Label, PreCommand
from smtunnel import DeliveryState, MessageStatus, advance
from smtunnel.routes import RouteStatus

SUPPLIER = EntityId(b"supplier")
DEVICE = EntityId(b"a device")
HUGE = 2**64 - 1


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.sqlite")


def opened(path):
    return SqliteStore(path, supplier_id=SUPPLIER)


def sent(ref="one", **changes):
    status = MessageStatus(ref=ref, fragments_total=2, message_octets=3)
    return SentMessage(DEVICE, advance(status, **changes))


def request(counter=7, index=0, state=State.RESERVED):
    pre_command = PreCommand(SUPPLIER, DEVICE, counter, (Label(1, "x"),))
    return Request("one", index, pre_command, state)


def test_only_its_owner_may_read_it(path):
    opened(path).close()
    assert stat.S_IMODE(Path(path).stat().st_mode) == 0o600


def test_the_state_of_another_supplier_is_refused(path):
    opened(path).close()
    with pytest.raises(StorageError, match="give each supplier a state file of its own"):
        SqliteStore(path, supplier_id=DEVICE)
    opened(path).close()


def test_one_process_at_a_time(path):
    store = opened(path)
    with pytest.raises(StorageError, match="one gateway at a time"):
        opened(path)
    store.close()
    opened(path).close()


@pytest.mark.parametrize(
    "content", [b"no database at all" * 100, b"SQLite format 3\x00" + b"\xff" * 500]
)
def test_what_is_no_state_file_is_refused(path, content):
    Path(path).write_bytes(content)
    with pytest.raises(StorageError, match=r"state\.sqlite"):
        opened(path)


def test_another_format_is_refused(path):
    opened(path).close()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(StorageError, match="format 99") as refused:
        opened(path)
    assert "counter_floor" in str(refused.value)


def test_the_format_before_is_refused_and_what_to_do_is_told(path):
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE message (ref TEXT)")
        database.execute("PRAGMA user_version=1")
    database.close()
    with pytest.raises(StorageError, match="begin with a new state file and a counter_floor"):
        opened(path)


def test_counters_are_reserved_before_they_are_given_out(path):
    store = opened(path)
    counter = OriginatorCounter(store.counter_store(), reserve=10)
    assert counter.issue_block(3) == 1
    store.close()  # as after a crash: nothing but the reservation is known
    store = opened(path)
    assert OriginatorCounter(store.counter_store(), reserve=10).issue_block(1) == 11
    store.close()


def test_counters_of_64_bits_and_their_order(path):
    store = opened(path)
    store.reserve_counter(HUGE)
    store.reserve_counter(5)
    assert store.load_counter() == HUGE
    late = sent(tunnel_message_id=9, first_counter=HUGE)
    store.keep(Changes(sent=(late,), requests=(request(HUGE), request(5))), now=1.0)
    store.close()
    store = opened(path)
    assert store.message("one") == late
    assert store.request(HUGE).originator_counter == HUGE
    assert [one.originator_counter for one in store.unfinished_requests()] == [5, HUGE]
    store.close()


def test_a_request_comes_back_as_it_was(path):
    store = opened(path)
    one = request(state=State.ACCEPTED)
    one.deadline, one.signed_request, one.posts, one.attempt = 12.5, b"<xml/>", 3, 2
    one.results, one.reason = (0, 250), "because"
    store.keep(Changes(requests=(one,)), now=1.0)
    assert store.request(7) == one
    assert store.unfinished_requests() == [one]
    assert store.request(8) is None
    store.close()


@pytest.mark.parametrize("state", [State.TRANSFORMING, State.CORRELATING])
def test_what_is_not_signed_begins_again(path, state):
    store = opened(path)
    store.keep(Changes(requests=(request(state=state),)), now=1.0)
    assert store.request(7).state is State.RESERVED
    store.close()


def test_an_ended_message_keeps_its_status_for_a_while(path):
    store = opened(path)
    one = request(state=State.SIGNED)
    one.signed_request = b"<xml/>"
    store.keep(Changes(sent=(sent(),), requests=(one,)), now=1.0)
    assert store.unfinished_messages() == [sent()]
    failed = sent(state=DeliveryState.FAILED, reason="x")
    one.state = State.REFUSED
    store.keep(Changes(sent=(failed,), requests=(one,)), now=2.0)
    assert store.message("one") == failed
    assert store.request(7).signed_request is None
    assert store.unfinished_messages() == []
    assert store.unfinished_requests() == []
    assert store.forget_finished(before=2.0, requests_before=2.0) == 0
    assert store.forget_finished(before=3.0, requests_before=3.0) == 1
    assert store.message("one") is None
    assert store.request(7) is None
    store.close()


def test_news_of_an_ended_message_do_not_keep_it_longer(path):
    store = opened(path)
    store.keep(Changes(sent=(sent(state=DeliveryState.REASSEMBLED),)), now=1.0)
    store.keep(Changes(sent=(sent(state=DeliveryState.ANSWERED),)), now=5.0)
    assert store.message("one").status.state is DeliveryState.ANSWERED
    assert store.forget_finished(before=2.0, requests_before=2.0) == 1
    store.close()


def test_what_one_input_changed_is_kept_whole_or_not_at_all(path):
    store = opened(path)
    store.keep(Changes(tunnel={"a/r": b"window 1", "a/f/1/0": b"text"}), now=1.0)
    assert dict(store.tunnel_rows()) == {"a/r": b"window 1", "a/f/1/0": b"text"}
    message = IncomingMessage("ref", DEVICE, b"whole", 6.0)
    whole = Changes(tunnel={"a/r": b"window 2", "a/f/1/0": None}, received=(message,))
    store.keep(whole, now=2.0)
    assert dict(store.tunnel_rows()) == {"a/r": b"window 2"}
    assert store.unacknowledged() == [message]
    twice = Changes(
        tunnel={"a/r": b"window 3"}, sent=(sent(),), requests=(request(),), received=(message,)
    )
    with pytest.raises(StorageError, match="UNIQUE"):
        store.keep(twice, now=3.0)
    assert dict(store.tunnel_rows()) == {"a/r": b"window 2"}
    assert store.message("one") is None
    assert store.request(7) is None
    store.keep(Changes(acknowledged="ref"), now=7.0)
    assert store.unacknowledged() == []
    store.check_writable()
    store.close()


def test_a_closed_store_says_so(path):
    store = opened(path)
    store.close()
    with pytest.raises(StorageError):
        store.unfinished_messages()


def test_the_error_tree_is_as_the_docstring_says():
    def tree(cls, depth=0):
        yield depth, cls.__name__
        for sub in cls.__subclasses__():
            # dsrsp.openadr has errors of its own, which are there only once it was imported.
            if sub.__module__ == dsrsp.errors.__name__:
                yield from tree(sub, depth + 1)

    lines = [
        line
        for line in (dsrsp.errors.__doc__ or "").splitlines()
        if "──" in line or "Dsrsp" in line
    ]
    told = []
    for line in lines:
        if line.strip().startswith("Dsrsp"):
            told.append((0, line.split()[0]))
        else:
            before, after = line.split("── ", 1)
            told.append((1 + (len(before.rstrip("├└")) - 4) // 4, after.split()[0]))
    assert told == list(tree(DsrspError))


def test_what_is_held_is_seen_and_is_durable_with_the_next_write(path):
    store = opened(path)
    store.hold(Changes(tunnel={"a": b"1"}), now=1.0)
    assert store.holds
    assert store.tunnel_rows() == [("a", b"1")]
    store.abandon()  # killed
    assert (store.tunnel_rows(), store.holds) == ([], False)
    store.hold(Changes(tunnel={"flushed": b"1"}), now=1.0)
    store.flush()
    store.hold(Changes(tunnel={"kept": b"1"}), now=1.0)
    store.reserve_counter(64)  # as every write does
    assert not store.holds
    store.hold(Changes(tunnel={"last": b"1"}), now=1.0)
    store.close()
    store = opened(path)
    assert sorted(key for key, _ in store.tunnel_rows()) == ["flushed", "kept"]
    store.close()


def test_route_offers_come_back_and_those_that_have_ended_go(path):
    store = opened(path)
    first = RouteRecord(device=DEVICE, number=1, terms=b"t", offered_at=1.0, not_after=10.0)
    answered = replace(
        first, state=OfferState.REFUSED, status=RouteStatus.NOT_WANTED, answered_at=2.0
    )
    second = replace(first, number=2, offered_at=5.0, not_after=20.0, by_hand=True)
    for record in (first, answered, second):
        store.keep(Changes(offers=(record,)), now=1.0)
    assert store.route_offers() == [answered, second]
    third = replace(first, number=3, offered_at=15.0, not_after=30.0)
    store.keep(Changes(offers=(third,)), now=1.0)
    store.close()
    store = opened(path)
    assert store.route_offers() == [second, third]
    store.close()
