"""specs/vectors/tunnel-*.json: up to date, well formed, and what the library does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab.conformance import Case, CaseResult, Outcome, default_folder, read_cases, run_cases
from lab.conformance.cases import TALKS
from lab.conformance.process import MAX_REQUEST_CHARS
from lab.conformance.reference_target import ReferenceTarget
from lab.conformance.vectors import KINDS
from lab.errors import VectorError

ROOT = Path(__file__).resolve().parents[2]
CASES = read_cases(default_folder())
FILES = sorted(default_folder().glob("tunnel-*.json"))


class InProcess:
    """Asks a target that is an object; remembers the longest request."""

    def __init__(self, target: ReferenceTarget) -> None:
        self._target = target
        self.longest = 0
        self.starts = 1

    def ask(self, request: str) -> list[str]:
        self.longest = max(self.longest, len(request))
        return self._target.answer(f"1 {request}").split(" ")[1:]

    def close(self) -> None:
        pass


def test_the_script_still_makes_these_files() -> None:
    script = ROOT / "scripts" / "make_tunnel_vectors.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, check=False)
    assert (done.returncode, done.stderr.decode()) == (0, "")


@pytest.mark.parametrize("kind", KINDS)
def test_the_library_passes_every_vector(kind: str) -> None:
    cases = [case for case in CASES if case.kind == kind]
    assert len(cases) >= 5
    report = run_cases(InProcess(ReferenceTarget()), cases)
    assert report.failures == []
    assert {result.outcome for result in report.results} == {Outcome.PASSED}


def test_every_kind_has_a_conversation() -> None:
    assert set(TALKS) == set(KINDS) == {case.kind for case in CASES}


def test_no_request_is_longer_than_a_line() -> None:
    limits = {"decode": 2300, "session": 2300, "session-restart": 2300}
    for kind in KINDS:
        program = InProcess(ReferenceTarget())
        run_cases(program, [case for case in CASES if case.kind == kind])
        # A number of up to eight digits, a space and the line feed come to it.
        assert program.longest + 10 <= limits.get(kind, MAX_REQUEST_CHARS)


def test_names_are_unique_and_say_their_file() -> None:
    names: set[str] = set()
    for file in FILES:
        content = json.loads(file.read_text())
        assert file.name == f"tunnel-{content['kind']}.json"
        assert content["format"] == 1
        for vector in content["vectors"]:
            assert vector["name"].startswith(f"{content['kind']}-")
            assert vector["name"] not in names
            names.add(vector["name"])
    assert len(names) > 450


def test_every_file_and_member_is_in_the_readme() -> None:
    readme = (default_folder() / "README.md").read_text()
    for file in FILES:
        assert f"`{file.name}`" in readme
        for vector in json.loads(file.read_text())["vectors"]:
            for member in vector:
                assert f"`{member}`" in readme, member
    for kind in KINDS:
        assert kind in readme


def test_every_error_is_in_the_readme() -> None:
    readme = (default_folder() / "README.md").read_text()
    errors = {case.vector["error"] for case in CASES if "error" in case.vector}
    assert len(errors) >= 11
    for error in errors:
        assert f"| `{error}` |" in readme


def test_every_event_is_in_the_readme() -> None:
    readme = (default_folder() / "README.md").read_text()
    for case in CASES:
        for step in case.vector.get("steps", ()):
            for event in step.get("expect", ()):
                name, reason, *_ = event.split(",")
                assert f"`{name}," in readme
                assert name != "ignored" or reason in readme


def write(folder: Path, content: str) -> Path:
    for file in FILES:
        (folder / file.name).write_text(file.read_text())
    (folder / FILES[0].name).write_text(content)
    return folder


@pytest.mark.parametrize(
    "content", ["", "[]", '{"format": 2, "kind": "control", "vectors": []}', '{"kind": "x"}']
)
def test_other_files_are_refused_with_a_reason(tmp_path: Path, content: str) -> None:
    with pytest.raises(VectorError, match="tunnel-control"):
        read_cases(write(tmp_path, content))


def test_a_folder_without_vectors_is_refused_with_a_reason(tmp_path: Path) -> None:
    with pytest.raises(VectorError, match="--vectors"):
        read_cases(tmp_path)


def test_a_case_that_needs_more_than_is_claimed_is_not_asked() -> None:
    class Small(ReferenceTarget):
        def answer(self, line: str) -> str:
            answer = super().answer(line)
            return f"{answer} message=1000 fragments=3" if " hello " in line else answer

    report = run_cases(InProcess(Small()), [case for case in CASES if case.kind == "decode"])
    counts = report.counts("decode")
    assert counts[Outcome.BEYOND] > 20
    assert counts[Outcome.PASSED] > 70
    assert report.passed


def test_a_smaller_window_and_no_dictionary_must_be_said_not_ignored() -> None:
    class Boasts(ReferenceTarget):
        def answer(self, line: str) -> str:
            answer = super().answer(line)
            if " hello " not in line:
                return answer
            words = [word for word in answer.split(" ") if "dictionaries=" not in word]
            return " ".join([*words, "window=12"])

    cases = [case for case in CASES if case.kind == "decode"]
    wrong = {result.name for result in run_cases(InProcess(Boasts()), cases).failures}
    assert "dictionary-event-window-12" in wrong
    assert "decode-made-by-zlib" in wrong
    assert "decode-in-order" not in wrong


def test_a_program_may_say_that_a_session_is_beyond_it() -> None:
    class NoSessions(ReferenceTarget):
        def answer(self, line: str) -> str:
            number, kind, *_ = line.split(" ")
            return f"{number} beyond" if kind == "session" else super().answer(line)

    cases: list[Case] = [case for case in CASES if case.kind == "session"]
    report = run_cases(InProcess(NoSessions()), cases)
    assert {result.outcome for result in report.results} == {Outcome.BEYOND}
    # Nothing was wrong, but nothing was right either.
    assert report.failures == list[CaseResult]()
    assert not report.passed
