"""An HTTP server with limits: of connections, of the time for each step, of octets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final, NoReturn

from aiohttp import hdrs, web

from runner_io.http_listening.addresses import ListeningError, listen_reason
from runner_io.http_listening.bodies import read_body
from runner_io.http_listening.connections import Connection
from runner_io.http_listening.logs import RefusalLog, quiet_logger

if TYPE_CHECKING:
    from aiohttp.typedefs import Middleware

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LINE_OCTETS: Final = 8190
_ACCEPT_PAUSE_S: Final = 1.0
_BACKLOG: Final = 128
_LINGERING_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What callers may use of a server.

    Attributes:
        connections: how many are open at once. One more takes the place of that which has been
            without a whole request for longest; only where all are being answered it is closed.
        idle_timeout_s: how long a connection may go without a whole head of a request, its TLS
            handshake included, in seconds.
        body_timeout_s: how long a body may take, in seconds.
        request_timeout_s: how long a request may take altogether, in seconds, until its answer is
            written.
        body_octets: how long a body may be.
        setting: what ``connections`` is called where it is set.
    """

    connections: int
    idle_timeout_s: float
    body_timeout_s: float
    request_timeout_s: float
    body_octets: int
    setting: str


class LimitedServer:
    """Serves POSTs; use it with ``async with``.

    A handler finds the body read already: `aiohttp.web.Request.read` does not wait.

    Args:
        name: of the logger.
        routes: path, name and handler of each.
        limits: what callers may use.
        listen: host and port, or a bound and listening socket.
        tls: None: plain HTTP.
        cancels: True to cancel a handler whose caller has gone.
    """

    def __init__(
        self,
        name: str,
        routes: Iterable[tuple[str, str, Handler]],
        limits: Limits,
        *,
        listen: tuple[str, int] | socket.socket,
        tls: ssl.SSLContext | None,
        cancels: bool = False,
    ) -> None:
        self._limits = limits
        self._listen = listen
        self._tls = tls
        logger = logging.getLogger(name)
        self._refusals = RefusalLog(logger)
        self._crowding = RefusalLog(logger)
        self._connections: dict[Connection, None] = {}
        self._listeners: list[socket.socket] = []
        self._accepting: list[asyncio.Task[NoReturn]] = []
        self._runner = self._new_runner(name, routes, cancels=cancels)
        self.address: tuple[str, int] = ("", 0)

    def _new_runner(
        self, name: str, routes: Iterable[tuple[str, str, Handler]], *, cancels: bool
    ) -> web.AppRunner:
        app = web.Application(
            client_max_size=self._limits.body_octets, middlewares=[self._middleware()]
        )
        for path, route, handler in routes:
            app.router.add_post(path, handler, name=route)
        return web.AppRunner(
            app,
            access_log=None,
            logger=quiet_logger(name),
            shutdown_timeout=1.0,
            handler_cancellation=cancels,
            # The idle time is ours: aiohttp's own does not cover all states.
            keepalive_timeout=self._limits.idle_timeout_s,
            # So long a body that nobody wants is read on, for its sender to read the refusal.
            lingering_time=min(self._limits.body_timeout_s, _LINGERING_S),
            max_line_size=_LINE_OCTETS,
            max_field_size=_LINE_OCTETS,
            # What is small here and huge unpacked is refused as what it is.
            auto_decompress=False,
        )

    @property
    def open_connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def __aenter__(self) -> LimitedServer:
        await self._runner.setup()
        try:
            self._listeners = await self._bind()
        except OSError as error:
            await self._runner.cleanup()
            raise ListeningError(f"cannot listen: {listen_reason(error)}") from None
        self.address = self._listeners[0].getsockname()[:2]
        self._accepting = [
            asyncio.create_task(self._accept(listener), name="accept")
            for listener in self._listeners
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Who is cancelled while this waits leaves nothing open.
        async with contextlib.AsyncExitStack() as ending:
            ending.push_async_callback(self._cut_all)
            ending.push_async_callback(self._runner.cleanup)
            for listener in self._listeners:
                ending.callback(listener.close)
            for task in self._accepting:
                task.cancel()
            await asyncio.gather(*self._accepting, return_exceptions=True)

    async def _cut_all(self) -> None:
        opening = [connection.opening for connection in self._connections if connection.opening]
        for connection in list(self._connections):
            connection.cut()
        await asyncio.gather(*opening, return_exceptions=True)

    async def _bind(self) -> list[socket.socket]:
        if isinstance(self._listen, socket.socket):
            self._listen.setblocking(False)
            return [self._listen]
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(
            *self._listen, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
        bound: list[socket.socket] = []
        try:
            for family, _, _, _, address in dict.fromkeys(found):
                listener = socket.create_server(address, family=family, backlog=_BACKLOG)
                listener.setblocking(False)
                bound.append(listener)
        except OSError:
            for listener in bound:
                listener.close()
            raise
        return bound

    # Connections

    async def _accept(self, listener: socket.socket) -> NoReturn:
        loop = asyncio.get_running_loop()
        while True:
            try:
                caller, _ = await loop.sock_accept(listener)
            except OSError as error:
                self._crowding.warning("cannot take a connection, next try soon: %s", error)
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            if len(self._connections) >= self._limits.connections and not self._make_room():
                caller.close()
                continue
            self._open(caller)

    def _make_room(self) -> bool:
        """Cut the connection that has been without a whole request for longest, if there is one."""
        limit, setting = self._limits.connections, self._limits.setting
        idle = [connection for connection in self._connections if not connection.served]
        if not idle:
            self._crowding.warning(
                "refused a connection: all %d are being answered; %s says how many there may be",
                *(limit, setting),
            )
            return False
        self._crowding.warning(
            "cut the connection that was idle for longest, for a new one: %d are open; "
            "%s says how many there may be",
            *(limit, setting),
        )
        min(idle, key=lambda connection: connection.idle_since).cut()
        return True

    def _open(self, caller: socket.socket) -> None:
        server = self._runner.server
        if server is None:
            caller.close()  # it ends just now
            return
        connection = Connection(
            server(), caller, idle_timeout_s=self._limits.idle_timeout_s, gone=self._forget
        )
        self._connections[connection] = None
        connection.opening = asyncio.create_task(
            self._shake_hands(connection, caller), name="connection"
        )

    async def _shake_hands(self, connection: Connection, caller: socket.socket) -> None:
        try:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, caller, ssl=self._tls
            )
            connection.opening = None
        except OSError as error:
            # Also ssl.SSLError, and a handshake that took too long.
            self._refusals.warning("a caller did not get through the TLS handshake: %s", error)
            connection.opening = None
            connection.cut()

    def _forget(self, connection: Connection) -> None:
        self._connections.pop(connection, None)

    # Requests

    def _middleware(self) -> Middleware:
        @web.middleware
        async def serve(request: web.Request, handler: Handler) -> web.StreamResponse:
            transport = request.transport
            connection = None if transport is None else transport.get_protocol()
            if not isinstance(connection, Connection):
                raise ConnectionResetError("the caller has gone")
            connection.begin_request(self._limits.request_timeout_s)
            try:
                return await self._serve(request, handler, connection)
            finally:
                connection.end_request()

        return serve

    async def _serve(
        self, request: web.Request, handler: Handler, connection: Connection
    ) -> web.StreamResponse:
        try:
            if request.match_info.http_exception is None:
                if hdrs.CONTENT_ENCODING in request.headers:
                    raise web.HTTPUnsupportedMediaType(text="send it without Content-Encoding\n")
                await read_body(request, self._limits.body_timeout_s)
            connection.served = True
            response = await handler(request)
        except web.HTTPException as refusal:
            # The path is foreign text: shown as a literal, so that it cannot forge log lines.
            self._refusals.warning(
                "refused %s %.200r from %s: HTTP %d: %s",
                request.method,
                request.path,
                request.remote,
                refusal.status,
                (refusal.text or refusal.reason).strip(),
            )
            raise
        await write(request, response)
        return response


async def write(request: web.Request, response: web.StreamResponse) -> bool:
    """Write a response whole, unless that was done; tell whether the caller was there for it."""
    if response.prepared:
        return True
    if request.transport is None or request.transport.is_closing():
        return False
    try:
        await response.prepare(request)
        await response.write_eof()
    except ConnectionError:
        return False
    return True
