"""Vectors of the receiving direction without counters: one message, its fragments in any order."""

from __future__ import annotations

import zlib

from tunnel_vectors.common import (
    CEM,
    EVENT,
    NONE,
    Vector,
    cut,
    cut_text,
    header,
    noise,
    octets_value,
    payload,
    text_of,
)
from tunnel_vectors.deflate import (
    SMALLEST_WINDOW_BITS,
    BitWriter,
    BlockKind,
    write_fixed,
    zlib_header,
    zlib_stream,
)

MAX_MESSAGE_OCTETS = 65_536

# zlib 1.2.13 made this of EVENT at level 9: what most senders send.
EVENT_BY_ZLIB = (
    "eNq9Vdtu2zAMfd9XBH53ZLuXbIbroqg7tMDWBk2wh70Mis2kGmzZk+is+ftR8jVpig7bMCBQyMNDmpRPmOjyucgnW1Ba"
    "lPLC8aeeMwGZlpmQmwunxrX73rmM30Ulz1Rojjnf5fQ9oTSpLXLhPCFWIWNlBZL8aak2zATcYOqtWOD5AfNmTpsBoudn"
    "ZaqnJddCuybV5knNQILa7IREUGVl0n3f67KrXZ79ST6rmrZ1V+g55TnNp2QoANdhxRUvCC3ykIKCgiAzbifoMjSq4vcy"
    "DBV44cTDrS3ERkL2sPoOKY7gRBBVrGqEmy1InIAIdfoEBf/SvRBzhVTIzB0q+FGDxrskJsudpad+xA4CEVXYoiQrWTwu"
    "5i4xemR4rH2Y5YIY2cZKQKdKVFiqAaNc2KLreR9ObLkONISClLKm6ZG6va+LFajYs6QjAcOvlCiVwF3cdNa7JpbSrSFk"
    "CR1LUUAceMG56/muf7b0z8LTIPRmX23WIbHvdIEcax2vuRoabbEBOBxRXKUotjAH6iWLI6MM6osUpVCAboEMNXKFnUdP"
    "dvGwx1noefShHg9IHbBfo1b2cg7d+TK47RJ6ynF/3CU7Msrwgo3+eK5fQnFkdB3aX8u2Y3Tem536b3dq3Vp0F4vwjEYh"
    "g9PalmL0b9tqt0wjmcb+SEcjVOqshvhkGjTitl6jpj0me1mN7Q33Hyb1/8Wk/vT8LydlR15yk3DPSZ+fHq6Sb8ndYn61"
    "vL4dVbPBgbvcVRBrwKqkSiOaxQcabQYy2tXTQ61A96THXhPokqsNtFcAZndd33ym/ePPmnuwUJvdUdl4m/Wb7hF0VUoN"
    "j7QhhYIs5vlPvtMRe50xirXV2Gv7ehza3/Ds8P8y/gUSaaiY"
)


def _decode(
    name: str,
    message: bytes,
    payloads: list[str],
    *,
    carrier: str = "t110",
    window_bits: int = SMALLEST_WINDOW_BITS,
    max_message_octets: int = MAX_MESSAGE_OCTETS,
) -> Vector:
    return {
        "name": f"decode-{name}",
        "carrier": carrier,
        "max_message_octets": max_message_octets,
        "max_window_bits": 15,
        "window_bits": window_bits,
        "payloads": payloads,
        "message": octets_value(message),
    }


def _shuffled(payloads: list[str]) -> list[str]:
    """Order them so that no one stands where it stood, the same everywhere."""
    return [payloads[at] for at in sorted(range(len(payloads)), key=lambda at: (at * 7 % 11, -at))]


def decodings() -> list[Vector]:
    """Messages that must come out whole."""
    vectors = _of_one_fragment()
    vectors += _of_several()
    vectors += _cut_elsewhere()
    vectors += _large()
    vectors += _octet_carriers()
    return vectors


