"""The HTTP services for users: POST /api/v1/serviceT, serviceS and serviceD."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiohttp import web

from dcc_sim.core.services import Service
from dcc_sim.engine import Engine
from dcc_sim.errors import MessageDropped, StoreError
from gbcs.duis import MAX_DUIS_OCTETS

_LOG = logging.getLogger("dcc_sim.http")

CONTENT_TYPE = "application/xml"
PATH_PREFIX = "/api/v1/"

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def make_app(engine: Engine, *, request_timeout_s: float) -> web.Application:
    """Return the web application.

    Args:
        engine: answers the requests.
        request_timeout_s: how long a user may take to send a body, in seconds.
    """
    app = web.Application(client_max_size=MAX_DUIS_OCTETS, middlewares=[log_refusals])

    def make_handler(service: Service) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            octets = await read_body(request, request_timeout_s)
            try:
                reply = await engine.request(service, octets)
            except MessageDropped as dropped:
                _LOG.warning("%s", dropped)
                if request.transport is not None:
                    request.transport.abort()
                raise web.HTTPServiceUnavailable(text=f"{dropped}\n") from None
            except StoreError as error:
                raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
            return web.Response(status=reply.http_status, body=reply.xml, content_type=CONTENT_TYPE)

        return handle

    for service in Service:
        app.router.add_post(PATH_PREFIX + service.value, make_handler(service))
    return app


async def read_body(request: web.Request, timeout_s: float) -> bytes:
    """Return the body of a request that has XML in it.

    Raises:
        aiohttp.web.HTTPException: it has something else, or takes too long.
    """
    if request.content_type != CONTENT_TYPE:
        raise web.HTTPUnsupportedMediaType(
            text=f"Content-Type is {request.content_type}, expected {CONTENT_TYPE}\n"
        )
    if request.content.is_eof():  # it came with its head, and nothing has to be waited for
        return await request.read()
    try:
        async with asyncio.timeout(timeout_s):
            return await request.read()
    except TimeoutError:
        raise web.HTTPRequestTimeout(
            text=f"the body did not come within {timeout_s:g} s\n"
        ) from None


@web.middleware
async def log_refusals(request: web.Request, handler: _Handler) -> web.StreamResponse:
    """Write a log line for each request that is refused by HTTP's own means."""
    try:
        return await handler(request)
    except web.HTTPException as refusal:
        # The path is foreign text: shown as a literal, so that it cannot forge log lines.
        _LOG.warning(
            "refused %s %.200r from %s: HTTP %d: %s",
            request.method,
            request.path,
            request.remote,
            refusal.status,
            (refusal.text or refusal.reason).strip(),
        )
        raise
