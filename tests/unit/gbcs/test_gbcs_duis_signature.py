"""XML signatures: what holds, and every attack that must not.

Attacks are made with a signer of this test's own, built on lxml, so that their digests and
signatures are true: what refuses them is the strictness of the profile.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from lxml import etree

from gbcs import EntityId, KeyUsage, Label, Role
from gbcs.duis import (
    AcknowledgementBody,
    ParsedRequest,
    Request,
    Response,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    build_response,
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.errors import (
    CertificateNotFound,
    CertificateRefused,
    DuisFormatError,
    PrivateKeyNotFound,
    XmlSignatureInvalid,
)

DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
DS = "http://www.w3.org/2000/09/xmldsig#"
SIGNED_INFO = f"""<ds:SignedInfo xmlns:ds="{DS}">\
<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>\
<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"/>\
<ds:Reference URI=""><ds:Transforms>\
<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>\
</ds:Transforms><ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"/>\
<ds:DigestValue>DIGEST</ds:DigestValue></ds:Reference></ds:SignedInfo>"""
KEY_INFO = (
    "<ds:KeyInfo><ds:X509Data><ds:X509IssuerSerial><ds:X509IssuerName>ISSUER</ds:X509IssuerName>"
    "<ds:X509SerialNumber>SERIAL</ds:X509SerialNumber></ds:X509IssuerSerial></ds:X509Data>"
    "</ds:KeyInfo>"
)


def request_of(laboratory: Any) -> Request:
    body = UpdateAlcDescriptions((Label(1, "heat pump"),))
    return Request(laboratory.supplier, DEVICE, 77, 4, body)


def unsigned(laboratory: Any) -> bytes:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    return re.sub(rb"<ds:Signature.*</ds:Signature>", b"", octets)


def craft(
    laboratory: Any,
    document: bytes,
    *,
    signed_info: str = SIGNED_INFO,
    key_info: str = KEY_INFO,
    more: str = "",
    exclusive: bool = False,
    digest: str = "sha256",
    info_c14n: dict[str, Any] | None = None,
) -> bytes:
    """Sign a document as an attacker with a genuine key would, in any form wished."""
    root = etree.fromstring(document)
    canonical = etree.tostring(root, method="c14n", exclusive=exclusive)
    value = base64.b64encode(hashlib.new(digest, canonical).digest()).decode()
    info = etree.fromstring(signed_info.replace("DIGEST", value))
    over = etree.tostring(info, method="c14n", **(info_c14n or {"exclusive": True}))
    signature = base64.b64encode(laboratory.user_signer.signer.sign(over)).decode()
    keys = key_info.replace("ISSUER", laboratory.user_signer.issuer_name)
    keys = keys.replace("SERIAL", str(laboratory.user_signer.serial))
    text = (
        f'<ds:Signature xmlns:ds="{DS}">{signed_info.replace("DIGEST", value)}'
        f"<ds:SignatureValue>{signature}</ds:SignatureValue>{keys}{more}</ds:Signature>"
    )
    end = document.rindex(b"</")
    return document[:end] + text.encode() + document[end:]


def verify(laboratory: Any, octets: bytes, **changes: Any) -> Any:
    wanted = {"role": Role.XML_SIGNING_USER, "at": laboratory.now}
    parsed = parse_untrusted_request(octets)
    return parsed.verify(laboratory.keystore, **{**wanted, **changes})


def test_our_signatures_hold(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    certificate = verify(laboratory, octets)
    assert certificate.entity_id == laboratory.supplier
    answer = Response("I99", laboratory.now, AcknowledgementBody())
    parsed = parse_untrusted_response(build_response(answer, laboratory.dcc_signer))
    wanted: dict[str, Any] = {"role": Role.XML_SIGNING_DCC, "at": laboratory.now}
    assert parsed.verify(laboratory.keystore, **wanted).entity_id == laboratory.dcc
    parsed.verify(laboratory.keystore, **wanted, entity_id=laboratory.dcc)
    with pytest.raises(CertificateRefused, match="is not of"):
        parsed.verify(laboratory.keystore, **wanted, entity_id=laboratory.supplier)


def test_crafted_signatures_hold(laboratory: Any) -> None:
    """The attacker's tool makes good signatures when it is not asked to attack."""
    verify(laboratory, craft(laboratory, unsigned(laboratory)))


