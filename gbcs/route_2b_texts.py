"""What both ends of route 2b say before the first message, and why they part.

Before messages flow, four JSON texts go over the WebSocket::

    client  {"type": "hello", "version": 1, "device": EUI, "dsrsp": EUI, "nonce": ...,
             "offer": number, "message_octets": number}
    server  {"type": "challenge", "version": 1, "nonce": ...}
    client  {"type": "proof", "signature": ...}
    server  {"type": "welcome", "signature": ..., "message_octets": number}

EUIs are sixteen lower-case hexadecimal digits, nonces 32 octets and signatures 64, both in base64.
Reading is strict: every field, no other, none twice. Who signs what: `gbcs.route_2b_link`.
"""

from __future__ import annotations

import binascii
import enum
import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError
from gbcs.header import check_integer, check_octets
from gbcs.layouts import SIGNATURE_OCTETS

VERSION: Final = 1
SUBPROTOCOL: Final = "smtunnel.route-2b.v1"
PATH_PREFIX: Final = "/route-2b/"
NONCE_OCTETS: Final = 32
MAX_TEXT_OCTETS: Final = 1024
"""No text of the handshake is longer: a server need not read more before it knows its peer."""

MIN_MESSAGE_OCTETS: Final = 512
"""Nobody may take only shorter messages than this: receipts must pass."""

MAX_REASON_OCTETS: Final = 123
"""Source: RFC 6455 section 5.5: a close frame has 125 octets, two of them the code."""


T = TypeVar("T")


class CloseCode(enum.IntEnum):
    """Why a connection of route 2b ends: WebSocket close codes of our own, one for each reason."""

    TOO_LONG = 1009
    """A message longer than this end takes. Source: RFC 6455 section 7.4.1."""
    MALFORMED = 4400
    """A text or message that the other end must not send."""
    BAD_SIGNATURE = 4401
    """A proof or a message whose signature does not hold."""
    UNKNOWN_DEVICE = 4402
    """There is no certificate of this EUI."""
    REVOKED = 4403
    EXPIRED = 4404
    """A certificate, or one above it, is not valid now."""
    WRONG_ROLE = 4405
    """The certificate is of another role or usage."""
    WRONG_ENTITY = 4406
    """An EUI differs: path, hello, certificate and every message must name the same ones."""
    NO_COMMON_VERSION = 4407
    TOO_SLOW = 4408
    """The handshake was not over in time."""
    REPLACED = 4409
    """The same device has connected once more."""
    OFFER_OVER = 4410
    """The offer is not known, withdrawn or out of date: a newer one comes over route 2a."""
    UNTRUSTED = 4411
    """The certificate has no path to a trusted root."""
    SLOW_READER = 4413
    """What was sent to this end is not read: it waits in too long a queue, or for too long."""
    TRY_LATER = 4429
    """Too much at once. The reason begins with the seconds to wait."""


FINAL_CODES: Final = frozenset(
    {
        CloseCode.UNKNOWN_DEVICE,
        CloseCode.REVOKED,
        CloseCode.EXPIRED,
        CloseCode.WRONG_ROLE,
        CloseCode.WRONG_ENTITY,
        CloseCode.NO_COMMON_VERSION,
        CloseCode.OFFER_OVER,
        CloseCode.UNTRUSTED,
    }
)
"""After these the same offer leads nowhere: a client waits for a newer one."""


def cut_reason(text: str) -> str:
    """Return a text as a close frame can hold it."""
    return text.encode()[:MAX_REASON_OCTETS].decode(errors="ignore")


def build_try_later(wait_s: float, why: str) -> str:
    """Return the reason of TRY_LATER: whole seconds, at least 1, then words."""
    return cut_reason(f"{max(1, round(wait_s))} s: {why}")


def parse_untrusted_try_later(reason: str) -> int | None:
    """Return the seconds that a reason of TRY_LATER asks for, or None where it has none."""
    digits, blank, _ = reason.partition(" ")
    if blank and 1 <= len(digits) <= 5 and digits.isascii() and digits.isdigit():
        return int(digits)
    return None


def route_2b_path(device: EntityId) -> str:
    """Return the WebSocket path of a device."""
    return PATH_PREFIX + device.hex


