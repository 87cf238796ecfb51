"""What fuzzing found: each ends in a documented error now."""

from __future__ import annotations

import pytest

from dcc_sim.core.faults import parse_scenario, parse_untrusted_fault
from dcc_sim.core.network import parse_profile
from dcc_sim.errors import ConfigError as DccSimConfigError
from lab.config import CemFile, parse_config
from lab.errors import ConfigError

HOSTILE_TOML = ["a = " + "9" * 5000, "a = " + "[" * 5000]


@pytest.mark.parametrize("text", HOSTILE_TOML)
def test_toml_that_the_library_stumbles_over(text: str) -> None:
    with pytest.raises(ConfigError, match="not valid TOML"):
        parse_config(text, CemFile, where="file")
    with pytest.raises(DccSimConfigError, match="not valid TOML"):
        parse_scenario(text, where="file")
    with pytest.raises(DccSimConfigError, match="not valid TOML"):
        parse_profile(text, where="file")


def test_a_fault_that_is_not_utf_8() -> None:
    with pytest.raises(DccSimConfigError, match="not a fault"):
        parse_untrusted_fault(b'{"kind": "\xff"}')
