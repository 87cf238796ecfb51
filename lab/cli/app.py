"""The root of the command line: finds subcommands, turns errors into messages and exit codes.

Exit codes: 0 done; 1 the answer is no (a check failed, a message was not delivered);
2 wrong usage; 3 bad input, configuration or environment; 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import click

from gbcs.errors import GbcsError
from lab.errors import LabError
from smtunnel.errors import TunnelError

EXIT_NO = 1
EXIT_BAD_INPUT = 3
EXIT_INTERRUPTED = 130

# Loaded when first used, so that `smtunnel encode` and the list of commands load no aiohttp.
_SUBCOMMANDS = {
    "demo": ("lab.cli.demo:demo", "Watch an event reach a charger, by three ways."),
    "encode": ("lab.cli.tunnel:encode", "Cut a message into fragments."),
    "decode": ("lab.cli.tunnel:decode", "Put a message together from its fragments."),
    "inspect": ("lab.cli.tunnel:inspect", "Explain one fragment, bit by bit."),
    "cost": ("lab.cli.tunnel:cost", "What a message costs on its way, down and up."),
    "explain": ("lab.cli.explain:explain", "The whole journey of one message, from the journals."),
    "stream-1": ("lab.cli.stream_1:stream_1", "Without a tunnel: HTTPS with mutual TLS."),
    "virtual": ("lab.cli.virtual:virtual", "Hours of the whole chain in seconds, with faults."),
    "study": ("lab.cli.study:study", "The latency study: run it, read it, measure a deployment."),
    "conformance": (
        "lab.cli.conformance:conformance",
        "Test any implementation of the tunnel protocol, in any language.",
    ),
    "conformance-target": (
        "lab.cli.conformance:conformance_target",
        "Be tested: this project's own library.",
    ),
    "gbcs": ("lab.cli.gbcs:gbcs", "Take GBCS messages apart, check signatures and MACs."),
    "pki": ("lab.cli.pki:pki", "Make a test PKI, look at certificates."),
    "dcc-sim": ("lab.cli.daemons:dcc_sim", "Run the DCC simulator."),
    "dsrsp": ("lab.cli.daemons:dsrsp", "Run the DSRSP's gateway; send, receive, ask."),
    "signing-service": (
        "lab.cli.signing:signing_service",
        "Keep the supplier's key apart from the gateway.",
    ),
    "cem": ("lab.cli.daemons:cem", "Run the CEM's gateway; send, receive, ask."),
}

_EXTRAS = {"study": "study"}


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
        if cmd_name not in _SUBCOMMANDS:
            return None
        target, _ = _SUBCOMMANDS[cmd_name]
        module_name, _, attribute = target.partition(":")
        try:
            command = getattr(importlib.import_module(module_name), attribute)
        except ModuleNotFoundError as missing:
            raise CommandFailed(
                f"`smtunnel {cmd_name}` needs the package {missing.name!r}: install the extras "
                f"that it needs: pip install 'smtunnel[{_EXTRAS.get(cmd_name, 'gateway,openadr')}]'"
            ) from None
        if not isinstance(command, click.Command):
            raise TypeError(f"{target} is not a click command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, words) for name, (_, words) in _SUBCOMMANDS.items()])


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="smtunnel")
def cli() -> None:
    """Carry OpenADR through Great Britain's smart metering system.

    \b
    Start here:   smtunnel demo
    The protocol: smtunnel encode | decode | inspect | cost | conformance
    The formats:  smtunnel gbcs inspect, smtunnel pki init | add-device | show
    The journey:  smtunnel explain
    The study:    smtunnel study run quick --out DIR
    Simulation:   smtunnel virtual run
    The parts:    smtunnel dcc-sim | dsrsp | cem   (each with --help)

    \b
    Exit codes: 0 done, 1 the answer is no, 2 wrong usage,
    3 bad input or configuration, 130 interrupted.
    """


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; known errors become one line for a person."""
    if sys.stdin is None:  # closed by whoever started us: there is nothing to read
        sys.stdin = Path(os.devnull).open(encoding="utf-8")  # noqa: SIM115 (while it lives)
    if sys.stdout is None:
        CommandFailed("standard output is closed: redirect it to a file or /dev/null").show()
        return EXIT_BAD_INPUT
    try:
        result = cli.main(args=arguments, prog_name="smtunnel", standalone_mode=False)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    except (LabError, GbcsError, TunnelError) as error:
        CommandFailed(str(error)).show()
        return EXIT_BAD_INPUT
    except SystemExit:
        # So click and rich end when the reader went away (`| head`): no error of ours, but what
        # was to be said was not heard, and a message not taken.
        return EXIT_NO
    except OSError as error:
        _drop_output()
        CommandFailed(f"the operating system refused: {error}").show()
        return EXIT_BAD_INPUT
    return result if isinstance(result, int) else 0


def _drop_output() -> None:
    """Keep the interpreter from complaining at its end about what it could not write."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
