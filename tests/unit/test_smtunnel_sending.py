from __future__ import annotations

import itertools
import random
from collections.abc import Collection
from dataclasses import replace

import pytest

from smtunnel import (
    ECS46A,
    ECS200,
    DeliveryState,
    LocalError,
    MessageStatus,
    Originator,
    StateError,
)
from smtunnel.fragments import EncodedMessage, encode_message
from smtunnel.header import parse_untrusted_header
from smtunnel.policy import TAGS, Confirmation, Result, SendPolicy
from smtunnel.records import AbortCode, IndexRange, MessageName
from smtunnel.saved_messages import export_fixed, export_moving
from smtunnel.send_events import ControlEnded, ReencodeNeeded, SenderEvent, StatusChanged, Transmit
from smtunnel.send_states import (
    FINAL_STATES,
    OWN_STEPS,
    TRANSITIONS,
    SendInput,
    SendState,
    next_state,
)
from smtunnel.sending import MessageSender

PEER = b"\x00\xdb\x124Vx\x90\xa0"
OTHER = b"\x00\xdb\x124Vx\x90\xa1"
NOISE = random.Random(3).randbytes(4000)
DOWN = SendPolicy(confirmation=Confirmation.RESULTS, retry_jitter=0.0)
UP = SendPolicy(confirmation=Confirmation.RECEIPTS, retry_jitter=0.0)


class Counters:
    """The originator's counters; others draw on them too."""

    def __init__(self) -> None:
        self.next = 1000

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        while self.next % TAGS in avoid_tags:
            self.next += 1
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        while (self.next - index) % TAGS != tag:
            self.next += 1
        self.next += 1
        return self.next - 1


NOT_KNOWN = "not known whether it has arrived"


class Bench:
    """One sender, its counters, and what was saved of it."""

    def __init__(self, policy: SendPolicy = DOWN) -> None:
        self.policy = policy
        self.counters = Counters()
        self.saved: dict[str, bytes] = {}
        self.sender = self.new()
        self.now = 0.0
        self.statuses: list[MessageStatus] = []

    def new(self) -> MessageSender:
        down = self.policy.confirmation is Confirmation.RESULTS
        return MessageSender(
            originator=Originator.DSRSP if down else Originator.CEM,
            carrier=ECS46A if down else ECS200,
            policy=self.policy,
            counters=self.counters,
            random_fraction=lambda: 0.5,
        )

    def encode(self, octets: int, **options: int) -> EncodedMessage:
        down = self.policy.confirmation is Confirmation.RESULTS
        return encode_message(
            NOISE[:octets],
            carrier=ECS46A if down else ECS200,
            originator=Originator.DSRSP if down else Originator.CEM,
            tunnel_message_id=0,
            **options,  # type: ignore[arg-type]
        )

    def enqueue(self, ref: str = "m", octets: int = 20, **options: object) -> list[SenderEvent]:
        peer = options.pop("peer", PEER)
        return self.keep(
            self.sender.enqueue(ref, peer, self.encode(octets), now=self.now, **options)  # type: ignore[arg-type]
        )

    def keep(self, events: list[SenderEvent]) -> list[SenderEvent]:
        """Save what is to be saved, as a gateway does after every input."""
        for key, octets in self.sender.take_saves().items():
            if octets is None:
                self.saved.pop(key, None)
            else:
                self.saved[key] = octets
        self.statuses += [e.status for e in events if isinstance(e, StatusChanged)]
        return events

    def poll(self) -> list[Transmit]:
        return [e for e in self.keep(self.sender.poll(self.now)) if isinstance(e, Transmit)]

    def wait(self, seconds: float) -> list[Transmit]:
        """Let time pass, timer by timer, without giving anything out on the way."""
        end = self.now + seconds
        while (timer := self.sender.get_timer()) is not None and timer <= end:
            self.now = max(timer, self.now)
            self.keep(self.sender.handle_timer(self.now))
            if self.sender.get_timer() == timer:
                break
        self.now = end
        return self.poll()

    def result(self, sent: Transmit, result: Result, detail: str = "") -> list[SenderEvent]:
        return self.keep(self.sender.result(sent.originator_counter, result, self.now, detail))

    def transmitted(self, sent: Transmit) -> list[SenderEvent]:
        return self.keep(self.sender.transmitted(sent.originator_counter, self.now))

    def restart(self) -> None:
        self.sender = self.new()
        self.sender.restore(self.saved.items(), self.now)

    @property
    def status(self) -> MessageStatus:
        return self.statuses[-1]


