"""Decoding a zlib message as its bodies come, in order: what is decoded is held only as message."""

from __future__ import annotations

import zlib
from io import BytesIO

from smtunnel.codec import (
    ZLIB_HEAD_OCTETS,
    check_inflated,
    decode_base64_untrusted,
    inflate_piece,
    open_inflater,
)
from smtunnel.errors import Base64Error, LimitExceeded


class StreamDecoder:
    """Decodes the bodies of one zlib message, given in order.

    After an error it must not be used again.
    """

    __slots__ = (
        "_base64",
        "_carry",
        "_head",
        "_inflater",
        "_max_octets",
        "_message",
        "_padded",
        "_stream_octets",
        "_window_bits",
    )

    def __init__(self, *, base64: bool, max_octets: int, window_bits: int) -> None:
        """Begin with nothing.

        Args:
            base64: True when the bodies are pieces of one base64 text.
            max_octets: the largest message, in octets.
            window_bits: base-two logarithm of the largest zlib window that is taken, 9 to 15.
        """
        self._base64 = base64
        self._max_octets = max_octets
        self._window_bits = window_bits
        # Characters that wait for the rest of their group of four.
        self._carry = b""
        self._padded = False
        # The first octets of the stream, until they say what inflater is needed.
        self._head = b""
        self._inflater: zlib._Decompress | None = None
        self._stream_octets = 0
        self._message = BytesIO()

    @property
    def message_octets(self) -> int:
        """How many octets of the message are decoded."""
        return self._message.tell()

    def feed(self, body: bytes) -> None:
        """Decode the next body.

        Raises:
            Base64Error, ZlibError, UnknownDictionary, WindowTooLarge: no sender makes that.
            LimitExceeded: the message is larger than allowed.
        """
        if self._base64:
            if self._padded and body:
                raise Base64Error("characters follow the padding of the base64 text")
            text = self._carry + body
            whole = len(text) & ~3
            body, self._carry = text[:whole], text[whole:]
            self._padded = body.endswith(b"=")
            body = decode_base64_untrusted(body)
        if self._inflater is not None:
            self._inflate(self._inflater, body)
            return
        self._head += body
        if len(self._head) >= ZLIB_HEAD_OCTETS:
            self._open()

    def _open(self) -> zlib._Decompress:
        self._inflater = open_inflater(self._head[:ZLIB_HEAD_OCTETS], self._window_bits)
        self._inflate(self._inflater, self._head)
        self._head = b""
        return self._inflater

    def _inflate(self, inflater: zlib._Decompress, octets: bytes) -> None:
        self._stream_octets += len(octets)
        left = self._max_octets - self._message.tell()
        piece = inflate_piece(inflater, octets, max_octets=left)
        if len(piece) > left:
            raise LimitExceeded(f"the message inflates to more than {self._max_octets} octets")
        self._message.write(piece)
        if inflater.unused_data:
            # Told now, for it would be kept.
            check_inflated(inflater, self._stream_octets)

    def finish(self) -> bytes:
        """Return the message; every body has been given.

        Raises:
            Base64Error, ZlibError: its end is missing, or something follows it.
        """
        if self._carry:
            raise Base64Error(
                f"the base64 text ends with {self._carry!r}, which is not a group of four"
            )
        inflater = self._open() if self._inflater is None else self._inflater
        check_inflated(inflater, self._stream_octets)
        return self._message.getvalue()
