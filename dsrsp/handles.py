"""What the application holds of a message that it sent, and how it learns of its progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from dsrsp.errors import GatewayNotRunning
from smtunnel import MessageStatus


class Handle:
    """A message that was sent.

    Its states are told honestly: what is not known is not claimed. REASSEMBLED means that the
    device has said success for every fragment, the last of it after its CEM stored the message.
    """

    def __init__(self, status: MessageStatus) -> None:
        self._status = status
        self._watchers: set[asyncio.Queue[MessageStatus | None]] = set()
        self._closed = False

    def __repr__(self) -> str:
        return f"<Handle {self.ref} {self._status.state.value}>"

    @property
    def ref(self) -> str:
        """The gateway's own name of the message; `Gateway.handle` finds it again by this."""
        return self._status.ref

    @property
    def status(self) -> MessageStatus:
        """Where the message is now."""
        return self._status

    async def statuses(self) -> AsyncIterator[MessageStatus]:
        """Yield the status now and after each change; end with the first final one.

        Raises:
            GatewayNotRunning: the gateway has ended and will not tell of changes.
        """
        changes: asyncio.Queue[MessageStatus | None] = asyncio.Queue()
        self._watchers.add(changes)
        try:
            status: MessageStatus | None = self._status
            while status is not None:
                yield status
                if status.final:
                    return
                status = None if self._closed else await changes.get()
            raise GatewayNotRunning(
                f"the gateway ended while message {self.ref} was {self._status.state.value}; "
                "it goes on when a gateway is started with the same state"
            )
        finally:
            self._watchers.discard(changes)

    async def wait(self) -> MessageStatus:
        """Wait for the first final status and return it."""
        status = self._status
        async for status in self.statuses():  # noqa: B007 (the last one counts)
            pass
        return status

    def tell(self, status: MessageStatus) -> None:
        """Take news from the gateway; not for applications."""
        self._status = status
        for changes in self._watchers:
            changes.put_nowait(status)

    def close(self) -> None:
        """End all watching, because the gateway ends; not for applications."""
        self._closed = True
        for changes in self._watchers:
            changes.put_nowait(None)
