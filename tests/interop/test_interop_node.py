"""The tunnel protocol written for Node.js from the specification's text alone, against the library.

Both pass the vectors. What the vectors do not ask, sessions of chance do.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.conformance import Target, default_folder, read_cases, run_cases
from lab.conformance.cases import hexadecimal
from lab.conformance.reference_target import ReferenceTarget
from smtunnel import (
    ECS46A,
    Compression,
    FragmentHeader,
    Originator,
    encode_message,
)
from smtunnel.control import build_control
from smtunnel.fragments import cut_stream
from smtunnel.records import CapabilitiesWanted, EchoRequest

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("tunnel_node.js")
DICTIONARY = ROOT / "specs" / "dictionary-1.bin"
KINDS = 12
# For longer runs: more seeds.
SEEDS = range(int(os.environ.get("SMTUNNEL_NODE_SEEDS", "8")))
CASES = read_cases(default_folder())


@pytest.fixture(scope="module")
def program() -> list[str]:
    """The command of the program; in CI a missing node is a failure."""
    node = shutil.which("node")
    if node is None:
        reason = "no node: install nodejs, version 18 or later"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return [node, str(PROGRAM)]


@pytest.fixture
def target(program: list[str]) -> Iterator[Target]:
    """The running program."""
    running = Target([*program, str(DICTIONARY)], timeout_s=30)
    yield running
    running.close()


def test_it_passes_every_vector(target: Target) -> None:
    report = run_cases(target, CASES)
    assert report.failures == []
    assert len(report.claims.kinds) == KINDS
    assert len(report.results) == len(CASES)
    assert report.starts == 1


def test_without_the_dictionary_it_says_so(program: list[str]) -> None:
    report = run_cases(Target(program, timeout_s=30), CASES, only=["decode"])
    assert report.passed
    assert report.claims.dictionaries == ()


def message_of_chance(rng: random.Random, message_id: int, *, damage: bool) -> list[str]:
    """Make the payloads of a message: data or control, sound or with one fault."""
    if rng.random() < 0.3:
        octets = build_control(
            [EchoRequest(rng.randbytes(8), rng.randbytes(64)), CapabilitiesWanted()]
            * rng.choice([1, 2])
        )
        if rng.random() < 0.2:
            octets = octets[:-1] + bytes([octets[-1] ^ 1])
        header = FragmentHeader(Originator.DSRSP, Compression.CONTROL, True, False, 0, message_id)
        return list(
            cut_stream(octets, carrier=ECS46A, header=header, message_octets=len(octets)).payloads
        )
    encoded = encode_message(
        rng.randbytes(rng.choice([0, 5, 90, 200, 300])),
        carrier=ECS46A,
        originator=Originator.DSRSP,
        tunnel_message_id=message_id,
        compression=rng.choice(["zlib", "none"]),
        window_bits=rng.choice([9, 12, 15]),
    )
    payloads = list(encoded.payloads)
    if damage and rng.random() < 0.15:
        # The reserved compression, in one fragment.
        place = rng.randrange(len(payloads))
        header = FragmentHeader(
            Originator.DSRSP, Compression.RESERVED, True, place == len(payloads) - 1, place,
            message_id,
        )  # fmt: skip
        payloads[place] = header.encode() + (payloads[place][4:] or "AAAA")
    elif damage and rng.random() < 0.15:
        # Another body.
        place = rng.randrange(len(payloads))
        payloads[place] = payloads[place][:8] + "/+" + payloads[place][10:]
    return payloads


def lines_of_chance(rng: random.Random, *, damage: bool) -> list[str]:
    """Send messages under few ids, in any order, again, late, and some counters twice."""
    counter = rng.choice([0, 1000, 65_500, 2**63])
    lines, ids = [], rng.choice([2, 5])
    for _ in range(12):
        peer = rng.choice(["a1", "a1", "b2", "c3"])
        payloads = message_of_chance(rng, rng.randrange(ids), damage=damage)
        first, counter = counter, counter + len(payloads) + rng.choice([0, 0, 3])
        for index, payload in enumerate(payloads):
            jumps = [0] + [0] * rng.randrange(2) + [65_536] * rng.randrange(2) + [-65_536]
            for jump in jumps[: rng.choice([1, 1, 2, 3, 4])]:
                number = first + index + jump + rng.choice([0] * 30 + [1])
                busy = rng.choice([""] * 6 + [" busy"])
                lines.append(
                    f"receive {peer} {max(number, 0)} NOW {hexadecimal(payload.encode())}{busy}"
                )
    # Near to the order of sending, so that messages also become whole.
    order = sorted(range(len(lines)), key=lambda place: place + rng.random() * rng.choice([1, 9]))
    chosen = [lines[place] for place in order]
    for _ in range(10):
        chosen.insert(rng.randrange(len(chosen)), rng.choice(lines))
    return chosen


@pytest.mark.parametrize("seed", SEEDS)
def test_sessions_of_chance_go_as_with_the_library(target: Target, seed: int) -> None:
    rng = random.Random(seed)
    library = ReferenceTarget()
    for _ in range(40):
        message_octets = rng.choice([100, 4096])
        limits = f"{message_octets} {rng.choice([12, 15])} {rng.choice([1, 2, 8])}"
        limits += f" {rng.choice([2, 8])} {rng.choice([60, 1000])} {rng.choice([1, 4, 64])}"
        begin = f"session t110 0 {limits}"
        assert target.ask(begin) == library.answer(f"1 {begin}").split(" ")[1:] == ["ok"]
        now = 0
        # With the low limit a damaged message could have two faults at once: either may be told.
        for line in lines_of_chance(rng, damage=message_octets > 100):
            now += rng.choice([1, 1, 1, 5, 30])
            if rng.random() < 0.05:
                line = rng.choice(["restart", "time NOW"])
            line = line.replace("NOW", str(now))
            expected = library.answer(f"1 {line}").split(" ")[1:]
            assert sorted(target.ask(line)) == sorted(expected), line
