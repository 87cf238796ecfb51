"""What an Endpoint asks its gateway to do, and how carrier messages are answered."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from smtunnel.control import Record
from smtunnel.events import Event, IgnoreReason
from smtunnel.route_choice import Route
from smtunnel.send_events import StatusChanged, Transmit


class Answer(enum.IntEnum):
    """What the device answers to the ECS46a that carried a fragment, for each of its labels.

    Source: GBCS (ECS46a response); DLMS data-access-result.
    """

    SUCCESS = 0x00
    TEMPORARY_FAILURE = 0x02
    """Nothing is taken or changed: send it again later."""
    OTHER_REASON = 0xFA
    """The message has ended here without being delivered."""


ANSWERS: Final[Mapping[IgnoreReason, Answer]] = {
    # Labels of somebody else: they are what an ECS46a is for.
    IgnoreReason.NOT_A_FRAGMENT: Answer.SUCCESS,
    IgnoreReason.NOT_MINE: Answer.SUCCESS,
    IgnoreReason.REPLAY: Answer.SUCCESS,
    IgnoreReason.DUPLICATE: Answer.SUCCESS,
    IgnoreReason.DELIVERED: Answer.SUCCESS,
    IgnoreReason.ENDED: Answer.OTHER_REASON,
    IgnoreReason.OLDER_MESSAGE: Answer.OTHER_REASON,
    IgnoreReason.COUNTER_REUSED: Answer.OTHER_REASON,
    IgnoreReason.STALE: Answer.TEMPORARY_FAILURE,
    IgnoreReason.TOO_MANY_PEERS: Answer.TEMPORARY_FAILURE,
    IgnoreReason.BUSY: Answer.TEMPORARY_FAILURE,
}
"""How a fragment that changed nothing is answered. One that was accepted: SUCCESS; one that ended
its message badly: OTHER_REASON."""


@dataclass(frozen=True, slots=True)
class ReceivedMessage:
    """A whole message, for the application."""

    peer: bytes
    message: bytes
    tunnel_message_id: int
    first_counter: int
    """With peer and tunnel_message_id it names the message for ever."""
    route: Route = Route.ROUTE_2A
    """What brought the fragment, or the whole message, that completed it."""


@dataclass(frozen=True, slots=True)
class ControlNews:
    """What the peer has told in a control record that is not about messages."""

    peer: bytes
    record: Record
    """Capabilities, EchoReply, RouteOffer, RouteAnswer or RouteWithdrawn."""


@dataclass(frozen=True, slots=True)
class Effects:
    """What one input brings. First what must last, in one transaction; then the rest.

    Attributes:
        saves: for each key its octets, or None: delete it.
        received: messages that are whole: to be stored in the same transaction.
        statuses: news of sent messages: to be stored in the same transaction.
        answer: what to answer to the carrier message, after the transaction; None: nothing.
        transmits: fragments to hand over, after the transaction.
        news: what the peer has told.
        events: what happened at the receiving side, for the log.
    """

    saves: Mapping[str, bytes | None] = field(default_factory=dict)
    received: tuple[ReceivedMessage, ...] = ()
    statuses: tuple[StatusChanged, ...] = ()
    answer: Answer | None = None
    transmits: tuple[Transmit, ...] = ()
    news: tuple[ControlNews, ...] = ()
    events: tuple[Event, ...] = ()
