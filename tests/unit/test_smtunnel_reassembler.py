from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from dataclasses import replace

import pytest

from smtunnel import (
    ECS46A,
    AbortReason,
    Base64Error,
    Compression,
    Event,
    FragmentAccepted,
    FragmentConflict,
    FragmentHeader,
    FragmentIgnored,
    IgnoreReason,
    LimitExceeded,
    Limits,
    LocalError,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    Originator,
    Reassembler,
    StateError,
    UnknownDictionary,
    UnsupportedCompression,
    ZlibError,
    encode_message,
    parse_untrusted_header,
)
from smtunnel.codec import encode_base64
from smtunnel.control import ControlMessage, Record, build_control
from smtunnel.errors import ControlInvalid, WindowTooLarge
from smtunnel.events import ControlReceived
from smtunnel.records import (
    AbortCode,
    Cancelled,
    CapabilitiesWanted,
    IndexRange,
    MessageName,
    Receipt,
)

TAGS = 65_536
PEER = b"\x00\xdb\x124Vx\x90\xa0"
OTHER = b"\x00\xdb\x124Vx\x90\xa1"
NOISE = random.Random(2).randbytes(70_000)
DAY_S = 86_400.0


def reassembler(**limits: float) -> Reassembler:
    return Reassembler(
        originator=Originator.DSRSP,
        carrier=ECS46A,
        limits=replace(Limits(), **limits),  # type: ignore[arg-type]
    )


def fragments(message: bytes, message_id: int = 5) -> tuple[str, ...]:
    return encode_message(
        message, carrier=ECS46A, originator=Originator.DSRSP, tunnel_message_id=message_id
    ).payloads


def craft(
    body: bytes | str,
    *,
    originator: Originator = Originator.DSRSP,
    compression: Compression = Compression.ZLIB,
    last: bool = True,
    index: int = 0,
    message_id: int = 5,
) -> str:
    text = body if isinstance(body, str) else encode_base64(body).decode()
    return FragmentHeader(originator, compression, True, last, index, message_id).encode() + text


def give(
    target: Reassembler,
    payloads: Iterable[tuple[int, str]],
    first: int = 100,
    now: float = 0.0,
    peer: bytes = PEER,
) -> list[Event]:
    """Give payloads by index, each under the counter first + index."""
    events: list[Event] = []
    for index, payload in payloads:
        events += target.receive_fragment(peer, payload, originator_counter=first + index, now=now)
    return events


def only(events: list[Event]) -> Event:
    [event] = events
    return event


def ignored(events: list[Event]) -> IgnoreReason:
    event = only(events)
    assert isinstance(event, FragmentIgnored)
    return event.reason


def test_a_message_of_one_fragment() -> None:
    target = reassembler()
    assert give(target, enumerate(fragments(b"hello")), first=7) == [
        FragmentAccepted(PEER, 5, 7, 0, True),
        MessageReassembled(PEER, 5, 7, 7, b"hello"),
    ]
    assert target.partial_messages == 0
    assert target.held_octets == 0
    assert target.get_timer() is None


def test_fragments_in_any_order_make_one_message() -> None:
    payloads = list(enumerate(fragments(NOISE[:1000])))
    for seed in range(20):
        random.Random(seed).shuffle(payloads)
        target = reassembler()
        events = give(target, payloads)
        assert events[-1] == MessageReassembled(PEER, 5, 100, 99 + len(payloads), NOISE[:1000])
        assert sum(isinstance(event, FragmentAccepted) for event in events) == len(payloads)
        assert len(events) == len(payloads) + 1


def test_messages_of_one_peer_and_of_several_interleave() -> None:
    target = reassembler()
    one, two = fragments(NOISE[:300], 1), fragments(NOISE[300:600], 2)
    messages = set()
    for index in range(max(len(one), len(two))):
        for peer, first, payloads in ((PEER, 10, one), (PEER, 50, two), (OTHER, 10, two)):
            events = give(target, [(index, payloads[index])], first, peer=peer)
            messages |= {(e.peer, e.message) for e in events if isinstance(e, MessageReassembled)}
    assert messages == {(PEER, NOISE[:300]), (PEER, NOISE[300:600]), (OTHER, NOISE[300:600])}


