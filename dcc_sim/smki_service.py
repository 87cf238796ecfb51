"""The SMKI repository's HTTP services: POST /services/certificatesearch, retrievecertificate."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from aiohttp import web

from dcc_sim.engine import Engine
from dcc_sim.errors import StoreError
from dcc_sim.http_services import CONTENT_TYPE, log_refusals, read_body
from gbcs.errors import SmkiRepositoryFormatError

MAX_REQUEST_OCTETS = 4096

_Answer = Callable[[bytes], Awaitable[bytes]]


def make_smki_app(engine: Engine, *, request_timeout_s: float) -> web.Application:
    """Return the web application.

    Clients of the DCC's emulator send an ``apikey`` in the query; it is not looked at.

    Args:
        engine: answers the requests.
        request_timeout_s: how long a client may take to send a body, in seconds.
    """
    app = web.Application(client_max_size=MAX_REQUEST_OCTETS, middlewares=[log_refusals])

    def add(path: str, answer: _Answer) -> None:
        async def handle(request: web.Request) -> web.StreamResponse:
            octets = await read_body(request, request_timeout_s)
            try:
                xml = await answer(octets)
            except SmkiRepositoryFormatError as error:
                raise web.HTTPBadRequest(text=f"{error}\n") from None
            except StoreError as error:
                raise web.HTTPServiceUnavailable(text=f"{error}\n") from None
            return web.Response(body=xml, content_type=CONTENT_TYPE)

        app.router.add_post(path, handle)

    async def search(octets: bytes) -> bytes:
        return await engine.perform(lambda dcc, now: dcc.search_untrusted(octets, now))

    async def retrieve(octets: bytes) -> bytes:
        return await engine.perform(lambda dcc, _now: dcc.retrieve_untrusted(octets))

    add("/services/certificatesearch", search)
    add("/services/retrievecertificate", retrieve)
    return app
