"""A load made beforehand: while it runs, users and devices do nothing but send it."""

from __future__ import annotations

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
from gbcs.crypto import shared_secret
from gbcs.duis import (
    Request,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
)
from gbcs.pki import DEFAULT_SUPPLIER, Issued
from lab.cast import Cast, device_id

_LABELS = 5
_LABEL_CHARS = 22


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


def make_journeys(cast: Cast, count: int, first_counter: int = 1) -> list[Journey]:
    """Make journeys of full fragments, to one device after the other.

    Args:
        cast: who takes part.
        count: how many.
        first_counter: the originator counter of the first.
    """
    xml = cast.supplier_xml
    maker = _Maker(
        XmlSigner(EcdsaSigner(xml.private_key), *_name(xml)),
        EcdsaSigner(cast.supplier.private_key),
        [EcdsaSigner(device.signing.private_key) for device in cast.devices],
        [
            shared_secret(device.agreement.private_key, cast.broker.certificate.public_key)
            for device in cast.devices
        ],
    )
    return [maker.make(index % len(cast.devices), first_counter + index) for index in range(count)]


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


def _name(issued: Issued) -> tuple[str, int]:
    return issued.certificate.issuer_name, issued.certificate.serial
