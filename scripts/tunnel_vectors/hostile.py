"""Vectors of what must not become a message: each has one fault, and the error that names it."""

from __future__ import annotations

import zlib

from tunnel_vectors.common import (
    EVENT,
    NONE,
    RESERVED,
    Vector,
    cut,
    cut_text,
    header,
    noise,
    payload,
    text_of,
)
from tunnel_vectors.deflate import (
    SMALLEST_WINDOW_BITS,
    BitWriter,
    wrap,
    write_fixed,
    write_stored,
    zlib_header,
    zlib_stream,
)

MESSAGE = b"The quick brown fox jumps over the lazy dog"
STREAM = zlib_stream(MESSAGE, "fixed")
# Three octets more or less change the padding: this one has none, the next have one and two.
UNPADDED = zlib_stream(noise(49), "stored")
ONE_PADDING = zlib_stream(noise(48), "stored")
TWO_PADDINGS = zlib_stream(noise(47), "stored")
UNKNOWN_DICTIONARY = b"no implementation has this dictionary"


def _hostile(
    name: str, error: str, payloads: list[str], *, carrier: str = "t110", limit: int = 65_536
) -> Vector:
    return {
        "name": f"hostile-{name}",
        "carrier": carrier,
        "max_message_octets": limit,
        "max_window_bits": 15,
        "window_bits": SMALLEST_WINDOW_BITS,
        "payloads": payloads,
        "error": error,
    }


def hostiles() -> list[Vector]:
    """Everything that a receiver must refuse, by name of the error."""
    return [
        *_base64(),
        *_zlib(),
        *_deflate(),
        *_dictionary(),
        *_conflict(),
        *_limit(),
        *_window(),
        *_kind(),
    ]


def _base64() -> list[Vector]:
    full, one, two = text_of(UNPADDED), text_of(ONE_PADDING), text_of(TWO_PADDINGS)
    texts = {
        "padding-missing-one": one[:-1],
        "padding-missing-two": two[:-2],
        "padding-half": two[:-1],
        "padding-too-much": one + "=",
        "padding-four": full + "====",
        "padding-three": full[:-3] + "===",
        "padding-behind-full-group": full + "=",
        "padding-in-the-middle": one + full,
        "padding-alone": "====",
        "one-character-left": full + "A",
        "two-characters-left": full + "AA",
        "unused-bits-set-one-padding": one[:-2] + _next_character(one[-2]) + "=",
        "unused-bits-set-two-paddings": two[:-3] + _next_character(two[-3]) + "==",
    }
    vectors = [
        _hostile(f"base64-{name}", "Base64Error", cut_text(text)) for name, text in texts.items()
    ]
    vectors += [
        _hostile("base64-plain-two-texts", "Base64Error", cut_text("aA==aQ==", compression=NONE)),
        _hostile("base64-plain-unused-bits", "Base64Error", cut_text("aGVsbG9=", compression=NONE)),
        _hostile("base64-plain-no-padding", "Base64Error", cut_text("aGVsbG8", compression=NONE)),
        _hostile(
            "base64-padding-at-the-end-of-a-body",
            "Base64Error",
            [payload(one), payload(full, index=1, last=True)],
        ),
        _hostile(
            "base64-padding-begins-a-body",
            "Base64Error",
            [payload(full), payload("=" + full[1:], index=1, last=True)],
        ),
    ]
    return vectors


def _next_character(character: str) -> str:
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    return alphabet[alphabet.index(character) + 1]


def _changed(stream: bytes, place: int, mask: int) -> bytes:
    octets = bytearray(stream)
    octets[place] ^= mask
    return bytes(octets)


