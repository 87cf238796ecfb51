from __future__ import annotations

import random
import tracemalloc
import zlib
from dataclasses import replace

import pytest

from smtunnel import (
    ECS46A,
    ECS200,
    Base64Error,
    Carrier,
    Compression,
    FragmentConflict,
    LimitExceeded,
    MessageAssembly,
    Originator,
    RemoteError,
    UnknownDictionary,
    UnsupportedCompression,
    ZlibError,
    encode_message,
    parse_untrusted_fragment,
)
from smtunnel.codec import encode_base64
from smtunnel.errors import WindowTooLarge
from smtunnel.fragments import Fragment
from smtunnel.header import FragmentHeader
from smtunnel.limits import (
    FRAGMENT_OVERHEAD_OCTETS,
    INFLATER_OCTETS,
    MESSAGE_OVERHEAD_OCTETS,
    Limits,
)

OVERHEAD = MESSAGE_OVERHEAD_OCTETS
NOISE = random.Random(8).randbytes(60_000)


def fragments_of(message: bytes, carrier: Carrier = ECS46A, **options: int) -> list[Fragment]:
    payloads = encode_message(
        message,
        carrier=carrier,
        originator=Originator.DSRSP,
        tunnel_message_id=1,
        **options,  # type: ignore[arg-type]
    ).payloads
    return [parse_untrusted_fragment(payload, carrier) for payload in payloads]


def cut(stream: bytes, size: int, compression: Compression = Compression.ZLIB) -> list[Fragment]:
    text = encode_base64(stream)
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    return [
        Fragment(
            int.from_bytes(
                FragmentHeader(
                    Originator.DSRSP, compression, True, i == len(pieces) - 1, i, 0
                ).to_bytes(),
                "big",
            ),
            piece,
        )
        for i, piece in enumerate(pieces)
    ]


def give(fragments: list[Fragment], **options: int) -> bytes:
    assembly = MessageAssembly(**options)  # type: ignore[arg-type]
    for fragment in fragments:
        assembly.add(fragment)
    return assembly.decode()


@pytest.mark.parametrize("stream_from", [0, 1, 300, 10**9])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 106])
def test_decoded_as_it_comes_or_at_the_end_it_is_the_same(stream_from: int, size: int) -> None:
    message = NOISE[:700]
    fragments = cut(zlib.compress(message), size)
    for seed in range(5):
        random.Random(seed).shuffle(fragments)
        assert give(fragments, stream_from_chars=stream_from) == message


def test_what_is_in_order_is_decoded_and_dropped() -> None:
    fragments = fragments_of(NOISE)
    assembly = MessageAssembly(stream_from_chars=1000)
    for fragment in fragments[:9]:
        assembly.add(fragment)
    assert assembly.held_octets == OVERHEAD + 9 * (106 + FRAGMENT_OVERHEAD_OCTETS)
    assembly.add(fragments[9])
    decoded = assembly.held_octets - OVERHEAD - INFLATER_OCTETS - 10 * FRAGMENT_OVERHEAD_OCTETS
    assert 0 <= decoded <= 10 * 106 * 3 // 4
    # Out of order: kept as text until its turn.
    for fragment in fragments[11:]:
        assembly.add(fragment)
    assert assembly.missing() == (10,)
    assert assembly.body_octets - assembly.held_octets < INFLATER_OCTETS
    assembly.add(fragments[10])
    expected = OVERHEAD + len(NOISE) + INFLATER_OCTETS
    expected += len(fragments) * FRAGMENT_OVERHEAD_OCTETS
    assert assembly.held_octets == expected
    assert assembly.complete
    assert assembly.decode() == NOISE
    assert assembly.indices == tuple(range(len(fragments)))


def test_a_message_is_never_held_twice() -> None:
    message = random.Random(9).randbytes(1_000_000)
    limits = replace(Limits(), message_octets=2**20)
    fragments = fragments_of(message, carrier=ECS200, max_message_octets=2**20)
    tracemalloc.start()
    try:
        assembly = MessageAssembly(max_message_octets=2**20)
        for fragment in fragments:
            assembly.add(replace_body(fragment))
        decoded = assembly.decode()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert decoded == message
    assert assembly.held_octets <= limits.octets_per_partial_message
    # The text alone has 1,333,000 characters; a buffer that grows has an eighth to spare.
    assert peak < 1.4 * len(message)


