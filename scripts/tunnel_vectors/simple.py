"""Vectors of what needs no memory: headers, payloads, labels."""

from __future__ import annotations

from tunnel_vectors.common import CONTROL, NONE, RESERVED, Vector, header, payload, text_of

_FIELDS = ("originator", "compression", "encoding", "last", "index", "tunnel_message_id")


def _fields(bits: int) -> dict[str, int]:
    values = (bits >> 23, bits >> 21 & 3, bits >> 20 & 1, bits >> 19 & 1, bits >> 8 & 2047)
    return dict(zip(_FIELDS, (*values, bits & 255), strict=True))


def _header(name: str, bits: int) -> Vector:
    octets = bits.to_bytes(3, "big")
    return {
        "name": f"header-{name}",
        "octets": octets.hex(),
        "text": text_of(octets),
        "fields": _fields(bits),
    }


def headers() -> list[Vector]:
    """Every bit alone, every value of the control bits, the ends of index and id, bad texts."""
    vectors = [_header("all-zero", 0), _header("all-ones", 0xFFFFFF)]
    vectors += [_header(f"bit-{bit}", 1 << bit) for bit in range(24)]
    vectors += [
        _header(f"control-{control:05b}", control << 19 | 1234 << 8 | 171) for control in range(32)
    ]
    vectors += [
        _header(f"index-{index}-id-{number}", 0b00110 << 19 | index << 8 | number)
        for index in (0, 1, 7, 255, 256, 1023, 1024, 2046, 2047)
        for number in (0, 127, 128, 255)
    ]
    refused = {
        "empty": "",
        "three-characters": "MAA",
        "five-characters": "MAAAA",
        "one-padding": "MAA=",
        "two-paddings": "MA==",
        "url-alphabet-minus": "-AAA",
        "url-alphabet-underscore": "_AAA",
        "blank": "MA A",
        "line-feed": "MAA\n",
        "nul": "MAA\0",
        "high-octet": "MAA\xc1",
    }
    vectors += [
        {"name": f"header-refused-{name}", "text": text, "error": "NotAFragment"}
        for name, text in refused.items()
    ]
    return vectors


def _taken(name: str, carrier: str, head: bytes, body: str) -> Vector:
    text = text_of(head) + body
    fields = _fields(int.from_bytes(head, "big"))
    return {
        "name": f"payload-{name}",
        "carrier": carrier,
        "payload": text,
        "fields": fields,
        "body": body,
    }


def _taken_octets(name: str, carrier: str, head: bytes, body: bytes) -> Vector:
    return {
        "name": f"payload-{name}",
        "carrier": carrier,
        "payload_octets": (head + body).hex(),
        "fields": _fields(int.from_bytes(head, "big")),
        "body_octets": body.hex(),
    }