def name_of(sent: Transmit) -> MessageName:
    assert isinstance(sent.payload, str)
    number = parse_untrusted_header(sent.payload[:4]).tunnel_message_id
    return MessageName.of(number, sent.originator_counter - sent.index)


# Downlink


def test_all_results_00_are_the_receipt() -> None:
    bench = Bench()
    bench.enqueue(octets=200)
    sent = bench.poll()
    assert [t.index for t in sent] == [0, 1, 2]
    assert [t.originator_counter for t in sent] == [1000, 1001, 1002]
    assert [t.attempt for t in sent] == [1, 1, 1]
    assert [t.payload for t in sent] == list(bench.encode(200).payloads)
    for transmit in sent:
        bench.transmitted(transmit)
    assert (bench.status.state, bench.status.fragments_accepted) == (DeliveryState.ACCEPTED, 3)
    for transmit in sent:
        bench.result(transmit, Result.SUCCESS)
    states = [status.state.value for status in bench.statuses]
    assert states[-2:] == ["delivered", "reassembled"]
    assert bench.status.fragments_delivered == 3
    assert bench.sender.get_timer() is None
    assert list(bench.saved) == [f"{PEER.hex()}/i/0/0"]


def test_only_what_failed_is_sent_again_under_a_counter_with_the_same_tag() -> None:
    bench = Bench()
    bench.enqueue(octets=200)
    first = bench.poll()
    bench.result(first[0], Result.SUCCESS)
    bench.result(first[2], Result.SUCCESS)
    bench.result(first[1], Result.FAILED, "E20")
    assert bench.poll() == []
    [again] = bench.wait(30)
    assert (again.index, again.attempt, again.payload) == (1, 2, first[1].payload)
    assert again.originator_counter == first[1].originator_counter + TAGS
    bench.result(again, Result.SUCCESS)
    assert bench.status.state is DeliveryState.REASSEMBLED


def test_a_late_result_of_an_earlier_attempt_counts() -> None:
    bench = Bench()
    bench.enqueue()
    [first] = bench.poll()
    bench.transmitted(first)
    [second] = bench.wait(640)
    assert second.attempt == 2
    bench.result(first, Result.SUCCESS)
    assert bench.status.state is DeliveryState.REASSEMBLED
    assert bench.result(second, Result.SUCCESS) == []


def test_attempts_are_bounded_and_the_last_cause_is_told() -> None:
    bench = Bench(replace(DOWN, attempts_per_fragment=3, retry_first_s=10, retry_max_s=15))
    bench.enqueue()
    waits = []
    for attempt in (1, 2, 3):
        start = bench.now
        sent = bench.poll()
        while not sent:
            sent = bench.wait(1)
        waits.append(bench.now - start)
        assert sent[0].attempt == attempt
        bench.result(sent[0], Result.FAILED, "E49: the hub is off")
    assert waits == [0, 10, 15]
    assert bench.status.state is DeliveryState.FAILED
    assert bench.status.reason == "fragment 1 of 1: E49: the hub is off, after 3 attempts"


def test_a_busy_peer_is_tried_until_the_lifetime_is_over() -> None:
    bench = Bench(replace(DOWN, attempts_per_fragment=2, message_lifetime_s=20_000))
    bench.enqueue()
    count = 0
    while not bench.statuses or not bench.status.final:
        for sent in bench.poll() or bench.wait(10):
            count += 1
            bench.result(sent, Result.BUSY)
    assert count > 6
    assert bench.status.reason == "its lifetime is over: fragment 1 of 1: busy"


@pytest.mark.parametrize(
    ("policy", "gets", "reason"),
    [
        (DOWN, "no turn", "its turn did not come"),
        (DOWN, "out", f"not all of it is known to be handed over; {NOT_KNOWN}"),
        (DOWN, "handed over", f"nothing confirmed that it has arrived; {NOT_KNOWN}"),
        (UP, "handed over", f"nothing confirmed that it has arrived; {NOT_KNOWN}"),
    ],
)
def test_the_end_of_a_lifetime_tells_what_was_waited_for(
    policy: SendPolicy, gets: str, reason: str
) -> None:
    bench = Bench(replace(policy, message_lifetime_s=100.0))
    bench.enqueue()
    if gets != "no turn":
        for sent in bench.poll():
            if gets == "handed over":
                bench.transmitted(sent)
    bench.now = 100.0
    bench.keep(bench.sender.handle_timer(bench.now))
    assert bench.status.state is DeliveryState.FAILED
    assert bench.status.reason == f"its lifetime is over: {reason}"


