"""The C99 implementation, sanitized: every vector, the library's own messages, damaged requests."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lab.conformance import Target, default_folder, read_cases, run_cases
from lab.conformance.cases import hexadecimal
from lab.conformance.reference_target import ReferenceTarget
from smtunnel import (
    ECS46A,
    ECS200,
    Compression,
    FragmentHeader,
    MessageAssembly,
    Originator,
    encode_message,
)
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.fragments import parse_untrusted_fragment

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "build" / "c" / "conformance_target"
DICTIONARY = ROOT / "specs" / "dictionary-1.bin"
KINDS = 12
# For longer runs: more seeds.
SEEDS = range(int(os.environ.get("SMTUNNEL_C99_SEEDS", "8")))
LINES = 1500
CASES = read_cases(default_folder())


@pytest.fixture(scope="module")
def program() -> list[str]:
    """The command of the sanitized program; in CI a missing compiler is a failure."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not Path("/usr/include/zlib.h").exists():
        reason = "no C compiler or no zlib.h: install gcc, libc6-dev and zlib1g-dev"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    target = PROGRAM.relative_to(ROOT)
    subprocess.run(["make", "-s", f"CC={compiler}", str(target)], cwd=ROOT, check=True)
    return [str(PROGRAM), str(DICTIONARY)]


@pytest.fixture
def target(program: list[str]) -> Iterator[Target]:
    """The running program."""
    running = Target(program, timeout_s=30)
    yield running
    running.close()


def test_it_passes_every_vector(target: Target) -> None:
    report = run_cases(target, CASES)
    assert report.failures == []
    assert len(report.claims.kinds) == KINDS
    assert len(report.results) == len(CASES)
    assert report.starts == 1


def test_without_the_dictionary_it_says_so(program: list[str]) -> None:
    report = run_cases(Target(program[:1], timeout_s=30), CASES, only=["decode"])
    assert report.passed
    assert report.claims.dictionaries == ()


@pytest.mark.parametrize("seed", range(40))
def test_it_decodes_what_the_library_encodes(target: Target, seed: int) -> None:
    rng = random.Random(seed)
    message = rng.randbytes(rng.choice([0, 1, 50, 500, 5000])) + b"<ei:value>3.2</ei:value>" * (
        rng.choice([0, 1, 40])
    )
    carrier = rng.choice([ECS46A, ECS200])
    payloads = list(
        encode_message(
            message,
            carrier=carrier,
            originator=Originator.DSRSP,
            tunnel_message_id=rng.randrange(256),
            compression=rng.choice(["auto", "zlib", "none", "dictionary"]),
            peer_dictionaries=tuple(DICTIONARIES),
            window_bits=rng.randint(9, 15),
            level=rng.choice([1, 6, 9]),
        ).payloads
    )
    rng.shuffle(payloads)
    target.ask(f"decode t{carrier.capacity} 65536 15")
    answers = [target.ask(f"fragment {payload.encode().hex()}") for payload in payloads]
    assert answers == [["more"]] * (len(payloads) - 1) + [["message", hexadecimal(message)]]


@pytest.mark.parametrize("seed", range(40))
def test_the_library_decodes_what_it_encodes(target: Target, seed: int) -> None:
    rng = random.Random(seed)
    message = rng.randbytes(rng.choice([0, 1, 78, 79, 500])) + b"<ei:value/>" * rng.randrange(200)
    choice, window_bits = rng.choice(["none", "zlib"]), rng.randint(9, 15)
    words = target.ask(f"encode t110 1 9 {choice} {window_bits} {hexadecimal(message)}")
    assembly = MessageAssembly(window_bits=window_bits)
    for word in words[1:]:
        assembly.add(parse_untrusted_fragment(bytes.fromhex(word).decode(), ECS46A))
    assert assembly.decode() == message


def test_without_room_the_message_silent_for_longest_is_given_up(target: Target) -> None:
    # The program's receiver holds 128 fragments.
    target.ask("session t110 0 4096 15 3 1 1000 32")

    def receive(message_id: int, first: int, index: int, now: int) -> list[str]:
        header = FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, False, index, message_id)
        payload = (header.encode() + "A").encode().hex()
        return target.ask(f"receive a1 {first + index} {now} {payload}")

    assert receive(1, 100, 0, now=1) == ["ok", "accepted,d,1,100,0,0"]
    assert receive(2, 1000, 0, now=2) == ["ok", "accepted,d,2,1000,0,0"]
    assert receive(1, 100, 1, now=3) == ["ok", "accepted,d,1,100,1,0"]
    for index in range(1, 126):
        assert receive(3, 2000, index, now=4) == ["ok", f"accepted,d,3,2000,{index},0"]
    words = receive(3, 2000, 127, now=5)
    assert words == ["ok", "aborted,d,2,1000,memory", "accepted,d,3,2000,127,0"]
    words = receive(3, 2000, 128, now=6)
    assert words == ["ok", "aborted,d,1,100,memory", "accepted,d,3,2000,128,0"]
    assert receive(3, 2000, 129, now=7) == ["ok", "accepted,d,3,2000,129,0"]
    assert receive(3, 2000, 130, now=8) == ["ok", "aborted,d,3,2000,memory"]
    assert receive(1, 100, 2, now=9) == ["ok", "ignored,ended,d,1,100,10,0"]


