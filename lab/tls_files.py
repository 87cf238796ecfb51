"""A test CA for HTTPS on this machine, and certificates from it: PEM files in one folder.

Ordinary TLS, nothing of SMKI: what Stream 1 uses, and the OpenADR faces where they are tried with
mutual TLS. The CA's own key is not kept: another folder, another CA.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lab.errors import KeyFolderError

_VALID_DAYS = 30
_NAME = re.compile(r"[A-Za-z0-9_-]{1,60}")
_LOOPBACK = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))


def write_tls_files(folder: Path, names: Iterable[str]) -> None:
    """Make a CA and certificates for 127.0.0.1 and localhost, for servers and clients.

    Args:
        folder: new or empty, as ca.pem, and NAME.pem and NAME.key for each name; the keys are
            made with mode 0600, the folder with 0700.
        names: of the files; also the common names.

    Raises:
        KeyFolderError: there is something in the folder already, it cannot be written, or a name
            is used twice or cannot be a file's.
    """
    names = list(names)
    for name in names:
        if not _NAME.fullmatch(name) or name == "ca" or names.count(name) > 1:
            raise KeyFolderError(
                f"{name!r} cannot be the name of a certificate's file: letters, digits, '-' and "
                "'_', each name once, not 'ca'"
            )
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise KeyFolderError(f"{folder}: not empty; name a new folder for the TLS keys")
        ca_key = ec.generate_private_key(ec.SECP256R1())
        ca_name = _name("Test CA for HTTPS")
        _write_certificate(
            folder / "ca.pem", _certificate(ca_name, ca_key.public_key(), ca_name, ca_key, ca=True)
        )
        for name in names:
            key = ec.generate_private_key(ec.SECP256R1())
            _write_key(folder / f"{name}.key", key)
            _write_certificate(
                folder / f"{name}.pem",
                _certificate(_name(name), key.public_key(), ca_name, ca_key, ca=False),
            )
    except OSError as error:
        raise KeyFolderError(f"{folder}: cannot write the TLS keys: {error.strerror}") from None


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    ca: bool,
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=_VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )
    if not ca:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), _LOOPBACK]), critical=False
        )
    return builder.sign(issuer_key, hashes.SHA256())


def _write_certificate(path: Path, certificate: x509.Certificate) -> None:
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600, exist_ok=False)
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