def test_verifying_twice_gives_the_same(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    parsed = parse_untrusted_request(octets)
    for _ in range(2):
        parsed.verify(laboratory.keystore, role=Role.XML_SIGNING_USER, at=laboratory.now)


def test_line_breaks_and_indentation_are_tolerated(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    found = re.search(rb"<ds:SignatureValue>(.*)</ds:SignatureValue>", octets)
    assert found is not None
    value = found[1]
    for between in (b"&#13;\n", b"\r\n", b"&#xD;", b" ", b"\n\n"):
        broken = value[:76] + between + value[76:] + between
        verify(laboratory, octets.replace(value, broken))
    verify(laboratory, re.sub(rb"><(?!/)", b">\r\n  <", octets))


def with_namespace(octets: bytes, declaration: bytes) -> bytes:
    return octets.replace(b"<sr:Request ", b"<sr:Request " + declaration + b" ")


def test_digest_is_over_inclusive_c14n(laboratory: Any) -> None:
    """An unused namespace declaration: inclusive C14N keeps it, exclusive drops it."""
    document = with_namespace(unsigned(laboratory), b'xmlns:unused="urn:example"')
    root = etree.fromstring(document)
    forms = {etree.tostring(root, method="c14n", exclusive=flag) for flag in (True, False)}
    assert len(forms) == 2
    verify(laboratory, craft(laboratory, document, exclusive=False))
    with pytest.raises(XmlSignatureInvalid, match="digest does not hold"):
        verify(laboratory, craft(laboratory, document, exclusive=True))


def test_declarations_above_the_signature_do_not_reach_signed_info(laboratory: Any) -> None:
    for declaration in (b'xmlns:ds="http://www.w3.org/2000/09/xmldsig#"', b'xmlns:x="urn:x"'):
        verify(laboratory, craft(laboratory, with_namespace(unsigned(laboratory), declaration)))


def test_other_prefixes_hold(laboratory: Any) -> None:
    document = unsigned(laboratory).replace(b"<sr:", b"<").replace(b"</sr:", b"</")
    document = document.replace(b"xmlns:sr=", b"xmlns=")
    info = SIGNED_INFO.replace("ds:", "").replace("xmlns:ds", "xmlns")
    verify(laboratory, craft(laboratory, document))
    verify(laboratory, craft(laboratory, document, signed_info=info))


def test_without_canonical_form(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    for changed in (
        with_namespace(octets, b'xmlns:x="relative"'),
        octets.replace(b"<ds:SignedInfo>", b'<ds:SignedInfo xmlns:x="relative"><x:y/>'),
    ):
        with pytest.raises((DuisFormatError, XmlSignatureInvalid)):
            verify(laboratory, changed)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"heat pump", b"heat dump"),
        (b":77<", b":78<"),
        (b">4</sr:C", b">5</sr:C"),
        (b'schemaVersion="5.4"', b'schemaVersion="5.3"'),
        (b'index="1"', b'index="2"'),
        (b"<sr:Request ", b'<sr:Request xmlns:more="urn:more" '),
        (b">heat pump<", b"> heat pump<"),
    ],
)
def test_any_change_is_seen(laboratory: Any, old: bytes, new: bytes) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    assert octets.count(old) == 1
    with pytest.raises(XmlSignatureInvalid, match="digest does not hold"):
        verify(laboratory, octets.replace(old, new))