def _of_one_fragment() -> list[Vector]:
    kinds: tuple[BlockKind, ...] = ("stored", "fixed", "dynamic")
    vectors = [
        _decode("plain-hello", b"hello", ["GAAHaGVsbG8="]),
        _decode("plain-empty", b"", [payload("", compression=NONE, last=True)]),
        _decode("plain-one-padding", b"hi", cut(b"hi", compression=NONE)),
        _decode("plain-two-paddings", b"h", cut(b"h", compression=NONE)),
        _decode("plain-78-octets", noise(78), cut(noise(78), compression=NONE)),
        _decode(
            "plain-792-octets-up",
            noise(792),
            cut(noise(792), 1058, compression=NONE, originator=CEM),
            carrier="t1062",
        ),
        _decode("all-octets", bytes(range(256)), cut(zlib_stream(bytes(range(256)), "stored"))),
    ]
    for kind in kinds:
        vectors += [
            _decode(f"{kind}-empty", b"", cut(zlib_stream(b"", kind))),
            _decode(f"{kind}-one-octet", b"\0", cut(zlib_stream(b"\0", kind), message_id=200)),
            _decode(f"{kind}-run", b"a" * 300, cut(zlib_stream(b"a" * 300, kind))),
        ]
    for bits in range(9, 16):
        # What repeats does so at nearly the largest distance that the window allows.
        message = noise((1 << bits) - 100) + EVENT[:90] + noise(300)
        stream = zlib_stream(message, "dynamic", window_bits=bits)
        vectors.append(_decode(f"window-{bits}", message, cut(stream), window_bits=bits))
    return vectors


def _of_several() -> list[Vector]:
    in_order = cut(zlib_stream(EVENT, "dynamic"), message_id=18)
    blocks = cut(zlib_stream(EVENT, "stored", block_octets=200), message_id=19)
    mixed = _shuffled(in_order)
    first, second = in_order[:2]
    two = cut(zlib_stream(noise(100), "stored"))
    vectors = [
        _decode("in-order", EVENT, in_order),
        _decode("made-by-zlib", EVENT, cut_text(EVENT_BY_ZLIB), window_bits=15),
        _decode("made-by-zlib-reversed", EVENT, cut_text(EVENT_BY_ZLIB)[::-1], window_bits=15),
        _decode("reversed", EVENT, in_order[::-1]),
        _decode("shuffled", EVENT, mixed),
        _decode("last-first", EVENT, in_order[-1:] + in_order[:-1]),
        _decode("first-last", EVENT, [*in_order[1:], first]),
        _decode("each-twice", EVENT, [one for one in in_order for _ in range(2)][:-1]),
        _decode("all-but-one-twice", EVENT, in_order[:-1] * 2 + in_order[-1:]),
        _decode("last-twice-before-the-end", EVENT, in_order[-1:] * 2 + in_order[:-1]),
        _decode("duplicates-far-apart", EVENT, [first, *mixed[:3], first, second, *mixed[3:]]),
        _decode("several-blocks", EVENT, blocks),
        _decode("several-blocks-reversed", EVENT, blocks[::-1]),
        _decode("two-fragments", noise(100), two),
        _decode("two-fragments-reversed", noise(100), two[::-1]),
        _decode(
            "up",
            EVENT,
            cut(zlib_stream(EVENT, "fixed"), 300, originator=CEM, message_id=255),
            carrier="t1062",
        ),
    ]
    incomplete = {
        "first-missing": in_order[1:],
        "last-missing": in_order[:-1],
        "middle-missing": in_order[:3] + in_order[4:],
        "only-last": in_order[-1:],
        "nothing-but-duplicates": in_order[:1] * 4,
    }
    for name, payloads in incomplete.items():
        vector = _decode(f"incomplete-{name}", b"", payloads)
        del vector["message"]
        vector["incomplete"] = True
        vectors.append(vector)
    return vectors


def _cut_elsewhere() -> list[Vector]:
    """A receiver takes bodies of any length, so every place of every group gets a cut."""
    stream = zlib_stream(b"The quick brown fox jumps over the lazy dog", "fixed")
    text = text_of(stream)
    message = b"The quick brown fox jumps over the lazy dog"
    vectors = [
        _decode(f"bodies-of-{size}", message, cut_text(text, size)) for size in (1, 2, 3, 5, 7)
    ]
    uneven = [text[:1], text[1:4], text[4:10], text[10:11], text[11:]]
    vectors.append(
        _decode(
            "bodies-uneven",
            message,
            [
                payload(body, index=index, last=index == len(uneven) - 1, message_id=4)
                for index, body in enumerate(uneven)
            ],
        )
    )
    padded = ""
    for length in range(1, 9):
        message = b"padding!"[:length]
        padded = text_of(zlib_stream(message, "stored"))
        if padded.endswith("=="):
            break
    for back in (1, 2, 3):
        bodies = [padded[:-back], padded[-back:]]
        vectors.append(
            _decode(
                f"cut-{back}-before-the-end",
                message,
                [payload(bodies[0]), payload(bodies[1], index=1, last=True)],
            )
        )
    return vectors