def test_a_replay_changes_nothing_while_the_message_is_alive_and_after() -> None:
    target = reassembler()
    payloads = list(enumerate(fragments(NOISE[:200])))
    give(target, payloads[:1])
    assert ignored(give(target, payloads[:1])) is IgnoreReason.REPLAY
    assert isinstance(give(target, payloads[1:])[-1], MessageReassembled)
    for item in payloads:
        assert ignored(give(target, [item])) is IgnoreReason.REPLAY
    assert target.ignored == {IgnoreReason.REPLAY: len(payloads) + 1}


def test_a_counter_used_twice_is_told_from_a_replay() -> None:
    target = reassembler()
    give(target, enumerate(fragments(b"hello")))
    for payload in (fragments(b"other")[0], fragments(b"hello", 6)[0]):
        assert ignored(give(target, [(0, payload)])) is IgnoreReason.COUNTER_REUSED


def test_the_same_index_with_other_content_ends_a_live_message() -> None:
    target = reassembler()
    one, two = fragments(NOISE[:200]), fragments(NOISE[200:400])
    give(target, [(0, one[0])])
    event = only(give(target, [(0, two[0])], first=100 + TAGS))
    assert isinstance(event, MessageRejected)
    assert isinstance(event.error, FragmentConflict)
    # What comes later of either cannot join or begin anything.
    assert ignored(give(target, [(1, one[1])])) is IgnoreReason.ENDED
    assert ignored(give(target, [(0, one[0])])) is IgnoreReason.ENDED


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (craft("AAAA", index=2), craft("AAAA", index=3)),
        (craft("AAAA", index=2), craft("AAAA", index=3, last=False)),
        (craft("AAAA", index=3, last=False), craft("AAAA", index=2)),
        (craft("AAAA", index=2), craft("AAAA", index=2, last=False)),
        (craft("AAAA", index=0, last=False), craft("AAAA", compression=Compression.NONE)),
    ],
)
def test_fragments_that_contradict_each_other_end_the_message(first: str, second: str) -> None:
    target = reassembler()
    give(target, [(parse_untrusted_header(first[:4]).index, first)])
    index = parse_untrusted_header(second[:4]).index
    event = only(give(target, [(index, second)], first=100 + TAGS))
    assert isinstance(event, MessageRejected)
    assert isinstance(event.error, FragmentConflict)
    assert (target.partial_messages, target.held_octets) == (0, 0)


ZDICT = zlib.compressobj(zdict=b"oadr")
WITH_DICTIONARY = ZDICT.compress(b"oadr") + ZDICT.flush()


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        (craft(b"not zlib"), ZlibError),
        (craft(zlib.compress(b"x")[:-1]), ZlibError),
        (craft(zlib.compress(b"x") + b"y"), ZlibError),
        (craft(zlib.compress(bytes(2_000))), LimitExceeded),
        (craft(WITH_DICTIONARY), UnknownDictionary),
        (craft("AAA"), Base64Error),
        (craft("AB==", compression=Compression.NONE), Base64Error),
        (craft("AAAA", compression=Compression.RESERVED), UnsupportedCompression),
    ],
)
def test_what_does_not_decode_is_rejected_once_and_stays_so(
    payload: str, error: type[Exception]
) -> None:
    target = reassembler(message_octets=1_000)
    event = only(give(target, [(0, payload)]))
    assert isinstance(event, MessageRejected)
    assert isinstance(event.error, error)
    assert (event.tunnel_message_id, event.first_counter) == (5, 100)
    assert ignored(give(target, [(0, payload)])) is IgnoreReason.ENDED