def test_the_signature_itself_is_checked(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    found = re.search(rb"<ds:SignatureValue>(.*)</ds:SignatureValue>", octets)
    assert found is not None
    for raw in (bytes(64), b"\xff" * 64, bytes(63) + b"\x01"):
        with pytest.raises(XmlSignatureInvalid, match="does not hold"):
            verify(laboratory, octets.replace(found[1], base64.b64encode(raw)))
    other = build_request(
        replace(request_of(laboratory), target_id=laboratory.device), laboratory.user_signer
    )
    moved = re.search(rb"<ds:Signature .*</ds:Signature>", other)
    assert moved is not None
    swapped = re.sub(rb"<ds:Signature .*</ds:Signature>", moved[0], octets)
    with pytest.raises(XmlSignatureInvalid, match="digest does not hold"):
        verify(laboratory, swapped)


def signed_info(old: str, new: str) -> dict[str, str]:
    assert old in SIGNED_INFO
    return {"signed_info": SIGNED_INFO.replace(old, new)}


def key_info(old: str, new: str) -> dict[str, str]:
    assert old in KEY_INFO
    return {"key_info": KEY_INFO.replace(old, new)}


ENVELOPED = '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"/>'
REFERENCE = SIGNED_INFO[SIGNED_INFO.index("<ds:Reference") : SIGNED_INFO.index("</ds:SignedInfo")]


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(
            {
                **signed_info("xml-exc-c14n#", "xml-exc-c14n#WithComments"),
                "info_c14n": {"exclusive": True, "with_comments": True},
            },
            id="C14N with comments",
        ),
        pytest.param(
            {
                **signed_info(
                    "http://www.w3.org/2001/10/xml-exc-c14n#",
                    "http://www.w3.org/TR/2001/REC-xml-c14n-20010315",
                ),
                "info_c14n": {"exclusive": False},
            },
            id="inclusive C14N of SignedInfo",
        ),
        pytest.param(signed_info("ecdsa-sha256", "ecdsa-sha1"), id="ECDSA with SHA-1"),
        pytest.param(signed_info("ecdsa-sha256", "hmac-sha256"), id="HMAC with the public key"),
        pytest.param(
            {**signed_info("xmlenc#sha256", "xmlenc#sha512"), "digest": "sha512"}, id="SHA-512"
        ),
        pytest.param({"digest": "sha1"}, id="SHA-1 in the place of SHA-256"),
        pytest.param(signed_info('URI=""', 'URI="#body"'), id="reference to a part"),
        pytest.param(signed_info(' URI=""', ""), id="reference without URI"),
        pytest.param(signed_info('URI=""', 'URI="" Id="x"'), id="reference with Id"),
        pytest.param(signed_info('URI=""', 'URI="" Type="x"'), id="reference with Type"),
        pytest.param(signed_info(ENVELOPED, ENVELOPED * 2), id="two transforms"),
        pytest.param(signed_info(ENVELOPED, ""), id="no transform"),
        pytest.param(
            signed_info(
                ENVELOPED,
                ENVELOPED + '<ds:Transform Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"/>',
            ),
            id="transform to exclusive C14N",
        ),
        pytest.param(
            signed_info(
                "#enveloped-signature",
                "http://www.w3.org/TR/1999/REC-xpath-19991116",
            ),
            id="XPath transform",
        ),
        pytest.param(signed_info(REFERENCE, REFERENCE * 2), id="two references"),
        pytest.param(signed_info(REFERENCE, ""), id="no reference"),
        pytest.param(
            signed_info(REFERENCE, REFERENCE + REFERENCE.replace('URI=""', 'URI="#x"')),
            id="second reference elsewhere",
        ),
        pytest.param(
            signed_info(
                'xml-exc-c14n#"/>',
                'xml-exc-c14n#"><ec:InclusiveNamespaces '
                'xmlns:ec="http://www.w3.org/2001/10/xml-exc-c14n#" PrefixList="sr"/>'
                "</ds:CanonicalizationMethod>",
            ),
            id="InclusiveNamespaces",
        ),
        pytest.param(
            signed_info(
                'ecdsa-sha256"/>',
                'ecdsa-sha256"><ds:HMACOutputLength>8</ds:HMACOutputLength></ds:SignatureMethod>',
            ),
            id="truncated output",
        ),
        pytest.param(signed_info("<ds:SignedInfo ", '<ds:SignedInfo Id="i" '), id="SignedInfo Id"),
        pytest.param(
            key_info("<ds:X509Data>", "<ds:X509Data><ds:X509Certificate>AA==</ds:X509Certificate>"),
            id="embedded certificate",
        ),
        pytest.param(
            key_info(
                "</ds:X509Data>", "<ds:X509SubjectName>CN=x</ds:X509SubjectName></ds:X509Data>"
            ),
            id="subject name",
        ),
        pytest.param(
            key_info("<ds:KeyInfo>", "<ds:KeyInfo><ds:KeyValue>AA==</ds:KeyValue>"), id="key value"
        ),
        pytest.param(
            key_info("<ds:KeyInfo>", '<ds:KeyInfo><ds:RetrievalMethod URI="http://x"/>'),
            id="key from elsewhere",
        ),
        pytest.param({"key_info": ""}, id="no KeyInfo"),
        pytest.param({"key_info": "<ds:KeyInfo/>"}, id="empty KeyInfo"),
        pytest.param({"key_info": KEY_INFO * 2}, id="two KeyInfos"),
        pytest.param(key_info("SERIAL", "0x14"), id="serial in hexadecimal"),
        pytest.param(key_info("SERIAL", "-1"), id="negative serial"),
        pytest.param(key_info("ISSUER", ""), id="no issuer"),
        pytest.param({"more": "<ds:Object/>"}, id="Object"),
        pytest.param({"more": '<ds:Object><x Id="body"/></ds:Object>'}, id="Object with content"),
    ],
)
def test_other_profiles_are_refused(laboratory: Any, form: dict[str, Any]) -> None:
    octets = craft(laboratory, unsigned(laboratory), **form)
    parsed = parse_untrusted_request(octets)
    assert parsed.signed
    assert parsed.signer is None
    with pytest.raises(XmlSignatureInvalid, match="another profile"):
        parsed.verify(laboratory.keystore, role=Role.XML_SIGNING_USER, at=laboratory.now)


