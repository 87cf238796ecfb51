from __future__ import annotations

import zlib
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from smtunnel.control import Record, build_control, parse_untrusted_control
from smtunnel.errors import ControlInvalid
from smtunnel.records import (
    Abort,
    AbortCode,
    Cancelled,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoReply,
    EchoRequest,
    IndexRange,
    MessageName,
    Missing,
    Receipt,
    ReceiptPolicy,
)
from smtunnel.routes import RouteAnswer, RouteOffer, RouteStatus, RouteWithdrawn

NAMES = st.builds(MessageName, st.integers(0, 255), st.integers(0, 2**32 - 1))
NAME_LISTS = st.lists(NAMES, min_size=1, max_size=20).map(tuple)
NONCES = st.binary(min_size=8, max_size=8)


def ranges_between(edges: list[int]) -> tuple[IndexRange, ...]:
    """Ranges that rise and do not touch, from edges that rise."""
    found = [
        IndexRange(start, end - start) for start, end in list(pairwise(edges))[::2] if end > start
    ]
    return tuple(found)


RANGES = (
    st.lists(st.integers(0, 2048), min_size=2, max_size=16, unique=True)
    .map(sorted)
    .map(ranges_between)
)
ABORTS = st.one_of(
    st.builds(
        Abort,
        NAMES,
        st.sampled_from([AbortCode.UNKNOWN_DICTIONARY, AbortCode.TOO_LONG]),
        st.integers(0, 2**32 - 1),
    ),
    st.builds(Abort, NAMES, st.just(AbortCode.WINDOW_TOO_LARGE), st.integers(9, 15)),
    st.builds(Abort, NAMES, st.sampled_from([AbortCode.OTHER, AbortCode.BASE64, AbortCode.MEMORY])),
)
CAPABILITIES = st.builds(
    Capabilities,
    version=st.integers(1, 255),
    receipts=st.sampled_from(ReceiptPolicy),
    window_bits=st.integers(9, 15),
    partial_messages=st.integers(1, 255),
    message_octets=st.integers(1, 2**32 - 1),
    dictionaries=st.sets(st.integers(0, 2**32 - 1), max_size=8).map(sorted).map(tuple),
)
OFFERS = st.builds(
    RouteOffer,
    offer=st.integers(0, 2**32 - 1),
    addresses=st.lists(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=255),
        min_size=1,
        max_size=8,
    ).map(tuple),
    pins=st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=4).map(tuple),
    not_before=st.integers(0, 2**63),
    not_after=st.integers(2**63 + 1, 2**64 - 1),
    versions=st.sets(st.integers(1, 255), min_size=1).map(sorted).map(tuple),
    message_octets=st.integers(0, 2**32 - 1),
)
RECORDS: st.SearchStrategy[Record] = st.one_of(
    st.builds(Receipt, NAME_LISTS),
    st.builds(ControlReceipt, NAME_LISTS),
    st.builds(Missing, NAMES, RANGES),
    ABORTS,
    st.builds(Cancelled, NAMES),
    st.builds(EchoRequest, NONCES, st.binary(max_size=64)),
    st.builds(EchoReply, NONCES, st.binary(max_size=64)),
    CAPABILITIES,
    st.just(CapabilitiesWanted()),
    OFFERS,
    st.builds(RouteAnswer, st.integers(0, 2**32 - 1), st.sampled_from(RouteStatus)),
    st.builds(RouteWithdrawn, st.integers(0, 2**32 - 1)),
)
MESSAGES = st.lists(RECORDS, min_size=1, max_size=4).map(tuple).filter(lambda rs: _fits(rs))


def _fits(records: tuple[Record, ...]) -> bool:
    return sum(len(record.build_body()) + 3 for record in records) + 4 <= 4096


@given(MESSAGES)
def test_what_is_built_is_read_back(records: tuple[Record, ...]) -> None:
    message = parse_untrusted_control(build_control(records))
    assert (message.records, message.skipped) == (records, 0)


@given(st.binary(max_size=200))
def test_any_octets_with_a_right_crc_are_read_or_refused_by_name(content: bytes) -> None:
    try:
        message = parse_untrusted_control(content + zlib.crc32(content).to_bytes(4, "big"))
    except ControlInvalid:
        return
    if message.records:
        again = parse_untrusted_control(build_control(message.records))
        assert again.records == message.records


@given(MESSAGES, st.data())
def test_a_damaged_message_is_refused(records: tuple[Record, ...], data: st.DataObject) -> None:
    octets = bytearray(build_control(records))
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] ^= data.draw(st.integers(1, 255))
    try:
        parse_untrusted_control(bytes(octets))
    except ControlInvalid:
        return
    raise AssertionError("a CRC-32 finds every burst of up to 32 bits")
