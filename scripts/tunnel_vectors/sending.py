"""Vectors of the sending direction: cutting a stream, and encoding a whole message."""

from __future__ import annotations

from tunnel_vectors.common import (
    CEM,
    DSRSP,
    EVENT,
    NONE,
    ZLIB,
    Vector,
    cut,
    header,
    noise,
    octets_value,
)
from tunnel_vectors.deflate import zlib_stream


def _cut(
    name: str,
    stream: bytes,
    *,
    carrier: str = "t110",
    originator: int = DSRSP,
    compression: int = ZLIB,
    message_id: int = 0,
) -> Vector:
    vector: Vector = {
        "name": f"cut-{name}",
        "carrier": carrier,
        "originator": originator,
        "compression": compression,
        "tunnel_message_id": message_id,
        "stream": octets_value(stream),
    }
    capacity = int(carrier[1:])
    if carrier[0] == "t":
        vector["payloads"] = cut(
            stream,
            capacity - 4,
            originator=originator,
            compression=compression,
            message_id=message_id,
        )
        return vector
    size = capacity - 3
    starts = range(0, max(1, len(stream)), size)
    vector["payloads_octets"] = [
        (
            header(
                originator=originator,
                compression=compression,
                encoding=0,
                last=start == starts[-1],
                index=index,
                message_id=message_id,
            )
            + stream[start : start + size]
        ).hex()
        for index, start in enumerate(starts)
    ]
    return vector


def cuts() -> list[Vector]:
    """A stream that exists already, cut into full bodies: every octet is known."""
    stream = zlib_stream(EVENT, "dynamic")
    vectors = [
        _cut("plain-hello", b"hello", compression=NONE, message_id=7),
        _cut("plain-empty", b"", compression=NONE),
        _cut("plain-empty-octets", b"", compression=NONE, carrier="o110"),
        _cut("plain-78-octets", noise(78), compression=NONE, message_id=255),
        _cut("event-ecs46a", stream, message_id=18),
        _cut("event-ecs200", stream, carrier="t1062", originator=CEM, message_id=255),
        _cut("event-octets", stream, carrier="o110", message_id=1),
        _cut("event-octets-up", stream, carrier="o1062", originator=CEM),
    ]
    # Around the capacity: 79 octets are 108 characters, 106 is no multiple of four.
    for size in (79, 80, 158, 159, 160, 237, 238):
        made = zlib_stream(noise(size - 11), "stored")
        vectors.append(_cut(f"stream-{size}-octets", made, message_id=size))
    # Body exactly full, one less, one more, on an octet carrier.
    for size in (106, 107, 108, 214, 215):
        made = zlib_stream(noise(size - 11), "stored")
        vectors.append(_cut(f"stream-{size}-octets-raw", made, carrier="o110"))
    vectors += [
        _cut("one-character-bodies", zlib_stream(b"tiny", "fixed"), carrier="t5"),
        _cut("one-octet-bodies", zlib_stream(b"tiny", "fixed"), carrier="o4", message_id=3),
        _cut("2048-fragments", zlib_stream(noise(1525), "stored"), carrier="t5", message_id=9),
    ]
    too_long = _cut("2049-fragments", zlib_stream(noise(1526), "stored"), carrier="t5")
    del too_long["payloads"]
    too_long["error"] = "MessageTooLong"
    vectors.append(too_long)
    return vectors


def _encode(
    name: str,
    message: bytes,
    *,
    carrier: str = "t110",
    originator: int = DSRSP,
    compression: str = "zlib",
    message_id: int = 0,
    window_bits: int = 15,
) -> Vector:
    return {
        "name": f"encode-{name}",
        "carrier": carrier,
        "originator": originator,
        "tunnel_message_id": message_id,
        "compression": compression,
        "window_bits": window_bits,
        "message": octets_value(message),
    }


def encodings() -> list[Vector]:
    """A whole message: what is asked is that it can be read back, by the rules of the headers."""
    vectors = []
    for choice in ("none", "zlib"):
        vectors += [
            _encode(f"{choice}-empty", b"", compression=choice),
            _encode(f"{choice}-hello", b"hello", compression=choice, message_id=7),
            _encode(f"{choice}-event-ecs46a", EVENT, compression=choice, message_id=128),
            _encode(
                f"{choice}-event-ecs200",
                EVENT,
                compression=choice,
                carrier="t1062",
                originator=CEM,
                message_id=255,
            ),
            _encode(f"{choice}-event-octets", EVENT, compression=choice, carrier="o110"),
            _encode(f"{choice}-noise", noise(3000), compression=choice, message_id=1),
            _encode(f"{choice}-zeros", bytes(3000), compression=choice),
        ]
    vectors += [
        # 78 octets are the most that fit one fragment as they are; 79 need zlib's framing.
        _encode("none-78-octets", noise(78), compression="none"),
        _encode("none-79-octets", noise(79), compression="none"),
        _encode("none-792-octets-up", noise(792), compression="none", carrier="t1062"),
        _encode("none-793-octets-up", noise(793), compression="none", carrier="t1062"),
        _encode("none-107-octets-raw", noise(107), compression="none", carrier="o110"),
        _encode("none-108-octets-raw", noise(108), compression="none", carrier="o110"),
    ]
    # Repetition at distances that a small window does not reach.
    far = (noise(700) + EVENT[:900]) * 2
    vectors += [
        _encode(f"zlib-window-{bits}", far[:3000], window_bits=bits) for bits in range(9, 16)
    ]
    plain = {
        "encode-none-empty": b"",
        "encode-none-hello": b"hello",
        "encode-none-78-octets": noise(78),
    }
    for vector in vectors:
        if vector["name"] in plain:
            vector["payloads"] = cut(
                plain[vector["name"]], compression=NONE, message_id=vector["tunnel_message_id"]
            )
    return vectors
