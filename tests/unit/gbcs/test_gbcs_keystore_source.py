"""Certificates of devices that a key store gets from a source when they are asked for."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime

import pytest

from gbcs import keystore as module
from gbcs.certificates import KeyUsage
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateFormatError, CertificateNotFound, TestKeysRefused
from gbcs.keystore import KeyStore
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_SUPPLIER, Issued, TestPki

NOW = datetime(2026, 6, 1, tzinfo=UTC)
SIGNING, AGREEMENT = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT
OTHER_DEVICE = EntityId(bytes(7) + b"\x02")


class Source:
    """Counts how often each certificate is read."""

    def __init__(self, issued: dict[tuple[EntityId, KeyUsage], Issued]) -> None:
        self.issued = issued
        self.reads: Counter[tuple[EntityId, KeyUsage]] = Counter()

    def __call__(self, entity_id: EntityId, usage: KeyUsage) -> bytes | None:
        self.reads[entity_id, usage] += 1
        found = self.issued.get((entity_id, usage))
        return None if found is None else found.certificate.pem


@pytest.fixture
def pki() -> TestPki:
    return TestPki.create(random_octets=random.Random(1).randbytes, clock=NOW.timestamp)


@pytest.fixture
def source(pki: TestPki) -> Source:
    return Source(
        {
            (device, usage): pki.issue_device(device, usage)
            for device in (DEFAULT_DEVICE, OTHER_DEVICE)
            for usage in (SIGNING, AGREEMENT)
        }
    )


def keystore(pki: TestPki, source: Source, *, test_mode: bool = True) -> KeyStore:
    pems = {one.file_stem: one.certificate.pem for one in pki.authorities()} if test_mode else {}
    return KeyStore.from_pems(pems, test_mode=test_mode, device_certificates=source)


def test_read_once_checked_like_any_other_and_found_by_name(pki: TestPki, source: Source) -> None:
    store = keystore(pki, source)
    expected = source.issued[DEFAULT_DEVICE, SIGNING].certificate
    assert store.by_serial(expected.serial) is None
    for _ in range(3):
        found = store.certificate(DEFAULT_DEVICE, SIGNING)
        assert found == expected
        store.verify(found, at=NOW, usage=SIGNING, role=None, entity_id=DEFAULT_DEVICE)
    assert source.reads == {(DEFAULT_DEVICE, SIGNING): 1}
    assert store.by_serial(expected.serial) == expected
    assert store.by_issuer_and_serial(expected.issuer_name, expected.serial) == expected
    assert store.by_issuer_and_serial("CN=Another", expected.serial) is None
    assert {one.usage for one in store.certificates_of(DEFAULT_DEVICE)} == {SIGNING, AGREEMENT}
    assert store.certificates_of(DEFAULT_SUPPLIER) == []


def test_the_one_not_asked_for_longest_is_forgotten(
    pki: TestPki, source: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MAX_KEPT_CERTIFICATES", 2)
    store = keystore(pki, source)
    first = store.certificate(DEFAULT_DEVICE, SIGNING)
    store.certificate(DEFAULT_DEVICE, AGREEMENT)
    store.certificate(DEFAULT_DEVICE, SIGNING)
    forgotten = source.issued[DEFAULT_DEVICE, AGREEMENT].certificate
    store.certificate(OTHER_DEVICE, SIGNING)
    assert store.by_serial(first.serial) == first
    assert store.by_serial(forgotten.serial) is None
    assert store.certificate(DEFAULT_DEVICE, AGREEMENT) == forgotten
    assert source.reads[DEFAULT_DEVICE, AGREEMENT] == 2
    assert source.reads[DEFAULT_DEVICE, SIGNING] == 1


def test_what_is_not_there_is_not_found(pki: TestPki, source: Source) -> None:
    with pytest.raises(CertificateNotFound):
        keystore(pki, source).certificate(DEFAULT_SUPPLIER, SIGNING)


def test_a_certificate_under_another_name_is_refused(pki: TestPki, source: Source) -> None:
    source.issued[DEFAULT_DEVICE, SIGNING] = source.issued[OTHER_DEVICE, SIGNING]
    with pytest.raises(CertificateFormatError, match="under the name of its device"):
        keystore(pki, source).certificate(DEFAULT_DEVICE, SIGNING)


def test_test_keys_are_refused_outside_test_mode(pki: TestPki, source: Source) -> None:
    with pytest.raises(TestKeysRefused):
        keystore(pki, source, test_mode=False).certificate(DEFAULT_DEVICE, SIGNING)