def _large() -> list[Vector]:
    full = noise(MAX_MESSAGE_OCTETS)
    many = noise(1000)
    spread = cut(zlib_stream(many, "stored"), 1)
    vectors = [
        _decode(
            "largest-message",
            full,
            cut(zlib_stream(full, "stored", block_octets=32_768), 1058, originator=CEM),
            carrier="t1062",
        ),
        _decode(
            "largest-message-small-stream",
            b"0123456789abcdef" * 4096,
            cut(zlib_stream(b"0123456789abcdef" * 4096, "fixed"), 1058),
            carrier="t1062",
        ),
        _decode("exactly-the-limit", EVENT, cut(zlib_stream(EVENT, "fixed")),
                max_message_octets=len(EVENT)),
        _decode("plain-exactly-the-limit", b"hello", ["GAAHaGVsbG8="], max_message_octets=5),
        _decode("many-fragments", many, spread),
        _decode("many-fragments-reversed", many, spread[::-1]),
    ]  # fmt: skip
    # 2048 bodies: 1536 octets of stream in single characters.
    longest = noise(1525)
    vectors.append(_decode("2048-fragments", longest, cut(zlib_stream(longest, "stored"), 1)))
    return vectors


def _octet_carriers() -> list[Vector]:
    stream = zlib_stream(EVENT, "dynamic")
    bodies = [stream[at : at + 107] for at in range(0, len(stream), 107)]
    octets = [
        header(encoding=0, last=index == len(bodies) - 1, index=index, message_id=5) + body
        for index, body in enumerate(bodies)
    ]
    plain = header(encoding=0, compression=NONE, last=True) + bytes(range(107))
    vectors = []
    for name, message, payloads in (
        ("octets", EVENT, octets),
        ("octets-reversed", EVENT, octets[::-1]),
        ("octets-plain", bytes(range(107)), [plain]),
    ):
        vector = _decode(name, message, [], carrier="o110")
        del vector["payloads"]
        vector["payloads_octets"] = [one.hex() for one in payloads]
        vectors.append(vector)
    return vectors


def dictionaries(dictionary: bytes) -> list[Vector]:
    """Messages whose streams refer to preset dictionary 1."""
    shared = dictionary[5000:5300]
    vectors = [
        _with(f"event-window-{bits}", EVENT, dictionary, window_bits=bits) for bits in range(9, 16)
    ]
    vectors += [
        _with("empty", b"", dictionary),
        _with("nothing-in-common", noise(200), dictionary),
        _with("whole-dictionary", dictionary, dictionary, window_bits=14),
        _with("first-octets", dictionary[:100], dictionary, window_bits=14),
        # The largest distance is 8192: the dictionary's first octets are out of reach at once.
        _with("window-as-large-as-the-dictionary", shared + dictionary[:100], dictionary,
              window_bits=13),
        _with("window-smaller-than-the-dictionary", dictionary[-400:] + shared, dictionary,
              window_bits=10),
        _with("up", EVENT, dictionary, window_bits=15, carrier="t1062"),
    ]  # fmt: skip
    for kind in ("stored", "dynamic"):
        vectors.append(_with(kind, EVENT, dictionary, window_bits=15, kind=kind))
    return vectors + _dictionary_faults(dictionary)


def _with(
    name: str,
    message: bytes,
    dictionary: bytes,
    *,
    window_bits: int = SMALLEST_WINDOW_BITS,
    carrier: str = "t110",
    kind: BlockKind = "fixed",
) -> Vector:
    stream = zlib_stream(message, kind, window_bits=window_bits, dictionary=dictionary)
    payloads = cut(stream, int(carrier[1:]) - 4, message_id=33)
    vector = _decode(name, message, payloads, carrier=carrier, window_bits=window_bits)
    vector["name"] = f"dictionary-{name}"
    vector["needs_dictionary"] = f"{zlib.adler32(dictionary):08x}"
    return vector


def _dictionary_faults(dictionary: bytes) -> list[Vector]:
    """Streams that refer to a dictionary which is known, and are wrong all the same."""
    good = zlib_stream(EVENT, "fixed", window_bits=15, dictionary=dictionary)
    header = zlib_header(15, dictionary=dictionary)
    before = BitWriter()
    write_fixed(before, [(3, len(dictionary) + 1)], final=True)
    streams = {
        "adler-of-the-dictionary": good[:-4] + good[2:6],
        "adler-one-bit": good[:-1] + bytes([good[-1] ^ 1]),
        "adler-continued-from-the-dictionary": good[:-4]
        + zlib.adler32(EVENT, zlib.adler32(dictionary)).to_bytes(4, "big"),
        "cut-short": good[:-5],
        "one-octet-behind": good + b"\0",
        "distance-before-the-dictionary": header + before.to_bytes() + bytes(4),
        "header-alone": header,
    }
    vectors = []
    for name, stream in streams.items():
        vector = _with(name, b"", dictionary, window_bits=15)
        vector["payloads"] = cut(stream)
        del vector["message"]
        vectors.append({**vector, "error": "ZlibError"})
    return vectors