def test_unsigned_is_not_verified(laboratory: Any) -> None:
    parsed = parse_untrusted_request(unsigned(laboratory))
    assert not parsed.signed
    with pytest.raises(XmlSignatureInvalid, match="not signed"):
        parsed.verify(laboratory.keystore, role=Role.XML_SIGNING_USER, at=laboratory.now)


def signature_of(octets: bytes) -> bytes:
    found = re.search(rb"<ds:Signature .*</ds:Signature>", octets)
    assert found is not None
    return found[0]


EVIL_BODY = (
    b'<sr:Body><sr:UpdateDeviceConfigurationALCDescriptions><sr:ALCSHCALCSDescription index="1">'
    b"<sr:SwitchDescription>evil</sr:SwitchDescription></sr:ALCSHCALCSDescription>"
    b"</sr:UpdateDeviceConfigurationALCDescriptions></sr:Body>"
)


def wrap_whole(octets: bytes) -> bytes:
    """The genuine message in a place nobody reads, a forged one around it."""
    inner = octets[octets.index(b"<sr:Request") :]
    head = octets[octets.index(b"<sr:Request") : octets.index(b"<sr:Body")]
    return head + EVIL_BODY + b"<sr:Wrapper>" + inner + b"</sr:Wrapper></sr:Request>"


def wrap_in_object(octets: bytes) -> bytes:
    """The genuine message inside the signature's own Object, which the transform takes out."""
    genuine = re.sub(rb"<ds:Signature .*</ds:Signature>", b"", octets)
    genuine = genuine[genuine.index(b"<sr:Request") :]
    signature = signature_of(octets).replace(
        b"</ds:Signature>", b"<ds:Object>" + genuine + b"</ds:Object></ds:Signature>"
    )
    head = octets[octets.index(b"<sr:Request") : octets.index(b"<sr:Body")]
    return head + EVIL_BODY + signature + b"</sr:Request>"


