from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace

import pytest

from smtunnel import DeliveryState, Limits, LocalError, MessageTooLong, Originator, StateError
from smtunnel.codec import encode_base64
from smtunnel.control import Record, build_control
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.effects import ANSWERS, Answer, ControlNews, Effects
from smtunnel.endpoint import Endpoint
from smtunnel.events import ControlReceived, IgnoreReason
from smtunnel.header import Compression, FragmentHeader, parse_untrusted_header
from smtunnel.policy import Confirmation, Result, SendPolicy
from smtunnel.receipts import ReceiptSettings
from smtunnel.records import (
    Abort,
    AbortCode,
    Cancelled,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoReply,
    EchoRequest,
    MessageName,
    Missing,
    Receipt,
    ReceiptPolicy,
)
from smtunnel.routes import RouteAnswer, RouteStatus
from smtunnel.send_events import Transmit

DSRSP, CEM = b"dsrsp", b"cem"
NOISE = random.Random(4).randbytes(5000)
TAGS = 65_536
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
    """One end and its store; what it gives out waits to be carried."""

    def __init__(self, side: Originator, **options: object) -> None:
        self.side = side
        self.options = options
        self.counters = Counters()
        self.rows: dict[str, bytes] = {}
        self.waiting: list[Transmit] = []
        self.received: list[bytes] = []
        self.news: list[ControlNews] = []
        self.states: dict[str, DeliveryState] = {}
        self.reasons: dict[str, str | None] = {}
        self.restart()

    def restart(self) -> Effects:
        down = self.side is Originator.DSRSP
        confirmation = Confirmation.RESULTS if down else Confirmation.RECEIPTS
        policy = SendPolicy(confirmation=confirmation, retry_jitter=0.0)
        self.endpoint = Endpoint(
            side=self.side,
            counters=self.counters,
            policy=policy,
            random_fraction=lambda: 0.5,
            **self.options,  # type: ignore[arg-type]
        )
        self.waiting = []
        return self.keep(self.endpoint.restore(self.rows.items(), 0.0))

    def keep(self, effects: Effects) -> Effects:
        for key, octets in effects.saves.items():
            if octets is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = octets
        self.received += [received.message for received in effects.received]
        self.news += effects.news
        self.waiting += effects.transmits
        for changed in effects.statuses:
            self.states[changed.status.ref] = changed.status.state
            self.reasons[changed.status.ref] = changed.status.reason
        return effects


class Pair:
    """A DSRSP and a CEM with a perfect link between, carried by hand."""

    def __init__(self, **cem: object) -> None:
        self.dsrsp = Side(Originator.DSRSP)
        self.cem = Side(Originator.CEM, **cem)
        self.now = 0.0
        self.said: list[Record] = []

    def carry(self, lose: Collection[int] = ()) -> None:
        """Carry all that waits, both ways, until nothing waits; down and up, not the lost ones."""
        number = 0
        while self.dsrsp.waiting or self.cem.waiting:
            for side in (self.dsrsp, self.cem):
                waiting, side.waiting = side.waiting, []
                for transmit in waiting:
                    counter = transmit.originator_counter
                    side.keep(side.endpoint.on_transmitted(counter, self.now))
                    if number not in lose:
                        self.deliver(side, transmit)
                    number += 1

    def deliver(self, side: Side, transmit: Transmit) -> Answer:
        to = self.cem if side is self.dsrsp else self.dsrsp
        name = DSRSP if side is self.dsrsp else CEM
        counter = transmit.originator_counter
        effects = to.keep(
            to.endpoint.on_fragment(
                name, transmit.payload, originator_counter=counter, now=self.now
            )
        )
        for event in effects.events:
            if isinstance(event, ControlReceived):
                self.said += event.message.records
        assert effects.answer is not None
        if side is self.dsrsp:
            side.keep(side.endpoint.on_result(counter, RESULTS[effects.answer], self.now))
        return effects.answer

    def wait(self, seconds: float) -> None:
        self.now += seconds
        for side in (self.dsrsp, self.cem):
            side.keep(side.endpoint.on_timer(self.now))

    def send_down(self, ref: str, message: bytes, **options: object) -> Effects:
        call = self.dsrsp.endpoint.send
        return self.dsrsp.keep(call(ref, CEM, message, self.now, **options))  # type: ignore[arg-type]

    def send_up(self, ref: str, message: bytes) -> Effects:
        return self.cem.keep(self.cem.endpoint.send(ref, DSRSP, message, self.now))

    def introduce(self) -> None:
        self.cem.keep(self.cem.endpoint.announce(DSRSP, self.now))
        self.carry()
        self.said.clear()