def payloads() -> list[Vector]:
    """One payload alone: what can be judged without any other."""
    vectors = [
        _taken("hello", "t110", header(compression=NONE, last=True, message_id=7), "aGVsbG8="),
        _taken("empty-message", "t110", header(compression=NONE, last=True), ""),
        _taken("full-ecs46a", "t110", header(index=3, message_id=9), "eJwD" * 26 + "+/"),
        _taken("full-ecs200", "t1062", header(originator=1, index=3), "A" * 1058),
        _taken("one-character", "t110", header(index=5), "x"),
        _taken("highest-index", "t110", header(index=2047, last=True, message_id=255), "AAAA"),
        _taken("reserved", "t110", header(compression=RESERVED, index=1), "AAAA"),
        _taken("control", "t110", header(compression=CONTROL, last=True), "AAAA"),
        # What stands where in the text is judged when the whole message is here.
        _taken("padding-anywhere", "t110", header(index=1), "=A=="),
        _taken_octets("octets", "o110", header(encoding=0, last=True), b"\x78\x01\x00\xff="),
        _taken_octets("octets-full", "o110", header(encoding=0), bytes(range(107))),
        _taken_octets("octets-empty", "o110", header(encoding=0, compression=NONE, last=True), b""),
    ]
    zlib_head = text_of(header(index=1))
    texts = {
        "empty": "",
        "header-cut": zlib_head[:3],
        "ordinary-label": "Heat pump",
        "blank-in-body": zlib_head + "AA A",
        "blank-at-end": zlib_head + "AAAA ",
        "line-feed-at-end": zlib_head + "AAAA\n",
        "line-feed-in-body": zlib_head + "AA\nAA",
        "nul-in-body": zlib_head + "AA\0A",
        "delete-character": zlib_head + "AA\x7f",
        "high-octet": zlib_head + "AAA\xe9",
        "url-alphabet": zlib_head + "AA-_",
        "tilde": zlib_head + "AA~A",
        "padding-in-header": "MA==AAAA",
        "body-missing": zlib_head,
        "body-missing-in-control": payload("", compression=CONTROL, last=True),
        "body-missing-in-reserved": payload("", compression=RESERVED, last=True),
        "too-long": zlib_head + "A" * 107,
        "too-long-by-many": zlib_head + "A" * 1058,
        "octets-on-text-carrier": payload("AAAA", encoding=0, last=True),
        "plain-index-above-0": payload("AAAA", compression=NONE, last=True, index=1),
        "plain-not-last": payload("AAAA", compression=NONE),
    }
    vectors += [
        {"name": f"payload-refused-{name}", "carrier": "t110", "payload": text, "error": _NOT}
        for name, text in texts.items()
    ]
    octets = {
        "octets-none": b"",
        "octets-header-cut": header(encoding=0)[:2],
        "octets-body-missing": header(encoding=0),
        "octets-too-long": header(encoding=0) + bytes(108),
        "text-on-octet-carrier": header(last=True) + b"AAAA",
        "octets-plain-not-last": header(encoding=0, compression=NONE) + b"x",
    }
    vectors += [
        {
            "name": f"payload-refused-{name}",
            "carrier": "o110",
            "payload_octets": raw.hex(),
            "error": _NOT,
        }
        for name, raw in octets.items()
    ]
    vectors.append(
        {
            "name": "payload-refused-too-long-ecs200",
            "carrier": "t1062",
            "payload": zlib_head + "A" * 1059,
            "error": _NOT,
        }
    )
    return vectors


_NOT = "NotAFragment"


def labels() -> list[Vector]:
    """Labels of ECS46a that carry a payload, labels that are somebody's own, and the way back."""
    full = "ABCDEFGHIJKLMNOPQRSTUV"
    carrying = {
        "one-character": [(1, "A")],
        "one-short": [(1, "MAAA")],
        "one-full": [(1, full)],
        "full-and-one-character": [(1, full), (2, "z")],
        "three": [(1, full), (2, full), (3, "abc")],
        "five-full": [(number, full) for number in range(1, 6)],
        "five-last-short": [*((number, full) for number in range(1, 5)), (5, "0123456789")],
        # Printable, so they travel; that this is no fragment is judged later.
        "printable": [(1, " !\"#$%&'()*+,-./:;<=>?"), (2, "@[\\]^_`{|}~")],
    }
    vectors: list[Vector] = [
        {
            "name": f"labels-{name}",
            "labels": pairs,
            "payload": "".join(text for _, text in pairs),
        }
        for name, pairs in carrying.items()
    ]
    real = {
        "none": [],
        "first-missing": [(2, full)],
        "gap": [(1, full), (3, "abc")],
        "first-short": [(1, full[:-1]), (2, "abc")],
        "middle-short": [(1, full), (2, full[:21]), (3, full)],
        "too-long": [(1, full + "W")],
        "empty": [(1, "")],
        "last-empty": [(1, full), (2, "")],
        "twice": [(1, full), (1, full)],
        "falling": [(2, full), (1, full)],
        "six": [(number, full) for number in range(1, 7)],
        "number-0": [(0, full), (1, full)],
        "not-printable": [(1, "AB\x1f")],
        "high-octet": [(1, "AB\xe9")],
        "delete-character": [(1, "AB\x7f")],
    }
    vectors += [
        {"name": f"labels-real-{name}", "labels": pairs, "payload": None}
        for name, pairs in real.items()
    ]
    refused = {"empty": "", "too-long": "A" * 111, "line-feed": "MAAA\n", "high-octet": "MAAA\xe9"}
    vectors += [
        {"name": f"labels-refused-{name}", "payload": text, "error": "LocalError"}
        for name, text in refused.items()
    ]
    return vectors
