"""Makes specs/vectors/tunnel-*.json: vectors of the tunnel protocol for any language.

``python scripts/make_tunnel_vectors.py`` writes the files, with ``--check`` it only compares and
exits with 1 when one differs. It always writes the same octets, with every zlib: compressed
streams are made by scripts/tunnel_vectors/deflate.py. specs/vectors/README.md tells the format.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tunnel_vectors import control, hostile, receiving, sending, sessions, simple
from tunnel_vectors.common import Vector

FORMAT = 1
SPECS = Path(__file__).resolve().parent.parent / "specs"
FOLDER = SPECS / "vectors"
DICTIONARY = SPECS / "dictionary-1.bin"
ABOUT = {
    "header": "Headers: three octets, four characters, fields.",
    "payload": "One payload alone: its header's fields and body, or why it is not a fragment.",
    "labels": "Labels of an ECS46a and the payload they carry together.",
    "cut": "A stream, compressed already, to payloads with full bodies.",
    "encode": "A message to payloads that decode to it.",
    "decode": "Payloads, in the order given, to one message.",
    "hostile": "Payloads that must not become a message, and the error.",
    "dictionary": "The same with preset dictionary 1, specs/dictionary-1.bin.",
    "control": "Control messages: their octets and their records.",
    "session": "A receiver over time: counters, peers, repetitions, restarts, and what it tells.",
}


def files() -> dict[str, list[Vector]]:
    """Make the vectors of every file, by the file's kind."""
    return {
        "header": simple.headers(),
        "payload": simple.payloads(),
        "labels": simple.labels(),
        "cut": sending.cuts(),
        "encode": sending.encodings(),
        "decode": receiving.decodings(),
        "hostile": hostile.hostiles(),
        "dictionary": receiving.dictionaries(DICTIONARY.read_bytes()),
        "control": control.controls(),
        "session": sessions.sessions(),
    }


def render(kind: str, vectors: list[Vector]) -> str:
    """Write one file's text: one vector a line."""
    lines = ",\n".join(json.dumps(vector, ensure_ascii=True) for vector in vectors)
    start = json.dumps({"format": FORMAT, "kind": kind, "about": ABOUT[kind]}, indent=1)
    return f'{start[:-2]},\n "vectors": [\n{lines}\n]}}\n'


def main() -> int:
    """Write or compare all files."""
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        print(__doc__, file=sys.stderr)
        return 2
    differing = []
    names: set[str] = set()
    for kind, vectors in files().items():
        for vector in vectors:
            if vector["name"] in names:
                raise ValueError(f"two vectors are named {vector['name']}")
            names.add(vector["name"])
        path = FOLDER / f"tunnel-{kind}.json"
        text = render(kind, vectors)
        if not check:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            differing.append(path.name)
    for name in differing:
        print(f"{name} is not what the script makes: run it without --check", file=sys.stderr)
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
