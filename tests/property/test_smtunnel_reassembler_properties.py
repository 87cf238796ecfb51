from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from smtunnel import (
    ECS46A,
    ECS200,
    Carrier,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    Limits,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    Originator,
    Payload,
    Reassembler,
    encode_message,
    parse_untrusted_fragment,
)
from smtunnel.header import header_of_value

MESSAGES = st.one_of(
    st.binary(max_size=400),
    st.tuples(st.integers(0, 2**32), st.integers(0, 4000)).map(
        lambda pair: random.Random(pair[0]).randbytes(pair[1])
    ),
)
CARRIERS = st.sampled_from([ECS46A, ECS200, replace(ECS46A, printable=False)])
Key = tuple[bytes, int, int]


def payloads_of(message: bytes, carrier: Carrier, message_id: int) -> tuple[Payload, ...]:
    encoded = encode_message(
        message, carrier=carrier, originator=Originator.DSRSP, tunnel_message_id=message_id
    )
    return encoded.payloads or encoded.octet_payloads


def new_reassembler(carrier: Carrier, **limits: int) -> Reassembler:
    return Reassembler(
        originator=Originator.DSRSP, carrier=carrier, limits=replace(Limits(), **limits)
    )


@given(MESSAGES, CARRIERS, st.data())
def test_any_octets_any_order_duplicates_and_losses_exactly_or_not_at_all(
    message: bytes, carrier: Carrier, data: st.DataObject
) -> None:
    payloads = payloads_of(message, carrier, 3)
    indices = st.integers(0, len(payloads) - 1)
    lost = data.draw(st.sets(indices, max_size=2), label="lost") if len(payloads) > 1 else set()
    arrivals = [index for index in range(len(payloads)) if index not in lost]
    arrivals += [i for i in data.draw(st.lists(indices, max_size=8)) if i not in lost]
    data.draw(st.randoms(use_true_random=False), label="order").shuffle(arrivals)

    target = new_reassembler(carrier)
    events: list[Event] = []
    for index in arrivals:
        events += target.receive_fragment(
            b"peer", payloads[index], originator_counter=500 + index, now=0.0
        )
    whole = [event for event in events if isinstance(event, MessageReassembled)]
    if lost:
        assert whole == []
        ended = target.handle_timer(target.limits.message_lifetime_s)
        assert len(ended) == (1 if arrivals else 0)
        for event in ended:
            assert isinstance(event, MessageExpired)
            assert set(event.missing) <= lost
    else:
        assert whole == [MessageReassembled(b"peer", 3, 500, 499 + len(payloads), message)]
    accepted = [event.index for event in events if isinstance(event, FragmentAccepted)]
    assert sorted(accepted) == sorted(set(arrivals))
    assert target.partial_messages == 0
    assert target.held_octets == 0


@dataclass
class Sender:
    """One peer's sending side: counters rise, sparsely; ids come round soon."""

    peer: bytes
    counter: int = 0
    sent: dict[Key, bytes] = field(default_factory=dict)
    wire: list[tuple[bytes, int, str]] = field(default_factory=list)

    def send(self, message: bytes, message_id: int, gap: int) -> None:
        self.counter += 1 + gap
        self.sent[self.peer, message_id, self.counter] = message
        for payload in payloads_of(message, ECS46A, message_id):
            assert isinstance(payload, str)
            self.wire.append((self.peer, self.counter, payload))
            self.counter += 1


