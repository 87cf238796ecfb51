"""Decides whether what came from the communications hub is a command to obey.

A verifier first checks, then remembers: here nothing is remembered at all.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from cem.errors import CommandRefused
from gbcs.crypto import verify_mac, verify_message
from gbcs.entity_id import EntityId
from gbcs.errors import FormatError, MacInvalid, SignatureInvalid
from gbcs.messages import Command, parse_untrusted


@dataclass(frozen=True, slots=True)
class Identities:
    """Who takes part in this device's traffic."""

    device_id: EntityId
    supplier_id: EntityId
    load_controller_id: EntityId


class Admission:
    """Checks commands for one device.

    Args:
        identities: who this device is, and whom it obeys.
        supplier_public_key: of the supplier's digital-signature certificate.
        broker_secret: the secret shared by this device's key-agreement key and the access
            control broker's, 32 octets.
    """

    __slots__ = ("_broker_secret", "_identities", "_supplier_public_key")

    def __init__(
        self,
        identities: Identities,
        supplier_public_key: EllipticCurvePublicKey,
        broker_secret: bytes,
    ) -> None:
        self._identities = identities
        self._supplier_public_key = supplier_public_key
        self._broker_secret = broker_secret

    def admit_untrusted(self, octets: bytes) -> Command:
        """Return the command that the octets are, every check passed.

        Cheap checks come first, and the MAC before the signature, which costs far more.

        Raises:
            CommandRefused: what is wrong with it; such a command gets no answer.

        Source: GBCS (processing of commands by a device): structure, target, MAC, signature.
        """
        try:
            message = parse_untrusted(octets)
        except FormatError as error:
            raise CommandRefused(f"not a GBCS message: {error}") from None
        if not isinstance(message, Command):
            raise CommandRefused(
                f"a {type(message).__name__}, but a device obeys commands with a MAC only"
            )
        names = message.pre_command
        about = f"command {names.originator_counter} from {names.originator_id}"
        if names.target_id != self._identities.device_id:
            raise CommandRefused(
                f"{about} is for {names.target_id}, but this device is {self._identities.device_id}"
            )
        if names.originator_id != self._identities.supplier_id:
            raise CommandRefused(f"{about}: this device obeys {self._identities.supplier_id} alone")
        try:
            verify_mac(message, self._broker_secret)
            verify_message(message, self._supplier_public_key)
        except MacInvalid as error:
            raise CommandRefused(
                f"{about}: the access control broker's MAC does not hold: {error}"
            ) from None
        except SignatureInvalid as error:
            raise CommandRefused(
                f"{about}: the supplier's signature does not hold: {error}"
            ) from None
        return message