def test_a_message_each_way() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", NOISE[:300])
    pair.send_up("u", NOISE[300:3000])
    pair.carry()
    assert pair.cem.received == [NOISE[:300]]
    assert pair.dsrsp.received == [NOISE[300:3000]]
    assert pair.dsrsp.states == {"d": DeliveryState.REASSEMBLED}
    assert pair.cem.states == {"u": DeliveryState.SENT}
    pair.wait(60)
    pair.carry()
    assert pair.cem.states == {"u": DeliveryState.REASSEMBLED}
    assert [type(record) for record in pair.said] == [Receipt]
    # Nothing of the messages is left in the stores.
    assert {key.split("/")[1] for key in (*pair.dsrsp.rows, *pair.cem.rows)} == set("rica")


def test_the_ends_tell_each_other_what_they_understand_once() -> None:
    pair = Pair(limits=replace(Limits(), window_bits=12, partial_messages_per_peer=3))
    pair.cem.keep(pair.cem.endpoint.announce(DSRSP, 0.0))
    pair.carry()
    known = pair.dsrsp.endpoint.capabilities(CEM)
    assert known == Capabilities(
        window_bits=12, partial_messages=3, dictionaries=tuple(sorted(DICTIONARIES))
    )
    # With the receipt, in one control message, goes what the DSRSP understands.
    assert [type(record) for record in pair.said] == [Capabilities, ControlReceipt, Capabilities]
    theirs = pair.cem.endpoint.capabilities(DSRSP)
    assert theirs is not None
    assert theirs.receipts is ReceiptPolicy.BATCHED
    assert ControlNews(DSRSP, theirs) in pair.cem.news
    for side, peer in ((pair.cem, DSRSP), (pair.dsrsp, CEM)):
        side.restart()
        assert side.endpoint.announce(peer, 0.0).transmits == ()
    assert pair.dsrsp.endpoint.capabilities(CEM) == known


def test_a_cem_that_nobody_knows_is_asked() -> None:
    pair = Pair()
    pair.send_down("d", b"hello")
    pair.carry()
    assert [type(r) for r in pair.said] == [Capabilities, CapabilitiesWanted, Capabilities]
    assert pair.dsrsp.endpoint.capabilities(CEM) is not None
    assert pair.cem.endpoint.capabilities(DSRSP) is not None
    pair.said.clear()
    pair.send_down("e", b"hello again")
    pair.wait(100)
    pair.carry()
    assert not any(isinstance(r, Capabilities | CapabilitiesWanted) for r in pair.said)


def test_a_dictionary_is_used_only_with_who_is_known_to_have_it() -> None:
    text = b"<oadr:oadrPayload><oadr:oadrSignedObject><oadr:oadrCreatePartyRegistration>" * 2
    pair = Pair()
    [before, *_] = [t for t in pair.send_down("a", text).transmits if t.ref == "a"]
    pair.carry()
    sent = pair.send_down("b", text).transmits
    assert len(sent) == 1
    assert isinstance(before.payload, str)
    assert isinstance(sent[0].payload, str)
    assert len(sent[0].payload) < len(before.payload)
    with pytest.raises(LocalError, match="not known to have"):
        Pair().send_down("a", text, compression="dictionary")


def test_a_window_that_is_too_large_is_made_smaller_without_anyone_asking() -> None:
    pair = Pair(limits=replace(Limits(), window_bits=10))
    text = NOISE[:800] * 3
    pair.send_down("d", text, compression="zlib")
    pair.dsrsp.endpoint._outbound.acquaintances._known.clear()
    pair.carry()
    assert any(
        isinstance(record, Abort) and record.code is AbortCode.WINDOW_TOO_LARGE
        for record in pair.said
    )
    pair.carry()
    assert pair.cem.received == [text]
    assert pair.dsrsp.states == {"d": DeliveryState.REASSEMBLED}
    known = pair.dsrsp.endpoint.capabilities(CEM)
    assert known is not None
    assert known.window_bits == 10