@pytest.mark.parametrize("restored", [False, True])
@pytest.mark.parametrize(
    ("lifetime_s", "ends_at", "what"),
    [
        (100.0, 100.0, "its deadline passed"),
        (200.0, 200.0, "its lifetime is over"),
        (None, 200.0, "its lifetime is over"),
    ],
)
def test_an_end_before_the_policys_is_told_as_the_callers_deadline(
    lifetime_s: float | None, ends_at: float, what: str, restored: bool
) -> None:
    bench = Bench(replace(UP, message_lifetime_s=200.0))
    bench.enqueue(lifetime_s=lifetime_s)
    if restored:
        bench.restart()
    bench.now = ends_at
    bench.keep(bench.sender.handle_timer(bench.now))
    assert bench.status.state is DeliveryState.FAILED
    assert bench.status.reason == f"{what}: its turn did not come"


def test_what_is_refused_for_good_is_told_with_what_else_may_arrive() -> None:
    for unknown_before in (False, True):
        bench = Bench()
        bench.enqueue(octets=150)
        first, *others = bench.poll()
        for sent in others:
            bench.result(sent, Result.SUCCESS)
        if unknown_before:
            bench.result(first, Result.UNKNOWN)
            (first,) = bench.wait(60)
        bench.transmitted(first)
        counter = first.originator_counter
        bench.keep(bench.sender.cancel("m", "refused", bench.now, refused=counter))
        assert bench.status.state is DeliveryState.FAILED
        assert bench.status.reason == (f"refused; {NOT_KNOWN}" if unknown_before else "refused")


def test_a_rejection_waits_for_its_reason() -> None:
    bench = Bench()
    bench.enqueue(octets=200)
    sent = bench.poll()
    bench.result(sent[0], Result.REJECTED)
    assert not bench.status.final
    bench.result(sent[1], Result.SUCCESS)
    name = name_of(sent[0])
    bench.keep(bench.sender.aborted(PEER, name, AbortCode.CONFLICT, 0, bench.now))
    assert bench.status.reason == "the peer ended it: conflict"


def test_a_rejection_without_a_reason() -> None:
    bench = Bench()
    bench.enqueue(octets=200)
    sent = bench.poll()
    bench.result(sent[0], Result.REJECTED, "rejected by the CEM")
    assert bench.wait(299) == []
    assert not bench.status.final
    bench.wait(2)
    assert bench.status.reason == "rejected by the CEM; no reason came"
    # Its other fragments' results come to nobody.
    assert bench.result(sent[1], Result.SUCCESS) == []


@pytest.mark.parametrize("code", [AbortCode.EXPIRED, AbortCode.TOO_MANY_PARTIAL, AbortCode.MEMORY])
def test_what_the_peer_had_no_room_for_is_sent_anew(code: AbortCode) -> None:
    bench = Bench(replace(DOWN, message_attempts=2))
    bench.enqueue(octets=200)
    first = bench.poll()
    bench.result(first[0], Result.SUCCESS)
    bench.keep(bench.sender.aborted(PEER, name_of(first[0]), code, 0, bench.now))
    assert (bench.status.state, bench.status.fragments_delivered) == (DeliveryState.QUEUED, 0)
    again = bench.wait(30)
    assert [t.index for t in again] == [0, 1, 2]
    assert name_of(again[0]) != name_of(first[0])
    # What comes late of the first attempt means nothing to the second.
    assert bench.result(first[1], Result.SUCCESS) == []
    assert bench.sender.aborted(PEER, name_of(first[0]), code, 0, bench.now) == []
    bench.keep(bench.sender.aborted(PEER, name_of(again[0]), code, 0, bench.now))
    assert bench.status.state is DeliveryState.FAILED


def test_another_encoding_is_asked_for_and_sent_as_a_new_message() -> None:
    bench = Bench()
    bench.enqueue(octets=200)
    [first, *_] = bench.poll()
    events = bench.keep(
        bench.sender.aborted(PEER, name_of(first), AbortCode.WINDOW_TOO_LARGE, 12, 0.0)
    )
    assert events[-1] == ReencodeNeeded("m", PEER, AbortCode.WINDOW_TOO_LARGE, 12)
    assert bench.wait(1000) == []
    bench.keep(bench.sender.reencoded("m", bench.encode(300, window_bits=12), bench.now))
    assert bench.status.fragments_total == 4
    again = bench.poll()
    assert [t.payload for t in again] == [
        text.replace("MAAA", t.payload[:4], 1) if t.index == 0 else t.payload
        for t, text in zip(again, bench.encode(300, window_bits=12).payloads, strict=True)
        if isinstance(t.payload, str)
    ]
    for sent in again:
        bench.result(sent, Result.SUCCESS)
    assert bench.status.state is DeliveryState.REASSEMBLED


