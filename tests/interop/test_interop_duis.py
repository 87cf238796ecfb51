"""XML signatures against the DCC's own tool and against xmlsec1: they take ours, we take theirs.

The messages carry the identities of the published test keys, which the DCC's tool knows.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from gbcs import EntityId, KeyStore, Label, Role
from gbcs.duis import (
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
    PreCommandBody,
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
from gbcs.errors import DuisFormatError, XmlSignatureInvalid

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DCC = EntityId.parse("90-B3-D5-1F-30-00-00-02")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
MOMENT = datetime(2026, 11, 21, 19, 50, tzinfo=UTC)

REQUEST_ID = RequestId(SUPPLIER, DEVICE, 1700000000001)
RESPONSE_ID = RequestId(DEVICE, SUPPLIER, 1700000000001)
FULL = UpdateAlcDescriptions(tuple(Label(index, str(index) * 22) for index in range(1, 6)))
ODD = UpdateAlcDescriptions((Label(1, "<&>\"' ]]>"), Label(2, "   "), Label(4, " edge ")))

MESSAGES: dict[str, Request | Response] = {
    "transform": Request(SUPPLIER, DEVICE, 1700000000001, 4, FULL),
    "transform 5.2": Request(SUPPLIER, DEVICE, 0, 4, ODD, schema_version="5.2"),
    "signed pre-command": Request(SUPPLIER, DEVICE, 2**64 - 1, 5, SignedPreCommandBody(bytes(278))),
    "pre-command": Response("I0", MOMENT, PreCommandBody(bytes(213)), REQUEST_ID),
    "service response": Response(
        "I0", MOMENT, ServiceResponseBody(bytes(123)), REQUEST_ID, RESPONSE_ID
    ),
    "device alert": Response(
        "I0", MOMENT, DeviceAlertBody(0x8F88, bytes(1200), Throttled(1, 2)), None, RESPONSE_ID
    ),
    "DCC alert": Response(
        "I0", MOMENT, DccAlertBody("N12", CommandFailure(REQUEST_ID, DEVICE)), REQUEST_ID
    ),
    "signed error": Response("E20", MOMENT, ErrorBody(), REQUEST_ID),
}


class Files:
    """Certificate and key of who signs a kind of message, as files."""

    def __init__(self, folder: Path, message: Request | Response) -> None:
        stem = (
            "90b3d51f30010000-xml-sign-90B3D51F30010000-ds"
            if isinstance(message, Request)
            else "90b3d51f30000002-dsp-xml-sign-90B3D51F30000002-ds"
        )
        self.certificate = folder / "keys" / f"{stem}.pem"
        self.key = folder / "keys" / f"{stem}.key"


def signed_by_us(message: Request | Response, keystore: KeyStore) -> bytes:
    if isinstance(message, Request):
        user = XmlSigner.from_keystore(keystore, SUPPLIER, Role.XML_SIGNING_USER)
        return build_request(message, user)
    return build_response(message, XmlSigner.from_keystore(keystore, DCC, Role.XML_SIGNING_DCC))


def accepted_by_us(octets: bytes, message: Request | Response, keystore: KeyStore) -> bool:
    is_request = isinstance(message, Request)
    role = Role.XML_SIGNING_USER if is_request else Role.XML_SIGNING_DCC
    try:
        parsed = (parse_untrusted_request if is_request else parse_untrusted_response)(octets)
        parsed.verify(keystore, role=role, at=MOMENT)
    except (DuisFormatError, XmlSignatureInvalid):
        return False
    assert parsed.message == message
    return True


def unsigned(octets: bytes) -> bytes:
    return re.sub(rb"<ds:Signature .*</ds:Signature>", b"", octets, flags=re.DOTALL)


def with_namespaces(octets: bytes) -> bytes:
    """Declare namespaces that nothing uses: here inclusive and exclusive C14N differ."""
    changed = octets.replace(b" schemaVersion=", b' xmlns:unused="urn:unused" schemaVersion=', 1)
    root = etree.fromstring(changed)
    forms = {etree.tostring(root, method="c14n", exclusive=flag) for flag in (True, False)}
    assert len(forms) == 2
    return changed


def indented(octets: bytes) -> bytes:
    return re.sub(rb"><(?!/)", b">\n    <", octets)


@pytest.mark.parametrize("name", MESSAGES)
def test_the_dcc_takes_ours(name: str, dcc_tool: Any, reference_keystore: KeyStore) -> None:
    octets = signed_by_us(MESSAGES[name], reference_keystore)
    outcome = dcc_tool.validate(octets)
    assert outcome.code == 0, outcome.log
    assert "passed xsd validation" in outcome.log
    assert "passed signature check" in outcome.log


@pytest.mark.parametrize("form", [unsigned, lambda o: with_namespaces(unsigned(o))])
@pytest.mark.parametrize("name", MESSAGES)
def test_we_take_the_dccs(
    name: str,
    form: Callable[[bytes], bytes],
    dcc_tool: Any,
    reference_vectors: Path,
    reference_keystore: KeyStore,
) -> None:
    message = MESSAGES[name]
    files = Files(reference_vectors, message)
    document = form(signed_by_us(message, reference_keystore))
    octets = dcc_tool.sign(document, files.certificate, files.key)
    assert b"&#13;" in octets
    assert accepted_by_us(octets, message, reference_keystore)
    damaged = octets.replace(b'schemaVersion="5.', b'schemaVersion="5.1')
    assert not accepted_by_us(damaged, message, reference_keystore)


def test_both_agree_on_variations(
    dcc_tool: Any, reference_vectors: Path, reference_keystore: KeyStore
) -> None:
    message = MESSAGES["transform"]
    files = Files(reference_vectors, message)
    octets = signed_by_us(message, reference_keystore)
    declared = dcc_tool.sign(with_namespaces(unsigned(octets)), files.certificate, files.key)
    variations: dict[str, tuple[bytes, bool]] = {
        # White space between elements is dropped before signing and before verifying.
        "indented after signing": (indented(octets), True),
        "indented before signing": (
            dcc_tool.sign(indented(unsigned(octets)), files.certificate, files.key),
            True,
        ),
        "declared before signing": (declared, True),
        "declared after signing": (with_namespaces(octets), False),
        "declaration taken out": (declared.replace(b' xmlns:unused="urn:unused"', b""), False),
        "label changed": (octets.replace(b"333333", b"333334"), False),
        "blank in a label": (octets.replace(b">3333", b"> 333"), False),
        "counter changed": (octets.replace(b":1700000000001<", b":1700000000002<"), False),
        "EUI in lower case after signing": (
            octets.replace(b"90-B3-D5-1F", b"90-b3-d5-1f"),
            False,
        ),
        "signature value changed": (
            re.sub(rb"(<ds:SignatureValue>)....", rb"\1AAAA", octets),
            False,
        ),
        "two signatures": (
            octets.replace(b"</sr:Request>", octets[octets.index(b"<ds:Signature ") :]),
            False,
        ),
        "document type": (octets.replace(b"<sr:Request ", b"<!DOCTYPE a><sr:Request "), False),
    }
    for name, (changed, expected) in variations.items():
        assert accepted_by_us(changed, message, reference_keystore) is expected, name
        assert (dcc_tool.validate(changed).code == 0) is expected, name


def test_where_we_are_stricter(dcc_tool: Any, reference_keystore: KeyStore) -> None:
    """A comment is not signed: the DCC's tool overlooks it, we refuse the message."""
    message = MESSAGES["transform"]
    octets = signed_by_us(message, reference_keystore)
    commented = octets.replace(b"<sr:Body>", b"<!-- what? --><sr:Body>")
    assert dcc_tool.accepts(commented)
    assert not accepted_by_us(commented, message, reference_keystore)