def _zlib() -> list[Vector]:
    adler = STREAM[-4:]
    streams = {
        "adler-one-bit": _changed(STREAM, -1, 1),
        "adler-first-octet": _changed(STREAM, -4, 0x80),
        "adler-zero": STREAM[:-4] + bytes(4),
        "adler-little-endian": STREAM[:-4] + adler[::-1],
        "adler-of-the-stream": STREAM[:-4] + zlib.adler32(STREAM[2:-4]).to_bytes(4, "big"),
        "crc-instead-of-adler": STREAM[:-4] + zlib.crc32(MESSAGE).to_bytes(4, "big"),
        "content-changed": _changed(zlib_stream(MESSAGE, "stored"), 12, 0x20),
        "one-octet-behind": STREAM + b"\0",
        "line-feed-behind": STREAM + b"\n",
        "two-streams": STREAM + STREAM,
        "empty-stream-behind": STREAM + zlib_stream(b"", "fixed"),
        "adler-missing": STREAM[:-4],
        "adler-cut": STREAM[:-1],
        "header-alone": STREAM[:2],
        "one-octet": STREAM[:1],
        "cut-in-the-data": STREAM[: len(STREAM) // 2],
        "header-check-wrong": _changed(STREAM, 1, 1),
        "header-method-7": _header_of(0x77) + STREAM[2:],
        "header-method-15": _header_of(0x7F) + STREAM[2:],
        "header-window-too-large": _header_of(0x88) + STREAM[2:],
        "no-zlib-header": STREAM[2:-4],
        "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\xff" + STREAM[2:-4] + bytes(8),
        "text": MESSAGE,
        "zeros": bytes(40),
        "dictionary-flag-without-check": _changed(STREAM, 1, 0x20),
        "dictionary-id-cut": zlib_header(dictionary=b"x")[:5],
    }
    vectors = [_hostile(f"zlib-{name}", "ZlibError", cut(one)) for name, one in streams.items()]
    long_stream = zlib_stream(EVENT, "dynamic")
    several = {
        "behind-in-a-fragment-of-its-own": cut_text(text_of(long_stream + bytes(3)), 100),
        "adler-wrong-in-several": cut(_changed(long_stream, -2, 4)),
        "adler-wrong-in-several-reversed": cut(_changed(long_stream, -2, 4))[::-1],
        "cut-short-in-several": cut(long_stream[:-40]),
        "two-streams-in-two-fragments": [
            payload(text_of(UNPADDED)),
            payload(text_of(UNPADDED), index=1, last=True),
        ],
        "a-fragment-of-another-message": [
            *cut(zlib_stream(EVENT, "stored"))[:12],
            *cut(zlib_stream(EVENT.replace(b"evt-0093", b"evt-0094"), "stored"))[12:],
        ],
    }
    vectors += [_hostile(f"zlib-{name}", "ZlibError", one) for name, one in several.items()]
    return vectors


def _header_of(first: int) -> bytes:
    return bytes([first, -(first << 8) % 31])


def _deflate() -> list[Vector]:
    """Streams whose outside is right and whose inside is not. Source: RFC 1951."""
    reserved = BitWriter()
    reserved.number(1 | 3 << 1, 3)
    stored = BitWriter()
    write_stored(stored, MESSAGE, final=True)
    wrong_length = _changed(stored.to_bytes(), 3, 1)
    unfinished = BitWriter()
    write_fixed(unfinished, list(MESSAGE), final=False)
    too_far = BitWriter()
    write_fixed(too_far, [65, 66, (3, 3)], final=True)
    from_nothing = BitWriter()
    write_fixed(from_nothing, [(3, 1)], final=True)
    streams = {
        "reserved-block": wrap(reserved.to_bytes(), b""),
        "stored-length-check": wrap(wrong_length, MESSAGE),
        "no-final-block": wrap(unfinished.to_bytes(), MESSAGE),
        "distance-before-the-start": wrap(too_far.to_bytes(), b"ABAAA"),
        "distance-from-nothing": wrap(from_nothing.to_bytes(), bytes(3)),
        # 110 is the length symbol 286, which does not exist; so are distances 30 and 31.
        "length-symbol-286": wrap(_fixed_symbol(0b11000110, 8), b""),
        "distance-symbol-30": wrap(_literal_and_distance(30), b"AAAA"),
        "code-lengths-oversubscribed": wrap(_dynamic_header([1] * 19), b""),
        "code-lengths-none": wrap(_dynamic_header([0] * 19), b""),
    }
    return [_hostile(f"deflate-{name}", "ZlibError", cut(one)) for name, one in streams.items()]


def _fixed_symbol(code: int, width: int) -> bytes:
    out = BitWriter()
    out.number(1 | 1 << 1, 3)
    out.code((code, width))
    return out.to_bytes() + bytes(4)


def _literal_and_distance(distance_symbol: int) -> bytes:
    out = BitWriter()
    out.number(1 | 1 << 1, 3)
    out.code((0x30 + 65, 8))
    out.code((1, 7))
    out.code((distance_symbol, 5))
    return out.to_bytes() + bytes(4)


def _dynamic_header(lengths: list[int]) -> bytes:
    out = BitWriter()
    out.number(1 | 2 << 1, 3)
    out.number(0, 5)
    out.number(0, 5)
    out.number(len(lengths) - 4, 4)
    for length in lengths:
        out.number(length, 3)
    return out.to_bytes() + bytes(8)


def _dictionary() -> list[Vector]:
    stream = zlib_stream(MESSAGE, "fixed", dictionary=UNKNOWN_DICTIONARY)
    identifier = f"{zlib.adler32(UNKNOWN_DICTIONARY):08x}"
    vectors = [
        _hostile("dictionary-unknown", "UnknownDictionary", cut(stream)),
        _hostile("dictionary-unknown-in-small-bodies", "UnknownDictionary", cut(stream, 3)),
        _hostile("dictionary-id-alone", "UnknownDictionary", cut(stream[:6])),
    ]
    for vector in vectors:
        vector["dictionary_id"] = identifier
    return vectors


def _conflict() -> list[Vector]:
    parts = cut(zlib_stream(noise(200), "stored"), message_id=6)
    other = cut(zlib_stream(noise(201)[1:], "stored"), message_id=6)
    bodies = [part[4:] for part in parts]
    total = len(parts)
    last = payload(bodies[1], index=1, last=True, message_id=6)
    not_last = payload(bodies[-1], index=total - 1, message_id=6)
    cases = {
        "other-content": [parts[0], other[0]],
        "other-content-behind-a-gap": [parts[1], other[1]],
        "shorter-content": [parts[0], parts[0][:-1]],
        "longer-content": [parts[0][:-1], parts[0]],
        "same-content-now-last": [parts[1], last],
        "same-content-no-longer-last": [parts[-1], not_last],
        "two-last-fragments": [last, parts[-1]],
        "two-last-fragments-falling": [parts[-1], last],
        "last-below-one-here": [parts[2], last],
        "index-above-the-last": [last, parts[2]],
        "plain-behind-zlib": [parts[0], payload("AAAA", compression=NONE, last=True, message_id=6)],
    }
    return [_hostile(f"conflict-{name}", "FragmentConflict", case) for name, case in cases.items()]


def _limit() -> list[Vector]:
    bomb = bytes(1_000_000)
    bomb_stream = zlib_stream(bomb, "fixed")
    # A right stream of a short message, but longer than a sender may make it.
    wordy = BitWriter()
    for _ in range(6):
        write_stored(wordy, b"", final=False)
    write_stored(wordy, MESSAGE[:16], final=True)
    wordy_stream = wrap(wordy.to_bytes(), MESSAGE[:16])
    messages = {
        "one-octet-too-long": (cut(zlib_stream(EVENT, "fixed")), len(EVENT) - 1),
        "plain": (["GAAHaGVsbG8="], 4),
        "stream-longer-than-the-bound": (cut(wordy_stream), 16),
        "stream-longer-than-the-bound-in-several": (cut(wordy_stream, 30), 16),
    }
    large = {
        "bomb": cut(bomb_stream, 1058),
        "bomb-small": cut(zlib_stream(bytes(65_537), "fixed"), 1058),
        "bomb-without-end": cut(bomb_stream[:3000], 1058),
    }
    vectors = [
        _hostile(f"limit-{name}", "LimitExceeded", payloads, limit=limit)
        for name, (payloads, limit) in messages.items()
    ]
    vectors += [
        _hostile(f"limit-{name}", "LimitExceeded", payloads, carrier="t1062")
        for name, payloads in large.items()
    ]
    return vectors


def _window() -> list[Vector]:
    """Streams that need more memory than the receiver is told to have."""
    vectors = []
    for has, needs in ((9, 10), (12, 15), (14, 15)):
        stream = zlib_stream(EVENT, "fixed", window_bits=needs)
        vector = _hostile(f"window-{needs}-for-{has}", "WindowTooLarge", cut(stream))
        vectors.append({**vector, "max_window_bits": has, "window_bits": needs})
    return vectors


def _kind() -> list[Vector]:
    text = text_of(STREAM)
    one = _hostile(
        "compression-reserved",
        "UnsupportedCompression",
        [payload(text, compression=RESERVED, last=True)],
    )
    first = _hostile(
        "compression-reserved-first-of-several",
        "UnsupportedCompression",
        [payload(text, compression=RESERVED)],
    )
    octets = _hostile("compression-reserved-octets", "UnsupportedCompression", [], carrier="o110")
    del octets["payloads"]
    octets["payloads_octets"] = [
        (header(compression=RESERVED, encoding=0, last=True) + STREAM).hex()
    ]
    return [one, first, octets]