def test_the_answer_of_the_application_says_that_the_message_has_arrived() -> None:
    bench = Bench(UP)
    bench.enqueue()
    assert bench.sender.answered("m", 0.0) == []
    [sent] = bench.poll()
    bench.transmitted(sent)
    bench.keep(bench.sender.answered("m", bench.now))
    assert bench.status.state is DeliveryState.REASSEMBLED
    assert bench.sender.answered("m", 0.0) == []


# Pacing and order


def test_so_many_fragments_are_in_flight_to_one_peer_and_in_all() -> None:
    bench = Bench(replace(DOWN, fragments_in_flight=2, fragments_in_flight_total=3))
    bench.enqueue("one", 400)
    bench.enqueue("two", 400, peer=OTHER)
    sent = bench.poll()
    assert [(t.ref, t.index) for t in sent] == [("one", 0), ("two", 0), ("one", 1)]
    assert bench.poll() == []
    bench.result(sent[0], Result.SUCCESS)
    [more] = bench.poll()
    # One after another in turn: the other peer has waited longer.
    assert (more.ref, more.index) == ("two", 1)
    # What is handed over makes room, for other peers only.
    bench.transmitted(sent[1])
    assert [(t.ref, t.index) for t in bench.poll()] == [("one", 2)]
    # What is lost makes room as well.
    assert len(bench.wait(600)) == 3


def test_thousands_of_silent_peers_do_not_keep_the_others_from_being_served() -> None:
    bench = Bench()
    silent = [number.to_bytes(8, "big") for number in range(5000)]
    for number, peer in enumerate(silent):
        bench.enqueue(f"s{number}", octets=20, peer=peer)
    given = bench.poll()
    assert len(given) == DOWN.fragments_in_flight_total
    # The DCC takes them; no device answers.
    while given:
        for sent in given:
            bench.transmitted(sent)
        given = bench.poll()
    bench.restart()
    bench.enqueue("live", octets=100)
    sent_live = bench.poll()
    assert [sent.ref for sent in sent_live] == ["live", "live"]
    for sent in sent_live:
        bench.transmitted(sent)
        bench.result(sent, Result.SUCCESS)
    assert bench.status.state is DeliveryState.REASSEMBLED
    # Of one that is silent no more are in flight than ever.
    for number in range(20):
        bench.enqueue(f"more{number}", octets=200, peer=silent[0])
    assert len(bench.poll()) == DOWN.fragments_in_flight - 1


def test_a_window_bounds_what_leaves_and_survives_a_restart() -> None:
    bench = Bench(replace(DOWN, fragments_per_window=3, window_s=160))
    bench.now = 1605.0
    bench.enqueue("one", 400)
    assert len(bench.poll()) == 3
    assert bench.poll() == []
    bench.restart()
    assert bench.poll() == []
    timer = bench.sender.get_timer()
    assert timer is not None
    assert 160 <= timer - bench.now <= 170
    bench.now = timer
    assert [t.index for t in bench.poll()] == [3, 4, 5][: len(bench.encode(400).payloads) - 3]


def test_a_higher_priority_overtakes_what_has_begun() -> None:
    bench = Bench(SendPolicy(confirmation=Confirmation.RESULTS, fragments_in_flight=2))
    bench.enqueue("long", octets=600)
    bench.enqueue("second", octets=600)
    first = bench.poll()
    assert [one.ref for one in first] == ["long", "long"]
    bench.enqueue("urgent", octets=100, priority=1)
    for one in first:
        bench.result(one, Result.SUCCESS)
    assert [one.ref for one in bench.poll()] == ["urgent", "urgent"]


def test_a_higher_priority_overtakes_though_no_more_may_have_begun() -> None:
    policy = SendPolicy(
        confirmation=Confirmation.RESULTS, fragments_in_flight=2, messages_in_flight=1
    )
    bench = Bench(policy)
    bench.enqueue("long", octets=600)
    first = bench.poll()
    bench.enqueue("equal", octets=100)
    bench.enqueue("urgent", octets=20, priority=7)
    bench.result(first[0], Result.SUCCESS)
    assert [one.ref for one in bench.poll()] == ["urgent"]
    # Of one priority there is still one at a time.
    bench.result(first[1], Result.SUCCESS)
    assert [one.ref for one in bench.poll()] == ["long"]


