"""Message octets to the body that is cut into fragments, and back, believing nothing."""

from __future__ import annotations

import binascii
import zlib
from typing import Final

from smtunnel.errors import (
    Base64Error,
    LimitExceeded,
    LocalError,
    UnknownDictionary,
    WindowTooLarge,
    ZlibError,
)

MIN_WINDOW_BITS: Final = 9
MAX_WINDOW_BITS: Final = 15

_FDICT: Final = 0x20

ZLIB_HEAD_OCTETS: Final = 6
"""CMF, FLG and, if FLG says so, the DICTID of a preset dictionary."""


def deflate(message: bytes, *, window_bits: int = MAX_WINDOW_BITS, level: int = 9) -> bytes:
    """Compress a message into one zlib stream.

    Args:
        message: any octets.
        window_bits: base-two logarithm of the window that the receiver needs, 9 to 15.
        level: 0 (framing only) to 9 (smallest).

    Raises:
        LocalError: window_bits or level is out of range.

    Source: RFC 1950.
    """
    if not MIN_WINDOW_BITS <= window_bits <= MAX_WINDOW_BITS:
        raise LocalError(
            f"window_bits is {window_bits}: it must be {MIN_WINDOW_BITS} to {MAX_WINDOW_BITS}"
        )
    if not 0 <= level <= 9:
        raise LocalError(f"level is {level}: it must be 0 (no compression) to 9 (smallest)")
    compressor = zlib.compressobj(level, zlib.DEFLATED, window_bits)
    return compressor.compress(message) + compressor.flush()


def open_inflater(head: bytes, window_bits: int = MAX_WINDOW_BITS) -> zlib._Decompress:
    """Return an inflater for the stream that begins with head, which it has not been given yet.

    Args:
        head: the stream's first ZLIB_HEAD_OCTETS octets, or all of it where it is shorter.
        window_bits: base-two logarithm of the largest window that is taken, 9 to 15.

    Raises:
        UnknownDictionary: the stream asks for a preset dictionary.
        WindowTooLarge: the stream needs a larger window.

    Source: RFC 1950 section 2.2.
    """
    if len(head) >= 2:
        cmf, flg = head[0], head[1]
        # FCHECK tells a zlib header from garbage, of which the inflater itself complains.
        if cmf & 0x0F == zlib.DEFLATED and (cmf << 8 | flg) % 31 == 0:
            if MAX_WINDOW_BITS >= (cmf >> 4) + 8 > window_bits:
                raise WindowTooLarge((cmf >> 4) + 8, window_bits)
            if flg & _FDICT and len(head) >= ZLIB_HEAD_OCTETS:
                raise UnknownDictionary(int.from_bytes(head[2:6], "big"))
    return zlib.decompressobj()


def inflate_untrusted(
    stream: bytes, *, max_octets: int, window_bits: int = MAX_WINDOW_BITS
) -> bytes:
    """Inflate exactly one complete zlib stream, never making more than max_octets of it.

    Raises:
        UnknownDictionary: the stream asks for a preset dictionary.
        WindowTooLarge: the stream needs a larger window than window_bits says.
        LimitExceeded: the message would be longer than max_octets.
        ZlibError: corrupt, cut short, or something follows the stream.

    Source: RFC 1950.
    """
    inflater = open_inflater(stream[:ZLIB_HEAD_OCTETS], window_bits)
    message = inflate_piece(inflater, stream, max_octets=max_octets)
    if len(message) > max_octets:
        raise LimitExceeded(f"the message inflates to more than {max_octets} octets")
    check_inflated(inflater, len(stream))
    return message


def inflate_piece(inflater: zlib._Decompress, piece: bytes, *, max_octets: int) -> bytes:
    """Inflate the next piece of a stream, making at most one octet more than max_octets of it.

    Raises:
        ZlibError: corrupt.
    """
    try:
        # One more than the limit, so that "too long" can be told from "just fits".
        return inflater.decompress(piece, max_octets + 1)
    except zlib.error as error:
        raise ZlibError(f"the message is not a zlib stream: {error}") from None


def check_inflated(inflater: zlib._Decompress, stream_octets: int) -> None:
    """Check that a stream has come to its end, and that nothing followed.

    Raises:
        ZlibError: it has not, or something did.
    """
    if not inflater.eof:
        raise ZlibError(f"the zlib stream of {stream_octets} octets is cut short: it has no end")
    if inflater.unused_data:
        raise ZlibError(
            f"{len(inflater.unused_data)} octets follow the end of the zlib stream: "
            "a message is exactly one stream"
        )


def encode_base64(octets: bytes) -> bytes:
    """Encode octets as canonical base64 text, in ASCII, without line breaks.

    Source: RFC 4648 section 4.
    """
    return binascii.b2a_base64(octets, newline=False)


def decode_base64_untrusted(text: bytes) -> bytes:
    """Decode canonical base64 and nothing else.

    Raises:
        Base64Error: a character outside the alphabet, wrong padding, or bits set behind the end
            (so that two texts could mean the same octets).

    Source: RFC 4648 sections 3.3, 3.5 and 4.
    """
    try:
        octets = binascii.a2b_base64(text, strict_mode=True)
    except binascii.Error as error:
        raise Base64Error(f"the text is not base64: {error}") from None
    # strict_mode still takes bits behind the end, which only a padded text can have.
    tail = text[-4:]
    if len(text) % 4 or (
        tail.endswith(b"=") and encode_base64(octets[(len(octets) - 1) // 3 * 3 :]) != tail
    ):
        raise Base64Error(
            f"the base64 text of {len(text)} characters does not end canonically: "
            f"{tail!r} is not what an encoder writes"
        )
    return octets
