"""The message of route 2b: a whole tunnel message, signed as GBCS messages are, over the internet.

It is a general-signing message like those of route 2a, under a message code of its own, so that
neither route takes what was made for the other. It has no place in GBCS: layout and code are an
assumption of this project::

    DF                        general-signing
    09 CRA counter(8)         CRA 01 from the supplier, 03 from the device; Originator Counter
    08 originator EUI-64
    08 recipient EUI-64
    00                        date-time, empty
    02 FF2B                   other information: the message code
    length                    of what follows, up to the signature
    version(1)                of this layout: 1
    payload                   what the tunnel sends
    40 r(32) s(32)            signature over everything after DF and before this 40

Lengths are A-XDR in their shortest form. Route 2a never needs more than two octets of length;
here there may be three or four (83, 84). Reading is canonical: what `parse_untrusted_route_2b`
takes, ``to_bytes`` gives back octet for octet.

Source: GBCS 4.3, Grouping Header; IEC 61334-6 (A-XDR lengths).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

from gbcs.crypto import verify_signature
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, FormatError, SignatureInvalid
from gbcs.header import (
    MESSAGE_CODE_ROUTE_2B,
    CraFlag,
    SignableMessage,
    check_names,
    check_octets,
    signature_part,
)
from gbcs.layouts import SIGNATURE_OCTETS, Part
from gbcs.ports import Signer

__all__ = [
    "DEFAULT_MESSAGE_OCTETS",
    "FIXED_OCTETS",
    "MAX_MESSAGE_OCTETS",
    "MESSAGE_CODE_ROUTE_2B",
    "VERSION",
    "Route2bMessage",
    "is_route_2b",
    "message_octets_for",
    "parse_untrusted_route_2b",
    "parse_untrusted_unsigned_route_2b",
    "parts_of",
    "payload_capacity",
    "sign_route_2b",
    "verify_route_2b",
]

VERSION: Final = 1

MAX_MESSAGE_OCTETS: Final = 1 << 26
"""No limit may be set above this, 64 MiB: a message is held in memory several times over."""

DEFAULT_MESSAGE_OCTETS: Final = 1 << 20
"""The longest whole message that an end takes unless it is set otherwise, 1 MiB."""

_HEAD = struct.Struct(">BBBQB8sB8sBBH")
_TAG, _COUNTER_OCTETS, _NAME_OCTETS = 0xDF, 9, 8
_CODE = slice(_HEAD.size - 2, _HEAD.size)
_CRA_FLAGS = {int(flag): flag for flag in (CraFlag.COMMAND, CraFlag.ALERT)}
_MAX_LENGTH_OCTETS = 4

FIXED_OCTETS: Final = _HEAD.size + 1 + _MAX_LENGTH_OCTETS + 1 + 1 + SIGNATURE_OCTETS
"""What a message takes beside its payload, at most: 104 octets."""


def payload_capacity(message_octets: int) -> int:
    """Return the longest payload that surely fits a message of so many octets."""
    return message_octets - FIXED_OCTETS


def message_octets_for(payload_octets: int) -> int:
    """Return the length of a signed message with a payload of so many octets."""
    content = 1 + payload_octets
    return _HEAD.size + len(_length_octets(content)) + content + 1 + SIGNATURE_OCTETS


@dataclass(frozen=True, slots=True)
class Route2bMessage(SignableMessage):
    """One message of route 2b.

    Args:
        originator_id: who made and signs it: the supplier or the device.
        target_id: whom it is for.
        originator_counter: the originator's counter, 0 to 2**64 - 1, as on route 2a.
        cra_flag: COMMAND from the supplier, ALERT from the device.
        payload: what the tunnel sends; the message may have `MAX_MESSAGE_OCTETS`.
        signature: raw r || s, 64 octets; None as long as it is unsigned.

    Raises:
        BuildError: a field is out of range, or the message would be too long.
    """

    use_case: ClassVar[str] = "route 2b"

    originator_id: EntityId
    target_id: EntityId
    originator_counter: int
    cra_flag: CraFlag
    payload: bytes
    signature: bytes | None = None

    def __post_init__(self) -> None:
        check_names(self)
        if self.cra_flag not in _CRA_FLAGS:
            raise BuildError(
                f"cra_flag is {self.cra_flag!r}: route 2b has COMMAND (from the supplier) and "
                "ALERT (from the device)"
            )
        if not isinstance(self.payload, bytes):
            raise BuildError(f"a payload must be octets, not {type(self.payload).__name__}")
        if self.signature is not None:
            check_octets(self.signature, SIGNATURE_OCTETS, "a signature")
        octets = message_octets_for(len(self.payload))
        if octets > MAX_MESSAGE_OCTETS:
            raise BuildError(
                f"the message would have {octets} octets of {MAX_MESSAGE_OCTETS}: "
                f"shorten the payload by {octets - MAX_MESSAGE_OCTETS}"
            )

    def to_bytes(self) -> bytes:
        """Return the message: from the tag DF to the end of the signature (00 when unsigned)."""
        return self.body() + signature_part(self.signature)

    def with_signature(self, signature: bytes) -> Route2bMessage:
        """Return the same message with this signature, 64 octets."""
        signed = replace(self, signature=signature)
        object.__setattr__(signed, "_kept", self.body())
        return signed

    def _build(self) -> bytes:
        head = _HEAD.pack(
            _TAG,
            _COUNTER_OCTETS,
            self.cra_flag,
            self.originator_counter,
            _NAME_OCTETS,
            self.originator_id.octets,
            _NAME_OCTETS,
            self.target_id.octets,
            0,
            2,
            MESSAGE_CODE_ROUTE_2B,
        )
        length = _length_octets(1 + len(self.payload))
        return b"".join((head, length, bytes((VERSION,)), self.payload))


def is_route_2b(octets: bytes) -> bool:
    """Tell whether octets claim to be a message of route 2b: by their tag and message code."""
    return octets[:1] == b"\xdf" and octets[_CODE] == MESSAGE_CODE_ROUTE_2B.to_bytes(2, "big")


def parse_untrusted_route_2b(
    octets: bytes, *, max_message_octets: int = DEFAULT_MESSAGE_OCTETS
) -> Route2bMessage:
    """Read a message of route 2b, checking every octet but not the signature.

    Args:
        octets: one whole message.
        max_message_octets: the longest that this end takes, up to `MAX_MESSAGE_OCTETS`.

    Returns:
        The message, always with a signature; its ``to_bytes()`` gives back the same octets.

    Raises:
        FormatError: not such a message, unsigned, of another version, or too long; says where.
        BuildError: the limit is out of range.
    """
    return _read(octets, max_message_octets, signed=True)


def parse_untrusted_unsigned_route_2b(
    octets: bytes, *, max_message_octets: int = DEFAULT_MESSAGE_OCTETS
) -> Route2bMessage:
    """Read a message of route 2b that is yet to be signed, for who signs in another's name.

    Args:
        octets: one whole message that ends with 00 in place of a signature.
        max_message_octets: the longest to be signed, with its signature.

    Returns:
        The message, without a signature; its ``to_bytes()`` gives back the same octets.

    Raises:
        FormatError: not such a message, signed, of another version, or too long; says where.
        BuildError: the limit is out of range.
    """
    return _read(octets, max_message_octets, signed=False)


def _read(octets: bytes, max_message_octets: int, *, signed: bool) -> Route2bMessage:
    if not 1 <= max_message_octets <= MAX_MESSAGE_OCTETS:
        raise BuildError(f"max_message_octets = {max_message_octets}: 1 to {MAX_MESSAGE_OCTETS}")
    signature_octets = SIGNATURE_OCTETS if signed else 0
    if len(octets) + SIGNATURE_OCTETS - signature_octets > max_message_octets:
        raise FormatError(
            f"{len(octets)} octets; a message of route 2b has at most {max_message_octets} here"
        )
    head = _read_head(octets)
    content_at, content_octets = _read_length(octets, _HEAD.size)
    end = content_at + content_octets
    expected = end + 1 + signature_octets
    if content_octets < 1:
        raise FormatError("there is no version octet", offset=content_at, field="version")
    if end >= len(octets):
        raise FormatError(
            f"the content of {content_octets} octets ends behind the message of {len(octets)}",
            offset=_HEAD.size,
            field="content length",
        )
    _expect(octets, content_at, VERSION, "version")
    _expect(octets, end, signature_octets, "signature length")
    if len(octets) != expected:
        raise FormatError(
            f"found {len(octets)} octets, expected {expected}", offset=end, field="signature"
        )
    message = Route2bMessage(
        originator_id=EntityId(head[5]),
        target_id=EntityId(head[7]),
        originator_counter=head[3],
        cra_flag=_CRA_FLAGS[head[2]],
        payload=octets[content_at + 1 : end],
        signature=octets[end + 1 :] if signed else None,
    )
    # What is checked and given back later are the octets as received.
    object.__setattr__(message, "_kept", octets[:end])
    return message


def _read_head(octets: bytes) -> tuple[int, int, int, int, int, bytes, int, bytes, int, int, int]:
    if len(octets) < _HEAD.size:
        raise FormatError(f"{len(octets)} octets: a grouping header alone has {_HEAD.size}")
    for offset, value, field in (
        (0, _TAG, "tag"),
        (1, _COUNTER_OCTETS, "transaction id length"),
        (11, _NAME_OCTETS, "originator length"),
        (20, _NAME_OCTETS, "recipient length"),
        (29, 0, "date-time"),
    ):
        _expect(octets, offset, value, field)
    code = int.from_bytes(octets[_CODE], "big")
    if octets[30] != 2 or code != MESSAGE_CODE_ROUTE_2B:
        raise FormatError(
            f"message code {code:04X} is not that of route 2b, {MESSAGE_CODE_ROUTE_2B:04X}: "
            "messages of route 2a travel through the smart metering system only",
            offset=_CODE.start,
            field="message code",
        )
    if octets[2] not in _CRA_FLAGS:
        raise FormatError(
            f"found {octets[2]:02X}, expected 01 (from the supplier) or 03 (from the device)",
            offset=2,
            field="CRA flag",
        )
    head: tuple[int, int, int, int, int, bytes, int, bytes, int, int, int]
    head = _HEAD.unpack_from(octets)
    return head


def _expect(octets: bytes, offset: int, value: int, field: str) -> None:
    if octets[offset] == value:
        return
    hint = ""
    if field == "signature length" and octets[offset] == 0:
        hint = ": the message is not signed"
    elif field == "signature length" and value == 0:
        hint = ": the message is signed already"
    if field == "version":
        hint = ": the sender speaks another version of route 2b"
    raise FormatError(
        f"found {octets[offset]:02X}, expected {value:02X}{hint}", offset=offset, field=field
    )


def _length_octets(length: int) -> bytes:
    if length < 0x80:
        return bytes((length,))
    count = (length.bit_length() + 7) // 8
    return bytes((0x80 + count,)) + length.to_bytes(count, "big")


def _read_length(octets: bytes, at: int) -> tuple[int, int]:
    """Return where the content begins and how long it claims to be."""
    if at >= len(octets):
        raise FormatError("the message ends before it", offset=at, field="content length")
    first = octets[at]
    if first < 0x80:
        return at + 1, first
    count = first - 0x80
    field = octets[at + 1 : at + 1 + count]
    if not 1 <= count <= _MAX_LENGTH_OCTETS or len(field) != count:
        raise FormatError(
            f"found {first:02X}, expected a length: 00 to 7F, or 81 to 84 and so many octets",
            offset=at,
            field="content length",
        )
    length = int.from_bytes(field, "big")
    if _length_octets(length) != octets[at : at + 1 + count]:
        raise FormatError(
            f"length {length} is not in its shortest form", offset=at, field="content length"
        )
    return at + 1 + count, length


def sign_route_2b(message: Route2bMessage, signer: Signer) -> Route2bMessage:
    """Return the message signed with its originator's digital-signature key."""
    return message.with_signature(signer.sign(message.signed_part()))


