"""Message octets to the body that is cut into fragments, and back, believing nothing."""

from __future__ import annotations

import binascii
import zlib
from typing import Final

from smtunnel.errors import Base64Error, LimitExceeded, LocalError, UnknownDictionary, ZlibError

MIN_WINDOW_BITS: Final = 9
MAX_WINDOW_BITS: Final = 15

_FDICT: Final = 0x20
_DICTIONARY_HEADER_OCTETS: Final = 6


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


def inflate_untrusted(stream: bytes, *, max_octets: int) -> bytes:
    """Inflate exactly one complete zlib stream, never making more than max_octets of it.

    Raises:
        UnknownDictionary: the stream asks for a preset dictionary.
        LimitExceeded: the message would be longer than max_octets.
        ZlibError: corrupt, cut short, or something follows the stream.

    Source: RFC 1950.
    """
    if len(stream) >= _DICTIONARY_HEADER_OCTETS:
        cmf, flg = stream[0], stream[1]
        # FCHECK tells a stream that wants a dictionary from garbage.
        if flg & _FDICT and cmf & 0x0F == zlib.DEFLATED and (cmf << 8 | flg) % 31 == 0:
            raise UnknownDictionary(int.from_bytes(stream[2:6], "big"))
    inflater = zlib.decompressobj()
    try:
        # One more than the limit, so that "too long" can be told from "just fits".
        message = inflater.decompress(stream, max_octets + 1)
    except zlib.error as error:
        raise ZlibError(f"the message is not a zlib stream: {error}") from None
    if len(message) > max_octets:
        raise LimitExceeded(f"the message inflates to more than {max_octets} octets")
    if not inflater.eof:
        raise ZlibError(f"the zlib stream of {len(stream)} octets is cut short: its end is missing")
    if inflater.unused_data:
        raise ZlibError(
            f"{len(inflater.unused_data)} octets follow the end of the zlib stream: "
            "a message is exactly one stream"
        )
    return message


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
