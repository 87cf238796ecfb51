"""Speed of the tunnel as ratios to bare zlib and base64, measured in turns in the same run."""

from __future__ import annotations

import base64
import gc
import random
import statistics
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from smtunnel import (
    ECS46A,
    ECS200,
    Carrier,
    MessageReassembled,
    Originator,
    Reassembler,
    encode_message,
)

ROUNDS = 25
CALLS = 40
AIM = 2.0
AIM_SMALL_FRAGMENTS = 3.0

_CHANCE = random.Random(5)
EVENT = b"".join(
    b"<ei:interval><ical:duration>PT1H</ical:duration><ical:uid>%d</ical:uid>"
    b"<ei:signalPayload><ei:value>%.3f</ei:value></ei:signalPayload></ei:interval>"
    % (number, _CHANCE.random())
    for number in range(24)
)
"""Intervals as an OpenADR event has them, for when no reference vectors are there."""


def largest_event(vectors: Path) -> bytes:
    return max(vectors.glob("openadr/DL_*.xml"), key=lambda path: path.stat().st_size).read_bytes()


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS


def compare(floor: Callable[[], object], ours: Callable[[], object]) -> tuple[float, float]:
    """Return the medians, in seconds, of both measured in turns."""
    floors, times = [], []
    gc.disable()
    try:
        for _ in range(ROUNDS):
            floors.append(seconds(floor))
            times.append(seconds(ours))
    finally:
        gc.enable()
    return statistics.median(floors), statistics.median(times)


def report(name: str, aim: float, floor: float, ours: float, fragments: int) -> None:
    ratio = ours / floor
    line = f"{name}, {fragments} fragments: {ratio:.2f} x floor (aim {aim:g})"
    line += f", {floor * 1e6:.1f} -> {ours * 1e6:.1f} us"
    if ratio > aim:
        each = (ours - floor) / fragments * 1e6
        line += (
            f" ABOVE by {each:.1f} us a fragment: header, alphabet, replay window and event, which"
            " the floor lacks; the better a message shrinks, the smaller the floor"
        )
    print(f"\n{line}", end="")


@pytest.fixture(params=["event of 24 intervals", "largest downlink vector"])
def message(request: pytest.FixtureRequest) -> bytes:
    if request.param.startswith("event"):
        return EVENT
    return largest_event(request.getfixturevalue("reference_vectors"))


@pytest.mark.bench
@pytest.mark.parametrize("carrier", [ECS46A, ECS200], ids=lambda carrier: carrier.name)
def test_encode_and_fragment(message: bytes, carrier: Carrier) -> None:
    def ours() -> int:
        return encode_message(
            message, carrier=carrier, originator=Originator.DSRSP, tunnel_message_id=3
        ).fragments

    floor, time_ours = compare(lambda: base64.b64encode(zlib.compress(message, 9)), ours)
    report(
        f"encode + fragment {len(message)} octets, {carrier.name}", AIM, floor, time_ours, ours()
    )


@pytest.mark.bench
@pytest.mark.parametrize("carrier", [ECS46A, ECS200], ids=lambda carrier: carrier.name)
def test_reassemble_and_decode(message: bytes, carrier: Carrier) -> None:
    payloads = encode_message(
        message, carrier=carrier, originator=Originator.DSRSP, tunnel_message_id=3
    ).payloads
    text = base64.b64encode(zlib.compress(message, 9))
    target = Reassembler(originator=Originator.DSRSP, carrier=carrier)
    counter = 0

    def ours() -> None:
        nonlocal counter
        for payload in payloads:
            events = target.receive_fragment(
                b"\x00\xdb\x124Vx\x90\xa0", payload, originator_counter=counter, now=0.0
            )
            counter += 1
        end = events[-1]
        if not isinstance(end, MessageReassembled) or end.message != message:
            pytest.fail("the message did not come back")

    floor, time_ours = compare(lambda: zlib.decompress(base64.b64decode(text)), ours)
    aim = AIM_SMALL_FRAGMENTS if carrier is ECS46A else AIM
    name = f"reassemble + decode {len(message)} octets, {carrier.name}"
    report(name, aim, floor, time_ours, len(payloads))
