"""The CEMs that are connected: for each its connection and a bounded queue of what goes to it."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from dsrsp.route_2b.config import Route2bServerConfig
from gbcs.certificates import Certificate
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bClosed
from gbcs.route_2b_link import MessageGuard
from gbcs.route_2b_texts import CloseCode, cut_reason
from gbcs.route_2b_trust import Connection

_LOG = logging.getLogger("dsrsp.route_2b")
_BROADCAST_BATCH = 32


class Link:
    """One connected CEM.

    What is sent goes into a queue that a task of its own empties: a CEM that does not read fills
    its own queue and loses its own connection, nobody else's.

    Args:
        device: who.
        connection: proven.
        certificate: with which the device proved itself.
        guard: checks what comes from it.
        message_octets: the longest message that the CEM takes.
        config: limits of the queue.
    """

    __slots__ = (
        "_closing",
        "_config",
        "_queue",
        "_queued_octets",
        "_writer",
        "certificate",
        "connection",
        "device",
        "guard",
        "message_octets",
        "why",
    )

    def __init__(
        self,
        device: EntityId,
        connection: Connection,
        certificate: Certificate,
        guard: MessageGuard,
        message_octets: int,
        config: Route2bServerConfig,
    ) -> None:
        self.device = device
        self.connection = connection
        self.certificate = certificate
        self.guard = guard
        self.message_octets = message_octets
        self.why: str | None = None
        self._config = config
        self._queue: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        self._queued_octets = 0
        self._writer: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None

    @property
    def ending(self) -> bool:
        """Whether it is being closed from this end."""
        return self._closing is not None

    def send(self, message: bytes, written: Callable[[], None] | None = None) -> bool:
        """Queue a message.

        Args:
            message: signed.
            written: called when the connection has taken it, which is no promise of arrival.

        Returns:
            False when it will not be sent: too long for the CEM, or the connection is ending.
        """
        if self.ending:
            return False
        if len(message) > self.message_octets:
            _LOG.error(
                "a message of %d octets for %s, which takes %d: not sent",
                len(message),
                self.device,
                self.message_octets,
            )
            return False
        octets = self._queued_octets + len(message)
        if len(self._queue) >= self._config.queued_messages or (
            self._queue and octets > self._config.queued_octets
        ):
            self.end(CloseCode.SLOW_READER, f"{len(self._queue)} messages wait for this end")
            return False
        self._queue.append((message, written))
        self._queued_octets = octets
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        return True

    async def _write(self) -> None:
        try:
            while self._queue:
                message, written = self._queue.popleft()
                self._queued_octets -= len(message)
                async with asyncio.timeout(self._config.send_timeout_s):
                    await self.connection.send(message)
                if written is not None:
                    written()
        except TimeoutError:
            why = f"did not take a message in {self._config.send_timeout_s:g} s"
            self.end(CloseCode.SLOW_READER, why)
        except Route2bClosed:
            # The reader sees it too, and tells the application.
            return
        finally:
            self._writer = None

    def end(self, code: CloseCode, reason: str) -> None:
        """Close the connection; the CEM is told why. Once only: the first reason counts."""
        if self.ending:
            return
        self.why = f"{code.value} {code.name}: {reason}"
        _LOG.warning("route 2b to %s closed: %s", self.device, self.why)
        self._queue.clear()
        self._queued_octets = 0
        if self._writer is not None:
            self._writer.cancel()
        self._closing = asyncio.get_running_loop().create_task(
            self.connection.close(code, cut_reason(reason))
        )

    async def closed(self) -> None:
        """Return when what `end` began is done."""
        if self._closing is not None:
            await asyncio.shield(self._closing)


@dataclass(frozen=True, slots=True)
class Broadcast:
    """What became of a message to many: how many were queued, and how many could not be."""

    queued: int
    not_queued: int


class Links:
    """All connected CEMs, at most one connection each."""

    def __init__(self) -> None:
        self._links: dict[EntityId, Link] = {}

    def __len__(self) -> int:
        return len(self._links)

    def __iter__(self) -> Iterator[Link]:
        return iter(tuple(self._links.values()))

    def get(self, device: EntityId) -> Link | None:
        """Return a device's link, or None when it is not connected."""
        return self._links.get(device)

    def add(self, link: Link) -> Link | None:
        """Put a proven link in; returns the one that it replaces, which is closed."""
        before = self._links.get(link.device)
        self._links[link.device] = link
        if before is not None:
            before.end(CloseCode.REPLACED, "the same device has connected once more")
        return before

    def remove(self, link: Link) -> bool:
        """Take a link out; returns False when it was replaced."""
        if self._links.get(link.device) is not link:
            return False
        del self._links[link.device]
        return True

    async def broadcast(
        self, make: Callable[[EntityId], bytes | None], devices: Iterable[EntityId] | None
    ) -> Broadcast:
        """Send each of many devices a message of its own, with pauses in which others have a turn.

        Args:
            make: gives the message for a device, signed, or None to leave it out.
            devices: to whom; None: to all that are connected.
        """
        queued = not_queued = 0
        for number, device in enumerate(tuple(self._links) if devices is None else devices, 1):
            link = self._links.get(device)
            message = None if link is None else make(device)
            if link is not None and message is not None and link.send(message):
                queued += 1
            else:
                not_queued += 1
            if not number % _BROADCAST_BATCH:
                await asyncio.sleep(0)
        return Broadcast(queued, not_queued)