def parse_untrusted_route_2b_path(path: str) -> EntityId:
    """Read the device's name from a WebSocket path.

    Raises:
        FormatError: not ``/route-2b/`` and sixteen lower-case digits.
    """
    name = path.removeprefix(PATH_PREFIX) if path.startswith(PATH_PREFIX) else ""
    device = _entity(name)
    if device is None:
        raise FormatError(
            f"the path is {path[:64]!r}: expected {PATH_PREFIX} and the device's EUI-64 in "
            "sixteen lower-case digits"
        )
    return device


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """The client's first text.

    Args:
        version: of the handshake and of the messages, 0 to 255; so far there is version 1.
        device: who connects.
        dsrsp: whom it wants: the supplier's EUI.
        nonce: 32 unpredictable octets, never used again.
        offer: the number of the route offer that it follows, 32 bits.
        message_octets: the longest message that it takes, at least `MIN_MESSAGE_OCTETS`.

    Raises:
        BuildError: a field is out of range.
    """

    version: int
    device: EntityId
    dsrsp: EntityId
    nonce: bytes
    offer: int
    message_octets: int

    def __post_init__(self) -> None:
        check_integer(self.version, 8, "a version")
        check_octets(self.nonce, NONCE_OCTETS, "a nonce")
        check_integer(self.offer, 32, "an offer's number")
        _check_limit(self.message_octets)

    def build(self) -> str:
        """Return the JSON text."""
        return _text(
            "hello",
            version=self.version,
            device=self.device.hex,
            dsrsp=self.dsrsp.hex,
            nonce=_base64(self.nonce),
            offer=self.offer,
            message_octets=self.message_octets,
        )


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's answer to a hello.

    Args:
        version: the version of the hello, which the server speaks too.
        nonce: 32 unpredictable octets, never used again.

    Raises:
        BuildError: a field is out of range.
    """

    version: int
    nonce: bytes

    def __post_init__(self) -> None:
        check_integer(self.version, 8, "a version")
        check_octets(self.nonce, NONCE_OCTETS, "a nonce")

    def build(self) -> str:
        """Return the JSON text."""
        return _text("challenge", version=self.version, nonce=_base64(self.nonce))


@dataclass(frozen=True, slots=True)
class Proof:
    """The client's answer to a challenge.

    Args:
        signature: raw r || s, 64 octets.

    Raises:
        BuildError: it has another length.
    """

    signature: bytes

    def __post_init__(self) -> None:
        check_octets(self.signature, SIGNATURE_OCTETS, "a signature")

    def build(self) -> str:
        """Return the JSON text."""
        return _text("proof", signature=_base64(self.signature))


@dataclass(frozen=True, slots=True)
class Welcome:
    """The server lets the client in, and proves itself.

    Args:
        signature: raw r || s, 64 octets.
        message_octets: the longest message that the server takes, at least
            `MIN_MESSAGE_OCTETS`.

    Raises:
        BuildError: a field is out of range.
    """

    signature: bytes
    message_octets: int

    def __post_init__(self) -> None:
        check_octets(self.signature, SIGNATURE_OCTETS, "a signature")
        _check_limit(self.message_octets)

    def build(self) -> str:
        """Return the JSON text."""
        return _text(
            "welcome", signature=_base64(self.signature), message_octets=self.message_octets
        )


def parse_untrusted_hello(text: str | bytes) -> Hello:
    """Read a hello; its version may be one that we do not know.

    Raises:
        FormatError: not a hello.
    """
    fields = _fields(
        text, "hello", {"version", "device", "dsrsp", "nonce", "offer", "message_octets"}
    )
    device, dsrsp = (_entity(fields[name]) for name in ("device", "dsrsp"))
    if device is None or dsrsp is None:
        raise FormatError(
            "expected an EUI-64 in sixteen lower-case digits",
            field="device" if device is None else "dsrsp",
        )
    return _made(
        lambda: Hello(
            version=fields["version"],
            device=device,
            dsrsp=dsrsp,
            nonce=_octets(fields, "nonce", NONCE_OCTETS),
            offer=fields["offer"],
            message_octets=fields["message_octets"],
        )
    )


def parse_untrusted_challenge(text: str | bytes) -> Challenge:
    """Read a challenge.

    Raises:
        FormatError: not a challenge.
    """
    fields = _fields(text, "challenge", {"version", "nonce"})
    return _made(lambda: Challenge(fields["version"], _octets(fields, "nonce", NONCE_OCTETS)))


def parse_untrusted_proof(text: str | bytes) -> Proof:
    """Read a proof, unverified.

    Raises:
        FormatError: not a proof.
    """
    fields = _fields(text, "proof", {"signature"})
    return Proof(_octets(fields, "signature", SIGNATURE_OCTETS))


def parse_untrusted_welcome(text: str | bytes) -> Welcome:
    """Read a welcome, unverified.

    Raises:
        FormatError: not a welcome.
    """
    fields = _fields(text, "welcome", {"signature", "message_octets"})
    return _made(
        lambda: Welcome(_octets(fields, "signature", SIGNATURE_OCTETS), fields["message_octets"])
    )


def _made(make: Callable[[], T]) -> T:
    try:
        return make()
    except BuildError as error:
        raise FormatError(str(error)) from None


def _check_limit(octets: object) -> None:
    check_integer(octets, 32, "message_octets")
    if isinstance(octets, int) and octets < MIN_MESSAGE_OCTETS:
        raise BuildError(f"message_octets is {octets}: at least {MIN_MESSAGE_OCTETS}")


def _text(kind: str, **fields: Any) -> str:
    return json.dumps({"type": kind, **fields})


def _base64(octets: bytes) -> str:
    return b64encode(octets).decode("ascii")


def _entity(text: object) -> EntityId | None:
    try:
        entity_id = EntityId.parse(text) if isinstance(text, str) else None
    except BuildError:
        return None
    return entity_id if entity_id is not None and entity_id.hex == text else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice")
    return fields


def _fields(text: str | bytes, kind: str, names: set[str]) -> dict[str, Any]:
    if not isinstance(text, str):
        raise FormatError(f"a binary message came where the {kind} was due")
    if len(text) > MAX_TEXT_OCTETS:
        raise FormatError(f"{len(text)} characters where the {kind} was due: too many")
    try:
        fields = json.loads(text, object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise FormatError(f"what came where the {kind} was due is not JSON") from None
    if not isinstance(fields, dict) or fields.get("type") != kind:
        raise FormatError(f'expected a JSON object with "type": "{kind}", got {text[:64]!r}')
    if set(fields) != names | {"type"}:
        raise FormatError(
            f"a {kind} has the fields {sorted(names | {'type'})}, not {sorted(fields)}"
        )
    return fields


def _octets(fields: dict[str, Any], name: str, count: int) -> bytes:
    value = fields[name]
    try:
        octets = b64decode(value, validate=True) if isinstance(value, str) else b""
    except (binascii.Error, ValueError):
        octets = b""
    # Encoding again refuses tails that decode but are not canonical.
    if len(octets) != count or _base64(octets) != value:
        raise FormatError(f"expected {count} octets in base64", field=name)
    return octets
