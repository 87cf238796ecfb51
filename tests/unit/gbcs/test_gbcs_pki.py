"""The test PKI: profiles, determinism, and going on with one made earlier."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from gbcs import CertificateKind, EntityId, KeyUsage, Role
from gbcs.errors import BuildError, CertificateFormatError
from gbcs.pki import TestPki

DS, KA = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT


def test_same_inputs_same_octets() -> None:
    def make() -> list[bytes]:
        pki = TestPki.create(random_octets=random.Random(1).randbytes, clock=lambda: 1.7e9)
        device = pki.issue_device(EntityId(bytes(8)), DS)
        return [
            item.certificate.pem + item.private_key_pem for item in (*pki.authorities(), device)
        ]

    assert make() == make()


def test_serial_numbers_are_sixteen_octets() -> None:
    for filling in (0x00, 0xFF):
        octets = bytes([filling, *range(1, 42)])
        pki = TestPki.create(random_octets=lambda n, o=octets: o[:n], clock=lambda: 1.7e9)
        serial = pki.root.certificate.serial
        assert serial.bit_length() == 127


def test_profile_of_organisation(laboratory: Any) -> None:
    certificate = laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"].certificate
    authority = laboratory.issued["issuing-ca-organisations"].certificate
    assert authority.subject_name == "CN=SMTUNNEL TEST Z1,OU=07"
    assert certificate.issuer_name == authority.subject_name
    assert certificate.issuer_key_id == authority.key_id
    assert (certificate.not_after - certificate.not_before).days == 3650
    extensions = certificate.x509.extensions
    assert {e.oid.dotted_string for e in extensions if e.critical} == {"2.5.29.15", "2.5.29.32"}
    policies = extensions.get_extension_for_class(x509.CertificatePolicies).value
    assert policies[0].policy_identifier.dotted_string == "1.2.826.0.1.8641679.1.2.1.4"


def test_profile_of_device(laboratory: Any) -> None:
    certificate = laboratory.issued[f"{laboratory.device.hex}-device-ka"].certificate
    assert certificate.subject_name == ""
    der = certificate.x509.public_bytes(serialization.Encoding.DER)
    assert b"99991231235959Z" in der
    assert b"\x04\x08" + laboratory.device.octets in der
    critical = {e.oid.dotted_string for e in certificate.x509.extensions if e.critical}
    assert critical == {"2.5.29.15", "2.5.29.17", "2.5.29.32"}


def test_profile_of_authorities(laboratory: Any) -> None:
    root, *issuing = (item.certificate for item in laboratory.pki.authorities())
    assert (root.kind, root.issuer_key_id) == (CertificateKind.ROOT, None)
    for certificate in issuing:
        assert certificate.kind is CertificateKind.ISSUING_CA
        assert certificate.issuer_key_id == root.key_id
        constraints = certificate.x509.extensions.get_extension_for_class(x509.BasicConstraints)
        assert constraints.critical
        assert constraints.value.path_length == 0


def test_wrong_wishes(laboratory: Any) -> None:
    pki = laboratory.pki
    with pytest.raises(BuildError, match="organisation"):
        pki.issue_organisation(laboratory.supplier, Role.XML_SIGNING_USER, DS)
    with pytest.raises(BuildError, match="XML signing"):
        pki.issue_xml_signing(laboratory.supplier, Role.SUPPLIER)
    with pytest.raises(BuildError, match="for CAs"):
        pki.issue_device(laboratory.device, KeyUsage.CERT_SIGN)


def test_load_again_and_go_on(laboratory: Any) -> None:
    authorities = laboratory.pki.authorities()
    certificates = tuple(item.certificate.pem for item in authorities)
    keys = tuple(item.private_key_pem for item in authorities)
    arguments = {"random_octets": random.Random(4).randbytes, "clock": lambda: 1.78e9}
    again = TestPki.load(certificates, keys, **arguments)
    device = again.issue_device(EntityId(bytes(7) + b"\x09"), DS).certificate
    laboratory.keystore.verify(
        device,
        at=datetime(2026, 7, 1, tzinfo=UTC),
        usage=DS,
        role=None,
        entity_id=EntityId(bytes(7) + b"\x09"),
    )
    with pytest.raises(BuildError, match="not that of"):
        TestPki.load(certificates, keys[::-1], **arguments)
    with pytest.raises(CertificateFormatError):
        TestPki.load((b"", *certificates[1:]), keys, **arguments)
    leaf = laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"]
    with pytest.raises(BuildError, match="not a CA of a test PKI"):
        TestPki.load(
            (leaf.certificate.pem, *certificates[1:]),
            (leaf.private_key_pem, *keys[1:]),
            **arguments,
        )
