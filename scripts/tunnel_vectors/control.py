"""Vectors of control messages: records as words, and their octets."""

from __future__ import annotations

import zlib

from tunnel_vectors.common import Vector


def _name(message_id: int, key32: int) -> bytes:
    return bytes([message_id]) + key32.to_bytes(4, "big")


def _record(kind: int, body: bytes) -> bytes:
    """Build kind, length and body. Source: specs/tunnel-protocol.md, control records."""
    length = len(body)
    head = bytes([length]) if length < 128 else (length | 0x8000).to_bytes(2, "big")
    return bytes([kind]) + head + body


def _whole(*records: bytes) -> bytes:
    octets = b"".join(records)
    return octets + zlib.crc32(octets).to_bytes(4, "big")


def _read(name: str, octets: bytes, *records: str, skipped: int = 0, built: bool = False) -> Vector:
    vector: Vector = {
        "name": f"control-{name}",
        "octets": octets.hex(),
        "records": list(records),
        "skipped": skipped,
    }
    if built:
        vector["built"] = True
    return vector


def _refused(name: str, octets: bytes) -> Vector:
    return {"name": f"control-refused-{name}", "octets": octets.hex(), "error": "ControlInvalid"}


NONCE = bytes(range(0xA0, 0xA8))
PIN = bytes(range(32))
ADDRESS = b"https://dsrsp.example:4433/"


def _field(tag: int, value: bytes) -> bytes:
    return _record(tag, value)


def _offer_fields() -> dict[str, bytes]:
    return {
        "address": _field(1, ADDRESS),
        "pin": _field(2, PIN),
        "not_before": _field(3, (1_700_000_000).to_bytes(8, "big")),
        "not_after": _field(4, (1_800_000_000).to_bytes(8, "big")),
        "versions": _field(5, b"\x01"),
        "message_octets": _field(6, (65_536).to_bytes(4, "big")),
    }


def _offer(**changed: bytes) -> bytes:
    fields = {**_offer_fields(), **changed}
    return _record(8, (9).to_bytes(4, "big") + b"".join(fields.values()))


OFFER = f"route-offer,9,1700000000,1800000000,65536,01,a:{ADDRESS.hex()},p:{PIN.hex()}"
CAPABILITIES = bytes([1, 0, 12, 2]) + (16_384).to_bytes(4, "big")


def controls() -> list[Vector]:
    """Each record, several at once, what later versions may add, and what is refused."""
    return [*_each(), *_together(), *_later(), *_refused_envelope(), *_refused_records()]


def _each() -> list[Vector]:
    one, two = _name(7, 42), _name(255, 0xFFFFFFFF)
    dictionaries = bytes.fromhex("0000000100c0ffeeffffffff")
    bodies = {
        "receipt": (1, one, "receipt,7,42"),
        "receipt-of-two": (1, two + one, "receipt,255,4294967295,7,42"),
        "receipt-order-kept": (1, one + two + one, "receipt,7,42,255,4294967295,7,42"),
        "missing-one": (2, one + b"\0\1\0\1", "missing,7,42,1,1"),
        "missing-ranges": (2, one + b"\0\0\0\2\0\3\0\1\7\xff\0\1", "missing,7,42,0,2,3,1,2047,1"),
        "missing-open": (2, one + b"\0\0\0\1\0\5\0\0", "missing,7,42,0,1,5,0"),
        "missing-all": (2, one + b"\0\0\x08\0", "missing,7,42,0,2048"),
        "abort-other": (3, one + b"\0", "abort,7,42,0,0"),
        "abort-base64": (3, one + b"\1", "abort,7,42,1,0"),
        "abort-zlib": (3, one + b"\2", "abort,7,42,2,0"),
        "abort-dictionary": (3, one + b"\3\0\xc0\xff\xee", "abort,7,42,3,12648430"),
        "abort-window": (3, one + b"\4\x0c", "abort,7,42,4,12"),
        "abort-too-long": (3, one + b"\5\0\1\0\0", "abort,7,42,5,65536"),
        "abort-conflict": (3, one + b"\6", "abort,7,42,6,0"),
        "abort-compression": (3, one + b"\7", "abort,7,42,7,0"),
        "abort-expired": (3, one + b"\x08", "abort,7,42,8,0"),
        "abort-too-many-partial": (3, one + b"\x09", "abort,7,42,9,0"),
        "abort-memory": (3, one + b"\x0a", "abort,7,42,10,0"),
        "abort-withdrawn": (3, one + b"\x0b", "abort,7,42,11,0"),
        "echo-request": (4, NONCE, f"echo-request,{NONCE.hex()},-"),
        "echo-request-with-octets": (4, NONCE + b"\0", f"echo-request,{NONCE.hex()},00"),
        "echo-reply": (5, NONCE + PIN * 2, f"echo-reply,{NONCE.hex()},{(PIN * 2).hex()}"),
        "capabilities": (6, CAPABILITIES, "capabilities,1,0,12,2,16384"),
        "capabilities-with-dictionaries": (
            6,
            bytes([255, 2, 15, 255]) + b"\xff" * 4 + dictionaries,
            "capabilities,255,2,15,255,4294967295,00000001,00c0ffee,ffffffff",
        ),
        "capabilities-wanted": (7, b"", "capabilities-wanted"),
        "route-answer": (9, b"\0\0\0\x09\0", "route-answer,9,0"),
        "route-answer-out-of-date": (9, b"\0\0\0\x09\4", "route-answer,9,4"),
        "route-withdrawn": (10, b"\xff" * 4, "route-withdrawn,4294967295"),
        "control-receipt": (11, two, "control-receipt,255,4294967295"),
        "cancelled": (12, one, "cancelled,7,42"),
    }
    vectors = [
        _read(name, _whole(_record(kind, body)), words, built=True)
        for name, (kind, body, words) in bodies.items()
    ]
    vectors.append(_read("route-offer", _whole(_offer()), OFFER, built=True))
    second = _field(1, b"wss://[2001:db8::1]/")
    several = _offer(
        address=_field(1, ADDRESS) + second,
        pin=_field(2, PIN) + _field(2, bytes(32)),
        versions=_field(5, b"\1\2\xff"),
    )
    words = (
        f"route-offer,9,1700000000,1800000000,65536,0102ff,a:{ADDRESS.hex()},"
        f"a:{second[2:].hex()},p:{PIN.hex()},p:{bytes(32).hex()}"
    )
    vectors.append(_read("route-offer-of-several", _whole(several), words, built=True))
    return vectors


