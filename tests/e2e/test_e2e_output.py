"""Standard streams that are closed, full or broken: a line for a person, no traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = (
    ["--help"],
    ["encode", "message", "--carrier", "ecs46a"],
    ["cost", "message"],
    ["inspect", "GAAHaGVsbG8K"],
)


@pytest.fixture
def message(tmp_path: Path) -> Path:
    (tmp_path / "message").write_bytes(os.urandom(50_000))
    return tmp_path


def _run(folder: Path, command: list[str], redirection: str) -> tuple[int, str]:
    script = f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}'
    finished = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable, "-W", "error", "-m", "lab", *command],
        cwd=folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return finished.returncode, finished.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_output_that_cannot_be_written_is_told(message: Path, command: list[str]) -> None:
    code, stderr = _run(message, command, "> /dev/full")
    assert (code, stderr) == (
        3,
        "smtunnel: the operating system refused: [Errno 28] No space left on device\n",
    )


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_reader_that_goes_away_needs_no_words(message: Path, command: list[str]) -> None:
    assert _run(message, command, "| true") == (1, "")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
def test_a_closed_output_is_told(message: Path, command: list[str]) -> None:
    code, stderr = _run(message, command, ">&-")
    assert code == 3
    assert "standard output is closed" in stderr


@pytest.mark.parametrize("command", [["decode"], ["inspect", "-"], ["gbcs", "inspect", "-"]])
def test_a_closed_input_is_as_an_empty_one(message: Path, command: list[str]) -> None:
    code, stderr = _run(message, command, "<&-")
    assert code == 3
    assert "Traceback" not in stderr
