"""Make the tunnel's preset dictionary 1, or check that it is what this script makes.

Usage: .venv/bin/python scripts/build_dictionary.py [--check]

Writes smtunnel/dictionary_1.py and specs/dictionary-1.bin, which hold the same octets. A published
dictionary never changes: its DICTID is its Adler-32, and both ends must have the very same octets.
Whatever would improve it makes dictionary 2.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dictionary_maker.corpus import make_corpus  # noqa: E402
from dictionary_maker.selection import Selection  # noqa: E402

OCTETS: Final = 8192

# These three were chosen by the fragments that a corpus of another seed needs.
SEED: Final = "d"
VARIATIONS: Final = 5
PRICE: Final = 125.0

MODULE: Final = ROOT / "smtunnel" / "dictionary_1.py"
BINARY: Final = ROOT / "specs" / "dictionary-1.bin"

_LINE_CHARS: Final = 80


def build_dictionary() -> bytes:
    """Choose the dictionary from the corpus; the most valuable last, where distances are short."""
    runs = Selection(make_corpus(SEED, VARIATIONS)).choose(OCTETS, PRICE)
    return "".join(reversed(runs)).encode("ascii")


def build_module(dictionary: bytes) -> str:
    """Write the dictionary as a module of Python."""
    lines = [
        '"""Preset dictionary 1: written by scripts/build_dictionary.py, never by hand."""',
        "",
        "from __future__ import annotations",
        "",
        "from typing import Final",
        "",
        "# fmt: off",
        f"DICTIONARY_1_ID: Final = 0x{zlib.adler32(dictionary):08X}",
        "DICTIONARY_1: Final = (",
    ]
    start = 0
    while start < len(dictionary):
        size = _LINE_CHARS
        while len(repr(dictionary[start : start + size])) > _LINE_CHARS:
            size -= 1
        lines.append(f"    {dictionary[start : start + size]!r}")
        start += size
    return "\n".join([*lines, ")", "# fmt: on", ""])


def main() -> int:
    """Write the files, or compare them; the exit code is 1 when they differ."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    arguments = parser.parse_args()
    dictionary = build_dictionary()
    wanted = {MODULE: build_module(dictionary).encode(), BINARY: dictionary}
    if not arguments.check:
        for path, octets in wanted.items():
            path.write_bytes(octets)
    differing = [p for p, octets in wanted.items() if not p.exists() or p.read_bytes() != octets]
    for path in differing:
        sys.stderr.write(
            f"{path.relative_to(ROOT)} is not what scripts/build_dictionary.py makes\n"
        )
    name = f"dictionary 1, DICTID {zlib.adler32(dictionary):08X}, {len(dictionary)} octets"
    sys.stdout.write(f"{name}: {'differs' if differing else 'as built'}\n")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
