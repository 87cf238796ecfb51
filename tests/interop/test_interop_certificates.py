"""Certificates: ours as OpenSSL reads them, the DCC's published ones as we read them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from gbcs import EntityId, parse_certificate
from gbcs.errors import CertificateFormatError
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_SUPPLIER
from lab.pki_files import add_device, write_test_pki


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pki") / "pki"
    write_test_pki(folder, now=None, random_octets=os.urandom)
    add_device(folder, EntityId.parse("02-53-4D-54-00-00-00-02"))
    return folder / "certificates"


def test_openssl_verifies_every_chain(
    certificates: Path, openssl: Callable[..., str], tmp_path: Path
) -> None:
    authorities = tmp_path / "authorities.pem"
    authorities.write_bytes(
        b"".join(path.read_bytes() for path in sorted(certificates.glob("issuing-ca-*.pem")))
    )
    paths = sorted(certificates.glob("*.pem"))
    assert len(paths) == 16
    for path in paths:
        said = openssl(
            "verify",
            "-x509_strict",
            # hardwareModuleName stands in a critical extension that OpenSSL does not know.
            "-ignore_critical",
            "-CAfile",
            certificates / "root.pem",
            "-untrusted",
            authorities,
            path,
        )
        assert said.strip().endswith("OK")


def test_openssl_sees_the_profile_of_an_organisation(
    certificates: Path, openssl: Callable[..., str]
) -> None:
    path = certificates / f"{DEFAULT_SUPPLIER.hex}-supplier-ds.pem"
    text = openssl("x509", "-noout", "-text", "-in", path)
    assert "Subject: OU = 02, x500UniqueIdentifier = #03090090B3D51F30010000" in text
    assert "Key Usage: critical\n                Digital Signature\n" in text
    assert "Certificate Policies: critical\n                Policy: 1.2.826.0.1.8641679" in text


def test_openssl_sees_the_profile_of_a_device(
    certificates: Path, openssl: Callable[..., str]
) -> None:
    path = certificates / f"{DEFAULT_DEVICE.hex}-device-ka.pem"
    text = openssl("x509", "-noout", "-text", "-in", path)
    assert "Subject: \n" in text
    assert "Not After : Dec 31 23:59:59 9999 GMT" in text
    assert "Key Usage: critical\n                Key Agreement\n" in text
    assert "Subject Alternative Name: critical" in text
    structure = openssl("asn1parse", "-in", path)
    assert "GENERALIZEDTIME   :99991231235959Z" in structure


def test_openssl_sees_the_profile_of_authorities(
    certificates: Path, openssl: Callable[..., str]
) -> None:
    for name in ("organisations", "devices"):
        path = certificates / f"issuing-ca-{name}.pem"
        text = openssl("x509", "-noout", "-text", "-in", path)
        assert "CA:TRUE, pathlen:0" in text
        assert "Certificate Sign, CRL Sign" in text


def test_we_read_the_dccs_key_store(npm_packages: Path) -> None:
    store = json.loads((npm_packages / "dccboxed-keystore" / "keystore.json").read_text())
    read = refused = 0
    for eui, usages in store.items():
        for usage, by_serial in usages.items():
            for serial, entry in by_serial.items():
                try:
                    certificate = parse_certificate(entry["certificate"].encode())
                except CertificateFormatError:
                    # Two carry parameters beside ecdsa-with-SHA256, which RFC 5758 forbids.
                    refused += 1
                    continue
                read += 1
                assert certificate.entity_id == EntityId.parse(eui)
                assert certificate.usage.value == usage
                assert str(certificate.serial) == serial
                assert certificate.role == entry.get("role")
    assert (read, refused) == (31, 2)