def test_a_message_of_many_fragments_that_does_not_decode() -> None:
    target = reassembler()
    payloads = list(fragments(NOISE[:300]))
    payloads[1] = payloads[1][:-1] + ("A" if payloads[1][-1] != "A" else "B")
    events = give(target, enumerate(payloads))
    assert isinstance(events[-1], MessageRejected)
    assert isinstance(events[-1].error, ZlibError)
    assert not any(isinstance(event, MessageReassembled) for event in events)
    assert target.held_octets == 0


def control_fragments(*records: Record, message_id: int = 5) -> list[tuple[int, str]]:
    text = encode_base64(build_control(records)).decode()
    pieces = [text[start : start + 106] for start in range(0, len(text), 106)]
    return [
        (
            index,
            craft(
                piece,
                compression=Compression.CONTROL,
                last=index == len(pieces) - 1,
                index=index,
                message_id=message_id,
            ),
        )
        for index, piece in enumerate(pieces)
    ]


def test_a_control_message_is_delivered_as_records_once() -> None:
    target = reassembler()
    name = MessageName(1, 2)
    [(_, payload)] = control_fragments(Cancelled(name), CapabilitiesWanted())
    assert give(target, [(0, payload)], first=7) == [
        FragmentAccepted(PEER, 5, 7, 0, True, control=True),
        ControlReceived(PEER, 5, 7, ControlMessage((Cancelled(name), CapabilitiesWanted()))),
    ]
    assert ignored(give(target, [(0, payload)], first=7)) is IgnoreReason.REPLAY
    assert ignored(give(target, [(0, payload)], first=7 + TAGS)) is IgnoreReason.DELIVERED


def test_a_control_message_may_span_fragments_and_has_an_id_space_of_its_own() -> None:
    target = reassembler()
    names = tuple(MessageName(number, number) for number in range(40))
    control, data = control_fragments(Receipt(names)), list(enumerate(fragments(NOISE[:200])))
    assert len(control) > 2
    give(target, control[1:], first=500)
    give(target, data[:1], first=100)
    assert isinstance(give(target, control[:1], first=500)[-1], ControlReceived)
    assert isinstance(give(target, data[1:], first=100)[-1], MessageReassembled)
    assert target.held_octets == 0


def test_a_control_message_that_is_malformed_is_rejected() -> None:
    target = reassembler()
    payload = craft(bytes(8), compression=Compression.CONTROL)
    event = only(give(target, [(0, payload)]))
    assert isinstance(event, MessageRejected)
    assert isinstance(event.error, ControlInvalid)
    assert event.control
    again = only(give(target, [(0, payload)], first=100 + TAGS))
    assert isinstance(again, FragmentIgnored)
    assert (again.reason, again.control, again.fresh) == (IgnoreReason.ENDED, True, True)


def test_a_control_message_is_bounded() -> None:
    target = reassembler(message_octets=10**6)
    for index in range(60):
        payload = craft("A" * 106, compression=Compression.CONTROL, last=False, index=index)
        events = give(target, [(index, payload)])
        if isinstance(events[-1], MessageRejected):
            break
    assert index * 106 < 7000
    assert target.held_octets == 0


def test_somebodys_label_and_our_own_fragments_are_ignored() -> None:
    target = reassembler()
    assert ignored(give(target, [(0, "Storage heater")])) is IgnoreReason.NOT_A_FRAGMENT
    up = craft(zlib.compress(b"x"), originator=Originator.CEM)
    assert ignored(give(target, [(0, up)])) is IgnoreReason.NOT_MINE
    high = craft("AAAA", index=9)
    assert ignored(give(target, [(0, high)], first=3)) is IgnoreReason.NOT_A_FRAGMENT


