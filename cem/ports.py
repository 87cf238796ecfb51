"""What the CEM's gateway asks of the outside world: a durable store and a link to the hub.

Clock, randomness, signer and journal are the ports of `gbcs.ports`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from cem.core.routes import KnownOffer
from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from smtunnel import MessageStatus, Route


@dataclass(frozen=True, slots=True)
class CommandAnswer:
    """What a command said (as SHA-256) and the signed response that it got.

    Attributes:
        peer: the EUI of the command's originator, 8 octets.
        originator_counter: the command's.
        content_digest: SHA-256 of what the originator signed.
        response: the signed response.
    """

    peer: bytes
    originator_counter: int
    content_digest: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A whole message, about to be stored for the application."""

    ref: str
    peer: EntityId
    message: bytes
    received_at: float
    route: Route


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A whole message that waits for the application.

    Attributes:
        number: its place in the order of arrival.
        ref: its reference.
        peer: who sent it.
        message: its octets.
        received_at: when it was complete, in seconds since 1970.
        route: what brought it, or its last piece.
    """

    number: int
    ref: str
    peer: EntityId
    message: bytes
    received_at: float
    route: Route


@dataclass(frozen=True, slots=True)
class BuiltAlert:
    """One fragment on its way up, signed and ready; sent as it is, however often.

    Attributes:
        originator_counter: names it.
        ref: the message that it is of.
        index: the fragment's, from 0.
        attempt: 1 where the fragment goes out for the first time.
        peer: who it is for, 8 octets.
        payload: what it carries.
        octets: the alert.
    """

    originator_counter: int
    ref: str
    index: int
    attempt: int
    peer: bytes
    payload: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Changes:
    """What one input changes; stored as one, before anything of it shows outside.

    Attributes:
        rows: of the tunnel's own state: for each key its octets, or None: delete it.
        received: whole messages, for the application.
        acknowledged: reference of a received message that the application has taken.
        statuses: of sent messages, the newest last. Alerts of a message that has ended, or begins
            anew, are dropped.
        alerts: to be sent, in this order.
        done_alerts: Originator Counters of alerts that are to be sent no more.
        answer: to the command that brought this.
        labels: index and text of labels that were no fragment.
        offer: the newest route offer, or its new state.
    """

    rows: Mapping[str, bytes | None] = field(default_factory=dict)
    received: tuple[NewMessage, ...] = ()
    acknowledged: str | None = None
    statuses: tuple[MessageStatus, ...] = ()
    alerts: tuple[BuiltAlert, ...] = ()
    done_alerts: Collection[int] = ()
    answer: CommandAnswer | None = None
    labels: tuple[tuple[int, str], ...] = ()
    offer: KnownOffer | None = None


NO_CHANGES = Changes()


class Store(Protocol):
    """Keeps all that must survive a crash. On return every change is on disk.

    Every method raises `cem.errors.StoreError` when it cannot do its work; then
    nothing of the change has happened.
    """

    @property
    def counters(self) -> CounterStore:
        """The high-water mark of this device's Originator Counter."""
        ...

    def commit(self, changes: Changes) -> None:
        """Store all that an input changes, as one."""
        ...

    def hold(self, changes: Changes) -> None:
        """Take what an input changes; it is durable when the next ``commit`` or ``flush`` is.

        All that is asked of the store shows it already. When that later one fails, what is held
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

    def tunnel_rows(self) -> dict[str, bytes]:
        """Return the tunnel's own state."""
        ...

    def answer(self, peer: bytes, originator_counter: int) -> CommandAnswer | None:
        """Return what a peer's command with this counter was answered; None where not known."""
        ...

    def labels(self) -> dict[int, str]:
        """Return the labels that were no fragments, by index."""
        ...

    def offer(self) -> KnownOffer | None:
        """Return the newest route offer; None where none has come."""
        ...

    def count_received(self) -> int:
        """Return how many messages wait for the application."""
        ...

    def next_received(self, after: int) -> StoredMessage | None:
        """Return the message after the one with this number; None where there is none yet."""
        ...

    def next_alert(self) -> BuiltAlert | None:
        """Return the oldest alert that is to be sent; None where there is none."""
        ...

    def alert_counters(self) -> set[int]:
        """Return the Originator Counters of all alerts that are to be sent."""
        ...

    def count_outgoing(self) -> int:
        """Return how many sent messages have not ended."""
        ...

    def status(self, ref: str) -> MessageStatus | None:
        """Return where a sent message is; None where the reference is not known."""
        ...

    def close(self) -> None:
        """Let go of the store."""
        ...


class HubConnection(Protocol):
    """An open connection to the hub; every method raises LinkError when it is lost."""

    async def receive(self) -> str | bytes:
        """Return the next message."""
        ...

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        ...

    async def confirm(self) -> None:
        """Return when the hub has received all that was sent."""
        ...


Connector: TypeAlias = Callable[[str], AbstractAsyncContextManager[HubConnection]]
"""Connects to a URL; raises LinkError where that fails."""
