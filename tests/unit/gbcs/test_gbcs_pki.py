"""The test PKI: profiles, determinism, and what another reader says of it."""

from __future__ import annotations

import random
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from gbcs import CertificateKind, EntityId, KeyUsage, Role
from gbcs.errors import BuildError, CertificateFormatError
from gbcs.pki import Issued, TestPki

DS, KA = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT


def openssl(*arguments: str, pem: bytes = b"") -> str:
    done = subprocess.run(
        ["openssl", *arguments], input=pem, capture_output=True, check=False, timeout=20
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


def text_of(issued: Issued) -> str:
    return openssl("x509", "-noout", "-text", pem=issued.certificate.pem)


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
    issued = laboratory.issued[f"{laboratory.supplier.hex}-supplier-ds"]
    text = text_of(issued)
    assert "Subject: OU = 02, x500UniqueIdentifier = #03090090B3D51F30010000" in text
    assert "Key Usage: critical\n                Digital Signature\n" in text
    assert "Certificate Policies: critical" in text
    assert "1.2.826.0.1.8641679.1.2.1.4" in text
    years = issued.certificate.not_after.year - issued.certificate.not_before.year
    assert years == 10
    authority = laboratory.issued["issuing-ca-organisations"].certificate
    assert issued.certificate.issuer_key_id == authority.key_id
    assert authority.subject_name.endswith("OU=07")


def test_profile_of_device(laboratory: Any) -> None:
    issued = laboratory.issued[f"{laboratory.device.hex}-device-ka"]
    text = text_of(issued)
    assert "Subject: \n" in text
    assert "Not After : Dec 31 23:59:59 9999 GMT" in text
    assert "Subject Alternative Name: critical" in text
    assert "1.3.6.1.5.5.7.8.4" in text
    assert "1.2.826.0.1.1800000.1.2.1.4" in text
    der = issued.certificate.x509.public_bytes(serialization.Encoding.DER)
    assert b"99991231235959Z" in der
    assert b"\x04\x08" + laboratory.device.octets in der


def test_profile_of_authorities(laboratory: Any) -> None:
    assert "CA:TRUE, pathlen:0" in text_of(laboratory.issued["issuing-ca-devices"])
    root = laboratory.issued["root"]
    assert root.certificate.kind is CertificateKind.ROOT
    assert "Certificate Sign, CRL Sign" in text_of(root)


def test_openssl_verifies_every_chain(laboratory: Any, tmp_path: Path) -> None:
    for stem, item in laboratory.issued.items():
        (tmp_path / f"{stem}.pem").write_bytes(item.certificate.pem)
    authorities = tmp_path / "authorities"
    authorities.write_bytes(
        laboratory.issued["issuing-ca-organisations"].certificate.pem
        + laboratory.issued["issuing-ca-devices"].certificate.pem
    )
    for stem in laboratory.issued:
        said = openssl(
            "verify",
            "-x509_strict",
            # hardwareModuleName is critical and OpenSSL does not know it.
            "-ignore_critical",
            "-attime",
            str(int(laboratory.now.timestamp())),
            "-CAfile",
            str(tmp_path / "root.pem"),
            "-untrusted",
            str(authorities),
            str(tmp_path / f"{stem}.pem"),
        )
        assert said.strip().endswith("OK")


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
