"""What a DSRSP's end of the tunnel needs: memory for many peers, time for each message."""

from __future__ import annotations

import random
import time
import tracemalloc
from collections.abc import Collection

import pytest

from smtunnel import (
    ECS200,
    Confirmation,
    Endpoint,
    Limits,
    Originator,
    Reassembler,
    Result,
    SendPolicy,
    encode_message,
)
from smtunnel.limits import FRAGMENT_OVERHEAD_OCTETS

NOISE = random.Random(1).randbytes(3000)
PARTIALS = 10_000
MESSAGES = 2_000


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


@pytest.mark.bench
def test_memory_of_partial_messages() -> None:
    payloads = encode_message(
        NOISE, carrier=ECS200, originator=Originator.CEM, tunnel_message_id=0
    ).payloads
    tracemalloc.start()
    try:
        target = Reassembler(originator=Originator.CEM, carrier=ECS200)
        for number in range(PARTIALS):
            peer = number.to_bytes(8, "big")
            for index, payload in enumerate(payloads[:-1]):
                # Nobody else holds the text that a peer has sent.
                copy = payload[:1] + payload[1:]
                target.receive_fragment(peer, copy, originator_counter=100 + index, now=0.0)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert target.partial_messages == PARTIALS
    each = used / PARTIALS
    text = sum(len(payload) - 4 for payload in payloads[:-1])
    print(
        f"\n{PARTIALS} partial messages of {PARTIALS} peers, {text} characters each: "
        f"{used / 2**20:.1f} MiB, {each:.0f} octets each, {each - text:.0f} beside the text; "
        f"counted {target.held_octets / 2**20:.1f} MiB "
        f"({FRAGMENT_OVERHEAD_OCTETS} octets a fragment); "
        f"at most {Limits().octets_per_partial_message} octets a message",
        end="",
    )


@pytest.mark.bench
def test_time_of_a_message_through_both_ends() -> None:
    """Down and answered, in memory: what the tunnel itself costs a gateway."""
    chance = random.Random(2)
    dsrsp, cem = (
        Endpoint(
            side=side,
            counters=Counters(),
            policy=SendPolicy(confirmation=confirmation),
            random_fraction=chance.random,
        )
        for side, confirmation in (
            (Originator.DSRSP, Confirmation.RESULTS),
            (Originator.CEM, Confirmation.RECEIPTS),
        )
    )
    fragments = 0
    start = time.perf_counter()
    for number in range(MESSAGES):
        waiting = list(dsrsp.send(f"m{number}", b"cem", NOISE[:150], 0.0).transmits)
        for transmit in waiting:
            counter = transmit.originator_counter
            dsrsp.on_transmitted(counter, 0.0)
            cem.on_fragment(b"dsrsp", transmit.payload, originator_counter=counter, now=0.0)
            waiting += dsrsp.on_result(counter, Result.SUCCESS, 0.0).transmits
            fragments += 1
    seconds = time.perf_counter() - start
    assert dsrsp.get_timer() is None
    print(
        f"\n{MESSAGES} messages of {fragments / MESSAGES:.1f} fragments through both ends: "
        f"{seconds / MESSAGES * 1e6:.0f} us a message, {seconds / fragments * 1e6:.0f} a fragment",
        end="",
    )