def test_a_dictionary_that_the_peer_does_not_have_is_left_out() -> None:
    pair = Pair()
    pair.introduce()
    [number] = DICTIONARIES
    name = MessageName.of(0, pair.dsrsp.counters.next)
    pair.send_down("d", b"<oadrPayload>" * 5)
    [transmit] = pair.dsrsp.waiting
    name = MessageName.of(
        parse_untrusted_header(str(transmit.payload)[:4]).tunnel_message_id,
        transmit.originator_counter,
    )
    pair.dsrsp.waiting = []
    up = control(Abort(name, AbortCode.UNKNOWN_DICTIONARY, number), Originator.CEM)
    pair.dsrsp.keep(pair.dsrsp.endpoint.on_fragment(CEM, up, originator_counter=900, now=0.0))
    known = pair.dsrsp.endpoint.capabilities(CEM)
    assert known is not None
    assert known.dictionaries == ()
    pair.carry()
    assert pair.cem.received == [b"<oadrPayload>" * 5]


def control(record: Record, originator: Originator, message_id: int = 200) -> str:
    header = FragmentHeader(originator, Compression.CONTROL, True, True, 0, message_id)
    return header.encode() + encode_base64(build_control([record])).decode()


def test_a_message_that_is_too_long_for_the_peer_is_refused_at_once() -> None:
    pair = Pair(limits=replace(Limits(), message_octets=100))
    pair.introduce()
    with pytest.raises(MessageTooLong, match="at most 100"):
        pair.send_down("d", NOISE[:101])
    pair.send_down("d", NOISE[:100])


def test_no_more_messages_are_in_flight_than_the_peer_holds() -> None:
    pair = Pair(limits=replace(Limits(), partial_messages_per_peer=2))
    pair.introduce()
    pair.dsrsp.restart()
    for number in range(4):
        pair.send_down(f"d{number}", NOISE[:200])
    assert {transmit.ref for transmit in pair.dsrsp.waiting} == {"d0", "d1"}
    pair.carry()
    assert len(pair.cem.received) == 4
    # One fragment alone is never held.
    for number in range(4):
        pair.send_down(f"e{number}", b"short")
    assert len(pair.dsrsp.waiting) == 4


def test_what_is_lost_on_the_way_up_is_asked_for() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_up("u", NOISE)
    assert len(pair.cem.waiting) == 7
    pair.carry(lose={2, 4})
    pair.wait(121)
    pair.carry()
    [missing] = pair.said
    assert isinstance(missing, Missing)
    assert [(r.start, r.count) for r in missing.ranges] == [(2, 1), (4, 1)]
    assert pair.dsrsp.received == [NOISE]
    pair.wait(60)
    pair.carry()
    assert pair.cem.states == {"u": DeliveryState.REASSEMBLED}


def test_a_lost_receipt_is_given_again() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_up("u", b"hello")
    pair.carry()
    pair.wait(60)
    pair.dsrsp.waiting.clear()
    pair.wait(300)
    pair.dsrsp.waiting.clear()
    pair.carry()
    assert pair.dsrsp.received == [b"hello"]
    pair.wait(60)
    pair.carry()
    assert pair.cem.states == {"u": DeliveryState.REASSEMBLED}


def test_an_answer_of_failure_is_followed_by_its_reason() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", NOISE[:300])
    one, two = pair.dsrsp.waiting[:2]
    pair.dsrsp.waiting = []
    pair.deliver(pair.dsrsp, one)
    assert pair.deliver(pair.dsrsp, replace(one, payload=two.payload)) is Answer.OTHER_REASON
    # The same counter with other content: not even looked at.
    assert pair.said == []
    spoilt = str(one.payload)[:-1] + ("A" if str(one.payload)[-1] != "A" else "B")
    again = replace(one, payload=spoilt, originator_counter=one.originator_counter + TAGS)
    assert pair.deliver(pair.dsrsp, again) is Answer.OTHER_REASON
    assert pair.deliver(pair.dsrsp, two) is Answer.OTHER_REASON
    pair.carry()
    assert [type(r) for r in pair.said] == [Abort, Abort]
    assert isinstance(pair.said[0], Abort)
    assert pair.said[0].code is AbortCode.CONFLICT
    assert pair.dsrsp.states == {"d": DeliveryState.FAILED}
    assert pair.dsrsp.reasons == {"d": "the peer ended it: conflict"}