def test_a_higher_priority_overtakes_those_to_other_peers() -> None:
    bench = Bench(
        SendPolicy(confirmation=Confirmation.RESULTS, fragments_per_window=3, window_s=160.0)
    )
    bench.enqueue("one", octets=600)
    bench.enqueue("other", octets=600, peer=OTHER)
    assert sorted(one.ref for one in bench.poll()) == ["one", "one", "other"]
    bench.enqueue("urgent", octets=100, peer=OTHER, priority=1)
    assert bench.poll() == []
    assert [one.ref for one in bench.wait(175.0)] == ["urgent", "urgent", "other"]
    # It is remembered over a restart.
    bench.enqueue("more urgent", octets=20, priority=9)
    bench.restart()
    assert next(iter(bench.wait(175.0))).ref == "more urgent"


def test_messages_keep_their_order_but_for_priority_and_control() -> None:
    bench = Bench(replace(DOWN, fragments_in_flight=1, messages_in_flight=1))
    for ref in ("a", "b"):
        bench.enqueue(ref)
    bench.enqueue("urgent", priority=1)
    bench.enqueue("control", control=True)
    order = []
    while sent := bench.poll():
        [transmit] = sent
        order.append(transmit.ref)
        bench.result(transmit, Result.SUCCESS)
    assert order == ["control", "urgent", "a", "b"]


def test_messages_in_flight_are_bounded() -> None:
    bench = Bench(replace(DOWN, messages_in_flight=2))
    for number in range(5):
        bench.enqueue(str(number))
    sent = bench.poll()
    assert [t.ref for t in sent] == ["0", "1"]
    assert name_of(sent[0]).tunnel_message_id != name_of(sent[1]).tunnel_message_id
    bench.result(sent[1], Result.SUCCESS)
    assert [t.ref for t in bench.poll()] == ["2"]


def test_an_id_is_used_again_at_once_but_never_with_a_tag_that_could_be_meant() -> None:
    bench = Bench()
    bench.enqueue("a")
    [one] = bench.poll()
    bench.result(one, Result.SUCCESS)
    # The counter stands where it would give the same tag.
    bench.counters.next = one.originator_counter + TAGS
    bench.enqueue("b")
    [two] = bench.poll()
    assert name_of(two).tunnel_message_id == name_of(one).tunnel_message_id
    assert name_of(two).key32 % TAGS != name_of(one).key32 % TAGS


# Uplink


def test_up_a_message_is_repeated_until_a_receipt_names_it() -> None:
    bench = Bench(UP)
    bench.enqueue()
    [first] = bench.poll()
    bench.transmitted(first)
    assert (bench.status.state, bench.status.final) == (DeliveryState.SENT, False)
    assert bench.wait(299) == []
    [again] = bench.wait(2)
    assert (again.index, again.attempt) == (0, 2)
    assert again.originator_counter == first.originator_counter + TAGS
    bench.transmitted(again)
    assert bench.wait(598) == []
    bench.keep(bench.sender.receipt(PEER, name_of(again), bench.now))
    assert (bench.status.state, bench.status.final) == (DeliveryState.REASSEMBLED, True)


def test_a_receipt_for_a_newer_message_makes_the_older_be_asked_for_soon() -> None:
    bench = Bench(UP)
    for ref in "abc":
        bench.enqueue(ref)
    a, b, c = bench.poll()
    for sent in (a, b, c):
        bench.transmitted(sent)
    bench.now = 100.0
    bench.keep(bench.sender.receipt(PEER, name_of(b), bench.now))
    [again] = bench.wait(31)
    assert again.ref == "a"
    bench.restart()
    assert [t.ref for t in bench.wait(200)] == ["c"]


def test_one_fragment_asks_and_the_missing_list_says_what_to_send() -> None:
    bench = Bench(UP)
    bench.enqueue(octets=4000)
    sent = bench.poll()
    assert len(sent) == 6
    for transmit in sent:
        bench.transmitted(transmit)
    [probe] = bench.wait(300)
    assert probe.index == 5
    bench.transmitted(probe)
    name = name_of(probe)
    ranges = (IndexRange(1, 2), IndexRange(4, 0))
    bench.keep(bench.sender.missing(PEER, name, ranges, bench.now))
    again = bench.poll()
    assert [t.index for t in again] == [1, 2, 4, 5]
    counters = [t.originator_counter for t in again]
    # One jump for all: the counters of those that follow each other do so too.
    assert counters[1] - counters[0] == 1
    assert counters[3] - counters[2] == 1
    # The same list once more, held up on its way, is answered already.
    assert bench.sender.missing(PEER, name, ranges, bench.now) == []
    assert bench.poll() == []


