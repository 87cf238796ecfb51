"""Reads folders of PEM files into a key store; insists that private keys are private."""

from __future__ import annotations

import stat
from collections.abc import Iterable
from pathlib import Path

from gbcs import KeyStore
from lab.errors import KeyFolderError

_SUFFIXES = {".pem", ".key"}
_MAX_FILE_OCTETS = 64 * 1024


def read_keystore(folders: Iterable[Path], *, test_mode: bool) -> KeyStore:
    """Read all certificates and keys below the folders.

    Args:
        folders: searched recursively for ``*.pem`` and ``*.key``.
        test_mode: True admits publicly known test keys, which need not be private files either.

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
        for path in sorted(p for p in folder.rglob("*") if p.suffix in _SUFFIXES):
            pems[str(path)] = _read(path, must_be_private=not test_mode)
    if not pems:
        named = ", ".join(str(folder) for folder in folders)
        raise KeyFolderError(f"no *.pem or *.key files below {named}")
    return KeyStore.from_pems(pems, test_mode=test_mode)


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
