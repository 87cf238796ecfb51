"""The control records about messages, echo and capabilities, each with its octets.

Every class checks its values when it is made and raises LocalError where one is out of range;
``parse_untrusted`` reads a body and raises ControlInvalid where it is too short.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Final

from smtunnel.codec import MAX_WINDOW_BITS, MIN_WINDOW_BITS
from smtunnel.errors import LocalError
from smtunnel.header import MAX_FRAGMENTS, MAX_INDEX
from smtunnel.limits import DEFAULT_MESSAGE_OCTETS
from smtunnel.octets import Reader, check_number

PROTOCOL_VERSION: Final = 1
MAX_DICTIONARIES: Final = 32
MAX_ECHO_OCTETS: Final = 64
NONCE_OCTETS: Final = 8
NAME_OCTETS: Final = 5
RANGE_OCTETS: Final = 4


@dataclass(frozen=True, slots=True, order=True)
class MessageName:
    """How a control record names a message.

    Attributes:
        tunnel_message_id: 0 to 255.
        key32: the low 32 bits of the message's key: originator counter minus index of one of its
            fragments. Its low 16 bits are the message's tag.
    """

    tunnel_message_id: int
    key32: int

    def __post_init__(self) -> None:
        check_number(self.tunnel_message_id, 1, "tunnel message id")
        check_number(self.key32, 4, "key32")

    @classmethod
    def of(cls, tunnel_message_id: int, key: int) -> MessageName:
        """Name a message by its id and any of its keys."""
        return cls(tunnel_message_id, key & 0xFFFF_FFFF)

    def to_bytes(self) -> bytes:
        """Build id(1), key32(4)."""
        return self.tunnel_message_id.to_bytes(1, "big") + self.key32.to_bytes(4, "big")

    @classmethod
    def parse_untrusted(cls, body: Reader) -> MessageName:
        """Read id(1), key32(4)."""
        return cls(body.number(1, "tunnel message id"), body.number(4, "key32"))


def _parse_names(body: Reader) -> tuple[MessageName, ...]:
    names = []
    while body.left:
        names.append(MessageName.parse_untrusted(body))
    return tuple(names)


@dataclass(frozen=True, slots=True)
class _Names:
    messages: tuple[MessageName, ...]

    def __post_init__(self) -> None:
        if not self.messages:
            raise LocalError("a receipt names at least one message")

    def build_body(self) -> bytes:
        """Build the names, one after another."""
        return b"".join([name.to_bytes() for name in self.messages])


@dataclass(frozen=True, slots=True)
class Receipt(_Names):
    """These data messages of yours are here, whole and durably stored."""

    KIND: ClassVar[int] = 1

    @classmethod
    def parse_untrusted(cls, body: Reader) -> Receipt:
        """Read the body."""
        return cls(_parse_names(body))


@dataclass(frozen=True, slots=True)
class ControlReceipt(_Names):
    """These control messages of yours are here and were acted on."""

    KIND: ClassVar[int] = 11

    @classmethod
    def parse_untrusted(cls, body: Reader) -> ControlReceipt:
        """Read the body."""
        return cls(_parse_names(body))


@dataclass(frozen=True, slots=True)
class IndexRange:
    """Fragment indices without a gap.

    Attributes:
        start: the first, 0 to 2047.
        count: how many; 0 means all from the first on, where the last is not known.
    """

    start: int
    count: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= MAX_INDEX:
            raise LocalError(f"range start {self.start} is not in 0 to {MAX_INDEX}")
        if not 0 <= self.count <= MAX_FRAGMENTS - self.start:
            raise LocalError(
                f"a range of {self.count} fragments from {self.start} goes beyond index {MAX_INDEX}"
            )


@dataclass(frozen=True, slots=True)
class Missing:
    """This data message of yours lacks fragments: send them again.

    Attributes:
        message: which one.
        ranges: what is missing, rising, none touching the next; only the last may be open.
    """

    KIND: ClassVar[int] = 2
    message: MessageName
    ranges: tuple[IndexRange, ...]

    def __post_init__(self) -> None:
        if not self.ranges:
            raise LocalError("a missing list has at least one range")
        for one, two in zip(self.ranges, self.ranges[1:], strict=False):
            if not one.count or one.start + one.count >= two.start:
                raise LocalError(
                    f"the range from {two.start} does not follow the one from {one.start}: ranges "
                    "rise, do not touch, and only the last may be open"
                )

    def build_body(self) -> bytes:
        """Build the name, then start(2) and count(2) of each range."""
        parts = [self.message.to_bytes()]
        parts += [r.start.to_bytes(2, "big") + r.count.to_bytes(2, "big") for r in self.ranges]
        return b"".join(parts)

    @classmethod
    def parse_untrusted(cls, body: Reader) -> Missing:
        """Read the body."""
        message = MessageName.parse_untrusted(body)
        ranges = []
        while body.left:
            ranges.append(IndexRange(body.number(2, "range start"), body.number(2, "range count")))
        return cls(message, tuple(ranges))


class AbortCode(enum.IntEnum):
    """Why the receiver of a message ended it, as told to its sender."""

    OTHER = 0
    """Another reason, or one that a later version has added."""
    BASE64 = 1
    """The text is not canonical base64."""
    ZLIB = 2
    """The octets are not exactly one whole zlib stream."""
    UNKNOWN_DICTIONARY = 3
    """Detail: the DICTID (4 octets). Send it again without."""
    WINDOW_TOO_LARGE = 4
    """Detail: the largest window taken (1 octet, 9 to 15). Send it again with that."""
    TOO_LONG = 5
    """Detail: the largest message taken, in octets (4 octets)."""
    CONFLICT = 6
    """Fragments contradict each other."""
    UNSUPPORTED_COMPRESSION = 7
    """The header's compression is not known."""
    EXPIRED = 8
    """Fragments were missing for too long. May be sent again as a new message."""
    TOO_MANY_PARTIAL = 9
    """Too many incomplete messages. May be sent again as a new message."""
    MEMORY = 10
    """Too little memory. May be sent again as a new message."""
    WITHDRAWN = 11
    """Ended by whoever runs the receiver."""