def test_missing_fragments_are_not_sent_for_ever() -> None:
    bench = Bench(replace(UP, attempts_per_fragment=2))
    bench.enqueue(octets=2000)
    for _ in range(2):
        for transmit in bench.poll():
            bench.transmitted(transmit)
        bench.now += 40
        name = MessageName.of(0, 1000)
        bench.keep(bench.sender.missing(PEER, name, (IndexRange(0, 1),), bench.now))
    # An attempt that is late may still complete it.
    assert bench.status.reason == (
        f"fragments are missing at the peer after 2 attempts; {NOT_KNOWN}"
    )


def test_no_receipt_at_all() -> None:
    bench = Bench(replace(UP, attempts_per_fragment=3, receipt_timeout_max_s=500))
    bench.enqueue()
    times = []
    while not bench.statuses or not bench.status.final:
        for transmit in bench.poll() or bench.wait(10):
            times.append(bench.now)
            bench.transmitted(transmit)
    assert times == [0, 300, 800]
    assert bench.status.reason == (
        f"no receipt came, though sent and asked for 3 times; {NOT_KNOWN}"
    )


def test_what_cannot_leave_costs_no_attempt() -> None:
    bench = Bench(replace(UP, attempts_per_fragment=2))
    bench.enqueue()
    for _ in range(10):
        [sent] = bench.poll() or bench.wait(UP.retry_max_s)
        assert sent.attempt == 1
        bench.result(sent, Result.NOT_HANDED_OVER)
    assert not bench.status.final


def test_without_confirmation_handed_over_is_the_end() -> None:
    bench = Bench(replace(UP, confirmation=Confirmation.NONE))
    bench.enqueue(octets=2000)
    for transmit in bench.poll():
        bench.transmitted(transmit)
    assert (bench.status.state, bench.status.final) == (DeliveryState.SENT, True)
    # Its fragments are still on their way: the next message takes another id.
    bench.enqueue("n")
    assert name_of(bench.poll()[0]).tunnel_message_id == 1


def test_a_receipt_of_an_earlier_message_with_the_same_tag_means_nothing() -> None:
    bench = Bench(UP)
    bench.enqueue()
    [sent] = bench.poll()
    bench.transmitted(sent)
    name = name_of(sent)
    older = replace(name, key32=(name.key32 - TAGS) % 2**32)
    ahead = replace(name, key32=name.key32 + TAGS)
    other_id = replace(name, tunnel_message_id=name.tunnel_message_id + 1)
    for wrong in (older, ahead, other_id):
        assert bench.sender.receipt(PEER, wrong, bench.now) == []
    assert bench.sender.receipt(OTHER, name, bench.now) == []
    assert bench.sender.receipt(PEER, name, bench.now, control=True) == []


# Control messages


def test_control_messages_have_ids_of_their_own_and_an_end_that_is_told() -> None:
    bench = Bench()
    bench.enqueue("data")
    bench.enqueue("control", control=True)
    control, data = bench.poll()
    assert control.ref == "control"
    assert name_of(control).tunnel_message_id == name_of(data).tunnel_message_id == 0
    assert bench.result(control, Result.SUCCESS) == [ControlEnded("control", PEER, True)]
    bench.enqueue("second", control=True)
    bench.poll()
    events = bench.keep(bench.sender.cancel("second", "no more", bench.now))
    assert events == [ControlEnded("second", PEER, False)]
    assert not any(status.ref in ("control", "second") for status in bench.statuses)


# Restarts


