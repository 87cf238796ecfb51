"""Tests of any implementation of the tunnel protocol, in any language, against the vectors.

The runner starts a program and talks with it over its standard input and output, one line each
way. specs/vectors/README.md specifies the vectors and the lines.
"""

from lab.conformance.process import Target, TargetFailed
from lab.conformance.runner import CaseResult, Outcome, Report, run_cases
from lab.conformance.vectors import Case, default_folder, read_cases

__all__ = [
    "Case",
    "CaseResult",
    "Outcome",
    "Report",
    "Target",
    "TargetFailed",
    "default_folder",
    "read_cases",
    "run_cases",
]