_ABORT_CODES: Final = {int(code): code for code in AbortCode}
_DETAIL_OCTETS: Final = {
    AbortCode.UNKNOWN_DICTIONARY: 4,
    AbortCode.WINDOW_TOO_LARGE: 1,
    AbortCode.TOO_LONG: 4,
}


@dataclass(frozen=True, slots=True)
class Abort:
    """This data message of yours has ended here without being delivered, for good.

    Attributes:
        message: which one.
        code: why.
        detail: what the code says it is; 0 where it has none.
    """

    KIND: ClassVar[int] = 3
    message: MessageName
    code: AbortCode
    detail: int = 0

    def __post_init__(self) -> None:
        check_number(self.detail, _DETAIL_OCTETS.get(self.code, 0), f"detail of {self.code.name}")
        if self.code is AbortCode.WINDOW_TOO_LARGE:
            check_window_bits(self.detail)

    def build_body(self) -> bytes:
        """Build name(5), code(1), detail."""
        detail = self.detail.to_bytes(_DETAIL_OCTETS.get(self.code, 0), "big")
        return self.message.to_bytes() + bytes([self.code]) + detail

    @classmethod
    def parse_untrusted(cls, body: Reader) -> Abort:
        """Read the body; a code of a later version counts as OTHER, its detail is dropped."""
        message = MessageName.parse_untrusted(body)
        code = _ABORT_CODES.get(body.number(1, "abort code"))
        if code is None:
            body.rest()
            return cls(message, AbortCode.OTHER)
        return cls(message, code, body.number(_DETAIL_OCTETS.get(code, 0), "detail"))


@dataclass(frozen=True, slots=True)
class Cancelled:
    """I have given this data message of mine up: what you hold of it is of no use."""

    KIND: ClassVar[int] = 12
    message: MessageName

    def build_body(self) -> bytes:
        """Build the name."""
        return self.message.to_bytes()

    @classmethod
    def parse_untrusted(cls, body: Reader) -> Cancelled:
        """Read the body."""
        return cls(MessageName.parse_untrusted(body))


@dataclass(frozen=True, slots=True)
class _Echo:
    nonce: bytes
    opaque: bytes = b""

    def __post_init__(self) -> None:
        if len(self.nonce) != NONCE_OCTETS:
            raise LocalError(f"a nonce has {NONCE_OCTETS} octets, not {len(self.nonce)}")
        if len(self.opaque) > MAX_ECHO_OCTETS:
            raise LocalError(f"an echo carries {MAX_ECHO_OCTETS} octets, not {len(self.opaque)}")

    def build_body(self) -> bytes:
        """Build nonce(8), then the opaque octets."""
        return self.nonce + self.opaque


