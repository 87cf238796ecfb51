"""``smtunnel explain``: one message's whole journey, from the journals of all three."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lab.errors import ExplainError
from lab.explain import (
    MessageJourney,
    as_json_object,
    as_mermaid,
    as_svg,
    list_messages,
    read_events,
)
from lab.explain import (
    explain as explain_message,
)
from lab.explain.drawings import headline, printable, since
from lab.explain.join import Event
from lab.explain.journey import JourneyStep

_STEP_CHARS = 100


@click.command("explain")
@click.argument("message_ref", required=False)
@click.option(
    "--journal",
    "journals",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A journal; give it once for each of dcc-sim, dsrsp and cem.",
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Read every *.journal in this folder, for example what `smtunnel demo --keep` left "
    "in route-2a. Without --folder and --journal: in this one.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "mermaid", "svg"]),
    default="text",
    show_default=True,
    help="json for programs, mermaid for a document, svg for a browser.",
)
def explain(
    message_ref: str | None, journals: tuple[Path, ...], folder: Path | None, form: str
) -> None:
    """Tell the journey of a message: each fragment, attempt, DUIS request, GBCS message and hop.

    MESSAGE_REF is what `send` or `receive` said; without it the messages that the journals know
    are listed. If both ends know one of this name, write dsrsp:REF or cem:REF.

    \b
    Examples:
      smtunnel demo --keep run
      smtunnel explain --folder run/route-2a
      smtunnel explain --folder run/route-2a d08ba2ec1176d90d
      smtunnel explain --folder run/route-2a d08ba2ec1176d90d --format svg > journey.svg
    """
    events = read_events(_paths(journals, folder))
    if message_ref is None:
        _list(events, as_json=form == "json")
        return
    journey = explain_message(events, message_ref)
    if form == "json":
        click.echo(json.dumps(as_json_object(journey), indent=2))
    elif form == "mermaid":
        click.echo(as_mermaid(journey), nl=False)
    elif form == "svg":
        click.echo(as_svg(journey), nl=False)
    else:
        console = Console(highlight=False)
        # A file has no width: what stands in one line stays in one line.
        _tell(journey, console if console.is_terminal else Console(highlight=False, width=120))


def _paths(journals: tuple[Path, ...], folder: Path | None) -> list[Path]:
    if journals and folder is None:
        return list(journals)
    where = Path() if folder is None else folder
    found = sorted(where.glob("*.journal"))
    if not found and not journals:
        raise ExplainError(
            f"{where}: no file *.journal here; `smtunnel demo --keep DIR` leaves some in "
            'DIR/route-2a, and each daemon writes one with journal = "FILE" in its configuration'
        )
    return [*journals, *found]


def _list(events: list[Event], *, as_json: bool) -> None:
    known = list_messages(events)
    if as_json:
        rows = [
            {
                "ref": message.ref,
                "component": message.component,
                "t": message.t,
                "message_octets": message.message_octets,
                "state": message.state,
            }
            for message in known
        ]
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table(box=box.SIMPLE, pad_edge=False)
    for heading in ("when (UTC)", "from", "reference", "octets", "state"):
        table.add_column(heading, justify="right" if heading == "octets" else "left", no_wrap=True)
    for message in known:
        table.add_row(
            datetime.fromtimestamp(message.t, UTC).strftime("%H:%M:%S.%f")[:-3],
            message.component,
            Text(printable(message.ref)),
            "" if message.message_octets is None else str(message.message_octets),
            Text(printable(message.state)),
        )
    Console(highlight=False).print(table)


def _tell(journey: MessageJourney, console: Console) -> None:
    console.print(Text(headline(journey), style="bold"), soft_wrap=True)
    device = journey.device or "not told by the journals"
    number = "-" if journey.tunnel_message_id is None else str(journey.tunnel_message_id)
    console.print(Text(printable(f"device {device}, tunnel message id {number}")), soft_wrap=True)
    console.print()
    for step in journey.steps:
        _tell_step(step, journey, console)
    console.print()
    _tell_fragments(journey, console)
    for line in _totals(journey):
        console.print(Text(line), soft_wrap=True)


def _tell_step(step: JourneyStep, journey: MessageJourney, console: Console) -> None:
    way = (
        step.source.value
        if step.source is step.target
        else f"{step.source.value} → {step.target.value}"
    )
    delivery = step.delivery
    which = (
        ""
        if delivery is None
        else f"{delivery.index}" + (f"/{delivery.attempt}" if delivery.attempt > 1 else "")
    )
    size = str(step.octets) if step.octets else ""
    line = Text(f"{since(step, journey):>11}  ", style="dim")
    line.append(f"{way:<12} ", style="cyan")
    line.append(f"{which:>4} {size:>6}  ", style="dim")
    line.append(printable(step.title), style="red" if step.failed else "")
    if step.details:
        line.append(f"  {printable(step.details)}", style="dim")
    console.print(line, soft_wrap=True)


def _tell_fragments(journey: MessageJourney, console: Console) -> None:
    table = Table(box=box.SIMPLE, pad_edge=False)
    table.add_column("fragment", justify="right")
    table.add_column("attempt", justify="right")
    table.add_column("counter", justify="right")
    table.add_column("characters", justify="right")
    table.add_column("handed on", justify="right")
    table.add_column("last heard of")
    for delivery in journey.deliveries:
        own = [step for step in journey.steps if step.delivery == delivery]
        last = own[-1]
        table.add_row(
            str(delivery.index),
            str(delivery.attempt),
            str(delivery.originator_counter),
            str(delivery.chars),
            since(own[0], journey),
            Text(f"{since(last, journey)}: {printable(last.title)}"[:_STEP_CHARS]),
        )
    console.print(table)


def _totals(journey: MessageJourney) -> list[str]:
    network, network_octets = journey.octets_of("network")
    duis, duis_octets = journey.octets_of("duis")
    posts, post_octets = journey.octets_of("post")
    whole, whole_octets = journey.octets_of("carrier")
    retries = sum(delivery.attempt > 1 for delivery in journey.deliveries)
    lost = sum(step.kind == "network" and step.failed for step in journey.steps)
    arrived = journey.arrived_s
    return [
        f"fragments handed on: {len(journey.deliveries)}, of them again: {retries}, lost: {lost}",
        f"SM WAN: {network} messages, {network_octets} octets; DUIS: {duis} requests and answers, "
        f"{duis_octets} octets; posts: {posts}, {post_octets} octets",
        f"route 2b: {whole} signed messages, {whole_octets} octets",
        "whole at the receiver: "
        + ("not told by the journals" if arrived is None else f"after {arrived:.3f} s"),
    ]
