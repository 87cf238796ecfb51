"""What the gateway needs of the outside: the DCC's services and durable storage."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from dsrsp.core.request import Request
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from smtunnel import MessageStatus


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
class OutgoingMessage:
    """A message that was taken for sending.

    ``message`` is None once the message has ended: only its status is kept.
    """

    ref: str
    device: EntityId
    message: bytes | None
    compression: str
    status: MessageStatus


@dataclass(frozen=True, slots=True)
class MessageKey:
    """What tells one uplink message from all others."""

    device: EntityId
    tunnel_message_id: int
    first_counter: int


@dataclass(frozen=True, slots=True)
class UplinkFragment:
    """An uplink fragment that waits for the rest of its message."""

    key: MessageKey
    originator_counter: int
    payload: str
    received_at: float


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A whole message from a CEM that waits for the application's ack.

    ``received_at`` is in seconds since 1970, UTC.
    """

    ref: str
    device: EntityId
    message: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class UplinkOutcome:
    """All that one authenticated fragment changes.

    ``window`` is the reassembler's saved window of the device. ``fragment`` is kept until its
    message is complete or ended; ``ended`` are messages whose fragments are needed no more;
    ``message`` is what the fragment completed.
    """

    device: EntityId
    window: bytes
    fragment: UplinkFragment | None = None
    ended: tuple[MessageKey, ...] = ()
    message: IncomingMessage | None = None


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

    # Downlink

    def add_message(self, message: OutgoingMessage, *, now: float) -> None:
        """Take a new message."""
        ...

    def start_message(self, ref: str, status: MessageStatus, requests: Iterable[Request]) -> None:
        """Keep the requests that a message was cut into, and its status with them."""
        ...

    def save_request(self, request: Request, status: MessageStatus | None, *, now: float) -> None:
        """Keep a request's state and, in the same transaction, its message's status.

        At the end of a message its octets and signed requests are dropped.
        """
        ...

    def save_status(self, ref: str, status: MessageStatus, *, now: float) -> None:
        """Keep a message's status; at its end as with `save_request`."""
        ...

    def message(self, ref: str) -> OutgoingMessage | None:
        """Find a message."""
        ...

    def unfinished_messages(self) -> list[OutgoingMessage]:
        """Messages without a final status, in the order in which they were taken."""
        ...

    def requests(self, ref: str) -> list[Request]:
        """A message's requests in the order of their fragments; none before its start."""
        ...

    def request(self, originator_counter: int) -> Request | None:
        """Find a request."""
        ...

    def last_tunnel_message_id(self, device: EntityId) -> int | None:
        """The tunnel message id last used towards a device."""
        ...

    def forget_finished(self, *, before: float) -> int:
        """Drop messages that ended before a time; return how many."""
        ...

    # Uplink

    def keep_uplink(self, outcome: UplinkOutcome) -> None:
        """Keep what one alert changed, all of it or nothing."""
        ...

    def end_uplink(self, ended: Iterable[MessageKey]) -> None:
        """Drop the fragments of messages that will never be complete."""
        ...

    def windows(self, device: EntityId | None = None) -> Mapping[EntityId, bytes]:
        """Return the saved window of one device, or of all."""
        ...

    def uplink_fragments(self, device: EntityId | None = None) -> list[UplinkFragment]:
        """Return the fragments of partial messages, of one device or of all, as they came."""
        ...

    def unacknowledged(self) -> list[IncomingMessage]:
        """Return received messages without an ack, oldest first."""
        ...

    def acknowledge(
        self, ref: str, *, answered: tuple[str, MessageStatus] | None, now: float
    ) -> None:
        """Drop a received message; keep the new status of the message that it answers."""
        ...
