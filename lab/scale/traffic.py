"""A load made beforehand: while it runs, users and devices do nothing but send it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from gbcs import (
    Command,
    EcdsaSigner,
    EntityId,
    Label,
    PreCommand,
    Response,
    SignedPreCommand,
    add_mac,
    sign_pre_command,
    sign_response,
)
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import shared_secret
from gbcs.duis import (
    Request,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
)
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
    Issued,
    TestPki,
)

EPOCH = 1_780_000_000.0
"""When the keys of the load were made, seconds since 1970."""

_LABELS = 5
_LABEL_CHARS = 22
_FIRST_DEVICE = int.from_bytes(bytes.fromhex("02534d5410000000"))


@dataclass(frozen=True, slots=True)
class Journey:
    """One fragment's way to its device and back, as the parties outside the DCC send it.

    Attributes:
        device: whose.
        originator_counter: of the user.
        transform: the DUIS request with command variant 4.
        send: the DUIS request with command variant 5.
        signed: the signed pre-command in it.
        command: what the device gets.
        response: what it answers, octets.
    """

    device: EntityId
    originator_counter: int
    transform: bytes
    send: bytes
    signed: SignedPreCommand
    command: Command
    response: bytes


@dataclass(frozen=True, slots=True)
class Device:
    """A device that has keys."""

    entity_id: EntityId
    signing: Issued
    agreement: Issued


class Cast:
    """Everybody who takes part, with keys that the same seed makes again.

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
        issued = (
            *self.pki.authorities(),
            self.supplier,
            self.load_controller,
            self.supplier_xml,
            self.dcc_xml,
            self.broker,
        )
        return {f"{one.file_stem}.pem": one.certificate.pem for one in issued}

    def dcc_keys(self) -> dict[str, bytes]:
        """Return the DCC's private keys, by file name."""
        return {f"{one.file_stem}.key": one.private_key_pem for one in (self.dcc_xml, self.broker)}

    def device_pems(self) -> dict[str, bytes]:
        """Return the devices' certificates, by file name."""
        return {
            f"{one.file_stem}.pem": one.certificate.pem
            for device in self.devices
            for one in (device.signing, device.agreement)
        }

    def journeys(self, count: int, first_counter: int = 1) -> list[Journey]:
        """Make journeys of full fragments, to one device after the other.

        Args:
            count: how many.
            first_counter: the originator counter of the first.
        """
        xml = self.supplier_xml
        maker = _Maker(
            XmlSigner(EcdsaSigner(xml.private_key), *_name(xml)),
            EcdsaSigner(self.supplier.private_key),
            [EcdsaSigner(device.signing.private_key) for device in self.devices],
            [
                shared_secret(device.agreement.private_key, self.broker.certificate.public_key)
                for device in self.devices
            ],
        )
        return [
            maker.make(index % len(self.devices), first_counter + index) for index in range(count)
        ]


@dataclass(frozen=True, slots=True)
class _Maker:
    xml_signer: XmlSigner
    signer: EcdsaSigner
    device_signers: Sequence[EcdsaSigner]
    secrets: Sequence[bytes]

    def make(self, device: int, counter: int) -> Journey:
        who = device_id(device)
        text = f"{counter:0{_LABEL_CHARS}d}"
        labels = tuple(Label(index, text) for index in range(1, _LABELS + 1))
        signed = sign_pre_command(PreCommand(DEFAULT_SUPPLIER, who, counter, labels), self.signer)
        response = Response(who, DEFAULT_SUPPLIER, counter, (0,) * _LABELS)
        return Journey(
            device=who,
            originator_counter=counter,
            transform=build_request(
                Request(DEFAULT_SUPPLIER, who, counter, 4, UpdateAlcDescriptions(labels)),
                self.xml_signer,
            ),
            send=build_request(
                Request(DEFAULT_SUPPLIER, who, counter, 5, SignedPreCommandBody(signed.to_bytes())),
                self.xml_signer,
            ),
            signed=signed,
            command=add_mac(signed, self.secrets[device]),
            response=sign_response(response, self.device_signers[device]).to_bytes(),
        )


def device_id(index: int) -> EntityId:
    """Return the EUI-64 of one of the devices, counted from 0."""
    return EntityId((_FIRST_DEVICE + index).to_bytes(8))


def _name(issued: Issued) -> tuple[str, int]:
    return issued.certificate.issuer_name, issued.certificate.serial