def test_unsigned_acknowledgement(dcc_tool: Any) -> None:
    message = Response("I99", MOMENT, AcknowledgementBody(), REQUEST_ID)
    outcome = dcc_tool.validate(build_response(message, None))
    assert outcome.code == 0
    assert "passed xsd validation" in outcome.log
    assert "without signature" in outcome.log


@pytest.mark.parametrize("name", MESSAGES)
def test_xmlsec_takes_ours(name: str, xmlsec: Any, reference_keystore: KeyStore) -> None:
    message = MESSAGES[name]
    role = Role.XML_SIGNING_USER if isinstance(message, Request) else Role.XML_SIGNING_DCC
    signer = SUPPLIER if isinstance(message, Request) else DCC
    public_key = reference_keystore.xml_signing_certificate(signer, role).public_key
    octets = signed_by_us(message, reference_keystore)
    assert xmlsec.verifies(octets, public_key)
    assert not xmlsec.verifies(with_namespaces(octets), public_key)


@pytest.mark.parametrize("form", [lambda o: o, with_namespaces])
@pytest.mark.parametrize("name", MESSAGES)
def test_we_take_xmlsecs(
    name: str,
    form: Callable[[bytes], bytes],
    xmlsec: Any,
    reference_vectors: Path,
    reference_keystore: KeyStore,
) -> None:
    message = MESSAGES[name]
    template = form(signed_by_us(message, reference_keystore))
    for value in (rb"DigestValue", rb"SignatureValue"):
        pattern = rb"<ds:" + value + rb">[^<]*<"
        template = re.sub(pattern, rb"<ds:" + value + rb"><", template)
    octets = xmlsec.sign(template, Files(reference_vectors, message).key)
    assert accepted_by_us(octets, message, reference_keystore)
