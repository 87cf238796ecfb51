"""The root of the command line: finds subcommands, turns errors into messages and exit codes.

Exit codes: 0 done; 1 the answer is no (a check failed, a message was not delivered);
2 wrong usage; 3 bad input, configuration or environment; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys

import click

from gbcs.errors import GbcsError
from lab.errors import LabError
from smtunnel.errors import TunnelError

EXIT_NO = 1
EXIT_BAD_INPUT = 3

# Loaded when first used, so that `smtunnel encode` does not load aiohttp.
_SUBCOMMANDS = {
    "encode": "lab.cli.tunnel:encode",
    "decode": "lab.cli.tunnel:decode",
    "inspect": "lab.cli.tunnel:inspect",
    "cost": "lab.cli.tunnel:cost",
    "gbcs": "lab.cli.gbcs:gbcs",
    "pki": "lab.cli.pki:pki",
    "dcc-sim": "lab.cli.daemons:dcc_sim",
    "dsrsp": "lab.cli.daemons:dsrsp",
    "cem": "lab.cli.daemons:cem",
    "demo": "lab.cli.demo:demo",
}


class CommandFailed(click.ClickException):
    """Bad input, configuration or environment: a message for a person, exit code 3."""

    exit_code = EXIT_BAD_INPUT

    def show(self, file: object = None) -> None:
        """Print the message to standard error."""
        click.secho(f"smtunnel: {self.format_message()}", fg="red", err=True)


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_SUBCOMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = _SUBCOMMANDS.get(cmd_name)
        if target is None:
            return None
        module_name, _, attribute = target.partition(":")
        command = getattr(importlib.import_module(module_name), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a click command")
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="smtunnel")
def cli() -> None:
    """Carry OpenADR through Great Britain's smart metering system.

    \b
    Start here:   smtunnel demo
    The protocol: smtunnel encode | decode | inspect | cost
    The formats:  smtunnel gbcs inspect, smtunnel pki init | show
    The parts:    smtunnel dcc-sim | dsrsp | cem   (each with --help)

    \b
    Exit codes: 0 done, 1 the answer is no, 2 wrong usage,
    3 bad input or configuration, 130 interrupted.
    """


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; known errors become one line for a person."""
    try:
        result = cli.main(args=arguments, prog_name="smtunnel", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return 130
    except (LabError, GbcsError, TunnelError) as error:
        CommandFailed(str(error)).show()
        return EXIT_BAD_INPUT
    except BrokenPipeError:
        # The reader went away (`| head`): not our error; keep the interpreter from complaining.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return result if isinstance(result, int) else 0
