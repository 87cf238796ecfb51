from __future__ import annotations

import base64
import zlib

import pytest

from smtunnel import Base64Error, LimitExceeded, LocalError, UnknownDictionary, ZlibError
from smtunnel.carriers import HEADER_OCTETS
from smtunnel.codec import decode_base64_untrusted, deflate, inflate_untrusted
from smtunnel.limits import compressed_bound, message_octets_within


@pytest.mark.parametrize(
    "text",
    [
        b"A", b"AA", b"AAA", b"AA=", b"A===", b"====", b"AAAA=", b"AA==AA==", b"AA=A", b"AAAA====",
        b"AB==", b"AAB=", b"AA/=", b"AAAA\n", b"AA A", b"AAA-", b"\xff\xff\xff\xff",
    ],
)  # fmt: skip
def test_text_that_is_not_canonical_base64_is_refused(text: bytes) -> None:
    with pytest.raises(Base64Error):
        decode_base64_untrusted(text)


@pytest.mark.parametrize("octets", [b"", b"\x00", b"\xff\xff", b"abc", bytes(range(256))])
def test_canonical_base64_is_taken(octets: bytes) -> None:
    assert decode_base64_untrusted(base64.b64encode(octets)) == octets


def test_exactly_one_complete_stream() -> None:
    stream = zlib.compress(b"octets" * 100)
    assert inflate_untrusted(stream, max_octets=600) == b"octets" * 100
    for end in range(len(stream)):
        with pytest.raises(ZlibError):
            inflate_untrusted(stream[:end], max_octets=600)
    with pytest.raises(ZlibError, match="1 octets follow"):
        inflate_untrusted(stream + b"\0", max_octets=600)
    with pytest.raises(ZlibError, match="octets follow"):
        inflate_untrusted(stream + stream, max_octets=600)


def test_a_wrong_check_is_refused() -> None:
    stream = bytearray(zlib.compress(b"octets"))
    stream[-1] ^= 1
    with pytest.raises(ZlibError, match="incorrect data check"):
        inflate_untrusted(bytes(stream), max_octets=600)


def test_inflating_stops_at_the_limit() -> None:
    bomb = zlib.compress(bytes(100_000_000), 9)
    with pytest.raises(LimitExceeded, match="more than 65536"):
        inflate_untrusted(bomb, max_octets=65536)
    assert len(inflate_untrusted(zlib.compress(bytes(65536)), max_octets=65536)) == 65536
    with pytest.raises(LimitExceeded):
        inflate_untrusted(zlib.compress(bytes(65537)), max_octets=65536)


def test_an_unknown_dictionary_is_named() -> None:
    dictionary = b"oadrPoll oadrResponse"
    compressor = zlib.compressobj(zdict=dictionary)
    stream = compressor.compress(b"oadrPoll") + compressor.flush()
    with pytest.raises(UnknownDictionary) as caught:
        inflate_untrusted(stream, max_octets=600)
    assert caught.value.dictionary_id == zlib.adler32(dictionary)
    assert f"{zlib.adler32(dictionary):08X}" in str(caught.value)


@pytest.mark.parametrize("window_bits", range(9, 16))
@pytest.mark.parametrize("level", [0, 1, 9])
def test_every_window_and_level_comes_back(window_bits: int, level: int) -> None:
    message = bytes(i * i % 251 for i in range(40_000))
    stream = deflate(message, window_bits=window_bits, level=level)
    assert inflate_untrusted(stream, max_octets=40_000) == message
    assert len(stream) <= compressed_bound(len(message))


@pytest.mark.parametrize("arguments", [{"window_bits": 8}, {"window_bits": 16}, {"level": 10}])
def test_arguments_out_of_range_are_the_callers_error(arguments: dict[str, int]) -> None:
    with pytest.raises(LocalError, match="it must be"):
        deflate(b"", **arguments)


@pytest.mark.parametrize("payload_octets", [0, 13, 14, 15, 100, 4096, 65_535, 1_048_472])
def test_the_longest_message_that_surely_fits(payload_octets: int) -> None:
    longest = message_octets_within(payload_octets)
    if longest:
        assert HEADER_OCTETS + compressed_bound(longest) <= payload_octets
    assert HEADER_OCTETS + compressed_bound(longest + 3) > payload_octets
