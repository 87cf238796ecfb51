from __future__ import annotations

import base64
import binascii
import contextlib
import zlib
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from smtunnel import (
    DICTIONARIES,
    ECS46A,
    ECS200,
    Base64Error,
    Carrier,
    CompressionChoice,
    MessageAssembly,
    NotAFragment,
    Originator,
    RemoteError,
    encode_message,
    labels_to_payload,
    parse_untrusted_fragment,
    payload_to_labels,
)
from smtunnel.codec import decode_base64_untrusted, deflate, inflate_untrusted

CARRIERS = st.sampled_from(
    [ECS46A, ECS200, replace(ECS46A, printable=False), replace(ECS200, printable=False)]
)
CHOICES: st.SearchStrategy[CompressionChoice] = st.sampled_from(
    ["auto", "zlib", "dictionary", "none"]
)
# Some that shrink, some that do not, some of several fragments on each carrier.
MESSAGES = st.one_of(
    st.binary(max_size=300),
    st.binary(min_size=1, max_size=40).map(lambda piece: piece * 60),
    st.tuples(st.randoms(use_true_random=False), st.integers(0, 6000)).map(
        lambda pair: pair[0].randbytes(pair[1])
    ),
)
PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=110)


@given(MESSAGES, CARRIERS, CHOICES, st.integers(0, 255), st.integers(9, 15), st.integers(0, 9))
def test_every_message_comes_back_from_every_carrier(
    message: bytes,
    carrier: Carrier,
    choice: CompressionChoice,
    message_id: int,
    window_bits: int,
    level: int,
) -> None:
    encoded = encode_message(
        message,
        carrier=carrier,
        originator=Originator.CEM,
        tunnel_message_id=message_id,
        compression=choice,
        peer_dictionaries=DICTIONARIES,
        window_bits=window_bits,
        level=level,
    )
    assembly = MessageAssembly()
    for payload in encoded.payloads or encoded.octet_payloads:
        assert len(payload) <= carrier.capacity
        assert not assembly.complete
        assert assembly.add(parse_untrusted_fragment(payload, carrier))
    assert assembly.complete
    assert assembly.decode() == message


@given(MESSAGES)
def test_auto_never_needs_more_fragments_than_the_others(message: bytes) -> None:
    def fragments(choice: CompressionChoice) -> int:
        return encode_message(
            message,
            carrier=ECS46A,
            originator=Originator.DSRSP,
            tunnel_message_id=0,
            compression=choice,
        ).fragments

    assert fragments("auto") <= min(fragments("zlib"), fragments("none"))


@given(st.binary(max_size=80))
def test_base64_is_taken_exactly_when_an_encoder_writes_it(octets: bytes) -> None:
    text = base64.b64encode(octets)
    assert decode_base64_untrusted(text) == octets


@given(
    st.one_of(
        st.binary(max_size=12),
        st.text("ABYZabyz0189+/=-_ \n", max_size=12).map(str.encode),
        st.text("AQgw/=", max_size=8).map(str.encode),
    )
)
def test_base64_that_is_taken_is_what_an_encoder_writes(text: bytes) -> None:
    try:
        octets = decode_base64_untrusted(text)
    except Base64Error:
        try:
            again = base64.b64encode(base64.b64decode(text, validate=True))
        except binascii.Error:
            return
        assert again != text
    else:
        assert base64.b64encode(octets) == text


@given(st.binary(max_size=500), st.data())
def test_a_damaged_stream_never_gives_another_message(message: bytes, data: st.DataObject) -> None:
    stream = bytearray(deflate(message))
    place = data.draw(st.integers(0, len(stream) - 1))
    bit = data.draw(st.integers(0, 7))
    stream[place] ^= 1 << bit
    with contextlib.suppress(RemoteError):
        assert inflate_untrusted(bytes(stream), max_octets=1000) == message


@given(st.binary(max_size=300), st.integers(1, 2000))
def test_hostile_streams_end_in_documented_errors_and_keep_the_limit(
    stream: bytes, limit: int
) -> None:
    for octets in (stream, b"\x78\xda" + stream, zlib.compress(stream) + stream):
        try:
            message = inflate_untrusted(octets, max_octets=limit)
        except RemoteError:
            continue
        assert len(message) <= limit


@given(st.one_of(st.text(max_size=120), PRINTABLE, st.from_regex(r"[A-Za-z0-9+/]{4,110}=*")))
def test_any_text_is_a_fragment_or_says_that_it_is_none(text: str) -> None:
    try:
        fragment = parse_untrusted_fragment(text, ECS46A)
    except NotAFragment:
        return
    assert fragment.header.encode() + fragment.body.decode() == text


@given(PRINTABLE)
def test_labels_give_their_payload_back(payload: str) -> None:
    assert labels_to_payload(payload_to_labels(payload)) == payload


@given(PRINTABLE, st.data())
def test_labels_that_carry_a_payload_are_those_it_is_spread_over(
    payload: str, data: st.DataObject
) -> None:
    labels = list(payload_to_labels(payload))
    place = data.draw(st.integers(0, len(labels) - 1))
    labels[place] = (
        data.draw(st.integers(0, 6) | st.just(labels[place][0])),
        data.draw(st.text(max_size=24) | st.just(labels[place][1])),
    )
    joined = labels_to_payload(labels)
    assert joined is None or list(payload_to_labels(joined)) == labels
