"""A peer with a genuine key that floods an endpoint over route 2b: what is held has an end."""

from __future__ import annotations

import gc
import tracemalloc
import zlib
from collections.abc import Callable, Collection

import pytest

from smtunnel import (
    Compression,
    Confirmation,
    Effects,
    Endpoint,
    FragmentHeader,
    Originator,
    SendPolicy,
)
from smtunnel.control import Record, build_control
from smtunnel.events import FragmentIgnored, IgnoreReason, MessageReassembled, MessageRejected
from smtunnel.records import (
    Abort,
    AbortCode,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoRequest,
    MessageName,
    Receipt,
)
from smtunnel.route_choice import Route
from smtunnel.routes import RouteAnswer, RouteStatus

PEER = b"a device"
TOP = 2**64 - 1
SMALL = zlib.compress(b"a message")
BOMB = zlib.compress(bytes(10_000_000), 9)
MESSAGES = 500
"""Almost twice what fills the ids, and ten times the window."""


class Counters:
    def __init__(self) -> None:
        self.next = 1

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        self.next += (tag + index - self.next) % 65_536 + 1
        return self.next - 1


def whole(number: int, compression: Compression, body: bytes) -> bytes:
    header = FragmentHeader(Originator.CEM, compression, False, True, 0, number % 256)
    return header.to_bytes() + body


def data(number: int, body: bytes = SMALL) -> bytes:
    return whole(number, Compression.ZLIB, body)


def control(number: int, *records: Record) -> bytes:
    return whole(number, Compression.CONTROL, build_control(records))


def name(number: int) -> MessageName:
    return MessageName.of(number % 256, number)


FLOODS: dict[str, Callable[[int], bytes]] = {
    "messages": data,
    "what is no message": lambda n: data(n, b"no zlib"),
    "bombs": lambda n: data(n, BOMB),
    "receipts": lambda n: control(n, Receipt((name(n),)), ControlReceipt((name(n + 1),))),
    "echoes": lambda n: control(n, *[EchoRequest(n.to_bytes(8, "big"), bytes(64))] * 40),
    "aborts": lambda n: control(n, *[Abort(name(n), AbortCode.OTHER)] * 50),
    "capabilities": lambda n: control(n, *[Capabilities(message_octets=n)] * 20),
    "questions": lambda n: control(n, *[CapabilitiesWanted()] * 50),
    "answers": lambda n: control(n, *[RouteAnswer(n, RouteStatus.ACCEPTED)] * 50),
}


class End:
    """A DSRSP's endpoint with route 2b up."""

    def __init__(self) -> None:
        self.endpoint = Endpoint(
            side=Originator.DSRSP,
            counters=Counters(),
            policy=SendPolicy(confirmation=Confirmation.RESULTS, retry_jitter=0.0),
            random_fraction=lambda: 0.5,
        )
        self.endpoint.route_up(PEER, 0.0, message_octets=65_536)
        self.rows: dict[str, bytes] = {}

    def take(self, payload: bytes, counter: int) -> list[object]:
        effects = self.endpoint.on_message(PEER, payload, originator_counter=counter, now=0.0)
        self.given_out = effects.transmits
        self.keep(effects)
        return list(effects.events)

    def read(self) -> None:
        """Have what was given out written to the connection."""
        for transmit in self.given_out:
            self.keep(self.endpoint.on_transmitted(transmit.originator_counter, 0.0))

    def keep(self, effects: Effects) -> None:
        for key, octets in effects.saves.items():
            self.rows[key] = octets or b""
            if octets is None:
                del self.rows[key]


@pytest.mark.parametrize("flood", FLOODS)
@pytest.mark.parametrize("reads", [True, False], ids=["reads", "reads nothing"])
def test_what_a_flood_leaves_behind_has_an_end(flood: str, reads: bool) -> None:
    end, make = End(), FLOODS[flood]
    tracemalloc.start()
    try:
        for number in range(1000, 1000 + MESSAGES):
            end.take(make(number), number)
            if reads:
                end.read()
        _, peak = tracemalloc.get_traced_memory()
        # What errors hold of the frames that they passed through.
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 600_000
    # A bomb is inflated up to the longest message, no further.
    assert peak < 4_000_000
    assert len(end.rows) < 300
    assert sum(map(len, end.rows.values())) < 60_000


def test_what_is_owed_to_who_reads_nothing_is_bounded() -> None:
    end = End()
    for number in range(1000, 4000):
        end.take(data(number), number)
    [owed] = end.endpoint._inbound._prompt._owed.values()
    assert len(owed.data) == 1024
    assert name(3999) in owed.data


def test_a_counter_at_the_end_of_the_range_shuts_out_its_own_peer_only() -> None:
    end = End()
    assert isinstance(end.take(data(0), TOP)[-1], MessageReassembled)
    [ignored] = end.take(data(0), TOP)
    assert isinstance(ignored, FragmentIgnored)
    assert ignored.reason is IgnoreReason.REPLAY
    # While the window has room, smaller ones under other ids are taken still.
    assert isinstance(end.take(data(1), 5)[-1], MessageReassembled)
    for counter in range(TOP - 200, TOP):
        end.take(data(counter), counter)
    [ignored] = end.take(data(7), 6)
    assert isinstance(ignored, FragmentIgnored)
    assert ignored.reason is IgnoreReason.STALE
    # What is saved of it can be read again, another peer is served, and so is this one downlink.
    effects = End().endpoint.restore(end.rows.items(), 0.0)
    assert not effects.events
    other = end.endpoint.on_message(b"another1", data(1), originator_counter=1, now=0.0)
    assert [received.message for received in other.received] == [b"a message"]
    sent = end.endpoint.send("own", PEER, b"still", 0.0)
    assert [t.route for t in sent.transmits if t.ref == "own"] == [Route.ROUTE_2B]


def test_a_bomb_is_refused_with_its_reason() -> None:
    [event] = [e for e in End().take(data(1, BOMB), 1) if isinstance(e, MessageRejected)]
    assert "inflates to more than 65536 octets" in str(event.error)
