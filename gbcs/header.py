"""What all GBCS messages have in common: grouping header, signature part, checks of fields.

Source: GBCS 4.3, Grouping Header and MAC Header.
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from typing import Any

from gbcs.entity_id import EntityId
from gbcs.errors import BuildError
from gbcs.layouts import SIGNATURE_OCTETS

MAX_MESSAGE_OCTETS = 1200
"""The longest message that the network carries."""


MESSAGE_CODE_ROUTE_2B = 0xFF2B
"""The message code of route 2b, assumed: GBCS has none for it. Its use cases count up from 0001,
and this end of the range is the farthest from them."""


class CraFlag(enum.IntEnum):
    """Whether a message is a command, a response or an alert.

    Source: GBCS 4.3 Grouping Header.
    """

    COMMAND = 1
    RESPONSE = 2
    ALERT = 3


class SignableMessage(ABC):
    """A message that begins with a grouping header and that its originator signs.

    Messages do not change, so the octets are built when first asked for and kept:
    signing, MAC, checking and sending all want them.
    """

    __slots__ = ("_kept",)

    _kept: bytes
    originator_id: EntityId
    target_id: EntityId
    originator_counter: int

    @abstractmethod
    def _build(self) -> bytes:
        """Build grouping header and content."""

    def body(self) -> bytes:
        """Return grouping header and content: from the tag DF to where the signature begins."""
        try:
            return self._kept
        except AttributeError:
            octets = self._build()
            object.__setattr__(self, "_kept", octets)
            return octets

    def signed_part(self) -> bytes:
        """Return the octets that the originator's signature covers: the body after its tag DF."""
        return self.body()[1:]


def header_values(message: SignableMessage, cra_flag: CraFlag, message_code: int) -> dict[str, Any]:
    """Return the values of the grouping header that all use cases share."""
    return {
        "cra_flag": cra_flag,
        "originator_counter": message.originator_counter,
        "originator_id": message.originator_id.octets,
        "target_id": message.target_id.octets,
        "other_information_length": 2,
        "message_code": message_code,
        "invoke_id": message.originator_counter & 0xFFFFFF,
    }


def signature_part(signature: bytes | None) -> bytes:
    """Return what stands after the content: the signature after its length, 00 when unsigned."""
    return b"\x00" if signature is None else bytes((SIGNATURE_OCTETS,)) + signature


def check_integer(value: object, bits: int, what: str) -> None:
    """Raise BuildError unless value is an unsigned integer of that many bits."""
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << bits:
        raise BuildError(f"{what} is {value!r}: it must be an integer from 0 to 2**{bits} - 1")


def check_octets(value: object, octets: int, what: str) -> None:
    """Raise BuildError unless value is that many octets."""
    if not isinstance(value, bytes) or len(value) != octets:
        raise BuildError(f"{what} must be {octets} octets, not {value!r}")


def check_names(message: SignableMessage) -> None:
    """Raise BuildError unless names and counter can stand in a grouping header."""
    for what in ("originator_id", "target_id"):
        if not isinstance(getattr(message, what), EntityId):
            raise BuildError(f"{what} must be an EntityId, not {getattr(message, what)!r}")
    check_integer(message.originator_counter, 64, "originator_counter")
