"""``smtunnel conformance``: any implementation of the tunnel protocol against the vectors."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from lab.cli.app import EXIT_NO, CommandFailed
from lab.conformance import (
    Outcome,
    Report,
    Target,
    TargetFailed,
    default_folder,
    read_cases,
    run_cases,
)
from lab.conformance.reference_target import ReferenceTarget
from lab.conformance.runner import MAX_FAILURES_IN_A_ROW
from lab.conformance.vectors import KINDS

_PIPE_WIDTH = 140
_COLUMNS = tuple(Outcome)


@click.command()
@click.option(
    "--command", "command", metavar="PROGRAM", required=True,
    help="The program to test, with its arguments; quote it.",
)  # fmt: skip
@click.option(
    "--vectors",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Folder of the vectors; by default specs/vectors of the project.",
)
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Only this kind; repeatable.")
@click.option(
    "--timeout", "timeout_s", type=click.FloatRange(0.01), default=10.0, show_default=True,
    help="Seconds that the program may take to answer one line.",
)  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def conformance(
    command: str, vectors: Path | None, only: tuple[str, ...], timeout_s: float, as_json: bool
) -> int:
    """Test any implementation of the tunnel protocol, in any language.

    PROGRAM reads requests on standard input, one a line, and answers each with one line on
    standard output. specs/vectors/README.md says what the lines are. A program may claim some
    kinds of request only; those are what it is asked.

    \b
    Examples:
      smtunnel conformance --command "smtunnel conformance-target"
      smtunnel conformance --command "./target --verbose" --only decode --json

    \b
    Exit codes: 0 all that is claimed is right, 1 something is not,
    3 the program does not start or does not talk as it should.
    """
    cases = read_cases(vectors or default_folder())
    try:
        target = Target.of_command_line(command, timeout_s=timeout_s)
        report = run_cases(target, cases, only=only)
    except (TargetFailed, ValueError) as error:
        raise CommandFailed(f"--command {command!r}: {error}") from None
    if as_json:
        click.echo(json.dumps(_to_json(report), indent=1))
    else:
        _draw(report)
    return 0 if report.passed else EXIT_NO


def _to_json(report: Report) -> dict[str, object]:
    kinds = dict.fromkeys(result.kind for result in report.results)
    return {
        "program": report.claims.name,
        "claimed": list(report.claims.kinds),
        "passed": report.passed,
        "starts": report.starts,
        "kinds": {
            kind: {outcome.value: count for outcome, count in report.counts(kind).items()}
            for kind in kinds
        },
        "failures": [
            {
                "kind": result.kind,
                "name": result.name,
                "outcome": result.outcome.value,
                "detail": result.detail,
            }
            for result in report.failures
        ],
    }


def _draw(report: Report) -> None:
    console = Console()
    if not console.is_terminal:
        console = Console(width=_PIPE_WIDTH)
    table = Table(title=f"{report.claims.name}: conformance", box=box.SIMPLE_HEAD)
    table.add_column("kind")
    for outcome in _COLUMNS:
        table.add_column(outcome.value, justify="right")
    for kind in dict.fromkeys(result.kind for result in report.results):
        counts = report.counts(kind)
        table.add_row(kind, *(str(counts[outcome] or "") for outcome in _COLUMNS))
    console.print(table)
    if report.failures:
        wrong = Table(title="what it got wrong", box=box.SIMPLE_HEAD)
        wrong.add_column("vector", overflow="fold")
        wrong.add_column("what happened", overflow="fold")
        for result in report.failures:
            if result.outcome is Outcome.NOT_ASKED:
                continue
            wrong.add_row(escape(result.name), escape(result.detail))
        console.print(wrong)
    asked = sum(sum(report.counts(kind).values()) for kind in report.claims.kinds)
    if report.passed:
        console.print(f"all that is claimed is right: {asked} cases")
    else:
        console.print(f"{len(report.failures)} of {asked} claimed cases are not right")
        if any(result.outcome is Outcome.NOT_ASKED for result in report.failures):
            console.print(f"given up after {MAX_FAILURES_IN_A_ROW} crashes or silences in a row")


@click.command("conformance-target")
def conformance_target() -> None:
    """Answer conformance requests with this project's own library.

    The counterpart of `smtunnel conformance`: reads requests on standard input until its end.
    """
    target = ReferenceTarget()
    for line in sys.stdin:
        print(target.answer(line.rstrip("\r\n")), flush=True)
