"""Counts what crosses in a day of one CEM, against what plain HTTP exchanges.

An unmodified openleadr VEN and VTN talk through the real chain of processes. The VEN's application
makes it poll as often as it does in a day at the default of 10 seconds (8,640 times), without the
pauses; reports and events come after as many polls as they do in the day. Everything that the VEN
exchanges over HTTP is what plain HTTP would have carried; what crossed is in the gateways'
journals.

    .venv/bin/python scripts/measure_openadr_day.py              # a whole day, two minutes
    .venv/bin/python scripts/measure_openadr_day.py --polls 600 --route-2b
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import tempfile
from pathlib import Path

from lab.openadr_demo.day import DAY_POLLS, measure_day
from lab.pki_files import write_test_pki


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--polls", type=int, default=DAY_POLLS)
    parser.add_argument("--route-2b", action="store_true", help="offer the CEM route 2b")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pki = Path(folder) / "pki"
        write_test_pki(pki, now=None, random_octets=os.urandom)
        measuring = measure_day(
            Path(folder), pki, polls=arguments.polls, route_2b=arguments.route_2b
        )
        counts = asyncio.run(measuring)
    if arguments.json:
        print(json.dumps(counts.as_dict(), indent=2))
        return
    for name, value in counts.as_dict().items():
        print(f"{name.replace('_', ' '):45} {value}")


if __name__ == "__main__":
    main()
