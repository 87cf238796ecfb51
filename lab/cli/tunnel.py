"""``smtunnel encode``, ``decode``, ``inspect`` and ``cost``: the tunnel protocol by hand."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Final, get_args

import click
from rich.console import Console
from rich.table import Table

from lab.cli.app import EXIT_NO, CommandFailed
from lab.fragment_report import FragmentReport, explain_untrusted_fragment
from lab.tunnel_cost import DirectionCost, cost_down, cost_up
from openadr_xml import compact
from smtunnel import (
    CARRIERS,
    DICTIONARIES,
    ECS200,
    Carrier,
    Compression,
    CompressionChoice,
    MessageAssembly,
    Originator,
    RemoteError,
    TunnelError,
    encode_message,
    parse_untrusted_fragment,
)

_ORIGINATORS: Final = {originator.name.lower(): originator for originator in Originator}
_SENDER_OF: Final = {"ecs46a": Originator.DSRSP, "ecs200": Originator.CEM}
_FIELD_COLOURS: Final = ("cyan", "yellow", "magenta", "red", "green", "blue")
_COLUMN_NAMES: Final = {"originator": "or", "compression": "compr", "encoding": "en", "last": "la"}

_compression_option = click.option(
    "--compression",
    type=click.Choice(get_args(CompressionChoice)),
    default="auto",
    show_default=True,
    help="auto: the smallest of all. dictionary: zlib with the preset dictionary, which the other "
    "end must have too. none: a message of several fragments still gets zlib's framing, because "
    "its check covers the whole.",
)

_compact_option = click.option(
    "--compact",
    "compacting",
    is_flag=True,
    help="First rewrite OpenADR XML into its compact form: equal as canonical XML, without white "
    "space between elements and XML declaration, prefixes declared once. What is not XML, has a "
    "DTD or holds an XML signature stays as it is.",
)


def _read(file: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror}") from None


def _read_message(file: str, compacting: bool) -> bytes:
    message = _read(file)
    return compact(message) if compacting else message


@click.command()
@click.argument("file")
@click.option(
    "--carrier", type=click.Choice(list(CARRIERS)), required=True, help="ecs46a: down. ecs200: up."
)
@_compression_option
@_compact_option
@click.option(
    "--id", "message_id", type=click.IntRange(0, 255), default=0, show_default=True,
    help="Tunnel message id: groups the fragments.",
)  # fmt: skip
@click.option(
    "--originator",
    type=click.Choice(list(_ORIGINATORS)),
    help="Who made the message; by default dsrsp on ecs46a and cem on ecs200.",
)
def encode(
    file: str,
    carrier: str,
    compression: CompressionChoice,
    compacting: bool,
    message_id: int,
    originator: str | None,
) -> None:
    """Cut FILE (- for standard input) into fragments, one carrier payload a line.

    \b
    Examples:
      smtunnel encode event.xml --carrier ecs46a
      smtunnel encode event.xml --carrier ecs46a --compact --compression dictionary
      smtunnel encode report.xml --carrier ecs200 --id 7
      echo hello | smtunnel encode - --carrier ecs46a | smtunnel decode

    Each line of ecs46a has at most 110 characters (five labels of 22), each of ecs200 at most
    1062. The first four are the header: see smtunnel inspect.
    """
    sender = _SENDER_OF[carrier] if originator is None else _ORIGINATORS[originator]
    encoded = encode_message(
        _read_message(file, compacting),
        carrier=CARRIERS[carrier],
        originator=sender,
        tunnel_message_id=message_id,
        compression=compression,
        peer_dictionaries=DICTIONARIES,
    )
    click.echo("\n".join(encoded.payloads))


class _Found:
    """One message among the lines of decode."""

    def __init__(self) -> None:
        self.assembly = MessageAssembly()
        self.first_line: dict[int, int] = {}


@click.command()
@click.argument("file", default="-")
@click.option(
    "--carrier",
    type=click.Choice(list(CARRIERS)),
    help="Hold each line to this carrier's size; by default to the larger one's.",
)
@click.option("--id", "message_id", type=click.IntRange(0, 255), help="Decode only this message.")
@click.option("--originator", type=click.Choice(list(_ORIGINATORS)), help="Only of this end.")
def decode(file: str, carrier: str | None, message_id: int | None, originator: str | None) -> None:
    """Put a message together from fragments, one a line, and write its octets.

    The lines come on standard input (or in FILE) in any order; repeated lines do no harm, empty
    lines are skipped.

    \b
    Examples:
      smtunnel encode event.xml --carrier ecs46a | sort -R | smtunnel decode > copy.xml
      smtunnel decode lines.txt --id 7

    Exit code 1 and a list of what is missing when fragments are missing; exit code 3 when a line
    is not a fragment or the fragments do not make a message. Nothing is written then.
    """
    messages = _collect(
        _read(file),
        CARRIERS[carrier] if carrier else ECS200,
        message_id,
        None if originator is None else _ORIGINATORS[originator],
    )
    if not messages:
        raise CommandFailed("there are no fragments to decode: give one payload a line")
    if len(messages) > 1:
        names = ", ".join(f"{sender.name.lower()} {number}" for sender, number in messages)
        raise CommandFailed(
            f"the lines belong to {len(messages)} messages ({names}): choose one with --id"
            " or --originator"
        )
    [(key, found)] = messages.items()
    if not found.assembly.complete:
        click.secho(f"smtunnel: {_tell_missing(key[1], found.assembly)}", fg="red", err=True)
        raise click.exceptions.Exit(EXIT_NO)
    try:
        message = found.assembly.decode()
    except TunnelError as error:
        raise CommandFailed(f"the fragments do not make a message: {error}") from None
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


def _collect(
    lines: bytes, carrier: Carrier, message_id: int | None, originator: Originator | None
) -> dict[tuple[Originator, int], _Found]:
    messages: dict[tuple[Originator, int], _Found] = {}
    for number, line in enumerate(lines.splitlines(), 1):
        payload = line.strip().decode("utf-8", "replace")
        if not payload:
            continue
        try:
            fragment = parse_untrusted_fragment(payload, carrier)
        except RemoteError as error:
            raise CommandFailed(f"line {number} is not a fragment: {error}") from None
        header = fragment.header
        if message_id not in (None, header.tunnel_message_id):
            continue
        if originator not in (None, header.originator):
            continue
        key = (header.originator, header.tunnel_message_id)
        found = messages.setdefault(key, _Found())
        try:
            found.assembly.add(fragment)
        except RemoteError as error:
            earlier = found.first_line.get(header.index)
            where = f" (fragment {header.index} is also on line {earlier})" if earlier else ""
            raise CommandFailed(
                f"line {number} does not fit the lines before it: {error}{where}"
            ) from None
        found.first_line.setdefault(header.index, number)
    return messages


def _tell_missing(message_id: int, assembly: MessageAssembly) -> str:
    missing = _ranges(assembly.missing())
    if assembly.fragments_total is None:
        after = assembly.highest_index + 1
        missing += [f"{after} and perhaps more: the last fragment is not here"]
    total = assembly.fragments_total or "an unknown number of"
    return (
        f"message {message_id} is not complete: {assembly.fragments} of {total} fragments are "
        f"here; missing: {', '.join(missing)}"
    )


def _ranges(numbers: tuple[int, ...]) -> list[str]:
    texts: list[str] = []
    start = 0
    for place, number in enumerate(numbers):
        if place + 1 == len(numbers) or numbers[place + 1] != number + 1:
            first = numbers[start]
            texts.append(str(first) if first == number else f"{first}-{number}")
            start = place + 1
    return texts


@click.command()
@click.argument("payload")
@click.option("--carrier", type=click.Choice(list(CARRIERS)), help="What carried it.")
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def inspect(payload: str, carrier: str | None, as_json: bool) -> None:
    """Explain one fragment bit by bit. PAYLOAD is its text, or - for one line on standard input.

    \b
    Examples:
      smtunnel encode event.xml --carrier ecs46a | head -1 | smtunnel inspect -
      smtunnel inspect GAAHaGVsbG8K --json

    Quote a payload that is typed by hand: it may hold characters that the shell knows.
    """
    if payload == "-":
        lines = [
            line for line in _read("-").decode("utf-8", "replace").splitlines() if line.strip()
        ]
        if len(lines) != 1:
            raise CommandFailed(f"inspect takes one fragment, but {len(lines)} lines came")
        payload = lines[0].strip()
    try:
        report = explain_untrusted_fragment(payload, CARRIERS[carrier] if carrier else None)
    except RemoteError as error:
        raise CommandFailed(f"this is not a fragment: {error}") from None
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    else:
        _draw(report)


def _draw(report: FragmentReport) -> None:
    click.echo(f"header {report.payload[:4]} = octets {report.header_octets.hex(' ').upper()}\n")
    rows: list[list[str]] = [[], [], []]
    for field, colour in zip(report.fields, _FIELD_COLOURS, strict=True):
        width = len(field.bits)
        numbers = range(field.high_bit, field.high_bit - width, -1)
        name = _COLUMN_NAMES.get(field.name, field.name)
        cells = (
            " ".join(f"{number:2}" for number in numbers),
            " ".join(f"{bit:>2}" for bit in field.bits),
            f"{name:<{3 * width - 1}}",
        )
        for row, cell in zip(rows, cells, strict=True):
            row.append(click.style(cell, fg=colour))
    for title, row in zip(("bit  ", "value", "field"), rows, strict=True):
        click.echo(f"{title} |{'|'.join(row)}|")
    click.echo()
    for field, colour in zip(report.fields, _FIELD_COLOURS, strict=True):
        name = click.style(f"{field.name:<12}", fg=colour)
        click.echo(f"{name} {field.bits:<12} {field.meaning}")
    if report.fragment.header.compression is Compression.CONTROL:
        click.echo("             this version ignores control records and counts them")
    click.echo(f"{'body':<12} {report.payload[4:24]}{'...' if len(report.payload) > 24 else ''}")
    for line in report.body:
        click.echo(f"             {line}")


@click.command()
@click.argument("file")
@_compression_option
@_compact_option
@click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object.")
def cost(file: str, compression: CompressionChoice, compacting: bool, as_json: bool) -> None:
    """Tell what FILE (- for standard input) costs on the way, down to a CEM and up from one.

    Down, each fragment is one ECS46a command, which takes two DUIS requests (transform, then the
    signed pre-command) and a response. Up, each fragment is one ECS200 alert. The octets are those
    of whole GBCS messages on the SM WAN, with signatures and MAC.

    \b
    Examples:
      smtunnel cost event.xml
      smtunnel cost event.xml --compact
      smtunnel cost event.xml --compression none
      smtunnel cost report.xml --json
    """
    message = _read_message(file, compacting)
    down, up = cost_down(message, compression), cost_up(message, compression)
    if as_json:
        ways = {
            name: {**asdict(way), "sm_wan_octets": way.sm_wan_octets}
            for name, way in (("down", down), ("up", up))
        }
        click.echo(json.dumps({"file": file, "message_octets": len(message), **ways}, indent=2))
        return
    Console().print(_cost_table(len(message), down, up))


def _cost_table(message_octets: int, down: DirectionCost, up: DirectionCost) -> Table:
    table = Table()
    table.add_column(f"message, {message_octets:,} octets")
    table.add_column(f"down, {down.carrier}", justify="right")
    table.add_column(f"up, {up.carrier}", justify="right")
    rows = (
        ("compression", down.compression, up.compression),
        ("octets after compression", down.compressed_octets, up.compressed_octets),
        ("characters with headers", down.text_chars, up.text_chars),
        ("fragments", down.fragments, up.fragments),
        ("ECS46a commands", down.commands, up.commands),
        ("ECS200 alerts", down.alerts, up.alerts),
        ("DUIS requests sent by the DSRSP", down.duis_requests, up.duis_requests),
        ("DUIS messages it receives", down.duis_received, up.duis_received),
        ("SM WAN octets to the device", down.sm_wan_octets_down, up.sm_wan_octets_down),
        ("SM WAN octets from the device", down.sm_wan_octets_up, up.sm_wan_octets_up),
        ("SM WAN octets together", down.sm_wan_octets, up.sm_wan_octets),
    )
    for name, *values in rows:
        table.add_row(name, *(f"{v:,}" if isinstance(v, int) else v for v in values))
    return table