def test_at_every_step_the_saved_state_is_the_state() -> None:
    chance = random.Random(1)
    for _ in range(60):
        bench = Bench(chance.choice([DOWN, UP, replace(DOWN, fragments_in_flight=2)]))
        for ref in "abc":
            bench.enqueue(ref, chance.choice([10, 300, 2000]), control=chance.random() < 0.2)
        sent: list[Transmit] = []
        for _ in range(30):
            step = chance.randrange(5)
            if step == 0:
                sent += bench.poll()
            elif step == 1 and sent:
                bench.transmitted(chance.choice(sent))
            elif step == 2 and sent:
                bench.result(chance.choice(sent), chance.choice(list(Result)))
            elif step == 3 and sent:
                name = name_of(chance.choice(sent))
                code = chance.choice(list(AbortCode))
                bench.keep(bench.sender.aborted(PEER, name, code, 0, bench.now))
            else:
                sent += bench.wait(chance.choice([1, 100, 1000]))
            before = bench.sender
            bench.restart()
            after = bench.sender
            assert after.pending() == before.pending()
            assert [after.status(ref) for ref in "abc"] == [before.status(ref) for ref in "abc"]
            assert after.get_timer() == before.get_timer()
            # The restored sender writes what it has read.
            for ref in "abc":
                if (message := after._outbox.messages.get(ref)) is not None:
                    key = f"{PEER.hex()}/s/{ref}"
                    assert export_moving(message) == bench.saved[key]
                    assert export_fixed(message) == bench.saved[f"{PEER.hex()}/m/{ref}"]


def test_after_a_restart_an_attempt_without_a_result_is_made_again_in_time() -> None:
    bench = Bench()
    bench.enqueue()
    [sent] = bench.poll()
    bench.restart()
    assert bench.sender.pending() == [sent]
    assert bench.poll() == []
    [again] = bench.wait(631)
    assert again.attempt == 2
    bench.result(sent, Result.SUCCESS)
    assert bench.status.state is DeliveryState.REASSEMBLED


@pytest.mark.parametrize("damage", ["cut", "version", "lost", "alone", "ids", "key"])
def test_saved_state_that_is_not_ours_is_refused(damage: str) -> None:
    bench = Bench()
    bench.enqueue(octets=200)
    bench.poll()
    peer = PEER.hex()
    match damage:
        case "cut":
            bench.saved[f"{peer}/s/m"] = bench.saved[f"{peer}/s/m"][:-1]
        case "version":
            bench.saved[f"{peer}/m/m"] = b"\x09" + bench.saved[f"{peer}/m/m"][1:]
        case "lost":
            del bench.saved[f"{peer}/s/m"]
        case "alone":
            del bench.saved[f"{peer}/m/m"]
        case "ids":
            bench.saved[f"{peer}/i/0/0"] = b"123"
        case _:
            bench.saved["zz/i/0/0"] = b"123"
    with pytest.raises(StateError):
        bench.restart()


# The table


@pytest.mark.parametrize(("state", "what"), list(itertools.product(SendState, SendInput)))
def test_every_state_against_every_input(state: SendState, what: SendInput) -> None:
    """The table itself: defined, ignored, or our own mistake; nothing leaves a final state."""
    expected = TRANSITIONS[state].get(what)
    if expected is not None:
        assert next_state(state, what) is expected
        assert state not in FINAL_STATES
    elif what in OWN_STEPS:
        with pytest.raises(LocalError, match="cannot meet"):
            next_state(state, what)
    else:
        assert next_state(state, what) is None


def in_state(state: SendState) -> tuple[Bench, Transmit | None]:
    """A message of two fragments that stands in a state."""
    bench = Bench(UP if state is SendState.UNCONFIRMED else DOWN)
    if state is SendState.UNCONFIRMED:
        bench = Bench(replace(UP, confirmation=Confirmation.NONE))
    if state is SendState.QUEUED:
        bench.enqueue(octets=120)
        return bench, None
    bench.enqueue(octets=2000 if state is SendState.UNCONFIRMED else 120)
    one, two, *rest = bench.poll()
    if state is not SendState.SENDING:
        for sent in (one, two, *rest):
            bench.transmitted(sent)
    name = name_of(one)
    if state is SendState.DISPUTED:
        bench.result(two, Result.REJECTED)
    if state is SendState.REENCODING:
        code = AbortCode.UNKNOWN_DICTIONARY
        bench.keep(bench.sender.aborted(PEER, name, code, 1, 0.0))
    if state is SendState.DELIVERED:
        for sent in (one, two):
            bench.result(sent, Result.SUCCESS)
    if state is SendState.FAILED:
        bench.keep(bench.sender.cancel("m", "why", 0.0))
    return bench, one


