"""The admin interface: what an operator of the simulator sees and does, as JSON over HTTP.

::

    GET  /admin/v1/quarantine                  -> 200 {"quarantine": [{"event_reference", ...}]}
    POST /admin/v1/quarantine/{ref}/release    -> 204
    POST /admin/v1/quarantine/{ref}/discard    -> 204
    GET  /admin/v1/revocations                 -> 200 {"revoked": [{"issuer", "serial"}]}
    POST /admin/v1/revocations                 {"issuer": "CN=Z1,OU=07", "serial": "123"} -> 204
    GET  /admin/v1/behaviour                   -> 200 {"copies": 1, "delay_s": 0.0}
    PUT  /admin/v1/behaviour                   the same -> 204
    ...  /admin/v1/faults                      see dcc_sim.admin_faults
    GET  /admin/v1/journeys...                 see dcc_sim.admin_journeys

A serial number is a decimal number as text: JSON's numbers are too short for it. Every request
carries ``Authorization: Bearer TOKEN``. Errors are JSON: {"error": "..."}.
"""

from __future__ import annotations

import hmac
import logging
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware

from dcc_sim.admin_faults import add_fault_routes
from dcc_sim.admin_journeys import add_journey_routes
from dcc_sim.core.dcc import Dcc
from dcc_sim.core.journeys import Journeys
from dcc_sim.core.quarantine import QuarantinedCommand
from dcc_sim.core.state import ResponseBehaviour
from dcc_sim.engine import Engine
from dcc_sim.errors import CertificateUnknown, ConfigError, NotInQuarantine, StoreError

_LOG = logging.getLogger("dcc_sim.admin")

PATH_PREFIX = "/admin/v1"
MIN_TOKEN_CHARS = 16
_MAX_REQUEST_OCTETS = 65_536
_MAX_REFERENCE_DIGITS = 18
_STATUSES: dict[type[Exception], int] = {
    NotInQuarantine: 404,
    CertificateUnknown: 404,
    ConfigError: 400,
    StoreError: 503,
    msgspec.DecodeError: 400,
    UnicodeDecodeError: 400,  # msgspec lets it pass
    RecursionError: 400,
}

_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class _Revocation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    issuer: str
    serial: str


def make_admin_app(engine: Engine, token: str, journeys: Journeys) -> web.Application:
    """Return the web application that belongs under ``PATH_PREFIX``.

    Args:
        engine: does what is asked.
        token: the secret of the callers, at least ``MIN_TOKEN_CHARS`` characters.
        journeys: what it has seen lately.

    Raises:
        ConfigError: the token is too short.
    """
    if len(token) < MIN_TOKEN_CHARS:
        raise ConfigError(
            f"the admin token has {len(token)} characters, {MIN_TOKEN_CHARS} are the least"
        )
    app = web.Application(
        middlewares=[_errors_as_json, _authorise(token.encode())],
        client_max_size=_MAX_REQUEST_OCTETS,
    )
    _add_quarantine(app, engine)
    _add_revocations(app, engine)
    _add_behaviour(app, engine)
    add_fault_routes(app, engine)
    add_journey_routes(app, journeys)
    return app


def _add_quarantine(app: web.Application, engine: Engine) -> None:
    async def show(_request: web.Request) -> web.StreamResponse:
        held = await engine.perform(lambda dcc, _now: dcc.quarantined())
        return web.json_response({"quarantine": [_as_dict(one) for one in held]})

    def end(action: Callable[[Dcc, int, float], None]) -> _Handler:
        async def handle(request: web.Request) -> web.StreamResponse:
            reference = _reference(request.match_info["ref"])
            await engine.perform(lambda dcc, now: action(dcc, reference, now))
            return web.Response(status=204)

        return handle

    app.router.add_get("/quarantine", show)
    app.router.add_post("/quarantine/{ref}/release", end(Dcc.release))
    app.router.add_post("/quarantine/{ref}/discard", end(Dcc.discard))


def _add_revocations(app: web.Application, engine: Engine) -> None:
    async def show(_request: web.Request) -> web.StreamResponse:
        revoked = await engine.perform(lambda dcc, _now: dcc.revoked())
        rows = [{"issuer": issuer, "serial": str(serial)} for issuer, serial in revoked]
        return web.json_response({"revoked": rows})

    async def revoke(request: web.Request) -> web.StreamResponse:
        asked = msgspec.json.decode(await request.read(), type=_Revocation)
        serial = _reference(asked.serial, digits=39)
        await engine.perform(lambda dcc, _now: dcc.revoke(asked.issuer, serial))
        return web.Response(status=204)

    app.router.add_get("/revocations", show)
    app.router.add_post("/revocations", revoke)


def _add_behaviour(app: web.Application, engine: Engine) -> None:
    async def show(_request: web.Request) -> web.StreamResponse:
        behaviour = await engine.perform(lambda dcc, _now: dcc.behaviour())
        return web.json_response({"copies": behaviour.copies, "delay_s": behaviour.delay_s})

    async def change(request: web.Request) -> web.StreamResponse:
        behaviour = msgspec.json.decode(await request.read(), type=ResponseBehaviour)
        await engine.perform(lambda dcc, _now: dcc.change_behaviour(behaviour))
        return web.Response(status=204)

    app.router.add_get("/behaviour", show)
    app.router.add_put("/behaviour", change)


def _as_dict(held: QuarantinedCommand) -> dict[str, str | int | float]:
    return {
        "event_reference": held.event_reference,
        "request_id": held.request_id,
        "user": str(held.user),
        "device": str(held.device),
        "since": held.since,
    }


def _reference(text: str, digits: int = _MAX_REFERENCE_DIGITS) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > digits:
        raise ConfigError(f"{text[:60]!r}: expected a decimal number of at most {digits} digits")
    return int(text)


def _authorise(token: bytes) -> Middleware:
    @web.middleware
    async def authorise(request: web.Request, handler: _Handler) -> web.StreamResponse:
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        known = hmac.compare_digest(given.strip().encode("utf-8", "replace"), token)
        if scheme.lower() != "bearer" or not known:
            _LOG.warning("refused an admin request from %s: wrong or no token", request.remote)
            return _error(401, "wrong or no token: send 'Authorization: Bearer TOKEN'")
        return await handler(request)

    return authorise


@web.middleware
async def _errors_as_json(request: web.Request, handler: _Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPException as error:
        return _error(error.status, error.text or error.reason)
    except tuple(_STATUSES) as error:
        status = next(status for kind, status in _STATUSES.items() if isinstance(error, kind))
        _LOG.warning("refused an admin request: %s", error)
        return _error(status, str(error))


def _error(status: int, text: str) -> web.Response:
    return web.json_response({"error": text}, status=status)
