"""What the vector files share: headers, cutting, sample messages, and how octets are written."""

from __future__ import annotations

import base64
from typing import Any, Final

Vector = dict[str, Any]

DSRSP: Final = 0
CEM: Final = 1

NONE: Final = 0
ZLIB: Final = 1
RESERVED: Final = 2
CONTROL: Final = 3

EVENT: Final = (
    b'<?xml version="1.0" encoding="utf-8"?>\n'
    b'<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"'
    b' xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110"'
    b' xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"'
    b' xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0"'
    b' xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream">'
    b'<oadr:oadrSignedObject><oadr:oadrDistributeEvent ei:schemaVersion="2.0b">'
    b"<pyld:requestID>req-7c41</pyld:requestID><ei:vtnID>DSRSP-1</ei:vtnID><oadr:oadrEvent>"
    b"<ei:eiEvent><ei:eventDescriptor><ei:eventID>evt-0093</ei:eventID>"
    b"<ei:modificationNumber>0</ei:modificationNumber><ei:priority>1</ei:priority>"
    b"<ei:createdDateTime>2026-01-15T15:42:07Z</ei:createdDateTime>"
    b"<ei:eventStatus>far</ei:eventStatus></ei:eventDescriptor><ei:eiActivePeriod>"
    b"<xcal:properties><xcal:dtstart><xcal:date-time>2026-01-15T17:00:00Z</xcal:date-time>"
    b"</xcal:dtstart><xcal:duration><xcal:duration>PT2H</xcal:duration></xcal:duration>"
    b"</xcal:properties></ei:eiActivePeriod><ei:eiEventSignals><ei:eiEventSignal>"
    b"<strm:intervals><ei:interval><xcal:duration><xcal:duration>PT1H</xcal:duration>"
    b"</xcal:duration><xcal:uid><xcal:text>0</xcal:text></xcal:uid><ei:signalPayload>"
    b"<ei:payloadFloat><ei:value>3.2</ei:value></ei:payloadFloat></ei:signalPayload>"
    b"</ei:interval><ei:interval><xcal:duration><xcal:duration>PT1H</xcal:duration>"
    b"</xcal:duration><xcal:uid><xcal:text>1</xcal:text></xcal:uid><ei:signalPayload>"
    b"<ei:payloadFloat><ei:value>1.6</ei:value></ei:payloadFloat></ei:signalPayload>"
    b"</ei:interval></strm:intervals><ei:signalName>LOAD_DISPATCH</ei:signalName>"
    b"<ei:signalType>setpoint</ei:signalType><ei:signalID>sig-1</ei:signalID>"
    b"</ei:eiEventSignal></ei:eiEventSignals><ei:eiTarget><ei:venID>CEM-0017</ei:venID>"
    b"</ei:eiTarget></ei:eiEvent><oadr:oadrResponseRequired>always</oadr:oadrResponseRequired>"
    b"</oadr:oadrEvent></oadr:oadrDistributeEvent></oadr:oadrSignedObject></oadr:oadrPayload>"
)
"""An OpenADR event, as a DSRSP sends it."""


def noise(count: int) -> bytes:
    """Make octets that do not compress, the same everywhere."""
    state = 1
    octets = bytearray()
    for _ in range(count):
        state = state * 1_103_515_245 + 12_345 & 0x7FFFFFFF
        octets.append(state >> 16 & 0xFF)
    return bytes(octets)


def header(
    *,
    originator: int = DSRSP,
    compression: int = ZLIB,
    encoding: int = 1,
    last: bool = False,
    index: int = 0,
    message_id: int = 0,
) -> bytes:
    """Build the three octets of a header. Source: specs/tunnel-protocol.md section 3."""
    bits = (
        originator << 23
        | compression << 21
        | encoding << 20
        | int(last) << 19
        | index << 8
        | message_id
    )
    return bits.to_bytes(3, "big")


def text_of(octets: bytes) -> str:
    """Encode octets as base64 text."""
    return base64.b64encode(octets).decode("ascii")


def payload(body: str, **fields: int) -> str:
    """Build the payload of one fragment on a printable carrier."""
    return text_of(header(**fields)) + body


def cut(
    stream: bytes, size: int = 106, *, originator: int = DSRSP, compression: int = ZLIB,
    message_id: int = 0,
) -> list[str]:  # fmt: skip
    """Cut a stream's base64 text into payloads for a printable carrier.

    Args:
        stream: the message after compression.
        size: characters of each body but the last.
        originator, compression, message_id: what the headers say.
    """
    return cut_text(
        text_of(stream),
        size,
        originator=originator,
        compression=compression,
        message_id=message_id,
    )


def cut_text(text: str, size: int = 106, **fields: int) -> list[str]:
    """Cut any text, also one that is not base64, into payloads."""
    bodies = [text[at : at + size] for at in range(0, len(text), size)] or [""]
    return [
        payload(body, index=index, last=index == len(bodies) - 1, **fields)
        for index, body in enumerate(bodies)
    ]


def octets_value(octets: bytes) -> str | dict[str, Any]:
    """Write octets for JSON: hexadecimal, or one short sequence and how often it stands there."""
    for width in (1, 2, 4, 8):
        times = len(octets) // width
        if len(octets) > 64 and octets == octets[:width] * times:
            return {"octets": octets[:width].hex(), "times": times}
    return octets.hex()
