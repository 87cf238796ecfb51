"""Control records as words of the conformance conversation, over smtunnel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from lab.conformance.cases import hexadecimal, read_hexadecimal
from smtunnel.control import Record, build_control, parse_untrusted_control
from smtunnel.records import (
    Abort,
    AbortCode,
    Cancelled,
    Capabilities,
    CapabilitiesWanted,
    ControlReceipt,
    EchoReply,
    EchoRequest,
    IndexRange,
    MessageName,
    Missing,
    Receipt,
    ReceiptPolicy,
)
from smtunnel.routes import RouteAnswer, RouteOffer, RouteStatus, RouteWithdrawn

T = TypeVar("T")


def control_parse(words: Sequence[str]) -> list[str]:
    """Answer control-parse."""
    control = parse_untrusted_control(read_hexadecimal(words[0]))
    return ["ok", str(control.skipped), *map(record_word, control.records)]


def control_build(words: Sequence[str]) -> list[str]:
    """Answer control-build."""
    return ["ok", build_control([record_of(word) for word in words]).hex()]


def record_word(record: Record) -> str:
    """Write a record as one word."""
    parts: list[int | str]
    match record:
        case Receipt():
            parts = ["receipt", *_names(record.messages)]
        case ControlReceipt():
            parts = ["control-receipt", *_names(record.messages)]
        case Missing():
            ranges = [number for one in record.ranges for number in (one.start, one.count)]
            parts = ["missing", *_names([record.message]), *ranges]
        case Abort():
            parts = ["abort", *_names([record.message]), int(record.code), record.detail]
        case Cancelled():
            parts = ["cancelled", *_names([record.message])]
        case EchoRequest():
            parts = ["echo-request", record.nonce.hex(), hexadecimal(record.opaque)]
        case EchoReply():
            parts = ["echo-reply", record.nonce.hex(), hexadecimal(record.opaque)]
        case Capabilities():
            parts = ["capabilities", record.version, int(record.receipts), record.window_bits]
            parts += [record.partial_messages, record.message_octets]
            parts += [f"{dictionary_id:08x}" for dictionary_id in record.dictionaries]
        case CapabilitiesWanted():
            parts = ["capabilities-wanted"]
        case RouteOffer():
            parts = ["route-offer", record.offer, record.not_before, record.not_after]
            parts += [record.message_octets, bytes(record.versions).hex()]
            parts += [f"a:{address.encode().hex()}" for address in record.addresses]
            parts += [f"p:{pin.hex()}" for pin in record.pins]
        case RouteAnswer():
            parts = ["route-answer", record.offer, int(record.status)]
        case RouteWithdrawn():
            parts = ["route-withdrawn", record.offer]
    return ",".join(map(str, parts))


def _names(messages: Sequence[MessageName]) -> list[int]:
    return [number for name in messages for number in (name.tunnel_message_id, name.key32)]


def record_of(word: str) -> Record:
    """Read a record from its word.

    Raises:
        LocalError: a value is out of range.
    """
    kind, *parts = word.split(",")
    if kind in ("echo-request", "echo-reply"):
        echo = EchoRequest if kind == "echo-request" else EchoReply
        return echo(read_hexadecimal(parts[0]), read_hexadecimal(parts[1]))
    if kind == "route-offer":
        return _route_offer(parts)
    if kind == "capabilities":
        return _capabilities(parts)
    numbers = list(map(int, parts))
    if kind in ("receipt", "control-receipt"):
        messages = tuple(MessageName(*pair) for pair in _pairs(numbers))
        return Receipt(messages) if kind == "receipt" else ControlReceipt(messages)
    if kind == "missing":
        ranges = tuple(IndexRange(*pair) for pair in _pairs(numbers[2:]))
        return Missing(MessageName(*numbers[:2]), ranges)
    if kind == "abort":
        return Abort(MessageName(*numbers[:2]), AbortCode(numbers[2]), numbers[3])
    if kind == "cancelled":
        return Cancelled(MessageName(*numbers))
    if kind == "route-answer":
        return RouteAnswer(numbers[0], RouteStatus(numbers[1]))
    if kind == "route-withdrawn":
        return RouteWithdrawn(numbers[0])
    return CapabilitiesWanted()


def _pairs(numbers: Sequence[T]) -> list[tuple[T, T]]:
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _capabilities(parts: Sequence[str]) -> Capabilities:
    version, receipts, window_bits, partial_messages, message_octets = map(int, parts[:5])
    return Capabilities(
        version=version,
        receipts=ReceiptPolicy(receipts),
        window_bits=window_bits,
        partial_messages=partial_messages,
        message_octets=message_octets,
        dictionaries=tuple(int(part, 16) for part in parts[5:]),
    )


def _route_offer(parts: Sequence[str]) -> RouteOffer:
    octets = [(part[0], bytes.fromhex(part[2:])) for part in parts[5:]]
    return RouteOffer(
        offer=int(parts[0]),
        addresses=tuple(value.decode("ascii") for kind, value in octets if kind == "a"),
        pins=tuple(value for kind, value in octets if kind == "p"),
        not_before=int(parts[1]),
        not_after=int(parts[2]),
        versions=tuple(bytes.fromhex(parts[4])),
        message_octets=int(parts[3]),
    )
