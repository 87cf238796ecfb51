"""``smtunnel dcc-sim profiles``: the network profiles, and what each parameter stands on."""

from __future__ import annotations

import inspect
import json
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dcc_sim import DccSimError
from dcc_sim.core.network.distributions import Distribution, describe
from dcc_sim.core.network.profile import AlertStorm, DccTimes, NetworkProfile, Region, Retries
from dcc_sim.profile_files import load_profile, profile_names
from lab.cli.app import CommandFailed

_TABLES: dict[str, type[msgspec.Struct]] = {
    "regions": Region,
    "dcc": DccTimes,
    "retries": Retries,
    "alert_storm": AlertStorm,
}
_STYLES = {"published": "green", "derived": "cyan", "assumed": "yellow"}


@click.command("profiles", short_help="The network profiles, parameter by parameter.")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")
def profiles(name: str | None, as_json: bool) -> None:
    """List the network profiles, or explain NAME, which may also be a profile's .toml file.

    Each parameter is published (somebody official says it), derived (follows from what is
    published) or assumed (a guess, to be replaced when it is known). To use a profile, write
    into dcc-sim.toml:  network = "gb-assumed"
    """
    try:
        if name is None:
            _list(as_json)
        else:
            _explain(name, load_profile(name), as_json)
    except DccSimError as error:
        raise CommandFailed(str(error)) from None


def _list(as_json: bool) -> None:
    loaded = {name: load_profile(name) for name in profile_names()}
    if as_json:
        facts = [
            {"name": name, "summary": profile.summary, "regions": list(profile.regions)}
            for name, profile in loaded.items()
        ]
        click.echo(json.dumps(facts))
        return
    table = Table("profile", "regions", "what it is")
    for name, profile in loaded.items():
        table.add_row(name, ", ".join(profile.regions) or "-", profile.summary)
    Console().print(table)


def _explain(name: str, profile: NetworkProfile, as_json: bool) -> None:
    rows = [
        {
            "parameter": parameter_name,
            "meaning": _meaning(parameter_name),
            "value": msgspec.to_builtins(parameter.value),
            "standing": parameter.standing.value,
            "source": parameter.source,
            "text": value_text(parameter.value),
        }
        for parameter_name, parameter in profile.parameters()
    ]
    if as_json:
        for row in rows:
            del row["text"]
        facts = {"name": name, "summary": profile.summary, "parameters": rows}
        click.echo(json.dumps(facts))
        return
    console = Console()
    console.print(f"[bold]{name}[/]: {profile.summary}", highlight=False)
    if not rows:
        console.print("It has no parameters.")
        return
    table = Table("parameter", "value", "standing", "source", show_lines=True)
    for row in rows:
        style = _STYLES[row["standing"]]
        table.add_row(
            f"[bold]{row['parameter']}[/]\n{row['meaning']}",
            escape(row["text"]),
            f"[{style}]{row['standing']}[/]",
            escape(row["source"]),
        )
    console.print(table)


def value_text(value: Any) -> str:
    """Return a parameter's value in a few words."""
    if isinstance(value, Distribution):
        return describe(value)
    if isinstance(value, msgspec.Struct):
        parts = [(field, getattr(value, field)) for field in value.__struct_fields__]
        return "; ".join(f"{field} {value_text(part)}" for field, part in parts if part)
    if isinstance(value, tuple):
        return ", ".join(map(value_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _meaning(parameter_name: str) -> str:
    """Return what a parameter means, from the documentation of its table."""
    table, _, rest = parameter_name.partition(".")
    field = rest.rpartition(".")[2] or rest
    lines = inspect.cleandoc(_TABLES[table].__doc__ or "").splitlines()
    words: list[str] = []
    for line in lines:
        stripped = line.strip()
        if stripped.startswith(f"{field}: "):
            words = [stripped.partition(": ")[2]]
        elif words and line.startswith(" " * 8):
            words.append(stripped)
        elif words:
            break
    return " ".join(words)
