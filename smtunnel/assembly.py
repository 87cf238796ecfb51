"""The fragments of one message, collected until it is whole, and decoded."""

from __future__ import annotations

import zlib
from array import array
from typing import Final

from smtunnel.codec import MAX_WINDOW_BITS, decode_base64_untrusted, inflate_untrusted
from smtunnel.errors import FragmentConflict, LimitExceeded, RemoteError, UnsupportedCompression
from smtunnel.fragments import Fragment
from smtunnel.header import LAST_FLAG, MAX_INDEX, Compression
from smtunnel.limits import (
    DEFAULT_MESSAGE_OCTETS,
    DEFAULT_STREAM_FROM_CHARS,
    FRAGMENT_OVERHEAD_OCTETS,
    INFLATER_OCTETS,
    MESSAGE_OVERHEAD_OCTETS,
    body_bound,
)
from smtunnel.records import IndexRange
from smtunnel.stream import StreamDecoder

_KIND_SHIFT: Final = 20
_KIND_BASE64: Final = 1


class MessageAssembly:
    """Collects the fragments of one message, in any order, each any number of times.

    It knows nothing of peers, counters or time: its caller makes sure that only fragments of one
    message come here. After an error it must not be used again.

    Bodies that stand in order from the first on are decoded, and then dropped, as soon as there
    are enough of them; so no part of a message is held both as text and decoded. Fewer are kept
    as they are: an inflater needs more memory than they do.
    """

    __slots__ = (
        "_body_octets",
        "_checks",
        "_control",
        "_decoder",
        "_highest",
        "_kind",
        "_last_index",
        "_max_body_octets",
        "_max_message_octets",
        "_next",
        "_pieces",
        "_run",
        "_run_octets",
        "_stream_from",
        "_window_bits",
        "held_octets",
    )

    def __init__(
        self,
        *,
        max_message_octets: int = DEFAULT_MESSAGE_OCTETS,
        window_bits: int = MAX_WINDOW_BITS,
        stream_from_chars: int = DEFAULT_STREAM_FROM_CHARS,
        control: bool = False,
    ) -> None:
        """Begin with no fragment.

        Args:
            max_message_octets: the largest message after inflating, in octets.
            window_bits: base-two logarithm of the largest zlib window that is taken, 9 to 15.
            stream_from_chars: how much text in order begins the decoding before all is here.
            control: True for a control message, whose octets are not compressed.
        """
        self._max_message_octets = max_message_octets
        self._max_body_octets = body_bound(max_message_octets)
        self._window_bits = window_bits
        self._stream_from = stream_from_chars
        self._control = control
        # Bodies that are not decoded yet, by index.
        self._pieces: dict[int, bytes] = {}
        # Of each body that is decoded: its CRC-32, to know it again.
        self._checks = array("I")
        self._decoder: StreamDecoder | None = None
        # The first index that is not decoded; the first that is not here; the text between.
        self._next = self._run = self._run_octets = 0
        self._body_octets = 0
        self.held_octets = MESSAGE_OVERHEAD_OCTETS
        """What is held of the message, in octets, with what it costs beside its text."""
        self._highest = -1
        self._last_index: int | None = None
        # The header's first four bits (originator, compression, encoding), the same in all.
        self._kind = -1

    @property
    def fragments(self) -> int:
        """How many different fragments have come."""
        return self._next + len(self._pieces)

    @property
    def fragments_total(self) -> int | None:
        """How many the message has, or None while its last fragment has not come."""
        return None if self._last_index is None else self._last_index + 1

    @property
    def body_octets(self) -> int:
        """The bodies of all fragments that have come, in octets."""
        return self._body_octets

    @property
    def indices(self) -> tuple[int, ...]:
        """The indices that have come, rising."""
        return (*range(self._next), *sorted(self._pieces))

    @property
    def highest_index(self) -> int:
        """The highest index that has come; -1 when none has."""
        return self._highest

    @property
    def complete(self) -> bool:
        """True when every fragment has come."""
        return self._last_index is not None and self._run == self._last_index + 1

    def missing(self) -> tuple[int, ...]:
        """List the indices not here, up to the last or, while that is unknown, the highest here."""
        return tuple(i for i in range(self._run, self._highest + 1) if i not in self._pieces)

    def missing_ranges(self) -> tuple[IndexRange, ...]:
        """List the indices not here as ranges, the last one open while the last is not known."""
        ranges: list[IndexRange] = []
        for index in self.missing():
            if ranges and ranges[-1].start + ranges[-1].count == index:
                ranges[-1] = IndexRange(ranges[-1].start, ranges[-1].count + 1)
            else:
                ranges.append(IndexRange(index, 1))
        if self._last_index is None and self._highest < MAX_INDEX:
            ranges.append(IndexRange(self._highest + 1, 0))
        return tuple(ranges)

    def holds(self, index: int) -> bool:
        """Tell whether the fragment with this index has come."""
        return index < self._next or index in self._pieces

    def add(self, fragment: Fragment) -> bool:
        """Take one fragment.

        Returns:
            False when the very same fragment has come already.

        Raises:
            UnsupportedCompression: its header says reserved, or data where control is expected,
                or the other way round.
            FragmentConflict: it contradicts the fragments here.
            LimitExceeded: the message would be larger than allowed.
            Base64Error, ZlibError, UnknownDictionary, WindowTooLarge: what has come in order is no
                part of a message.
        """
        bits, body = fragment
        if bits >> _KIND_SHIFT != self._kind:
            self._begin_or_refuse(fragment)
        index = bits >> 8 & MAX_INDEX
        last = bits & LAST_FLAG != 0
        if index < self._next or index in self._pieces:
            self._compare(index, body, last)
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
        self.held_octets += len(body) + FRAGMENT_OVERHEAD_OCTETS
        self._pieces[index] = body
        if index == self._run:
            self._run = index + 1
            self._run_octets += len(body)
            if index + 1 in self._pieces or self._run_octets >= self._stream_from:
                self._extend_run()
        return True

    def _compare(self, index: int, body: bytes, last: bool) -> None:
        if index < self._next:
            same = self._checks[index] == zlib.crc32(body)
        else:
            same = self._pieces[index] == body
        if not same or last != (index == self._last_index):
            raise FragmentConflict(f"fragment {index} came twice with different content")

    def _begin_or_refuse(self, fragment: Fragment) -> None:
        header = fragment.header
        if header.compression is Compression.RESERVED:
            raise UnsupportedCompression(
                "the header says compression 10 (binary), which is reserved for a later version: "
                "the sender must use zlib or none"
            )
        if (header.compression is Compression.CONTROL) != self._control:
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

    def _extend_run(self) -> None:
        """Find the first index that is missing now; decode when there is enough in order."""
        pieces, run = self._pieces, self._run
        while run in pieces:
            self._run_octets += len(pieces[run])
            run += 1
        self._run = run
        if self._run_octets >= self._stream_from and self._kind >> 1 & 3 == Compression.ZLIB:
            self._decode_run()

    def _decode_run(self) -> None:
        if self._decoder is None:
            self.held_octets += INFLATER_OCTETS
            self._decoder = StreamDecoder(
                base64=bool(self._kind & _KIND_BASE64),
                max_octets=self._max_message_octets,
                window_bits=self._window_bits,
            )
        decoded = self._decoder.message_octets
        for index in range(self._next, self._run):
            body = self._pieces.pop(index)
            self._checks.append(zlib.crc32(body))
            self._decoder.feed(body)
        self._next = self._run
        self.held_octets += self._decoder.message_octets - decoded - self._run_octets
        self._run_octets = 0
        # From now on each body is decoded as it comes.
        self._stream_from = 0

    def decode(self) -> bytes:
        """Decode the whole message.

        Returns:
            The message's octets.

        Raises:
            Base64Error, ZlibError, UnknownDictionary, WindowTooLarge: the fragments do not make a
                message.
            LimitExceeded: the message is larger than allowed.
            RemoteError: fragments are missing.
        """
        if not self.complete:
            raise RemoteError("the message is not complete: fragments are missing")
        if self._decoder is not None:
            return self._decoder.finish()
        pieces = self._pieces
        octets = b"".join([pieces[index] for index in range(len(pieces))])
        if self._kind & _KIND_BASE64:
            octets = decode_base64_untrusted(octets)
        if self._kind >> 1 & 3 == Compression.ZLIB:
            return inflate_untrusted(
                octets, max_octets=self._max_message_octets, window_bits=self._window_bits
            )
        if len(octets) > self._max_message_octets:
            raise LimitExceeded(f"the message has more than {self._max_message_octets} octets")
        return octets
