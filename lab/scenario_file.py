"""Reads scenario files: what is to go wrong in the DCC simulator, and when."""

from __future__ import annotations

from pathlib import Path

from dcc_sim import Fault
from dcc_sim.core.faults import parse_scenario
from lab.errors import ConfigError


def read_scenario(path: Path) -> tuple[Fault, ...]:
    """Read a scenario of the DCC simulator.

    Raises:
        ConfigError: the file cannot be read.
        dcc_sim.ConfigError: it is no scenario.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the scenario: {error}") from None
    return parse_scenario(text, where=str(path))