def test_who_gives_a_message_up_tells_the_peer() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", NOISE[:300])
    pair.deliver(pair.dsrsp, pair.dsrsp.waiting[0])
    assert pair.cem.endpoint.reassembler.partial_messages == 1
    pair.dsrsp.waiting = []
    pair.dsrsp.keep(pair.dsrsp.endpoint.cancel("d", "no longer wanted", 0.0))
    assert pair.dsrsp.reasons == {"d": "no longer wanted"}
    pair.carry()
    assert [type(r) for r in pair.said] == [Cancelled]
    assert pair.cem.endpoint.reassembler.partial_messages == 0
    assert not any("/f/" in key for key in pair.cem.rows)
    assert pair.dsrsp.endpoint.cancel("d", "", 0.0).statuses == ()


def test_of_what_cannot_have_reached_the_peer_nothing_is_told() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", NOISE[:300])
    sent, pair.dsrsp.waiting = pair.dsrsp.waiting, []
    for transmit in sent:
        counter = transmit.originator_counter
        pair.dsrsp.keep(pair.dsrsp.endpoint.on_result(counter, Result.NOT_HANDED_OVER, 0.0))
    pair.dsrsp.keep(pair.dsrsp.endpoint.cancel("d", "no longer wanted", 0.0))
    assert pair.dsrsp.reasons == {"d": "no longer wanted"}
    pair.carry()
    assert pair.said == []


def test_an_echo_comes_back_as_news() -> None:
    pair = Pair()
    pair.introduce()
    pair.dsrsp.keep(pair.dsrsp.endpoint.echo(CEM, bytes(8), 0.0, opaque=b"now"))
    pair.carry()
    assert [type(r) for r in pair.said] == [EchoRequest, EchoReply]
    assert pair.dsrsp.news[-1] == ControlNews(CEM, EchoReply(bytes(8), b"now"))
    # Nobody repeats or acknowledges an echo.
    pair.wait(10_000)
    assert pair.dsrsp.waiting == pair.cem.waiting == []
    with pytest.raises(LocalError, match="nonce"):
        pair.dsrsp.endpoint.echo(CEM, b"", 0.0)


def test_a_peer_that_asks_without_end_fills_no_memory() -> None:
    side = Side(Originator.CEM)
    for number in range(200):
        payload = control(EchoRequest(number.to_bytes(8, "big")), Originator.DSRSP, number % 256)
        side.keep(side.endpoint.on_fragment(DSRSP, payload, originator_counter=number * 9, now=0.0))
    assert side.endpoint._outbound.dropped == 200 - 64
    assert sum("/m/" in key for key in side.rows) == 64


def test_records_of_route_2b_pass_through() -> None:
    pair = Pair()
    pair.introduce()
    answer = RouteAnswer(7, RouteStatus.ACCEPTED)
    pair.cem.keep(pair.cem.endpoint.send_record(DSRSP, answer, 0.0))
    pair.carry()
    assert pair.dsrsp.news[-1] == ControlNews(CEM, answer)
    pair.wait(60)
    pair.carry()
    assert pair.said == [answer, ControlReceipt((MessageName(0, 2),))]
    assert pair.cem.endpoint.get_timer() is None


def test_without_receipts_sent_is_the_end() -> None:
    pair = Pair()
    off = ReceiptSettings(policy=ReceiptPolicy.OFF)
    pair.dsrsp = Side(Originator.DSRSP, receipts=off)
    pair.send_up("early", b"x")
    pair.carry()
    assert pair.cem.states == {"early": DeliveryState.SENT}
    pair.introduce()
    assert pair.cem.endpoint.get_timer() is None
    pair.send_up("late", b"y")
    pair.carry()
    assert pair.cem.states["late"] is DeliveryState.SENT
    assert pair.cem.endpoint.get_timer() is None


def test_an_answer_of_the_application_ends_the_waiting() -> None:
    pair = Pair()
    pair.send_up("u", b"x")
    pair.carry()
    pair.cem.keep(pair.cem.endpoint.answered("u", 0.0))
    assert pair.cem.states == {"u": DeliveryState.REASSEMBLED}


