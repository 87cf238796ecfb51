"""What the control interface needs of a gateway."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from gbcs import EntityId
from smtunnel import MessageStatus, Route
from smtunnel.records import Capabilities


class Handle(Protocol):
    """A message that was sent, as both gateways show it."""

    @property
    def ref(self) -> str:
        """The reference of the message."""
        ...

    @property
    def status(self) -> MessageStatus:
        """Where the message is now."""
        ...

    def statuses(self) -> AsyncIterator[MessageStatus]:
        """Each status from now on, ending with a final one."""
        ...


class Received(Protocol):
    """A message that arrived, as both gateways show it."""

    @property
    def ref(self) -> str:
        """The reference of the message."""
        ...

    @property
    def peer(self) -> EntityId:
        """Who sent it."""
        ...

    @property
    def message(self) -> bytes:
        """The octets, as they were sent."""
        ...

    @property
    def received_at(self) -> float:
        """When it was complete, in seconds since 1970, UTC."""
        ...

    @property
    def route(self) -> Route:
        """What brought it, or its last piece."""
        ...

    async def ack(self, answers: str | None = None) -> None:
        """Take the message over."""
        ...


class ControlledGateway(Protocol):
    """What the control interface needs of a gateway."""

    def handle(self, ref: str) -> Handle:
        """Find a message that was sent."""
        ...

    def received(self) -> AsyncIterator[Received]:
        """Messages from the other end."""
        ...


class AskableGateway(Protocol):
    """What the control interface needs of a gateway that can ask its CEMs."""

    async def echo(self, device: EntityId, *, timeout_s: float | None = None) -> float:
        """Return how long there and back takes, in seconds."""
        ...

    def capabilities(self, device: EntityId) -> Capabilities | None:
        """Return what a CEM has said that it understands; None: nothing yet."""
        ...
