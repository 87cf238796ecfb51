"""``smtunnel virtual``: the whole chain in one process on virtual time."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dcc_sim import DccSimError
from gbcs.ports import Clock, Journal
from lab.cast import device_id
from lab.cli.app import EXIT_NO, CommandFailed
from lab.journal import JsonLinesJournal
from lab.scenario_file import read_scenario
from lab.virtual_accounts import WRONG
from lab.virtual_faults import FaultPlan, every_fault, random_disconnects
from lab.virtual_internet import InternetSettings
from lab.virtual_run import RunPlan, RunReport, run_plan

_PIPE_WIDTH = 140
_WRONG_SHOWN = 20
_QUANTILES = (0.5, 0.9, 0.99, 1.0)


@click.group()
def virtual() -> None:
    """The whole chain (DSRSP, DCC, CEMs) in one process on virtual time, without sockets."""


@virtual.command()
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of keys, network, load and faults: the same seed gives the same octets.",
)
@click.option(
    "--hours",
    type=click.FloatRange(0.001),
    default=1.0,
    show_default=True,
    help="Virtual time in which messages are sent; the run goes on until all have ended.",
)
@click.option(
    "--devices", type=click.IntRange(1), default=8, show_default=True, help="How many CEMs."
)
@click.option(
    "--messages",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="How many, both ways together.",
)
@click.option(
    "--profile",
    default="bad-day",
    show_default=True,
    metavar="NAME|FILE",
    help="The network; `smtunnel dcc-sim profiles` lists them.",
)
@click.option(
    "--faults",
    default="all",
    show_default=True,
    metavar="all|none|FILE",
    help="Every fault there is, with kills, quarantine and storms; none; or a scenario of the DCC "
    "simulator.",
)
@click.option(
    "--internet-ms",
    type=click.FloatRange(min=0),
    help="With route 2b, over an internet with so many milliseconds there and back; 30 is a home's "
    "line.  [default: no route 2b]",
)
@click.option(
    "--disconnects",
    default=0,
    show_default=True,
    type=click.IntRange(min=0),
    help="With --internet-ms: how often connections of route 2b break, at random.",
)
@click.option(
    "--journals",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write the journals of all parts to this folder, for `smtunnel explain --folder`.",
)
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def run(
    seed: int,
    hours: float,
    devices: int,
    messages: int,
    profile: str,
    faults: str,
    internet_ms: float | None,
    disconnects: int,
    journals: Path | None,
    as_json: bool,
) -> int:
    """Send messages both ways through whatever goes wrong, and account for every one.

    The gateways, the simulator, keys and signatures are the real ones; only sockets and time are
    replaced. At the end each message must have arrived exactly once, or have failed with a reason
    that is true.

    \b
    Examples:
      smtunnel virtual run
      smtunnel virtual run --profile gb-assumed --faults none --messages 500
      smtunnel virtual run --internet-ms 30 --disconnects 3000
      smtunnel virtual run --seed 7 --hours 0.1 --messages 200 --journals run

    \b
    Exit codes: 0 every message is accounted for, 1 one is not.
    """
    duration_s = hours * 3600.0
    if disconnects and internet_ms is None:
        raise click.UsageError("--disconnects are of route 2b: give --internet-ms, 30 for instance")
    try:
        plan = RunPlan(
            seed=seed,
            duration_s=duration_s,
            devices=devices,
            messages=messages,
            profile=profile,
            faults=replace(
                _faults(faults, seed=seed, duration_s=duration_s, devices=devices),
                disconnects=random_disconnects(
                    seed, duration_s=duration_s, devices=devices, count=disconnects
                ),
            ),
            internet=(
                None
                if internet_ms is None
                else InternetSettings(round_trip_s=internet_ms / 1000, jitter_s=internet_ms / 3000)
            ),
            journals=None if journals is None else _journal_maker(journals),
        )
        report = _watched(plan)
    except DccSimError as error:
        raise CommandFailed(str(error)) from None
    if as_json:
        click.echo(json.dumps(_as_json(report)))
    else:
        console = Console(highlight=False)
        _draw(report, console if console.is_terminal else Console(width=_PIPE_WIDTH))
    return EXIT_NO if report.wrong else 0


def _faults(text: str, *, seed: int, duration_s: float, devices: int) -> FaultPlan:
    if text == "all":
        return every_fault(seed, duration_s=duration_s, devices=devices)
    return FaultPlan() if text == "none" else FaultPlan(scenario=read_scenario(Path(text)))


def _journal_maker(folder: Path) -> Callable[[str, Clock], Journal]:
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.glob("*.journal")):
        raise CommandFailed(f"{folder}: there are journals in it already; name a new folder")

    def make(component: str, clock: Clock) -> Journal:
        _, _, number = component.partition("cem-")
        path = folder / f"{component}.journal"
        if not number:
            return JsonLinesJournal(path, component, clock)
        return JsonLinesJournal(path, "cem", clock, device=str(device_id(int(number))))

    return make


@contextlib.contextmanager
def _quiet(*names: str) -> Iterator[None]:
    """Keep loggers silent inside: what was not foreseen is in the report."""
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.level, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
        logger.propagate = False
    try:
        yield
    finally:
        for logger, (level, propagates) in zip(loggers, before, strict=True):
            logger.setLevel(level)
            logger.propagate = propagates


def _watched(plan: RunPlan) -> RunReport:
    """Run a plan with a bar on standard error, and without the gateways' many log lines."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed} of {task.total} messages have ended"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with _quiet("dsrsp", "cem", "dcc_sim", "lab"), bar:
        task = bar.add_task("starting", total=plan.messages)

        def on_progress(at_s: float, ended: int) -> None:
            bar.update(task, description=f"{at_s / 3600:.2f} virtual hours", completed=ended)

        return run_plan(plan, on_progress=on_progress)


