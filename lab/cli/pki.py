"""``smtunnel pki``: a test PKI to the SMKI profiles, and what certificates say."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import click
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.table import Table

from gbcs.certificates import Certificate, CertificateKind, fingerprint, parse_certificate
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, CertificateFormatError
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_DEVICE,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
)
from lab.cli.app import CommandFailed
from lab.errors import KeyFolderError
from lab.pki_files import add_device, write_server_certificate, write_test_pki


def eui(value: str | EntityId) -> EntityId:
    """Read an EUI-64 given on the command line."""
    try:
        return value if isinstance(value, EntityId) else EntityId.parse(value)
    except BuildError as error:
        raise click.BadParameter(str(error)) from None


@click.group()
def pki() -> None:
    """Certificates and keys: make a test PKI, look at certificates.

    \b
    smtunnel pki init keys                    a root, CAs, supplier, load controller, DCC, device
    smtunnel pki add-device keys 02-53-4D-54-00-00-00-02
    smtunnel pki route-2b-certificate keys    TLS for the server that CEMs reach over the internet
    smtunnel pki show keys                    what is there
    """


@pki.command(short_help="Make a test PKI.")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--supplier", metavar="EUI", type=eui, default=DEFAULT_SUPPLIER, show_default=True,
    help="The import supplier that the DSRSP acts as: sends commands, receives alerts.",
)  # fmt: skip
@click.option(
    "--load-controller", metavar="EUI", type=eui, default=DEFAULT_LOAD_CONTROLLER,
    show_default=True, help="The DSRSP's second identity, which the alerts name.",
)  # fmt: skip
@click.option(
    "--access-control-broker", metavar="EUI", type=eui, default=DEFAULT_ACCESS_CONTROL_BROKER,
    show_default=True, help="The DCC: makes the MACs and signs its DUIS messages.",
)  # fmt: skip
@click.option(
    "--device",
    "devices",
    metavar="EUI",
    type=eui,
    multiple=True,
    default=(DEFAULT_DEVICE,),
    show_default=True,
    help="A CEM. May be given several times.",
)
def init(
    folder: Path,
    supplier: EntityId,
    load_controller: EntityId,
    access_control_broker: EntityId,
    devices: tuple[EntityId, ...],
) -> None:
    """Make a test PKI in DIR, which must be new or empty.

    Its certificates follow the SMKI profiles and chain to a root of its own. Their keys are for
    tests: every part takes them only with test_mode = true in its configuration.
    """
    try:
        written = write_test_pki(
            folder,
            supplier=supplier,
            load_controller=load_controller,
            access_control_broker=access_control_broker,
            devices=devices,
        )
    except KeyFolderError as error:
        raise CommandFailed(str(error)) from None
    click.echo(f"{len(written) // 2} certificates with their private keys, in {folder}:")
    click.echo("  certificates/   all certificates (public)")
    click.echo("  ca/             root and issuing CAs")
    click.echo(f"  dcc/            access control broker and DCC signing, {access_control_broker}")
    click.echo(f"  dsrsp/          supplier {supplier}, load controller {load_controller}")
    for device in devices:
        click.echo(f"  devices/{device.hex}/   device {device}")
    click.echo(
        "\nNext: smtunnel dcc-sim --example-config > dcc-sim.toml, and so for dsrsp and cem.\n"
        "The examples name the folder pki beside them and the EUIs of a plain `pki init pki`;\n"
        "with others, change their keys = [...] and the EUIs.\n"
        f"Look at the certificates: smtunnel pki show {folder}"
    )


@pki.command("add-device")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@click.argument("device", metavar="EUI", type=eui)
def add_device_command(folder: Path, device: EntityId) -> None:
    """Add a device to the test PKI in DIR."""
    try:
        add_device(folder, device)
    except KeyFolderError as error:
        raise CommandFailed(str(error)) from None
    click.echo(f"Keys of device {device} are in {folder / 'devices' / device.hex}")
    click.echo(
        "Next: add it to dcc-sim.toml ([[simulator.devices]], "
        f'entity_id = "{device}"),\n'
        "start dcc-sim and the DSRSP again, which read certificates when they start, and start\n"
        "a CEM with this device_id, these keys, a state file and a control address of its own."
    )


@pki.command("route-2b-certificate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
def route_2b_certificate(folder: Path) -> None:
    """Make a self-signed TLS certificate for route 2b's server, in DIR/route-2b.

    It is good for real use, too: CEMs trust its hash, which signed route offers carry, and no CA.
    """
    try:
        certificate, key = write_server_certificate(folder)
    except KeyFolderError as error:
        raise CommandFailed(str(error)) from None
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(Encoding.DER)
    click.echo(f"{certificate} and its private key {key} (mode 0600)")
    click.echo(f"SHA-256, the pin that route offers carry: {sha256(der).hexdigest()}")


@pki.command()
@click.argument(
    "paths",
    metavar="DIR|FILE...",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path, exists=True),
)
@click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
def show(paths: tuple[Path, ...], as_json: bool) -> None:
    """Show what certificates say. Private keys are never read."""
    rows = [(path, _read(path)) for path in _certificate_files(paths)]
    if not rows:
        raise CommandFailed("no certificates (*.pem) there")
    if as_json:
        click.echo(json.dumps([_facts(path, certificate) for path, certificate in rows], indent=2))
        return
    console = Console(highlight=False)
    if len(rows) == 1:
        for name, value in _facts(*rows[0]).items():
            console.print(f"{name:<11} {value or '-'}", soft_wrap=True)
        return
    # Without a box and with these columns it fits eighty characters.
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("whose", "role", "usage", "until"):
        table.add_column(heading)
    for _, certificate in rows:
        table.add_row(
            str(certificate.entity_id or certificate.subject_name),
            _role(certificate),
            certificate.usage.value,
            certificate.not_after.strftime("%Y-%m-%d"),
        )
    console.print(table)
    console.print("\nFiles, issuers, serial numbers, key identifiers: name one file, or --json")


def _certificate_files(paths: tuple[Path, ...]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        files += sorted(path.rglob("*.pem")) if path.is_dir() else [path]
    return files


def _read(path: Path) -> Certificate:
    try:
        octets = path.read_bytes()
        if b"PRIVATE KEY-----" in octets:
            raise CommandFailed(f"{path}: a private key, which is not shown; name a certificate")
        return parse_certificate(octets)
    except CertificateFormatError as error:
        raise CommandFailed(f"{path}: {error}") from None
    except OSError as error:
        raise CommandFailed(f"{path}: cannot be read: {error}") from None


def _role(certificate: Certificate) -> str:
    if certificate.kind in (CertificateKind.ROOT, CertificateKind.ISSUING_CA):
        return str(certificate.kind.value)
    if certificate.role is None:
        return "device"
    return certificate.role.label


def _facts(path: Path, certificate: Certificate) -> dict[str, str | None]:
    return {
        "file": str(path),
        "kind": certificate.kind.value,
        "entity_id": None if certificate.entity_id is None else str(certificate.entity_id),
        "role": None if certificate.role is None else f"{certificate.role:02X}",
        "usage": certificate.usage.value,
        "issuer": certificate.issuer_name,
        "subject": certificate.subject_name,
        # As text: 128 bits are more than many JSON readers keep.
        "serial": str(certificate.serial),
        "not_before": certificate.not_before.isoformat(),
        "not_after": certificate.not_after.isoformat(),
        "key_id": certificate.key_id.hex(),
        "sha256": fingerprint(certificate).hex(),
    }
