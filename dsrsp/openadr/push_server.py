"""Takes what a VTN of the PUSH model pushes, for each CEM below a path of its own."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from collections.abc import Callable
from types import TracebackType

from aiohttp import web

from dsrsp.errors import ConfigurationError
from dsrsp.logs import quiet_logger
from dsrsp.openadr.cem_ven import CemVen
from dsrsp.openadr.config import OpenAdrConfig
from dsrsp.openadr.core.ven import FROM_POLLS
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError
from openadr_xml import (
    MAX_PAYLOAD_OCTETS,
    SERVICES,
    Payload,
    PayloadRefused,
    building,
    parse_untrusted_payload,
)

logger = logging.getLogger("dsrsp.openadr")

_XML_TYPES = ("application/xml", "text/xml")


class PushServer:
    """An HTTP server at /{EUI}/OpenADR2/Simple/2.0b/{service}.

    Args:
        config: the settings.
        ven_of: finds the VEN of a CEM.
        listener: a bound and listening socket, instead of ``config.push_listen``.
    """

    def __init__(
        self,
        config: OpenAdrConfig,
        ven_of: Callable[[EntityId], CemVen | None],
        *,
        listener: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._ven_of = ven_of
        self._listener = listener
        self._context = _context(config)
        app = web.Application(client_max_size=MAX_PAYLOAD_OCTETS)
        for service in sorted(set(SERVICES.values())):
            app.router.add_post(f"/{{device}}/OpenADR2/Simple/2.0b/{service}", self._post)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=quiet_logger("dsrsp.openadr"),
            shutdown_timeout=1.0,
            # A VTN that has gone takes no answer: the VEN's is then posted to it.
            handler_cancellation=True,
        )
        self.port = 0

    async def __aenter__(self) -> PushServer:
        site: web.BaseSite
        await self._runner.setup()
        try:
            if self._listener is not None:
                site = web.SockSite(self._runner, self._listener, ssl_context=self._context)
            else:
                host, port = _split(self._config)
                site = web.TCPSite(self._runner, host, port, ssl_context=self._context)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            raise ConfigurationError(
                f"openadr: cannot listen on {self._config.push_listen}: {error}"
            ) from None
        except ConfigurationError:
            await self._runner.cleanup()
            raise
        self.port = int(self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        ven = self._find(request)
        if request.content_type not in _XML_TYPES:
            raise web.HTTPUnsupportedMediaType(
                text="OpenADR 2.0b is posted as Content-Type: application/xml\n"
            )
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                body = await request.read()
            payload = parse_untrusted_payload(body)
        except TimeoutError:
            raise web.HTTPRequestTimeout(text="the body did not come in time\n") from None
        except PayloadRefused as error:
            logger.warning("refused a push from %s: %s", request.remote, error)
            raise web.HTTPBadRequest(text=f"no OpenADR 2.0b payload: {error}\n") from None
        octets = await self._answer(ven, payload)
        return web.Response(body=octets, content_type="application/xml")

    def _find(self, request: web.Request) -> CemVen:
        try:
            ven = self._ven_of(EntityId.parse(request.match_info["device"]))
        except BuildError:
            ven = None
        if ven is None or not ven.ven.registered:
            raise web.HTTPNotFound(text="no VEN is registered here\n")
        return ven

    async def _answer(self, ven: CemVen, payload: Payload) -> bytes:
        state = ven.ven.state
        wrong_vtn = payload.vtn_id not in ("", state.vtn_id)
        if wrong_vtn or payload.ven_id not in ("", state.ven_id):
            return ven.ven.own_answer(
                payload, building.INVALID_ID, "this VEN is not registered so at this VTN"
            )
        if payload.kind == "oadrResponse":
            return b""
        if payload.kind not in FROM_POLLS and payload.kind != "oadrRequestReregistration":
            return ven.ven.own_answer(
                payload, building.COMPLIANCE_ERROR, f"{payload.kind} is not for a VEN"
            )
        answer = await ven.take_pushed(payload)
        if answer is not None:
            return answer.octets
        # It is durable; what the VEN has to say to it is posted when it comes.
        return building.response(200, "OK", request_id=payload.request_id, ven_id=state.ven_id)


def _context(config: OpenAdrConfig) -> ssl.SSLContext | None:
    if config.push_certificate is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(config.push_certificate, config.push_key)
        if config.push_ca is not None:
            context.load_verify_locations(config.push_ca)
            context.verify_mode = ssl.CERT_REQUIRED
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"openadr: push_certificate, push_key and push_ca must be PEM files that fit: {error}"
        ) from None
    return context


def _split(config: OpenAdrConfig) -> tuple[str, int]:
    listen = config.push_listen or ""
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigurationError(
            f"openadr: push_listen = {listen!r}: expected host:port with a port of 0 to 65535"
        )
    if config.push_ca is None and not config.plain_http and not _is_loopback(host):
        raise ConfigurationError(
            f"openadr: push_listen = {listen!r} without push_ca: whoever reaches it could speak as "
            "the VTN. Give push_certificate, push_key and push_ca, or set plain_http = true where "
            "nobody else reaches it"
        )
    return host, int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
