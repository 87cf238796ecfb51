"""What the commands that talk to a running gateway have in common: options, client, errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from cem import CemError
from dcc_sim import DccSimError
from dsrsp import DsrspError
from gbcs.errors import GbcsError
from lab.cli.app import CommandFailed
from lab.config import CemFile, DsrspFile, load_config
from lab.control_client import ControlClient
from lab.control_values import ROUTES
from lab.daemon import split_address
from lab.errors import LabError
from smtunnel.errors import TunnelError

_KNOWN_ERRORS = (LabError, GbcsError, TunnelError, DccSimError, DsrspError, CemError)


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
_send_options = [
    click.option(
        "--compression",
        type=click.Choice(["auto", "zlib", "dictionary", "none"]),
        default="auto",
        show_default=True,
        help="How the message is made small; auto: what is smallest and the far end understands.",
    ),
    click.option(
        "--compact/--no-compact",
        default=None,
        help="Whether OpenADR XML without a signature goes in its compact form, which is equal as "
        "canonical XML, or untouched.  [default: as the daemon is set]",
    ),
    click.option(
        "--deadline",
        callback=lambda _ctx, _param, text: None if text is None else _deadline(text),
        metavar="WHEN",
        help="When it is of no more use: 30s, 5m, 2h from now, or a time such as "
        "2027-01-15T17:30:00Z. What was not sent by then is not sent.",
    ),
    click.option(
        "--priority",
        type=click.IntRange(-(2**31), 2**31 - 1),
        default=0,
        show_default=True,
        help="Higher goes first.",
    ),
    click.option(
        "--route",
        type=click.Choice(list(ROUTES)),
        default="auto",
        show_default=True,
        callback=lambda _ctx, _param, name: ROUTES[name],
        help="2a: through the smart metering system; 2b: over the internet, waiting for the "
        "connection if need be; both: at once, and what comes second is dropped; auto: 2b while it "
        "stands, and 2a when it has been down for a while.",
    ),
    click.option(
        "--urgent",
        is_flag=True,
        help="Do not wait for route 2b where it is down: go by 2a at once.",
    ),
]
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")


def with_control(command: Any) -> Any:
    """Add the options that tell how to reach the daemon."""
    for option in reversed(_control_options):
        command = option(command)
    return command


def with_send_options(command: Any) -> Any:
    """Add the options of how a message goes."""
    for option in reversed(_send_options):
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