def test_a_newer_use_of_an_id_ends_the_older_and_the_older_cannot_come_back() -> None:
    target = reassembler()
    old, new = fragments(NOISE[:200]), fragments(NOISE[200:400])
    give(target, [(0, old[0])], first=100)
    events = give(target, [(1, new[1])], first=200)
    assert events == [
        MessageAborted(PEER, 5, 100, AbortReason.SUPERSEDED),
        FragmentAccepted(PEER, 5, 200, 1, False),
    ]
    assert ignored(give(target, [(1, old[1])], first=100)) is IgnoreReason.OLDER_MESSAGE
    assert isinstance(
        give(target, [(i, p) for i, p in enumerate(new) if i != 1], first=200)[-1],
        MessageReassembled,
    )
    assert ignored(give(target, [(1, old[1])], first=100)) is IgnoreReason.OLDER_MESSAGE


def test_below_the_floor_only_a_live_message_may_go_on() -> None:
    target = reassembler(replay_window=4)
    payloads = fragments(NOISE[:300])
    give(target, [(0, payloads[0])])
    for counter in range(200, 210):
        give(target, enumerate(fragments(b"x", counter - 200 + 10)), first=counter)
    assert ignored(give(target, enumerate(fragments(b"late", 77)), first=150)) is IgnoreReason.STALE
    # Its own missing fragments are known to be missing: no replay can hide there.
    assert isinstance(give(target, list(enumerate(payloads))[1:])[-1], MessageReassembled)
    assert ignored(give(target, [(0, payloads[0])])) is IgnoreReason.REPLAY


def test_a_message_expires_with_what_is_missing() -> None:
    target = reassembler(message_lifetime_s=DAY_S)
    payloads = list(enumerate(fragments(NOISE[:500])))
    give(target, [payloads[0], payloads[3]], now=1000.0)
    give(target, [payloads[1]], now=2000.0)
    assert target.get_timer() == 1000.0 + DAY_S
    assert target.missing(PEER, 5) == (2,)
    assert target.handle_timer(999.0 + DAY_S) == []
    assert target.handle_timer(1000.0 + DAY_S) == [MessageExpired(PEER, 5, 100, (2,), False)]
    assert target.get_timer() is None
    assert target.missing(PEER, 5) is None
    assert ignored(give(target, [payloads[2]])) is IgnoreReason.ENDED


def test_time_passes_also_for_those_who_never_call_the_timer() -> None:
    target = reassembler(message_lifetime_s=DAY_S)
    payloads = list(enumerate(fragments(NOISE[:200])))
    give(target, [payloads[-1]], now=0.0)
    events = give(target, [payloads[0]], now=DAY_S)
    assert events[0] == MessageExpired(PEER, 5, 100, tuple(range(len(payloads) - 1)), True)
    assert ignored(events[1:]) is IgnoreReason.ENDED


def test_too_many_incomplete_messages_of_a_peer_end_its_oldest() -> None:
    target = reassembler(partial_messages_per_peer=2)
    give(target, [(0, fragments(NOISE[:200], 1)[0])], first=10, now=1.0)
    give(target, [(0, fragments(NOISE[:200], 1)[0])], first=10, now=1.0, peer=OTHER)
    give(target, [(0, fragments(NOISE[:200], 2)[0])], first=20, now=2.0)
    events = give(target, [(0, fragments(NOISE[:200], 3)[0])], first=30, now=3.0)
    assert events == [
        FragmentAccepted(PEER, 3, 30, 0, False),
        MessageAborted(PEER, 1, 10, AbortReason.TOO_MANY_PARTIAL),
    ]
    assert target.partial_messages == 3


def test_too_much_memory_ends_the_oldest_of_all() -> None:
    target = reassembler(total_octets=3000)
    for number in range(3):
        peer = bytes([number])
        events = give(target, [(0, fragments(NOISE[:200])[0])], now=float(number), peer=peer)
    assert events[-1] == MessageAborted(b"\x00", 5, 100, AbortReason.MEMORY)
    assert target.held_octets <= 3000


def test_a_message_larger_than_the_limit_is_refused_before_it_is_whole() -> None:
    target = reassembler(message_octets=100)
    events = give(target, enumerate(fragments(NOISE[:500])))
    rejected = [event for event in events if isinstance(event, MessageRejected)]
    assert len(rejected) == 1
    assert isinstance(rejected[0].error, LimitExceeded)
    assert isinstance(events[-1], FragmentIgnored)
    assert (target.partial_messages, target.held_octets) == (0, 0)


