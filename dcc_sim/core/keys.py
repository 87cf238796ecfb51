"""The keys that the DCC works with; each certificate is checked before its key is believed."""

from __future__ import annotations

from collections.abc import Set

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from dcc_sim.core.state import certificate_name, utc
from dcc_sim.ports import CertificateName
from gbcs.certificates import Certificate, KeyUsage, Role
from gbcs.crypto import shared_secret
from gbcs.duis import XmlSigner
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateRefused
from gbcs.keystore import KeyStore


class Keys:
    """Looks up and verifies certificates; caches the secret shared with each device.

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
        self._secrets: dict[EntityId, tuple[Certificate, bytes]] = {}

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
        return self._verified(supplier, KeyUsage.DIGITAL_SIGNATURE, Role.SUPPLIER, now).public_key

    def device_signature_key(self, device: EntityId, now: float) -> EllipticCurvePublicKey:
        """Return the key that verifies a device's responses, alerts and proofs.

        Raises:
            gbcs.errors.CertificateError: there is none, or it is not to be trusted.
        """
        return self._verified(device, KeyUsage.DIGITAL_SIGNATURE, None, now).public_key

    def device_secret(self, device: EntityId, now: float) -> bytes:
        """Return the secret Z that the access control broker shares with a device.

        Raises:
            gbcs.errors.CertificateError: the device's key-agreement certificate is missing, or
                is not to be trusted.
        """
        certificate = self._verified(device, KeyUsage.KEY_AGREEMENT, None, now)
        known = self._secrets.get(device)
        if known is not None and known[0] == certificate:
            return known[1]
        secret = shared_secret(self._broker_key, certificate.public_key)
        self._secrets[device] = (certificate, secret)
        return secret

    def check_device(self, device: EntityId, now: float) -> None:
        """Check that a device has both certificates that commands to it need.

        Raises:
            gbcs.errors.CertificateError: one is missing, or is not to be trusted.
        """
        for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT):
            self._verified(device, usage, None, now)

    def _verified(
        self, entity_id: EntityId, usage: KeyUsage, role: Role | None, now: float
    ) -> Certificate:
        certificate = self.keystore.certificate(entity_id, usage, role=role)
        self.keystore.verify(certificate, at=utc(now), usage=usage, role=role, entity_id=entity_id)
        self.check_not_revoked(certificate)
        return certificate
