"""The fragment header: 24 bits before each piece of a message.

bit   23 | 22 21       | 20       | 19   | 18 ........ 8 | 7 ............. 0
      originator | compression | encoding | last | index (11)    | tunnel message id (8)
"""

from __future__ import annotations

import binascii
import enum
from dataclasses import dataclass
from typing import Final

from smtunnel.carriers import HEADER_CHARS, HEADER_OCTETS
from smtunnel.errors import LocalError, NotAFragment

MAX_INDEX: Final = 2047
MAX_FRAGMENTS: Final = MAX_INDEX + 1
MAX_MESSAGE_ID: Final = 255

BASE64_FLAG: Final = 1 << 20
LAST_FLAG: Final = 1 << 19


class Originator(enum.IntEnum):
    """Which end made the message."""

    DSRSP = 0
    CEM = 1


class Compression(enum.IntEnum):
    """What was done to the message before it was encoded as text."""

    NONE = 0
    ZLIB = 1
    RESERVED = 2
    """For a later version; refused by name."""
    CONTROL = 3
    """Not data: a record between the two tunnel ends."""


# Looked up, not called: an enum call costs more than all the shifting.
_ORIGINATORS: Final = tuple(Originator)
_COMPRESSIONS: Final = tuple(Compression)


@dataclass(frozen=True, slots=True)
class FragmentHeader:
    """The header of one fragment.

    Attributes:
        originator: which end made the message.
        compression: what was done to the message's octets.
        base64: True when the body is text, a piece of one base64 stream.
        last: True on the fragment with the highest index of its message.
        index: place in the message, 0 to 2047.
        tunnel_message_id: groups the fragments of one message, 0 to 255; used again and again.
    """

    originator: Originator
    compression: Compression
    base64: bool
    last: bool
    index: int
    tunnel_message_id: int

    @property
    def control(self) -> int:
        """The five control bits as a number, 0 to 31."""
        return self.originator << 4 | self.compression << 2 | self.base64 << 1 | self.last

    def to_bytes(self) -> bytes:
        """Build the three octets.

        Raises:
            LocalError: index or message id is out of range.
        """
        if not 0 <= self.index <= MAX_INDEX:
            raise LocalError(f"fragment index {self.index} is not in 0 to {MAX_INDEX}")
        if not 0 <= self.tunnel_message_id <= MAX_MESSAGE_ID:
            raise LocalError(
                f"tunnel message id {self.tunnel_message_id} is not in 0 to {MAX_MESSAGE_ID}"
            )
        value = self.control << 19 | self.index << 8 | self.tunnel_message_id
        return value.to_bytes(HEADER_OCTETS, "big")

    def encode(self) -> str:
        """Encode the header as it stands on a printable carrier: four base64 characters.

        Raises:
            LocalError: index or message id is out of range.
        """
        return binascii.b2a_base64(self.to_bytes(), newline=False).decode("ascii")


def parse_untrusted_header(header: str | bytes) -> FragmentHeader:
    """Read a header: every value of the 24 bits has a meaning.

    Args:
        header: four base64 characters as str, or three raw octets as bytes.

    Raises:
        NotAFragment: wrong length, or not base64.
    """
    if isinstance(header, str):
        octets = header_octets_of_text(header.encode("ascii", "replace"))
    else:
        octets = header
    if len(octets) != HEADER_OCTETS:
        raise NotAFragment(f"a header has {HEADER_OCTETS} octets, not {len(octets)}")
    return header_of_value(int.from_bytes(octets, "big"))


def header_octets_of_text(text: bytes) -> bytes:
    """Decode the four characters of a header on a printable carrier.

    Raises:
        NotAFragment: not four characters of the base64 alphabet.
    """
    try:
        octets = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error:
        octets = b""
    # Padding would give fewer than three octets: a header never has any.
    if len(text) != HEADER_CHARS or len(octets) != HEADER_OCTETS:
        raise NotAFragment(
            f"a fragment starts with {HEADER_CHARS} characters of the base64 alphabet, "
            f"not with {text[:HEADER_CHARS]!r}"
        )
    return octets


def header_of_value(value: int) -> FragmentHeader:
    """Split the header's 24 bits, given as a number, into fields."""
    return FragmentHeader(
        _ORIGINATORS[value >> 23],
        _COMPRESSIONS[value >> 21 & 3],
        value & BASE64_FLAG != 0,
        value & LAST_FLAG != 0,
        value >> 8 & MAX_INDEX,
        value & MAX_MESSAGE_ID,
    )
