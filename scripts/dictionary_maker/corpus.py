"""The corpus that a dictionary is chosen from: every message in every style, weighted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dictionary_maker.messages import Message, make_messages
from dictionary_maker.picking import Picker
from dictionary_maker.selection import Document
from dictionary_maker.styles import restyle
from openadr_xml import compact

KIND_WEIGHTS: Final[Mapping[str, float]] = {
    "oadrDistributeEvent": 4.0,
    "oadrCreatedPartyRegistration": 2.0,
    "oadrRegisteredReport": 2.0,
    "oadrCreateReport": 2.0,
    "oadrResponse": 2.0,
}
"""Downlink: what is long or comes often; all other kinds count 1."""

UPLINK_WEIGHT: Final = 0.2
"""An uplink fragment carries ten times as much: most messages fit one without any dictionary."""

COMPACT_WEIGHT: Final = 4.5
"""The gateways' default, and the same for every stack."""

OPENLEADR_WEIGHT: Final = 1.5

STYLE_WEIGHTS: Final[Mapping[str, tuple[float, float]]] = {
    "schema tools": (1.5, 1.5),
    "nested": (0.3, 0.3),
    ".NET": (2.0, 2.0),
    "JAXB": (1.0, 1.0),
    "C++": (0.0, 2.0),
    "mixed": (0.5, 0.5),
}
"""Downlink and uplink. VTNs are written in .NET and Java, VENs in C++ too; tools and hand-written
templates are everywhere."""


def make_corpus(seed: str, variations: int) -> Iterator[Document]:
    """Make so many variations of every message, in each style and in the compact form."""
    for number, message in enumerate(make_messages(seed, variations)):
        for octets, weight in _forms(message, f"{seed}/{number}"):
            yield Document(octets.decode(), weight * _weight(message))


def _weight(message: Message) -> float:
    return KIND_WEIGHTS.get(message.kind, 1.0) if message.downlink else UPLINK_WEIGHT


def _forms(message: Message, seed: str) -> Iterator[tuple[bytes, float]]:
    if not message.elaborated:
        yield message.octets, OPENLEADR_WEIGHT
    for style, (downlink, uplink) in STYLE_WEIGHTS.items():
        weight = downlink if message.downlink else uplink
        if weight:
            yield restyle(message.octets, style, Picker(f"{seed}/{style}")), weight
    yield compact(message.octets), COMPACT_WEIGHT
