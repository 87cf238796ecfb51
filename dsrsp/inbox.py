"""Whole messages from CEMs, kept until the application acknowledges them."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable

from dsrsp.config import DsrspConfig
from dsrsp.ports import IncomingMessage
from gbcs.entity_id import EntityId
from smtunnel import Route

Acknowledge = Callable[[str, str | None], None]
"""Acknowledges a received message by its ref; with the ref of the sent one that it answers."""


class ReceivedMessage:
    """A whole message from a CEM. Until `ack` it is handed out again after a restart."""

    def __init__(self, incoming: IncomingMessage, acknowledge: Acknowledge) -> None:
        self._incoming = incoming
        self._acknowledge = acknowledge

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.ref}, {len(self.message)} octets>"

    @property
    def ref(self) -> str:
        """The message's name: the same each time that it is handed out."""
        return self._incoming.ref

    @property
    def peer(self) -> EntityId:
        """The device that sent it, proven by its signature."""
        return self._incoming.device

    @property
    def message(self) -> bytes:
        """The octets, as they were sent."""
        return self._incoming.message

    @property
    def received_at(self) -> float:
        """When it was complete, in seconds since 1970, UTC."""
        return self._incoming.received_at

    @property
    def route(self) -> Route:
        """What brought it, or its last piece."""
        return self._incoming.route

    async def ack(self, answers: str | None = None) -> None:
        """Take the message over: the gateway forgets it. Doing so again changes nothing.

        Args:
            answers: the ref of the sent message that this one answers, which becomes ANSWERED.

        Raises:
            UnknownMessage: there is no sent message of that ref; nothing is acknowledged.
            StorageError: it could not be stored; nothing is acknowledged.
            GatewayNotRunning: the gateway has ended; nothing is acknowledged.
        """
        self._acknowledge(self.ref, answers)


class Inbox:
    """Hands messages out, each once in a process.

    Args:
        unacknowledged: those that are in the store, oldest first.
    """

    def __init__(self, unacknowledged: Iterable[IncomingMessage]) -> None:
        self._waiting = deque(unacknowledged)
        self._unacknowledged: dict[str, tuple[EntityId, int]] = {}
        self._octets = 0
        self._messages_of: Counter[EntityId] = Counter()
        self._octets_of: Counter[EntityId] = Counter()
        for held in self._waiting:
            self._count(held)
        self._changed = asyncio.Event()
        self._closed = False

    def close(self) -> None:
        """End all handing out."""
        self._closed = True
        self._changed.set()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unacknowledged(self) -> int:
        """How many messages wait for an ack."""
        return len(self._unacknowledged)

    @property
    def unacknowledged_octets(self) -> int:
        """How many octets they have together."""
        return self._octets

    def take(self, incoming: IncomingMessage) -> None:
        """Take a message that is stored."""
        self._count(incoming)
        self._waiting.append(incoming)
        self._changed.set()

    def forget(self, ref: str) -> None:
        """Take note that a message is acknowledged and no more in the store."""
        device, octets = self._unacknowledged.pop(ref, (None, 0))
        if device is None:
            return
        self._octets -= octets
        self._messages_of[device] -= 1
        self._octets_of[device] -= octets
        if not self._messages_of[device]:
            del self._messages_of[device], self._octets_of[device]

    def _count(self, incoming: IncomingMessage) -> None:
        device, octets = incoming.device, len(incoming.message)
        self._unacknowledged[incoming.ref] = (device, octets)
        self._octets += octets
        self._messages_of[device] += 1
        self._octets_of[device] += octets

    def too_much_waits(self, device: EntityId, config: DsrspConfig) -> str | None:
        """Say why no more is taken of a device just now; None: more is taken."""
        share = config.max_unacknowledged_share
        most_messages, most_octets = (
            config.max_unacknowledged_messages,
            config.max_unacknowledged_octets,
        )
        if self.unacknowledged >= most_messages:
            what = f"{self.unacknowledged} received messages"
        elif self._octets >= most_octets:
            what = f"{self._octets} octets of received messages"
        elif self._messages_of[device] >= max(1, most_messages * share):
            what = f"{self._messages_of[device]} messages of {device}"
        elif self._octets_of[device] >= most_octets * share:
            what = f"{self._octets_of[device]} octets of messages of {device}"
        else:
            return None
        return f"{what} wait for an ack of the application"

    async def hand_out(self, acknowledge: Acknowledge) -> AsyncIterator[ReceivedMessage]:
        """Yield messages as they come, each once; end when the inbox is closed."""
        while not self._closed:
            if self._waiting:
                yield ReceivedMessage(self._waiting.popleft(), acknowledge)
            else:
                self._changed.clear()
                await self._changed.wait()
