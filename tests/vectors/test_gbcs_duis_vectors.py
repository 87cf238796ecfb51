"""DUIS against the official schema and the signed examples."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lxml import etree

from gbcs import EntityId, KeyStore, Label, Role
from gbcs.duis import (
    DCC_ALERT_CODES,
    RESPONSE_CODES,
    STATUS_CHANGES,
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    DeviceRecord,
    ErrorBody,
    InventoryBody,
    LocalCommandBody,
    PreCommandBody,
    PropertyFilter,
    QuarantinedRequest,
    ReadInventory,
    Request,
    RequestId,
    Response,
    ResponseBody,
    ReturnLocalCommandResponse,
    Schema,
    ServiceResponseBody,
    SignedPreCommandBody,
    Throttled,
    UpdateAlcDescriptions,
    UpdateInventory,
    XmlSigner,
    build_request,
    build_response,
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.duis.model import QUARANTINE_REASONS
from gbcs.errors import CertificateRefused, DuisSchemaError, XmlSignatureInvalid

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DCC = EntityId.parse("90-B3-D5-1F-30-00-00-02")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
# Most of the published certificates have expired: the moment is pinned.
MOMENT = datetime(2026, 11, 21, 19, 50, tzinfo=UTC)

EXAMPLES = {
    "1_transform_request_cv4": UpdateAlcDescriptions,
    "2_precommand_response": PreCommandBody,
    "3_signed_precommand_cv5": SignedPreCommandBody,
    "4_ack_I99": AcknowledgementBody,
    "5_service_response_I0": ServiceResponseBody,
    "6_device_alert_8F88": DeviceAlertBody,
}


@pytest.fixture(scope="session")
def user_signer(reference_keystore: KeyStore) -> XmlSigner:
    return XmlSigner.from_keystore(reference_keystore, SUPPLIER, Role.XML_SIGNING_USER)


@pytest.fixture(scope="session")
def dcc_signer(reference_keystore: KeyStore) -> XmlSigner:
    return XmlSigner.from_keystore(reference_keystore, DCC, Role.XML_SIGNING_DCC)


def content(octets: bytes) -> bytes:
    """The canonical form of a message without its signature."""
    root = etree.fromstring(octets)
    for signature in root.findall("{http://www.w3.org/2000/09/xmldsig#}Signature"):
        root.remove(signature)
    return etree.tostring(root, method="c14n")


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(
    name: str,
    reference_vectors: Path,
    reference_keystore: KeyStore,
    duis_schema: Schema,
    user_signer: XmlSigner,
    dcc_signer: XmlSigner,
) -> None:
    octets = (reference_vectors / "duis" / "examples" / f"{name}.xml").read_bytes()
    if name.startswith(("1", "3")):
        request = parse_untrusted_request(octets)
        assert isinstance(request.message.body, EXAMPLES[name])
        signer = request.verify(reference_keystore, role=Role.XML_SIGNING_USER, at=MOMENT)
        assert signer.entity_id == SUPPLIER
        rebuilt = build_request(request.message, user_signer)
    else:
        response = parse_untrusted_response(octets)
        assert isinstance(response.message.body, EXAMPLES[name])
        if response.signed:
            signer = response.verify(reference_keystore, role=Role.XML_SIGNING_DCC, at=MOMENT)
            assert signer.entity_id == DCC
        rebuilt = build_response(response.message, dcc_signer if response.signed else None)
    assert content(rebuilt) == content(octets)
    duis_schema.validate(octets)
    duis_schema.validate(rebuilt)


@pytest.mark.parametrize("name", [name for name in EXAMPLES if "ack" not in name])
def test_changed_examples(name: str, reference_vectors: Path, reference_keystore: KeyStore) -> None:
    octets = (reference_vectors / "duis" / "examples" / f"{name}.xml").read_bytes()
    changed = octets.replace(b":1700000000", b":1700000009")
    assert changed != octets
    is_request = name.startswith(("1", "3"))
    parsed = (parse_untrusted_request if is_request else parse_untrusted_response)(changed)
    role = Role.XML_SIGNING_USER if is_request else Role.XML_SIGNING_DCC
    with pytest.raises(XmlSignatureInvalid):
        parsed.verify(reference_keystore, role=role, at=MOMENT)
    wrong_role = Role.XML_SIGNING_DCC if is_request else Role.XML_SIGNING_USER
    with pytest.raises(CertificateRefused):
        parsed.verify(reference_keystore, role=wrong_role, at=MOMENT)
    with pytest.raises(CertificateRefused):
        parsed.verify(reference_keystore, role=role, at=MOMENT + timedelta(days=365 * 100))


REQUEST_ID = RequestId(SUPPLIER, DEVICE, 2**64 - 1)
BODIES: list[ResponseBody] = [
    PreCommandBody(bytes(213)),
    ServiceResponseBody(b"\x00"),
    LocalCommandBody(bytes(305)),
    InventoryBody(
        (DeviceRecord(DEVICE, "ESME", "Recovered", "<&>", "~" * 30, "1", "1" * 13),) * 17
    ),
    InventoryBody((DeviceRecord(DEVICE, "CHF", None, "", ""),)),
    AcknowledgementBody(),
    ErrorBody(),
    DeviceAlertBody(0x8F88, bytes(1200)),
    DeviceAlertBody(0, b"\x01", Throttled(0, 2**32 - 1)),
    DeviceAlertBody(0xFFFF, b"\x01", Throttled(None, 1)),
    DccAlertBody("N12", CommandFailure(REQUEST_ID, DEVICE)),
    DccAlertBody("N999", CommandFailure(REQUEST_ID, DEVICE), Throttled(5, None)),
    *(
        DccAlertBody("AD1", QuarantinedRequest(REQUEST_ID, reason, 10**20 - 1))
        for reason in QUARANTINE_REASONS
    ),
]


def test_all_that_we_write_is_valid(
    duis_schema: Schema, user_signer: XmlSigner, dcc_signer: XmlSigner
) -> None:
    for body in BODIES:
        for request_id, response_id in (
            (None, None),
            (REQUEST_ID, None),
            (None, REQUEST_ID),
            (REQUEST_ID, REQUEST_ID),
        ):
            code = "E100" if isinstance(body, ErrorBody) else "I0"
            message = Response(code, MOMENT, body, request_id, response_id)
            for signer in (dcc_signer, None):
                duis_schema.validate(build_response(message, signer))
    labels = (Label(1, "<&>\"'"), Label(2, " "), Label(5, "~" * 22))
    for version in ("5.2", "5.4"):
        for variant, asked in (
            (4, UpdateAlcDescriptions(labels)),
            (5, SignedPreCommandBody(bytes(278))),
        ):
            request = Request(SUPPLIER, DEVICE, 0, variant, asked, schema_version=version)
            duis_schema.validate(build_request(request, user_signer))


@pytest.mark.parametrize(
    ("variant", "body"),
    [
        ("8.2", ReadInventory(device_id=DEVICE)),
        ("8.2", ReadInventory(mpxn="1" * 13)),
        ("8.2", ReadInventory(uprn="1" * 12)),
        ("8.2", ReadInventory(property_filter=PropertyFilter("AB1 2CD", "<&>"))),
        *(
            ("8.4", UpdateInventory(DEVICE, change, status))
            for change, statuses in STATUS_CHANGES.items()
            for status in sorted(statuses)
        ),
        ("8.13", ReturnLocalCommandResponse(bytes(123))),
        ("8.13", ReturnLocalCommandResponse(bytes(123), REQUEST_ID)),
    ],
)
def test_non_device_requests_that_we_write_are_valid(
    duis_schema: Schema,
    user_signer: XmlSigner,
    variant: str,
    body: ReadInventory | UpdateInventory | ReturnLocalCommandResponse,
) -> None:
    request = Request(SUPPLIER, DCC, 0, 8, body, variant, variant)
    duis_schema.validate(build_request(request, user_signer))


def test_every_code_of_the_schema_is_in_the_table(schema_octets: dict[str, bytes]) -> None:
    text = schema_octets["duis54.xsd"].decode()

    def values(begin: str) -> set[str]:
        start = text.index(begin)
        return set(
            re.findall(r'enumeration value="(\w+)"', text[start : text.index("</xs:simp", start)])
        )

    assert values('<xs:simpleType name="ResponseCode">') == set(RESPONSE_CODES)
    assert values('<xs:element name="DCCAlertCode">') == set(DCC_ALERT_CODES)


def test_schema_says_where_and_what(duis_schema: Schema, dcc_signer: XmlSigner) -> None:
    good = build_response(Response("I0", MOMENT, AcknowledgementBody()), dcc_signer)
    with pytest.raises(DuisSchemaError, match=r"line 1, .*ResponseCode.*I7"):
        duis_schema.validate(good.replace(b">I0<", b">I7<"))
    with pytest.raises(DuisSchemaError, match="well-formed"):
        duis_schema.validate(b"<a")
    with pytest.raises(DuisSchemaError, match="document type"):
        duis_schema.validate(b"<!DOCTYPE a><a/>")


def test_schema_without_its_files(schema_octets: dict[str, bytes]) -> None:
    with pytest.raises(DuisSchemaError, match=r"duis55\.xsd"):
        Schema(schema_octets, "duis55.xsd")
    with pytest.raises(DuisSchemaError, match=r"not given: .*mmc54\.xsd"):
        Schema({k: v for k, v in schema_octets.items() if k != "mmc54.xsd"}, "duis54.xsd")
    with pytest.raises(DuisSchemaError, match="does not load"):
        Schema({"a.xsd": b"<a"}, "a.xsd")
