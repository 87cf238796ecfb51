"""What all tests share: hypothesis profiles and the place of the reference vectors."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

IN_CI = os.environ.get("CI") == "true"

settings.register_profile(
    "dev", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "ci",
    max_examples=200,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if IN_CI else "dev")

# A shell that puts a job into the background from a script lets it ignore Ctrl-C, and all that the
# job starts inherits that: tests that interrupt a command would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def reference_vectors() -> Path:
    """The folder of the reference vectors, which are not part of this project."""
    place = Path(os.environ.get("SMTUNNEL_VECTORS", ROOT / ".." / "shared" / "vectors")).resolve()
    if not place.is_dir():
        reason = f"no reference vectors at {place}: set SMTUNNEL_VECTORS to their folder"
        if IN_CI:
            pytest.fail(reason)
        pytest.skip(reason)
    return place
