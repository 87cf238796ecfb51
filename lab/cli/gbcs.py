"""``smtunnel gbcs``: GBCS messages, taken apart and checked."""

from __future__ import annotations

import json
import string
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from gbcs.inspection import Check, Inspection, Verdict, explain
from gbcs.messages import MAX_MESSAGE_OCTETS, Alert, Command, PreCommand, SignedPreCommand
from gbcs.route_2b import DEFAULT_MESSAGE_OCTETS, Route2bMessage
from lab.cli.app import EXIT_NO, CommandFailed
from lab.errors import KeyFolderError
from lab.keys import read_keystore
from smtunnel import (
    ECS46A,
    ECS200,
    Fragment,
    NotAFragment,
    labels_to_payload,
    parse_untrusted_fragment,
)
from smtunnel.carriers import ROUTE_2B

# Hex digits, blanks and line ends of the longest message that is usual on route 2b.
_MAX_INPUT_OCTETS = 4 * DEFAULT_MESSAGE_OCTETS
_MOST_OCTETS_SHOWN = 16
_PIPE_WIDTH = 140
_STYLES = {
    Verdict.HOLDS: "green",
    Verdict.FAILS: "bold red",
    Verdict.OUT_OF_TIME: "yellow",
    Verdict.CANNOT_BE_CHECKED: "yellow",
}


@click.group()
def gbcs() -> None:
    """Look into GBCS messages: ECS46a commands and responses, ECS200 alerts, route 2b."""


@gbcs.command(short_help="Take one message apart; check signature and MAC.")
@click.argument("message", metavar="HEX|FILE|-")
@click.option(
    "--keys",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of PEM certificates and keys, searched recursively; found by EUI-64, usage and, "
    "for the access control broker, role. Test keys are welcome.",
)
@click.option(
    "--at",
    "moment",
    metavar="TIME",
    help="Judge the certificates at this time (ISO 8601, UTC unless it says otherwise). Without "
    "it an expired certificate is told, but fails nothing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def inspect(message: str, keys: Path | None, moment: str | None, as_json: bool) -> int:
    """Take a message apart, octet by octet; say whether signature and MAC hold.

    The message is given as hexadecimal digits, or as a file (or - for standard input) that holds
    the digits or the octets themselves. A signature needs the originator's certificate, a MAC
    the key-agreement certificates of device and broker and the private key of either. A fragment
    of the tunnel inside is explained too.

    \b
    Exit codes: 0 what can be checked holds, 1 something fails,
    3 not a message, or unusable keys.
    """
    octets = _read_octets(message)
    at = _read_moment(moment)
    try:
        keystore = read_keystore([keys], test_mode=True) if keys is not None else None
    except KeyFolderError as error:
        raise CommandFailed(str(error)) from None
    inspection = explain(octets, keystore, at)
    holds = inspection.holds(validity_counts=moment is not None)
    carried = _Carried.of(inspection)
    if as_json:
        click.echo(json.dumps(_json_object(inspection, carried, holds, at), indent=2))
    else:
        _print(inspection, carried, judged=moment is not None)
    return 0 if holds else EXIT_NO


class _Carried:
    """What of the tunnel a message carries: a payload, and the fragment or why it is none."""

    def __init__(self, payload: str | bytes | None, fragment: Fragment | None, reason: str) -> None:
        self.payload, self.fragment, self.reason = payload, fragment, reason

    @classmethod
    def of(cls, inspection: Inspection) -> _Carried | None:
        message = inspection.message
        payload: str | bytes
        if isinstance(message, Route2bMessage):
            payload, carrier = message.payload, ROUTE_2B
        elif isinstance(message, Alert):
            payload, carrier = message.text, ECS200
        elif isinstance(message, PreCommand | SignedPreCommand | Command):
            labels = (message if isinstance(message, PreCommand) else message.pre_command).labels
            joined = labels_to_payload([(label.index, label.text) for label in labels])
            if joined is None:
                return cls(None, None, "the labels are somebody's own: not 1 to n, filled in order")
            payload, carrier = joined, ECS46A
        else:
            return None
        try:
            return cls(payload, parse_untrusted_fragment(payload, carrier), "")
        except NotAFragment as error:
            return cls(payload, None, str(error))

    @property
    def is_text(self) -> bool:
        """Whether the carrier takes text: else octets."""
        return not isinstance(self.payload, bytes)

    @property
    def shown(self) -> str | None:
        """The payload for people: octets in hexadecimal."""
        return self.payload.hex() if isinstance(self.payload, bytes) else self.payload

    def describe(self) -> dict[str, Any] | None:
        """Return the fragment's header for people and programs alike."""
        if self.fragment is None:
            return None
        header = self.fragment.header
        return {
            "originator": header.originator.name,
            "compression": header.compression.name.lower(),
            "base64": header.base64,
            "last": header.last,
            "index": header.index,
            "tunnel_message_id": header.tunnel_message_id,
            "body_chars" if self.is_text else "body_octets": len(self.fragment.body),
        }


def _read_octets(message: str) -> bytes:
    if message == "-":
        content = sys.stdin.buffer.read(_MAX_INPUT_OCTETS + 1)
        source = "standard input"
    elif Path(message[:255]).is_file():
        source = message
        try:
            with Path(message).open("rb") as file:
                content = file.read(_MAX_INPUT_OCTETS + 1)
        except OSError as error:
            raise CommandFailed(f"{message}: cannot be read: {error.strerror}") from None
    else:
        octets = _octets_of_hex(message.encode("utf-8", "replace"))
        if octets is None:
            raise CommandFailed(
                f"{message[:64]!r} is neither a file nor an even number of hexadecimal digits"
            )
        return octets
    if len(content) > _MAX_INPUT_OCTETS:
        raise CommandFailed(
            f"{source}: too long; a message has at most {MAX_MESSAGE_OCTETS} octets, "
            f"on route 2b {DEFAULT_MESSAGE_OCTETS}"
        )
    octets = _octets_of_hex(content)
    return content if octets is None else octets


def _octets_of_hex(text: bytes) -> bytes | None:
    """Return what hexadecimal digits say, or None when these are not such digits."""
    digits = b"".join(text.split())
    if not digits or len(digits) % 2 or digits.strip(string.hexdigits.encode()):
        return None
    return bytes.fromhex(digits.decode("ascii"))


def _read_moment(moment: str | None) -> datetime:
    if moment is None:
        return datetime.now(UTC)
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        raise CommandFailed(
            f"--at {moment!r} is not a time: write for example 2025-06-01 or 2025-06-01T12:00:00Z"
        ) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _print(inspection: Inspection, carried: _Carried | None, *, judged: bool) -> None:
    console = Console(highlight=False)
    if not console.is_terminal:
        # Nothing to fit into: what reads the output should not meet lines cut at 80 columns.
        console = Console(highlight=False, width=_PIPE_WIDTH)
    size = sum(len(field.octets) for field in inspection.fields)
    table = Table(
        title=f"{inspection.title}, {size} octets",
        box=box.SIMPLE_HEAD,
        title_justify="left",
        padding=(0, 1, 0, 0),
    )
    table.add_column("offset", justify="right")
    table.add_column("length", justify="right")
    table.add_column("part", no_wrap=True)
    table.add_column("hexadecimal", overflow="fold")
    table.add_column("meaning", overflow="fold")
    for field in inspection.fields:
        shown = field.octets[:_MOST_OCTETS_SHOWN].hex(" ").upper()
        if len(field.octets) > _MOST_OCTETS_SHOWN:
            shown += " …"
        cells = (str(field.offset), str(len(field.octets)), field.title, shown, field.meaning)
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)
    for check in inspection.checks:
        console.print(_check_line(check), soft_wrap=True)
    if not inspection.checks:
        console.print(Text("signature: none; a pre-command never has one"))
    if not judged and any(check.verdict is Verdict.OUT_OF_TIME for check in inspection.checks):
        console.print(
            Text("Certificates out of time are told, but fail nothing: judge them with --at TIME.")
        )
    if carried is not None:
        console.print(_carried_text(carried), soft_wrap=True)