def _as_json(report: RunReport) -> dict[str, Any]:
    return {
        "digest": report.digest,
        "outcomes": [
            {"outcome": fate.name, "reason": reason, "messages": count}
            for (fate, reason), count in report.outcomes.most_common()
        ],
        "wrong": report.wrong,
        "delays_s": {way: _quantiles(delays) for way, delays in report.delays_s.items()},
        "interfaces": {
            name: {"messages": count, "octets": report.octets[name]}
            for name, count in report.messages.items()
        },
        "deeds": dict(report.deeds),
        "given_out_again": report.given_out_again,
        "virtual_s": report.virtual_s,
        "real_s": report.real_s,
    }


def _quantiles(delays: list[float]) -> dict[str, float]:
    ordered = sorted(delays)
    last = len(ordered) - 1
    return {f"{part:g}": round(ordered[int(part * last)], 3) for part in _QUANTILES if ordered}


def _draw(report: RunReport, console: Console) -> None:
    table = Table("messages", "what became of them", "reason", box=box.SIMPLE)
    for (fate, reason), count in sorted(
        report.outcomes.items(), key=lambda row: (row[0][0] in WRONG, -row[1])
    ):
        style = "bold red" if fate in WRONG else ""
        table.add_row(
            str(count), f"[{style}]{fate.value}[/]" if style else fate.value, escape(reason)
        )
    console.print(table)
    deeds = ", ".join(f"{count} × {deed}" for deed, count in sorted(report.deeds.items()))
    console.print(f"What was done: {deeds}")
    for way, delays in report.delays_s.items():
        parts = [f"{100 * float(part):g} %: {s:g} s" for part, s in _quantiles(delays).items()]
        console.print(f"Time {way}, from taking to giving out: {'; '.join(parts) or 'none'}")
    total = sum(report.octets.values())
    console.print(
        f"{sum(report.outcomes.values())} messages, {report.virtual_s / 3600:.1f} virtual hours in "
        f"{report.real_s:.1f} s; {total} octets on all interfaces and in all journals"
    )
    console.print(f"SHA-256 over all of them, with their times: {report.digest}")
    if not report.wrong:
        console.print("[green]Every message is accounted for.[/]")
    for line in report.wrong[:_WRONG_SHOWN]:
        console.print(f"[red]{escape(line)}[/]")
    if len(report.wrong) > _WRONG_SHOWN:
        console.print(f"[red]and {len(report.wrong) - _WRONG_SHOWN} more[/]")
