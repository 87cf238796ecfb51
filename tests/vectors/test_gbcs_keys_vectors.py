"""The published test certificates: read, found, and trusted only in test mode."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gbcs import CertificateKind, EntityId, KeyStore, KeyUsage, Role, parse_certificate
from gbcs.errors import CertificateRefused, TestKeysRefused

# Inside the validity of every organisation's certificate of the set.
THEN = datetime(2024, 6, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 21, tzinfo=UTC)
SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")


def test_certificates_say_what_the_index_says(reference_vectors: Path) -> None:
    index = json.loads((reference_vectors / "keys" / "index.json").read_text())
    assert index
    for name, facts in index.items():
        octets = (reference_vectors / "keys" / f"{name}.pem").read_bytes()
        certificate = parse_certificate(octets)
        assert certificate.entity_id is not None
        assert certificate.entity_id.hex == facts["eui"]
        assert certificate.usage.value == facts["usage"]
        assert certificate.role == facts["role"]
        assert str(certificate.serial) == facts["serial"]


def test_found_by_role(reference_keystore: KeyStore) -> None:
    broker = reference_keystore.access_control_broker()
    assert str(broker.entity_id) == "90-B3-D5-1F-30-00-00-02"
    assert reference_keystore.certificate(DEVICE, KeyUsage.DIGITAL_SIGNATURE).role is None
    key = reference_keystore.private_key(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
    certificate = reference_keystore.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
    assert key.public_key() == certificate.public_key


def test_every_one_is_refused_outside_test_mode(reference_vectors: Path) -> None:
    for path in sorted((reference_vectors / "keys").glob("*.pem")):
        with pytest.raises(TestKeysRefused, match="test PKI"):
            KeyStore.from_pems({path.name: path.read_bytes()})


def test_trusted_in_test_mode(reference_keystore: KeyStore) -> None:
    for certificate in reference_keystore.certificates():
        moment = NOW if certificate.kind is CertificateKind.XML_SIGNING else THEN
        reference_keystore.verify(
            certificate,
            at=moment,
            usage=certificate.usage,
            role=certificate.role,
            entity_id=certificate.entity_id,
        )


def test_expired_today(reference_keystore: KeyStore) -> None:
    certificate = reference_keystore.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
    with pytest.raises(CertificateRefused, match="not valid"):
        reference_keystore.verify(
            certificate,
            at=NOW,
            usage=KeyUsage.DIGITAL_SIGNATURE,
            role=Role.SUPPLIER,
            entity_id=SUPPLIER,
        )


def test_our_key_identifiers_are_theirs(reference_keystore: KeyStore) -> None:
    from gbcs.certificates import key_identifier

    for certificate in reference_keystore.certificates():
        assert key_identifier(certificate.public_key) == certificate.key_id
