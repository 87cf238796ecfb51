"""What specs/tunnel-protocol.md says in figures is what the library does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from smtunnel import CARRIERS, Limits, parse_untrusted_header
from smtunnel.limits import FRAGMENT_OVERHEAD_OCTETS, body_bound

SPECIFICATION = Path(__file__).resolve().parents[2] / "specs" / "tunnel-protocol.md"


@pytest.fixture(scope="module")
def rows() -> list[list[str]]:
    text = SPECIFICATION.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_header_examples(rows: list[list[str]]) -> None:
    examples = [row for row in rows if re.fullmatch(r"`([0-9A-F]{2} ){2}[0-9A-F]{2}`", row[0])]
    assert len(examples) == 4
    for octets, text, *_ in examples:
        header = parse_untrusted_header(bytes.fromhex(octets.strip("`")))
        assert header.encode() == text.strip("`")


def test_carriers(rows: list[list[str]]) -> None:
    for carrier in CARRIERS.values():
        [row] = [row for row in rows if row[0] == f"`{carrier.name}`"]
        assert row[2:4] == [f"{carrier.capacity} characters", str(carrier.body_capacity)]


def test_default_limits(rows: list[list[str]]) -> None:
    limits = Limits()
    table = {row[0]: row[1] for row in rows}
    assert table["message, inflated"] == f"{limits.message_octets:,} octets"
    assert (
        f" {body_bound(limits.message_octets):,} characters" in table["all bodies of one message"]
    )
    assert table["live messages of one peer"] == str(limits.partial_messages_per_peer)
    assert table["peers"] == f"{limits.peers:,}"
    total = table["all live messages together"]
    assert total.startswith(f"{limits.total_octets >> 20} MiB")
    assert f"and {FRAGMENT_OVERHEAD_OCTETS} octets" in total
    assert table["lifetime"].startswith(f"{limits.message_lifetime_s:,.0f} s")
    assert table["replay window"] == f"{limits.replay_window} counters"
