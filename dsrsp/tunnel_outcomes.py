"""What the tunnel's end says: what of it is stored, and what is done once it is stored."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dsrsp.core.delivery import make_request
from dsrsp.core.offers import RouteRecord
from dsrsp.core.request import Request
from dsrsp.echoes import Echoes
from dsrsp.inbox import Inbox
from dsrsp.news import News, received_ref
from dsrsp.ports import Changes, IncomingMessage, SentMessage
from dsrsp.sent_messages import SentMessages
from gbcs.entity_id import EntityId
from gbcs.ports import Clock
from smtunnel import MessageStatus, Route
from smtunnel.effects import ControlNews, Effects
from smtunnel.records import Capabilities, EchoReply
from smtunnel.routes import RouteAnswer
from smtunnel.send_events import Transmit

logger = logging.getLogger("dsrsp")


class RequestRunner(Protocol):
    """Carries fragments down."""

    def run(self, request: Request) -> None:
        """Begin a request that is stored."""
        ...

    def withdraw(self, ref: str, *, index: int | None, reason: str) -> None:
        """End the requests of a message that the DCC has not taken."""
        ...

    def withdraw_ended(self) -> None:
        """End the requests that an earlier process left of messages that have ended."""
        ...


class RouteCarrier(Protocol):
    """Carries whole messages by route 2b, and keeps the offers of it."""

    def transmit(self, transmit: Transmit) -> None:
        """Send a whole message, where there is a connection."""
        ...

    def heard(self, device: EntityId, answer: RouteAnswer) -> RouteRecord | None:
        """Return what is to be stored of an answer to an offer; None: nothing."""
        ...

    def stored(self, record: RouteRecord) -> None:
        """Take over an offer's record that is stored."""
        ...

    def introduced(self, device: EntityId) -> None:
        """Take note that a CEM has said what it understands."""
        ...


@dataclass(frozen=True, slots=True)
class Beside:
    """What is stored as one with what an input changes.

    Attributes:
        request: in its new state.
        acknowledged: the ref of a received message that the application has now.
        answered: a sent message that is answered.
        offer: a route offer that is new, or in its new state.
    """

    request: Request | None = None
    acknowledged: str | None = None
    answered: SentMessage | None = None
    offer: RouteRecord | None = None


NOTHING_BESIDE = Beside()


class Outcomes:
    """Turns effects into what is stored, and does what they ask for.

    Args:
        supplier_id: of the organisation that sends.
        inbox: takes whole messages from CEMs.
        sent: the messages on their way down.
        echoes: wait for their replies.
        wall: the wall clock.
        news: tells what happens.
        tell: called with each new status of a message.
    """

    def __init__(
        self,
        supplier_id: EntityId,
        *,
        inbox: Inbox,
        sent: SentMessages,
        echoes: Echoes,
        wall: Clock,
        news: News,
        tell: Callable[[MessageStatus], None],
    ) -> None:
        self._supplier_id = supplier_id
        self._inbox = inbox
        self._sent = sent
        self._echoes = echoes
        self._wall = wall
        self._news = news
        self._tell = tell
        self._requests: RequestRunner | None = None
        self._routes: RouteCarrier | None = None

    def start(self, requests: RequestRunner, routes: RouteCarrier) -> None:
        """Begin to hand over what is given out."""
        self._requests, self._routes = requests, routes

    def stop(self) -> None:
        """Hand over nothing more."""
        self._requests = self._routes = None

    def changes(
        self, effects: Effects, transmits: Sequence[Transmit], beside: Beside = NOTHING_BESIDE
    ) -> Changes:
        """Return what is to be stored.

        Args:
            effects: what the tunnel's end said.
            transmits: those of what it gave out that are new.
            beside: what is stored with it.
        """
        supplier_id = self._supplier_id
        requests = [make_request(t, supplier_id=supplier_id) for t in _by_2a(transmits)]
        received = [
            IncomingMessage(
                ref=received_ref(EntityId(m.peer), m.first_counter, m.tunnel_message_id),
                device=EntityId(m.peer),
                message=m.message,
                received_at=self._wall(),
                route=m.route,
            )
            for m in effects.received
        ]
        return Changes(
            tunnel=effects.saves,
            sent=tuple(self._sent.changed(effects, beside.answered)),
            requests=(*requests, *(() if beside.request is None else (beside.request,))),
            received=tuple(received),
            acknowledged=beside.acknowledged,
            offers=(*self._heard(effects.news), *(() if beside.offer is None else (beside.offer,))),
        )

    def _heard(self, news: Sequence[ControlNews]) -> list[RouteRecord]:
        """Return what is to be stored of answers to route offers."""
        records = []
        for one in news:
            if isinstance(one.record, RouteAnswer) and self._routes is not None:
                record = self._routes.heard(EntityId(one.peer), one.record)
                records += [] if record is None else [record]
        return records

    def act(
        self, effects: Effects, changes: Changes, transmits: Sequence[Transmit], now: float
    ) -> None:
        """Do what is stored by now.

        Args:
            effects: what the tunnel's end said.
            changes: what was stored of it.
            transmits: as for ``changes``.
            now: when it was said, in seconds.
        """
        self._news.tell_events(effects.events)
        for incoming in changes.received:
            self._inbox.take(incoming)
        for sent in changes.sent:
            self._sent.remember(sent)
            self._news.tell_status(sent.device, sent.status)
            self._tell(sent.status)
        for record in changes.offers:
            if self._routes is not None:
                self._routes.stored(record)
        for news in effects.news:
            self._take_news(news, now)
        for transmit in transmits:
            if transmit.route is Route.ROUTE_2B and self._routes is not None:
                self._routes.transmit(transmit)
        for transmit, request in zip(_by_2a(transmits), changes.requests, strict=False):
            self._news.tell_transmit(transmit)
            if self._requests is not None:
                self._requests.run(request)
        for sent in changes.sent:
            if sent.status.final and self._requests is not None:
                reason = "its message has ended"
                self._requests.withdraw(sent.status.ref, index=None, reason=reason)

    def _take_news(self, news: ControlNews, now: float) -> None:
        device = EntityId(news.peer)
        if isinstance(news.record, Capabilities):
            self._news.tell_capabilities(device, news.record)
            if self._routes is not None:
                self._routes.introduced(device)
        elif isinstance(news.record, RouteAnswer):
            logger.info("%s answers route offer %d", device, news.record.offer)
        elif isinstance(news.record, EchoReply):
            self._echoes.take(device, news.record.nonce, now)
        else:
            logger.info("%s sent a %s, of no use here", device, type(news.record).__name__)


def _by_2a(transmits: Sequence[Transmit]) -> list[Transmit]:
    return [transmit for transmit in transmits if transmit.route is Route.ROUTE_2A]
