"""Certificates of devices in a folder that is not read as a whole."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from gbcs.certificates import KeyUsage
from gbcs.errors import CertificateNotFound
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_SUPPLIER, TestPki
from lab.errors import KeyFolderError
from lab.keys import read_keystore


def test_each_is_read_when_it_is_asked_for(tmp_path: Path) -> None:
    pki = TestPki.create(random_octets=random.Random(1).randbytes, clock=lambda: 1.8e9)
    authorities, devices = tmp_path / "keys", tmp_path / "devices"
    authorities.mkdir()
    devices.mkdir()
    for one in pki.authorities():
        (authorities / f"{one.file_stem}.pem").write_bytes(one.certificate.pem)
    store = read_keystore([authorities], test_mode=True, device_certificates=devices)
    with pytest.raises(CertificateNotFound):
        store.certificate(DEFAULT_DEVICE, KeyUsage.KEY_AGREEMENT)
    for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT):
        issued = pki.issue_device(DEFAULT_DEVICE, usage)
        (devices / f"{issued.file_stem}.pem").write_bytes(issued.certificate.pem)
        assert store.certificate(DEFAULT_DEVICE, usage) == issued.certificate
    assert store.certificates_of(DEFAULT_SUPPLIER) == []


def test_a_file_too_large_is_no_certificate(tmp_path: Path) -> None:
    root = TestPki.create(random_octets=random.Random(1).randbytes, clock=lambda: 1.8e9).root
    authorities, devices = tmp_path / "keys", tmp_path / "devices"
    authorities.mkdir()
    devices.mkdir()
    (authorities / "root.pem").write_bytes(root.certificate.pem)
    (devices / f"{DEFAULT_DEVICE.hex}-device-ds.pem").write_bytes(b" " * 70_000)
    store = read_keystore([authorities], test_mode=True, device_certificates=devices)
    with pytest.raises(CertificateNotFound, match="not a PEM file"):
        store.certificate(DEFAULT_DEVICE, KeyUsage.DIGITAL_SIGNATURE)


def test_the_folder_must_be_there(tmp_path: Path) -> None:
    root = TestPki.create(random_octets=random.Random(1).randbytes, clock=lambda: 1.8e9).root
    (tmp_path / "root.pem").write_bytes(root.certificate.pem)
    with pytest.raises(KeyFolderError, match="no such folder of device certificates"):
        read_keystore([tmp_path], test_mode=True, device_certificates=tmp_path / "devices")


def test_a_folder_that_may_not_be_read_is_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = tmp_path / "closed"
    closed.mkdir()
    scan = os.scandir

    def refuse(path: str) -> object:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(KeyFolderError, match="closed: this folder cannot be read"):
        read_keystore([tmp_path], test_mode=True)
