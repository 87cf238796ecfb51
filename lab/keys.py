"""Reads folders of PEM files into a key store; insists that private keys are private."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from gbcs import EntityId, KeyStore
from gbcs.certificates import KeyUsage
from gbcs.errors import CertificateNotFound
from gbcs.keystore import DeviceCertificates
from lab.errors import KeyFolderError

_SUFFIXES = {".pem", ".key"}
_DEVICE_SUFFIXES = {KeyUsage.DIGITAL_SIGNATURE: "ds", KeyUsage.KEY_AGREEMENT: "ka"}
_MAX_FILE_OCTETS = 64 * 1024


def read_keystore(
    folders: Iterable[Path], *, test_mode: bool, device_certificates: Path | None = None
) -> KeyStore:
    """Read all certificates and keys below the folders.

    Args:
        folders: searched recursively for ``*.pem`` and ``*.key``.
        test_mode: True admits publicly known test keys, which need not be private files either.
        device_certificates: a folder with certificates of further devices, which are not searched
            for but read by name, each when it is needed first: ``{eui}-device-ds.pem`` for digital
            signatures, ``{eui}-device-ka.pem`` for key agreement.

    Raises:
        KeyFolderError: a folder is missing or empty, or a private key is readable by others.
        gbcs.errors.CertificateError: a file is no certificate or key, or a test key.
    """
    pems: dict[str, bytes] = {}
    folders = tuple(folders)
    for folder in folders:
        if not folder.is_dir():
            raise KeyFolderError(
                f"{folder}: no such folder of certificates and keys; "
                "`smtunnel pki init DIR` makes a set for tests"
            )
        for path in _key_files(folder):
            pems[str(path)] = _read(path, must_be_private=not test_mode)
    if not pems:
        named = ", ".join(str(folder) for folder in folders)
        raise KeyFolderError(f"no *.pem or *.key files below {named}")
    if device_certificates is None:
        return KeyStore.from_pems(pems, test_mode=test_mode)
    if not device_certificates.is_dir():
        raise KeyFolderError(f"{device_certificates}: no such folder of device certificates")
    return KeyStore.from_pems(
        pems, test_mode=test_mode, device_certificates=_folder_source(device_certificates)
    )


def _key_files(folder: Path) -> list[Path]:
    """Return what may hold keys below a folder; a folder that may not be read is not left out."""

    def refuse(error: OSError) -> None:
        raise KeyFolderError(f"{error.filename}: this folder cannot be read: {error.strerror}")

    walk = os.walk(folder, onerror=refuse)
    paths = (Path(place, name) for place, _, names in walk for name in names)
    return sorted(path for path in paths if path.suffix in _SUFFIXES)


def _folder_source(folder: Path) -> DeviceCertificates:
    def find(entity_id: EntityId, usage: KeyUsage) -> bytes | None:
        suffix = _DEVICE_SUFFIXES.get(usage)
        path = folder / f"{entity_id.hex}-device-{suffix}.pem"
        if suffix is None or not path.is_file():
            return None
        try:
            return _read(path, must_be_private=False)
        except KeyFolderError as error:
            raise CertificateNotFound(str(error)) from None

    return find


def _read(path: Path, *, must_be_private: bool) -> bytes:
    try:
        status = path.stat()
        if status.st_size > _MAX_FILE_OCTETS:
            raise KeyFolderError(
                f"{path}: {status.st_size} octets, more than {_MAX_FILE_OCTETS}: not a PEM file"
            )
        content = path.read_bytes()
    except OSError as error:
        raise KeyFolderError(f"{path}: cannot be read: {error}") from None
    others_may_read = bool(stat.S_IMODE(status.st_mode) & 0o077)
    if must_be_private and others_may_read and b"PRIVATE KEY" in content:
        raise KeyFolderError(
            f"{path}: a private key that others may read; make it yours alone: chmod 600 {path}"
        )
    return content
