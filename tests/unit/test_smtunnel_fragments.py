from __future__ import annotations

import random
import re
from dataclasses import replace
from typing import Any

import pytest

from smtunnel import (
    ECS46A,
    ECS200,
    Carrier,
    Compression,
    EncodedMessage,
    LocalError,
    MessageTooLong,
    NotAFragment,
    Originator,
    encode_message,
    parse_untrusted_fragment,
)

INCOMPRESSIBLE = random.Random(1).randbytes(100_000)


def encode(message: bytes, carrier: Carrier = ECS46A, **options: Any) -> EncodedMessage:
    arguments: dict[str, Any] = {"originator": Originator.DSRSP, "tunnel_message_id": 5}
    return encode_message(message, carrier=carrier, **(arguments | options))


@pytest.mark.parametrize(
    ("carrier", "full_body"),
    [
        (ECS46A, 106),
        (ECS200, 1058),
        (replace(ECS46A, printable=False), 107),
        (replace(ECS200, printable=False), 1059),
    ],
)
def test_bodies_fill_the_carrier(carrier: Carrier, full_body: int) -> None:
    assert carrier.body_capacity == full_body
    encoded = encode(INCOMPRESSIBLE[:5000], carrier, compression="none")
    payloads = encoded.payloads or encoded.octet_payloads
    assert [len(payload) for payload in payloads[:-1]] == [carrier.capacity] * (len(payloads) - 1)
    assert encoded.fragments == len(payloads) > 3


def test_a_printable_carrier_gets_only_characters_the_dcc_lets_pass() -> None:
    for payload in encode(INCOMPRESSIBLE[:3000]).payloads:
        assert re.fullmatch(r"[A-Za-z0-9+/=]{5,110}", payload)


def test_headers_count_up_and_the_last_says_so() -> None:
    encoded = encode(INCOMPRESSIBLE[:1000], originator=Originator.CEM, tunnel_message_id=9)
    headers = [parse_untrusted_fragment(payload, ECS46A).header for payload in encoded.payloads]
    assert [header.index for header in headers] == list(range(encoded.fragments))
    assert [header.last for header in headers] == [False] * (encoded.fragments - 1) + [True]
    assert {(h.originator, h.tunnel_message_id, h.base64) for h in headers} == {
        (Originator.CEM, 9, True)
    }


@pytest.mark.parametrize(
    ("message", "choice", "compression", "fragments"),
    [
        (b"", "auto", Compression.NONE, 1),
        (b"short", "auto", Compression.NONE, 1),
        (b"a" * 50, "auto", Compression.ZLIB, 1),
        (b"a" * 50, "none", Compression.NONE, 1),
        (b"", "zlib", Compression.ZLIB, 1),
        # 78 octets are 104 characters: the most that one ECS46a takes uncompressed.
        (INCOMPRESSIBLE[:78], "none", Compression.NONE, 1),
        # More than one fragment needs zlib's check over the whole.
        (INCOMPRESSIBLE[:79], "none", Compression.ZLIB, 2),
        (INCOMPRESSIBLE[:79], "auto", Compression.ZLIB, 2),
    ],
)
def test_the_choice_of_compression(
    message: bytes, choice: str, compression: Compression, fragments: int
) -> None:
    encoded = encode(message, compression=choice)
    assert encoded.compression is compression
    assert encoded.fragments == fragments
    assert encoded.message_octets == len(message)
    if compression is Compression.NONE:
        assert encoded.compressed_octets == len(message)


def test_an_empty_message_is_its_header_alone() -> None:
    assert encode(b"").payloads == ("GAAF",)


def test_what_does_not_fit_is_refused_with_its_numbers() -> None:
    with pytest.raises(MessageTooLong, match="65537 octets, but at most 65536"):
        encode(bytes(65537))
    tiny = Carrier("tiny", 5, printable=True)
    with pytest.raises(MessageTooLong, match="the index counts only 2048"):
        encode(INCOMPRESSIBLE[:2000], tiny)
    assert encode(INCOMPRESSIBLE, ECS200, max_message_octets=100_000).fragments > 50


@pytest.mark.parametrize(
    "options", [{"tunnel_message_id": 256}, {"tunnel_message_id": -1}, {"compression": "lzma"}]
)
def test_wrong_arguments_are_the_callers_error(options: dict[str, Any]) -> None:
    with pytest.raises(LocalError):
        encode(b"x", **options)


def test_a_carrier_must_hold_more_than_the_header() -> None:
    with pytest.raises(LocalError, match="the header alone takes 4"):
        Carrier("none", 4, printable=True)


@pytest.mark.parametrize(
    ("payload", "what"),
    [
        ("", "starts with 4 characters"),
        ("GAA", "starts with 4 characters"),
        ("G=AH", "starts with 4 characters"),
        ("Immersion heater 1", "character 10 is ' '"),
        ("GAAHaGVs\u20ac", "character 9 is '\u20ac'"),
        ("GAAH" + "A" * 107, "more than the 110"),
        ("EAAHaGVsbG8K", "uncompressed message is exactly one fragment"),  # not last
        ("GAEHaGVsbG8K", "uncompressed message is exactly one fragment"),  # index 1
        ("CAAHaGVsbG8K", "says no encoding"),
        ("MAAH", "no body"),
        ("OAAH", "no body"),
    ],
)
def test_what_is_no_fragment_says_why(payload: str, what: str) -> None:
    with pytest.raises(NotAFragment, match=re.escape(what)):
        parse_untrusted_fragment(payload, ECS46A)


def test_raw_octets_have_rules_too() -> None:
    raw = replace(ECS46A, printable=False)
    with pytest.raises(NotAFragment, match="too few"):
        parse_untrusted_fragment(b"\x20\x00", raw)
    with pytest.raises(NotAFragment, match="says base64"):
        parse_untrusted_fragment(b"\x30\x00\x00x", raw)
    with pytest.raises(NotAFragment, match="more than the 110"):
        parse_untrusted_fragment(bytes(111), raw)
    assert parse_untrusted_fragment(b"\x20\x00\x00x", raw).body == b"x"


def test_the_payloads_type_is_the_callers_matter() -> None:
    with pytest.raises(LocalError, match="payloads are str"):
        parse_untrusted_fragment(b"GAAH", ECS46A)
    with pytest.raises(LocalError, match="payloads are bytes"):
        parse_untrusted_fragment("GAAH", replace(ECS46A, printable=False))