def test_no_more_peers_than_allowed() -> None:
    target = reassembler(peers=1)
    give(target, enumerate(fragments(b"hello")))
    reason = ignored(give(target, enumerate(fragments(b"hello")), peer=OTHER))
    assert reason is IgnoreReason.TOO_MANY_PEERS
    target.forget_peer(PEER)
    assert len(give(target, enumerate(fragments(b"hello")), peer=OTHER)) == 2


def test_the_message_that_has_been_silent_for_longest_makes_room() -> None:
    target = reassembler(partial_messages_per_peer=2)
    one, two = (list(enumerate(fragments(NOISE[:300], number))) for number in (1, 2))
    give(target, one[:1], first=10, now=1.0)
    give(target, two[:1], first=20, now=2.0)
    give(target, one[1:2], first=10, now=3.0)
    events = give(target, [(0, fragments(NOISE[:200], 3)[0])], first=30, now=4.0)
    assert events[-1] == MessageAborted(PEER, 2, 20, AbortReason.TOO_MANY_PARTIAL)
    again = only(give(target, two[1:2], first=20, now=5.0))
    assert isinstance(again, FragmentIgnored)
    assert (again.reason, again.code) == (IgnoreReason.ENDED, AbortCode.TOO_MANY_PARTIAL)


@pytest.mark.parametrize("counter", [20, TAGS + 20])
def test_a_repetition_does_not_keep_a_message_alive(counter: int) -> None:
    target = reassembler(partial_messages_per_peer=2)
    one, two = (fragments(NOISE[:300], number)[0] for number in (1, 2))
    target.receive_fragment(PEER, two, originator_counter=20, now=1.0)
    target.receive_fragment(PEER, one, originator_counter=10, now=2.0)
    target.receive_fragment(PEER, two, originator_counter=counter, now=3.0)
    events = give(target, [(0, fragments(NOISE[:200], 3)[0])], first=30, now=4.0)
    assert events[-1] == MessageAborted(PEER, 2, 20, AbortReason.TOO_MANY_PARTIAL)


def test_a_peer_is_known_from_what_was_taken_of_it() -> None:
    target = reassembler(peers=1)
    [payload] = fragments(b"hello")
    busy = only(target.receive_fragment(PEER, payload, originator_counter=1, now=0.0, busy=True))
    assert isinstance(busy, FragmentIgnored)
    assert busy.reason is IgnoreReason.BUSY
    first, _ = target.receive_fragment(OTHER, payload, originator_counter=1, now=0.0)
    assert isinstance(first, FragmentAccepted)


def test_a_busy_end_takes_nothing_new_and_changes_nothing() -> None:
    target = reassembler()
    payloads = list(enumerate(fragments(NOISE[:200])))
    give(target, payloads[:1])
    before = target.export_window(PEER)
    for index, payload in payloads[1:]:
        events = target.receive_fragment(
            PEER, payload, originator_counter=100 + index, now=0.0, busy=True
        )
        assert ignored(events) is IgnoreReason.BUSY
    other = fragments(b"x", 9)[0]
    events = target.receive_fragment(PEER, other, originator_counter=900, now=0.0, busy=True)
    assert ignored(events) is IgnoreReason.BUSY
    assert target.export_window(PEER) == before
    # What is here already may come again, and control messages are always welcome.
    events = target.receive_fragment(
        PEER, payloads[0][1], originator_counter=100 + TAGS, now=0.0, busy=True
    )
    assert ignored(events) is IgnoreReason.DUPLICATE
    [(_, control)] = control_fragments(CapabilitiesWanted())
    events = target.receive_fragment(PEER, control, originator_counter=901, now=0.0, busy=True)
    assert isinstance(events[-1], ControlReceived)
    assert isinstance(give(target, payloads[1:])[-1], MessageReassembled)