def _together() -> list[Vector]:
    receipt, wanted = _record(1, _name(7, 42)), _record(7, b"")
    names = b"".join(_name(number, number) for number in range(100))
    many = "receipt," + ",".join(f"{number},{number}" for number in range(100))
    return [
        _read("several-records", _whole(receipt, _record(6, CAPABILITIES), wanted, receipt),
              "receipt,7,42", "capabilities,1,0,12,2,16384", "capabilities-wanted", "receipt,7,42",
              built=True),
        _read("long-length", _whole(_record(1, names)), many, built=True),
        _read("length-127", _whole(_record(250, bytes(127))), skipped=1),
        _read("length-128", _whole(_record(250, bytes(128))), skipped=1),
        _read("256-records", _whole(*[wanted] * 256), *["capabilities-wanted"] * 256, built=True),
        _read("4096-octets", _whole(_record(250, bytes(4089))), skipped=1),
    ]  # fmt: skip


def _later() -> list[Vector]:
    """What a later version may send to an implementation of this one."""
    receipt = _record(1, _name(7, 42))
    fields = _offer_fields()
    turned = _record(8, (9).to_bytes(4, "big") + b"".join(list(fields.values())[::-1]))
    more = _offer(unknown=_field(200, b"new"), empty=_field(0, b""))
    return [
        _read("unknown-kind", _whole(_record(13, b"new"), receipt), "receipt,7,42", skipped=1),
        _read("unknown-kinds-only", _whole(_record(0, b""), _record(255, b"x")), skipped=2),
        _read("unknown-abort-code", _whole(_record(3, _name(7, 42) + b"\x0cdetail")),
              "abort,7,42,0,0"),
        _read("unknown-abort-code-alone", _whole(_record(3, _name(7, 42) + b"\xff")),
              "abort,7,42,0,0"),
        _read("unknown-route-status", _whole(_record(9, b"\0\0\0\x09\x63")), "route-answer,9,255"),
        _read("route-offer-other-order", _whole(turned), OFFER),
        _read("route-offer-unknown-fields", _whole(more), OFFER),
    ]  # fmt: skip


def _refused_envelope() -> list[Vector]:
    receipt = _record(1, _name(7, 42))
    good = _whole(receipt)
    wanted = _record(7, b"")
    cases = {
        "empty": b"",
        "check-alone": _whole(),
        "one-octet-and-check": _whole(b"\7"),
        "check-wrong": good[:-1] + bytes([good[-1] ^ 1]),
        "check-little-endian": good[:-4] + good[-4:][::-1],
        "check-of-nothing": receipt + bytes(4),
        "check-missing": receipt,
        "content-changed": bytes([good[0], good[1], good[2] ^ 1]) + good[3:],
        "octet-behind": good + b"\0",
        "record-cut": _whole(receipt[:-1]),
        "length-cut": _whole(receipt, b"\1"),
        "long-length-cut": _whole(receipt, b"\1\x80"),
        "length-above-the-end": _whole(receipt, b"\xfa\x05xxxx"),
        "length-not-shortest": _whole(b"\xfa\x80\x03abc"),
        "257-records": _whole(*[wanted] * 257),
        "4097-octets": _whole(_record(250, bytes(4090))),
        "good-and-bad": _whole(receipt, _record(7, b"x"), receipt),
    }
    return [_refused(name, octets) for name, octets in cases.items()]


