"""What the gateway needs of the outside: the DCC's services and durable storage."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from dsrsp.core.offers import RouteRecord
from dsrsp.core.request import Request
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from smtunnel import MessageStatus, Route


class Service(enum.Enum):
    """The DCC's services that a DSRSP posts to."""

    TRANSFORM = "serviceT"
    """Makes a pre-command from a request (command variant 4)."""
    SEND = "serviceS"
    """Takes a signed pre-command (command variant 5)."""


class DccClient(Protocol):
    """Reaches the DCC."""

    async def post(self, service: Service, request: bytes) -> bytes:
        """Post a DUIS request once and return the answer's octets, whatever they are.

        Raises:
            dsrsp.errors.DccUnreachable: there was no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class SentMessage:
    """What is known of a message that was taken for sending.

    ``deadline`` is when it is of no more use, in seconds since 1970; ``topic`` what it is about.
    """

    device: EntityId
    status: MessageStatus
    deadline: float | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A whole message from a CEM that waits for the application's ack.

    ``received_at`` is in seconds since 1970, UTC; ``route`` is what brought it, or its last piece.
    """

    ref: str
    device: EntityId
    message: bytes
    received_at: float
    route: Route = Route.ROUTE_2A


@dataclass(frozen=True, slots=True)
class Changes:
    """All that one input changes.

    ``tunnel`` are rows of the tunnel's end: octets, or None: delete. ``sent`` are new states of
    sent messages, oldest first; ``requests`` new states of requests; ``received`` messages that
    are whole now; ``acknowledged`` is the ref of a received message that the application has;
    ``offers`` are route offers that are new, or their new states.
    """

    tunnel: Mapping[str, bytes | None] = field(default_factory=dict)
    sent: tuple[SentMessage, ...] = ()
    requests: tuple[Request, ...] = ()
    received: tuple[IncomingMessage, ...] = ()
    acknowledged: str | None = None
    offers: tuple[RouteRecord, ...] = ()

    def __bool__(self) -> bool:
        return bool(
            self.tunnel
            or self.sent
            or self.requests
            or self.received
            or self.acknowledged is not None
            or self.offers
        )


class Storage(Protocol):
    """Durable state. On return of each method its change survives a power cut.

    Every method raises dsrsp.errors.StorageError when it cannot do its work, and then has
    changed nothing.
    """

    def counter_store(self) -> CounterStore:
        """The high-water mark of the organisation's one Originator Counter."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...

    def load_wall_ahead(self) -> float:
        """How far the wall clock was ahead of the times in here, in seconds; 0: nobody said."""
        ...

    def latest_time(self) -> float:
        """Return the latest time at which something is known to have ended; -inf: nothing has."""
        ...

    def keep_wall_ahead(self, wall_ahead_s: float) -> None:
        """Keep how far the wall clock is ahead, in seconds."""
        ...

    def check_writable(self) -> None:
        """Prove that something can be written: cheaper than to begin what must be stored."""
        ...

    def keep(self, changes: Changes, *, now: float) -> None:
        """Keep what one input changed, all of it or nothing."""
        ...

    def hold(self, changes: Changes, *, now: float) -> None:
        """Take what an input changed; it is durable when the next ``keep`` or ``flush`` is.

        All that is asked of the storage shows it already. When that later one fails, what is held
        stays, and comes first in the one after it.
        """
        ...

    @property
    def holds(self) -> bool:
        """Whether something is held."""
        ...

    def flush(self) -> None:
        """Make durable what is held."""
        ...

    def forget_finished(self, *, before: float, requests_before: float) -> int:
        """Drop messages, and requests, that ended before a time; return how many messages."""
        ...

    def tunnel_rows(self) -> list[tuple[str, bytes]]:
        """All rows of the tunnel's end."""
        ...

    def message(self, ref: str) -> SentMessage | None:
        """Find a message that was sent."""
        ...

    def unfinished_messages(self) -> list[SentMessage]:
        """Messages without a final status, in the order in which they were taken."""
        ...

    def request(self, originator_counter: int) -> Request | None:
        """Find a request."""
        ...

    def may_have_gone(self, ref: str, *, first_counter: int) -> bool:
        """Whether any fragment of a message was signed, and so perhaps posted.

        Args:
            ref: which message.
            first_counter: none of its fragments has a lower Originator Counter.
        """
        ...

    def unfinished_requests(self) -> list[Request]:
        """Requests that have not ended, in the order of their counters."""
        ...

    def signed_since(self, since: float) -> list[float]:
        """When commands were signed, from a time on, in order: of requests that are kept."""
        ...

    def route_offers(self) -> list[RouteRecord]:
        """Return the route offers to all devices: of each its newest, and older that still hold."""
        ...

    def unacknowledged(self) -> list[IncomingMessage]:
        """Return received messages without an ack, oldest first."""
        ...
