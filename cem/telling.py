"""Tells what happens: to the journal, to the log, to those who watch a message."""

from __future__ import annotations

import logging
from collections import Counter
from typing import Final

from cem.core.downlink import Handled, Outcome
from cem.core.tunnel import message_ref
from cem.handles import StatusBoard
from cem.ports import BuiltAlert
from gbcs.entity_id import EntityId
from gbcs.ports import Journal
from smtunnel import (
    Compression,
    ControlReceived,
    DeliveryState,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    parse_untrusted_header,
)
from smtunnel.carriers import HEADER_CHARS, HEADER_OCTETS
from smtunnel.effects import Effects
from smtunnel.records import Capabilities
from smtunnel.route_choice import routes_text
from smtunnel.routes import RouteOffer, RouteWithdrawn
from smtunnel.send_events import StatusChanged, Transmit

logger = logging.getLogger("cem")

_LOG_LEVELS: Final = {
    Outcome.FRAGMENT: logging.DEBUG,
    Outcome.MESSAGE: logging.INFO,
    Outcome.LABELS: logging.INFO,
    Outcome.REPLAY: logging.INFO,
    Outcome.CONTROL: logging.INFO,
}
"""All other outcomes are warnings."""

UNKNOWN_RECORD: Final = "UNKNOWN_RECORD"


class Teller:
    """Tells what happens in one gateway.

    Args:
        journal: gets the events "carrier" and "message" of specs/journal.md.
        board: tells those who watch a message.
        counts: where control records of unknown kinds are counted.
    """

    def __init__(self, journal: Journal, board: StatusBoard, counts: Counter[str]) -> None:
        self._journal = journal
        self._board = board
        self._counts = counts

    def tell(self, effects: Effects) -> None:
        """Tell all that an input brought."""
        for changed in effects.statuses:
            self._tell_status(changed)
        for event in effects.events:
            self._tell_event(event)
        for news in effects.news:
            logger.info("the DSRSP tells: %s", _told(news.record))
            if isinstance(news.record, RouteOffer | RouteWithdrawn):
                offered = isinstance(news.record, RouteOffer)
                self._journal.record(
                    "route",
                    state="offered" if offered else "withdrawn",
                    peer=str(EntityId(news.peer)),
                    offer=news.record.offer,
                )

    def tell_alert(self, alert: BuiltAlert) -> None:
        """Tell that an alert goes out."""
        header = parse_untrusted_header(alert.payload[:HEADER_CHARS])
        self._journal.record(
            "carrier",
            direction="up",
            route="2a",
            peer=str(EntityId(alert.peer)),
            message_ref=alert.ref,
            control=header.compression is Compression.CONTROL,
            tunnel_message_id=header.tunnel_message_id,
            index=alert.index,
            originator_counter=alert.originator_counter,
            attempt=alert.attempt,
            payload=alert.payload,
        )

    def tell_whole(self, transmit: Transmit, octets: bytes) -> None:
        """Tell that a whole message goes out by route 2b.

        Args:
            transmit: what was given out.
            octets: the signed message.
        """
        payload = transmit.octets
        header = parse_untrusted_header(payload[:HEADER_OCTETS])
        self._journal.record(
            "carrier",
            direction="up",
            route="2b",
            peer=str(EntityId(transmit.peer)),
            message_ref=transmit.ref,
            control=header.compression is Compression.CONTROL,
            tunnel_message_id=header.tunnel_message_id,
            index=transmit.index,
            originator_counter=transmit.originator_counter,
            attempt=transmit.attempt,
            octets=len(octets),
            payload=payload.hex(),
        )

    def tell_route(
        self, peer: EntityId, state: str, reason: str, retry_in_s: float | None = None
    ) -> None:
        """Tell where route 2b stands."""
        self._journal.record(
            "route", state=state, peer=str(peer), reason=reason or None, retry_in_s=retry_in_s
        )

    def log_command(self, handled: Handled) -> None:
        """Log what became of a command."""
        names = handled.command.pre_command
        logger.log(
            _LOG_LEVELS.get(handled.outcome, logging.WARNING),
            "command %d from %s: %s%s",
            names.originator_counter,
            names.originator_id,
            handled.outcome.value,
            f": {handled.detail}" if handled.detail else "",
        )

    def _tell_status(self, changed: StatusChanged) -> None:
        status = changed.status
        self._journal.record(
            "message",
            state=status.state.value,
            message_ref=status.ref,
            peer=str(EntityId(changed.peer)),
            message_octets=status.message_octets,
            fragments_total=status.fragments_total,
            tunnel_message_id=status.tunnel_message_id,
            routes=routes_text(status.routes),
            reason=status.reason,
        )
        if status.state is DeliveryState.FAILED:
            logger.warning("message %s failed: %s", status.ref, status.reason)
        self._board.publish(status)

    def _tell_event(self, event: Event) -> None:
        match event:
            case FragmentAccepted() | FragmentIgnored():
                return
            case ControlReceived():
                self._counts[UNKNOWN_RECORD] += event.message.skipped
                return
            case MessageReassembled():
                self._tell_received(event, DeliveryState.REASSEMBLED.value)
                return
            case MessageRejected():
                state, reason = "rejected", str(event.error)
            case MessageExpired():
                more = "" if event.last_known else " and what follows"
                state, reason = "expired", f"fragments {list(event.missing)}{more} never came"
            case MessageAborted():
                state, reason = "aborted", event.reason.value
        logger.warning(
            "message %d from counter %d %s: %s",
            event.tunnel_message_id,
            event.first_counter,
            state,
            reason,
        )
        if not event.control:
            self._tell_received(event, state, reason)

    def _tell_received(
        self,
        event: MessageReassembled | MessageRejected | MessageExpired | MessageAborted,
        state: str,
        reason: str | None = None,
    ) -> None:
        octets = len(event.message) if isinstance(event, MessageReassembled) else None
        self._journal.record(
            "message",
            state=state,
            message_ref=message_ref(event.peer, event.tunnel_message_id, event.first_counter),
            peer=str(EntityId(event.peer)),
            message_octets=octets,
            reason=reason,
        )


def _told(record: object) -> str:
    """Return what a person needs of a control record; the rest is its kind."""
    match record:
        case RouteOffer():
            return f"route 2b is offered: {', '.join(record.addresses)}, offer {record.offer}"
        case RouteWithdrawn():
            return f"offer {record.offer} of route 2b is withdrawn"
        case Capabilities():
            dictionaries = ", ".join(f"{one:08X}" for one in record.dictionaries)
            return (
                f"what it understands: messages of up to {record.message_octets} octets, "
                f"dictionaries {dictionaries or 'none'}; receipts: {record.receipts.name.lower()}"
            )
    return type(record).__name__