def _refused_records() -> list[Vector]:
    one = _name(7, 42)
    capabilities = bytearray(CAPABILITIES)

    def changed(place: int, value: int) -> bytes:
        octets = bytearray(capabilities)
        octets[place] = value
        return bytes(octets)

    bodies = {
        "receipt-empty": (1, b""),
        "receipt-name-cut": (1, one + one[:4]),
        "missing-without-ranges": (2, one),
        "missing-range-cut": (2, one + b"\0\1\0"),
        "missing-start-2048": (2, one + b"\x08\0\0\0"),
        "missing-beyond-2047": (2, one + b"\7\xff\0\2"),
        "missing-falling": (2, one + b"\0\5\0\1\0\1\0\1"),
        "missing-overlapping": (2, one + b"\0\1\0\3\0\3\0\1"),
        "missing-touching": (2, one + b"\0\1\0\2\0\3\0\1"),
        "missing-open-not-last": (2, one + b"\0\1\0\0\0\5\0\1"),
        "abort-without-code": (3, one),
        "abort-detail-behind": (3, one + b"\2\0"),
        "abort-detail-missing": (3, one + b"\3"),
        "abort-detail-cut": (3, one + b"\3\0\xc0\xff"),
        "abort-window-8": (3, one + b"\4\x08"),
        "abort-window-16": (3, one + b"\4\x10"),
        "echo-nonce-cut": (4, NONCE[:7]),
        "echo-too-long": (4, NONCE + bytes(65)),
        "echo-reply-too-long": (5, NONCE + bytes(65)),
        "capabilities-cut": (6, CAPABILITIES[:-1]),
        "capabilities-version-0": (6, changed(0, 0)),
        "capabilities-receipts-3": (6, changed(1, 3)),
        "capabilities-window-8": (6, changed(2, 8)),
        "capabilities-window-16": (6, changed(2, 16)),
        "capabilities-partial-0": (6, changed(3, 0)),
        "capabilities-octets-0": (6, CAPABILITIES[:4] + bytes(4)),
        "capabilities-dictionary-cut": (6, CAPABILITIES + b"\0\0\0"),
        "capabilities-dictionaries-falling": (6, CAPABILITIES + b"\0\0\0\2\0\0\0\1"),
        "capabilities-dictionary-twice": (6, CAPABILITIES + b"\0\0\0\2\0\0\0\2"),
        "capabilities-33-dictionaries": (
            6,
            CAPABILITIES + b"".join(number.to_bytes(4, "big") for number in range(33)),
        ),
        "capabilities-wanted-body": (7, b"\0"),
        "route-answer-cut": (9, b"\0\0\0\x09"),
        "route-answer-behind": (9, b"\0\0\0\x09\0\0"),
        "route-withdrawn-cut": (10, b"\0\0\x09"),
        "control-receipt-empty": (11, b""),
        "cancelled-behind": (12, one + b"\0"),
        "cancelled-cut": (12, one[:4]),
    }
    vectors = [_refused(name, _whole(_record(*body))) for name, body in bodies.items()]
    fields = _offer_fields()
    offers = {
        "no-number": _record(8, b"\0\0\x09"),
        "no-fields": _record(8, b"\0\0\0\x09"),
        **{f"no-{name}": _offer(**{name: b""}) for name in fields},
        **{
            f"two-{name}": _offer(**{name: fields[name] * 2})
            for name in ("not_before", "not_after", "versions", "message_octets")
        },
        "nine-addresses": _offer(address=fields["address"] * 9),
        "five-pins": _offer(pin=fields["pin"] * 5),
        "address-empty": _offer(address=_field(1, b"")),
        "address-256": _offer(address=_field(1, b"a" * 256)),
        "address-blank": _offer(address=_field(1, b"https://a b/")),
        "address-not-ascii": _offer(address=_field(1, b"https://\xe4/")),
        "address-nul": _offer(address=_field(1, b"https://a\0")),
        "pin-31": _offer(pin=_field(2, bytes(31))),
        "pin-33": _offer(pin=_field(2, bytes(33))),
        "time-cut": _offer(not_before=_field(3, bytes(7))),
        "ends-as-it-begins": _offer(not_after=_field(4, (1_700_000_000).to_bytes(8, "big"))),
        "versions-none": _offer(versions=_field(5, b"")),
        "version-0": _offer(versions=_field(5, b"\0\1")),
        "versions-falling": _offer(versions=_field(5, b"\2\1")),
        "version-twice": _offer(versions=_field(5, b"\1\1")),
        "message-octets-cut": _offer(message_octets=_field(6, bytes(3))),
        "field-cut": _offer(last=b"\x07\x05abc"),
        "field-without-length": _offer(last=b"\x07"),
    }
    vectors += [_refused(f"route-offer-{name}", _whole(record)) for name, record in offers.items()]
    return vectors
