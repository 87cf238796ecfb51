"""The local control interface of a gateway daemon: HTTP on a loopback address, with a token.

::

    POST /v1/messages[?to=EUI][&compression=auto][&compact=false][&deadline=S][&priority=N]
                     [&topic=TEXT][&supersedes=REF][&route=auto|2a|2b|both][&urgent=true]
                                               body: the message -> 202 {"ref", "state", ...}
    GET  /v1/messages/{ref}                    -> 200 {"ref", "state", ...}
    GET  /v1/messages/{ref}/statuses           -> 200 one JSON line a change, to a final state
    GET  /v1/received[?wait_s=30]              -> 200 {"messages": [{"ref", "peer", ...}]}
    POST /v1/received/{ref}/ack[?answers=REF]  -> 204

and at a DSRSP

::

    POST /v1/echo?to=EUI[&timeout_s=60]        -> 200 {"seconds": 41.5}
    GET  /v1/capabilities?to=EUI               -> 200 {"capabilities": null or {...}}

A state also has "waits_for_route_2b": true while that is down and the message does not go by 2a
yet; it will in "by_2a_in_s" seconds, null: not at all.

About route 2b, at both; offers are made and withdrawn at a DSRSP only

::

    GET  /v1/route                             -> 200 {"route": {...}}
    POST /v1/route/offer?to=EUI                -> 200 {"offer": {...}}
    POST /v1/route/withdraw?to=EUI             -> 200 {"offer": {...}}

and where there is an OpenADR face

::

    GET  /v1/openadr                           -> 200 {"openadr": {...}}

Without ``compact`` the gateway's own setting holds: see "compact" in its configuration.
``deadline`` is in seconds since 1970; ``topic`` and ``supersedes`` are for a DSRSP (see
`dsrsp.Gateway.send`).
A received message stands in "message" as base64. The oldest are given, about 4 MiB at a time:
those that follow are given when these are acknowledged.

Every request carries ``Authorization: Bearer TOKEN``. Errors are JSON: {"error": "..."}, with
status 401 without the token, 404 for a reference that is not known, 503 for what may be asked
again later, 400 for all else.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hmac
import json
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

from aiohttp import web

from gbcs import EntityId
from gbcs.errors import BuildError
from lab.control_ports import AskableGateway, ControlledGateway, Handle, Received
from lab.control_values import SendOptions, capabilities_as_dict, status_as_dict
from lab.route_2b import RouteView
from smtunnel import MessageStatus
from smtunnel.route_choice import routes_text

logger = logging.getLogger("control")

_MAX_BODY_OCTETS = 16 * 1024 * 1024  # the gateway's own, smaller limit gives the teaching error
_MAX_WAIT_S = 300.0
_MAX_PENDING = 1000
_MAX_ANSWER_OCTETS = 4 * 1024 * 1024
_RETRY_S = 1.0
_ECHO_TIMEOUT_S = 7200.0  # the DCC's slower class; the caller says less


SendFunction = Callable[[EntityId | None, bytes, SendOptions], Awaitable[Handle]]
"""Sends a message: (to, message, options)."""


class ControlInterface:
    """The web application in front of one gateway.

    Args:
        gateway: a started gateway; this is the one consumer of its received messages.
        send: how to send: (to, message, options) -> handle.
        token: the secret of the callers.
        gateway_errors: the gateway's own errors and the HTTP status of each; the first that fits
            counts.
        asks: the gateway again, if it can ask its CEMs for echoes and capabilities.
        routes: tells of route 2b, if the gateway has it.
        openadr: tells what stands at the OpenADR face, if there is one.
        waits: tells of a sent message for how long it waits for route 2b, if the gateway can; see
            `cem.Gateway.waits_for_route_2b_s`.
    """

    def __init__(
        self,
        gateway: ControlledGateway,
        send: SendFunction,
        token: str,
        gateway_errors: Mapping[type[Exception], int],
        *,
        asks: AskableGateway | None = None,
        routes: RouteView | None = None,
        openadr: Callable[[], dict[str, Any]] | None = None,
        waits: Callable[[str], float | None] | None = None,
    ) -> None:
        self._openadr = openadr
        self._waits = waits
        self._gateway = gateway
        self._asks = asks
        self._routes = routes
        self._send = send
        self._token = token.encode()
        self._statuses: dict[type[Exception], int] = {BuildError: 400, **gateway_errors}
        self._refusals: tuple[type[Exception], ...] = tuple(self._statuses)
        self._pending: dict[str, Received] = {}
        self._changed = asyncio.Condition()
        self.app = web.Application(
            middlewares=[self._errors_as_json, self._authorise], client_max_size=_MAX_BODY_OCTETS
        )
        self.app.add_routes(
            [
                web.post("/v1/messages", self._post_message),
                web.get("/v1/messages/{ref}", self._get_status),
                web.get("/v1/messages/{ref}/statuses", self._stream_statuses),
                web.get("/v1/received", self._get_received),
                web.post("/v1/received/{ref}/ack", self._ack),
                web.get("/v1/openadr", self._get_openadr),
                web.get("/v1/route", self._get_route),
                web.post("/v1/route/{deed:offer|withdraw}", self._change_route),
            ]
        )
        if asks is not None:
            self.app.add_routes(
                [
                    web.post("/v1/echo", self._post_echo),
                    web.get("/v1/capabilities", self._get_capabilities),
                ]
            )
        self.app.cleanup_ctx.append(self._consume)

    async def _consume(self, _app: web.Application) -> AsyncIterator[None]:
        task = asyncio.create_task(self._take_received())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _take_received(self) -> None:
        while True:
            try:
                async for received in self._gateway.received():
                    async with self._changed:
                        await self._changed.wait_for(lambda: len(self._pending) < _MAX_PENDING)
                        self._pending[received.ref] = received
                        self._changed.notify_all()
            except self._refusals as error:
                logger.error("received messages cannot be read, next try soon: %s", error)
                await asyncio.sleep(_RETRY_S)
            else:
                return  # the gateway has ended

    @web.middleware
    async def _authorise(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("utf-8", "replace"), self._token)
        if scheme.lower() != "bearer" or not known:
            logger.warning("refused a control request from %s: wrong or no token", request.remote)
            return _error(
                401, "wrong or no token: send 'Authorization: Bearer TOKEN' from the token file"
            )
        return await handler(request)

    @web.middleware
    async def _errors_as_json(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        try:
            return await handler(request)
        except web.HTTPException as error:
            return _error(error.status, error.text or error.reason)
        except self._refusals as error:
            logger.warning("refused a control request: %s", error)
            status = next(s for kind, s in self._statuses.items() if isinstance(error, kind))
            return _error(status, str(error))

    async def _post_message(self, request: web.Request) -> web.StreamResponse:
        to_text = request.query.get("to")
        to = None if to_text is None else EntityId.parse(to_text)
        options = SendOptions.from_query(request.query)
        handle = await self._send(to, await request.read(), options)
        return web.json_response(self._told(handle.ref, handle.status), status=202)

    def _told(self, ref: str, status: MessageStatus) -> dict[str, Any]:
        """Return a status, and for how long the message waits for route 2b, as JSON values."""
        told = status_as_dict(ref, status)
        if self._waits is not None:
            wait_s = None if status.final else self._waits(ref)
            told["waits_for_route_2b"] = wait_s is not None
            told["by_2a_in_s"] = None if wait_s is None or math.isinf(wait_s) else wait_s
        return told

    async def _post_echo(self, request: web.Request) -> web.StreamResponse:
        asks, to = self._asked(request)
        timeout_s = _seconds(request, "timeout_s", default=_ECHO_TIMEOUT_S)
        if timeout_s is None:
            return _error(400, "timeout_s: expected a number of seconds, such as timeout_s=60")
        return web.json_response({"seconds": await asks.echo(to, timeout_s=timeout_s)})

    async def _get_capabilities(self, request: web.Request) -> web.StreamResponse:
        asks, to = self._asked(request)
        known = asks.capabilities(to)
        told = None if known is None else capabilities_as_dict(known)
        return web.json_response({"capabilities": told})

    async def _get_openadr(self, _request: web.Request) -> web.StreamResponse:
        if self._openadr is None:
            return _error(404, "no OpenADR face runs here: its file has no table [openadr]")
        return web.json_response({"openadr": self._openadr()})

    async def _get_route(self, _request: web.Request) -> web.StreamResponse:
        if self._routes is None:
            return _error(404, "this gateway has no route 2b")
        return web.json_response({"route": self._routes.status()})

    async def _change_route(self, request: web.Request) -> web.StreamResponse:
        to = request.query.get("to")
        if self._routes is None or to is None:
            raise BuildError("say which CEM is meant: ?to=EUI")
        told = self._routes.change(request.match_info["deed"], EntityId.parse(to))
        return web.json_response({"offer": told})

    def _asked(self, request: web.Request) -> tuple[AskableGateway, EntityId]:
        to = request.query.get("to")
        if self._asks is None or to is None:
            raise BuildError("say which CEM is meant: ?to=EUI")
        return self._asks, EntityId.parse(to)

    async def _get_status(self, request: web.Request) -> web.StreamResponse:
        handle = self._gateway.handle(request.match_info["ref"])
        return web.json_response(self._told(handle.ref, handle.status))

    async def _stream_statuses(self, request: web.Request) -> web.StreamResponse:
        handle = self._gateway.handle(request.match_info["ref"])
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionResetError):  # the caller stopped watching
            async for status in handle.statuses():
                line = json.dumps(self._told(handle.ref, status)) + "\n"
                await response.write(line.encode())
            await response.write_eof()
        return response

    async def _get_received(self, request: web.Request) -> web.StreamResponse:
        wait_s = _seconds(request, "wait_s", default=0.0)
        if wait_s is None:
            return _error(400, "wait_s: expected a number of seconds, such as wait_s=30")
        wait_s = min(wait_s, _MAX_WAIT_S)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(wait_s, 0.001)), self._changed:
                await self._changed.wait_for(lambda: self._pending)
        messages: list[dict[str, Any]] = []
        octets = 0
        for received in self._pending.values():
            if octets > _MAX_ANSWER_OCTETS:
                break
            octets += len(received.message)
            messages.append(
                {
                    "ref": received.ref,
                    "peer": str(received.peer),
                    "received_at": received.received_at,
                    "route": routes_text((received.route,)),
                    "message": base64.b64encode(received.message).decode("ascii"),
                }
            )
        return web.json_response({"messages": messages})

    async def _ack(self, request: web.Request) -> web.StreamResponse:
        ref = request.match_info["ref"]
        received = self._pending.get(ref)
        if received is None:
            return _error(
                404, f"no received message {ref!r} waits for an ack; see GET /v1/received"
            )
        await received.ack(answers=request.query.get("answers"))
        async with self._changed:
            self._pending.pop(ref, None)
            self._changed.notify_all()
        return web.Response(status=204)


def _seconds(request: web.Request, name: str, *, default: float) -> float | None:
    """Return a number of seconds in the query; None: it is no such number."""
    try:
        seconds = float(request.query.get(name, default))
    except ValueError:
        return None
    # Written so that "nan" is refused, too: a timer that never comes would stop all others.
    return seconds if seconds >= 0.0 else None


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