def test_a_message_sent_again_under_new_counters_is_the_same_message() -> None:
    target = reassembler()
    payloads = list(enumerate(fragments(NOISE[:300])))
    give(target, payloads[:2], first=100)
    give(target, payloads[1:3], first=100 + TAGS)
    assert target.ignored == {IgnoreReason.DUPLICATE: 1}
    end = give(target, payloads[3:], first=100 + 7 * TAGS)[-1]
    assert end == MessageReassembled(PEER, 5, 100, 99 + len(payloads), NOISE[:300])
    # Late ones find the message delivered, and say so.
    late = only(give(target, payloads[:1], first=100 + 8 * TAGS))
    assert isinstance(late, FragmentIgnored)
    assert late.reason is IgnoreReason.DELIVERED
    assert (late.tunnel_message_id, late.first_counter, late.fresh) == (5, 100, True)
    assert ignored(give(target, payloads[:1], first=100 + 8 * TAGS)) is IgnoreReason.REPLAY


def test_a_late_fragment_cannot_fill_the_hole_of_a_newer_message_with_the_same_tag() -> None:
    target = reassembler()
    one, two, three = (fragments(NOISE[start : start + 300]) for start in (0, 300, 600))
    # The first attempt of a fragment of message one is withheld; it is sent again.
    give(target, [(i, p) for i, p in enumerate(one) if i != 1], first=100)
    assert isinstance(give(target, [(1, one[1])], first=100 + TAGS)[-1], MessageReassembled)
    assert isinstance(give(target, enumerate(two), first=TAGS + 200)[-1], MessageReassembled)
    # Message three has the tag of one, as it may: two has been seen since.
    give(target, [(i, p) for i, p in enumerate(three) if i != 1], first=2 * TAGS + 100)
    assert ignored(give(target, [(1, one[1])], first=100)) is IgnoreReason.OLDER_MESSAGE
    end = give(target, [(1, three[1])], first=2 * TAGS + 100)[-1]
    last = 2 * TAGS + 99 + len(three)
    assert end == MessageReassembled(PEER, 5, 2 * TAGS + 100, last, NOISE[600:900])


def test_a_sender_may_give_up_its_message() -> None:
    target = reassembler()
    give(target, [(0, fragments(NOISE[:200])[0])], first=100)
    assert target.cancelled(PEER, MessageName(5, 101)) == []
    assert target.cancelled(OTHER, MessageName(5, 100)) == []
    assert target.cancelled(PEER, MessageName(5, 100 + TAGS)) == [
        MessageAborted(PEER, 5, 100, AbortReason.BY_SENDER)
    ]


def test_what_must_be_known_of_a_live_message_to_ask_for_the_rest() -> None:
    target = reassembler()
    payloads = list(enumerate(fragments(NOISE[:500])))
    assert target.missing_ranges(PEER, 5) == ()
    give(target, payloads[2:3])
    assert target.missing_ranges(PEER, 5) == (IndexRange(0, 2), IndexRange(3, 0))
    give(target, payloads[-1:])
    last = len(payloads) - 1
    assert target.missing_ranges(PEER, 5) == (IndexRange(0, 2), IndexRange(3, last - 3))


def test_a_window_that_is_too_large_for_this_end_is_refused_by_name() -> None:
    target = reassembler(window_bits=12)
    events = give(target, enumerate(fragments(bytes(1000))))
    end = events[-1]
    assert isinstance(end, MessageRejected)
    assert isinstance(end.error, WindowTooLarge)
    small = encode_message(
        bytes(1000),
        carrier=ECS46A,
        originator=Originator.DSRSP,
        tunnel_message_id=6,
        window_bits=12,
    ).payloads
    assert isinstance(give(target, enumerate(small), first=500)[-1], MessageReassembled)


