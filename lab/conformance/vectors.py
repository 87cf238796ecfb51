"""The vector files: read, and split into the cases that a program is asked."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lab.errors import VectorError

FORMAT: Final = 1

# What of a vector decides which directions it tests, and the kind of case for each.
_KINDS_OF_FILE: Final = {
    "header": (("text", "header-unpack"), ("fields", "header-pack")),
    "payload": (("carrier", "payload-parse"),),
    "labels": (("labels", "labels-join"), ("payload", "labels-split")),
    "cut": (("stream", "cut"),),
    "encode": (("message", "encode"),),
    "decode": (("carrier", "decode"),),
    "hostile": (("carrier", "decode"),),
    "dictionary": (("carrier", "decode"),),
    "control": (("octets", "control-parse"), ("built", "control-build")),
    "session": (("steps", "session"),),
}
_RESTART_KIND: Final = "session-restart"
KINDS: Final = (
    *dict.fromkeys(kind for rows in _KINDS_OF_FILE.values() for _, kind in rows),
    _RESTART_KIND,
)
"""Every kind of case, in the order in which they are asked."""


@dataclass(frozen=True, slots=True)
class Case:
    """One thing to ask a program.

    Attributes:
        kind: what the program must be able to do, one of KINDS.
        name: the vector's name.
        vector: its other members, as the file has them.
    """

    kind: str
    name: str
    vector: dict[str, Any]


def default_folder() -> Path:
    """Return the folder of the project's own vectors."""
    return Path(__file__).resolve().parents[2] / "specs" / "vectors"


def read_cases(folder: Path) -> list[Case]:
    """Read every vector file of a folder.

    Raises:
        VectorError: there is none, or one is not of this format.
    """
    cases: list[Case] = []
    for kind in _KINDS_OF_FILE:
        path = folder / f"tunnel-{kind}.json"
        try:
            content = json.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise VectorError(
                f"cannot read {path}: {error}. Give --vectors the folder specs/vectors of the "
                "smtunnel project"
            ) from None
        if not isinstance(content, dict):
            content = {}
        if content.get("format") != FORMAT or content.get("kind") != kind:
            raise VectorError(
                f"{path} says format {content.get('format')}, kind {content.get('kind')!r}: "
                f"expected {FORMAT}, {kind!r}. Take vectors and program of one version"
            )
        for vector in content["vectors"]:
            cases += _cases_of(kind, vector)
    order = {kind: place for place, kind in enumerate(KINDS)}
    return sorted(cases, key=lambda case: order[case.kind])


def _cases_of(file_kind: str, vector: dict[str, Any]) -> list[Case]:
    if any(step["do"] == "restart" for step in vector.get("steps", ())):
        return [Case(_RESTART_KIND, vector["name"], vector)]
    # A null payload (labels that are somebody's own) has no way back.
    return [
        Case(kind, vector["name"], vector)
        for member, kind in _KINDS_OF_FILE[file_kind]
        if vector.get(member) is not None
    ]


def octets_of(value: str | dict[str, Any]) -> bytes:
    """Read octets as the files write them: hexadecimal, or a sequence and how often."""
    if isinstance(value, str):
        return bytes.fromhex(value)
    return bytes.fromhex(value["octets"]) * int(value["times"])


def chars_of(text: str) -> bytes:
    """Turn a text into octets: each character, U+0000 to U+00FF, is one."""
    return text.encode("latin-1")


def payloads_of(vector: dict[str, Any]) -> list[bytes]:
    """Return a vector's payloads as octets, whatever the carrier."""
    if "payloads" in vector:
        return [chars_of(payload) for payload in vector["payloads"]]
    return [bytes.fromhex(payload) for payload in vector["payloads_octets"]]
