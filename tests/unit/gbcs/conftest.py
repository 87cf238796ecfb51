"""A test PKI in memory, the same in every run, and those who sign with it."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from gbcs import EntityId, KeyStore, KeyUsage, Role
from gbcs.duis import XmlSigner
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_DEVICE,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
    Issued,
    TestPki,
)

NOW = datetime(2026, 6, 1, 12, 0, tzinfo=UTC)


@dataclass(frozen=True)
class Laboratory:
    """Everybody of a small system with keys in one store."""

    pki: TestPki
    issued: dict[str, Issued]
    keystore: KeyStore
    now: datetime
    supplier: EntityId
    load_controller: EntityId
    dcc: EntityId
    device: EntityId
    user_signer: XmlSigner
    dcc_signer: XmlSigner


def pems_of(issued: dict[str, Issued]) -> dict[str, bytes]:
    pems = {f"{stem}.pem": item.certificate.pem for stem, item in issued.items()}
    pems |= {f"{stem}.key": item.private_key_pem for stem, item in issued.items()}
    return pems


@pytest.fixture(scope="session")
def laboratory() -> Laboratory:
    pki = TestPki.create(random_octets=random.Random(7).randbytes, clock=NOW.timestamp)
    both = (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT)
    made = list(pki.authorities())
    for entity_id, role in (
        (DEFAULT_SUPPLIER, Role.SUPPLIER),
        (DEFAULT_LOAD_CONTROLLER, Role.LOAD_CONTROLLER),
        (DEFAULT_ACCESS_CONTROL_BROKER, Role.ACCESS_CONTROL_BROKER),
    ):
        made += [pki.issue_organisation(entity_id, role, usage) for usage in both]
    made += [pki.issue_device(DEFAULT_DEVICE, usage) for usage in both]
    made += [
        pki.issue_xml_signing(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER),
        pki.issue_xml_signing(DEFAULT_LOAD_CONTROLLER, Role.XML_SIGNING_USER),
        pki.issue_xml_signing(DEFAULT_ACCESS_CONTROL_BROKER, Role.XML_SIGNING_DCC),
    ]
    issued = {item.file_stem: item for item in made}
    keystore = KeyStore.from_pems(pems_of(issued), test_mode=True)
    return Laboratory(
        pki=pki,
        issued=issued,
        keystore=keystore,
        now=NOW,
        supplier=DEFAULT_SUPPLIER,
        load_controller=DEFAULT_LOAD_CONTROLLER,
        dcc=DEFAULT_ACCESS_CONTROL_BROKER,
        device=DEFAULT_DEVICE,
        user_signer=XmlSigner.from_keystore(keystore, DEFAULT_SUPPLIER, Role.XML_SIGNING_USER),
        dcc_signer=XmlSigner.from_keystore(
            keystore, DEFAULT_ACCESS_CONTROL_BROKER, Role.XML_SIGNING_DCC
        ),
    )
