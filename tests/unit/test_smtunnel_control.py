from __future__ import annotations

import zlib

import pytest

from smtunnel.control import (
    MAX_CONTROL_OCTETS,
    MAX_RECORDS,
    ControlMessage,
    Record,
    build_control,
    build_record,
    pack_records,
    parse_untrusted_control,
)
from smtunnel.errors import ControlInvalid, LocalError
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

NAME = MessageName(5, 0x01020304)
NONCE = bytes(range(8))
OFFER = RouteOffer(
    offer=7,
    addresses=("wss://dsrsp.example/2b",),
    pins=(bytes(32),),
    not_before=1,
    not_after=2,
    versions=(1, 2),
    message_octets=65_536,
)

RECORDS: list[tuple[Record, str]] = [
    (Receipt((NAME, MessageName(255, 0))), "01 0a 0501020304 ff00000000"),
    (Missing(NAME, (IndexRange(2, 3), IndexRange(9, 0))), "02 0d 0501020304 00020003 00090000"),
    (Abort(NAME, AbortCode.CONFLICT), "03 06 0501020304 06"),
    (Abort(NAME, AbortCode.UNKNOWN_DICTIONARY, 0xDEADBEEF), "03 0a 0501020304 03 deadbeef"),
    (Abort(NAME, AbortCode.WINDOW_TOO_LARGE, 12), "03 07 0501020304 04 0c"),
    (EchoRequest(NONCE, b"x"), "04 09 0001020304050607 78"),
    (EchoReply(NONCE), "05 08 0001020304050607"),
    (
        Capabilities(receipts=ReceiptPolicy.BATCHED, window_bits=12, dictionaries=(1, 0xFFFFFFFF)),
        "06 10 01 01 0c 08 00010000 00000001 ffffffff",
    ),
    (CapabilitiesWanted(), "07 00"),
    (
        OFFER,
        "08 5c 00000007"
        "01 16 7773733a2f2f64737273702e6578616d706c652f3262"
        f"02 20 {bytes(32).hex()}"
        "03 08 0000000000000001 04 08 0000000000000002 05 02 0102 06 04 00010000",
    ),
    (RouteAnswer(7, RouteStatus.ACCEPTED), "09 05 00000007 00"),
    (RouteWithdrawn(7), "0a 04 00000007"),
    (ControlReceipt((NAME,)), "0b 05 0501020304"),
    (Cancelled(NAME), "0c 05 0501020304"),
]


def with_crc(content: bytes) -> bytes:
    return content + zlib.crc32(content).to_bytes(4, "big")


@pytest.mark.parametrize(("record", "octets"), RECORDS)
def test_every_record_has_its_octets(record: Record, octets: str) -> None:
    assert build_record(record).hex() == octets.replace(" ", "")
    message = build_control([record])
    assert message == with_crc(bytes.fromhex(octets))
    assert parse_untrusted_control(message) == ControlMessage((record,))


def test_many_records_keep_their_order() -> None:
    records = tuple(record for record, _ in RECORDS)
    assert parse_untrusted_control(build_control(records)).records == records


def test_fourteen_receipts_fit_one_ecs46a() -> None:
    # 106 characters of text are 26 groups of four: 78 octets.
    names = tuple(MessageName(number, number) for number in range(14))
    assert len(build_control([Receipt(names)])) <= 78


def test_a_long_record_has_its_length_in_two_octets() -> None:
    names = tuple(MessageName(number, 0) for number in range(26))
    assert build_record(Receipt(names))[:3] == bytes.fromhex("01 80 82")
    assert parse_untrusted_control(build_control([Receipt(names)])).records == (Receipt(names),)


def test_kinds_of_later_versions_are_skipped_and_counted() -> None:
    content = bytes.fromhex("7f 02 0000 07 00 00 00")
    expected = ControlMessage((CapabilitiesWanted(),), skipped=2)
    assert parse_untrusted_control(with_crc(content)) == expected


def test_reasons_of_later_versions_are_other_reasons() -> None:
    content = bytes.fromhex("03 09 0501020304 7f 010203 09 05 00000007 7f")
    assert parse_untrusted_control(with_crc(content)).records == (
        Abort(NAME, AbortCode.OTHER),
        RouteAnswer(7, RouteStatus.OTHER),
    )