def replace_body(fragment: Fragment) -> Fragment:
    """A fragment whose body nobody else holds."""
    return fragment._replace(body=bytes(bytearray(fragment.body)))


def test_a_fragment_that_is_decoded_already_is_known_again() -> None:
    fragments = fragments_of(NOISE[:2000])
    assembly = MessageAssembly(stream_from_chars=0)
    for fragment in fragments[:-1]:
        assert assembly.add(fragment)
        assert not assembly.add(fragment)
    with pytest.raises(FragmentConflict, match="different content"):
        assembly.add(fragments[3]._replace(body=fragments[4].body))


@pytest.mark.parametrize(
    ("stream", "error"),
    [
        (b"not zlib at all", ZlibError),
        (zlib.compress(NOISE[:200])[:-1], ZlibError),
        (zlib.compress(NOISE[:200]) + b"x", ZlibError),
        (zlib.compress(NOISE[:200]) * 2, ZlibError),
        (b"\x78", ZlibError),
        (zlib.compress(bytes(100_000)), LimitExceeded),
        (b"\x78\xbb\x01\x02\x03\x04\x05", UnknownDictionary),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 106])
def test_what_does_not_decode_is_found_as_it_comes(
    stream: bytes, error: type[RemoteError], size: int
) -> None:
    for stream_from in (0, 10**9):
        with pytest.raises(error):
            give(cut(stream, size), stream_from_chars=stream_from)


@pytest.mark.parametrize("text", [b"QUJ", b"QQ==QQ==", b"Q===", b"QUJD=", b"QR==", b"QUI=QUI="])
def test_text_that_is_not_canonical_is_found_as_it_comes(text: bytes) -> None:
    good = encode_base64(zlib.compress(NOISE[:6]))
    for body in (text, good + text):
        for size in (1, 3, 4, 100):
            fragments = cut(b"", 1)
            pieces = [body[start : start + size] for start in range(0, len(body), size)]
            fragments = [
                cut(b"xyz" * len(pieces), 4)[i]._replace(body=piece)
                for i, piece in enumerate(pieces)
            ]
            header = fragments[-1].header_bits | 1 << 19
            fragments[-1] = fragments[-1]._replace(header_bits=header)
            with pytest.raises((Base64Error, ZlibError)):
                give(fragments, stream_from_chars=0)
            with pytest.raises((Base64Error, ZlibError)):
                give(fragments)


def test_the_window_is_bounded() -> None:
    fragments = fragments_of(bytes(3000), window_bits=13)
    with pytest.raises(WindowTooLarge, match="13 bits, here are at most 12"):
        give(fragments, window_bits=12)
    with pytest.raises(WindowTooLarge):
        give(fragments, window_bits=12, stream_from_chars=0)
    assert give(fragments, window_bits=13) == bytes(3000)


def test_control_and_data_do_not_mix() -> None:
    [control] = cut(b"abc", 106, Compression.CONTROL)
    [data] = cut(b"abc", 106, Compression.NONE)
    with pytest.raises(UnsupportedCompression):
        MessageAssembly().add(control)
    with pytest.raises(UnsupportedCompression):
        MessageAssembly(control=True).add(data)
    assembly = MessageAssembly(control=True)
    assembly.add(control)
    assert assembly.decode() == b"abc"


def test_the_stated_bounds() -> None:
    limits = replace(Limits(), message_octets=1000, partial_messages_per_peer=2)
    assert limits.octets_per_peer == 2 * limits.octets_per_partial_message
    assembly = MessageAssembly(max_message_octets=1000, stream_from_chars=0)
    fragments = cut(zlib.compress(NOISE[:1000]), 1)
    for fragment in [*fragments[1:], fragments[0]]:
        assembly.add(fragment)
        assert assembly.held_octets <= limits.octets_per_partial_message
    assert assembly.decode() == NOISE[:1000]
