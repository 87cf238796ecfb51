"""Asks a program every case that it claims to pass, and remembers what it got wrong."""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from lab.conformance.cases import TALKS, Beyond, Wrong, shorten
from lab.conformance.process import TargetFailed
from lab.conformance.vectors import KINDS, Case, octets_of, payloads_of

PROTOCOL: Final = 1
"""The version of the conversation with a program."""

MAX_FAILURES_IN_A_ROW: Final = 20
"""Crashes and silences after which asking on would only cost time."""


class Outcome(enum.Enum):
    """What became of a case."""

    PASSED = "passed"
    WRONG = "wrong"
    """An answer is not right."""
    FAILED = "failed"
    """The program crashed, did not answer in time, or broke the rules of the conversation."""
    NOT_CLAIMED = "not claimed"
    """The program does not claim to do this kind of case."""
    BEYOND = "beyond its limits"
    """The program claims the kind, but says that it does not hold as much."""
    NOT_ASKED = "not asked"
    """The run was given up before."""


@dataclass(frozen=True, slots=True)
class CaseResult:
    """What became of one case.

    Attributes:
        kind: the case's kind.
        name: the vector's name.
        outcome: how it ended.
        detail: what was wrong, for a person.
    """

    kind: str
    name: str
    outcome: Outcome
    detail: str = ""


@dataclass(slots=True)
class Claims:
    """What a program says of itself.

    Attributes:
        name: its name and version.
        kinds: which kinds of case it does.
        message: the largest message it holds, in octets.
        window: the base-two logarithm of the largest zlib window.
        fragments: the most fragments of one message.
        dictionaries: the DICTIDs of its preset dictionaries, eight hexadecimal digits each.
    """

    name: str = "unknown"
    kinds: tuple[str, ...] = ()
    message: int = 65_536
    window: int = 15
    fragments: int = 2048
    dictionaries: tuple[str, ...] = ()


@dataclass(slots=True)
class Report:
    """The whole run.

    Attributes:
        claims: what the program said of itself.
        results: one for each case.
        starts: how often the program had to be started.
    """

    claims: Claims
    results: list[CaseResult] = field(default_factory=list)
    starts: int = 0

    def counts(self, kind: str) -> Counter[Outcome]:
        """Count the outcomes of one kind."""
        return Counter(result.outcome for result in self.results if result.kind == kind)

    @property
    def failures(self) -> list[CaseResult]:
        """What was claimed and is not right."""
        bad = (Outcome.WRONG, Outcome.FAILED, Outcome.NOT_ASKED)
        return [result for result in self.results if result.outcome in bad]

    @property
    def passed(self) -> bool:
        """True when all that was claimed is right, and something was."""
        return not self.failures and any(
            result.outcome is Outcome.PASSED for result in self.results
        )


class Program(Protocol):
    """What is asked: a Target, or in tests an object in its place."""

    starts: int

    def ask(self, request: str) -> list[str]:
        """Send one request and wait for the words of its answer."""

    def close(self) -> None:
        """End the program."""


def run_cases(target: Program, cases: Iterable[Case], *, only: Collection[str] = ()) -> Report:
    """Ask a program all cases.

    Args:
        target: the program.
        cases: what to ask.
        only: kinds to ask; none means all.

    Raises:
        TargetFailed: the program does not start, or cannot say what it claims.
    """
    try:
        report = _ask_all(target, cases, only)
    finally:
        target.close()
    report.starts = target.starts
    return report


def _ask_all(target: Program, cases: Iterable[Case], only: Collection[str]) -> Report:
    claims = _greet(target)
    report = Report(claims)
    failures_in_a_row = 0
    for case in cases:
        if only and case.kind not in only:
            continue
        if case.kind not in claims.kinds:
            result = CaseResult(case.kind, case.name, Outcome.NOT_CLAIMED)
        elif reason := _beyond(case, claims):
            result = CaseResult(case.kind, case.name, Outcome.BEYOND, reason)
        elif failures_in_a_row >= MAX_FAILURES_IN_A_ROW:
            result = CaseResult(case.kind, case.name, Outcome.NOT_ASKED)
        else:
            result = _run(target, _as_claimed(case, claims))
            failures_in_a_row = failures_in_a_row + 1 if result.outcome is Outcome.FAILED else 0
        report.results.append(result)
    return report


def _run(target: Program, case: Case) -> CaseResult:
    talk = TALKS[case.kind](case.vector)
    asked = ""
    try:
        asked = next(talk)
        while True:
            asked = talk.send(target.ask(asked))
    except StopIteration:
        return CaseResult(case.kind, case.name, Outcome.PASSED)
    except Beyond:
        return CaseResult(case.kind, case.name, Outcome.BEYOND, "it says so itself")
    except Wrong as error:
        return CaseResult(case.kind, case.name, Outcome.WRONG, str(error))
    except TargetFailed as error:
        detail = f"asked {shorten(asked)}: {error}"
        return CaseResult(case.kind, case.name, Outcome.FAILED, detail)


def _greet(target: Program) -> Claims:
    words = target.ask(f"hello {PROTOCOL}")
    if words[:2] != ["ok", str(PROTOCOL)] or len(words) < 3:
        raise TargetFailed(
            f"it must answer hello with `ok {PROTOCOL} NAME kinds=...`, "
            f"but answered {shorten(' '.join(words))!r}"
        )
    claims = Claims(name=words[2])
    for word in words[3:]:
        key, _, value = word.partition("=")
        if key == "kinds":
            claims.kinds = tuple(value.split(","))
        elif key == "dictionaries":
            claims.dictionaries = tuple(filter(None, value.split(",")))
        elif key in ("message", "window", "fragments") and value.isdigit():
            setattr(claims, key, int(value))
        else:
            raise TargetFailed(f"{word!r} in the answer to hello is not known")
    unknown = sorted(set(claims.kinds) - set(KINDS))
    if unknown or not claims.kinds:
        raise TargetFailed(
            f"it claims the kinds {', '.join(unknown) or 'none'}: known are {', '.join(KINDS)}"
        )
    return claims


def _as_claimed(case: Case, claims: Claims) -> Case:
    """Expect refusal of what a program says it cannot decode."""
    if case.kind != "decode":
        return case
    dictionary_id = case.vector.get("needs_dictionary")
    refusal = {}
    if case.vector["window_bits"] > claims.window:
        refusal = {"error": "WindowTooLarge"}
    elif dictionary_id is not None and dictionary_id not in claims.dictionaries:
        refusal = {"error": "UnknownDictionary", "dictionary_id": dictionary_id}
    if not refusal:
        return case
    vector = {key: value for key, value in case.vector.items() if key != "message"}
    return Case(case.kind, case.name, {**vector, **refusal})


def _beyond(case: Case, claims: Claims) -> str:
    """Say which claimed limit a case goes beyond; nothing if none."""
    if case.kind != "decode":
        return ""
    vector = case.vector
    message = len(octets_of(vector["message"])) if "message" in vector else 0
    needs = (
        (message, claims.message, "octets"),
        (len(set(payloads_of(vector))), claims.fragments, "fragments"),
    )
    for needed, claimed, unit in needs:
        if needed > claimed:
            return f"needs {needed} {unit}, claimed are {claimed}"
    return ""