def verify_route_2b(message: Route2bMessage, public_key: EllipticCurvePublicKey) -> None:
    """Check the signature of a message, over the octets as received.

    Args:
        message: as parsed.
        public_key: of the originator's digital-signature certificate.

    Raises:
        SignatureInvalid: the message is unsigned, or its signature does not hold.
    """
    if message.signature is None:
        raise SignatureInvalid("the message of route 2b is not signed")
    verify_signature(public_key, message.signature, message.signed_part())


def parts_of(message: Route2bMessage) -> tuple[Part, ...]:
    """Return the parts of a message in their order, for whoever shows it to people."""
    body = message.body()
    content_octets = 1 + len(message.payload)
    content_at = len(body) - content_octets
    found: list[Part] = []

    def add(title: str, name: str | None, octets: bytes, value: object = None) -> None:
        offset = sum(len(part.octets) for part in found[-1:]) + (found[-1].offset if found else 0)
        found.append(Part(title, name, offset, octets, value))

    add("general-signing tag", None, body[0:1])
    add("transaction id length", None, body[1:2])
    add("CRA flag", "cra_flag", body[2:3], int(message.cra_flag))
    add("originator counter", "originator_counter", body[3:11], message.originator_counter)
    add("originator length", None, body[11:12])
    add("originator", "originator_id", body[12:20], body[12:20])
    add("recipient length", None, body[20:21])
    add("recipient", "target_id", body[21:29], body[21:29])
    add("date-time, empty", None, body[29:30])
    add("other information length", "other_information_length", body[30:31], 2)
    add("message code", "message_code", body[31:33], MESSAGE_CODE_ROUTE_2B)
    add("content length", "content_length", body[33:content_at], content_octets)
    add("version", "version", body[content_at : content_at + 1], VERSION)
    if message.payload:
        add("payload", "payload", message.payload, message.payload)
    part = signature_part(message.signature)
    add("signature length", None, part[:1])
    if message.signature is not None:
        add("signature", None, message.signature)
    return tuple(found)
