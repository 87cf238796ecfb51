"""DUIS, for any message and any damage."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from gbcs import EntityId, KeyStore, Label, Role
from gbcs.duis import (
    DCC_ALERT_CODES,
    RESPONSE_CODES,
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
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
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.duis.model import QUARANTINE_REASONS
from gbcs.errors import CertificateRefused, DuisFormatError, XmlSignatureInvalid
from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER, DEFAULT_SUPPLIER, TestPki

NOW = datetime(2026, 6, 1, tzinfo=UTC)
PKI = TestPki.create(random_octets=random.Random(1).randbytes, clock=NOW.timestamp)
ISSUED = [
    *PKI.authorities(),
    PKI.issue_xml_signing(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER),
    PKI.issue_xml_signing(DEFAULT_ACCESS_CONTROL_BROKER, Role.XML_SIGNING_DCC),
]
KEYSTORE = KeyStore.from_pems(
    {f"{i.file_stem}.pem": i.certificate.pem for i in ISSUED}
    | {f"{i.file_stem}.key": i.private_key_pem for i in ISSUED},
    test_mode=True,
)
USER = XmlSigner.from_keystore(KEYSTORE, DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)
DCC = XmlSigner.from_keystore(KEYSTORE, DEFAULT_ACCESS_CONTROL_BROKER, Role.XML_SIGNING_DCC)

entity_ids = st.binary(min_size=8, max_size=8).map(EntityId)
counters = st.integers(0, 2**64 - 1)
identifiers = st.builds(RequestId, entity_ids, entity_ids, counters)
payloads = st.binary(min_size=1, max_size=400)
texts = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=22)
labels = st.dictionaries(st.integers(1, 5), texts, min_size=1).map(
    lambda d: tuple(Label(index, d[index]) for index in sorted(d))
)
requests = st.builds(
    Request,
    originator_id=st.just(DEFAULT_SUPPLIER),
    target_id=entity_ids,
    originator_counter=counters,
    command_variant=st.integers(1, 9),
    body=st.builds(UpdateAlcDescriptions, labels) | st.builds(SignedPreCommandBody, payloads),
    schema_version=st.sampled_from(["5.2", "5.4"]),
)
unsigned_32 = st.none() | st.integers(0, 2**32 - 1)
throttled = st.none() | st.tuples(unsigned_32, unsigned_32).filter(
    lambda numbers: numbers != (None, None)
).map(lambda numbers: Throttled(*numbers))
dcc_alerts = st.builds(
    DccAlertBody,
    st.sampled_from(sorted(DCC_ALERT_CODES)),
    st.builds(CommandFailure, identifiers, entity_ids)
    | st.builds(
        QuarantinedRequest,
        identifiers,
        st.sampled_from(QUARANTINE_REASONS),
        st.integers(0, 10**20 - 1),
    ),
    throttled,
)
bodies = (
    st.builds(PreCommandBody, payloads, texts)
    | st.builds(ServiceResponseBody, payloads)
    | st.builds(DeviceAlertBody, st.integers(0, 65535), payloads, throttled)
    | dcc_alerts
)
FIRST = datetime(1000, 1, 1, tzinfo=UTC)
moments = st.integers(0, 8999 * 365 * 86_400_000).map(lambda ms: FIRST + timedelta(milliseconds=ms))
codes = sorted(RESPONSE_CODES)


@st.composite
def responses(draw: st.DrawFn) -> Response:
    code = draw(st.sampled_from(codes))
    empty = ErrorBody() if code.startswith("E") else AcknowledgementBody()
    return Response(
        response_code=code,
        response_date_time=draw(moments),
        body=draw(bodies | st.just(empty)),
        request_id=draw(st.none() | identifiers),
        response_id=draw(st.none() | identifiers),
    )


@given(requests)
def test_any_request(request: Request) -> None:
    octets = build_request(request, USER)
    assert etree.tostring(etree.fromstring(octets), method="c14n") == octets.partition(b"?>")[2]
    parsed = parse_untrusted_request(octets)
    assert parsed.message == request
    parsed.verify(KEYSTORE, role=Role.XML_SIGNING_USER, at=NOW)


@given(responses(), st.booleans())
def test_any_response(response: Response, signed: bool) -> None:
    octets = build_response(response, DCC if signed else None)
    assert etree.tostring(etree.fromstring(octets), method="c14n") == octets.partition(b"?>")[2]
    parsed = parse_untrusted_response(octets)
    assert parsed.message == response
    if signed:
        parsed.verify(KEYSTORE, role=Role.XML_SIGNING_DCC, at=NOW + timedelta(days=9))


@given(requests, st.data())
def test_any_damage_is_refused_or_harmless(request: Request, data: st.DataObject) -> None:
    """One octet changed, put in or taken out: never another message that verifies."""
    octets = bytearray(build_request(request, USER))
    position = data.draw(st.integers(0, len(octets) - 1))
    way = data.draw(st.sampled_from(["change", "insert", "delete"]))
    if way == "delete":
        del octets[position]
    elif way == "insert":
        octets.insert(position, data.draw(st.integers(0, 255)))
    else:
        octets[position] ^= data.draw(st.integers(1, 255))
    try:
        parsed = parse_untrusted_request(bytes(octets))
        parsed.verify(KEYSTORE, role=Role.XML_SIGNING_USER, at=NOW)
    except (DuisFormatError, XmlSignatureInvalid, CertificateRefused):
        return
    assert parsed.message == request


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_garbage_raises_one_kind_of_error(octets: bytes) -> None:
    for parse in (parse_untrusted_request, parse_untrusted_response):
        try:
            parse(octets)
        except DuisFormatError:
            continue
        raise AssertionError("garbage was taken for a DUIS message")
