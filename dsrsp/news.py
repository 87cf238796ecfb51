"""What happens at the tunnel's end, told to the log and to the journal."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from dsrsp.core.offers import OfferState, RouteRecord
from gbcs.entity_id import EntityId
from gbcs.ports import Journal
from smtunnel import (
    Compression,
    DeliveryState,
    Event,
    FragmentIgnored,
    IgnoreReason,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    MessageStatus,
    parse_untrusted_header,
)
from smtunnel.carriers import HEADER_CHARS, HEADER_OCTETS
from smtunnel.records import Capabilities
from smtunnel.route_choice import routes_text
from smtunnel.send_events import Transmit

logger = logging.getLogger("dsrsp")

# The DCC posts each alert to both of our identities, and CEMs repeat what they have no receipt of.
_NORMAL = frozenset({IgnoreReason.REPLAY, IgnoreReason.DUPLICATE, IgnoreReason.DELIVERED})


class News:
    """Tells log and journal what happens.

    Args:
        journal: writes it down.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def tell_transmit(self, transmit: Transmit) -> None:
        """Tell of a fragment that goes down."""
        header = parse_untrusted_header(str(transmit.payload)[:HEADER_CHARS])
        self._journal.record(
            "carrier",
            direction="down",
            route="2a",
            peer=str(EntityId(transmit.peer)),
            message_ref=transmit.ref,
            control=header.compression is Compression.CONTROL,
            tunnel_message_id=header.tunnel_message_id,
            index=transmit.index,
            attempt=transmit.attempt,
            originator_counter=transmit.originator_counter,
            payload=str(transmit.payload),
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
            direction="down",
            route="2b",
            peer=str(EntityId(transmit.peer)),
            message_ref=transmit.ref,
            control=header.compression is Compression.CONTROL,
            tunnel_message_id=header.tunnel_message_id,
            index=transmit.index,
            attempt=transmit.attempt,
            originator_counter=transmit.originator_counter,
            octets=len(octets),
            payload=payload.hex(),
        )

    def tell_route(self, device: EntityId, state: str, reason: str = "") -> None:
        """Tell that route 2b to a CEM is up or down."""
        self._journal.record("route", state=state, peer=str(device), reason=reason or None)

    def tell_offer(self, record: RouteRecord) -> None:
        """Tell where a route offer stands."""
        status = None if record.status is None else record.status.name.lower()
        logger.info(
            "route offer %d to %s: %s%s",
            *(record.number, record.device, record.state.value),
            f" ({status})" if record.state is OfferState.REFUSED else "",
        )
        self._journal.record(
            "route",
            state=record.state.value,
            peer=str(record.device),
            offer=record.number,
            reason=status if record.state is OfferState.REFUSED else None,
        )

    def tell_status(self, device: EntityId, status: MessageStatus) -> None:
        """Tell of a new state of a sent message."""
        self._journal.record(
            "message",
            state=status.state.value,
            message_ref=status.ref,
            peer=str(device),
            reason=status.reason,
            fragments_total=status.fragments_total,
            fragments_accepted=status.fragments_accepted,
            fragments_delivered=status.fragments_delivered,
            message_octets=status.message_octets,
            tunnel_message_id=status.tunnel_message_id,
            first_counter=status.first_counter,
            routes=routes_text(status.routes),
        )
        if status.state is DeliveryState.FAILED:
            logger.error("message %s to %s failed: %s", status.ref, device, status.reason)

    def tell_capabilities(self, device: EntityId, capabilities: Capabilities) -> None:
        """Tell what a CEM says it understands."""
        self._journal.record(
            "capabilities",
            peer=str(device),
            version=capabilities.version,
            receipts=capabilities.receipts.name.lower(),
            window_bits=capabilities.window_bits,
            partial_messages=capabilities.partial_messages,
            message_octets=capabilities.message_octets,
            dictionaries=" ".join(f"{number:08X}" for number in capabilities.dictionaries),
        )

    def tell_echo(self, device: EntityId, seconds: float) -> None:
        """Tell how long an echo took."""
        self._journal.record("echo", peer=str(device), seconds=seconds)

    def tell_events(self, events: Iterable[Event]) -> None:
        """Tell what became of fragments and messages from CEMs."""
        for event in events:
            if isinstance(event, FragmentIgnored):
                logger.log(
                    logging.DEBUG if event.reason in _NORMAL else logging.WARNING,
                    "ignored alert %d of %s: %s: %s",
                    *(event.originator_counter, EntityId(event.peer), event.reason.value),
                    event.detail,
                )
            elif isinstance(event, MessageReassembled):
                self._record("reassembled", event, message_octets=len(event.message))
            elif isinstance(event, MessageRejected):
                self._lost(event, "rejected", str(event.error))
            elif isinstance(event, MessageExpired):
                more = "" if event.last_known else " and all after them"
                self._lost(event, "expired", f"fragments {event.missing}{more} did not come")
            elif isinstance(event, MessageAborted):
                self._lost(event, "aborted", event.reason.value)

    def _lost(
        self, event: MessageRejected | MessageExpired | MessageAborted, state: str, reason: str
    ) -> None:
        logger.warning(
            "%s %d of %s from counter %d %s: %s",
            "control message" if event.control else "message",
            *(event.tunnel_message_id, EntityId(event.peer), event.first_counter, state, reason),
        )
        if not event.control:
            self._record(state, event, reason=reason)

    def _record(
        self,
        state: str,
        event: MessageReassembled | MessageRejected | MessageExpired | MessageAborted,
        *,
        message_octets: int | None = None,
        reason: str | None = None,
    ) -> None:
        peer = EntityId(event.peer)
        self._journal.record(
            "message",
            state=state,
            message_ref=received_ref(peer, event.first_counter, event.tunnel_message_id),
            peer=str(peer),
            tunnel_message_id=event.tunnel_message_id,
            first_counter=event.first_counter,
            message_octets=message_octets,
            reason=reason,
        )


def received_ref(device: EntityId, first_counter: int, tunnel_message_id: int) -> str:
    """Return the name of a CEM's message: of the same always the same."""
    return f"{device.hex}-{first_counter}-{tunnel_message_id}"