def give(bench: Bench, sent: Transmit | None, what: str) -> None:
    now = bench.now
    counter = sent.originator_counter if sent else 999
    name = name_of(sent) if sent else MessageName(0, 1000)
    sender = bench.sender
    match what:
        case "transmitted":
            bench.keep(sender.transmitted(counter, now))
        case "receipt":
            bench.keep(sender.receipt(PEER, name, now))
        case "missing":
            bench.keep(sender.missing(PEER, name, (IndexRange(0, 0),), now))
        case "abort":
            bench.keep(sender.aborted(PEER, name, AbortCode.ZLIB, 0, now))
        case "abort for now":
            bench.keep(sender.aborted(PEER, name, AbortCode.MEMORY, 0, now))
        case "abort encoding":
            bench.keep(sender.aborted(PEER, name, AbortCode.UNKNOWN_DICTIONARY, 1, now))
        case "answered":
            bench.keep(sender.answered("m", now))
        case "cancel":
            bench.keep(sender.cancel("m", "why", now))
        case "lifetime":
            bench.now += DOWN.message_lifetime_s
            bench.keep(sender.handle_timer(bench.now))
        case _:
            bench.keep(sender.result(counter, Result[what], now))


SENT = (SendState.SENDING, SendState.WAITING)
BEGUN = (*SENT, SendState.DISPUTED)
NOT_ENDED = [state for state in SendState if state not in FINAL_STATES]

INPUTS: dict[str, dict[SendState, SendState]] = {
    "transmitted": {},
    "SUCCESS": {},
    "BUSY": {SendState.WAITING: SendState.SENDING},
    "FAILED": {SendState.WAITING: SendState.SENDING},
    "UNKNOWN": {SendState.WAITING: SendState.SENDING},
    "NOT_HANDED_OVER": {SendState.WAITING: SendState.SENDING},
    "REJECTED": dict.fromkeys(SENT, SendState.DISPUTED),
    "receipt": dict.fromkeys(SENT, SendState.DELIVERED),
    # Down, the results say what is missing.
    "missing": {},
    "abort": dict.fromkeys(BEGUN, SendState.FAILED),
    "abort for now": dict.fromkeys(BEGUN, SendState.QUEUED),
    "abort encoding": dict.fromkeys(BEGUN, SendState.REENCODING),
    "answered": dict.fromkeys(SENT, SendState.DELIVERED),
    "cancel": dict.fromkeys(NOT_ENDED, SendState.FAILED),
    "lifetime": dict.fromkeys(NOT_ENDED, SendState.FAILED),
}


@pytest.mark.parametrize("state", list(SendState), ids=lambda state: state.name)
@pytest.mark.parametrize("what", list(INPUTS))
def test_every_state_against_every_call(state: SendState, what: str) -> None:
    bench, sent = in_state(state)
    message = bench.sender._outbox.messages.get("m")
    if message is None:
        assert state in FINAL_STATES
        before = list(bench.statuses)
        give(bench, sent, what)
        assert bench.statuses == before
        assert bench.poll() == []
        return
    assert message.state is state
    give(bench, sent, what)
    assert message.state is INPUTS[what].get(state, state)
    bench.restart()
    if message.final:
        assert not any(key.endswith("/m") for key in bench.saved)
        assert bench.sender.status("m") is None
    else:
        assert bench.sender.status("m") == message.status


def test_a_ref_names_one_message_and_calls_out_of_place_are_refused() -> None:
    bench = Bench()
    bench.enqueue()
    with pytest.raises(LocalError, match="on its way already"):
        bench.enqueue()
    with pytest.raises(LocalError, match="32 bits"):
        bench.enqueue("n", priority=2**31)
    with pytest.raises(LocalError, match="no message x"):
        bench.sender.reencoded("x", bench.encode(10), 0.0)
    with pytest.raises(LocalError, match="cannot meet"):
        bench.sender.reencoded("m", bench.encode(10), 0.0)


@pytest.mark.parametrize(
    "fields",
    [
        {"fragments_in_flight": 0},
        {"messages_in_flight": 256},
        {"attempts_per_fragment": 256},
        {"fragments_per_window": 0},
        {"retry_first_s": 0.0},
        {"retry_jitter": 1.5},
    ],
)
def test_policies_that_make_no_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(LocalError):
        replace(DOWN, **fields)  # type: ignore[arg-type]


def test_what_the_counters_raise_loses_nothing() -> None:
    bench = Bench()
    bench.enqueue()
    working, bench.sender._giving_out._counters = bench.counters, None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        bench.sender.poll(0.0)
    bench.sender._giving_out._counters = working
    [sent] = bench.poll()
    bench.result(sent, Result.FAILED)
    bench.now = 30.0
    bench.sender._giving_out._counters = None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        bench.wait(1)
    bench.sender._giving_out._counters = working
    assert [t.attempt for t in bench.poll()] == [2]
