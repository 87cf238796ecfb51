"""The control records about route 2b: where a CEM finds the DSRSP's server on the internet.

A route offer's body is its number and fields: tag (one octet), length, value. Fields that are not
known are skipped, so that a later version can say more of a route.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar, Final

from smtunnel.errors import ControlInvalid, LocalError
from smtunnel.octets import Reader, build_length, check_number

MAX_ADDRESSES: Final = 8
MAX_ADDRESS_CHARS: Final = 255
MAX_PINS: Final = 4
PIN_OCTETS: Final = 32
LAST_OFFER: Final = 2**32 - 1
"""The highest number of an offer: when it is withdrawn, any other is newer."""


class _Field(enum.IntEnum):
    ADDRESS = 1
    PIN = 2
    NOT_BEFORE = 3
    NOT_AFTER = 4
    VERSIONS = 5
    MESSAGE_OCTETS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteOffer:
    """You may reach me over the internet.

    Attributes:
        offer: the offer's number, 32 bits; a newer offer replaces all older ones.
        addresses: where, best first: URIs of printable ASCII without spaces.
        pins: SHA-256 of each certificate (DER) that the server may show, 32 octets.
        not_before: from when on, in whole seconds since 1970-01-01T00:00:00Z.
        not_after: until when, the same.
        versions: the versions of route 2b that the server speaks, rising, 1 to 255.
        message_octets: the largest message it takes, in octets.
    """

    KIND: ClassVar[int] = 8
    offer: int
    addresses: tuple[str, ...]
    pins: tuple[bytes, ...]
    not_before: int
    not_after: int
    versions: tuple[int, ...] = (1,)
    message_octets: int

    def __post_init__(self) -> None:
        check_number(self.offer, 4, "offer")
        check_number(self.message_octets, 4, "message octets")
        for moment in (self.not_before, self.not_after):
            check_number(moment, 8, "time")
        if self.not_after <= self.not_before:
            raise LocalError("a route offer must end after it begins")
        if not 1 <= len(self.addresses) <= MAX_ADDRESSES:
            raise LocalError(f"a route offer has 1 to {MAX_ADDRESSES} addresses")
        for address in self.addresses:
            if not 1 <= len(address) <= MAX_ADDRESS_CHARS or not all(
                "!" <= character <= "~" for character in address
            ):
                raise LocalError(
                    f"address {address!r} is not 1 to {MAX_ADDRESS_CHARS} characters "
                    "of printable ASCII without spaces"
                )
        if not 1 <= len(self.pins) <= MAX_PINS or any(len(p) != PIN_OCTETS for p in self.pins):
            raise LocalError(f"a route offer has 1 to {MAX_PINS} pins of {PIN_OCTETS} octets")
        if not self.versions or list(self.versions) != sorted(set(self.versions)):
            raise LocalError("the versions of a route rise, each once, at least one")
        if not 1 <= self.versions[0] <= self.versions[-1] <= 255:
            raise LocalError(f"versions {self.versions} are not all in 1 to 255")

    def build_body(self) -> bytes:
        """Build offer(4), then the fields."""
        fields: list[tuple[_Field, bytes]] = []
        fields += [(_Field.ADDRESS, address.encode("ascii")) for address in self.addresses]
        fields += [(_Field.PIN, pin) for pin in self.pins]
        fields.append((_Field.NOT_BEFORE, self.not_before.to_bytes(8, "big")))
        fields.append((_Field.NOT_AFTER, self.not_after.to_bytes(8, "big")))
        fields.append((_Field.VERSIONS, bytes(self.versions)))
        fields.append((_Field.MESSAGE_OCTETS, self.message_octets.to_bytes(4, "big")))
        parts = [self.offer.to_bytes(4, "big")]
        for tag, value in fields:
            parts += [bytes([tag]), build_length(len(value)), value]
        return b"".join(parts)

    @classmethod
    def parse_untrusted(cls, body: Reader) -> RouteOffer:
        """Read the body; fields of unknown tags are skipped."""
        offer = body.number(4, "offer")
        found: dict[int, list[bytes]] = {}
        while body.left:
            tag = body.number(1, "field tag")
            found.setdefault(tag, []).append(body.counted("field"))
        return cls(
            offer=offer,
            addresses=tuple(
                address.decode("ascii", "replace") for address in found.get(_Field.ADDRESS, ())
            ),
            pins=tuple(found.get(_Field.PIN, ())),
            not_before=_number(found, _Field.NOT_BEFORE, 8),
            not_after=_number(found, _Field.NOT_AFTER, 8),
            versions=tuple(_single(found, _Field.VERSIONS)),
            message_octets=_number(found, _Field.MESSAGE_OCTETS, 4),
        )


def _single(found: dict[int, list[bytes]], field: _Field) -> bytes:
    values = found.get(field, [])
    if len(values) != 1:
        raise ControlInvalid(
            f"route offer: field {field} ({field.name}) stands {len(values)} times, expected once"
        )
    return values[0]


def _number(found: dict[int, list[bytes]], field: _Field, octets: int) -> int:
    value = _single(found, field)
    if len(value) != octets:
        raise ControlInvalid(
            f"route offer: field {field} ({field.name}) has {len(value)} octets, expected {octets}"
        )
    return int.from_bytes(value, "big")


class RouteStatus(enum.IntEnum):
    """What a CEM answers to a route offer."""

    ACCEPTED = 0
    NOT_WANTED = 1
    """This CEM does not use route 2b."""
    NO_COMMON_VERSION = 2
    UNUSABLE_ADDRESS = 3
    OUT_OF_DATE = 4
    """The offer has ended, or a newer one is known."""
    OTHER = 255
    """Another reason, or one that a later version has added."""


_STATUSES: Final = {int(status): status for status in RouteStatus}


@dataclass(frozen=True, slots=True)
class RouteAnswer:
    """What becomes of an offer.

    Attributes:
        offer: the offer's number.
        status: accepted, or why not.
    """

    KIND: ClassVar[int] = 9
    offer: int
    status: RouteStatus

    def __post_init__(self) -> None:
        check_number(self.offer, 4, "offer")

    def build_body(self) -> bytes:
        """Build offer(4), status(1)."""
        return self.offer.to_bytes(4, "big") + bytes([self.status])

    @classmethod
    def parse_untrusted(cls, body: Reader) -> RouteAnswer:
        """Read the body; a status of a later version counts as OTHER."""
        offer, status = body.number(4, "offer"), body.number(1, "status")
        return cls(offer, _STATUSES.get(status, RouteStatus.OTHER))


@dataclass(frozen=True, slots=True)
class RouteWithdrawn:
    """An offer of mine no longer holds.

    Attributes:
        offer: its number.
    """

    KIND: ClassVar[int] = 10
    offer: int

    def __post_init__(self) -> None:
        check_number(self.offer, 4, "offer")

    def build_body(self) -> bytes:
        """Build offer(4)."""
        return self.offer.to_bytes(4, "big")

    @classmethod
    def parse_untrusted(cls, body: Reader) -> RouteWithdrawn:
        """Read the body."""
        return cls(body.number(4, "offer"))