def test_a_busy_end_puts_off_and_gets_it_later() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", b"hello")
    [transmit] = pair.dsrsp.waiting
    pair.dsrsp.waiting = []
    effects = pair.cem.endpoint.on_fragment(
        DSRSP, transmit.payload, originator_counter=transmit.originator_counter, now=0.0, busy=True
    )
    assert effects.answer is Answer.TEMPORARY_FAILURE
    assert effects.saves == {}
    counter = transmit.originator_counter
    pair.dsrsp.keep(pair.dsrsp.endpoint.on_result(counter, Result.BUSY, 0.0))
    pair.wait(30)
    pair.carry()
    assert pair.cem.received == [b"hello"]


def test_a_message_of_one_fragment_writes_no_fragment() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", b"hello")
    [transmit] = pair.dsrsp.waiting
    effects = pair.cem.endpoint.on_fragment(
        DSRSP, transmit.payload, originator_counter=transmit.originator_counter, now=0.0
    )
    assert list(effects.saves) == [f"{DSRSP.hex()}/r"]


def test_a_restart_in_the_middle_of_a_message_on_both_sides() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("d", NOISE[:500])
    sent, pair.dsrsp.waiting = pair.dsrsp.waiting, []
    for transmit in sent[:3]:
        pair.dsrsp.keep(pair.dsrsp.endpoint.on_transmitted(transmit.originator_counter, 0.0))
        pair.deliver(pair.dsrsp, transmit)
    rows = dict(pair.cem.rows)
    effects = pair.cem.restart()
    # Reading it again writes nothing.
    assert effects.saves == {}
    assert pair.cem.rows == rows
    again = pair.dsrsp.restart().transmits
    assert [t.originator_counter for t in again] == [t.originator_counter for t in sent[3:]]
    pair.carry()
    assert pair.cem.received == [NOISE[:500]]
    assert pair.dsrsp.states == {"d": DeliveryState.REASSEMBLED}


def test_what_is_owed_survives_a_restart() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_up("u", b"x")
    pair.carry()
    pair.dsrsp.restart()
    pair.wait(60)
    pair.carry()
    assert pair.cem.states == {"u": DeliveryState.REASSEMBLED}
    assert not any(key.endswith("/o") for key in pair.dsrsp.rows)


def test_fragments_without_room_after_a_restart_are_dropped() -> None:
    pair = Pair()
    pair.introduce()
    pair.send_down("one", NOISE[:300])
    pair.send_down("two", NOISE[300:600])
    for transmit in [t for t in pair.dsrsp.waiting if t.index < 2]:
        pair.deliver(pair.dsrsp, transmit)
    assert sum("/f/" in key for key in pair.cem.rows) == 4
    pair.cem.options = {"limits": replace(Limits(), partial_messages_per_peer=1)}
    pair.cem.restart()
    assert sum("/f/" in key for key in pair.cem.rows) == 2
    assert pair.cem.endpoint.reassembler.partial_messages == 1


@pytest.mark.parametrize(
    ("key", "octets"),
    [
        ("what", b""),
        ("zz/r", b""),
        ("00/x", b""),
        ("00/r", b""),
        ("00/f/0/0", b"short"),
        ("00/f/x/0", b""),
        ("00/c", b"\x00"),
        ("00/o", b"123"),
        ("00/m/~x", b""),
        ("-/pace", b"1"),
    ],
)
def test_saved_state_that_is_not_ours_is_refused(key: str, octets: bytes) -> None:
    side = Side(Originator.CEM)
    side.rows = {key: octets}
    with pytest.raises(StateError):
        side.restart()


def test_refs_of_control_messages_are_not_for_others_and_go_on_after_a_restart() -> None:
    pair = Pair()
    with pytest.raises(LocalError, match="begins with"):
        pair.send_down("~1", b"x")
    pair.cem.keep(pair.cem.endpoint.announce(DSRSP, 0.0))
    assert [t.ref for t in pair.cem.waiting] == ["~1c"]
    pair.cem.restart()
    # It is on its way: nothing is announced twice.
    assert pair.cem.endpoint.announce(DSRSP, 0.0).transmits == ()
    pair.cem.keep(pair.cem.endpoint.echo(DSRSP, bytes(8), 0.0))
    assert [t.ref for t in pair.cem.waiting] == ["~1c", "~2"]


def test_every_outcome_has_an_answer() -> None:
    assert set(ANSWERS) == set(IgnoreReason)
