"""Talking to a gateway that runs: ``send``, ``receive`` and ``status`` of dsrsp and cem."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from gbcs import EntityId
from lab.cli.app import EXIT_NO, CommandFailed
from lab.cli.control_options import (
    client_of,
    json_option,
    run_checked,
    with_control,
    with_send_options,
)
from lab.config import CemFile, DsrspFile
from lab.control_client import ControlClient, ReceivedOverControl

STATE_WORDS = {
    "QUEUED": "queued",
    "ACCEPTED": "accepted by the DCC",
    "DELIVERED": "delivered to the device",
    "SENT": "sent: handed to the communications hub",
    "REASSEMBLED": "reassembled by the far end",
    "ANSWERED": "answered",
    "FAILED": "failed",
}


def _read_message(path: str) -> bytes:
    try:
        with click.open_file(path, "rb") as source:
            content: bytes = source.read()
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise CommandFailed(f"{path}: empty; there is nothing to send")
    return content


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


async def _send_and_watch(
    client: ControlClient,
    message: bytes,
    *,
    to: EntityId | None,
    until_receipt: bool = True,
    **options: Any,
) -> dict[str, Any]:
    """Send a message and show its states on standard error; returns the last status."""
    async with client:
        first = await client.send(message, to=to, **options)
        statuses = _watched(client, first["ref"], until_receipt=until_receipt)
        console = Console(stderr=True, highlight=False)
        try:
            if console.is_terminal:
                return await _watch_bar(first, statuses, console, downlink=to is not None)
            return await _watch_lines(first, statuses)
        except asyncio.CancelledError:
            # Ctrl-C: what the daemon took over stays with it.
            click.echo(
                f"smtunnel: no longer watching; the daemon goes on sending: ref {first['ref']}",
                err=True,
            )
            raise


async def _watched(
    client: ControlClient, ref: str, *, until_receipt: bool
) -> AsyncIterator[dict[str, Any]]:
    async for status in client.statuses(ref):
        yield status
        if status["state"] == "SENT" and not until_receipt:
            return


async def _watch_bar(
    status: dict[str, Any],
    statuses: AsyncIterator[dict[str, Any]],
    console: Console,
    *,
    downlink: bool,
) -> dict[str, Any]:
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("fragments"),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )
    _tell_waiting(status)
    with bar:
        task = bar.add_task("queued", total=None)
        async for status in statuses:
            bar.update(
                task,
                description=STATE_WORDS[status["state"]].partition(":")[0],
                total=status["fragments_total"] or None,
                completed=status["fragments_delivered" if downlink else "fragments_accepted"],
            )
    return status


async def _watch_lines(
    status: dict[str, Any], statuses: AsyncIterator[dict[str, Any]]
) -> dict[str, Any]:
    click.echo(f"queued, ref {status['ref']}", err=True)
    _tell_waiting(status)
    shown = "QUEUED"
    async for status in statuses:
        if status["state"] != shown and not status["final"]:
            click.echo(STATE_WORDS[status["state"]], err=True)
        shown = status["state"]
    return status


def _report(status: dict[str, Any], as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(status))
    else:
        waiting = _waiting(status)
        reason = f": {status['reason']}" if status.get("reason") else ""
        reason = f"; {waiting}" if waiting else reason
        if status["state"] == "SENT":
            waits = status.get("receipt_expected") and not status["final"]
            reason = "; a receipt is to come" if waits else "; nothing will confirm it"
        words = click.style(
            STATE_WORDS[status["state"]], fg="red" if status["state"] == "FAILED" else "green"
        )
        click.echo(
            f"{words}{reason}; {_counted(status['message_octets'], 'octet')} in "
            f"{_counted(status['fragments_total'], 'fragment')}{_by(status)}, ref {status['ref']}"
        )
    return EXIT_NO if status["state"] == "FAILED" else 0


def _waiting(status: dict[str, Any]) -> str:
    """Say that a message waits for route 2b, and for how long; empty where it does not."""
    if not status.get("waits_for_route_2b"):
        return ""
    by_2a_in_s = status["by_2a_in_s"]
    if by_2a_in_s is None:
        return "route 2b is down: it waits for that route alone"
    return f"route 2b is down: it goes by route 2a in {by_2a_in_s:.0f} s, or by 2b if that is back"


def _tell_waiting(status: dict[str, Any]) -> None:
    if waiting := _waiting(status):
        click.echo(waiting, err=True)


def _by(status: dict[str, Any]) -> str:
    """Say by which routes a message went, where it was not by 2a alone."""
    routes = status["routes"]
    if routes == "2b":
        # There it goes whole.
        return " (whole, by route 2b)"
    return f" (by routes {routes.replace('+', ' and ')})" if routes == "2a+2b" else ""


def _send(client: ControlClient, file: str, as_json: bool, **how: Any) -> int:
    message = _read_message(file)
    status = run_checked(_send_and_watch(client, message, **how))
    return _report(status, as_json)


@click.command(short_help="Send a file to a CEM, and wait until it is there.")
@with_control
@click.option("--to", required=True, help="EUI-64 of the CEM, such as 02-53-4D-54-00-00-00-01.")
@with_send_options
@click.option(
    "--topic",
    help="What it is about, for instance an eventID: what is on its way to this CEM about the same "
    "is superseded.",
)
@click.option("--supersedes", metavar="REF", help="An older message that it supersedes.")
@json_option
@click.argument("file")
def dsrsp_send(
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    to: str,
    as_json: bool,
    file: str,
    **options: Any,
) -> int:
    """Send FILE ('-' for standard input) to a CEM and wait until it is there.

    Progress goes to standard error, the result to standard output. After Ctrl-C the daemon
    goes on; ask with `smtunnel dsrsp status`.

    Exit code 0: the CEM has the whole message. 1: it failed, and the reason is told.
    """
    client = client_of(DsrspFile, config_path, control_url, token_file)
    device = EntityId.parse(to)
    return _send(client, file, as_json, to=device, **options)


@click.command(short_help="Send a file to the DSRSP.")
@with_control
@with_send_options
@click.option(
    "--until-receipt",
    is_flag=True,
    help="Wait on until the DSRSP says that it has the message: minutes, as it tells in batches.",
)
@json_option
@click.argument("file")
def cem_send(
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    until_receipt: bool,
    as_json: bool,
    file: str,
    **options: Any,
) -> int:
    """Send FILE ('-' for standard input) to the DSRSP.

    Progress goes to standard error, the result to standard output. After Ctrl-C the daemon
    goes on; ask with `smtunnel cem status`.

    Exit code 0: all its alerts were handed to the communications hub, and with --until-receipt
    the DSRSP has the message. 1: it failed, and the reason is told.
    """
    client = client_of(CemFile, config_path, control_url, token_file)
    return _send(client, file, as_json, to=None, until_receipt=until_receipt, **options)


async def _receive(
    client: ControlClient, folder: Path | None, count: int, wait_s: float, as_json: bool
) -> int:
    left = count
    async with client:
        while left > 0:
            if wait_s > 0 and sys.stderr.isatty():
                click.echo(f"waiting up to {wait_s:g} s for a message; Ctrl-C stops", err=True)
            messages = (await client.received(wait_s=wait_s))[:left]
            if not messages:
                click.echo(f"no message within {wait_s:g} s", err=True)
                return EXIT_NO
            for received in messages:
                _hand_out(received, folder, as_json)
                # Only now is it ours: written down, or out of the door.
                await client.ack(received.ref)
            left -= len(messages)
    return 0


def _hand_out(received: ReceivedOverControl, folder: Path | None, as_json: bool) -> None:
    facts = {
        "ref": received.ref,
        "peer": str(received.peer),
        "octets": len(received.message),
        "route": received.route,
    }
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{received.ref}.xml"
        with path.open("wb") as file:
            file.write(received.message)
            file.flush()
            os.fsync(file.fileno())  # the gateway forgets it next
        facts["file"] = str(path)
        click.echo(json.dumps(facts) if as_json else f"{path}  from {received.peer}")
    elif as_json:
        click.echo(json.dumps(facts | _as_json_text(received.message)))
    else:
        sys.stdout.buffer.write(received.message)
        if sys.stdout.isatty() and not received.message.endswith(b"\n"):
            sys.stdout.buffer.write(b"\n")  # for the eye; a pipe gets the octets alone
        sys.stdout.buffer.flush()


def _as_json_text(message: bytes) -> dict[str, str]:
    """Return the octets so that they can be told back from the JSON, whatever they are."""
    try:
        return {"message": message.decode("utf-8")}
    except UnicodeDecodeError:
        return {"message_base64": base64.b64encode(message).decode("ascii")}


def _receive_command(name: str, file_type: type[DsrspFile] | type[CemFile]) -> click.Command:
    @click.command("receive", short_help=f"Take messages that arrived at the {name}.")
    @with_control
    @click.option(
        "--count",
        default=1,
        show_default=True,
        type=click.IntRange(min=1),
        help="How many messages to take; more than one are best told apart with --out or --json.",
    )
    @click.option(
        "--wait",
        "wait_s",
        default=60.0,
        show_default=True,
        type=click.FloatRange(min=0),
        help="Seconds to wait for each message.",
    )
    @click.option(
        "--out",
        "folder",
        type=click.Path(path_type=Path, file_okay=False),
        help="Write each message to a file of its own in this folder.",
    )
    @json_option
    def receive(
        config_path: Path | None,
        control_url: str | None,
        token_file: Path | None,
        count: int,
        wait_s: float,
        folder: Path | None,
        as_json: bool,
    ) -> int:
        """Take messages that arrived, and acknowledge them: each is given out once.

        Without --out or --json the message's octets go to standard output. In JSON a message
        that is no UTF-8 stands in "message_base64", any other in "message".
        Exit code 0: all that were asked for are here. 1: not within the time.
        """
        client = client_of(file_type, config_path, control_url, token_file)
        result: int = run_checked(_receive(client, folder, count, wait_s, as_json))
        return result

    return receive


def _status_command(file_type: type[DsrspFile] | type[CemFile]) -> click.Command:
    @click.command("status", short_help="Tell what became of a message that was sent.")
    @with_control
    @json_option
    @click.argument("ref")
    def status(
        config_path: Path | None,
        control_url: str | None,
        token_file: Path | None,
        as_json: bool,
        ref: str,
    ) -> int:
        """Tell what became of the message REF, a reference that `send` printed.

        Exit code 0: it is there or on its way. 1: it failed, and the reason is told.
        """
        client = client_of(file_type, config_path, control_url, token_file)

        async def ask() -> dict[str, Any]:
            async with client:
                return await client.status(ref)

        return _report(run_checked(ask()), as_json)

    return status


def add_talk_commands(dsrsp: click.Group, cem: click.Group) -> None:
    """Add ``send``, ``receive`` and ``status`` to the two groups."""
    dsrsp.add_command(dsrsp_send, "send")
    dsrsp.add_command(_receive_command("DSRSP", DsrspFile))
    dsrsp.add_command(_status_command(DsrspFile))
    cem.add_command(cem_send, "send")
    cem.add_command(_receive_command("CEM", CemFile))
    cem.add_command(_status_command(CemFile))
