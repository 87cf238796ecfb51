"""Signatures and MACs of GBCS messages.

Keys are ECDSA and ECDH keys of the ``cryptography`` package, on P-256.

Source: GBCS 4.3; FIPS 186-4 (ECDSA), NIST SP 800-56A (key agreement and derivation),
NIST SP 800-38D (GMAC).
"""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256

from gbcs.errors import BuildError, MacInvalid, SignatureInvalid
from gbcs.layouts import MAC_OCTETS, SECURITY_HEADER, SIGNATURE_OCTETS
from gbcs.messages import Alert, Command, CraFlag, PreCommand, Response, SignedPreCommand
from gbcs.ports import Signer

SignedMessage: TypeAlias = SignedPreCommand | Command | Response | Alert

_HALF = SIGNATURE_OCTETS // 2
_ALGORITHM_ID = bytes.fromhex("60857406080300")
_ECDSA = ec.ECDSA(SHA256())


class EcdsaSigner:
    """Signs with one ECDSA P-256 private key that is held in memory.

    Args:
        private_key: a key on P-256.
        deterministic: RFC 6979 signatures, the same for the same data each time; for test
            vectors.

    Raises:
        BuildError: the key is on another curve.
    """

    __slots__ = ("_algorithm", "_private_key")

    def __init__(
        self, private_key: ec.EllipticCurvePrivateKey, *, deterministic: bool = False
    ) -> None:
        if not isinstance(private_key.curve, ec.SECP256R1):
            raise BuildError(f"the signing key is on {private_key.curve.name}: it must be on P-256")
        self._private_key = private_key
        self._algorithm = (
            ec.ECDSA(SHA256(), deterministic_signing=True) if deterministic else _ECDSA
        )

    def sign(self, data: bytes) -> bytes:
        """Return the signature of data (SHA-256) as raw r || s, 64 octets."""
        r, s = decode_dss_signature(self._private_key.sign(data, self._algorithm))
        return r.to_bytes(_HALF, "big") + s.to_bytes(_HALF, "big")


def verify_signature(public_key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """Check an ECDSA signature with SHA-256.

    Args:
        public_key: on P-256.
        signature: raw r || s, 64 octets.
        data: what was signed.

    Raises:
        SignatureInvalid: the signature does not hold.
    """
    if len(signature) != SIGNATURE_OCTETS:
        raise SignatureInvalid(f"a signature has {SIGNATURE_OCTETS} octets, not {len(signature)}")
    r = int.from_bytes(signature[:_HALF], "big")
    s = int.from_bytes(signature[_HALF:], "big")
    try:
        public_key.verify(encode_dss_signature(r, s), data, _ECDSA)
    except InvalidSignature:
        raise SignatureInvalid(
            "the signature does not hold: the message was changed or another key signed it"
        ) from None


def sign_pre_command(pre_command: PreCommand, signer: Signer) -> SignedPreCommand:
    """Sign a pre-command with the supplier's digital-signature key."""
    return SignedPreCommand(pre_command, signer.sign(pre_command.signed_part()))


def sign_response(response: Response, signer: Signer) -> Response:
    """Return the response signed with the device's digital-signature key."""
    return response.with_signature(signer.sign(response.signed_part()))


def sign_alert(alert: Alert, signer: Signer) -> Alert:
    """Return the alert signed with the device's digital-signature key."""
    return alert.with_signature(signer.sign(alert.signed_part()))


def verify_message(message: SignedMessage, public_key: ec.EllipticCurvePublicKey) -> None:
    """Check the signature (not the MAC) of a message.

    Args:
        message: as parsed; encoding is canonical, so the check is over the octets as received.
        public_key: of the originator's digital-signature certificate.

    Raises:
        SignatureInvalid: the message is unsigned, or its signature does not hold.
    """
    signed = message.signed_pre_command if isinstance(message, Command) else message
    if signed.signature is None:
        raise SignatureInvalid(f"the {type(message).__name__.lower()} is not signed")
    verify_signature(public_key, signed.signature, signed.signed_part())


def shared_secret(
    private_key: ec.EllipticCurvePrivateKey, public_key: ec.EllipticCurvePublicKey
) -> bytes:
    """Return Z of static ECDH between broker and device: 32 octets, secret.

    Callers keep it: it is the same for all messages of a device, until a key is replaced.

    Raises:
        BuildError: the keys are not both on P-256.

    Source: NIST SP 800-56A, static unified model C(0e, 2s, ECC CDH).
    """
    for key in (private_key, public_key):
        if not isinstance(key.curve, ec.SECP256R1):
            raise BuildError(f"a key-agreement key is on {key.curve.name}: it must be on P-256")
    return private_key.exchange(ec.ECDH(), public_key)


def add_mac(signed: SignedPreCommand, z: bytes) -> Command:
    """Add the access control broker's MAC.

    Args:
        signed: the signed pre-command.
        z: `shared_secret` of broker and device.
    """
    return Command(signed, _mac(signed, z))


def verify_mac(command: Command, z: bytes) -> None:
    """Check a command's MAC, in constant time.

    Args:
        command: as parsed.
        z: `shared_secret` of broker and device.

    Raises:
        MacInvalid: the MAC does not hold.
    """
    if not hmac.compare_digest(_mac(command.signed_pre_command, z), command.mac):
        raise MacInvalid(
            "the MAC does not hold: the message was changed, or broker and device keys differ"
        )


def _mac(signed: SignedPreCommand, z: bytes) -> bytes:
    pre_command = signed.pre_command
    originator = pre_command.originator_id.octets
    transaction = bytes((9, CraFlag.COMMAND)) + pre_command.originator_counter.to_bytes(8, "big")
    other_info = _ALGORITHM_ID + originator + transaction + pre_command.target_id.octets
    key = sha256(b"\x00\x00\x00\x01" + z + other_info).digest()[:16]
    # The additional 00 stands for an empty field that is not on the wire.
    protected = SECURITY_HEADER + b"\x00" + signed.to_bytes()
    return AESGCM(key).encrypt(originator + bytes(4), b"", protected)[:MAC_OCTETS]