@dataclass
class Receiver:
    """The receiving end with a disk, which may lose what it did not store before a crash."""

    limits: dict[str, int]
    ends: dict[Key, Event] = field(default_factory=dict)
    stored: dict[tuple[bytes, int], tuple[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.target = new_reassembler(ECS46A, **self.limits)

    def receive(self, peer: bytes, counter: int, payload: str, now: float) -> None:
        events = self.target.receive_fragment(peer, payload, originator_counter=counter, now=now)
        own = [e for e in events if isinstance(e, FragmentAccepted | FragmentIgnored)]
        rejected = [e for e in events if isinstance(e, MessageRejected)]
        assert len(own) + len(rejected) == 1
        if own and isinstance(own[0], FragmentAccepted):
            self.stored[peer, counter] = (payload, now)
        self.note(events)

    def note(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(
                event, MessageReassembled | MessageRejected | MessageExpired | MessageAborted
            ):
                key = (event.peer, event.tunnel_message_id, event.first_counter)
                assert key not in self.ends, "a message ends once"
                self.ends[key] = event
                for place in list(self.stored):
                    held = parse_untrusted_fragment(self.stored[place][0], ECS46A).header
                    first = place[1] - held.index
                    if (place[0], held.tunnel_message_id, first) == key:
                        del self.stored[place]

    def restart(self, peers: Iterator[bytes], shuffler: random.Random) -> None:
        saved = {peer: self.target.export_window(peer) for peer in peers}
        self.target = new_reassembler(ECS46A, **self.limits)
        for peer, window in saved.items():
            self.target.restore_window(peer, window)
        kept = list(self.stored.items())
        shuffler.shuffle(kept)
        for (peer, counter), (payload, now) in kept:
            events = self.target.receive_fragment(
                peer, payload, originator_counter=counter, now=now
            )
            assert [type(event) for event in events] == [FragmentAccepted]


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"A", b"B"]),
            st.binary(max_size=250),
            st.integers(0, 2),
            st.integers(0, 10**6),
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(1, 6),
    st.integers(1, 4),
    st.sampled_from([3000, 10**6]),
    st.floats(0, 0.3),
    st.randoms(use_true_random=False),
)
def test_whatever_the_link_and_restarts_do_each_message_ends_once_and_whole_or_not_at_all(
    messages: list[tuple[bytes, bytes, int, int]],
    window: int,
    partials: int,
    total_octets: int,
    loss: float,
    chance: random.Random,
) -> None:
    senders = {peer: Sender(peer) for peer in (b"A", b"B")}
    for peer, message, message_id, gap in messages:
        senders[peer].send(message, message_id, gap)
    wire = [item for sender in senders.values() for item in sender.wire]
    arrivals = [item for item in wire for _ in range(chance.choice((1, 1, 2)))]
    arrivals = [item for item in arrivals if chance.random() >= loss]
    # Mostly in order, with some that overtake far.
    arrivals = [
        item
        for _, item in sorted(
            enumerate(arrivals), key=lambda pair: pair[0] + chance.choice((0, 0, 3, 40))
        )
    ]
    limits = {
        "replay_window": window,
        "partial_messages_per_peer": partials,
        "total_octets": total_octets,
    }
    receiver = Receiver(limits)
    for step, (peer, counter, payload) in enumerate(arrivals):
        receiver.receive(peer, counter, payload, float(step))
        if chance.random() < 0.1:
            receiver.restart(iter(senders), chance)
        assert receiver.target.held_octets <= total_octets
    # Everything the attacker has recorded comes again: nothing may come of it.
    before = {key for key, end in receiver.ends.items() if isinstance(end, MessageReassembled)}
    receiver.note(receiver.target.handle_timer(1e9))
    for peer, counter, payload in arrivals:
        receiver.receive(peer, counter, payload, 2e9)
    receiver.note(receiver.target.handle_timer(1e12))

    sent = {key: text for sender in senders.values() for key, text in sender.sent.items()}
    for key, end in receiver.ends.items():
        assert key in sent
        assert not isinstance(end, MessageRejected)
        if isinstance(end, MessageReassembled):
            assert end.message == sent[key]
    after = {key for key, end in receiver.ends.items() if isinstance(end, MessageReassembled)}
    assert after == before
    assert receiver.target.partial_messages == 0
    assert receiver.target.held_octets == 0


def with_header(value: int, body: str) -> str:
    return header_of_value(value).encode() + body


HOSTILE = st.one_of(
    st.text(max_size=115),
    st.builds(with_header, st.integers(0, 2**24 - 1), st.text("ABab09+/=", max_size=106)),
    # Near to what a sender writes, so that messages begin, contradict themselves and end.
    st.builds(
        with_header,
        st.builds(
            lambda control, index, message_id: control << 19 | index << 8 | message_id,
            st.sampled_from([0b00110, 0b00111, 0b00011, 0b01110, 0b01011]),
            st.integers(0, 3),
            st.integers(0, 1),
        ),
        st.sampled_from(["eNo=", "AwAAAAAB", "eNoDAAAAAAE=", "AAAA", "A", "="]),
    ),
)


@given(
    st.lists(st.tuples(HOSTILE, st.integers(0, 12), st.sampled_from([b"A", b"B"])), max_size=40),
    st.integers(1, 4),
)
def test_hostile_input_ends_only_in_events(
    arrivals: list[tuple[str, int, bytes]], window: int
) -> None:
    target = new_reassembler(
        ECS46A, replay_window=window, partial_messages_per_peer=2, total_octets=3000, peers=2
    )
    ends: set[Key] = set()
    for step, (payload, counter, peer) in enumerate(arrivals):
        events = target.receive_fragment(peer, payload, originator_counter=counter, now=float(step))
        for event in events:
            if not isinstance(event, FragmentAccepted | FragmentIgnored):
                key = (event.peer, event.tunnel_message_id, event.first_counter)
                assert key not in ends
                ends.add(key)
        assert events
        assert target.held_octets <= 3000
    target.handle_timer(1e9)
    assert (target.partial_messages, target.held_octets) == (0, 0)