def requests() -> list[str]:
    """Every line that the vectors make the runner send."""
    lines: list[str] = []

    class Recorder:
        starts = 1

        def __init__(self) -> None:
            self._target = ReferenceTarget()

        def ask(self, request: str) -> list[str]:
            lines.append(request)
            return self._target.answer(f"1 {request}").split(" ")[1:]

        def close(self) -> None:
            pass

    run_cases(Recorder(), CASES)
    return [line for line in lines if len(line) < 5000]


LINES_OF_VECTORS = requests()


def mutated(rng: random.Random, line: str) -> str:
    """Damage one line: octets, digits, words, numbers."""
    words = line.split(" ")
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        place = rng.randrange(len(words))
        word = words[place]
        at = rng.randrange(len(word) + 1)
        match rng.randrange(9):
            case 0:
                words[place] = word[:at]
            case 1:
                words[place] = word[:at] + rng.choice("0123456789abcdef-,:= ") + word[at:]
            case 2:
                words[place] = word[:at] + rng.choice("0123456789abcdef") + word[at + 1 :]
            case 3:
                words[place] = str(rng.choice([0, 1, 4, 255, 256, 2047, 65535, 2**32, 2**64 - 1]))
            case 4:
                del words[place]
                words = words or ["hello"]
            case 5:
                words.insert(place, rng.choice(rng.choice(LINES_OF_VECTORS).split(" ")))
            case 6:
                words[place] = word[: at & ~1] + rng.randbytes(rng.randrange(9)).hex() + word[at:]
            case 7:
                words[place] = rng.choice(LINES_OF_VECTORS).split(" ")[-1]
            case _:
                words[place] = rng.choice(["t5", "o4", "t110", "o1062", "t3", "o3", "busy", "-"])
    return " ".join(words)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_line_brings_it_down(target: Target, seed: int) -> None:
    rng = random.Random(seed)
    target.ask("hello 1")
    for _ in range(LINES):
        line = rng.choice(LINES_OF_VECTORS)
        if rng.random() < 0.6:
            line = mutated(rng, line)
        # Whatever it answers: it does answer, and no sanitizer complains.
        target.ask(line)
    assert target.starts == 1


@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_sessions_of_chance_go_as_with_the_library(
    target: Target, seed: int, restarts: bool
) -> None:
    rng = random.Random(seed)
    library = ReferenceTarget()
    vectors = [case.vector for case in CASES if case.kind.startswith("session")]
    for _ in range(60):
        vector = rng.choice(vectors)
        numbers = " ".join(str(limit) for limit in vector["limits"].values())
        begin = f"session {vector['carrier']} {vector['originator']} {numbers}"
        assert target.ask(begin) == library.answer(f"1 {begin}").split(" ")[1:] == ["ok"]
        now = 0
        for line in lines_of_chance(rng, vector, restarts=restarts):
            now += rng.choice([1, 1, 5, 30])
            line = line.replace("NOW", str(now))
            expected = library.answer(f"1 {line}").split(" ")[1:]
            assert sorted(target.ask(line)) == sorted(expected), line


def lines_of_chance(rng: random.Random, vector: dict[str, Any], *, restarts: bool) -> list[str]:
    """Send a session's fragments in any order, again, under other counters, some damaged."""
    steps = [step for step in vector["steps"] if step["do"] == "receive"]
    # With a limit as low as this, a damaged message could have two faults at once.
    damage = vector["limits"]["message_octets"] > 100
    lines = []
    for _ in range(3 * len(steps)):
        step = rng.choice(steps)
        counter = int(step["counter"]) + rng.choice([0, 0, 0, 1, -1, 65536, 131072, -65536])
        payload = bytearray(step["payload"].encode("latin-1"))
        if damage and rng.random() < 0.15:
            payload[rng.randrange(len(payload))] = rng.choice(b"AB+/=z9 ")
        line = f"receive {step['peer']} {min(max(counter, 0), 2**64 - 1)} NOW "
        line += hexadecimal(payload) + rng.choice(["", "", "", "", " busy"])
        lines.append("restart" if restarts and rng.random() < 0.1 else line)
    return lines
