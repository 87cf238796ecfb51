"""The fragments of one message, collected until it is whole, then decoded."""

from __future__ import annotations

from typing import Final

from smtunnel.codec import decode_base64_untrusted, inflate_untrusted
from smtunnel.errors import FragmentConflict, LimitExceeded, RemoteError, UnsupportedCompression
from smtunnel.fragments import Fragment
from smtunnel.header import LAST_FLAG, MAX_INDEX, Compression
from smtunnel.limits import DEFAULT_MESSAGE_OCTETS, body_bound

_KIND_SHIFT: Final = 20
_KIND_BASE64: Final = 1


class MessageAssembly:
    """Collects the fragments of one data message, in any order, each any number of times.

    It knows nothing of peers, counters or time: its caller makes sure that only fragments of one
    message come here. After an error it must not be used again.
    """

    __slots__ = (
        "_body_octets",
        "_highest",
        "_kind",
        "_last_index",
        "_max_body_octets",
        "_max_message_octets",
        "_pieces",
    )

    def __init__(self, *, max_message_octets: int = DEFAULT_MESSAGE_OCTETS) -> None:
        """Begin with no fragment.

        Args:
            max_message_octets: the largest message after inflating, in octets.
        """
        self._max_message_octets = max_message_octets
        self._max_body_octets = body_bound(max_message_octets)
        self._pieces: dict[int, bytes] = {}
        self._body_octets = 0
        self._highest = -1
        self._last_index: int | None = None
        # The header's first four bits (originator, compression, encoding), the same in all.
        self._kind = -1

    @property
    def fragments(self) -> int:
        """How many different fragments are here."""
        return len(self._pieces)

    @property
    def fragments_total(self) -> int | None:
        """How many the message has, or None while its last fragment is not here."""
        return None if self._last_index is None else self._last_index + 1

    @property
    def body_octets(self) -> int:
        """The bodies of all fragments here, in octets."""
        return self._body_octets

    @property
    def indices(self) -> tuple[int, ...]:
        """The indices that are here, rising."""
        return tuple(sorted(self._pieces))

    @property
    def highest_index(self) -> int:
        """The highest index that is here; -1 when none is."""
        return self._highest

    @property
    def complete(self) -> bool:
        """True when every fragment is here."""
        return self._last_index is not None and len(self._pieces) == self._last_index + 1

    def missing(self) -> tuple[int, ...]:
        """List the indices not here, up to the last or, while that is unknown, the highest here."""
        return tuple(index for index in range(self._highest + 1) if index not in self._pieces)

    def holds(self, index: int) -> bool:
        """Tell whether the fragment with this index is here."""
        return index in self._pieces

    def add(self, fragment: Fragment) -> bool:
        """Take one fragment.

        Returns:
            False when the very same fragment is here already.

        Raises:
            UnsupportedCompression: its header says reserved, or control, which is not data.
            FragmentConflict: it contradicts the fragments here.
            LimitExceeded: the message would be larger than allowed.
        """
        bits, body = fragment
        if bits >> _KIND_SHIFT != self._kind:
            self._begin_or_refuse(fragment)
        index = bits >> 8 & MAX_INDEX
        last = bits & LAST_FLAG != 0
        if index in self._pieces:
            if self._pieces[index] != body or last != (index == self._last_index):
                raise FragmentConflict(f"fragment {index} came twice with different content")
            return False
        if last or index > self._highest:
            self._check_last(index, last)
        body_octets = self._body_octets + len(body)
        if body_octets > self._max_body_octets:
            raise LimitExceeded(
                f"the fragments hold more than the {self._max_body_octets} characters that a "
                f"message of {self._max_message_octets} octets can need"
            )
        self._body_octets = body_octets
        self._pieces[index] = body
        return True

    def _begin_or_refuse(self, fragment: Fragment) -> None:
        header = fragment.header
        if header.compression is Compression.RESERVED:
            raise UnsupportedCompression(
                "the header says compression 10 (binary), which is reserved for a later version: "
                "the sender must use zlib or none"
            )
        if header.compression is Compression.CONTROL:
            raise UnsupportedCompression("a control record is no part of a data message")
        if self._kind >= 0:
            raise FragmentConflict(
                f"fragment {header.index} differs from the others of its message in originator, "
                "compression or encoding"
            )
        self._kind = fragment.header_bits >> _KIND_SHIFT

    def _check_last(self, index: int, last: bool) -> None:
        known = self._last_index
        if last:
            if known is not None:
                raise FragmentConflict(f"fragments {known} and {index} both say they are the last")
            if index < self._highest:
                raise FragmentConflict(
                    f"fragment {index} says it is the last, but fragment {self._highest} is here"
                )
            self._last_index = index
        elif known is not None and index > known:
            raise FragmentConflict(f"fragment {index} came, but {known} said it is the last")
        self._highest = index

    def decode(self) -> bytes:
        """Decode the whole message.

        Returns:
            The message's octets.

        Raises:
            Base64Error, ZlibError, UnknownDictionary: the fragments do not make a message.
            LimitExceeded: the message is larger than allowed.
            RemoteError: fragments are missing.
        """
        if not self.complete:
            raise RemoteError("the message is not complete: fragments are missing")
        pieces = self._pieces
        octets = b"".join([pieces[index] for index in range(len(pieces))])
        if self._kind & _KIND_BASE64:
            octets = decode_base64_untrusted(octets)
        if self._kind >> 1 & 3 == Compression.ZLIB:
            return inflate_untrusted(octets, max_octets=self._max_message_octets)
        if len(octets) > self._max_message_octets:
            raise LimitExceeded(f"the message has more than {self._max_message_octets} octets")
        return octets
