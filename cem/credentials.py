"""The keys of one device, found in a key store and checked before anything starts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from cem.config import CemConfig
from cem.core.admission import Admission, Identities
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import shared_secret
from gbcs.keystore import KeyStore
from gbcs.ports import Signer


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a device needs to check commands and to sign."""

    identities: Identities
    admission: Admission
    signer: Signer


def load_credentials(config: CemConfig, keystore: KeyStore, now: float) -> Credentials:
    """Find and check the certificates and keys of a device.

    Args:
        config: whose.
        keystore: certificates of supplier, access control broker and device, and the
            device's private keys.
        now: the moment for which certificates must be valid, seconds since 1970.

    Raises:
        CertificateError: one is missing, or not to be trusted.
    """
    at = datetime.fromtimestamp(now, UTC)
    device_id = config.device_id
    supplier = keystore.certificate(
        config.supplier_id, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER
    )
    keystore.verify(
        supplier,
        at=at,
        usage=KeyUsage.DIGITAL_SIGNATURE,
        role=Role.SUPPLIER,
        entity_id=config.supplier_id,
    )
    broker = keystore.access_control_broker()
    keystore.verify(
        broker,
        at=at,
        usage=KeyUsage.KEY_AGREEMENT,
        role=Role.ACCESS_CONTROL_BROKER,
        entity_id=None,
    )
    for usage in (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT):
        own = keystore.certificate(device_id, usage)
        keystore.verify(own, at=at, usage=usage, role=None, entity_id=device_id)
    identities = Identities(device_id, config.supplier_id, config.load_controller_id)
    # The same for all commands until a key is replaced, and dear to compute: once is enough.
    broker_secret = shared_secret(
        keystore.private_key(device_id, KeyUsage.KEY_AGREEMENT), broker.public_key
    )
    return Credentials(
        identities,
        Admission(identities, supplier.public_key, broker_secret),
        keystore.signer(device_id),
    )
