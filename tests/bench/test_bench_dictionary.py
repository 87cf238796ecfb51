"""Fragments of downlink messages: plain zlib, with the preset dictionary, and compact as well."""

from __future__ import annotations

import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from openleadr.messaging import validate_xml_schema

from openadr_xml import canonical, compact
from smtunnel import DICTIONARIES, ECS46A, CompressionChoice, Originator, encode_message

pytestmark = pytest.mark.bench


class Counts(NamedTuple):
    """Fragments that one message, or several, need."""

    zlib: int
    dictionary: int
    both: int


def count(message: bytes) -> Counts:
    """Count what plain zlib, zlib with dictionaries, and that of the compact form need."""

    def fragments(octets: bytes, compression: CompressionChoice) -> int:
        return encode_message(
            octets,
            carrier=ECS46A,
            originator=Originator.DSRSP,
            tunnel_message_id=0,
            compression=compression,
            peer_dictionaries=DICTIONARIES,
        ).fragments

    return Counts(
        fragments(message, "zlib"),
        fragments(message, "dictionary"),
        fragments(compact(message), "auto"),
    )


def total(counts: Iterable[Counts]) -> Counts:
    counts = list(counts)
    return Counts(*(sum(one[column] for one in counts) for column in range(3)))


def tell(title: str, rows: Sequence[tuple[str, Counts]]) -> tuple[Counts, float]:
    """Print counts by kind; return the totals and the median with both."""
    print(f"\n{title:40} {'n':>3} {'zlib':>5} {'dict.':>5} {'both':>5}")
    for kind in sorted({kind for kind, _ in rows}):
        group = [counts for name, counts in rows if name == kind]
        print(f"{kind:40} {len(group):3} " + " ".join(f"{sum_:5}" for sum_ in total(group)))
    every = [counts for _, counts in rows]
    all_ = total(every)
    print(f"{'all':40} {len(every):3} " + " ".join(f"{sum_:5}" for sum_ in all_))
    medians = [statistics.median(one[column] for one in every) for column in range(3)]
    print(f"{'median':44} " + " ".join(f"{median:5}" for median in medians))
    ratios = (1.0, all_.dictionary / all_.zlib, all_.both / all_.zlib)
    print(f"{'ratio':44} " + " ".join(f"{ratio:5.2f}" for ratio in ratios))
    return all_, medians[2]


def test_captured_messages(reference_vectors: Path) -> None:
    files = sorted((reference_vectors / "openadr").glob("DL_*.xml"))
    rows = [(re.sub(r"DL_(.*?)_.*", r"\1", f.name), count(f.read_bytes())) for f in files]
    all_, median = tell("captured from openleadr", rows)
    assert all_.dictionary <= all_.zlib / 2
    assert median <= 2


def test_messages_in_other_styles(foreign_messages: Mapping[str, Mapping[str, bytes]]) -> None:
    for style, messages in foreign_messages.items():
        for message in messages.values():
            validate_xml_schema(message)
            assert canonical(compact(message)) == canonical(message)
        rows = [(kind, count(message)) for kind, message in messages.items()]
        all_, median = tell(f"written by hand, style {style!r}", rows)
        # Prefixes that the dictionary does not know: it saves less, but always much.
        assert all_.dictionary <= all_.zlib * 0.7
        # The compact form has the same prefixes whatever came in.
        assert all_.both <= all_.zlib / 2
        assert median <= 2
