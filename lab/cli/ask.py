"""Asking CEMs through a DSRSP's gateway that runs: ``echo`` and ``capabilities``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from gbcs import EntityId
from lab.cli.app import EXIT_NO
from lab.cli.control_options import client_of, json_option, run_checked, with_control
from lab.config import DsrspFile


@click.command(short_help="Measure the way to a CEM and back.")
@with_control
@click.option("--to", required=True, help="EUI-64 of the CEM, such as 02-53-4D-54-00-00-00-01.")
@click.option(
    "--wait",
    "wait_s",
    default=7200.0,
    show_default=True,
    type=click.FloatRange(min=0),
    help="Seconds to wait for the echo.",
)
@json_option
def dsrsp_echo(
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    to: str,
    wait_s: float,
    as_json: bool,
) -> int:
    """Send a CEM a small message that it sends back at once, and tell how long that took.

    By route 2b while that stands; else through DCC, SM WAN and device, as any message of route 2a.
    """
    client = client_of(DsrspFile, config_path, control_url, token_file)
    device = EntityId.parse(to)

    async def ask() -> float:
        async with client:
            if not as_json and sys.stderr.isatty():
                click.echo(f"waiting for the echo, {wait_s:g} s at most", err=True)
            return await client.echo(device, timeout_s=wait_s)

    seconds = run_checked(ask())
    if as_json:
        click.echo(json.dumps({"to": str(device), "seconds": seconds}))
    else:
        click.echo(f"there and back in {seconds:.3f} s")
    return 0


@click.command(short_help="Tell what a CEM is known to understand.")
@with_control
@click.option("--to", required=True, help="EUI-64 of the CEM, such as 02-53-4D-54-00-00-00-01.")
@json_option
def dsrsp_capabilities(
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    to: str,
    as_json: bool,
) -> int:
    """Tell what a CEM has said that it understands; the gateway sends accordingly.

    Exit code 0: it has said so. 1: not yet.
    """
    client = client_of(DsrspFile, config_path, control_url, token_file)
    device = EntityId.parse(to)

    async def ask() -> dict[str, Any] | None:
        async with client:
            return await client.capabilities(device)

    told = run_checked(ask())
    if as_json:
        click.echo(json.dumps({"to": str(device), "capabilities": told}))
    elif told is None:
        click.echo(f"{device} has not said yet what it understands", err=True)
    else:
        for name, value in told.items():
            shown = ", ".join(value) or "none" if isinstance(value, list) else value
            click.echo(f"{name.replace('_', ' ')}: {shown}")
    return EXIT_NO if told is None else 0


def add_ask_commands(dsrsp: click.Group) -> None:
    """Add ``echo`` and ``capabilities`` to the group."""
    dsrsp.add_command(dsrsp_echo, "echo")
    dsrsp.add_command(dsrsp_capabilities, "capabilities")
