"""``smtunnel study``: runs the latency study, shows what it found."""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Column, Table

from gbcs import EntityId
from gbcs.errors import GbcsError
from lab.cli.app import EXIT_INTERRUPTED, CommandFailed
from lab.interruption import interruptible
from lab.study import networks, parameters
from lab.study.agreement import agreement_table, measured_table, own_time_table
from lab.study.cases import Case
from lab.study.findings import Results
from lab.study.fit import distance, fit_fragments, fitted_times, read_fitted, write_fitted
from lab.study.from_journals import tables_from_journals
from lab.study.own_time import read_own_times
from lab.study.report import write_report
from lab.study.runner import RunSettings, Watcher, run_study
from lab.study.study_file import cases_of, load_study, study_names, study_text, tried
from lab.study.workers import quieten

_PARAMETER_TABLES = (
    parameters.Study,
    parameters.Route,
    parameters.Workload,
    networks.Network,
    networks.Internet,
    networks.Capacity,
    parameters.Experiment,
)


@click.group()
def study() -> None:
    """Measure and simulate how long OpenADR takes, route by route.

    \b
    smtunnel study run quick --out results      under a minute, then open results/report.html
    smtunnel study run FILE.toml --out results  your own: start from `smtunnel study show quick`
    """


@study.command("list")
def list_studies() -> None:
    """List the studies that come with this program."""
    table = Table("study", "cases", "question")
    for name in study_names():
        loaded = load_study(name)
        table.add_row(name, str(len(list(cases_of(loaded)))), loaded.question)
    Console().print(table)


@study.command()
@click.argument("name")
def show(name: str) -> None:
    """Print the study file NAME, as an example or to change it.

    With the path of a file of your own, say what it asks for, case by case.
    """
    if name in study_names():
        click.echo(study_text(name), nl=False)
        return
    table = Table("case", "what", "CEMs")
    for case in cases_of(load_study(name)):
        table.add_row(str(case.number), case.title, f"{case.workload.cems:,}")
    Console().print(table)


@study.command("parameters")
def list_parameters() -> None:
    """Explain every parameter of a study file, with its default and unit."""
    for table in _PARAMETER_TABLES:
        click.secho(f"[{table.__name__}]", bold=True)
        click.echo(inspect.cleandoc(table.__doc__ or "") + "\n")


@study.command()
@click.argument("name", metavar="FILE.toml|NAME")
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; must hold none.",
)
@click.option("--workers", type=click.IntRange(1), help="Processes at once; default: all cores.")
@click.option("--dask", metavar="ADDRESS", help="Take the work to a dask scheduler's machines.")
@click.option(
    "--fitted",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Times for the fleet engine, as `smtunnel study fit` writes them.",
)
@click.option(
    "--own-times",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A manifest.json: its run's own times of the software, in place of what is measured now; "
    "the modelled tables then are that run's again.",
)
@click.option("--no-report", is_flag=True, help="Write tables and manifest alone.")
@click.option("--try", "trying", is_flag=True, help="A trial: 12 CEMs at most, one repetition.")
def run(
    name: str,
    out: Path,
    workers: int | None,
    dask: str | None,
    fitted: Path | None,
    own_times: Path | None,
    no_report: bool,
    trying: bool,
) -> None:
    """Run a study: results, figures and the page DIR/report.html.

    The same study gives the same tables, octet for octet, whatever the number of workers; only
    cases of the live engine are measured anew each time.
    """
    loaded = tried(load_study(name)) if trying else load_study(name)
    quieten()
    settings = RunSettings(
        workers,
        dask,
        None if fitted is None else read_fitted(fitted),
        None if own_times is None else read_own_times(own_times),
    )
    console = Console(stderr=True)
    try:
        with interruptible(leaves=True), _watching(console) as watcher:
            manifest = run_study(loaded, out, settings, watcher)
    except KeyboardInterrupt:
        raise _Interrupted(f"interrupted: nothing of this run is left in {out}") from None
    Console().print(f"{manifest['cases']} cases in {manifest['seconds']:.1f} s", soft_wrap=True)
    Console().print(f"SHA-256 of the tables: {manifest['results_sha256']}", soft_wrap=True)
    if not no_report:
        _draw(out)


class _Interrupted(CommandFailed):
    """Somebody ended the work: not an error."""

    exit_code = EXIT_INTERRUPTED


def _draw(folder: Path, before: str = "") -> None:
    """Write the report and say where; what was interrupted can be drawn later."""
    try:
        with interruptible(leaves=True), Console(stderr=True).status("drawing the figures"):
            page = write_report(folder)
    except KeyboardInterrupt:
        raise _Interrupted(
            f"interrupted: the tables in {folder} are whole, the report is not; "
            f"`smtunnel study report {folder}` draws it"
        ) from None
    except OSError as error:
        raise CommandFailed(
            f"{folder}: the tables are whole, the report cannot be written: {error}; then "
            f"`smtunnel study report {folder}` draws it"
        ) from None
    Console().print(f"{before}Report: {page}", soft_wrap=True)


@contextlib.contextmanager
def _watching(console: Console) -> Iterator[Watcher]:
    """Show how far a study is: bars on a terminal, elsewhere a line for each case."""
    if not console.is_terminal:
        yield _Lines()
        return
    what = TextColumn(
        "{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")
    )
    times = (TimeElapsedColumn(), TimeRemainingColumn())
    bars = (BarColumn(bar_width=20), MofNCompleteColumn())
    with Progress(what, *bars, *times, console=console, expand=True) as progress:
        yield _Bars(progress)


