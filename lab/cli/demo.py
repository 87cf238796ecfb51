"""``smtunnel demo``: the same VTN, VEN and event by three ways, watched."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from lab.cli.app import EXIT_NO, CommandFailed
from lab.cli.control_options import json_option, run_checked
from lab.cli.seven_messages import show_messages
from lab.errors import DemoError, LabError
from lab.pki_files import write_test_pki
from lab.three_ways import EVENT_POWER_W, EVENT_S, Check, Told, Way, WayStory, check, draw, run_way
from lab.three_ways.hops import hops_of
from lab.trace import check_trace_folder

_PICTURE = """\
  route 2a  [bold]VTN[/] ─ DSRSP ─▶ [cyan]DCC, simulated[/] ─▶ comms hub ─▶ CEM ─ [bold]VEN[/]
  route 2b  [bold]VTN[/] ─ DSRSP ◀──── [cyan]internet, signed messages[/] ───▶ CEM ─ [bold]VEN[/]
  Stream 1  [bold]VTN[/] ◀───────────── [cyan]HTTPS with mutual TLS[/] ─────────────▶ [bold]VEN[/]

  VTN and VEN: openleadr, unmodified; the VEN has an EV charger, simulated.
  Each part is a process of its own.
"""


@click.command("demo")
@click.option(
    "--picture",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("smtunnel-demo.svg"),
    show_default=True,
    help="Draw here what the charger did.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(3, 60),
    default=EVENT_S,
    show_default=True,
    help="How long the event lasts.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep keys, configurations, states, journals and logs in this new or empty folder.",
)
@json_option
@click.option(
    "--messages",
    is_flag=True,
    help="Instead: seven OpenADR messages of every kind on route 2a, one after the other, without "
    "VTN and VEN, each compared byte for byte.",
)
@click.option(
    "--trace",
    type=click.Path(path_type=Path, file_okay=False),
    help="With --messages: write every GBCS message (*.hex), DUIS message (*.xml) and carrier "
    "payload (*.txt), numbered in order, the OpenADR messages (openadr/) and the run's "
    "certificates and keys (keys/) to this folder, which must be new or empty.",
)
@click.option(
    "--duis-schema",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="With --messages: validate all DUIS messages against the official schema (duis54.xsd).",
)
@click.option(
    "--compact",
    is_flag=True,
    help="With --messages: leave the gateways to their default, the compact form of OpenADR XML: "
    "fewer fragments, and what arrives is compared as canonical XML instead of byte for byte.",
)
def demo(
    picture: Path,
    seconds: float,
    keep: Path | None,
    as_json: bool,
    messages: bool,
    trace: Path | None,
    duis_schema: Path | None,
    compact: bool,
) -> int:
    """Send an event from a VTN to an EV charger, by route 2a, by route 2b and directly.

    VTN and VEN are openleadr's, unmodified, the charger is simulated; gateways and DCC simulator
    run as processes of their own on real sockets with fresh test keys. In less than a minute:
    what each party does, the event's journey, times, counts, and a picture of what the charger
    did.

    Exit code 0: every message arrived as it was sent, and the charger did what the event asked,
    in its interval. 1: not so, or something did not happen in time; says what, and where the logs
    are.
    """
    if not messages and (trace is not None or duis_schema is not None or compact):
        raise click.UsageError("--trace, --duis-schema and --compact go with --messages")
    if messages and as_json:
        raise click.UsageError("--json does not go with --messages: its --trace is for programs")
    if trace is not None:
        check_trace_folder(trace)  # before the work, not after it
    folder = _new_folder(keep)
    good = False
    try:
        if messages:
            code = show_messages(folder, trace=trace, duis_schema=duis_schema, compact=compact)
        else:
            code = _three_ways(folder, picture, event_s=seconds, as_json=as_json)
        good = code == 0
    except KeyboardInterrupt:
        good = True  # what was broken off is of no use to anybody
        raise
    except CommandFailed as error:
        raise type(error)(f"{error.format_message()}\n{_where(folder)}") from None
    finally:
        if good and keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    if not good:
        click.echo(_where(folder), err=True)
    return code


class _Failed(CommandFailed):
    exit_code = EXIT_NO


def _where(folder: Path) -> str:
    return f"Logs, journals, states and keys are in {folder}"


def _new_folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="smtunnel-demo-"))
    keep.mkdir(parents=True, exist_ok=True)
    if any(keep.iterdir()):
        raise LabError(f"{keep}: not empty; what is kept goes to a folder of its own")
    return keep


def _three_ways(folder: Path, picture: Path, *, event_s: float, as_json: bool) -> int:
    began = time.monotonic()
    console = Console(highlight=False, quiet=as_json)
    if not console.is_terminal:  # a file has no width: what stands in one line stays in one line
        console = Console(highlight=False, quiet=as_json, width=120)
    console.print("\nOne OpenADR event, by three ways, from a VTN to an EV charger\n")
    console.print(_PICTURE)
    write_test_pki(folder / "pki", now=None, random_octets=os.urandom)
    stories: list[WayStory] = []
    checks: dict[Way, list[Check]] = {}
    for way in Way:
        console.print(f"[bold]{way.value.capitalize()}[/]: {way.words}")
        tell = partial(_tell, console)
        where = folder / way.name.lower().replace("_", "-")
        story: WayStory = run_checked(_run_way(way, where, folder / "pki", tell, event_s))
        stories.append(story)
        checks[way] = check(story, EVENT_POWER_W)
        _tell_journey(story, console)
        _tell_checks(checks[way], console)
    _tell_times(stories, console)
    _tell_counts(stories, console)
    picture.parent.mkdir(parents=True, exist_ok=True)
    picture.write_text(draw(stories, EVENT_POWER_W), encoding="utf-8")
    failed = [one for found in checks.values() for one in found if not one.good]
    seconds = time.monotonic() - began
    _tell_end(len(failed), sum(map(len, checks.values())), seconds, picture, console)
    if as_json:
        click.echo(json.dumps(_as_json(stories, checks, seconds, picture), indent=2))
    return EXIT_NO if failed else 0


async def _run_way(way: Way, folder: Path, pki: Path, tell: Told, event_s: float) -> WayStory:
    try:
        return await run_way(way, folder, pki, tell, event_s=event_s)
    except DemoError as error:
        raise _Failed(f"{way.value}: {error}") from None


def _as_json(
    stories: list[WayStory], checks: dict[Way, list[Check]], seconds: float, picture: Path
) -> dict[str, Any]:
    return {
        "good": all(one.good for found in checks.values() for one in found),
        "seconds": round(seconds, 3),
        "picture": str(picture),
        "ways": [
            story.as_json_object() | {"checks": [asdict(one) for one in checks[story.way]]}
            for story in stories
        ],
    }


def _tell(console: Console, who: str, what: str, after_s: float | None) -> None:
    when = "" if after_s is None else f"{after_s * 1000:.0f} ms"
    console.print(f"  [dim]{when:>8}[/]  [cyan]{who:<8}[/] {what}", soft_wrap=True)


def _tell_journey(story: WayStory, console: Console) -> None:
    if story.journey is None:
        return
    total = story.journey.message_octets
    console.print(f"\n  The event's journey: {total} octets as the gateway took them")
    for hop in hops_of(story.journey):
        when = f"{hop.first_s * 1000:.1f}"
        if hop.count > 1:
            when += f" to {hop.last_s * 1000:.1f}"
        size = f"{hop.octets} octets" if hop.octets else ""
        many = f"{hop.count} ×" if hop.count > 1 else ""
        style = "red" if hop.failed else "default"
        console.print(
            f"  [dim]{when:>14} ms[/]  [cyan]{hop.way:<12}[/] {many:>4} [{style}]{hop.title}[/]"
            f"  [dim]{size}[/]",
            soft_wrap=True,
        )


def _tell_checks(checks: list[Check], console: Console) -> None:
    console.print()
    for one in checks:
        mark = "[green]yes[/]" if one.good else "[red]NO [/]"
        console.print(f"  {mark} {one.name}: [dim]{one.detail}[/]", soft_wrap=True)
    console.print()


def _table(title: str, stories: list[WayStory]) -> Table:
    table = Table(title=title, box=box.SIMPLE, pad_edge=False, title_justify="left")
    table.add_column("")
    for story in stories:
        table.add_column(story.way.value, justify="right", no_wrap=True)
    return table


def _tell_times(stories: list[WayStory], console: Console) -> None:
    table = _table("Times, in milliseconds", stories)
    parts = [story.moments.parts() for story in stories]
    for name in parts[0]:
        values = [part[name] for part in parts]
        shown = [f"{value * 1000:.1f}" if value else "-" for value in values]
        table.add_row(name, *shown, style="bold" if name.startswith("decision") else None)
    console.print(table)


def _tell_counts(stories: list[WayStory], console: Console) -> None:
    table = _table("Counts, from registration to deregistration", stories)
    for words, name in _COUNTS:
        values = [getattr(story.counts, name) for story in stories]
        table.add_row(words, *(str(value) if value else "-" for value in values))
    console.print(table)


def _tell_end(failed: int, checks: int, seconds: float, picture: Path, console: Console) -> None:
    verdict = f"[red]{failed} of {checks} checks failed[/]"
    if not failed:
        verdict = f"[green]All {checks} checks hold[/]"
    console.print(
        f"{verdict}, in {seconds:.0f} s. Polls come each second, so a wait of up to a second "
        "at each poll is chance. Real: applications, gateways, every octet and signature. "
        "Simulated: the DCC, its network (here without delays), the charger.\n"
        f"What the charger did: {picture}",
        soft_wrap=True,
    )


_COUNTS = (
    ("HTTP messages at the VEN", "ven_http"),
    ("HTTP messages at the VTN", "vtn_http"),
    ("OpenADR messages that crossed", "messages"),
    ("the tunnel's messages on route 2a", "messages_2a"),
    ("their fragments", "fragments"),
    ("the DSRSP's DUIS requests", "duis_requests"),
    ("the DCC's posts to the DSRSP", "duis_posts"),
    ("the tunnel's messages on route 2b", "messages_2b"),
)
