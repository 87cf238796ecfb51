"""Serves the CEM's OpenADR face: an HTTP server that is a VTN to any unmodified VEN."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final

from aiohttp import web

from cem.errors import ConfigurationError, StoreError
from cem.gateway import Gateway
from cem.handles import MessageHandle, ReceivedMessage
from cem.openadr.config import OpenAdrConfig
from cem.openadr.desk import Desk
from cem.openadr.pushing import VenPusher
from cem.openadr.store import FaceStore
from gbcs.ports import Clock
from openadr_xml import MAX_PAYLOAD_OCTETS, SERVICES
from runner_io.http_listening import (
    LimitedServer,
    Limits,
    ListeningError,
    StrangersCouldSpeak,
    fingerprint,
    read_payload,
    server_tls,
    split_address,
    write,
)

logger = logging.getLogger("cem.openadr")

PATH: Final = "/OpenADR2/Simple/2.0b"
"""Where the services of OpenADR 2.0b are, each below it by its name."""


class OpenAdrVtn:
    """A VTN to the CEM's VEN, in front of a gateway. Use it with ``async with``.

    It takes what the gateway received; what is no OpenADR 2.0b is given on by `received`.

    Args:
        config: the settings; the paths in it are used as they are.
        gateway: an open gateway.
        device: the CEM's EUI, whose state this is.
        vtn_id: the vtnID to tell until the VTN's own is known.
        clock: the wall clock.
        listener: a bound and listening socket, instead of ``config.listen``.
    """

    def __init__(
        self,
        config: OpenAdrConfig,
        gateway: Gateway,
        *,
        device: str,
        vtn_id: str,
        clock: Clock = time.time,
        listener: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._gateway = gateway
        tls = _tls(config)
        self._scheme = "http" if tls is None else "https"
        self._server = LimitedServer(
            "cem.openadr",
            [(f"{PATH}/{name}", name, self._post) for name in sorted(set(SERVICES.values()))],
            _limits(config),
            listen=_address(config) if listener is None else listener,
            tls=tls,
        )
        self._store = FaceStore(config.state, device)
        try:
            self._desk = Desk(config, gateway, self._store, vtn_id=vtn_id, clock=clock)
        except BaseException:
            self._store.close()
            raise
        self._pushing: asyncio.Task[None] | None = None

    async def __aenter__(self) -> OpenAdrVtn:
        try:
            await self._server.__aenter__()
        except ListeningError as error:
            self._store.close()
            raise ConfigurationError(f"openadr: listen = {self._config.listen}: {error}") from None
        self._desk.start()
        if self._config.push:
            pusher = VenPusher(self._desk)
            self._pushing = asyncio.create_task(pusher.run(), name="cem openadr push")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Who is cancelled while this waits leaves nothing running, nor the state locked.
        async with contextlib.AsyncExitStack() as ending:
            ending.callback(self._store.close)
            ending.push_async_callback(self._desk.stop)
            ending.push_async_exit(self._server)
            if self._pushing is not None:
                self._pushing.cancel()
                await asyncio.gather(self._pushing, return_exceptions=True)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.address[1]

    @property
    def url(self) -> str:
        """The address to give to a VEN."""
        host, port = self._server.address
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{port}{PATH}"

    def status(self) -> dict[str, Any]:
        """Return what stands, as plain JSON values."""
        return {"url": self.url, **self._desk.face.status()}

    def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield the messages from the DSRSP that are no OpenADR 2.0b; ends with the face."""
        return self._desk.received()

    def handle(self, ref: str) -> MessageHandle:
        """Return the handle of a message that was sent; see `Gateway.handle`."""
        return self._gateway.handle(ref)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        payload = await read_payload(request)
        service = str(request.match_info.route.name)
        try:
            answer = await self._desk.ask(payload, service, fingerprint(request))
        except StoreError as error:
            logger.error("cannot keep a request: %s", error)
            raise web.HTTPServiceUnavailable(text="cannot be kept now; try again\n") from None
        response = web.Response(body=answer.octets, content_type="application/xml")
        # If the VEN has gone, what was for it stays.
        if await write(request, response):
            await self._desk.written(answer)
        return response


def _limits(config: OpenAdrConfig) -> Limits:
    return Limits(
        connections=config.connections,
        idle_timeout_s=config.idle_timeout_s,
        body_timeout_s=config.body_timeout_s,
        request_timeout_s=config.body_timeout_s + config.patience_s + config.idle_timeout_s,
        body_octets=MAX_PAYLOAD_OCTETS,
        setting="[openadr] connections",
    )


def _tls(config: OpenAdrConfig) -> ssl.SSLContext | None:
    try:
        return server_tls(config.certificate, config.key, config.ven_ca)
    except ListeningError as error:
        raise ConfigurationError(f"openadr: certificate, key and ven_ca {error}") from None


def _address(config: OpenAdrConfig) -> tuple[str, int]:
    try:
        knows_callers = config.ven_ca is not None or config.plain_http
        return split_address(config.listen, knows_callers=knows_callers)
    except StrangersCouldSpeak as error:
        raise ConfigurationError(
            f"openadr: listen = {error} without ven_ca: give certificate, key and ven_ca, or set "
            "plain_http = true where nobody else reaches it"
        ) from None
    except ListeningError as error:
        raise ConfigurationError(f"openadr: listen = {error}") from None
