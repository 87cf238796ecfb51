"""Both routes at one endpoint: which messages go where, when, and what a cut connection does."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest

from smtunnel import (
    ROUTE_2B,
    Answer,
    Compression,
    Confirmation,
    DeliveryState,
    Effects,
    Endpoint,
    FragmentHeader,
    FragmentIgnored,
    IgnoreReason,
    Limits,
    LocalError,
    MessageRejected,
    MessageTooLong,
    NotAFragment,
    Originator,
    ReceiptPolicy,
    ReceiptSettings,
    Result,
    Route,
    RouteChoice,
    SendPolicy,
    StateError,
    Transmit,
    parse_untrusted_fragment,
)
from smtunnel.control import Record, build_control
from smtunnel.events import ControlReceived
from smtunnel.links import Link
from smtunnel.records import Abort, AbortCode, ControlReceipt, EchoReply, EchoRequest, Receipt

DSRSP, CEM = b"dsrsp", b"cem"
NOISE = random.Random(4).randbytes(5000)
TAGS = 65_536
BIG = 65_536
RESULTS = {
    Answer.SUCCESS: Result.SUCCESS,
    Answer.TEMPORARY_FAILURE: Result.BUSY,
    Answer.OTHER_REASON: Result.REJECTED,
}


class Counters:
    def __init__(self) -> None:
        self.next = 1

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        while self.next % TAGS in avoid_tags:
            self.next += 1
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        self.next += (tag + index - self.next) % TAGS + 1
        return self.next - 1


class Side:
    """One end, its store, and what it has given out."""

    def __init__(self, side: Originator, **options: Any) -> None:
        self.side = side
        down = side is Originator.DSRSP
        self.confirmation = Confirmation.RESULTS if down else Confirmation.RECEIPTS
        self.policy = {
            name: options.pop(name)
            for name in list(options)
            if name in SendPolicy.__dataclass_fields__
        }
        self.options = options
        self.counters = Counters()
        self.rows: dict[str, bytes] = {}
        self.waiting: list[Transmit] = []
        self.received: list[tuple[bytes, Route]] = []
        self.states: dict[str, DeliveryState] = {}
        self.reasons: dict[str, str | None] = {}
        self.restart()

    def restart(self, now: float = 0.0) -> Effects:
        policy = SendPolicy(confirmation=self.confirmation, retry_jitter=0.0, **self.policy)
        self.endpoint = Endpoint(
            side=self.side,
            counters=self.counters,
            policy=policy,
            random_fraction=lambda: 0.5,
            **self.options,
        )
        self.waiting = []
        return self.keep(self.endpoint.restore(self.rows.items(), now))

    def keep(self, effects: Effects) -> Effects:
        for key, octets in effects.saves.items():
            if octets is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = octets
        self.received += [(received.message, received.route) for received in effects.received]
        self.waiting += effects.transmits
        for changed in effects.statuses:
            self.states[changed.status.ref] = changed.status.state
            self.reasons[changed.status.ref] = changed.status.reason
        return effects

    def take(self, ref: str | None = None) -> list[Transmit]:
        """Take what was given out, of one message or of all."""
        found = [t for t in self.waiting if ref in (None, t.ref)]
        self.waiting = [t for t in self.waiting if t not in found]
        return found


class Pair:
    """A DSRSP and a CEM that know each other, carried between by hand."""

    def __init__(self, dsrsp: dict[str, Any] | None = None, **cem: Any) -> None:
        self.dsrsp = Side(Originator.DSRSP, **(dsrsp or {}))
        self.cem = Side(Originator.CEM, **cem)
        self.now = 0.0
        self.said: list[Record] = []
        self.cem.keep(self.cem.endpoint.announce(DSRSP, 0.0))
        self.carry()
        self.said.clear()

    def up(self, message_octets: int = BIG) -> None:
        for side, peer in ((self.dsrsp, CEM), (self.cem, DSRSP)):
            side.keep(side.endpoint.route_up(peer, self.now, message_octets=message_octets))

    def down(self) -> None:
        for side, peer in ((self.dsrsp, CEM), (self.cem, DSRSP)):
            side.waiting = [t for t in side.waiting if t.route is Route.ROUTE_2A]
            side.keep(side.endpoint.route_down(peer, self.now))

    def carry(self) -> None:
        """Carry all that waits, both ways, until nothing waits."""
        while self.dsrsp.waiting or self.cem.waiting:
            for side in (self.dsrsp, self.cem):
                for transmit in side.take():
                    counter = transmit.originator_counter
                    side.keep(side.endpoint.on_transmitted(counter, self.now))
                    self.deliver(side, transmit)

    def deliver(self, side: Side, transmit: Transmit, *, busy: bool = False) -> Effects:
        to = self.cem if side is self.dsrsp else self.dsrsp
        name = DSRSP if side is self.dsrsp else CEM
        counter = transmit.originator_counter
        call: Any = to.endpoint.on_fragment
        if transmit.route is Route.ROUTE_2B:
            call = to.endpoint.on_message
        effects = to.keep(
            call(name, transmit.payload, originator_counter=counter, now=self.now, busy=busy)
        )
        for event in effects.events:
            if isinstance(event, ControlReceived):
                self.said += event.message.records
        if side is self.dsrsp and transmit.route is Route.ROUTE_2A:
            assert effects.answer is not None
            side.keep(side.endpoint.on_result(counter, RESULTS[effects.answer], self.now))
        return effects

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for side in (self.dsrsp, self.cem):
            side.keep(side.endpoint.on_timer(self.now))

    def send(self, side: Side, ref: str, message: bytes, **options: Any) -> list[Transmit]:
        peer = CEM if side is self.dsrsp else DSRSP
        side.keep(side.endpoint.send(ref, peer, message, self.now, **options))
        return [t for t in side.waiting if t.ref == ref]


def routes(transmits: list[Transmit]) -> list[Route]:
    return [t.route for t in transmits]


A, B = Route.ROUTE_2A, Route.ROUTE_2B


# What goes where


@pytest.mark.parametrize("end", ["dsrsp", "cem"])
def test_a_message_goes_whole_and_is_confirmed_by_a_receipt_at_once(end: str) -> None:
    pair = Pair()
    pair.up()
    side, to = (pair.dsrsp, pair.cem) if end == "dsrsp" else (pair.cem, pair.dsrsp)
    [sent] = pair.send(side, "m", NOISE)
    assert (sent.route, sent.index, sent.attempt) == (B, 0, 1)
    fragment = parse_untrusted_fragment(sent.payload, ROUTE_2B)
    assert fragment.header.last
    assert not fragment.header.base64
    pair.carry()
    assert to.received == [(NOISE, B)]
    assert side.states == {"m": DeliveryState.REASSEMBLED}
    assert [type(record) for record in pair.said] == [Receipt]
    # Nobody thanks for thanks, and nothing of either is left.
    assert side.waiting == to.waiting == []
    assert {key.split("/")[1] for key in (*side.rows, *to.rows)} <= set("ricab")


def test_dictionaries_are_used_as_on_route_2a() -> None:
    text = b"<oadr:oadrPayload><oadr:oadrSignedObject><oadr:oadrCreatePartyRegistration>"
    pair = Pair()
    pair.up()
    [sent] = pair.send(pair.dsrsp, "m", text)
    assert isinstance(sent.payload, bytes)
    assert parse_untrusted_fragment(sent.payload, ROUTE_2B).header.compression is Compression.ZLIB
    assert len(sent.payload) < len(text) // 2
    pair.carry()
    assert pair.cem.received == [(text, B)]


@pytest.mark.parametrize(
    ("choice", "urgent", "while_up", "just_down", "later", "never_up"),
    [
        (RouteChoice.AUTO, False, [B], [], [A], [A]),
        (RouteChoice.AUTO, True, [B], [A], [A], [A]),
        (RouteChoice.ONLY_2A, False, [A], [A], [A], [A]),
        (RouteChoice.ONLY_2B, False, [B], [], [], []),
        (RouteChoice.BOTH, False, [B, A], [A], [A], [A]),
    ],
)
def test_where_a_message_goes(
    choice: RouteChoice,
    urgent: bool,
    while_up: list[Route],
    just_down: list[Route],
    later: list[Route],
    never_up: list[Route],
) -> None:
    options = {"route": choice, "urgent": urgent}
    pair = Pair()
    assert routes(pair.send(pair.dsrsp, "0", b"x", **options)) == never_up
    pair = Pair()
    pair.up()
    assert routes(pair.send(pair.dsrsp, "1", b"x", **options)) == while_up
    pair.carry()
    pair.down()
    assert routes(pair.send(pair.dsrsp, "2", b"y", **options)) == just_down
    pair.wait(299)
    assert routes([t for t in pair.dsrsp.waiting if t.ref == "2"]) == just_down
    pair.wait(1)
    assert routes([t for t in pair.dsrsp.waiting if t.ref == "2"]) == later
    pair.carry()
    # After the wait there is no other.
    assert routes(pair.send(pair.dsrsp, "3", b"z", **options)) == later
    pair.up()
    pair.carry()
    assert set(pair.dsrsp.states.values()) == {DeliveryState.REASSEMBLED}
    assert len(pair.cem.received) == 3


def test_a_policy_of_2a_only() -> None:
    pair = Pair(dsrsp={"use_route_2b": False})
    pair.up()
    assert routes(pair.send(pair.dsrsp, "a", b"x")) == [A]
    assert routes(pair.send(pair.dsrsp, "b", b"x", route=RouteChoice.BOTH)) == [A]
    with pytest.raises(LocalError, match="policy is route 2a only"):
        pair.send(pair.dsrsp, "c", b"x", route=RouteChoice.ONLY_2B)


def test_both_at_once_is_delivered_once_and_confirmed_by_whichever_comes_first() -> None:
    pair = Pair()
    pair.up()
    whole, *fragments = pair.send(pair.dsrsp, "m", NOISE[:200], route=RouteChoice.BOTH)
    assert routes([whole, *fragments]) == [B, A, A, A]
    pair.dsrsp.take()
    for fragment in fragments[:2]:
        pair.deliver(pair.dsrsp, fragment)
    assert pair.cem.endpoint.reassembler.partial_messages == 1
    pair.deliver(pair.dsrsp, whole)
    # The fragments that were here are of no use any more, and go from the disk too.
    assert pair.cem.endpoint.reassembler.partial_messages == 0
    assert not any("/f/" in key for key in pair.cem.rows)
    effects = pair.deliver(pair.dsrsp, fragments[2])
    assert effects.answer is Answer.SUCCESS
    assert pair.cem.received == [(NOISE[:200], B)]
    pair.carry()
    assert pair.dsrsp.states == {"m": DeliveryState.REASSEMBLED}


def test_what_2a_refuses_for_good_goes_on_by_2b() -> None:
    pair = Pair({"fallback_after_s": 60.0})
    pair.up()
    whole, *fragments = pair.send(pair.dsrsp, "m", NOISE[:200], route=RouteChoice.BOTH)
    pair.dsrsp.take()

    def refuse(fragment: Transmit) -> None:
        counter = fragment.originator_counter
        effects = pair.dsrsp.endpoint.cancel("m", "refused", pair.now, refused=counter)
        pair.dsrsp.keep(effects)

    for fragment in fragments[:2]:
        refuse(fragment)
    assert pair.dsrsp.states.get("m") is not DeliveryState.FAILED
    pair.deliver(pair.dsrsp, whole)
    pair.carry()
    assert pair.cem.received == [(NOISE[:200], B)]
    assert pair.dsrsp.states == {"m": DeliveryState.REASSEMBLED}


def test_what_both_routes_refuse_fails() -> None:
    pair = Pair({"fallback_after_s": 60.0})
    pair.up()
    _, fragment, *_ = pair.send(pair.dsrsp, "m", NOISE[:200], route=RouteChoice.BOTH)
    counter = fragment.originator_counter
    pair.dsrsp.keep(pair.dsrsp.endpoint.cancel("m", "refused", pair.now, refused=counter))
    pair.dsrsp.take()
    pair.down()
    pair.dsrsp.restart(pair.now)
    pair.dsrsp.take()
    pair.wait(61.0)
    again = pair.dsrsp.take()
    assert set(routes(again)) == {A}
    counter = again[0].originator_counter
    pair.dsrsp.keep(pair.dsrsp.endpoint.cancel("m", "refused", pair.now, refused=counter))
    assert pair.dsrsp.states == {"m": DeliveryState.FAILED}


def test_both_the_other_way_round() -> None:
    pair = Pair()
    pair.up()
    whole, *fragments = pair.send(pair.cem, "m", NOISE[:200], route=RouteChoice.BOTH)
    pair.cem.take()
    for fragment in fragments:
        pair.deliver(pair.cem, fragment)
    effects = pair.deliver(pair.cem, whole)
    [ignored] = effects.events
    assert isinstance(ignored, FragmentIgnored)
    assert ignored.reason is IgnoreReason.DELIVERED
    assert pair.dsrsp.received == [(NOISE[:200], A)]
    pair.carry()
    assert pair.cem.states == {"m": DeliveryState.REASSEMBLED}


def test_what_goes_by_both_goes_by_2b_when_it_comes_up() -> None:
    pair = Pair()
    pair.send(pair.cem, "m", NOISE[:200], route=RouteChoice.BOTH)
    for fragment in pair.cem.take():
        pair.cem.keep(pair.cem.endpoint.on_transmitted(fragment.originator_counter, 0.0))
    pair.up()
    assert routes(pair.cem.take()) == [B]
    # While the connection has not taken it, no receipt is missed.
    pair.wait(400)
    assert pair.cem.waiting == []
    pair.down()
    # Its receipt is awaited on 2a again.
    pair.wait(300)
    assert routes(pair.cem.waiting) == [A]


def test_a_message_too_large_for_the_connection_goes_by_2a() -> None:
    pair = Pair()
    pair.up(message_octets=100)
    assert routes(pair.send(pair.dsrsp, "a", NOISE[:100])) == [B]
    assert set(routes(pair.send(pair.dsrsp, "b", NOISE[:101]))) == {A}
    assert pair.send(pair.dsrsp, "c", NOISE[:101], route=RouteChoice.ONLY_2B) == []


def test_a_message_too_large_for_2a_is_for_2b_only() -> None:
    pair = Pair(limits=replace(Limits(), message_octets=10**6))
    message = random.Random(1).randbytes(400_000)
    pair.up(message_octets=10**6)
    with pytest.raises(MessageTooLong, match="index counts only 2048"):
        pair.send(pair.dsrsp, "m", message)
    pair.send(pair.dsrsp, "m", message, route=RouteChoice.ONLY_2B)
    pair.carry()
    assert pair.cem.received == [(message, B)]


# A connection that is cut


def test_what_was_on_its_way_goes_again_on_the_next_connection_under_the_same_name() -> None:
    pair = Pair()
    pair.up()
    [first] = pair.send(pair.dsrsp, "m", NOISE)
    pair.deliver(pair.dsrsp, first)
    assert len(pair.cem.received) == 1
    pair.down()
    pair.wait(10)
    pair.up()
    [again] = pair.dsrsp.waiting
    assert (again.payload, again.attempt) == (first.payload, 2)
    assert again.originator_counter == first.originator_counter + TAGS
    pair.carry()
    assert len(pair.cem.received) == 1
    assert pair.dsrsp.states == {"m": DeliveryState.REASSEMBLED}


def test_without_the_route_it_goes_on_by_2a_under_the_same_tag_and_returns() -> None:
    pair = Pair()
    pair.up()
    [whole] = pair.send(pair.dsrsp, "m", NOISE[:600])
    pair.down()
    pair.dsrsp.waiting.clear()
    pair.wait(300)
    fragments = pair.dsrsp.take()
    assert routes(fragments) == [A] * 8
    tag = whole.originator_counter % TAGS
    assert {(t.originator_counter - t.index) % TAGS for t in fragments} == {tag}
    for fragment in fragments[:7]:
        pair.deliver(pair.dsrsp, fragment)
    # What is in flight stays; what is to be sent now goes whole again.
    pair.dsrsp.waiting.clear()
    pair.up()
    assert [t for t in pair.dsrsp.waiting if t.ref == "m"] == []
    counter = fragments[7].originator_counter
    pair.dsrsp.keep(pair.dsrsp.endpoint.on_result(counter, Result.FAILED, pair.now))
    pair.wait(30)
    assert routes(pair.dsrsp.waiting) == [B]
    pair.carry()
    assert pair.cem.received == [(NOISE[:600], B)]
    assert pair.dsrsp.states == {"m": DeliveryState.REASSEMBLED}


def test_new_fragments_too_are_left_when_the_route_comes_up() -> None:
    pair = Pair(fragments_in_flight=1)
    fragments = pair.send(pair.cem, "m", NOISE)
    assert len(fragments) == 1
    pair.up()
    pair.cem.keep(pair.cem.endpoint.on_transmitted(fragments[0].originator_counter, 0.0))
    assert routes(pair.cem.waiting) == [A, B]


def test_a_restart_is_a_cut_connection_and_its_wait_begins() -> None:
    pair = Pair()
    pair.up()
    pair.send(pair.dsrsp, "m", NOISE[:50])
    pair.send(pair.dsrsp, "both", NOISE[:50], route=RouteChoice.BOTH)
    pair.now = 100.0
    effects = pair.dsrsp.restart(100.0)
    # What was handed over on 2b is not handed over again: there is no connection.
    assert [(t.ref, t.route) for t in effects.transmits] == [("both", A)]
    pair.dsrsp.waiting.clear()
    assert pair.dsrsp.endpoint.get_timer() == 400.0
    pair.dsrsp.restart(200.0)
    # A second restart does not make the wait longer.
    assert pair.dsrsp.endpoint.get_timer() == 400.0
    pair.now = 400.0
    pair.wait(0)
    assert [t.route for t in pair.dsrsp.waiting if t.ref == "m"] == [A]
    pair.dsrsp.restart(400.0)
    pair.dsrsp.keep(pair.dsrsp.endpoint.route_up(CEM, 400.0, message_octets=BIG))
    assert [t.ref for t in pair.dsrsp.waiting if t.route is B] == ["both"]


def test_a_new_connection_ends_the_one_before_even_if_nobody_has_noticed() -> None:
    pair = Pair()
    pair.up()
    [first] = pair.send(pair.cem, "m", b"x")
    pair.cem.keep(pair.cem.endpoint.on_transmitted(first.originator_counter, 0.0))
    pair.cem.waiting.clear()
    pair.cem.keep(pair.cem.endpoint.route_up(DSRSP, 1.0, message_octets=BIG))
    [again] = pair.cem.waiting
    assert again.attempt == 2
    assert pair.cem.endpoint.route_down(b"who", 1.0) == Effects()


# A connection that stands and says nothing


def test_without_a_receipt_it_goes_again_and_at_last_by_2a() -> None:
    pair = Pair()
    pair.up()
    pair.send(pair.cem, "m", b"x")
    times = []
    while not any(t.route is A for t in pair.cem.waiting):
        for sent in pair.cem.take():
            times.append(pair.now)
            pair.cem.keep(pair.cem.endpoint.on_transmitted(sent.originator_counter, pair.now))
        timer = pair.cem.endpoint.get_timer()
        assert timer is not None
        pair.wait(timer - pair.now)
    assert times == [0, 10, 30, 70, 150]
    assert pair.now == 310
    pair.carry()
    assert pair.dsrsp.received == [(b"x", A)]


def test_a_message_for_2b_only_is_tried_to_the_end_of_its_lifetime() -> None:
    pair = Pair()
    pair.up()
    pair.send(pair.cem, "m", b"x", route=RouteChoice.ONLY_2B, lifetime_s=1000)
    sent = 0
    while "m" not in pair.cem.reasons or pair.cem.reasons["m"] is None:
        for transmit in pair.cem.take():
            assert transmit.route is B
            sent += 1
            pair.cem.keep(pair.cem.endpoint.on_transmitted(transmit.originator_counter, pair.now))
        pair.wait(10)
    assert sent > 5
    assert pair.cem.reasons["m"] == (
        "its deadline passed: no receipt came by route 2b, though sent 7 times; "
        "not known whether it has arrived"
    )


def test_what_goes_by_both_is_left_to_2a() -> None:
    pair = Pair(dsrsp={"attempts_2b": 1})
    pair.up()
    for transmit in pair.send(pair.dsrsp, "m", b"x", route=RouteChoice.BOTH):
        counter = transmit.originator_counter
        pair.dsrsp.keep(pair.dsrsp.endpoint.on_transmitted(counter, 0.0))
    pair.dsrsp.waiting.clear()
    pair.wait(10)
    assert pair.dsrsp.waiting == []
    assert pair.dsrsp.endpoint.get_timer() == 600.0


def test_a_busy_end_takes_nothing_new_but_control() -> None:
    pair = Pair()
    pair.up()
    [sent] = pair.send(pair.dsrsp, "m", b"x")
    pair.dsrsp.waiting.clear()
    effects = pair.deliver(pair.dsrsp, sent, busy=True)
    assert effects.answer is Answer.TEMPORARY_FAILURE
    assert effects.saves == {}
    pair.dsrsp.keep(pair.dsrsp.endpoint.on_transmitted(sent.originator_counter, 0.0))
    pair.wait(10)
    [again] = pair.dsrsp.take()
    pair.deliver(pair.dsrsp, again)
    assert pair.cem.received == [(b"x", B)]
    pair.dsrsp.keep(pair.dsrsp.endpoint.echo(CEM, bytes(8), pair.now))
    [echo] = pair.dsrsp.take()
    assert pair.deliver(pair.dsrsp, echo, busy=True).answer is Answer.SUCCESS


# Flow control


def test_so_many_messages_are_on_their_way_by_2b_beside_those_of_2a() -> None:
    pair = Pair(dsrsp={"messages_in_flight_2b": 3, "messages_in_flight": 1})
    for number in range(3):
        pair.send(pair.dsrsp, f"a{number}", b"x", route=RouteChoice.ONLY_2A)
    pair.up()
    for number in range(5):
        pair.send(pair.dsrsp, f"b{number}", b"x")
    assert [t.ref for t in pair.dsrsp.waiting] == ["a0", "b0", "b1", "b2"]
    # What falls back has no more room on 2a than any other.
    pair.down()
    pair.wait(300)
    assert [t.ref for t in pair.dsrsp.waiting] == ["a0"]
    pair.up()
    pair.carry()
    assert len(pair.cem.received) == 8


def test_receipts_share_a_message_while_others_are_on_their_way() -> None:
    pair = Pair()
    pair.up()
    for number in range(6):
        pair.send(pair.dsrsp, str(number), b"x")
    for sent in pair.dsrsp.take():
        pair.deliver(pair.dsrsp, sent)
    receipts = pair.cem.take()
    assert len(receipts) == 2
    pair.cem.keep(pair.cem.endpoint.on_transmitted(receipts[0].originator_counter, 0.0))
    [shared] = pair.cem.take()
    for sent in (*receipts, shared):
        pair.deliver(pair.cem, sent)
    assert [len(r.messages) for r in pair.said if isinstance(r, Receipt)] == [1, 1, 4]
    assert set(pair.dsrsp.states.values()) == {DeliveryState.REASSEMBLED}
    # Of those that were given out and not handed over nothing is left when the route goes.
    pair.down()
    assert not any("/m/" in key for key in pair.cem.rows)
    assert pair.cem.waiting == []


def test_receipts_for_receipts_go_along_or_many_at_once_and_ids_come_round() -> None:
    pair = Pair()
    pair.up()
    for number in range(100):
        pair.send(pair.dsrsp, str(number), b"x")
        pair.carry()
    thanks = [record for record in pair.said if isinstance(record, ControlReceipt)]
    # Fourteen at a time; and one for each such message, along with a receipt.
    assert len(thanks) == 2 * (100 // 14)
    used = {key for key in pair.cem.rows if "/i/1/" in key}
    assert len(used) < 20


def test_a_message_that_does_not_decode_is_answered_by_its_abort_over_2b() -> None:
    pair = Pair()
    pair.up()
    [sent] = pair.send(pair.cem, "m", NOISE, compression="zlib")
    pair.cem.waiting.clear()
    assert isinstance(sent.payload, bytes)
    effects = pair.deliver(pair.cem, replace(sent, payload=sent.payload[:-1]))
    assert effects.answer is Answer.OTHER_REASON
    assert any(isinstance(event, MessageRejected) for event in effects.events)
    assert routes(pair.dsrsp.waiting) == [B]
    pair.carry()
    assert pair.cem.reasons == {"m": "the peer ended it: zlib"}
    assert Abort in [type(record) for record in pair.said]


def test_a_message_larger_than_this_end_takes() -> None:
    pair = Pair(dsrsp={"limits": replace(Limits(), message_octets=1000)})
    pair.up()
    pair.cem.endpoint._outbound.acquaintances._known.clear()
    [sent] = pair.send(pair.cem, "m", NOISE)
    pair.carry()
    [abort] = [record for record in pair.said if isinstance(record, Abort)]
    assert (abort.code, abort.detail) == (AbortCode.TOO_LONG, 1000)
    assert sent.route is B


def test_control_records_go_by_2b_while_it_is_up_and_by_2a_at_once_when_not() -> None:
    pair = Pair()
    pair.up()
    pair.dsrsp.keep(pair.dsrsp.endpoint.echo(CEM, bytes(8), 0.0))
    assert routes(pair.dsrsp.waiting) == [B]
    pair.carry()
    assert [type(record) for record in pair.said] == [EchoRequest, EchoReply]
    pair.down()
    pair.dsrsp.keep(pair.dsrsp.endpoint.echo(CEM, bytes(8), 0.0))
    assert routes(pair.dsrsp.waiting) == [A]


def test_receipts_of_a_dsrsp_that_gives_none_on_2a_are_given_on_2b() -> None:
    pair = Pair(dsrsp={"receipts": ReceiptSettings(policy=ReceiptPolicy.OFF)})
    pair.up()
    pair.send(pair.cem, "b", b"x")
    pair.carry()
    assert pair.cem.states == {"b": DeliveryState.REASSEMBLED}
    pair.send(pair.cem, "a", b"x", route=RouteChoice.ONLY_2A)
    pair.send(pair.cem, "both", b"x", route=RouteChoice.BOTH)
    pair.carry()
    assert pair.cem.states["a"] is DeliveryState.SENT
    assert pair.cem.states["both"] is DeliveryState.REASSEMBLED


# What no sender writes


@pytest.mark.parametrize(
    "header",
    [
        FragmentHeader(Originator.DSRSP, Compression.ZLIB, False, False, 0, 0),
        FragmentHeader(Originator.DSRSP, Compression.ZLIB, False, True, 1, 0),
        FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, True, 0, 0),
        FragmentHeader(Originator.DSRSP, Compression.CONTROL, False, False, 0, 0),
    ],
)
def test_a_piece_of_a_message_or_text_is_nothing_on_2b(header: FragmentHeader) -> None:
    payload = header.to_bytes() + b"body"
    with pytest.raises(NotAFragment):
        parse_untrusted_fragment(payload, ROUTE_2B)
    side = Side(Originator.CEM)
    effects = side.endpoint.on_message(DSRSP, payload, originator_counter=9, now=0.0)
    assert effects.saves == {}
    [event] = effects.events
    assert isinstance(event, FragmentIgnored)
    assert event.reason is IgnoreReason.NOT_A_FRAGMENT


def test_reserved_compression_and_a_control_message_that_is_none() -> None:
    side = Side(Originator.CEM)
    for number, compression in enumerate((Compression.RESERVED, Compression.CONTROL)):
        header = FragmentHeader(Originator.DSRSP, compression, False, True, 0, number)
        octets = header.to_bytes() + build_control([EchoRequest(bytes(8))])[:-1]
        effects = side.endpoint.on_message(DSRSP, octets, originator_counter=number, now=0.0)
        assert any(isinstance(event, MessageRejected) for event in effects.events)


@pytest.mark.parametrize("saved", [b"", bytes(9), b"\x02" + bytes(9), b"\x01\x02" + bytes(8)])
def test_a_saved_route_that_is_not_ours_is_refused(saved: bytes) -> None:
    side = Side(Originator.CEM)
    side.rows = {f"{DSRSP.hex()}/b": saved}
    with pytest.raises(StateError):
        side.restart()
    side.rows = {"zz/b": Link().to_bytes()}
    with pytest.raises(StateError):
        side.restart()


def test_receipts_wait_until_they_are_given_and_share_a_message() -> None:
    pair = Pair(gathers_receipts=True)
    pair.up()
    for ref in ("a", "b", "c"):
        pair.send(pair.dsrsp, ref, ref.encode())
    pair.carry()
    assert [message for message, _ in pair.cem.received] == [b"a", b"b", b"c"]
    assert pair.said == []
    assert pair.cem.endpoint.owes_receipts
    # Whatever else is said meanwhile does not take them along.
    pair.send(pair.cem, "up", b"up")
    pair.carry()
    assert not any(isinstance(record, Receipt) and len(record.messages) > 1 for record in pair.said)
    assert pair.dsrsp.states["a"] is DeliveryState.QUEUED
    pair.said.clear()
    effects = pair.cem.keep(pair.cem.endpoint.give_receipts(pair.now))
    assert len(effects.transmits) == 1
    assert not pair.cem.endpoint.owes_receipts
    pair.carry()
    assert [len(record.messages) for record in pair.said if isinstance(record, Receipt)] == [3]
    for ref in ("a", "b", "c"):
        assert pair.dsrsp.states[ref] is DeliveryState.REASSEMBLED


def test_a_status_tells_the_routes_that_a_message_has_taken() -> None:
    pair = Pair(receipt_timeout_2b_s=1.0, dsrsp={"fallback_after_s": 1.0})
    seen: list[frozenset[Route]] = []
    keep = pair.dsrsp.keep

    def noting(effects: Effects) -> Effects:
        seen.extend(changed.status.routes for changed in effects.statuses)
        return keep(effects)

    pair.dsrsp.keep = noting  # type: ignore[method-assign]
    pair.up()
    pair.send(pair.dsrsp, "a", b"a")
    assert seen[-1] == {Route.ROUTE_2B}
    pair.dsrsp.waiting.clear()
    pair.down()
    pair.dsrsp.restart(pair.now)
    pair.wait(2.0)
    assert seen[-1] == set(Route)
    pair.carry()
    assert seen[-1] == set(Route)
    assert pair.dsrsp.states["a"] is DeliveryState.REASSEMBLED
    assert seen[0] == frozenset()
