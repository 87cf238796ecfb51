"""``smtunnel dsrsp route`` and ``smtunnel cem route``: route 2b of a gateway that runs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from gbcs import EntityId
from lab.cli.control_options import client_of, json_option, run_checked, with_control
from lab.config import CemFile, DsrspFile

_to_option = click.option(
    "--to", required=True, help="EUI-64 of the CEM, such as 02-53-4D-54-00-00-00-01."
)


@click.group("route", short_help="Route 2b: how it stands, and offers of it.")
def dsrsp_route() -> None:
    """Route 2b, over the internet: offers to CEMs, and who is connected.

    Offers go to each CEM by themselves, and are renewed, while [gateway.route_2b] is set and
    offer_route_2b is not false.
    """


@click.group("route", short_help="Route 2b: how it stands.")
def cem_route() -> None:
    """Route 2b, over the internet: the DSRSP's offer, and the connection."""


def _status_command(
    file_type: type[DsrspFile] | type[CemFile], lines: Callable[[dict[str, Any]], Iterator[str]]
) -> click.Command:
    @click.command("status", short_help="Tell how route 2b stands.")
    @with_control
    @json_option
    def status(
        config_path: Path | None, control_url: str | None, token_file: Path | None, as_json: bool
    ) -> int:
        """Tell how route 2b stands: what was offered and answered, and whether it is connected."""
        client = client_of(file_type, config_path, control_url, token_file)

        async def ask() -> dict[str, Any]:
            async with client:
                return await client.route()

        told = run_checked(ask())
        for line in [json.dumps(told)] if as_json else lines(told):
            click.echo(line)
        return 0

    return status


def _change_command(deed: str, short_help: str, long_help: str) -> click.Command:
    @click.command(deed, short_help=short_help, help=long_help)
    @with_control
    @_to_option
    @json_option
    def change(
        config_path: Path | None,
        control_url: str | None,
        token_file: Path | None,
        to: str,
        as_json: bool,
    ) -> int:
        client = client_of(DsrspFile, config_path, control_url, token_file)
        device = EntityId.parse(to)

        async def order() -> dict[str, Any]:
            async with client:
                return await client.change_route(deed, device)

        told = run_checked(order())
        click.echo(json.dumps(told) if as_json else _offer_line(told))
        return 0

    return change


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _offer_line(told: dict[str, Any]) -> str:
    if told["state"] is None:
        return f"{told['device']}  never offered"
    answer = f" ({told['answer'].replace('_', ' ')})" if told["state"] == "refused" else ""
    return (
        f"{told['device']}  offer {told['number']} {told['state']}{answer}, "
        f"until {_when(told['not_after'])}"
    )


def _dsrsp_lines(told: dict[str, Any]) -> Iterator[str]:
    port = told["port"]
    yield "no server: [gateway.route_2b] is not set" if port is None else f"listening on {port}"
    connected = sum(one["connected"] for one in told["cems"])
    yield f"{connected} of {len(told['cems'])} CEMs connected"
    for one in told["cems"]:
        yield f"{_offer_line(one)}, {'connected' if one['connected'] else 'not connected'}"


def _cem_lines(told: dict[str, Any]) -> Iterator[str]:
    reason = f": {told['reason']}" if told["reason"] else ""
    retry_in_s = told["retry_in_s"]
    again = "" if retry_in_s is None else f"; next try within {retry_in_s:.0f} s"
    yield f"route 2b {told['state']}{reason}{again}"
    offer = told.get("offer")
    if offer is None:
        return
    answer = "withdrawn" if offer["withdrawn"] else offer["answer"].replace("_", " ")
    yield f"offer {offer['number']}: {answer}"
    yield f"    addresses: {', '.join(offer['addresses'])}"
    yield f"    certificates (SHA-256): {', '.join(offer['pins'])}"
    yield f"    from {_when(offer['not_before'])} to {_when(offer['not_after'])}"
    yield f"    messages up to {offer['message_octets']} octets"


def add_route_commands(dsrsp: click.Group, cem: click.Group) -> None:
    """Add ``route`` to both groups."""
    dsrsp.add_command(dsrsp_route)
    cem.add_command(cem_route)


cem_route.add_command(_status_command(CemFile, _cem_lines))
dsrsp_route.add_command(_status_command(DsrspFile, _dsrsp_lines))
dsrsp_route.add_command(
    _change_command(
        "offer",
        "Offer route 2b to a CEM.",
        "Offer route 2b to a CEM now, also to one from which it was withdrawn.",
    )
)
dsrsp_route.add_command(
    _change_command(
        "withdraw",
        "Take the offer to a CEM back.",
        "Take the offer to a CEM back and end its connection. It gets no other by itself: only by "
        "`smtunnel dsrsp route offer`.",
    )
)
