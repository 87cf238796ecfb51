"""The key store: finding, trusting, refusing."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from gbcs import EntityId, KeyStore, KeyUsage, Role, parse_certificate
from gbcs.errors import (
    BuildError,
    CertificateFormatError,
    CertificateNotFound,
    CertificateRefused,
    PrivateKeyNotFound,
    TestKeysRefused,
)
from gbcs.pki import Issued, TestPki

DS, KA = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT
STRANGER = EntityId.parse("90b3d51f300100ff")


def store(*items: Issued, keys: bool = False, **pems: bytes) -> KeyStore:
    named = {f"{n}.pem": item.certificate.pem for n, item in enumerate(items)}
    if keys:
        named |= {f"{n}.key": item.private_key_pem for n, item in enumerate(items)}
    return KeyStore.from_pems({**named, **pems}, test_mode=True)


def test_finds_certificates_and_keys(laboratory: Any) -> None:
    keystore = laboratory.keystore
    signing = keystore.certificate(laboratory.supplier, DS)
    assert signing.role is Role.SUPPLIER
    assert keystore.certificate(laboratory.supplier, DS, role=Role.SUPPLIER) is signing
    xml = keystore.xml_signing_certificate(laboratory.supplier, Role.XML_SIGNING_USER)
    assert xml.role is Role.XML_SIGNING_USER
    key = keystore.private_key(laboratory.device, KA)
    assert key.public_key() == keystore.certificate(laboratory.device, KA).public_key
    broker = keystore.access_control_broker()
    assert (broker.entity_id, broker.usage) == (laboratory.dcc, KA)
    assert keystore.access_control_broker(DS).usage is DS
    assert len(keystore.certificates()) == len(laboratory.issued)
    assert keystore.test_mode


def test_by_issuer_and_serial_minds_no_blanks(laboratory: Any) -> None:
    xml = laboratory.keystore.xml_signing_certificate(laboratory.dcc, Role.XML_SIGNING_DCC)
    found = laboratory.keystore.by_issuer_and_serial
    assert found(xml.issuer_name, xml.serial) == xml
    assert found(xml.issuer_name.replace(",", ", "), xml.serial) == xml
    assert found(xml.issuer_name, xml.serial + 1) is None
    assert found("CN=somebody,OU=07", xml.serial) is None


def test_shows_no_keys(laboratory: Any) -> None:
    shown = (
        repr(laboratory.keystore) + repr(laboratory.issued["root"]) + repr(laboratory.user_signer)
    )
    assert "PRIVATE" not in shown
    number = laboratory.issued["root"].private_key.private_numbers().private_value
    assert str(number) not in shown


def test_what_is_not_there(laboratory: Any) -> None:
    keystore = store(laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"])
    with pytest.raises(CertificateNotFound, match="add its PEM"):
        keystore.certificate(STRANGER, DS)
    with pytest.raises(CertificateNotFound, match="load-controller"):
        keystore.certificate(laboratory.supplier, DS, role=Role.LOAD_CONTROLLER)
    with pytest.raises(PrivateKeyNotFound, match="no private key"):
        keystore.private_key(laboratory.supplier, DS)
    with pytest.raises(CertificateNotFound, match="access control broker"):
        keystore.access_control_broker()


def test_two_roles_need_the_role(laboratory: Any) -> None:
    as_supplier = laboratory.pki.issue_organisation(STRANGER, Role.SUPPLIER, DS)
    as_operator = laboratory.pki.issue_organisation(STRANGER, Role.NETWORK_OPERATOR, DS)
    keystore = store(as_supplier, as_operator)
    with pytest.raises(CertificateNotFound, match="several roles"):
        keystore.certificate(STRANGER, DS)
    found = keystore.certificate(STRANGER, DS, role=Role.NETWORK_OPERATOR)
    assert found == as_operator.certificate


def test_the_newest_of_several(laboratory: Any) -> None:
    later = TestPki(
        *laboratory.pki.authorities(),
        random_octets=random.Random(3).randbytes,
        clock=lambda: laboratory.now.timestamp() + 1e6,
    )
    new = later.issue_organisation(laboratory.supplier, Role.SUPPLIER, DS)
    old = laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"]
    assert store(new, old).certificate(laboratory.supplier, DS) == new.certificate


def test_broken_files(laboratory: Any) -> None:
    with pytest.raises(CertificateFormatError, match=r"odd\.pem"):
        KeyStore.from_pems({"odd.pem": b"nothing"}, test_mode=True)
    orphan = ec.derive_private_key(99, ec.SECP256R1())
    pem = orphan.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    with pytest.raises(CertificateFormatError, match=r"a\.key: no certificate"):
        KeyStore.from_pems({"a.key": pem}, test_mode=True)
    locked = orphan.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    rsa_pem = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for odd in (locked, rsa_pem, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----"):
        with pytest.raises(CertificateFormatError, match=r"a\.key"):
            KeyStore.from_pems({"a.key": odd}, test_mode=True)


def test_same_serial_number_twice(laboratory: Any) -> None:
    pki = TestPki(
        *laboratory.pki.authorities(),
        random_octets=lambda count: bytes([7]) * count,
        clock=laboratory.now.timestamp,
    )
    first = pki.issue_organisation(STRANGER, Role.SUPPLIER, DS)
    second = pki.issue_organisation(laboratory.supplier, Role.SUPPLIER, DS)
    with pytest.raises(CertificateFormatError, match="serial number"):
        store(first, second)


def test_test_keys_only_in_test_mode(laboratory: Any) -> None:
    for stem, item in laboratory.issued.items():
        with pytest.raises(TestKeysRefused, match=stem):
            KeyStore.from_pems({stem: item.certificate.pem})


def check(laboratory: Any, keystore: KeyStore, stem: str, **changes: Any) -> None:
    certificate = laboratory.issued[stem].certificate
    wanted = {
        "at": laboratory.now,
        "usage": certificate.usage,
        "role": certificate.role,
        "entity_id": certificate.entity_id,
    }
    keystore.verify(certificate, **{**wanted, **changes})


def test_everything_of_the_pki_verifies(laboratory: Any) -> None:
    for stem in laboratory.issued:
        check(laboratory, laboratory.keystore, stem)
        check(laboratory, laboratory.keystore, stem, entity_id=None)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"usage": KA}, "not for keyAgreement"),
        ({"role": Role.LOAD_CONTROLLER}, "role load-controller"),
        ({"role": None}, "not of a device"),
        ({"entity_id": STRANGER}, "is not of 90-B3-D5-1F-30-01-00-FF"),
        ({"at": datetime.fromisoformat("2026-05-31T11:59:59Z")}, "not valid at"),
        ({"at": datetime.fromisoformat("2040-01-01T00:00:00Z")}, "not valid at"),
    ],
)
def test_wrong_use_is_refused(laboratory: Any, changes: dict[str, Any], says: str) -> None:
    stem = f"{laboratory.supplier.hex}-supplier-ds"
    with pytest.raises(CertificateRefused, match=says):
        check(laboratory, laboratory.keystore, stem, **changes)


def test_device_role_is_none(laboratory: Any) -> None:
    stem = f"{laboratory.device.hex}-device-ds"
    with pytest.raises(CertificateRefused, match="role supplier"):
        check(laboratory, laboratory.keystore, stem, role=Role.SUPPLIER)


def test_a_time_without_zone_is_our_fault(laboratory: Any) -> None:
    stem = f"{laboratory.device.hex}-device-ds"
    naive = laboratory.now.replace(tzinfo=None)
    with pytest.raises(BuildError, match="time zone"):
        check(laboratory, laboratory.keystore, stem, at=naive)


def test_expired_authority_expires_what_it_issued(laboratory: Any) -> None:
    stem = f"{laboratory.device.hex}-device-ds"
    with pytest.raises(CertificateRefused, match="issuing CA"):
        check(laboratory, laboratory.keystore, stem, at=laboratory.now + timedelta(days=30 * 365))


def foreign_pki() -> TestPki:
    clock = datetime.fromisoformat("2026-06-01T12:00:00Z").timestamp
    return TestPki.create(random_octets=random.Random(8).randbytes, clock=clock)


def test_chain_to_a_foreign_root_is_refused(laboratory: Any) -> None:
    intruder = foreign_pki().issue_organisation(laboratory.supplier, Role.SUPPLIER, DS)
    with pytest.raises(CertificateRefused, match="not among the trusted"):
        laboratory.keystore.verify(
            intruder.certificate, at=laboratory.now, usage=DS, role=Role.SUPPLIER, entity_id=None
        )
    root = foreign_pki().root.certificate
    with pytest.raises(CertificateRefused, match="not one of the trusted roots"):
        laboratory.keystore.verify(
            root, at=laboratory.now, usage=KeyUsage.CERT_SIGN, role=Role.ROOT, entity_id=None
        )


def test_named_issuer_must_have_signed(laboratory: Any) -> None:
    genuine = laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"].certificate
    der = bytearray(genuine.x509.public_bytes(serialization.Encoding.DER))
    der[-1] ^= 1
    forged = parse_certificate(bytes(der))
    assert forged.issuer_key_id == genuine.issuer_key_id
    with pytest.raises(CertificateRefused, match="did not sign it"):
        laboratory.keystore.verify(
            forged, at=laboratory.now, usage=DS, role=Role.SUPPLIER, entity_id=None
        )


def test_a_leaf_cannot_issue(laboratory: Any) -> None:
    supplier = laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"]
    rogue = TestPki(
        laboratory.pki.root,
        supplier,
        supplier,
        random_octets=random.Random(5).randbytes,
        clock=laboratory.now.timestamp,
    )
    certificate = rogue.issue_organisation(STRANGER, Role.ACCESS_CONTROL_BROKER, KA).certificate
    with pytest.raises(CertificateRefused, match="did not sign it"):
        laboratory.keystore.verify(
            certificate,
            at=laboratory.now,
            usage=KA,
            role=Role.ACCESS_CONTROL_BROKER,
            entity_id=None,
        )


@pytest.fixture
def earnest(monkeypatch: pytest.MonkeyPatch) -> TestPki:
    """A PKI whose names do not say that it is a test."""
    for name in ("_ROOT_NAME", "_ORGANISATION_CA_NAME", "_DEVICE_CA_NAME"):
        monkeypatch.setattr(f"gbcs.pki.{name}", name.strip("_"))
    return foreign_pki()


def in_earnest(*items: Issued) -> KeyStore:
    return KeyStore.from_pems({f"{n}.pem": i.certificate.pem for n, i in enumerate(items)})


def test_outside_test_mode_the_whole_chain_is_needed(earnest: TestPki, laboratory: Any) -> None:
    supplier = earnest.issue_organisation(STRANGER, Role.SUPPLIER, DS)
    xml = earnest.issue_xml_signing(STRANGER, Role.XML_SIGNING_USER)
    complete = in_earnest(*earnest.authorities(), supplier, xml)
    assert not complete.test_mode
    for item in (supplier, xml):
        wanted: dict[str, Any] = {
            "at": laboratory.now,
            "usage": DS,
            "role": item.certificate.role,
            "entity_id": STRANGER,
        }
        complete.verify(item.certificate, **wanted)
        for lacking in (
            in_earnest(supplier, xml),
            in_earnest(earnest.organisation_ca, supplier, xml),
            in_earnest(earnest.root, earnest.device_ca, supplier, xml),
        ):
            with pytest.raises(CertificateRefused, match="not among the trusted"):
                lacking.verify(item.certificate, **wanted)


def test_in_test_mode_a_pinned_certificate_is_enough(laboratory: Any) -> None:
    stem = f"{laboratory.supplier.hex}-supplier-ds"
    check(laboratory, store(laboratory.issued[stem]), stem)
    with pytest.raises(CertificateRefused, match="not among the trusted"):
        check(laboratory, store(laboratory.issued["root"]), stem)
