"""The receive address: an HTTP server that the DCC posts responses and alerts to.

It answers as `dsrsp.posted` says: 204, 400 with a line that says what is wrong, or 503.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final

from aiohttp import web

from dsrsp.errors import ConfigurationError
from dsrsp.posted import Receive, take_posted
from gbcs.duis import MAX_DUIS_OCTETS
from runner_io.http_listening import listen_reason, quiet_logger

_BODY_TIMEOUT_S: Final = 10.0

logger = logging.getLogger("dsrsp")


class Receiver:
    """Serves the receive address.

    Args:
        receive: called with each body.
        listen: host:port, used where there is no listener.
        path: the path of the receive address.
        listener: a bound and listening socket to serve instead.
    """

    def __init__(
        self, receive: Receive, *, listen: str, path: str, listener: socket.socket | None
    ) -> None:
        self._receive = receive
        self._listen = listen
        self._listener = listener
        # A body over the limit is aiohttp's 413, before it is read whole.
        app = web.Application(client_max_size=MAX_DUIS_OCTETS, middlewares=[_log_refusals])
        app.router.add_post(path, self._post)
        self._runner = web.AppRunner(
            app, access_log=None, logger=quiet_logger("dsrsp"), shutdown_timeout=1.0
        )
        self.port = 0

    async def __aenter__(self) -> Receiver:
        await self._runner.setup()
        try:
            await self._site().start()
        except (OSError, ConfigurationError) as error:
            await self._runner.cleanup()
            reason = listen_reason(error) if isinstance(error, OSError) else error
            raise ConfigurationError(
                f"receive_listen = {self._listen!r}: cannot listen: {reason}"
            ) from None
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    def _site(self) -> web.BaseSite:
        if self._listener is not None:
            return web.SockSite(self._runner, self._listener)
        host, _, port = self._listen.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
            raise ConfigurationError("expected host:port with a port of 0 to 65535")
        return web.TCPSite(self._runner, host.strip("[]"), int(port))

    async def _post(self, request: web.Request) -> web.Response:
        try:
            async with asyncio.timeout(_BODY_TIMEOUT_S):
                body = await request.read()
        except TimeoutError:
            text = f"the body did not come in {_BODY_TIMEOUT_S:g} s\n"
            return web.Response(status=408, text=text)
        answer = take_posted(self._receive, body, sender=request.remote)
        return web.Response(status=answer.status, text=answer.text or None)


@web.middleware
async def _log_refusals(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        # The path is foreign text: shown as a literal, so that it cannot forge log lines.
        logger.warning(
            "refused %s %.200r from %s: HTTP %d: %s",
            request.method,
            request.path,
            request.remote,
            refusal.status,
            (refusal.text or refusal.reason).strip(),
        )
        raise
