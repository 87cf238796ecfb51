"""What a signed DUIS request costs beside the bare C14N and ECDSA it cannot do without."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from lxml import etree

from gbcs import EntityId, KeyStore, Label, Role
from gbcs.duis import (
    Request,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    parse_untrusted_request,
)
from gbcs.pki import DEFAULT_SUPPLIER, TestPki

ROUNDS = 300
NOW = datetime(2026, 6, 1, tzinfo=UTC)
DEVICE = EntityId(bytes(8))
ECDSA = ec.ECDSA(SHA256())


def ratio(name: str, floor: Callable[[], object], work: Callable[[], object]) -> None:
    """Print the median of work in medians of floor, taken in turns in the same run."""
    times: dict[Callable[[], object], list[float]] = {floor: [], work: []}
    for _ in range(20):
        floor()
        work()
    for _ in range(ROUNDS):
        for one, spent in times.items():
            begin = time.perf_counter()
            one()
            spent.append(time.perf_counter() - begin)
    floor_s, work_s = (statistics.median(spent) for spent in times.values())
    print(
        f"\n{name}: {work_s / floor_s:.2f} x the floor "
        f"({work_s * 1e6:.0f} us against {floor_s * 1e6:.0f} us)"
    )


@pytest.fixture(scope="module")
def keystore() -> KeyStore:
    pki = TestPki.create(random_octets=random.Random(1).randbytes, clock=NOW.timestamp)
    issued = [*pki.authorities(), pki.issue_xml_signing(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)]
    pems = {f"{i.file_stem}.pem": i.certificate.pem for i in issued}
    pems |= {f"{i.file_stem}.key": i.private_key_pem for i in issued}
    return KeyStore.from_pems(pems, test_mode=True)


def request(counter: int) -> Request:
    labels = tuple(Label(index, str(index) * 22) for index in range(1, 6))
    return Request(DEFAULT_SUPPLIER, DEVICE, counter, 4, UpdateAlcDescriptions(labels))


@pytest.mark.bench
def test_build_and_sign_a_request(keystore: KeyStore) -> None:
    signer = XmlSigner.from_keystore(keystore, DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)
    root = etree.fromstring(build_request(request(0), signer))
    key = ec.generate_private_key(ec.SECP256R1())
    ratio(
        "build + sign a DUIS request, floor C14N of it + one ECDSA P-256 signature",
        lambda: key.sign(etree.tostring(root, method="c14n"), ECDSA),
        lambda: build_request(request(1), signer),
    )


@pytest.mark.bench
def test_parse_and_verify_a_request(keystore: KeyStore) -> None:
    signer = XmlSigner.from_keystore(keystore, DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)
    octets = build_request(request(0), signer)
    canonical = etree.tostring(etree.fromstring(octets), method="c14n")
    key = ec.generate_private_key(ec.SECP256R1())
    public_key, signature = key.public_key(), key.sign(canonical, ECDSA)
    ratio(
        "parse + verify a DUIS request, floor lxml parse + C14N + one ECDSA P-256 verification",
        lambda: public_key.verify(
            signature, etree.tostring(etree.fromstring(octets), method="c14n"), ECDSA
        ),
        lambda: parse_untrusted_request(octets).verify(
            keystore, role=Role.XML_SIGNING_USER, at=NOW
        ),
    )
