"""Talking to a gateway that runs: ``send``, ``receive`` and ``status`` of dsrsp and cem."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cem import CemError
from dcc_sim import DccSimError
from dsrsp import DsrspError
from gbcs import EntityId
from gbcs.errors import GbcsError
from lab.cli.app import EXIT_NO, CommandFailed
from lab.config import CemFile, DsrspFile, load_config
from lab.control import ROUTES
from lab.control_client import ControlClient, ReceivedOverControl
from lab.daemon import split_address
from lab.errors import LabError
from smtunnel.errors import TunnelError

_KNOWN_ERRORS = (LabError, GbcsError, TunnelError, DccSimError, DsrspError, CemError)

STATE_WORDS = {
    "QUEUED": "queued",
    "ACCEPTED": "accepted by the DCC",
    "DELIVERED": "delivered to the device",
    "SENT": "sent: handed to the communications hub",
    "REASSEMBLED": "reassembled by the far end",
    "ANSWERED": "answered",
    "FAILED": "failed",
}


def run_checked(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; known errors become one line for a person and exit code 3."""
    try:
        return asyncio.run(work)
    except _KNOWN_ERRORS as error:
        raise CommandFailed(str(error)) from None
    except BrokenPipeError:
        raise  # the reader of our output went away: the root of the command line knows
    except OSError as error:
        raise CommandFailed(f"the operating system refused: {error}") from None


_control_options = [
    click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The daemon's TOML file: tells where the daemon listens.",
    ),
    click.option(
        "--control",
        "control_url",
        help="Instead: http://host:port of the control interface, as the daemon printed it.",
    ),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="With --control: the file with the control token.",
    ),
]
_compression_option = click.option(
    "--compression",
    type=click.Choice(["auto", "zlib", "dictionary", "none"]),
    default="auto",
    show_default=True,
    help="How the message is made small; auto: what is smallest and the far end understands.",
)
_compact_option = click.option(
    "--compact/--no-compact",
    default=None,
    help="Whether OpenADR XML without a signature goes in its compact form, which is equal as "
    "canonical XML, or untouched.  [default: as the daemon is set]",
)
_deadline_option = click.option(
    "--deadline",
    callback=lambda _ctx, _param, text: None if text is None else _deadline(text),
    metavar="WHEN",
    help="When it is of no more use: 30s, 5m, 2h from now, or a time such as "
    "2027-01-15T17:30:00Z. What was not sent by then is not sent.",
)
_priority_option = click.option(
    "--priority",
    type=click.IntRange(-(2**31), 2**31 - 1),
    default=0,
    show_default=True,
    help="Higher goes first.",
)
_route_option = click.option(
    "--route",
    type=click.Choice(list(ROUTES)),
    default="auto",
    show_default=True,
    callback=lambda _ctx, _param, name: ROUTES[name],
    help="2a: through the smart metering system; 2b: over the internet, waiting for the connection "
    "if need be; both: at once, and what comes second is dropped; auto: 2b while it stands, and 2a "
    "when it has been down for a while.",
)
_urgent_option = click.option(
    "--urgent", is_flag=True, help="Do not wait for route 2b where it is down: go by 2a at once."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def with_control(command: Any) -> Any:
    """Add the options that tell how to reach the daemon."""
    for option in reversed(_control_options):
        command = option(command)
    return command


def client_of(
    file_type: type[DsrspFile] | type[CemFile],
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
) -> ControlClient:
    """Return a client for the daemon that the options tell of.

    Raises:
        click.UsageError: they do not tell.
        LabError: the file cannot be read.
    """
    if config_path is not None:
        control = load_config(config_path, file_type).control
        token_file = token_file or config_path.resolve().parent / control.token_file
        if control_url is None and not control.listen.startswith("fd:"):
            host, port = split_address(control.listen)
            control_url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if control_url is None or token_file is None:
        raise click.UsageError(
            "say behind the subcommand how to reach the daemon: --config FILE, or --control URL "
            "and --token-file FILE"
        )
    if not control_url.startswith(("http://", "https://")):
        raise click.UsageError(f"--control {control_url}: expected http://host:port")
    return ControlClient.from_token_file(control_url, token_file)


_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def _deadline(text: str) -> float:
    """Read a deadline, in seconds since 1970.

    Raises:
        click.BadParameter: it is none.
    """
    number, unit = text[:-1], text[-1:]
    try:
        if unit in _UNITS_S and number:
            return time.time() + float(number) * _UNITS_S[unit]
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r}: expected 30s, 5m, 2h, 1d, or a time such as 2027-01-15T17:30:00Z"
        ) from None
    if at.tzinfo is None:
        raise click.BadParameter(f"{text}: of which zone? Write {text}Z for UTC, or {text}+01:00")
    return at.timestamp()


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
@_compression_option
@_compact_option
@_deadline_option
@_priority_option
@_route_option
@_urgent_option
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
@_compression_option
@_compact_option
@_deadline_option
@_priority_option
@_route_option
@_urgent_option
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
