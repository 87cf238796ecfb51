"""Control records: what the two tunnel ends tell each other beside the messages.

A control message is records, one after another, and the CRC-32 of them all. A record is its kind
(one octet), the length of its body (one octet below 128, else two with the top bit set) and the
body. Kinds that are not known are skipped and counted, so that a later version can add some.

Source: specs/tunnel-protocol.md, control records.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from smtunnel.errors import ControlInvalid, LocalError
from smtunnel.octets import Reader, build_length
from smtunnel.records import (
    NAME_OCTETS,
    RANGE_OCTETS,
    Abort,
    Cancelled,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoReply,
    EchoRequest,
    Missing,
    Receipt,
)
from smtunnel.routes import RouteAnswer, RouteOffer, RouteWithdrawn

MAX_CONTROL_OCTETS: Final = 4096
"""The longest control message, in octets, its CRC-32 included."""

MAX_RECORDS: Final = 256
"""The most records of one control message, those of unknown kinds included."""

CRC_OCTETS: Final = 4
_HEAD_OCTETS: Final = 3
"""Kind and length of a record, at most."""

Record: TypeAlias = (
    Receipt
    | Missing
    | Abort
    | EchoRequest
    | EchoReply
    | Capabilities
    | CapabilitiesWanted
    | RouteOffer
    | RouteAnswer
    | RouteWithdrawn
    | ControlReceipt
    | Cancelled
)
"""Everything that one end can tell the other."""

_PARSERS: Final[dict[int, Callable[[Reader], Record]]] = {
    Receipt.KIND: Receipt.parse_untrusted,
    Missing.KIND: Missing.parse_untrusted,
    Abort.KIND: Abort.parse_untrusted,
    EchoRequest.KIND: EchoRequest.parse_untrusted,
    EchoReply.KIND: EchoReply.parse_untrusted,
    Capabilities.KIND: Capabilities.parse_untrusted,
    CapabilitiesWanted.KIND: CapabilitiesWanted.parse_untrusted,
    RouteOffer.KIND: RouteOffer.parse_untrusted,
    RouteAnswer.KIND: RouteAnswer.parse_untrusted,
    RouteWithdrawn.KIND: RouteWithdrawn.parse_untrusted,
    ControlReceipt.KIND: ControlReceipt.parse_untrusted,
    Cancelled.KIND: Cancelled.parse_untrusted,
}


@dataclass(frozen=True, slots=True)
class ControlMessage:
    """A control message as read.

    Attributes:
        records: in the order in which they stand.
        skipped: how many records were of a kind that is not known here.
    """

    records: tuple[Record, ...]
    skipped: int = 0


def build_record(record: Record) -> bytes:
    """Build one record: kind, length, body.

    Raises:
        LocalError: the body is longer than a length can say.
    """
    body = record.build_body()
    return bytes([record.KIND]) + build_length(len(body)) + body


def build_control(records: Iterable[Record]) -> bytes:
    """Build the octets of a control message.

    Raises:
        LocalError: no record, too many, or more octets than a control message may have.
    """
    built = [build_record(record) for record in records]
    if not 1 <= len(built) <= MAX_RECORDS:
        raise LocalError(f"a control message has 1 to {MAX_RECORDS} records, not {len(built)}")
    octets = b"".join(built)
    if len(octets) + CRC_OCTETS > MAX_CONTROL_OCTETS:
        raise LocalError(
            f"the records have {len(octets)} octets, but a control message has at most "
            f"{MAX_CONTROL_OCTETS} with its CRC-32: send them in several"
        )
    return octets + zlib.crc32(octets).to_bytes(CRC_OCTETS, "big")


def parse_untrusted_control(octets: bytes) -> ControlMessage:
    """Read a control message; all of it must be right, or none of it counts.

    Raises:
        ControlInvalid: too long or short, a wrong CRC-32, a record that is cut short, has
            something behind its end, or a value out of range.
    """
    if not CRC_OCTETS < len(octets) <= MAX_CONTROL_OCTETS:
        raise ControlInvalid(
            f"a control message has {CRC_OCTETS + 1} to {MAX_CONTROL_OCTETS} octets, "
            f"not {len(octets)}"
        )
    content, check = octets[:-CRC_OCTETS], octets[-CRC_OCTETS:]
    if zlib.crc32(content) != int.from_bytes(check, "big"):
        raise ControlInvalid(f"the CRC-32 {check.hex()} of a control message does not hold")
    reader = Reader(content, "control message")
    records: list[Record] = []
    skipped = 0
    while reader.left:
        if len(records) + skipped >= MAX_RECORDS:
            raise ControlInvalid(f"a control message has more than {MAX_RECORDS} records")
        kind = reader.number(1, "record kind")
        body = Reader(reader.counted("record body"), f"record of kind {kind}")
        parse = _PARSERS.get(kind)
        if parse is None:
            skipped += 1
            continue
        try:
            records.append(parse(body))
        except LocalError as error:
            # The records check their own values; here they came from outside.
            raise ControlInvalid(f"record of kind {kind}: {error}") from None
        body.end()
    return ControlMessage(tuple(records), skipped)


def pack_records(records: Iterable[Record], room_octets: int) -> list[tuple[Record, ...]]:
    """Spread records over as few control messages as hold them, in order.

    Receipts are divided where they do not fit, and a missing list is cut short: what it leaves
    out is asked for another time. Any other record that is too long has a message to itself.

    Args:
        records: what is to be said.
        room_octets: what a control message should have at most, its CRC-32 included.
    """
    packed: list[tuple[Record, ...]] = []
    current: list[Record] = []
    left = room_octets - CRC_OCTETS
    for record in records:
        for part in _parts(record, room_octets - CRC_OCTETS, left if current else None):
            size = len(build_record(part))
            if current and size > left:
                packed.append(tuple(current))
                current, left = [], room_octets - CRC_OCTETS
            current.append(part)
            left -= size
    if current:
        packed.append(tuple(current))
    return packed


def _parts(record: Record, room: int, left: int | None) -> list[Record]:
    """Divide a record so that its first part fits what is left, and the others a new message."""
    if isinstance(record, Missing):
        most = max(1, (room - _HEAD_OCTETS - NAME_OCTETS) // RANGE_OCTETS)
        return [Missing(record.message, record.ranges[:most])]
    if not isinstance(record, Receipt | ControlReceipt):
        return [record]
    most = max(1, (room - _HEAD_OCTETS) // NAME_OCTETS)
    first = most if left is None else max(0, (left - _HEAD_OCTETS) // NAME_OCTETS)
    names = record.messages
    starts = [0, *range(first, len(names), most)] if first else list(range(0, len(names), most))
    ends = [*starts[1:], len(names)]
    return [type(record)(names[start:end]) for start, end in zip(starts, ends, strict=True)]
