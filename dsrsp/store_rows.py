"""What is stored of messages, requests and route offers, as columns and back.

Counters have 64 bits and SQLite's integers a sign, so they are kept as eight octets, which sort as
the numbers do.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from dsrsp.core.offers import OfferState, RouteRecord
from dsrsp.core.request import Request, State
from dsrsp.errors import StorageError
from dsrsp.ports import SentMessage
from gbcs.entity_id import EntityId
from gbcs.errors import FormatError
from gbcs.messages import PreCommand, parse_untrusted
from smtunnel import DeliveryState, MessageStatus
from smtunnel.route_choice import number_to_routes, routes_to_number
from smtunnel.routes import RouteStatus

_STATUS_COLUMNS: Final = (
    "state, reason, fragments_total, fragments_accepted, fragments_delivered, message_octets, "
    "tunnel_message_id, first_counter, routes"
)
MESSAGE_COLUMNS: Final = f"ref, device, deadline, topic, {_STATUS_COLUMNS}"
REQUEST_COLUMNS: Final = (
    "ref, fragment_index, attempt, pre_command, state, deadline, signed_request, posts, results, "
    "reason, signed_at, held"
)
_COUNTER_OCTETS: Final = 8
OFFER_COLUMNS: Final = (
    "device, number, terms, offered_at, not_after, state, status, answered_at, by_hand"
)

# Interim states hold nothing that is worth a write: after a restart they begin again.
_KEPT_AS: Final = {
    State.TRANSFORMING: State.RESERVED,
    State.CORRELATING: State.RESERVED,
    State.SENDING: State.SIGNED,
}


def counter_to_octets(counter: int) -> bytes:
    """Return a counter as it is stored."""
    return counter.to_bytes(_COUNTER_OCTETS, "big")


def octets_to_counter(octets: bytes) -> int:
    """Return a counter that was stored."""
    return int.from_bytes(octets, "big")


def _status_row(status: MessageStatus) -> tuple[Any, ...]:
    return (
        status.state.name,
        status.reason,
        status.fragments_total,
        status.fragments_accepted,
        status.fragments_delivered,
        status.message_octets,
        status.tunnel_message_id,
        None if status.first_counter is None else counter_to_octets(status.first_counter),
        routes_to_number(status.routes),
    )


def message_of(row: tuple[Any, ...]) -> SentMessage:
    """Return a message that was sent from its columns."""
    (
        ref,
        device,
        deadline,
        topic,
        state,
        reason,
        total,
        accepted,
        delivered,
        octets,
        message_id,
        first,
        routes,
    ) = row
    status = MessageStatus(
        ref=ref,
        state=DeliveryState[state],
        reason=reason,
        fragments_total=total,
        fragments_accepted=accepted,
        fragments_delivered=delivered,
        message_octets=octets,
        tunnel_message_id=message_id,
        first_counter=None if first is None else octets_to_counter(first),
        routes=number_to_routes(routes),
    )
    return SentMessage(EntityId(device), status, deadline, topic)


def put_offer(db: sqlite3.Connection, record: RouteRecord) -> None:
    """Store a route offer's record; what it makes worthless goes."""
    device = record.device.octets
    db.execute(
        "DELETE FROM route_offer WHERE device = ? AND number < ? AND not_after <= ?",
        (device, record.number, record.offered_at),
    )
    db.execute(
        "INSERT OR REPLACE INTO route_offer VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            device,
            record.number,
            record.terms,
            record.offered_at,
            record.not_after,
            record.state.name,
            None if record.status is None else int(record.status),
            record.answered_at,
            record.by_hand,
        ),
    )


def put_message(db: sqlite3.Connection, sent: SentMessage, now: float) -> None:
    """Store a message's newest state."""
    ended_at = now if sent.status.final else None
    marks = ", ".join("?" * 14)
    db.execute(
        f"INSERT INTO message ({MESSAGE_COLUMNS}, ended_at) VALUES ({marks}) "  # noqa: S608
        f"ON CONFLICT (ref) DO UPDATE SET ({_STATUS_COLUMNS}) = "
        "(excluded.state, excluded.reason, excluded.fragments_total, "
        "excluded.fragments_accepted, excluded.fragments_delivered, excluded.message_octets, "
        "excluded.tunnel_message_id, excluded.first_counter, excluded.routes), "
        "ended_at = coalesce(ended_at, excluded.ended_at)",
        (
            sent.status.ref,
            sent.device.octets,
            sent.deadline,
            sent.topic,
            *_status_row(sent.status),
            ended_at,
        ),
    )


def put_request(db: sqlite3.Connection, request: Request, now: float) -> None:
    """Store a request's newest state."""
    marks = ", ".join("?" * 14)
    db.execute(
        f"INSERT OR REPLACE INTO request (originator_counter, {REQUEST_COLUMNS}, "  # noqa: S608
        f"ended_at) VALUES ({marks})",
        (
            counter_to_octets(request.originator_counter),
            request.message_ref,
            request.index,
            request.attempt,
            request.pre_command.to_bytes(),
            _KEPT_AS.get(request.state, request.state).value,
            request.deadline,
            None if request.final else request.signed_request,
            request.posts,
            None if request.results is None else bytes(request.results),
            request.reason,
            request.signed_at,
            request.held,
            now if request.final else None,
        ),
    )


def request_of(row: tuple[Any, ...], path: str) -> Request:
    """Return a request from its columns.

    Raises:
        StorageError: what is stored is damaged.
    """
    ref, index, attempt, octets, state, deadline, signed_request, *rest = row
    posts, results, reason, signed_at, held = rest
    try:
        pre_command = parse_untrusted(octets)
    except FormatError as error:
        raise StorageError(f"{path}: a stored pre-command is damaged: {error}") from None
    if not isinstance(pre_command, PreCommand):
        raise StorageError(f"{path}: a stored pre-command is something else")
    return Request(
        message_ref=ref,
        index=index,
        pre_command=pre_command,
        attempt=attempt,
        state=State(state),
        deadline=deadline,
        signed_request=signed_request,
        posts=posts,
        results=None if results is None else tuple(results),
        reason=reason,
        signed_at=signed_at,
        held=bool(held),
    )


def offer_of(row: tuple[Any, ...]) -> RouteRecord:
    """Return a route offer's record from its columns."""
    device, number, terms, offered_at, not_after, state, status, answered_at, by_hand = row
    return RouteRecord(
        device=EntityId(device),
        number=number,
        terms=terms,
        offered_at=offered_at,
        not_after=not_after,
        state=OfferState[state],
        status=None if status is None else RouteStatus(status),
        answered_at=answered_at,
        by_hand=bool(by_hand),
    )
