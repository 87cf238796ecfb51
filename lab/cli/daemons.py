"""``smtunnel dcc-sim``, ``dsrsp`` and ``cem``: run a daemon, or talk to one that runs."""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections.abc import Coroutine
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
from lab.control_client import ControlClient
from lab.daemon import run_cem, run_dcc_sim, run_dsrsp, split_address
from lab.errors import LabError
from smtunnel.errors import TunnelError

_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
_KNOWN_ERRORS = (LabError, GbcsError, TunnelError, DccSimError, DsrspError, CemError)

STATE_WORDS = {
    "QUEUED": "queued",
    "ACCEPTED": "accepted by the DCC",
    "DELIVERED": "delivered to the device",
    "SENT": "sent: handed to the communications hub (nothing confirms an alert)",
    "REASSEMBLED": "reassembled by the far end",
    "ANSWERED": "answered",
    "FAILED": "failed",
}

_config_option = click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The daemon's TOML file.",
)
_example_option = click.option(
    "--example-config", is_flag=True, help="Print a commented configuration file and stop."
)
_log_option = click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="How much to say on standard error.",
)
_control_options = [
    _config_option,
    click.option("--control", "control_url", help="http://host:port of the control interface."),
    click.option(
        "--token-file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="The file with the control token.",
    ),
]


def run_checked(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine; known errors become one line for a person and exit code 3."""
    try:
        return asyncio.run(work)
    except _KNOWN_ERRORS as error:
        raise CommandFailed(str(error)) from None
    except OSError as error:
        raise CommandFailed(f"the operating system refused: {error}") from None


def _start_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # One line for each connection is noise beside our own, which say what and why.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _daemon(
    ctx: click.Context, work: Any, config_path: Path | None, example: str, print_example: bool
) -> None:
    if ctx.invoked_subcommand is not None:
        return
    if print_example:
        click.echo((_EXAMPLES / example).read_text(encoding="utf-8"), nl=False)
        return
    if config_path is None:
        raise click.UsageError(
            "give --config FILE (see --example-config for one to start from), or a subcommand"
        )
    run_checked(work(config_path))


@click.command("dcc-sim")
@_config_option
@_example_option
@click.option(
    "--duis-schema",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The official DUIS schema (duis54.xsd, with the files that it includes beside it): "
    "everything that comes and goes is validated against it.",
)
@_log_option
@click.pass_context
def dcc_sim(
    ctx: click.Context,
    config_path: Path | None,
    example_config: bool,
    duis_schema: Path | None,
    log_level: str,
) -> None:
    """Run the DCC simulator: services T, S and D, access control broker, devices.

    \b
    It answers at   http://HOST:8079/api/v1/serviceT | serviceS | serviceD
    Devices dial in at  ws://HOST:8090/device/EUI

    \b
    smtunnel pki init pki                       make test certificates and keys
    smtunnel dcc-sim --example-config > dcc.toml
    smtunnel dcc-sim --config dcc.toml

    It prints one JSON line when it is ready and runs until SIGTERM or Ctrl-C.
    """
    _start_logging(log_level)

    async def work(path: Path) -> None:
        await run_dcc_sim(path, duis_schema=duis_schema)

    _daemon(ctx, work, config_path, "dcc-sim.toml", example_config)


@click.group("dsrsp", invoke_without_command=True)
@_config_option
@_example_option
@_log_option
@click.pass_context
def dsrsp(
    ctx: click.Context, config_path: Path | None, example_config: bool, log_level: str
) -> None:
    """Run the DSRSP's gateway (DCC adaptor and tunnel), or talk to one that runs.

    \b
    smtunnel dsrsp --example-config > dsrsp.toml
    smtunnel dsrsp --config dsrsp.toml
    smtunnel dsrsp send --config dsrsp.toml --to 00-DB-... event.xml
    smtunnel dsrsp receive --config dsrsp.toml

    The daemon prints one JSON line when it is ready and runs until SIGTERM or Ctrl-C.
    """
    _start_logging(log_level if ctx.invoked_subcommand is None else "error")
    _daemon(ctx, run_dsrsp, config_path, "dsrsp.toml", example_config)


@click.group("cem", invoke_without_command=True)
@_config_option
@_example_option
@_log_option
@click.pass_context
def cem(ctx: click.Context, config_path: Path | None, example_config: bool, log_level: str) -> None:
    """Run the CEM's gateway (device and tunnel end), or talk to one that runs.

    \b
    smtunnel cem --example-config > cem.toml
    smtunnel cem --config cem.toml
    smtunnel cem send --config cem.toml registration.xml
    smtunnel cem receive --config cem.toml

    The daemon prints one JSON line when it is ready and runs until SIGTERM or Ctrl-C.
    """
    _start_logging(log_level if ctx.invoked_subcommand is None else "error")
    _daemon(ctx, run_cem, config_path, "cem.toml", example_config)


def _with_control(command: Any) -> Any:
    for option in reversed(_control_options):
        command = option(command)
    return command


def _client(
    file_type: type[DsrspFile] | type[CemFile],
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
) -> ControlClient:
    if config_path is not None:
        control = load_config(config_path, file_type).control
        token_file = token_file or config_path.resolve().parent / control.token_file
        if control_url is None and not control.listen.startswith("fd:"):
            host, port = split_address(control.listen)
            control_url = f"http://{host}:{port}"
    if control_url is None or token_file is None:
        raise click.UsageError(
            "say how to reach the daemon: --config FILE, or --control URL and --token-file FILE"
        )
    return ControlClient.from_token_file(control_url, token_file)


def _read_message(path: str) -> bytes:
    try:
        with click.open_file(path, "rb") as source:
            content: bytes = source.read()
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise CommandFailed(f"{path}: empty; there is nothing to send")
    return content


async def send_and_watch(
    client: ControlClient,
    message: bytes,
    *,
    to: EntityId | None,
    compression: str,
    console: Console,
) -> dict[str, Any]:
    """Send a message and show its states as they come; returns the final status."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("fragments"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
    )
    async with client:
        status = first = await client.send(message, to=to, compression=compression)
        with bar:
            task = bar.add_task("queued", total=None)
            async for status in client.statuses(first["ref"]):
                done = status["fragments_delivered" if to else "fragments_accepted"]
                bar.update(
                    task,
                    description=STATE_WORDS[status["state"]].partition(":")[0],
                    total=status["fragments_total"] or None,
                    completed=done,
                )
    return status


