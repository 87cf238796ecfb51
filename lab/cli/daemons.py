"""``smtunnel dcc-sim``, ``dsrsp`` and ``cem``: run a daemon, or talk to one that runs."""

from __future__ import annotations

import logging
import os
import signal
import threading
from pathlib import Path
from typing import Any

import click

from lab.cli.ask import add_ask_commands
from lab.cli.control_options import run_checked
from lab.cli.network_profiles import profiles
from lab.cli.openadr import add_openadr_commands
from lab.cli.route_2b import add_route_commands
from lab.cli.talk import add_talk_commands
from lab.daemon import run_cem, run_dcc_sim, run_dsrsp

_BLOCK_OCTETS = 65536
_EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

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
_input_option = click.option(
    "--until-input-ends",
    is_flag=True,
    help="Stop when standard input ends, too: for a program that starts this one and gives it a "
    "pipe, which ends with that program, however that ends.",
)


def _start_logging(level: str) -> None:
    logging.basicConfig(
        level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    # What no line shows need not be found out for each (see "Optimization" in Python's HOWTO).
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    # One line for each connection is noise beside our own, which say what and why.
    logging.getLogger("websockets").setLevel(logging.WARNING)
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)


def _stop_when_input_ends() -> None:
    """Let the end of standard input do what SIGTERM does."""

    def wait() -> None:
        while os.read(0, _BLOCK_OCTETS):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _daemon(
    ctx: click.Context,
    work: Any,
    config_path: Path | None,
    example: str,
    print_example: bool,
    until_input_ends: bool,
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
    if until_input_ends:
        _stop_when_input_ends()
    run_checked(work(config_path))


@click.group("dcc-sim", invoke_without_command=True, short_help="Run the DCC simulator.")
@_config_option
@_example_option
@click.option(
    "--duis-schema",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The official DUIS schema (duis54.xsd, with the files that it includes beside it): "
    "everything that comes and goes is validated against it.",
)
@click.option(
    "--scenario",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A TOML file with faults that come at their times (see dcc_sim/core/faults.py).",
)
@_log_option
@_input_option
@click.pass_context
def dcc_sim(
    ctx: click.Context,
    config_path: Path | None,
    example_config: bool,
    duis_schema: Path | None,
    scenario: Path | None,
    log_level: str,
    until_input_ends: bool,
) -> None:
    """Run the DCC simulator: services T, S and D, access control broker, devices.

    \b
    It answers at   http://HOST:8079/api/v1/serviceT | serviceS | serviceD
    Devices dial in at  ws://HOST:8090/device/EUI

    \b
    smtunnel pki init pki                       make test certificates and keys
    smtunnel dcc-sim --example-config > dcc-sim.toml
    smtunnel dcc-sim --config dcc-sim.toml
    smtunnel dcc-sim profiles                   the networks that it can be

    It prints one JSON line when it is ready and runs until SIGTERM or Ctrl-C.
    """
    _start_logging(log_level)

    async def work(path: Path) -> None:
        await run_dcc_sim(path, duis_schema=duis_schema, scenario=scenario)

    _daemon(ctx, work, config_path, "dcc-sim.toml", example_config, until_input_ends)


dcc_sim.add_command(profiles)


@click.group("dsrsp", invoke_without_command=True)
@_config_option
@_example_option
@_log_option
@_input_option
@click.pass_context
def dsrsp(
    ctx: click.Context,
    config_path: Path | None,
    example_config: bool,
    log_level: str,
    until_input_ends: bool,
) -> None:
    """Run the DSRSP's gateway (DCC adaptor and tunnel), or talk to one that runs.

    \b
    smtunnel dsrsp --example-config > dsrsp.toml
    smtunnel dsrsp --config dsrsp.toml
    smtunnel dsrsp send --config dsrsp.toml --to 02-53-4D-54-00-00-00-01 event.xml
    smtunnel dsrsp receive --config dsrsp.toml

    The daemon prints one JSON line when it is ready and runs until SIGTERM or Ctrl-C.
    """
    _start_logging(log_level if ctx.invoked_subcommand is None else "error")
    _daemon(ctx, run_dsrsp, config_path, "dsrsp.toml", example_config, until_input_ends)


@click.group("cem", invoke_without_command=True)
@_config_option
@_example_option
@_log_option
@_input_option
@click.pass_context
def cem(
    ctx: click.Context,
    config_path: Path | None,
    example_config: bool,
    log_level: str,
    until_input_ends: bool,
) -> None:
    """Run the CEM's gateway (device and tunnel end), or talk to one that runs.

    \b
    smtunnel cem --example-config > cem.toml
    smtunnel cem --config cem.toml
    smtunnel cem send --config cem.toml registration.xml
    smtunnel cem receive --config cem.toml

    The daemon prints one JSON line when it is ready and runs until SIGTERM or Ctrl-C.
    """
    _start_logging(log_level if ctx.invoked_subcommand is None else "error")
    _daemon(ctx, run_cem, config_path, "cem.toml", example_config, until_input_ends)


add_talk_commands(dsrsp, cem)
add_ask_commands(dsrsp)
add_openadr_commands(dsrsp, cem)
add_route_commands(dsrsp, cem)
