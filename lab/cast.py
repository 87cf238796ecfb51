"""Everybody who takes part in a laboratory's network, with keys that the same seed makes again."""

from __future__ import annotations

import random
from dataclasses import dataclass

from gbcs import EntityId
from gbcs.certificates import KeyUsage, Role
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
    Issued,
    TestPki,
)

EPOCH = 1_780_000_000.0
"""When the keys were made, seconds since 1970."""

_FIRST_DEVICE = int.from_bytes(bytes.fromhex("02534d5410000000"))


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has keys."""

    entity_id: EntityId
    signing: Issued
    agreement: Issued

    def certificate_pems(self) -> dict[str, bytes]:
        """Return its certificates, by file name."""
        return _certificates(self.signing, self.agreement)

    def keys(self) -> dict[str, bytes]:
        """Return its private keys, by file name."""
        return _keys(self.signing, self.agreement)


class Cast:
    """Everybody who takes part; certificates are the same octets for the same seed, too.

    Args:
        device_count: how many devices have keys.
        seed: of all keys.
    """

    def __init__(self, device_count: int, seed: int = 1) -> None:
        octets = random.Random(seed).randbytes  # noqa: S311  # keys for one measurement
        self.pki = TestPki.create(random_octets=octets, clock=lambda: EPOCH)
        signing, agreement = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT
        broker = DEFAULT_ACCESS_CONTROL_BROKER
        self.supplier = self.pki.issue_organisation(DEFAULT_SUPPLIER, Role.SUPPLIER, signing)
        self.load_controller = self.pki.issue_organisation(
            DEFAULT_LOAD_CONTROLLER, Role.LOAD_CONTROLLER, signing
        )
        self.supplier_xml = self.pki.issue_xml_signing(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)
        self.dcc_xml = self.pki.issue_xml_signing(broker, Role.XML_SIGNING_DCC)
        self.broker = self.pki.issue_organisation(broker, Role.ACCESS_CONTROL_BROKER, agreement)
        self.devices = [
            Device(who, self.pki.issue_device(who, signing), self.pki.issue_device(who, agreement))
            for who in map(device_id, range(device_count))
        ]

    def certificate_pems(self) -> dict[str, bytes]:
        """Return the certificates of all but the devices, by file name."""
        return _certificates(
            *self.pki.authorities(),
            self.supplier,
            self.load_controller,
            self.supplier_xml,
            self.dcc_xml,
            self.broker,
        )

    def dcc_keys(self) -> dict[str, bytes]:
        """Return the DCC's private keys, by file name."""
        return _keys(self.dcc_xml, self.broker)

    def dsrsp_keys(self) -> dict[str, bytes]:
        """Return the DSRSP's private keys, by file name."""
        return _keys(self.supplier, self.supplier_xml)

    def device_pems(self) -> dict[str, bytes]:
        """Return the devices' certificates, by file name."""
        return {
            name: pem for device in self.devices for name, pem in device.certificate_pems().items()
        }


def device_id(index: int) -> EntityId:
    """Return the EUI-64 of one of the devices, counted from 0."""
    return EntityId((_FIRST_DEVICE + index).to_bytes(8))


def _certificates(*issued: Issued) -> dict[str, bytes]:
    return {f"{one.file_stem}.pem": one.certificate.pem for one in issued}


def _keys(*issued: Issued) -> dict[str, bytes]:
    return {f"{one.file_stem}.key": one.private_key_pem for one in issued}
