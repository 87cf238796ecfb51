"""What the CEM's gateway asks of the outside world: a durable store and a link to the hub.

Clock, randomness, signer and journal are the ports of `gbcs.ports`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from gbcs.counters import CounterStore
from gbcs.entity_id import EntityId
from smtunnel import MessageStatus


@dataclass(frozen=True, slots=True)
class MessageKey:
    """What tells one tunnelled message from every other.

    Attributes:
        peer: the EUI of its sender, 8 octets.
        tunnel_message_id: 0 to 255, used again and again.
        first_counter: the Originator Counter of its first fragment.
    """

    peer: bytes
    tunnel_message_id: int
    first_counter: int


@dataclass(frozen=True, slots=True)
class StoredFragment:
    """An accepted fragment of a message that is not complete yet."""

    key: MessageKey
    originator_counter: int
    payload: str
    received_at: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command said (as SHA-256) and the signed response that it got."""

    content_digest: bytes
    response: bytes


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A whole message that waits for the application.

    Attributes:
        number: its place in the order of arrival.
        ref: its reference.
        peer: who sent it.
        message: its octets.
        received_at: when it was complete, in seconds since 1970.
    """

    number: int
    ref: str
    peer: EntityId
    message: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A whole message, about to be stored for the application."""

    ref: str
    peer: EntityId
    message: bytes
    received_at: float


@dataclass(frozen=True, slots=True)
class CommandOutcome:
    """All that one valid command changes; stored as one, before the command is answered.

    Attributes:
        peer: the EUI of the command's originator, 8 octets.
        originator_counter: the command's.
        answer: the command's content and the response that it gets.
        window: the peer's replay window after this command, as the reassembler exports it; None
            where the command did not move it.
        fragment: to be kept until its message is complete or ended.
        ended: messages whose fragments are needed no more.
        message: the message that the command completed.
        labels: index and text of labels that were no fragment.
    """

    peer: bytes
    originator_counter: int
    answer: Answer
    window: bytes | None = None
    fragment: StoredFragment | None = None
    ended: tuple[MessageKey, ...] = ()
    message: NewMessage | None = None
    labels: tuple[tuple[int, str], ...] = ()


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message of the application on its way up.

    Attributes:
        ref: its reference.
        message: its octets.
        compression: as the application asked: auto, zlib or none.
        status: how far it has come; it has a first_counter once its alerts are built.
    """

    ref: str
    message: bytes
    compression: str
    status: MessageStatus


@dataclass(frozen=True, slots=True)
class BuiltAlert:
    """One fragment of an outgoing message, signed and ready; sent as it is, however often."""

    index: int
    originator_counter: int
    payload: str
    octets: bytes


class Store(Protocol):
    """Keeps all that must survive a crash. On return every change is on disk.

    Every method raises `cem.errors.StoreError` when it cannot do its work; then
    nothing of the change has happened.
    """

    @property
    def counters(self) -> CounterStore:
        """The high-water mark of this device's Originator Counter."""
        ...

    def answer(self, peer: bytes, originator_counter: int) -> Answer | None:
        """Return what a peer's command with this counter was answered; None where not known."""
        ...

    def commit_command(self, outcome: CommandOutcome) -> None:
        """Store all that a command changes, as one."""
        ...

    def end_messages(self, keys: Sequence[MessageKey]) -> None:
        """Drop the fragments of messages that will never be complete."""
        ...

    def fragments(self) -> list[StoredFragment]:
        """Return the fragments of incomplete messages in the order of arrival."""
        ...

    def replay_windows(self) -> dict[bytes, bytes]:
        """Return each peer's replay window as it was stored last."""
        ...

    def labels(self) -> dict[int, str]:
        """Return the labels that were no fragments, by index."""
        ...

    def count_received(self) -> int:
        """Return how many messages wait for the application."""
        ...

    def next_received(self, after: int) -> StoredMessage | None:
        """Return the message after the one with this number; None where there is none yet."""
        ...

    def acknowledge(self, ref: str, answered: MessageStatus | None) -> None:
        """Forget a received message; with ``answered``, end a sent one with that status as well."""
        ...

    def add_outgoing(self, outgoing: OutgoingMessage) -> None:
        """Take a message for sending."""
        ...

    def next_outgoing(self) -> OutgoingMessage | None:
        """Return the oldest message that is not handed over and not failed."""
        ...

    def count_outgoing(self) -> int:
        """Return how many messages are not handed over and not failed."""
        ...

    def save_alerts(self, status: MessageStatus, alerts: Sequence[BuiltAlert]) -> None:
        """Keep a message's alerts before the first of them is sent."""
        ...

    def unsent_alerts(self, ref: str) -> list[BuiltAlert]:
        """Return those of a message's alerts that are not handed over, by index."""
        ...

    def alert_sent(self, status: MessageStatus, index: int) -> None:
        """Note that the hub has an alert; it is not sent again."""
        ...

    def last_tunnel_message_id(self) -> int | None:
        """Return the id of the message built last; None where none was."""
        ...

    def finish_outgoing(self, status: MessageStatus) -> None:
        """Store a final status; message and alerts are needed no more."""
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