@pytest.mark.parametrize(
    "attack",
    [
        wrap_whole,
        wrap_in_object,
        pytest.param(lambda o: o.replace(b"<sr:Body>", EVIL_BODY + b"<sr:Body>"), id="two bodies"),
        pytest.param(
            lambda o: o.replace(b"</sr:Body>", b"</sr:Body>" + EVIL_BODY), id="body after"
        ),
        pytest.param(
            lambda o: o.replace(b"</sr:Request>", signature_of(o) + b"</sr:Request>"),
            id="duplicate signature",
        ),
        pytest.param(
            lambda o: o.replace(signature_of(o), b"").replace(
                b"<sr:Body>", signature_of(o) + b"<sr:Body>"
            ),
            id="signature before the body",
        ),
        pytest.param(
            lambda o: o.replace(signature_of(o), b"").replace(
                b"<sr:Body>", b"<sr:Body>" + signature_of(o)
            ),
            id="signature in the body",
        ),
        pytest.param(
            lambda o: o.replace(signature_of(o), b"").replace(
                b"<sr:Header>", b"<sr:Header>" + signature_of(o)
            ),
            id="signature in the header",
        ),
        pytest.param(lambda o: o.replace(b"heat pump", b"heat<!-- x --> pump"), id="comment"),
        pytest.param(lambda o: o.replace(b"heat pump", b"heat<?x?> pump"), id="instruction"),
        pytest.param(lambda o: o.replace(b"<sr:Request", b"<!DOCTYPE x><sr:Request"), id="DTD"),
        pytest.param(
            lambda o: o.replace(b"<ds:SignedInfo>", b"<!-- x --><ds:SignedInfo>"),
            id="comment in the signature",
        ),
        pytest.param(lambda o: o.replace(b"<sr:Body>", b'<sr:Body Id="x">'), id="Id attribute"),
        pytest.param(
            lambda o: o.replace(b"</ds:Signature>", b"</ds:Signature>text"), id="text at the end"
        ),
    ],
)
def test_wrapping_and_moving(laboratory: Any, attack: Callable[[bytes], bytes]) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    changed = attack(octets)
    assert changed != octets
    with pytest.raises((DuisFormatError, XmlSignatureInvalid)):
        verify(laboratory, changed)


def test_signature_hidden_in_a_body_that_is_not_read(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), laboratory.user_signer)
    strange = unsigned(laboratory).replace(
        b"UpdateDeviceConfigurationALCDescriptions", b"ReadSchedule"
    )
    hidden = strange.replace(b"</sr:ReadSched", signature_of(octets) + b"</sr:ReadSched")
    with pytest.raises(DuisFormatError, match="inside the body"):
        parse_untrusted_request(hidden)


def test_who_signs_for_whom(laboratory: Any) -> None:
    controller = XmlSigner.from_keystore(
        laboratory.keystore, laboratory.load_controller, Role.XML_SIGNING_USER
    )
    as_supplier = build_request(request_of(laboratory), controller)
    with pytest.raises(CertificateRefused, match="is not of 90-B3-D5-1F-30-01-00-00"):
        verify(laboratory, as_supplier)
    by_the_dcc = build_request(
        replace(request_of(laboratory), originator_id=laboratory.dcc), laboratory.dcc_signer
    )
    with pytest.raises(CertificateRefused, match="role xml-signing-user"):
        verify(laboratory, by_the_dcc)


def test_a_gbcs_key_signs_no_xml(laboratory: Any) -> None:
    certificate = laboratory.keystore.certificate(
        laboratory.supplier, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER
    )
    signer = replace(laboratory.user_signer, serial=certificate.serial)
    with pytest.raises(CertificateRefused, match="role xml-signing-user"):
        verify(laboratory, build_request(request_of(laboratory), signer))


def test_unknown_and_expired_certificates(laboratory: Any) -> None:
    octets = build_request(request_of(laboratory), replace(laboratory.user_signer, serial=5))
    with pytest.raises(CertificateRefused, match="serial number 5"):
        verify(laboratory, octets)
    genuine = build_request(request_of(laboratory), laboratory.user_signer)
    for moment in (datetime(2200, 1, 1, tzinfo=UTC), laboratory.now - timedelta(days=2)):
        with pytest.raises(CertificateRefused, match="not valid at"):
            verify(laboratory, genuine, at=moment)


def test_signer_needs_certificate_and_key(laboratory: Any) -> None:
    with pytest.raises(CertificateNotFound):
        XmlSigner.from_keystore(laboratory.keystore, DEVICE, Role.XML_SIGNING_USER)
    stem = f"{laboratory.supplier.hex}-user-xml"
    without_key = type(laboratory.keystore).from_pems(
        {"a.pem": laboratory.issued[stem].certificate.pem}, test_mode=True
    )
    with pytest.raises(PrivateKeyNotFound):
        XmlSigner.from_keystore(without_key, laboratory.supplier, Role.XML_SIGNING_USER)


def test_nothing_of_the_tree_is_shown(laboratory: Any) -> None:
    parsed = parse_untrusted_request(build_request(request_of(laboratory), laboratory.user_signer))
    assert isinstance(parsed, ParsedRequest)
    assert "Element" not in repr(parsed)
