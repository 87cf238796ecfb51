"""Write the table of checks in specs/dcc-sim-checks.md anew from the code."""

from __future__ import annotations

import re
from pathlib import Path

from dcc_sim.core.checks import describe_checks

DOCUMENT = Path(__file__).resolve().parent.parent / "specs" / "dcc-sim-checks.md"


def main() -> None:
    """Replace the table that begins with the column "#"."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = describe_checks()
    changed = re.sub(r"^\| # \|(?:.*\n)(?:\|.*\n)*", lambda _: table, text, flags=re.MULTILINE)
    DOCUMENT.write_text(changed, encoding="utf-8")


if __name__ == "__main__":
    main()
