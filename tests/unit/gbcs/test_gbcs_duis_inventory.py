"""DUIS messages about the inventory and about local delivery: they come back, and are strict."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from gbcs import EntityId
from gbcs.duis import (
    STATUS_CHANGES,
    DeviceRecord,
    InventoryBody,
    LocalCommandBody,
    PropertyFilter,
    ReadInventory,
    Request,
    RequestId,
    Response,
    ReturnLocalCommandResponse,
    UpdateInventory,
    build_request,
    build_response,
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.errors import BuildError, DuisFormatError

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DCC = EntityId.parse("90-B3-D5-1F-30-00-00-02")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
MOMENT = datetime(2026, 11, 21, 19, 50, tzinfo=UTC)
REQUEST_ID = RequestId(SUPPLIER, DCC, 7)
RECORD = DeviceRecord(DEVICE, "ESME", "Commissioned", "Maker & Co", "<1>", "00010203", "1234567")

BODIES = [
    ("8.2", ReadInventory(device_id=DEVICE)),
    ("8.2", ReadInventory(mpxn="1234567890123")),
    ("8.2", ReadInventory(uprn="123456789012")),
    ("8.2", ReadInventory(property_filter=PropertyFilter("AB1 2CD", "1 & 2"))),
    *(
        ("8.4", UpdateInventory(DEVICE, change, status))
        for change, statuses in STATUS_CHANGES.items()
        for status in sorted(statuses)
    ),
    ("8.13", ReturnLocalCommandResponse(b"\xdf\x09")),
    ("8.13", ReturnLocalCommandResponse(b"\xdf\x09", RequestId(SUPPLIER, DEVICE, 6))),
]
ANSWERS = [
    ("8.2", InventoryBody((RECORD,))),
    ("8.2", InventoryBody((DeviceRecord(DEVICE, "ESME", None, "", ""),) * 17)),
    ("6.14.1", LocalCommandBody(bytes(305))),
]


def request_of(variant: str, body: Any) -> Request:
    reference = ".".join(variant.split(".")[:2])
    return Request(SUPPLIER, DCC, 7, 8, body, reference, variant)


@pytest.mark.parametrize(("variant", "body"), BODIES)
def test_requests_come_back(laboratory: Any, variant: str, body: Any) -> None:
    request = request_of(variant, body)
    assert parse_untrusted_request(build_request(request, laboratory.user_signer)).message == (
        request
    )


@pytest.mark.parametrize(("variant", "body"), ANSWERS)
def test_answers_come_back(variant: str, body: Any) -> None:
    reference = ".".join(variant.split(".")[:2])
    response = Response("I0", MOMENT, body, REQUEST_ID, None, reference, variant)
    assert parse_untrusted_response(build_response(response, None)).message == response


def test_what_is_not_kept_of_a_record_is_skipped() -> None:
    response = Response("I0", MOMENT, InventoryBody((RECORD,)), REQUEST_ID, None, "8.2", "8.2")
    octets = build_response(response, None).replace(
        b"<sr:ImportMPxN>",
        b"<sr:CPLStatus>Active</sr:CPLStatus><sr:ImportMPxN>",
    )
    octets = octets.replace(
        b"</sr:Device>",
        b"<sr:UPRN>12</sr:UPRN><sr:PropertyFilter><sr:PostCode>AB12CD</sr:PostCode>"
        b"</sr:PropertyFilter><sr:CSPRegion>North</sr:CSPRegion></sr:Device>",
    )
    assert parse_untrusted_response(octets).message == response
    with pytest.raises(DuisFormatError, match="CPLStatus"):
        parse_untrusted_response(octets.replace(b"<sr:UPRN>12</sr:UPRN>", b"<sr:CPLStatus/>"))


def test_other_changes_are_read_by_name(laboratory: Any) -> None:
    request = request_of("8.4", UpdateInventory(DEVICE, "UpdateDeviceStatusCH", "Withdrawn"))
    octets = build_request(request, laboratory.user_signer).replace(
        b"<sr:UpdateDeviceStatusCH>Withdrawn</sr:UpdateDeviceStatusCH>",
        b"<sr:UpdateMPxN><sr:ImportMPxN>1</sr:ImportMPxN></sr:UpdateMPxN>",
    )
    other = parse_untrusted_request(octets).message
    assert other.body == UpdateInventory(DEVICE, "UpdateMPxN", None)
    with pytest.raises(BuildError, match="UpdateMPxN"):
        build_request(other, laboratory.user_signer)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"<sr:DeviceID>00-DB", b"<sr:DeviceID>00DB"),
        (b"<sr:DeviceID>", b"<sr:DeviceID><sr:x/>"),
        (b"</sr:DeviceID>", b"</sr:DeviceID><sr:UPRN>1</sr:UPRN>"),
        (b"sr:DeviceID>", b"sr:MPxN>"),
        (b"sr:DeviceID>", b"sr:UPRN>"),
        (b"ReadInventory", b"UpdateInventory"),
        (b"ReadInventory", b"ReturnLocalCommandResponse"),
    ],
)
def test_malformed_requests_are_refused(laboratory: Any, old: bytes, new: bytes) -> None:
    octets = build_request(request_of("8.2", BODIES[0][1]), laboratory.user_signer)
    with pytest.raises(DuisFormatError):
        parse_untrusted_request(octets.replace(old, new))


@pytest.mark.parametrize(
    "make",
    [
        ReadInventory,
        lambda: ReadInventory(mpxn="1", uprn="1"),
        lambda: ReadInventory(mpxn=""),
        lambda: ReadInventory(uprn="0"),
        lambda: PropertyFilter("AB1", ""),
        lambda: UpdateInventory(DEVICE, "UpdateDeviceStatusCH", "Pending"),
        lambda: UpdateInventory(DEVICE, "DeleteDevice", "Pending"),
        lambda: UpdateInventory(DEVICE, "Anything", None),
        lambda: InventoryBody(()),
        lambda: InventoryBody((RECORD,) * 18),
        lambda: LocalCommandBody(b""),
        lambda: ReturnLocalCommandResponse(b""),
    ],
)
def test_what_cannot_be_said(make: Any) -> None:
    with pytest.raises(BuildError):
        make()
