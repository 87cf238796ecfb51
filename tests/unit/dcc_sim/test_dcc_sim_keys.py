"""What was verified once is believed again only while it is valid and unrevoked."""

from __future__ import annotations

import random

import pytest

from dcc_sim.core import keys as module
from dcc_sim.core.keys import Keys
from gbcs.certificates import KeyUsage, Role
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateRefused
from gbcs.keystore import KeyStore
from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER, DEFAULT_SUPPLIER, Issued, TestPki

NOW = 1_800_000_000.0
YEAR_S = 365 * 86_400.0
SIGNING, AGREEMENT = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT
DEVICES = [EntityId(bytes(7) + bytes((number,))) for number in range(1, 4)]


@pytest.fixture
def issued() -> list[Issued]:
    pki = TestPki.create(random_octets=random.Random(1).randbytes, clock=lambda: NOW)
    broker = DEFAULT_ACCESS_CONTROL_BROKER
    return [
        pki.issue_organisation(DEFAULT_SUPPLIER, Role.SUPPLIER, SIGNING),
        pki.issue_organisation(broker, Role.ACCESS_CONTROL_BROKER, AGREEMENT),
        pki.issue_xml_signing(broker, Role.XML_SIGNING_DCC),
        *(pki.issue_device(device, AGREEMENT) for device in DEVICES),
        *pki.authorities(),
    ]


@pytest.fixture
def keys(issued: list[Issued]) -> Keys:
    pems = {f"{number}.pem": one.certificate.pem for number, one in enumerate(issued)}
    pems |= {f"{number}.key": one.private_key_pem for number, one in enumerate(issued[1:3])}
    return Keys(KeyStore.from_pems(pems, test_mode=True), DEFAULT_ACCESS_CONTROL_BROKER)


def test_expired_since_it_was_verified(keys: Keys) -> None:
    keys.supplier_signature_key(DEFAULT_SUPPLIER, NOW)
    keys.supplier_signature_key(DEFAULT_SUPPLIER, NOW + 9 * YEAR_S)
    with pytest.raises(CertificateRefused, match="not valid"):
        keys.supplier_signature_key(DEFAULT_SUPPLIER, NOW + 11 * YEAR_S)
    keys.supplier_signature_key(DEFAULT_SUPPLIER, NOW)


def test_a_ca_expired_since_it_was_verified(keys: Keys) -> None:
    keys.device_secret(DEVICES[0], NOW)
    with pytest.raises(CertificateRefused, match="not valid"):
        keys.device_secret(DEVICES[0], NOW + 26 * YEAR_S)


def test_a_clock_set_back_before_it_was_valid(keys: Keys) -> None:
    keys.device_secret(DEVICES[0], NOW)
    with pytest.raises(CertificateRefused, match="not valid"):
        keys.device_secret(DEVICES[0], NOW - 2 * 86_400.0)


def test_revoked_since_it_was_verified(keys: Keys, issued: list[Issued]) -> None:
    revoked: set[tuple[str, int]] = set()
    keys.use_revocations(revoked)
    keys.supplier_signature_key(DEFAULT_SUPPLIER, NOW)
    supplier = issued[0].certificate
    revoked.add((supplier.issuer_name, supplier.serial))
    with pytest.raises(CertificateRefused, match="revoked"):
        keys.supplier_signature_key(DEFAULT_SUPPLIER, NOW)


def test_secrets_are_computed_once_and_not_kept_for_ever(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []

    def shared_secret(_private: object, public: object) -> bytes:
        computed.append(public)
        return bytes(32)

    monkeypatch.setattr(module, "shared_secret", shared_secret)
    monkeypatch.setattr(module, "MAX_TRUSTED", 2)
    for device in (DEVICES[0], DEVICES[1], DEVICES[0], DEVICES[2], DEVICES[0], DEVICES[1]):
        assert keys.device_secret(device, NOW) == bytes(32)
    assert len(computed) == 4
