"""Fuzz every decoder that takes octets from outside.

Usage: .venv/bin/python scripts/fuzz.py [--seconds 300] [--seed N] [--only NAME ...]
       .venv/bin/python scripts/fuzz.py --repeat build/fuzz/NAME-HASH.bin

Ends with 1 when an input ended in anything but a documented error, took more than a second or
very much memory; each such input is written to build/fuzz.
"""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import warnings
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from fuzzing.engine import Finding, try_input  # noqa: E402
from fuzzing.session import run_session  # noqa: E402
from fuzzing.table import all_decoders  # noqa: E402

FOLDER: Final = ROOT / "build" / "fuzz"


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=300.0, help="how long, in all")
    parser.add_argument("--seed", type=int, help="the same seed makes the same inputs")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these decoders alone")
    parser.add_argument("--repeat", type=Path, metavar="FILE", help="try one input again")
    given = parser.parse_args()
    if given.repeat is not None:
        return _repeat(given.repeat)
    warnings.simplefilter("error")  # as the tests do
    decoders = [d for d in all_decoders() if not given.only or d.name in given.only]
    if not decoders:
        known = ", ".join(decoder.name for decoder in all_decoders())
        print(f"no such decoder; there are {known}", file=sys.stderr)
        return 2
    seed = secrets.randbelow(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}, {len(decoders)} decoders, {given.seconds:g} s on {given.processes} cores")
    tally = run_session(
        decoders, seed=seed, seconds=given.seconds, processes=given.processes, folder=FOLDER
    )
    for decoder in decoders:
        print(f"{tally.inputs[decoder.name]:10,}  {decoder.name}")
    print(f"{tally.inputs.total():10,}  inputs in all, seed {seed}: {len(tally.findings)} findings")
    for finding in tally.findings.values():
        _report(finding)
    return 1 if tally.findings else 0


def _report(finding: Finding) -> None:
    path = FOLDER / finding.file_name
    path.write_bytes(finding.octets)
    print(f"\n{finding.decoder}: {finding.what}\n  at {finding.place}", file=sys.stderr)
    print(
        f"  {len(finding.octets)} octets in {path.relative_to(ROOT)}; once more:\n"
        f"  .venv/bin/python scripts/fuzz.py --repeat {path.relative_to(ROOT)}",
        file=sys.stderr,
    )


def _repeat(path: Path) -> int:
    name = path.name.rpartition("-")[0]
    decoder = next((one for one in all_decoders() if one.name == name), None)
    if decoder is None:
        print(f"{path}: the name does not begin with that of a decoder", file=sys.stderr)
        return 2
    finding = try_input(decoder, path.read_bytes())
    if finding is None:
        print(f"{name}: ends as it must")
        return 0
    print(f"{name}: {finding.what}\n{finding.detail}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
