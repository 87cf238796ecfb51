"""How a device proves its identity to the simulated communications hub.

In the field a device joins the hub's home area network by Zigbee, with keys of
its own. Here it opens a WebSocket instead; that and this handshake are an
assumption of this project, not part of any specification.

- The device opens the path ``/device/{EUI}``.
- The hub sends the text ``{"type": "challenge", "version": 1, "nonce": ...}``.
- The device answers ``{"type": "proof", "nonce": ..., "signature": ...}``. It
  signs, with its digital-signature key, the octets ``smtunnel device link v1``
  and a NUL, its EUI-64, the hub's nonce and its own nonce.
- The hub sends ``{"type": "welcome"}``. From then on each binary message is one
  whole GBCS message, either way.
- A hub that refuses closes with `CLOSE_REFUSED` and the reason. A second
  connection of the same device, once it is proven, takes the place of the
  first, which is closed with `CLOSE_REPLACED`.

Nonces are 32 octets, signatures 64; both are base64 in JSON.
"""

from __future__ import annotations

import binascii
import json
from base64 import b64decode, b64encode
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from gbcs.crypto import verify_signature
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError
from gbcs.layouts import SIGNATURE_OCTETS
from gbcs.ports import Signer

VERSION = 1
NONCE_OCTETS = 32
PATH_PREFIX = "/device/"
CLOSE_REFUSED = 4401
CLOSE_REPLACED = 4409
MAX_TEXT_CHARS = 1024

_CONTEXT = b"smtunnel device link v1\x00"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What the hub asks a device to sign.

    Args:
        nonce: 32 unpredictable octets, never used again.

    Raises:
        BuildError: the nonce has another length.
    """

    nonce: bytes

    def __post_init__(self) -> None:
        _check(self.nonce, NONCE_OCTETS, "a nonce")

    def build(self) -> str:
        """Return the JSON text."""
        return json.dumps({"type": "challenge", "version": VERSION, "nonce": _text(self.nonce)})


@dataclass(frozen=True, slots=True)
class Proof:
    """A device's answer to a challenge.

    Args:
        nonce: 32 unpredictable octets of the device's own.
        signature: raw r || s, 64 octets.

    Raises:
        BuildError: nonce or signature has another length.
    """

    nonce: bytes
    signature: bytes

    def __post_init__(self) -> None:
        _check(self.nonce, NONCE_OCTETS, "a nonce")
        _check(self.signature, SIGNATURE_OCTETS, "a signature")

    def build(self) -> str:
        """Return the JSON text."""
        return json.dumps(
            {"type": "proof", "nonce": _text(self.nonce), "signature": _text(self.signature)}
        )


def build_welcome() -> str:
    """Return the JSON text with which the hub lets the device in."""
    return json.dumps({"type": "welcome"})


def device_path(entity_id: EntityId) -> str:
    """Return the WebSocket path of a device."""
    return PATH_PREFIX + entity_id.hex


def parse_untrusted_path(path: str) -> EntityId:
    """Read the device's name from a WebSocket path.

    Raises:
        FormatError: not ``/device/{EUI}``.
    """
    try:
        if not path.startswith(PATH_PREFIX):
            raise BuildError("another path")
        return EntityId.parse(path.removeprefix(PATH_PREFIX))
    except BuildError:
        raise FormatError(
            f"the path is {path[:64]!r}: expected {PATH_PREFIX} and the device's EUI-64"
        ) from None


def parse_untrusted_challenge(text: str | bytes) -> Challenge:
    """Read a hub's challenge.

    Raises:
        FormatError: not a challenge, or of a version that we do not know.
    """
    fields = _fields(text, "challenge", {"type", "version", "nonce"})
    version = fields["version"]
    if version != VERSION or isinstance(version, bool):
        raise FormatError(f"version {version!r} of the device link: this end knows {VERSION}")
    return Challenge(_octets(fields, "nonce", NONCE_OCTETS))


def parse_untrusted_proof(text: str | bytes) -> Proof:
    """Read a device's proof; `verify_proof` says whether it holds.

    Raises:
        FormatError: not a proof.
    """
    fields = _fields(text, "proof", {"type", "nonce", "signature"})
    return Proof(
        _octets(fields, "nonce", NONCE_OCTETS), _octets(fields, "signature", SIGNATURE_OCTETS)
    )


def parse_untrusted_welcome(text: str | bytes) -> None:
    """Check that the hub lets the device in.

    Raises:
        FormatError: not a welcome.
    """
    _fields(text, "welcome", {"type"})


def make_proof(challenge: Challenge, entity_id: EntityId, signer: Signer, nonce: bytes) -> Proof:
    """Answer a challenge.

    Args:
        challenge: as the hub sent it.
        entity_id: the device.
        signer: with the device's digital-signature key.
        nonce: 32 unpredictable octets.

    Raises:
        BuildError: the nonce has another length.
    """
    _check(nonce, NONCE_OCTETS, "a nonce")
    return Proof(nonce, signer.sign(_signed_octets(challenge, entity_id, nonce)))


def verify_proof(
    proof: Proof, challenge: Challenge, entity_id: EntityId, public_key: EllipticCurvePublicKey
) -> None:
    """Check that the device which the path names holds its key.

    Args:
        proof: as received.
        challenge: what this connection was asked.
        entity_id: the device that the path names.
        public_key: of that device's digital-signature certificate.

    Raises:
        SignatureInvalid: it does not.
    """
    verify_signature(public_key, proof.signature, _signed_octets(challenge, entity_id, proof.nonce))


def _signed_octets(challenge: Challenge, entity_id: EntityId, nonce: bytes) -> bytes:
    return _CONTEXT + entity_id.octets + challenge.nonce + nonce


def _check(octets: object, count: int, what: str) -> None:
    if not isinstance(octets, bytes) or len(octets) != count:
        raise BuildError(f"{what} of the device link must be {count} octets")


def _text(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _fields(text: str | bytes, kind: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(text, str):
        raise FormatError(f"a binary message came where the {kind} was due")
    if len(text) > MAX_TEXT_CHARS:
        raise FormatError(f"{len(text)} characters where the {kind} was due: too many")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise FormatError(f"what came where the {kind} was due is not JSON") from None
    if not isinstance(fields, dict) or fields.get("type") != kind:
        raise FormatError(f'expected a JSON object with "type": "{kind}", got {text[:64]!r}')
    if set(fields) != names:
        raise FormatError(f"a {kind} has the fields {sorted(names)}, not {sorted(fields)}")
    return fields


def _octets(fields: dict[str, Any], name: str, count: int) -> bytes:
    value = fields[name]
    try:
        octets = b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        octets = b""
    # Encoding again refuses tails that decode but are not canonical.
    if len(octets) != count or _text(octets) != value:
        raise FormatError(f"expected {count} octets in base64", field=name)
    return octets
