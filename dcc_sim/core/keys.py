"""The keys that the DCC works with; each certificate is checked before its key is believed."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Set
from dataclasses import dataclass, field
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from dcc_sim.core.state import certificate_name, utc
from dcc_sim.ports import CertificateName
from gbcs.certificates import Certificate, KeyUsage, Role
from gbcs.crypto import shared_secret
from gbcs.duis import XmlSigner
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateRefused
from gbcs.keystore import KeyStore

MAX_TRUSTED = 16_384
"""How many verified certificates are remembered: those of 8,192 devices."""

_Place: TypeAlias = tuple[EntityId, KeyUsage, Role | None]


@dataclass(slots=True)
class _Trusted:
    """A certificate that was verified, and for how long it may be believed without verifying.

    Attributes:
        certificate: it.
        name: under which it would be revoked.
        not_before: first moment at which it and all above it are valid, seconds since 1970.
        not_after: last such moment.
        secret: the secret Z shared with its owner; None: not computed yet.
    """

    certificate: Certificate
    name: CertificateName
    not_before: float
    not_after: float
    secret: bytes | None = field(default=None, repr=False)


class Keys:
    """Looks up and verifies certificates; remembers the outcome, and secrets shared with devices.

    Signatures on certificates do not change with time: they are checked once. Validity and
    revocation are checked each time.

    Args:
        keystore: certificates of users and devices, certificates and keys of the DCC.
        dcc_id: EUI-64 of the DCC's XML signing key and of the access control broker.

    Raises:
        gbcs.errors.CertificateError: a key of the DCC itself is missing.
    """

    def __init__(self, keystore: KeyStore, dcc_id: EntityId) -> None:
        self.keystore = keystore
        self.xml_signer = XmlSigner.from_keystore(keystore, dcc_id, Role.XML_SIGNING_DCC)
        self._broker_key = keystore.private_key(
            dcc_id, KeyUsage.KEY_AGREEMENT, role=Role.ACCESS_CONTROL_BROKER
        )
        self._revoked: Set[CertificateName] = frozenset()
        # The one that was asked for last at the end.
        self._trusted: OrderedDict[_Place, _Trusted] = OrderedDict()

    def use_revocations(self, revoked: Set[CertificateName]) -> None:
        """Refuse these certificates from now on, and what is added to the set later."""
        self._revoked = revoked

    def check_not_revoked(self, certificate: Certificate) -> None:
        """Check that a certificate was not revoked.

        Raises:
            gbcs.errors.CertificateRefused: it was.
        """
        if certificate_name(certificate) in self._revoked:
            raise CertificateRefused(f"the {certificate} is revoked")

    def supplier_signature_key(self, supplier: EntityId, now: float) -> EllipticCurvePublicKey:
        """Return the key that verifies a supplier's commands.

        Raises:
            gbcs.errors.CertificateError: there is none, or it is not to be trusted.
        """
        trusted = self._verified(supplier, KeyUsage.DIGITAL_SIGNATURE, Role.SUPPLIER, now)
        return trusted.certificate.public_key

    def device_signature_key(self, device: EntityId, now: float) -> EllipticCurvePublicKey:
        """Return the key that verifies a device's responses, alerts and proofs.

        Raises:
            gbcs.errors.CertificateError: there is none, or it is not to be trusted.
        """
        trusted = self._verified(device, KeyUsage.DIGITAL_SIGNATURE, None, now)
        return trusted.certificate.public_key

    def device_secret(self, device: EntityId, now: float) -> bytes:
        """Return the secret Z that the access control broker shares with a device.

        Raises:
            gbcs.errors.CertificateError: the device's key-agreement certificate is missing, or
                is not to be trusted.
        """
        trusted = self._verified(device, KeyUsage.KEY_AGREEMENT, None, now)
        if trusted.secret is None:
            trusted.secret = shared_secret(self._broker_key, trusted.certificate.public_key)
        return trusted.secret

    def check_device(self, device: EntityId, now: float) -> None:
        """Check that a device has both certificates that commands to it need.

        Raises:
            gbcs.errors.CertificateError: one is missing, or is not to be trusted.
        """
        for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT):
            self._verified(device, usage, None, now)

    def _verified(
        self, entity_id: EntityId, usage: KeyUsage, role: Role | None, now: float
    ) -> _Trusted:
        place = (entity_id, usage, role)
        trusted = self._trusted.get(place)
        if trusted is None or not trusted.not_before <= now <= trusted.not_after:
            trusted = self._verify(place, now)
        else:
            self._trusted.move_to_end(place)
        if trusted.name in self._revoked:
            self.check_not_revoked(trusted.certificate)
        return trusted

    def _verify(self, place: _Place, now: float) -> _Trusted:
        entity_id, usage, role = place
        certificate = self.keystore.certificate(entity_id, usage, role=role)
        self.keystore.verify(certificate, at=utc(now), usage=usage, role=role, entity_id=entity_id)
        begin, end = self.keystore.validity(certificate)
        trusted = _Trusted(
            certificate, certificate_name(certificate), begin.timestamp(), end.timestamp()
        )
        self._trusted[place] = trusted
        if len(self._trusted) > MAX_TRUSTED:
            self._trusted.popitem(last=False)
        return trusted
