"""Whatever an authentic peer or the transport says: no exception, and state to go on from."""

from __future__ import annotations

import random
from collections.abc import Collection
from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from smtunnel import Confirmation, Effects, Endpoint, Limits, Originator, Result, SendPolicy
from smtunnel.codec import encode_base64
from smtunnel.control import Record, build_control
from smtunnel.header import Compression, FragmentHeader
from smtunnel.records import (
    Abort,
    AbortCode,
    Cancelled,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoRequest,
    IndexRange,
    MessageName,
    Missing,
    Receipt,
    ReceiptPolicy,
)

PEER = b"peer"
SENT_TO_US = {Originator.DSRSP: Originator.CEM, Originator.CEM: Originator.DSRSP}

# Names that now and then are those of a message that is really on its way.
NAMES = st.builds(
    MessageName, st.integers(0, 3), st.one_of(st.integers(0, 40), st.integers(65_536, 65_580))
)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Receipt, st.tuples(NAMES)),
    st.builds(ControlReceipt, st.tuples(NAMES)),
    st.builds(Missing, NAMES, st.just((IndexRange(0, 1), IndexRange(2, 0)))),
    st.builds(
        Abort,
        NAMES,
        st.sampled_from([AbortCode.ZLIB, AbortCode.MEMORY, AbortCode.EXPIRED, AbortCode.OTHER]),
    ),
    st.builds(Abort, NAMES, st.just(AbortCode.UNKNOWN_DICTIONARY), st.just(7)),
    st.builds(Abort, NAMES, st.just(AbortCode.WINDOW_TOO_LARGE), st.integers(9, 15)),
    st.builds(Cancelled, NAMES),
    st.builds(EchoRequest, st.just(bytes(8))),
    st.just(CapabilitiesWanted()),
    st.builds(
        Capabilities,
        receipts=st.sampled_from(ReceiptPolicy),
        window_bits=st.integers(9, 15),
        message_octets=st.integers(1, 2**32 - 1),
    ),
)


@st.composite
def control_payloads(draw: st.DrawFn) -> tuple[Compression, str]:
    octets = build_control(draw(st.lists(RECORDS, min_size=1, max_size=2)))
    return Compression.CONTROL, encode_base64(octets).decode()[:106]


BODIES = st.one_of(
    control_payloads(),
    st.tuples(
        st.sampled_from(Compression), st.sampled_from(["eNo=", "eNoDAAAAAAE=", "AAAA", "A", ""])
    ),
)
FRAGMENTS = st.tuples(
    st.just("fragment"),
    BODIES,
    st.booleans(),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(0, 60),
)
INPUTS = st.one_of(
    FRAGMENTS,
    st.tuples(st.just("send"), st.integers(0, 2500)),
    st.tuples(st.just("cancel"), st.integers(0, 5)),
    st.tuples(st.just("answered"), st.integers(0, 5)),
    st.tuples(st.just("transmitted"), st.integers(0, 40)),
    st.tuples(st.just("result"), st.integers(0, 40), st.sampled_from(Result)),
    st.tuples(st.just("time"), st.sampled_from([1.0, 60.0, 700.0, 20_000.0])),
    st.tuples(st.just("restart")),
)


class Counters:
    def __init__(self) -> None:
        self.next = 1

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        while self.next % 65_536 in avoid_tags:
            self.next += 1
        self.next += count
        return self.next - count

    def issue_for_tag(self, tag: int, index: int) -> int:
        self.next += (tag + index - self.next) % 65_536 + 1
        return self.next - 1


class Machine:
    def __init__(self, side: Originator) -> None:
        self.side = side
        self.counters = Counters()
        self.rows: dict[str, bytes] = {}
        self.now = 0.0
        self.number = 0
        self.final: set[str] = set()
        self.restart()

    def restart(self) -> None:
        down = self.side is Originator.DSRSP
        self.endpoint = Endpoint(
            side=self.side,
            counters=self.counters,
            policy=SendPolicy(
                confirmation=Confirmation.RESULTS if down else Confirmation.RECEIPTS,
                attempts_per_fragment=3,
            ),
            random_fraction=random.Random(1).random,
            limits=replace(Limits(), partial_messages_per_peer=2, message_octets=5000),
        )
        self.keep(self.endpoint.restore(self.rows.items(), self.now))

    def keep(self, effects: Effects) -> None:
        for key, octets in effects.saves.items():
            if octets is None:
                self.rows.pop(key, None)
            else:
                self.rows[key] = octets
        for changed in effects.statuses:
            status = changed.status
            assert status.ref not in self.final
            if status.final:
                self.final.add(status.ref)

    def do(self, what: tuple[Any, ...]) -> None:
        endpoint, now = self.endpoint, self.now
        match what:
            case ("fragment", (compression, body), last, index, message_id, counter):
                header = FragmentHeader(
                    SENT_TO_US[self.side], compression, True, last, index, message_id
                )
                effects = endpoint.on_fragment(
                    PEER, header.encode() + body, originator_counter=counter, now=now
                )
                assert effects.answer is not None
                self.keep(effects)
            case ("send", int(size)):
                self.number += 1
                message = random.Random(size).randbytes(size)
                known = endpoint.capabilities(PEER)
                if known is None or size <= known.message_octets:
                    self.keep(endpoint.send(f"m{self.number}", PEER, message, now))
            case ("cancel", number):
                self.keep(endpoint.cancel(f"m{number}", "why", now))
            case ("answered", number):
                self.keep(endpoint.answered(f"m{number}", now))
            case ("transmitted", int(counter)):
                self.keep(endpoint.on_transmitted(counter, now))
            case ("result", int(counter), Result() as result):
                self.keep(endpoint.on_result(counter, result, now))
            case ("time", float(seconds)):
                self.now += seconds
                self.keep(endpoint.on_timer(self.now))
            case _:
                self.restart()


@given(st.sampled_from(Originator), st.lists(INPUTS, max_size=40))
def test_no_input_does_any_harm(side: Originator, inputs: list[tuple[Any, ...]]) -> None:
    machine = Machine(side)
    for what in inputs:
        machine.do(what)
        kept = dict(machine.rows)
        before = machine.endpoint.reassembler
        machine.restart()
        # A restart changes nothing that lasts, but that waiting receipts may have become due.
        assert machine.endpoint.reassembler.partial_messages == before.partial_messages
        assert machine.endpoint.reassembler.held_octets == before.held_octets
        lost = {key for key in kept if key not in machine.rows}
        assert all(key.endswith("/o") for key in lost)
    # Whatever is still on its way comes to an end.
    for _ in range(200):
        timer = machine.endpoint.get_timer()
        if timer is None:
            break
        machine.now = max(machine.now, timer)
        machine.keep(machine.endpoint.on_timer(machine.now))
    assert machine.endpoint.reassembler.partial_messages == 0
    assert not any("/m/" in key or "/f/" in key for key in machine.rows)
