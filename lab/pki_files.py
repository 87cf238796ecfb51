"""The folder of a test PKI: writing it, adding devices to it.

    DIR/certificates/   all certificates, public
    DIR/ca/             keys of root and issuing CAs
    DIR/dcc/            keys of access control broker and DCC XML signing
    DIR/dsrsp/          keys of supplier and load controller
    DIR/devices/{eui}/  keys of one device
    DIR/route-2b/       TLS certificate and key of route 2b's server, self-signed

Private keys are made with mode 0600 from the start, folders with 0700; nothing is overwritten.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gbcs.certificates import KeyUsage, Role
from gbcs.entity_id import EntityId
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_DEVICE,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
    Issued,
    TestPki,
)
from gbcs.ports import Clock, Randomness
from lab.errors import KeyFolderError

_USAGES = (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT)
_SERVER_CERTIFICATE_DAYS = 3650
_AUTHORITIES = ("root", "issuing-ca-organisations", "issuing-ca-devices")


def write_test_pki(
    folder: Path,
    *,
    supplier: EntityId = DEFAULT_SUPPLIER,
    load_controller: EntityId = DEFAULT_LOAD_CONTROLLER,
    access_control_broker: EntityId = DEFAULT_ACCESS_CONTROL_BROKER,
    devices: Sequence[EntityId] = (DEFAULT_DEVICE,),
    now: float | None = None,
    random_octets: Randomness = os.urandom,
) -> list[Path]:
    """Make a test PKI and write it below a folder.

    Args:
        folder: new or empty.
        supplier: the import supplier's EUI-64; sends commands, receives alerts.
        load_controller: the load controller's EUI-64; supplementary party of alerts.
        access_control_broker: the EUI-64 of the DCC, for MACs and for its XML signatures.
        devices: the EUI-64 of each device.
        now: the moment of issue, seconds since 1970; None: the present.
        random_octets: gives keys and serial numbers.

    Returns:
        The files written.

    Raises:
        KeyFolderError: the folder has something in it, an EUI-64 is given twice, or writing fails.
    """
    everybody = [supplier, load_controller, access_control_broker, *devices]
    if len(set(everybody)) != len(everybody):
        raise KeyFolderError("an EUI-64 is given twice: each party and device has its own")
    pki = TestPki.create(random_octets=random_octets, clock=_clock(now))
    places: list[tuple[Issued, str]] = [(issued, "ca") for issued in pki.authorities()]
    for entity_id, role, place in (
        (access_control_broker, Role.ACCESS_CONTROL_BROKER, "dcc"),
        (supplier, Role.SUPPLIER, "dsrsp"),
        (load_controller, Role.LOAD_CONTROLLER, "dsrsp"),
    ):
        places += [(pki.issue_organisation(entity_id, role, usage), place) for usage in _USAGES]
        is_dcc = role is Role.ACCESS_CONTROL_BROKER
        xml_role = Role.XML_SIGNING_DCC if is_dcc else Role.XML_SIGNING_USER
        places.append((pki.issue_xml_signing(entity_id, xml_role), place))
    places += [pair for device in devices for pair in _issue_device(pki, device)]
    try:
        _make_folder(folder)
        if any(folder.iterdir()):
            raise KeyFolderError(
                f"{folder}: there is something in it already; name a new folder, "
                "or add devices to a test PKI with `smtunnel pki add-device`"
            )
        return _write_all(folder, places)
    except OSError as error:
        raise KeyFolderError(f"{folder}: cannot write the test PKI: {error}") from error


def add_device(
    folder: Path,
    device: EntityId,
    *,
    now: float | None = None,
    random_octets: Randomness = os.urandom,
) -> list[Path]:
    """Add a device to the test PKI below a folder.

    Args:
        folder: as ``write_test_pki`` made it.
        device: its EUI-64.
        now: the moment of issue, seconds since 1970; None: the present.
        random_octets: gives keys and serial numbers.

    Returns:
        The files written.

    Raises:
        KeyFolderError: there is no test PKI, or it has this device.
        gbcs.errors.GbcsError: a file of the PKI is not what it should be.
    """
    certificates, keys = folder / "certificates", folder / "ca"
    if any(certificates.glob(f"{device.hex}-*.pem")):
        raise KeyFolderError(f"{folder}: {device} has certificates already")
    try:
        root, organisations, devices = (
            (certificates / f"{name}.pem").read_bytes() for name in _AUTHORITIES
        )
        root_key, organisations_key, devices_key = (
            (keys / f"{name}.key").read_bytes() for name in _AUTHORITIES
        )
        pki = TestPki.load(
            (root, organisations, devices),
            (root_key, organisations_key, devices_key),
            random_octets=random_octets,
            clock=_clock(now),
        )
        return _write_all(folder, _issue_device(pki, device))
    except OSError as error:
        raise KeyFolderError(
            f"{folder}: cannot add a device: {error}; `smtunnel pki init {folder}` makes a test PKI"
        ) from error


def write_server_certificate(folder: Path, *, now: float | None = None) -> tuple[Path, Path]:
    """Make a self-signed TLS certificate for route 2b's server.

    CEMs trust it by its hash, which they get in signed route offers: no CA need vouch for it, and
    no name in it counts. Its files end otherwise than those of the SMKI, so that nobody who reads
    a whole folder of these takes it for one.

    Args:
        folder: made when it is missing; the files go into ``route-2b`` below it.
        now: the moment of issue, seconds since 1970; None: the present.

    Returns:
        The certificate's file and the private key's, both PEM.

    Raises:
        KeyFolderError: there is one already, or writing fails.
    """
    begin = datetime.fromtimestamp(int(_clock(now)()), tz=UTC) - timedelta(days=1)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "smtunnel route 2b")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=_SERVER_CERTIFICATE_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_path = folder / "route-2b" / "server.crt"
    key_path = folder / "route-2b" / "server.privkey"
    key_pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    for path in (certificate_path, key_path):
        if path.exists():
            raise KeyFolderError(
                f"{path}: there is one already; a new certificate needs new route offers, so make "
                "it in another folder and name its hash in next_pins first"
            )
    try:
        _make_folder(certificate_path.parent)
        _write_new(key_path, key_pem)
        _write_new(certificate_path, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise KeyFolderError(f"{folder}: cannot write the certificate: {error}") from error
    return certificate_path, key_path


def _clock(now: float | None) -> Clock:
    return time.time if now is None else lambda: now


def _issue_device(pki: TestPki, device: EntityId) -> list[tuple[Issued, str]]:
    return [(pki.issue_device(device, usage), f"devices/{device.hex}") for usage in _USAGES]


def _write_all(folder: Path, places: list[tuple[Issued, str]]) -> list[Path]:
    written = []
    for issued, place in places:
        for path, content in (
            (folder / "certificates" / f"{issued.file_stem}.pem", issued.certificate.pem),
            (folder / place / f"{issued.file_stem}.key", issued.private_key_pem),
        ):
            _make_folder(path.parent)
            _write_new(path, content)
            written.append(path)
    return written


def _make_folder(folder: Path) -> None:
    # mkdir(parents=True) would give the parents the default mode.
    for path in (*reversed(folder.parents), folder):
        path.mkdir(mode=0o700, exist_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    """Write a file that must not exist; private keys are never readable by others."""
    mode = 0o600 if path.suffix in (".key", ".privkey") else 0o644
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
