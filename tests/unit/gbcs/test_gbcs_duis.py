"""DUIS messages: written, read again, and what is refused as no DUIS message."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from lxml import etree

from gbcs import EntityId, Label, Role
from gbcs.duis import (
    DCC_ALERT_CODES,
    MAX_DUIS_OCTETS,
    RESPONSE_CODES,
    AcknowledgementBody,
    Code,
    CommandFailure,
    DccAlertBody,
    DccAlertCode,
    DeviceAlertBody,
    ErrorBody,
    OtherBody,
    PreCommandBody,
    QuarantinedRequest,
    Request,
    RequestId,
    Response,
    ServiceResponseBody,
    SignedPreCommandBody,
    Throttled,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    build_response,
    describe,
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.duis.reading import MAX_DEPTH
from gbcs.errors import BuildError, DuisFormatError

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
MOMENT = datetime(2026, 11, 21, 19, 50, 0, 123000, tzinfo=UTC)
REQUEST_ID = RequestId(SUPPLIER, DEVICE, 2**64 - 1)
RESPONSE_ID = RequestId(DEVICE, SUPPLIER, 0)

LABELS = (Label(1, "<&>\"' ]]>"), Label(3, "   "), Label(5, "~" * 22))
REQUESTS = [
    Request(SUPPLIER, DEVICE, 0, 4, UpdateAlcDescriptions(LABELS)),
    Request(
        SUPPLIER,
        DEVICE,
        2**64 - 1,
        5,
        SignedPreCommandBody(bytes(range(256))),
        schema_version="5.2",
    ),
]
RESPONSES = [
    Response("I0", MOMENT, PreCommandBody(b"\xdf"), request_id=REQUEST_ID),
    Response("I99", MOMENT, AcknowledgementBody(), request_id=REQUEST_ID),
    Response(
        "I0",
        MOMENT,
        ServiceResponseBody(b"\x00\x01"),
        request_id=REQUEST_ID,
        response_id=RESPONSE_ID,
    ),
    Response("E19", MOMENT, ErrorBody(), request_id=REQUEST_ID),
    Response("E65", MOMENT, ErrorBody()),
    Response("I0", MOMENT, DeviceAlertBody(0x8F88, b"\x00"), response_id=RESPONSE_ID),
    Response(
        "I0", MOMENT, DeviceAlertBody(1, b"\x00", Throttled(1, 2**32 - 1)), response_id=RESPONSE_ID
    ),
    Response(
        "I0",
        MOMENT,
        DccAlertBody("N13", CommandFailure(REQUEST_ID, DEVICE)),
        response_id=RESPONSE_ID,
    ),
    Response(
        "I0",
        MOMENT,
        DccAlertBody(
            "AD1",
            QuarantinedRequest(REQUEST_ID, "ADUserThresholdBreach", 10**19),
            Throttled(None, 3),
        ),
    ),
]


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda r: type(r.body).__name__)
def test_requests_come_back(laboratory: Any, request_: Request) -> None:
    octets = build_request(request_, laboratory.user_signer)
    parsed = parse_untrusted_request(octets)
    assert parsed.message == request_
    assert parsed.signed
    assert parsed.signer == (
        laboratory.user_signer.issuer_name,
        laboratory.user_signer.serial,
    )


@pytest.mark.parametrize("response", RESPONSES, ids=lambda r: type(r.body).__name__)
def test_responses_come_back(laboratory: Any, response: Response) -> None:
    for signer in (laboratory.dcc_signer, None):
        parsed = parse_untrusted_response(build_response(response, signer))
        assert parsed.message == response
        assert parsed.signed is (signer is not None)
    assert parsed.signer is None


def test_what_is_written_is_canonical(laboratory: Any) -> None:
    written = [build_request(item, laboratory.user_signer) for item in REQUESTS]
    written += [build_response(item, laboratory.dcc_signer) for item in RESPONSES]
    for octets in written:
        prologue, _, text = octets.partition(b"?>")
        assert prologue.startswith(b'<?xml version="1.0" encoding="UTF-8"')
        assert etree.tostring(etree.fromstring(octets), method="c14n") == text


def test_alerts_carry_no_service_reference() -> None:
    alert = RESPONSES[5]
    assert alert.service_reference is None
    assert alert.service_reference_variant is None
    assert b"ServiceReference" not in build_response(alert, None)


def test_times(laboratory: Any) -> None:
    def read(text: str) -> datetime:
        octets = build_response(RESPONSES[1], None)
        octets = octets.replace(b"2026-11-21T19:50:00.123Z", text.encode())
        return parse_untrusted_response(octets).message.response_date_time

    assert read("2026-11-21T19:50:00.123Z") == MOMENT
    assert read("2026-11-21T20:50:00.123+01:00") == MOMENT
    assert read("2026-11-21T19:50:00.123") == MOMENT
    assert read(" 2026-11-21T19:50:00.1230004Z ") == MOMENT
    assert read("2026-11-21T19:50:00Z") == MOMENT.replace(microsecond=0)
    for bad in ("", "2026-11-21", "2026-W01-1T00:00:00Z", "2026-13-01T00:00:00Z", "now"):
        with pytest.raises(DuisFormatError, match="ResponseDateTime"):
            read(bad)
    local = MOMENT.astimezone(timezone(timedelta(hours=-5)))
    here = Response("I99", local, AcknowledgementBody())
    assert b">2026-11-21T19:50:00.123Z<" in build_response(here, None)


def test_euis_in_either_case(laboratory: Any) -> None:
    octets = build_request(REQUESTS[0], laboratory.user_signer)
    lower = octets.replace(str(SUPPLIER).encode(), str(SUPPLIER).lower().encode())
    assert lower != octets
    assert parse_untrusted_request(lower).message == REQUESTS[0]


def test_schema_location_on_the_root_is_harmless() -> None:
    hint = (
        b' xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:schemaLocation="a b" '
        b"schemaVersion="
    )
    octets = build_response(RESPONSES[1], None).replace(b" schemaVersion=", hint)
    assert parse_untrusted_response(octets).message == RESPONSES[1]


def test_white_space_between_elements_means_nothing(laboratory: Any) -> None:
    octets = build_request(REQUESTS[0], laboratory.user_signer)
    indented = octets.replace(b"><sr:", b">\r\n\t <sr:")
    assert indented != octets
    assert parse_untrusted_request(indented).message == REQUESTS[0]


ALC = b"UpdateDeviceConfigurationALCDescriptions"


def test_other_bodies_are_named(laboratory: Any) -> None:
    octets = build_request(REQUESTS[0], laboratory.user_signer).replace(ALC, b"ReadSchedule")
    other = parse_untrusted_request(octets).message
    assert other.body == OtherBody("ReadSchedule")
    with pytest.raises(BuildError, match="ReadSchedule"):
        build_request(other, laboratory.user_signer)
    answer = build_response(RESPONSES[0], None)
    strange = parse_untrusted_response(answer.replace(b":PreCommand>", b":DSPOptIn>")).message
    assert strange.body == OtherBody("DSPOptIn")
    with pytest.raises(BuildError, match="DSPOptIn"):
        build_response(strange, None)
    alert = build_response(RESPONSES[7], None).replace(b"CommandFailure", b"PPMIDRemoval")
    message = parse_untrusted_response(alert).message
    assert message.body == DccAlertBody("N13", OtherBody("PPMIDRemoval"))
    with pytest.raises(BuildError, match="PPMIDRemoval"):
        build_response(message, None)
    old = answer.replace(b":ResponseMessage>", b":SMETS1ResponseMessage>")
    assert parse_untrusted_response(old).message.body == OtherBody("SMETS1ResponseMessage")


def swap(old: bytes, new: bytes) -> Callable[[bytes], bytes]:
    def change(octets: bytes) -> bytes:
        assert old in octets
        return octets.replace(old, new)

    return change


ONE_LABEL = b'<sr:ALCSHCALCSDescription index="1">'


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda o: b"", "well-formed"),
        (lambda o: b"\xff\xfe", "well-formed"),
        (lambda o: o[:-1], "well-formed"),
        (lambda o: o + b"<a/>", "well-formed"),
        (lambda o: b"<a/>", "root element"),
        (lambda o: b"<Request/>", "root element"),
        (swap(b":Request ", b":Response "), "well-formed"),
        (swap(b"sr:Header", b"sr:Kopf"), "expected the element Header"),
        (swap(b"</sr:Header>", b"<sr:More/></sr:Header>"), "unexpected element"),
        (swap(b"<sr:Body>", b"text<sr:Body>"), "text between elements"),
        (swap(b"<sr:Body>", b"<sr:Body extra='1'>"), "unexpected attribute 'extra'"),
        (swap(b' schemaVersion="5.4"', b""), "schemaVersion"),
        (swap(b'schemaVersion="5.4"', b'schemaVersion="6.0"'), "6.0"),
        (swap(b">4</sr:C", b">4x</sr:C"), "CommandVariant"),
        (swap(b">4</sr:C", b">0</sr:C"), "command_variant"),
        (swap(b">4</sr:C", b"><sr:x/></sr:C"), "text alone"),
        (swap(b":0</sr:RequestID", b":00</sr:RequestID"), "identifier"),
        (swap(b":0</sr:RequestID", b":18446744073709551616</sr:RequestID"), "identifier"),
        (swap(b":0</sr:RequestID", b"</sr:RequestID"), "identifier"),
        (swap(b"90-B3-D5-1F-30-01-00-00:", b"90B3D51F30010000:"), "identifier"),
        (swap(b"90-B3-D5-1F-30-01-00-00:", b":"), "identifier"),
        (swap(b">6.14<", b">six<"), "service reference"),
        (swap(ONE_LABEL, b'<sr:ALCSHCALCSDescription index="0">'), "label index"),
        (swap(ONE_LABEL, b'<sr:ALCSHCALCSDescription index="5">'), "rising"),
        (swap(ONE_LABEL, b'<sr:ALCSHCALCSDescription index="x">'), "expected 1 to 5"),
        (swap(ONE_LABEL, b"<sr:ALCSHCALCSDescription>"), "'index' is missing"),
        (swap(b"~~~~", b"~~~~~"), "22"),
        (swap(b"~~~~", "é".encode()), "printable"),
        (swap(b"~~~~", b"&#10;"), "printable"),
        (swap(b">   <", b"><"), "label"),
        (swap(b"<sr:Body>", b"<sr:Body><other/>"), "one element of the DUIS namespace"),
        (lambda o: re.sub(rb"<sr:Body>.*</sr:Body>", b"<sr:Body>what?</sr:Body>", o), "'what\\?'"),
        (lambda o: re.sub(rb"<sr:Body>.*</sr:Body>", b"<sr:Body/>", o), "one element"),
    ],
)
def test_no_request(laboratory: Any, change: Callable[[bytes], bytes], says: str) -> None:
    octets = build_request(REQUESTS[0], laboratory.user_signer)
    with pytest.raises(DuisFormatError, match=says):
        parse_untrusted_request(change(octets))


def test_sequenced_requests_can_be_read_to_be_refused(laboratory: Any) -> None:
    octets = build_request(REQUESTS[0], laboratory.user_signer)
    first = b"<sr:FirstInSequence>true</sr:FirstInSequence>"
    before = f"<sr:PrecedingServiceRequestID>{REQUESTS[0].request_id}"
    before += "</sr:PrecedingServiceRequestID>"
    for added, element in (
        (first, "FirstInSequence"),
        (before.encode(), "PrecedingServiceRequestID"),
        (first + before.encode(), "PrecedingServiceRequestID"),
    ):
        changed = octets.replace(b"<sr:CommandV", added + b"<sr:CommandV")
        request = parse_untrusted_request(changed).message
        assert request.request_id == REQUESTS[0].request_id
        assert request.body == OtherBody(element)


def test_no_signed_pre_command(laboratory: Any) -> None:
    octets = build_request(REQUESTS[1], laboratory.user_signer)
    payload = base64.b64encode(bytes(range(256)))
    for bad in (b"", b"=", b"AAA", b"AA=A", b"AAB=", b"A*AA", payload + b"AAAA=="):
        with pytest.raises(DuisFormatError, match="GBCSPayload is not base64"):
            parse_untrusted_request(octets.replace(payload, bad))
    dated = b"<sr:ExecutionDateTime>2026-01-01T00:00:00Z</sr:ExecutionDateTime><sr:GBCSPayload>"
    later = parse_untrusted_request(octets.replace(b"<sr:GBCSPayload>", dated)).message
    assert later.body == OtherBody("ExecutionDateTime")
    wrapped = octets.replace(payload, payload[:76] + b"\r\n" + payload[76:] + b"\n")
    assert parse_untrusted_request(wrapped).message == REQUESTS[1]


@pytest.mark.parametrize(
    ("number", "change", "says"),
    [
        (0, swap(b">I0<", b">I1<"), "'I1' is not one"),
        (0, swap(b"GBCSVersion", b"Version"), "GBCSVersion"),
        (0, swap(b">4.3<", b"><"), "GBCS version"),
        (1, swap(b"</sr:ServiceReferenceVariant>", b"</sr:ServiceReferenceVariant>x"), "text betw"),
        (5, swap(b">8F88<", b">8F8<"), "alert code"),
        (5, swap(b">AA==<", b"><"), "not base64"),
        (6, swap(b">4294967295<", b">4294967296<"), "throttled"),
        (6, swap(b">4294967295<", b">-1<"), "decimal number"),
        (7, swap(b">N13<", b">N32<"), "N32"),
        (7, swap(b"<sr:DeviceID>00-", b"<sr:DeviceID>00"), "EUI-64"),
        (8, swap(b"ADUser", b"ADOther"), "ADUserThresholdBreach"),
        (8, swap(b"10000000000000000000", b"x"), "QuarantineEventRef"),
    ],
)
def test_no_response(number: int, change: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(DuisFormatError, match=says):
        parse_untrusted_response(change(build_response(RESPONSES[number], None)))


def test_a_schedule_in_a_command_failure_is_skipped() -> None:
    octets = build_response(RESPONSES[7], None)
    scheduled = octets.replace(
        b"<sr:DeviceID>", b"<sr:DSPScheduleID>7</sr:DSPScheduleID><sr:DeviceID>"
    )
    assert parse_untrusted_response(scheduled).message == RESPONSES[7]


def test_bounds() -> None:
    octets = build_response(RESPONSES[1], None)
    padded = octets + b" " * (MAX_DUIS_OCTETS - len(octets))
    assert parse_untrusted_response(padded).message == RESPONSES[1]
    with pytest.raises(DuisFormatError, match="at most 65536"):
        parse_untrusted_response(padded + b" ")
    for depth in (MAX_DEPTH + 1, 300, 5000):
        with pytest.raises(DuisFormatError, match=r"deep|Excessive depth"):
            parse_untrusted_response(b"<a>" * depth + b"</a>" * depth)


@pytest.mark.parametrize(
    ("octets", "says"),
    [
        (b"<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>", "document type"),
        (b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/x.dtd'><a/>", "document type"),
        ("<!DOCTYPE a><a/>".encode("utf-16"), "well-formed"),
        (b"<?xml version='1.0' encoding='UTF-7'?>+ADwAIQ-DOCTYPE a+AD4-<a/>", "encoding"),
        (b"<?xml version='1.0' encoding='latin-1'?><a>\xe9</a>", "encoding"),
        (b"<a>&e;</a>", "well-formed"),
        (b"<a>\x00</a>", "well-formed"),
        (b"<a><!-- c --></a>", "comment"),
        (b"<!-- c --><a/>", "comment"),
        (b"<a/><!-- c -->", "comment"),
        (b"<a><?php x?></a>", "processing instruction"),
        (b"<?xml-stylesheet href='x'?><a/>", "processing instruction"),
    ],
)
def test_hostile_xml(octets: bytes, says: str) -> None:
    for parse in (parse_untrusted_request, parse_untrusted_response):
        with pytest.raises(DuisFormatError, match=says):
            parse(octets)


@pytest.mark.parametrize(
    "make",
    [
        lambda: RequestId(SUPPLIER, DEVICE, -1),
        lambda: RequestId(SUPPLIER, DEVICE, 2**64),
        lambda: UpdateAlcDescriptions(()),
        lambda: UpdateAlcDescriptions((Label(2, "a"), Label(1, "b"))),
        lambda: UpdateAlcDescriptions((Label(2, "a"), Label(2, "b"))),
        lambda: SignedPreCommandBody(b""),
        lambda: ServiceResponseBody(bytes(20_000)),
        lambda: PreCommandBody(b"a", gbcs_version="4\n3"),
        lambda: DeviceAlertBody(65536, b"a"),
        lambda: DccAlertBody("N2000", OtherBody("x")),
        lambda: QuarantinedRequest(REQUEST_ID, "x", 1),
        lambda: Throttled(-1, None),
        lambda: Throttled(None, None),
        lambda: Response("E19", MOMENT, AcknowledgementBody()),
        lambda: Response("I99", MOMENT, ErrorBody()),
        lambda: Request(SUPPLIER, DEVICE, 1, 10, UpdateAlcDescriptions(LABELS)),
        lambda: Request(SUPPLIER, DEVICE, 1, 4, OtherBody("x"), service_reference="<"),
        lambda: Request(SUPPLIER, DEVICE, 1, 4, OtherBody("x"), schema_version='5.4"'),
        lambda: Response("E9999", MOMENT, ErrorBody()),
        lambda: Response("E1", MOMENT.replace(tzinfo=None), ErrorBody()),
        lambda: Response("E1", MOMENT, ErrorBody(), service_reference=None),
        lambda: XmlSigner(None, "no name", 1),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_said(make: Callable[[], object]) -> None:
    with pytest.raises(BuildError):
        make()


def test_long_issuer_names_cost_no_time(laboratory: Any) -> None:
    octets = build_request(REQUESTS[0], laboratory.user_signer)
    name = laboratory.user_signer.issuer_name.encode()
    long_name = octets.replace(name, b"a=a," * 10_000 + b"\n=")
    assert parse_untrusted_request(long_name).signer is None


def test_codes() -> None:
    assert all(code in RESPONSE_CODES for code in Code)
    assert all(code in DCC_ALERT_CODES for code in DccAlertCode)
    assert describe("E19") == "E19 (no such device)"
    assert "not a code" in describe("E9")
    assert "service 12.2" in describe("E120207")
    assert Role.XML_SIGNING_USER == 0x87
