"""The console command ``smtunnel``. Each subcommand lives in a module of its own."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; leaves the process with one of the documented exit codes."""
    try:
        from lab.cli.app import run
    except ModuleNotFoundError as missing:
        # The base install carries the embeddable library alone.
        print(
            f"smtunnel: the command line needs the package {missing.name!r}: "
            "install the extra 'gateway' (pip install 'smtunnel[gateway]')",
            file=sys.stderr,
        )
        raise SystemExit(3) from None
    raise SystemExit(run())
