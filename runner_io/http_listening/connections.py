"""One connection of a `LimitedServer`: aiohttp speaks on it, this one watches its time."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

_UNASKED_OCTETS: Final = 262_144
"""So many octets may come before the head of a request is whole: a head with a body is shorter."""


class Connection(asyncio.Protocol):
    """Hands on to the protocol of HTTP what comes, and cuts what takes too long.

    Args:
        http: aiohttp's protocol for this connection.
        caller: the socket, as it was accepted.
        idle_timeout_s: how long it may go without a request, in seconds.
        gone: called when it has ended.

    ``served`` says that a whole request came and is being answered. ``opening`` is the task that
    opens it, until it is open.
    """

    def __init__(
        self,
        http: asyncio.Protocol,
        caller: socket.socket,
        *,
        idle_timeout_s: float,
        gone: Callable[[Connection], None],
    ) -> None:
        self.served = False
        self.opening: asyncio.Task[None] | None = None
        self.transport: asyncio.Transport | None = None
        self._http = http
        self._caller = caller
        self._idle_timeout_s = idle_timeout_s
        self._gone = gone
        self._asked = False
        self._unasked_octets = 0
        self._loop = asyncio.get_running_loop()
        self.idle_since = self._loop.time()
        self._timer = self._loop.call_later(idle_timeout_s, self.cut)

    def begin_request(self, timeout_s: float) -> None:
        """Take note that the head of a request is whole."""
        self._asked = True
        self._unasked_octets = 0
        self._set_timer(timeout_s)

    def end_request(self) -> None:
        """Take note that a request was answered."""
        self._asked = self.served = False
        self.idle_since = self._loop.time()
        self._set_timer(self._idle_timeout_s)

    def _set_timer(self, timeout_s: float) -> None:
        self._timer.cancel()
        if self.transport is not None and not self.transport.is_closing():
            self._timer = self._loop.call_later(timeout_s, self.cut)

    def cut(self) -> None:
        """End it at once."""
        self._timer.cancel()
        if self.opening is not None:
            self.opening.cancel()
        if self.transport is None:
            self._caller.close()
        else:
            self.transport.abort()
        self._gone(self)

    # Called by the transport; see asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is open, with TLS where there is TLS."""
        self.transport = cast(asyncio.Transport, transport)
        self._http.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """It has ended."""
        self._timer.cancel()
        self._gone(self)
        self._http.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Octets have come."""
        if not self._asked:
            self._unasked_octets += len(data)
            if self._unasked_octets > _UNASKED_OCTETS:
                self.cut()
                return
        self._http.data_received(data)

    def eof_received(self) -> bool | None:
        """The caller sends no more."""
        return self._http.eof_received()

    def pause_writing(self) -> None:
        """Enough is waiting to be sent."""
        self._http.pause_writing()

    def resume_writing(self) -> None:
        """More can be sent."""
        self._http.resume_writing()
