"""The preset dictionaries: as data, in streams, and who picks them when."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import pytest

from smtunnel import (
    DICTIONARIES,
    DICTIONARY_IDS,
    ECS46A,
    Compression,
    EncodedMessage,
    LimitExceeded,
    LocalError,
    MessageAssembly,
    Originator,
    UnknownDictionary,
    ZlibError,
    encode_message,
    parse_untrusted_fragment,
)
from smtunnel.codec import deflate, inflate_untrusted

SPECS = Path(__file__).resolve().parents[2] / "specs"
MESSAGE = (
    b'<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07">'
    b"<oadr:oadrSignedObject><oadr:oadrPoll "
    b'xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110" ei:schemaVersion="2.0b">'
    b"<ei:venID>ven 17</ei:venID></oadr:oadrPoll></oadr:oadrSignedObject></oadr:oadrPayload>"
)
OTHER = b"a dictionary that nobody has published"


def encode(message: bytes = MESSAGE, **choices: Any) -> EncodedMessage:
    return encode_message(
        message, carrier=ECS46A, originator=Originator.DSRSP, tunnel_message_id=1, **choices
    )


def decode(encoded: EncodedMessage) -> bytes:
    assembly = MessageAssembly()
    for payload in encoded.payloads:
        assembly.add(parse_untrusted_fragment(payload, ECS46A))
    return assembly.decode()


def test_each_is_known_by_its_adler_32() -> None:
    assert all(zlib.adler32(octets) == identifier for identifier, octets in DICTIONARIES.items())


def test_the_specification_has_the_same_octets() -> None:
    for number, identifier in DICTIONARY_IDS.items():
        published = (SPECS / f"dictionary-{number}.bin").read_bytes()
        assert DICTIONARIES[identifier] == published


def test_a_published_dictionary_never_changes() -> None:
    assert {number: f"{identifier:08X}" for number, identifier in DICTIONARY_IDS.items()} == {
        1: "1D9B0BCE"
    }


def test_its_size_is_what_receivers_reckon_with() -> None:
    assert all(len(octets) <= 8192 for octets in DICTIONARIES.values())


def test_a_message_comes_through_with_a_dictionary() -> None:
    encoded = encode(compression="dictionary", peer_dictionaries=DICTIONARIES)
    assert encoded.compression is Compression.ZLIB
    assert encoded.dictionary_id == DICTIONARY_IDS[1]
    assert decode(encoded) == MESSAGE


def test_auto_picks_the_smallest_that_the_peer_understands() -> None:
    plain = encode(compression="zlib", peer_dictionaries=DICTIONARIES)
    assert plain.dictionary_id is None
    assert encode(compression="auto") == plain
    assert encode(compression="auto", peer_dictionaries=[0x12345678]) == plain
    best = encode(compression="auto", peer_dictionaries=DICTIONARIES)
    assert best.dictionary_id == DICTIONARY_IDS[1]
    assert best.fragments < plain.fragments


def test_auto_uses_no_dictionary_where_it_does_not_help() -> None:
    noise = bytes((value * value * 7 + 13) >> 3 & 0xFF for value in range(400))
    encoded = encode(noise, compression="auto", peer_dictionaries=DICTIONARIES)
    assert encoded.dictionary_id is None
    hello = encode(b"hello", compression="auto", peer_dictionaries=DICTIONARIES)
    assert hello.compression is Compression.NONE


@pytest.mark.parametrize("peer_dictionaries", [(), (0x12345678,)])
def test_a_dictionary_that_the_peer_lacks_is_refused(peer_dictionaries: tuple[int, ...]) -> None:
    with pytest.raises(LocalError, match="not known to have one of ours"):
        encode(compression="dictionary", peer_dictionaries=peer_dictionaries)


def test_an_unknown_dictionary_is_named() -> None:
    with pytest.raises(UnknownDictionary, match=f"{zlib.adler32(OTHER):08X}") as caught:
        inflate_untrusted(deflate(MESSAGE, dictionary=OTHER), max_octets=9999)
    assert caught.value.dictionary_id == zlib.adler32(OTHER)


@pytest.mark.parametrize("window_bits", range(9, 16))
def test_a_small_window_takes_the_tail_of_the_dictionary(window_bits: int) -> None:
    dictionary = DICTIONARIES[DICTIONARY_IDS[1]]
    stream = deflate(MESSAGE, window_bits=window_bits, dictionary=dictionary)
    assert (stream[0] >> 4) + 8 == window_bits
    assert inflate_untrusted(stream, max_octets=9999, window_bits=window_bits) == MESSAGE
    # The receiver that has no more memory than that, with the whole dictionary and its DICTID.
    small = zlib.decompressobj(wbits=window_bits, zdict=dictionary)
    assert small.decompress(stream) + small.flush() == MESSAGE
    assert small.eof
    assert len(stream) < len(deflate(MESSAGE, window_bits=window_bits))


def test_the_limit_on_inflating_holds_with_a_dictionary() -> None:
    dictionary = DICTIONARIES[DICTIONARY_IDS[1]]
    stream = deflate(bytes(100_000), dictionary=dictionary)
    with pytest.raises(LimitExceeded):
        inflate_untrusted(stream, max_octets=99_999)
    assert len(inflate_untrusted(stream, max_octets=100_000)) == 100_000


def test_damage_is_found_with_a_dictionary() -> None:
    stream = deflate(MESSAGE, dictionary=DICTIONARIES[DICTIONARY_IDS[1]])
    for cut in range(len(stream)):
        with pytest.raises(ZlibError):
            inflate_untrusted(stream[:cut], max_octets=9999)
    with pytest.raises(ZlibError):
        inflate_untrusted(stream[:-1] + bytes([stream[-1] ^ 1]), max_octets=9999)
    with pytest.raises(ZlibError):
        inflate_untrusted(stream + b"\0", max_octets=9999)