@dataclass(frozen=True, slots=True)
class EchoRequest(_Echo):
    """Send this back.

    Attributes:
        nonce: 8 octets by which the asking end knows the reply.
        opaque: at most 64 octets more, for the asking end.
    """

    KIND: ClassVar[int] = 4

    @classmethod
    def parse_untrusted(cls, body: Reader) -> EchoRequest:
        """Read the body."""
        return cls(body.take(NONCE_OCTETS, "nonce"), body.rest())


@dataclass(frozen=True, slots=True)
class EchoReply(_Echo):
    """What an echo request carried."""

    KIND: ClassVar[int] = 5

    @classmethod
    def parse_untrusted(cls, body: Reader) -> EchoReply:
        """Read the body."""
        return cls(body.take(NONCE_OCTETS, "nonce"), body.rest())


class ReceiptPolicy(enum.IntEnum):
    """Whether an end tells by receipts that messages have arrived."""

    OFF = 0
    """Never: a CEM, whose answers to ECS46a say it, or a DSRSP that saves the traffic."""
    BATCHED = 1
    """Many in one control message, after some time."""
    EACH = 2
    """At once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What the sender of this record understands, as a receiver.

    Attributes:
        version: the highest version of the protocol it speaks, 1 to 255.
        receipts: how it confirms messages.
        window_bits: base-two logarithm of the largest zlib window it takes, 9 to 15.
        partial_messages: incomplete messages that it holds for this peer, 1 to 255.
        message_octets: the largest message it takes, in octets.
        dictionaries: the DICTIDs of the preset dictionaries it has, rising.
    """

    KIND: ClassVar[int] = 6
    version: int = PROTOCOL_VERSION
    receipts: ReceiptPolicy = ReceiptPolicy.OFF
    window_bits: int = MAX_WINDOW_BITS
    partial_messages: int = 8
    message_octets: int = DEFAULT_MESSAGE_OCTETS
    dictionaries: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, octets in (("version", 1), ("partial_messages", 1), ("message_octets", 4)):
            if getattr(self, name) == 0:
                raise LocalError(f"{name} is 0: it must be at least 1")
            check_number(getattr(self, name), octets, name)
        check_window_bits(self.window_bits)
        if len(self.dictionaries) > MAX_DICTIONARIES:
            raise LocalError(
                f"{len(self.dictionaries)} dictionaries are more than {MAX_DICTIONARIES}"
            )
        for dictionary_id in self.dictionaries:
            check_number(dictionary_id, 4, "DICTID")
        if list(self.dictionaries) != sorted(set(self.dictionaries)):
            raise LocalError("DICTIDs rise, each once")

    def build_body(self) -> bytes:
        """Build version, receipts, window bits, partial messages (1 each), message octets (4)...

        ... and the DICTIDs, four octets each, to the end of the body.
        """
        parts = [bytes([self.version, self.receipts, self.window_bits, self.partial_messages])]
        parts.append(self.message_octets.to_bytes(4, "big"))
        parts += [dictionary_id.to_bytes(4, "big") for dictionary_id in self.dictionaries]
        return b"".join(parts)

    @classmethod
    def parse_untrusted(cls, body: Reader) -> Capabilities:
        """Read the body."""
        version, receipts = body.number(1, "version"), body.number(1, "receipt policy")
        if receipts > max(ReceiptPolicy):
            raise LocalError(f"receipt policy {receipts} is none of 0, 1, 2")
        window_bits, partial = body.number(1, "window bits"), body.number(1, "partial messages")
        message_octets = body.number(4, "message octets")
        dictionaries = []
        while body.left:
            dictionaries.append(body.number(4, "DICTID"))
        return cls(
            version=version,
            receipts=ReceiptPolicy(receipts),
            window_bits=window_bits,
            partial_messages=partial,
            message_octets=message_octets,
            dictionaries=tuple(dictionaries),
        )


@dataclass(frozen=True, slots=True)
class CapabilitiesWanted:
    """Send me your capabilities."""

    KIND: ClassVar[int] = 7

    def build_body(self) -> bytes:
        """Build nothing: the kind says it all."""
        return b""

    @classmethod
    def parse_untrusted(cls, body: Reader) -> CapabilitiesWanted:  # noqa: ARG003
        """Read nothing."""
        return cls()


def check_window_bits(window_bits: int) -> None:
    """Check that zlib can have such a window.

    Raises:
        LocalError: it cannot.
    """
    if not MIN_WINDOW_BITS <= window_bits <= MAX_WINDOW_BITS:
        raise LocalError(
            f"window bits {window_bits} are not in {MIN_WINDOW_BITS} to {MAX_WINDOW_BITS}"
        )