class _Lines:
    """Says on standard error what is done: for logs, where a bar would be noise."""

    def __init__(self) -> None:
        self._done = 0
        self._cases = 0

    def begin(self, cases: int) -> None:
        """Say how many cases are to come."""
        self._cases = cases
        click.echo(f"cases: {cases}", err=True)

    def case(self, case: Case) -> None:
        """Say nothing: several cases begin at once."""

    def part(self, done: int, total: int) -> None:
        """Say nothing."""

    def end(self, case: Case, seconds: float) -> None:
        """Say which case is done, and what it took."""
        self._done += 1
        click.echo(f"{self._done} of {self._cases}: {case.title} ({seconds:.1f} s)", err=True)


class _Bars:
    """Two bars: cases of the study, parts of the case."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._cases = progress.add_task("cases", total=None)
        self._part = progress.add_task("", total=None)

    def begin(self, cases: int) -> None:
        """Show how many cases are to come."""
        self._progress.update(self._cases, total=cases)

    def case(self, case: Case) -> None:
        """Show which case comes now."""
        self._progress.update(self._part, description=case.title, completed=0, total=None)

    def part(self, done: int, total: int) -> None:
        """Show how much of it is done."""
        self._progress.update(self._part, completed=done, total=total)

    def end(self, case: Case, seconds: float) -> None:
        """Count a case as done."""
        self._progress.advance(self._cases)


@study.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def report(folder: Path) -> None:
    """Draw the figures and the page of results that exist."""
    _draw(folder)


@study.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
def agreement(folder: Path) -> None:
    """Print how far the engines agree and what was measured live, as tables in Markdown.

    A distance above its limit stands in bold: one engine does not say what the other does. Where
    all agree, one row in twenty is above its limit by chance alone. Fewer than six pairs (CEMs
    times repetitions) have no limit: say repetitions = 6 or more.
    """
    results = Results(folder)
    for table in (agreement_table(results), measured_table(results), own_time_table(results)):
        if table:
            click.echo(table + "\n")


@study.command("from-journals")
@click.argument(
    "journals",
    nargs=-1,
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
)
@click.option(
    "--out",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for the results; must hold none.",
)
@click.option("--name", default="measured", show_default=True, help="What the report calls it.")
@click.option(
    "--whose",
    metavar="JOURNAL=EUI",
    multiple=True,
    help="Whose a CEM's journal is, if its lines do not say it (field device); again for others.",
)
def from_journals(journals: tuple[Path, ...], out: Path, name: str, whose: tuple[str, ...]) -> None:
    """Make the same tables and report from the JOURNALS of a live deployment.

    Give the DSRSP's journal and those of the CEMs that you have; with the simulator in place of
    the DCC also its own, which tells where the time went. Clocks must agree: latency is one
    machine's time minus another's.
    """
    owners = _owners(whose)
    try:
        with interruptible(leaves=True), Console(stderr=True).status("reading the journals"):
            measured = tables_from_journals(journals, out, name, owners)
    except KeyboardInterrupt:
        raise _Interrupted(f"interrupted: nothing of this run is left in {out}") from None
    if measured.untimed:
        click.echo(
            f"{measured.untimed} more messages are left out: the journal of their receiver, which "
            "tells when they came, was not given.",
            err=True,
        )
    if measured.clocks_differ_s:
        click.echo(
            f"The clocks of these journals differ by {measured.clocks_differ_s:.3f} s or more: "
            "messages came before they were sent, or after their sender knew of it. Every latency "
            "is wrong by as much.",
            err=True,
        )
    _draw(out, f"{measured.messages} messages. ")


def _owners(given: tuple[str, ...]) -> dict[Path, str]:
    owners = {}
    for one in given:
        path, _, device = one.rpartition("=")
        try:
            owners[Path(path)] = str(EntityId.parse(device))
        except GbcsError as error:
            raise click.UsageError(f"--whose {one}: expected JOURNAL=EUI: {error}") from None
    return owners


@study.command()
@click.argument("folder", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--case", "number", type=int, required=True, help="Number of the case to fit to.")
@click.option("--against", type=int, help="Another case: compare its latencies with the first's.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write the times.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def fit(folder: Path, number: int, against: int | None, out: Path | None, as_json: bool) -> None:
    """Fit the fleet engine's times to one case of results, and tell how well they fit."""
    results = Results(folder)
    fits = fit_fragments(results.rows_of("fragments", number), results.rows_of("messages", number))
    if out is not None:
        write_fitted(out, fitted_times(fits))
    rows = [
        {
            "part": one.part,
            "region": one.region,
            "count": one.count,
            "distribution": msgspec.to_builtins(one.distribution),
            "distance": round(one.distance, 4),
        }
        for one in fits
    ]
    compared = {} if against is None else _compare(results, number, against)
    if as_json:
        click.echo(json.dumps({"fits": rows, "compared": compared}))
        return
    table = Table("part", "region", "values", "fitted", "KS distance")
    for row in rows:
        table.add_row(*(str(row[name]) for name in row))
    Console().print(table)
    for way, value in compared.items():
        Console().print(f"latencies {way}: KS distance of the two cases {value:.4f}")


def _compare(results: Results, number: int, other: int) -> dict[str, float]:
    infos = {info.case: info for info in results.cases}
    for wanted in (number, other):
        if wanted not in infos:
            raise click.UsageError(f"there is no case {wanted}; there are 0 to {len(infos) - 1}")
    one, two = [infos[number]], [infos[other]]
    ways = set(results.directions(one)) & set(results.directions(two))
    return {
        way: distance(results.latencies(one, way), results.latencies(two, way))
        for way in sorted(ways)
    }