def _report(status: dict[str, Any], console: Console, as_json: bool) -> int:
    if as_json:
        click.echo(json.dumps(status))
    else:
        words = STATE_WORDS[status["state"]]
        reason = f": {status['reason']}" if status.get("reason") else ""
        style = "red" if status["state"] == "FAILED" else "green"
        console.print(
            f"[{style}]{words}[/]{reason} ({status['message_octets']} octets in "
            f"{status['fragments_total']} fragments, ref {status['ref']})",
            highlight=False,
        )
    return EXIT_NO if status["state"] == "FAILED" else 0


_compression_option = click.option(
    "--compression",
    type=click.Choice(["auto", "zlib", "none"]),
    default="auto",
    show_default=True,
    help="How the message is made small.",
)
_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


@dsrsp.command("send")
@_with_control
@click.option("--to", required=True, help="EUI-64 of the CEM, such as 00-DB-12-34-56-78-90-A0.")
@_compression_option
@_json_option
@click.argument("file")
def dsrsp_send(
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    to: str,
    compression: str,
    as_json: bool,
    file: str,
) -> int:
    """Send FILE ('-' for standard input) to a CEM and wait until it is there.

    Exit code 0: the CEM has the whole message. 1: it failed, and the reason is told.
    """
    client = _client(DsrspFile, config_path, control_url, token_file)
    return _send(client, file, EntityId.parse(to), compression, as_json)


@cem.command("send")
@_with_control
@_compression_option
@_json_option
@click.argument("file")
def cem_send(
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    compression: str,
    as_json: bool,
    file: str,
) -> int:
    """Send FILE ('-' for standard input) to the DSRSP.

    Exit code 0: all its alerts were handed to the communications hub; nothing confirms an alert.
    1: it failed, and the reason is told.
    """
    client = _client(CemFile, config_path, control_url, token_file)
    return _send(client, file, None, compression, as_json)


def _send(
    client: ControlClient, file: str, to: EntityId | None, compression: str, as_json: bool
) -> int:
    message = _read_message(file)
    console = Console(stderr=as_json)
    status = run_checked(
        send_and_watch(client, message, to=to, compression=compression, console=console)
    )
    return _report(status, console, as_json)


async def _receive(
    client: ControlClient, folder: Path | None, count: int, wait_s: float, as_json: bool
) -> int:
    left = count
    async with client:
        while left > 0:
            messages = (await client.received(wait_s=wait_s))[:left]
            if not messages:
                click.echo(f"no message within {wait_s:g} s", err=True)
                return EXIT_NO
            for received in messages:
                facts = {
                    "ref": received.ref,
                    "peer": str(received.peer),
                    "octets": len(received.message),
                }
                if folder is not None:
                    folder.mkdir(parents=True, exist_ok=True)
                    path = folder / f"{received.ref}.xml"
                    path.write_bytes(received.message)
                    facts["file"] = str(path)
                    click.echo(json.dumps(facts) if as_json else f"{path}  from {received.peer}")
                elif as_json:
                    text = received.message.decode("utf-8", "backslashreplace")
                    click.echo(json.dumps(facts | {"message": text}))
                else:
                    sys.stdout.buffer.write(received.message)
                    sys.stdout.buffer.flush()
                # Only now is it ours: written down, or out of the door.
                await client.ack(received.ref)
            left -= len(messages)
    return 0


def _receive_command(
    name: str, group: click.Group, file_type: type[DsrspFile] | type[CemFile]
) -> None:
    @group.command("receive")
    @_with_control
    @click.option("--count", default=1, show_default=True, type=click.IntRange(min=1))
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
    @_json_option
    def receive(
        config_path: Path | None,
        control_url: str | None,
        token_file: Path | None,
        count: int,
        wait_s: float,
        folder: Path | None,
        as_json: bool,
    ) -> int:
        """Take messages that arrived, and acknowledge them: each is given out once."""
        client = _client(file_type, config_path, control_url, token_file)
        result: int = run_checked(_receive(client, folder, count, wait_s, as_json))
        return result

    receive.short_help = f"Take messages that arrived at the {name}."


_receive_command("DSRSP", dsrsp, DsrspFile)
_receive_command("CEM", cem, CemFile)
