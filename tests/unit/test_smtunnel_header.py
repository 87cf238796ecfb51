from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtunnel import Compression, FragmentHeader, LocalError, NotAFragment, Originator
from smtunnel.header import header_of_value, parse_untrusted_header


def header(**changes: object) -> FragmentHeader:
    fields: dict[str, object] = {
        "originator": Originator.DSRSP,
        "compression": Compression.ZLIB,
        "base64": True,
        "last": False,
        "index": 0,
        "tunnel_message_id": 0,
    }
    return FragmentHeader(**(fields | changes))  # type: ignore[arg-type]


def test_the_bits_stand_where_the_specification_puts_them() -> None:
    assert header().to_bytes() == bytes([0b00110_000, 0, 0])
    assert header(originator=Originator.CEM).to_bytes() == bytes([0b10110_000, 0, 0])
    assert header(compression=Compression.CONTROL).to_bytes() == bytes([0b01110_000, 0, 0])
    assert header(base64=False).to_bytes() == bytes([0b00100_000, 0, 0])
    assert header(last=True).to_bytes() == bytes([0b00111_000, 0, 0])
    assert header(index=2047).to_bytes() == bytes([0b00110_111, 0xFF, 0])
    assert header(index=1).to_bytes() == bytes([0b00110_000, 1, 0])
    assert header(tunnel_message_id=255).to_bytes() == bytes([0b00110_000, 0, 0xFF])


def test_on_a_printable_carrier_it_is_four_characters() -> None:
    assert header().encode() == "MAAA"
    assert header(last=True, compression=Compression.NONE, tunnel_message_id=7).encode() == "GAAH"


@given(st.integers(0, 2**24 - 1))
def test_every_value_of_24_bits_is_a_header(value: int) -> None:
    octets = value.to_bytes(3, "big")
    parsed = parse_untrusted_header(octets)
    assert parsed == header_of_value(value)
    assert parsed.to_bytes() == octets
    assert parse_untrusted_header(parsed.encode()) == parsed


@pytest.mark.parametrize(
    "bad",
    ["", "AAA", "AAAAA", "AAA=", "AA==", "A A ", "-_-_", "\u20ac\u20ac\u20ac\u20ac", b"", b"AAAA"],
)
def test_what_is_no_header_is_refused(bad: str | bytes) -> None:
    with pytest.raises(NotAFragment):
        parse_untrusted_header(bad)


@pytest.mark.parametrize("changes", [{"index": 2048}, {"index": -1}, {"tunnel_message_id": 256}])
def test_fields_out_of_range_are_the_callers_error(changes: dict[str, int]) -> None:
    with pytest.raises(LocalError, match="is not in 0 to"):
        header(**changes).to_bytes()