def test_messages_restored_without_room_end() -> None:
    before = reassembler()
    for number in range(3):
        give(before, [(0, fragments(NOISE[:200], number)[0])], first=10 * number + 10)
    after = reassembler(partial_messages_per_peer=2)
    events = after.restore_window(PEER, before.export_window(PEER))
    assert events == [MessageAborted(PEER, 0, 10, AbortReason.TOO_MANY_PARTIAL)]


def test_the_caller_may_abort() -> None:
    target = reassembler()
    payloads = list(enumerate(fragments(NOISE[:200])))
    give(target, payloads[:1])
    assert target.abort_message(PEER, 5) == [MessageAborted(PEER, 5, 100, AbortReason.BY_CALLER)]
    assert target.abort_message(PEER, 5) == []
    assert ignored(give(target, payloads[1:2])) is IgnoreReason.ENDED


def test_a_restart_in_the_middle_of_a_message() -> None:
    before = reassembler(replay_window=4)
    give(before, enumerate(fragments(b"done", 1)), first=10)
    give(before, [(0, craft(b"bad", message_id=2))], first=20)
    payloads = list(enumerate(fragments(NOISE[:500])))
    give(before, payloads[:3], now=50.0)
    saved = before.export_window(PEER)

    after = reassembler(replay_window=4)
    after.restore_window(PEER, saved)
    assert after.export_window(PEER) == saved
    assert after.get_timer() == before.get_timer()
    assert give(after, payloads[:3], now=50.0) == [
        FragmentAccepted(PEER, 5, 100, index, False) for index in range(3)
    ]
    assert after.held_octets == before.held_octets
    # Counter 10 has left the window of 4, but its message is known.
    assert ignored(give(after, enumerate(fragments(b"done", 1)), first=10)) is IgnoreReason.REPLAY
    bad = craft(b"bad", message_id=2)
    assert ignored(give(after, [(0, bad)], first=20)) is IgnoreReason.ENDED
    assert isinstance(give(after, payloads[3:])[-1], MessageReassembled)
    assert ignored(give(after, payloads[-1:])) is IgnoreReason.REPLAY


def test_a_fragment_that_was_not_stored_before_the_crash_is_taken_again() -> None:
    before = reassembler()
    payloads = list(enumerate(fragments(NOISE[:300])))
    give(before, payloads[:2])
    after = reassembler()
    after.restore_window(PEER, before.export_window(PEER))
    give(after, payloads[:1])
    assert isinstance(give(after, payloads[1:])[-1], MessageReassembled)


@pytest.mark.parametrize("cut", [0, 1, 5, 11, 20, -1])
def test_saved_state_that_is_not_ours_is_refused(cut: int) -> None:
    target = reassembler()
    give(target, enumerate(fragments(b"hello")))
    saved = target.export_window(PEER)
    with pytest.raises(StateError):
        reassembler().restore_window(PEER, saved[:cut])
    with pytest.raises(StateError, match="not of version 2"):
        reassembler().restore_window(PEER, b"\x09" + saved[1:])
    with pytest.raises(StateError):
        reassembler().restore_window(PEER, saved + b"\0")


@pytest.mark.parametrize("counter", [-1, 2**64])
def test_a_counter_has_64_bits(counter: int) -> None:
    with pytest.raises(LocalError, match="not of 64 bits"):
        reassembler().receive_fragment(PEER, "GAAH", originator_counter=counter, now=0.0)


@pytest.mark.parametrize(
    "limits",
    [{"peers": 0}, {"message_octets": 0}, {"message_lifetime_s": 0.0}, {"replay_window": 65_536}],
)
def test_limits_that_make_no_sense_are_refused(limits: dict[str, float]) -> None:
    with pytest.raises(LocalError, match="it must be"):
        reassembler(**limits)


def test_ended_messages_leave_nothing_behind() -> None:
    target = reassembler()
    for number in range(1000):
        first = 10 * number
        give(
            target, enumerate(fragments(NOISE[:200], number % 256)), first=first, now=float(number)
        )
    assert target.partial_messages == 0
    assert len(target._partials._deadlines) <= 64