def test_fields_of_later_versions_in_a_route_offer_are_skipped() -> None:
    body = OFFER.build_body() + bytes.fromhex("7f 01 00")
    content = bytes([8, len(body)]) + body
    assert parse_untrusted_control(with_crc(content)).records == (OFFER,)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", "octets, not 4"),
        ("07", "length of record body"),
        ("07 01", "record body at octet 2 needs 1"),
        ("07 01 00", "1 octets follow its end"),
        ("07 80 00", "below 128 it has one"),
        ("07 80", "length of record body"),
        ("01 00", "names at least one"),
        ("01 04 05010203", "key32 at octet 1 needs 4"),
        ("02 05 0501020304", "at least one range"),
        ("02 09 0501020304 08000001", "not in 0 to 2047"),
        ("02 09 0501020304 07ff0002", "beyond index 2047"),
        ("02 0d 0501020304 00020003 00050001", "do not touch"),
        ("02 0d 0501020304 00020000 00050001", "only the last may be open"),
        ("03 07 0501020304 04 10", "window bits 16"),
        ("03 07 0501020304 06 10", "follow its end"),
        ("03 07 0501020304 03 10", "detail at octet 6 needs 4"),
        ("04 07 00010203040506", "nonce at octet 0"),
        ("06 08 01 03 0f 08 00010000", "receipt policy 3"),
        ("06 08 01 00 08 08 00010000", "window bits 8"),
        ("06 08 00 00 0f 08 00010000", "version is 0"),
        ("06 08 01 00 0f 00 00010000", "partial_messages is 0"),
        ("06 10 01 00 0f 08 00010000 00000002 00000001", "DICTIDs rise"),
        ("08 04 00000007", r"NOT_BEFORE\) stands 0 times"),
        ("08 07 00000007 03 01 00", r"NOT_BEFORE\) has 1 octets, expected 8"),
        ("0a 05 0000000700", "follow its end"),
    ],
)
def test_what_is_malformed_is_refused_as_a_whole(content: str, says: str) -> None:
    with pytest.raises(ControlInvalid, match=says):
        parse_untrusted_control(with_crc(bytes.fromhex(content)))


def test_a_wrong_crc_and_a_wrong_length_are_refused() -> None:
    good = build_control([CapabilitiesWanted()])
    with pytest.raises(ControlInvalid, match="CRC-32"):
        parse_untrusted_control(good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(ControlInvalid, match="5 to 4096"):
        parse_untrusted_control(bytes(MAX_CONTROL_OCTETS + 1))
    with pytest.raises(ControlInvalid, match="more than 256 records"):
        parse_untrusted_control(with_crc(b"\x07\x00" * (MAX_RECORDS + 1)))


def test_what_cannot_be_said_is_not_built() -> None:
    with pytest.raises(LocalError, match="1 to 256 records"):
        build_control([])
    many = Receipt(tuple(MessageName(0, number) for number in range(1000)))
    with pytest.raises(LocalError, match="send them in several"):
        build_control([many])
    with pytest.raises(LocalError, match="above 32767"):
        build_record(Receipt(many.messages * 7))
    with pytest.raises(LocalError, match="does not fit 1 octets"):
        MessageName(256, 0)
    with pytest.raises(LocalError, match="without spaces"):
        RouteOffer(
            offer=1, addresses=("a b",), pins=(bytes(32),), not_before=0, not_after=1,
            message_octets=1,
        )  # fmt: skip


def names(count: int) -> tuple[MessageName, ...]:
    return tuple(MessageName(number % 256, number) for number in range(count))


@pytest.mark.parametrize("count", [1, 13, 14, 15, 29, 300])
@pytest.mark.parametrize("before", [0, 1, 3])
def test_receipts_are_spread_over_messages_that_each_fit_one_fragment(
    count: int, before: int
) -> None:
    records: list[Record] = [Cancelled(NAME)] * before
    records += [Receipt(names(count)), ControlReceipt(names(2))]
    packed = pack_records(records, 78)
    assert all(len(build_control(message)) <= 78 for message in packed)
    flat = [record for message in packed for record in message]
    found = [name for r in flat if isinstance(r, Receipt) for name in r.messages]
    assert tuple(found) == names(count)
    assert [r for r in flat if isinstance(r, Cancelled)] == [Cancelled(NAME)] * before
    assert sum(isinstance(r, ControlReceipt) for r in flat) in (1, 2)
    assert len(packed) <= 1 + (5 * count + 7 * before + 12 + 3) // 60


def test_a_long_missing_list_is_cut_and_a_long_record_stands_alone() -> None:
    long = Missing(NAME, tuple(IndexRange(3 * number, 1) for number in range(100)))
    [(cut,), (offer,), (after,)] = pack_records([long, OFFER, CapabilitiesWanted()], 78)
    assert isinstance(cut, Missing)
    assert cut.ranges == long.ranges[:16]
    assert offer == OFFER
    assert after == CapabilitiesWanted()
    assert pack_records([], 78) == []
