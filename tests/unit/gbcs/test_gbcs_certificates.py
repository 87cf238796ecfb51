"""Certificates: what is read, what is refused."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from gbcs import CertificateKind, EntityId, KeyUsage, Role, parse_certificate
from gbcs.certificates import fingerprint, key_identifier
from gbcs.errors import CertificateFormatError

EUI = EntityId.parse("90-B3-D5-1F-30-01-00-00")
KEY = ec.derive_private_key(1234567, ec.SECP256R1())


def make(
    *,
    subject: list[Any] | None = None,
    key: Any = KEY,
    issuer_key: Any = KEY,
    usage: dict[str, bool] | None = None,
    critical: bool = True,
    key_id: bytes | None = b"\x40" * 8,
    alternative_name: list[x509.GeneralName] | None = None,
    hash_algorithm: Any = None,
    more: x509.ExtensionType | None = None,
) -> bytes:
    """Make an odd certificate."""
    flags = dict.fromkeys(
        (
            "digital_signature",
            "content_commitment",
            "key_encipherment",
            "data_encipherment",
            "key_agreement",
            "key_cert_sign",
            "crl_sign",
            "encipher_only",
            "decipher_only",
        ),
        False,
    )
    if subject is None:
        subject = [unit("02"), unique(b"\x00" + EUI.octets)]
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(x509.Name([unit("07"), x509.NameAttribute(NameOID.COMMON_NAME, "Z1")]))
        .public_key(key.public_key())
        .serial_number(random.Random(1).getrandbits(127))
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=10))
        .add_extension(
            x509.KeyUsage(**{**flags, **(usage or {"digital_signature": True})}), critical=critical
        )
    )
    if key_id is not None:
        builder = builder.add_extension(x509.SubjectKeyIdentifier(key_id), critical=False)
    if alternative_name is not None:
        builder = builder.add_extension(
            x509.SubjectAlternativeName(alternative_name), critical=True
        )
    if more is not None:
        builder = builder.add_extension(more, critical=True)
    signed = builder.sign(issuer_key, hash_algorithm or hashes.SHA256())
    return signed.public_bytes(serialization.Encoding.DER)


def unit(text: str) -> x509.NameAttribute[str]:
    return x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, text)


def unique(value: bytes) -> Any:
    kind = x509.name._ASN1Type.BitString
    return x509.NameAttribute(NameOID.X500_UNIQUE_IDENTIFIER, value, kind)


def hardware(der: bytes, oid: str = "1.3.6.1.5.5.7.8.4") -> list[x509.GeneralName]:
    return [x509.OtherName(x509.ObjectIdentifier(oid), der)]


def test_organisation_in_der_and_pem() -> None:
    certificate = parse_certificate(make())
    assert certificate.kind is CertificateKind.ORGANISATION
    assert certificate.entity_id == EUI
    assert certificate.role is Role.SUPPLIER
    assert certificate.usage is KeyUsage.DIGITAL_SIGNATURE
    assert certificate.issuer_name == "CN=Z1,OU=07"
    assert parse_certificate(certificate.pem) == certificate
    assert len(fingerprint(certificate)) == 32
    assert str(EUI) in str(certificate)


def test_roles_follow_the_unit() -> None:
    for role in (Role.LOAD_CONTROLLER, Role.ACCESS_CONTROL_BROKER, Role.OTHER_USER):
        der = make(subject=[unit(f"{role:02X}"), unique(b"\x00" + EUI.octets)])
        assert parse_certificate(der).role is role
    xml = parse_certificate(make(subject=[unit("87"), unique(b"\x00" + EUI.octets)]))
    assert xml.kind is CertificateKind.XML_SIGNING


def test_device_by_hardware_module_name() -> None:
    der = make(
        subject=[],
        alternative_name=hardware(bytes.fromhex("300f 0603883701 0408") + EUI.octets),
        usage={"key_agreement": True},
    )
    certificate = parse_certificate(der)
    assert certificate.kind is CertificateKind.DEVICE
    assert certificate.entity_id == EUI
    assert certificate.role is None
    assert certificate.usage is KeyUsage.KEY_AGREEMENT


@pytest.mark.parametrize(
    ("der", "says"),
    [
        (lambda: b"", "not a certificate"),
        (lambda: b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "not a cert"),
        (lambda: bytes(20_000), "at most"),
        (lambda: make()[:-1], "not a certificate"),
        (lambda: make() + b"\0", "not a certificate"),
        (lambda: make(hash_algorithm=hashes.SHA384()), "ecdsa-with-SHA256"),
        (lambda: make(key=ec.derive_private_key(5, ec.SECP384R1())), "P-256"),
        (lambda: make(key=rsa.generate_private_key(65537, 2048)), "P-256"),
        (lambda: make(critical=False), "key usage"),
        (lambda: make(usage={"key_agreement": True, "digital_signature": True}), "key usage"),
        (lambda: make(usage={"content_commitment": True}), "key usage"),
        (lambda: make(usage={"key_cert_sign": True}), "key usage"),
        (lambda: make(key_id=b"\x40" * 20), "20 octets"),
        (lambda: make(key_id=None), "no SMKI profile"),
        (lambda: make(more=x509.OCSPNoCheck()), "critical extension"),
        (lambda: make(subject=[unit("02")]), "x500UniqueIdentifier"),
        (lambda: make(subject=[unique(b"\x00" + EUI.octets)]), "without an OU"),
        (lambda: make(subject=[unit("2"), unique(b"\x00" + EUI.octets)]), "no role"),
        (lambda: make(subject=[unit("55"), unique(b"\x00" + EUI.octets)]), "no role"),
        (lambda: make(subject=[unit("02"), unique(b"\x00" + EUI.octets[1:])]), "64 bits"),
        (lambda: make(subject=[unit("02"), unique(b"\x01" + EUI.octets)]), "64 bits"),
        (lambda: make(subject=[], alternative_name=[x509.DNSName("a")]), "exactly one"),
        (lambda: make(subject=[], alternative_name=hardware(b"\x05\x00", "1.2.3")), "1.2.3"),
        (lambda: make(subject=[], alternative_name=hardware(b"\x05\x00")), "not a sequence"),
        (
            lambda: make(
                subject=[], alternative_name=hardware(bytes.fromhex("3009 0603883701 0402 0102"))
            ),
            "8 octets",
        ),
    ],
)
def test_refused(der: Callable[[], bytes], says: str) -> None:
    with pytest.raises(CertificateFormatError, match=says):
        parse_certificate(der())


def test_key_identifier_begins_with_0100() -> None:
    # RFC 5280 section 4.2.1.2 (2): four bits 0100 and 60 bits of the SHA-1.
    identifier = key_identifier(KEY.public_key())
    assert len(identifier) == 8
    assert identifier[0] >> 4 == 0b0100
