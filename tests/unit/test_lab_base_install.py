"""The base install has the standard library alone: what needs more says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]


def _without_packages(code: str) -> subprocess.CompletedProcess[str]:
    # -S: without site-packages, so none of the extras is there.
    code = f"import sys; sys.path.insert(0, {str(_ROOT)!r}); {code}"
    command = [sys.executable, "-I", "-S", "-c", code]
    return subprocess.run(command, check=False, capture_output=True, text=True)


@pytest.mark.parametrize("package", ["cem", "dsrsp", "dcc_sim", "gbcs", "openadr_xml"])
def test_package_names_the_extra_that_is_missing(package: str) -> None:
    run = _without_packages(f"import {package}")

    last_line = run.stderr.splitlines()[-1]
    assert run.returncode == 1
    assert last_line.startswith(f"ModuleNotFoundError: {package} needs the package '")
    assert "install the extra 'gateway' (pip install 'smtunnel[gateway]')" in last_line


def test_command_line_names_the_extra_that_is_missing() -> None:
    run = _without_packages("from lab.cli import main; main()")

    assert run.returncode == 3
    assert run.stderr.startswith("smtunnel: the command line needs the package 'click'")
    assert len(run.stderr.splitlines()) == 1


def test_library_needs_the_standard_library_only() -> None:
    run = _without_packages("import smtunnel")

    assert (run.returncode, run.stderr) == (0, "")
