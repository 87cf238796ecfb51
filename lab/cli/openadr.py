"""``smtunnel cem openadr`` and ``smtunnel dsrsp openadr``: what stands at an OpenADR face."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from lab.cli.control_options import client_of, json_option, run_checked, with_control
from lab.config import CemFile, DsrspFile


def _show(
    file_type: type[DsrspFile] | type[CemFile],
    config_path: Path | None,
    control_url: str | None,
    token_file: Path | None,
    as_json: bool,
) -> int:
    client = client_of(file_type, config_path, control_url, token_file)

    async def ask() -> dict[str, Any]:
        async with client:
            return await client.openadr()

    told = run_checked(ask())
    if as_json:
        click.echo(json.dumps(told))
    else:
        for line in _lines(told):
            click.echo(line)
    return 0


def _lines(told: dict[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in told.items():
        label = f"{indent}{name.replace('_', ' ')}:"
        if isinstance(value, dict):
            yield label
            yield from _lines(value, indent + "    ")
        elif isinstance(value, list):
            yield f"{label} {', '.join(value) or 'none'}"
        else:
            yield f"{label} {'-' if value == '' else value}"


@click.command(short_help="Tell what stands at the OpenADR face.")
@with_control
@json_option
def cem_openadr(
    config_path: Path | None, control_url: str | None, token_file: Path | None, as_json: bool
) -> int:
    """Tell where the VEN finds its VTN, whether it is registered, what waits, what was counted."""
    return _show(CemFile, config_path, control_url, token_file, as_json)


@click.command(short_help="Tell what stands at the OpenADR face.")
@with_control
@json_option
def dsrsp_openadr(
    config_path: Path | None, control_url: str | None, token_file: Path | None, as_json: bool
) -> int:
    """Tell for each CEM which VEN it is at the VTN, how often it is polled, what was counted."""
    return _show(DsrspFile, config_path, control_url, token_file, as_json)


def add_openadr_commands(dsrsp: click.Group, cem: click.Group) -> None:
    """Add ``openadr`` to both groups."""
    dsrsp.add_command(dsrsp_openadr, "openadr")
    cem.add_command(cem_openadr, "openadr")