def _check_line(check: Check) -> Text:
    return Text.assemble(
        f"{check.what}: ", (check.verdict.value, _STYLES[check.verdict]), f": {check.reason}"
    )


def _carried_text(carried: _Carried) -> Text:
    described = carried.describe()
    if described is None:
        return Text(f"tunnel: no fragment: {carried.reason}")
    if carried.is_text:
        kind = "base64" if described["base64"] else "raw"
        size = f"{described['body_chars']} characters of {kind} text"
    else:
        size = f"{described['body_octets']} octets"
    last = "the last" if described["last"] else "not the last"
    return Text(
        f"tunnel: fragment {described['index']} ({last}) of message "
        f"{described['tunnel_message_id']} from the {described['originator']}, "
        f"compression {described['compression']}, {size}; "
        "`smtunnel inspect` explains it bit by bit:\n"
        f"{carried.shown}"
    )


def _json_object(
    inspection: Inspection, carried: _Carried | None, holds: bool, at: datetime
) -> dict[str, Any]:
    return {
        "message": inspection.title,
        "kind": type(inspection.message).__name__,
        "use_case": inspection.message.pre_command.use_case
        if isinstance(inspection.message, SignedPreCommand | Command)
        else inspection.message.use_case,
        "octets": sum(len(field.octets) for field in inspection.fields),
        "fields": [
            {
                "offset": field.offset,
                "length": len(field.octets),
                "title": field.title,
                "hex": field.octets.hex(),
                "meaning": field.meaning,
            }
            for field in inspection.fields
        ],
        "checks": [
            {"what": check.what, "verdict": check.verdict.value, "reason": check.reason}
            for check in inspection.checks
        ],
        "at": at.isoformat(),
        "tunnel": None
        if carried is None
        else {
            "payload": carried.shown,
            "fragment": carried.describe(),
            "reason": carried.reason or None,
        },
        "verdict": _verdict(inspection, holds),
    }


def _verdict(inspection: Inspection, holds: bool) -> str:
    if not holds:
        return "something fails"
    if any(check.verdict is Verdict.HOLDS for check in inspection.checks):
        return "what can be checked holds"
    return "nothing can be checked"
