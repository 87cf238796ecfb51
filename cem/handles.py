"""What an application holds: a message that it sent, a message that it received."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from cem.errors import GatewayClosed
from gbcs.entity_id import EntityId
from smtunnel import MessageStatus, Route


class StatusBoard:
    """Tells whoever watches a message of each change of its status."""

    def __init__(self) -> None:
        self._watchers: dict[str, list[asyncio.Queue[MessageStatus | None]]] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def publish(self, status: MessageStatus) -> None:
        """Tell those who watch this message."""
        for queue in self._watchers.get(status.ref, ()):
            queue.put_nowait(status)

    def close(self) -> None:
        """End all watching: nothing will change any more."""
        self._closed = True
        for queues in self._watchers.values():
            for queue in queues:
                queue.put_nowait(None)

    async def watch(self, current: MessageStatus) -> AsyncIterator[MessageStatus]:
        """Yield the current status, then each other one, to a final one or the board's end."""
        yield current
        if current.final or self._closed:
            return
        queue: asyncio.Queue[MessageStatus | None] = asyncio.Queue()
        watchers = self._watchers.setdefault(current.ref, [])
        watchers.append(queue)
        try:
            while (status := await queue.get()) is not None:
                yield status
                if status.final:
                    return
        finally:
            watchers.remove(queue)
            if not watchers:
                self._watchers.pop(current.ref, None)


class MessageHandle:
    """A message that was sent: where it is, and what becomes of it."""

    __slots__ = ("_board", "_read_status", "_ref")

    def __init__(
        self, ref: str, read_status: Callable[[str], MessageStatus], board: StatusBoard
    ) -> None:
        self._ref = ref
        self._read_status = read_status
        self._board = board

    @property
    def ref(self) -> str:
        """The reference of the message; it also works after a restart."""
        return self._ref

    @property
    def status(self) -> MessageStatus:
        """Where the message is now.

        Raises:
            UnknownMessage: it ended so long ago that it is forgotten.
        """
        return self._read_status(self._ref)

    async def statuses(self) -> AsyncIterator[MessageStatus]:
        """Yield the present status and each change, ending after a final one.

        Ends early when the gateway closes.
        """
        async for status in self._board.watch(self.status):
            yield status

    async def wait(self) -> MessageStatus:
        """Return the final status.

        Raises:
            GatewayClosed: the gateway closed before.
        """
        status = self.status
        async for change in self._board.watch(status):
            status = change
        if not status.final:
            raise GatewayClosed(
                f"the gateway closed while message {self._ref} was {status.state.name}; "
                "it goes on when a gateway is opened with the same state"
            )
        return status


class ReceivedMessage:
    """A message from the DSRSP. It comes again after a restart, until `ack` says it is taken."""

    __slots__ = ("_acknowledge", "message", "peer", "received_at", "ref", "route")

    def __init__(
        self,
        ref: str,
        peer: EntityId,
        message: bytes,
        received_at: float,
        route: Route,
        acknowledge: Callable[[str, str | None], Awaitable[None]],
    ) -> None:
        self.ref = ref
        self.peer = peer
        self.message = message
        self.received_at = received_at
        self.route = route
        self._acknowledge = acknowledge

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.ref} from {self.peer}, {len(self.message)} octets>"

    async def ack(self, answers: str | None = None) -> None:
        """Take the message over; it is gone from the gateway when this returns.

        Args:
            answers: reference of a message that we sent and that this one answers.

        Raises:
            UnknownMessage: no message with the reference answers was sent.
            StoreError: the state file fails; the message is still there.
        """
        await self._acknowledge(self.ref, answers)
