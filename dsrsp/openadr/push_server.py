"""Takes what a VTN of the PUSH model pushes, for each CEM below a path of its own."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from types import TracebackType
from typing import Final

from aiohttp import web

from dsrsp.errors import ConfigurationError
from dsrsp.openadr.cem_ven import CemVen
from dsrsp.openadr.config import OpenAdrConfig
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError
from openadr_xml import FROM_VTN, MAX_PAYLOAD_OCTETS, SERVICES, Payload, building
from runner_io.http_listening import (
    LimitedServer,
    Limits,
    ListeningError,
    StrangersCouldSpeak,
    read_payload,
    server_tls,
    split_address,
)

MAX_OUTBOX: Final = 64
"""So many messages for one CEM wait at most for a gateway that takes none: they are in its state,
which is written whole."""


class PushServer:
    """An HTTP server at /{EUI}/OpenADR2/Simple/2.0b/{service}; use it with ``async with``.

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
        path = "/{device}/OpenADR2/Simple/2.0b"
        self._server = LimitedServer(
            "dsrsp.openadr",
            [(f"{path}/{name}", name, self._post) for name in sorted(set(SERVICES.values()))],
            _limits(config),
            listen=_address(config) if listener is None else listener,
            tls=_tls(config),
            # A VTN that has gone takes no answer: the VEN's is then posted to it.
            cancels=True,
        )

    async def __aenter__(self) -> PushServer:
        try:
            await self._server.__aenter__()
        except ListeningError as error:
            raise ConfigurationError(
                f"openadr: push_listen = {self._config.push_listen}: {error}"
            ) from None
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._server.__aexit__(kind, error, trace)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return self._server.address[1]

    async def _post(self, request: web.Request) -> web.Response:
        ven = self._find(request)
        payload = await read_payload(request)
        if len(ven.ven.state.outbox) >= MAX_OUTBOX:
            raise web.HTTPServiceUnavailable(
                text="the gateway takes nothing for this VEN now, and too much waits for it\n"
            )
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
        if payload.kind not in FROM_VTN and payload.kind != "oadrRequestReregistration":
            return ven.ven.own_answer(
                payload, building.COMPLIANCE_ERROR, f"{payload.kind} is not for a VEN"
            )
        answer = await ven.take_pushed(payload)
        if answer is not None:
            return answer.octets
        # It is durable; what the VEN has to say to it is posted when it comes.
        return building.response(200, "OK", request_id=payload.request_id, ven_id=state.ven_id)


def _limits(config: OpenAdrConfig) -> Limits:
    at_most_s = config.body_timeout_s + config.push_patience_s + config.push_idle_timeout_s
    return Limits(
        connections=config.push_connections,
        idle_timeout_s=config.push_idle_timeout_s,
        body_timeout_s=config.body_timeout_s,
        request_timeout_s=at_most_s,
        body_octets=MAX_PAYLOAD_OCTETS,
        setting="[openadr] push_connections",
    )


def _tls(config: OpenAdrConfig) -> ssl.SSLContext | None:
    try:
        return server_tls(config.push_certificate, config.push_key, config.push_ca)
    except ListeningError as error:
        raise ConfigurationError(
            f"openadr: push_certificate, push_key and push_ca {error}"
        ) from None


def _address(config: OpenAdrConfig) -> tuple[str, int]:
    try:
        knows_callers = config.push_ca is not None or config.plain_http
        return split_address(config.push_listen or "", knows_callers=knows_callers)
    except StrangersCouldSpeak as error:
        raise ConfigurationError(
            f"openadr: push_listen = {error} without push_ca: give push_certificate, push_key and "
            "push_ca, or set plain_http = true where nobody else reaches it"
        ) from None
    except ListeningError as error:
        raise ConfigurationError(f"openadr: push_listen = {error}") from None
