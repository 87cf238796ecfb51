"""The conformance runner against programs that misbehave, as processes, and its command."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from lab.cli.app import run
from lab.conformance import Case, Outcome, Report, Target, TargetFailed, run_cases
from lab.conformance.process import MAX_ANSWER_CHARS
from lab.conformance.runner import MAX_FAILURES_IN_A_ROW

# Answers hello, then does as the body says with number and kind of each line.
PROGRAM = """
import sys, time, os, signal
for line in sys.stdin:
    number, kind, *words = line.split()
    if kind == "hello":
        print(number, "ok 1 test kinds=labels-join", flush=True)
        continue
    {body}
"""
CASE = Case("labels-join", "one", {"labels": [], "payload": None})
RIGHT = 'print(number, "none", flush=True)'

Maker = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path) -> Maker:
    """Make a program of a body; returns its command line."""

    def make(body: str) -> str:
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(body=body))
        return f"{sys.executable} {path}"

    return make


def ask(command: str, cases: list[Case], timeout_s: float = 5) -> Report:
    return run_cases(Target.of_command_line(command, timeout_s=timeout_s), cases)


def test_what_is_right_passes(program: Maker) -> None:
    report = ask(program(RIGHT), [CASE] * 3)
    assert report.passed
    assert report.starts == 1
    assert report.claims.name == "test"
    assert [result.outcome for result in report.results] == [Outcome.PASSED] * 3


def test_what_is_wrong_is_told_with_what_was_expected(program: Maker) -> None:
    report = ask(program('print(number, "ok 41", flush=True)'), [CASE])
    assert not report.passed
    [result] = report.results
    assert result.outcome is Outcome.WRONG
    assert result.detail == "asked labels-join: expected none, got ok 41"


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("sys.exit(3)", "it ended with exit code 3"),
        ('print("its reason", file=sys.stderr); sys.exit(3)', "exit code 3: its reason"),
        ('print("x" * 300_000, file=sys.stderr); sys.exit(3)', "exit code 3: xxx"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
        ('print("none", flush=True)', "must begin with 2"),
        ("print(int(number) + 1, 'none', flush=True)", "must begin with 2"),
        ('print(number, flush=True)', "must begin with 2"),
        ('print(flush=True)', "must begin with 2"),
        ('print(number, "none\\\\nnone", flush=True)', "more than one line"),
        ('print(number, "n\\xf6ne", flush=True)', "not ASCII"),
        (f'print(number, "x" * {MAX_ANSWER_CHARS}, flush=True)', "an answer of more than"),
        ("os.close(1); time.sleep(60)", "closed its standard input or output"),
    ],
)  # fmt: skip
def test_who_breaks_the_rules_has_failed_and_is_started_again(
    program: Maker, body: str, why: str
) -> None:
    report = ask(program(body.replace("\\\\", "\\")), [CASE] * 2)
    assert [result.outcome for result in report.results] == [Outcome.FAILED] * 2
    assert why in report.results[0].detail
    assert report.starts == 2


def test_who_is_silent_is_ended_in_time(program: Maker) -> None:
    before = time.monotonic()
    report = ask(program("time.sleep(60)"), [CASE], timeout_s=0.3)
    assert time.monotonic() - before < 10
    assert "no answer within 0.3 s" in report.results[0].detail


def test_who_does_not_read_is_ended_in_time(program: Maker) -> None:
    words = ["9:" + "41" * 3000] * 2
    case = Case("labels-join", "long", {"labels": [], "payload": None})
    target = Target.of_command_line(program("time.sleep(60)"), timeout_s=0.5)
    assert target.ask("hello 1")[0] == "ok"
    with pytest.raises(TargetFailed):
        target.ask(" ".join([case.kind, *words]))


def test_whoever_always_crashes_is_given_up(program: Maker) -> None:
    report = ask(program("sys.exit(1)"), [CASE] * (MAX_FAILURES_IN_A_ROW + 5))
    counts = report.counts("labels-join")
    assert counts == {Outcome.FAILED: MAX_FAILURES_IN_A_ROW, Outcome.NOT_ASKED: 5}
    assert len(report.failures) == MAX_FAILURES_IN_A_ROW + 5


def test_what_is_not_claimed_is_not_asked(program: Maker) -> None:
    report = ask(program(RIGHT), [Case("cut", "two", {}), CASE])
    assert [result.outcome for result in report.results] == [Outcome.NOT_CLAIMED, Outcome.PASSED]
    assert report.passed


@pytest.mark.parametrize(
    ("hello", "why"),
    [
        ("error", "must answer hello"),
        ("ok 2 test kinds=cut", "must answer hello"),
        ("ok 1", "must answer hello"),
        ("ok 1 test", "it claims the kinds none"),
        ("ok 1 test kinds=cut,flying", "flying"),
        ("ok 1 test kinds=cut message=much", "'message=much'"),
        ("ok 1 test kinds=cut colour=red", "'colour=red'"),
    ],
)
def test_a_greeting_that_is_no_greeting(tmp_path: Path, hello: str, why: str) -> None:
    path = tmp_path / "program.py"
    path.write_text(f"print(1, {hello!r}, flush=True)\ninput()\ninput()\n")
    with pytest.raises(TargetFailed, match=why):
        ask(f"{sys.executable} {path}", [CASE])


@pytest.mark.parametrize(
    ("command", "why"),
    [("/nowhere/at-all", "cannot start"), ("'open", "quotation"), ("", "no program")],
)
def test_a_command_that_is_none(capsys: pytest.CaptureFixture[str], command: str, why: str) -> None:
    assert run(["conformance", "--command", command]) == 3
    assert why in capsys.readouterr().err


def test_the_command_on_this_projects_own_library(capsys: pytest.CaptureFixture[str]) -> None:
    own = f"{sys.executable} -m lab conformance-target"
    assert run(["conformance", "--command", own]) == 0
    assert "all that is claimed is right" in capsys.readouterr().out


def test_the_command_tells_programs_what_is_wrong(
    program: Maker, capsys: pytest.CaptureFixture[str]
) -> None:
    own = program('print(number, "none", flush=True)')
    assert run(["conformance", "--command", own, "--only", "labels-join", "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["passed"] is False
    assert told["program"] == "test"
    assert told["kinds"]["labels-join"]["passed"] == 15
    assert {failure["outcome"] for failure in told["failures"]} == {"wrong"}
    assert "labels-one-full" in {failure["name"] for failure in told["failures"]}


def test_the_command_shows_a_table(program: Maker, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conformance", "--command", program("sys.exit(9)")]) == 1
    out = capsys.readouterr().out
    assert "it ended with exit code 9" in out
    assert "given up after 20 crashes or silences in a row" in out
    assert "not claimed" in out


def test_the_command_without_vectors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["conformance", "--command", "true", "--vectors", str(tmp_path)]) == 3
    assert "--vectors" in capsys.readouterr().err
