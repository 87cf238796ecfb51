"""The MicroPython decoder, on Python, says the same as the library: of good messages and of bad."""

from __future__ import annotations

import importlib.util
import zlib
from pathlib import Path
from random import Random
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smtunnel import (
    ECS46A,
    Carrier,
    Compression,
    FragmentHeader,
    MessageAssembly,
    NotAFragment,
    Originator,
    TunnelError,
    encode_message,
)
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.fragments import cut_stream, parse_untrusted_fragment

PATH = Path(__file__).resolve().parents[2] / "specs" / "micropython" / "smtunnel_decode.py"
MAX_OCTETS = 4096

WORDS = st.sampled_from([b"<ei:eventID>", b"oadr", b"</ei:eventID>", b"2024-01-01T00:00:00Z", b"0"])
MESSAGES = st.binary(max_size=600) | st.lists(WORDS, max_size=300).map(b"".join)


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("smtunnel_decode", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


port = load()


def decode_by_port(payloads: list[str]) -> bytes | str | None:
    pages: list[bytes] = []
    decoder = port.MessageDecoder(pages.append, MAX_OCTETS, dictionaries=DICTIONARIES)
    try:
        for payload in payloads:
            if decoder.add(*port.parse_payload(payload.encode("latin-1"), port.ECS46A)):
                return b"".join(pages)
    except port.TunnelError as error:
        return type(error).__name__
    return None


def decode_by_library(payloads: list[str]) -> bytes | str | None:
    assembly = MessageAssembly(max_message_octets=MAX_OCTETS, stream_from_chars=0)
    try:
        for payload in payloads:
            assembly.add(parse_untrusted_fragment(payload, ECS46A))
            if assembly.complete:
                return assembly.decode()
    except TunnelError as error:
        return type(error).__name__
    return None


def cut(stream: bytes) -> list[str]:
    """Cut what may be no stream at all, as if it were a zlib stream."""
    header = FragmentHeader(Originator.DSRSP, Compression.ZLIB, True, False, 0, 7)
    encoded = cut_stream(stream, carrier=ECS46A, header=header, message_octets=len(stream))
    return list(encoded.payloads)


@given(MESSAGES, st.integers(9, 15), st.integers(0, 9), st.randoms(use_true_random=False))
def test_any_message_in_any_order(
    message: bytes, window_bits: int, level: int, random: Random
) -> None:
    encoded = encode_message(
        message,
        carrier=ECS46A,
        originator=Originator.DSRSP,
        tunnel_message_id=7,
        compression="zlib",
        window_bits=window_bits,
        level=level,
    )
    payloads = list(encoded.payloads)
    random.shuffle(payloads)
    expected = message if len(message) <= MAX_OCTETS else "LimitExceeded"
    assert decode_by_port(payloads) == expected


@given(MESSAGES, st.sampled_from([0, 1, 9]), st.sampled_from(["whole", "fixed"]), st.data())
def test_damaged_streams_end_as_in_the_library(
    message: bytes, level: int, kind: str, data: st.DataObject
) -> None:
    strategy = zlib.Z_FIXED if kind == "fixed" else zlib.Z_DEFAULT_STRATEGY
    compressor = zlib.compressobj(level, zlib.DEFLATED, 15, 9, strategy)
    stream = bytearray(compressor.compress(message) + compressor.flush())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(stream) - 1))
        stream[place] ^= 1 << data.draw(st.integers(0, 7))
    payloads = cut(bytes(stream))
    assert decode_by_port(payloads) == decode_by_library(payloads)


@given(st.data(), st.integers(9, 15))
def test_preset_dictionaries(data: st.DataObject, window_bits: int) -> None:
    dictionary_id = data.draw(st.sampled_from(sorted(DICTIONARIES)))
    dictionary = DICTIONARIES[dictionary_id]
    places = st.lists(st.integers(0, len(dictionary)), min_size=2, max_size=20)
    starts = data.draw(places)
    message = b"".join([dictionary[start : start + 90] for start in starts])
    assert port.adler32(dictionary) == dictionary_id
    compressor = zlib.compressobj(9, zlib.DEFLATED, window_bits, zdict=dictionary)
    assert decode_by_port(cut(compressor.compress(message) + compressor.flush())) == message


@given(st.binary(min_size=1, max_size=400), st.booleans())
def test_any_octets_as_deflate_data(octets: bytes, adler: bool) -> None:
    # Behind a good header the inflater sees every kind of nonsense.
    payloads = cut(b"\x78\x01" + octets + (b"\x00\x00\x00\x01" if adler else b""))
    assert decode_by_port(payloads) == decode_by_library(payloads)


@given(MESSAGES, st.data())
def test_damaged_texts_and_headers_end_as_in_the_library(
    message: bytes, data: st.DataObject
) -> None:
    payloads = cut(zlib.compress(message))
    place = data.draw(st.integers(0, len(payloads) - 1))
    text = list(payloads[place])
    at = data.draw(st.integers(0, len(text) - 1))
    text[at] = data.draw(st.sampled_from("ABMOeg+/= é"))
    payloads[place] = "".join(text)
    assert decode_by_port(payloads) == decode_by_library(payloads)


@given(st.binary(max_size=30), st.booleans())
def test_payloads_of_octet_carriers(payload: bytes, printable: bool) -> None:
    carrier = Carrier("any", 24, printable)
    try:
        text = payload.decode("latin-1") if printable else payload
        fragment = parse_untrusted_fragment(text, carrier)
    except NotAFragment:
        with pytest.raises(port.NotAFragment):
            port.parse_payload(payload, (24, printable))
        return
    header, body = port.parse_payload(payload, (24, printable))
    assert tuple(header)[4:] == (fragment.header.index, fragment.header.tunnel_message_id)
    assert body == fragment.body
