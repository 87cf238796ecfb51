"""Faults on order over the admin interface.

::

    GET    /admin/v1/faults        -> 200 {"armed": [{"fault_id", "kind", "hop", ...}], "hubs_down"}
    POST   /admin/v1/faults        a fault -> 201 {"fault_id": 1}, null when it is done at once
    DELETE /admin/v1/faults        -> 200 {"cancelled": 2}
    DELETE /admin/v1/faults/{id}   -> 204

A fault is an object with the fields of `dcc_sim.core.faults.Fault`, for example
``{"kind": "drop", "hop": "command", "count": 3}`` or ``{"kind": "hub-down", "hub": "H1"}``.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from dcc_sim.core.faults import Armed, parse_untrusted_fault
from dcc_sim.engine import Engine
from dcc_sim.errors import ConfigError


def add_fault_routes(app: web.Application, engine: Engine) -> None:
    """Add the routes to the admin interface's application."""

    async def show(_request: web.Request) -> web.StreamResponse:
        faults = await engine.perform(lambda dcc, _now: dcc.faults)
        armed = [_as_dict(one) for one in faults.armed]
        return web.json_response({"armed": armed, "hubs_down": faults.hubs_down})

    async def inject(request: web.Request) -> web.StreamResponse:
        fault = parse_untrusted_fault(await request.read())
        fault_id = await engine.perform(lambda dcc, now: dcc.inject(fault, now))
        return web.json_response({"fault_id": fault_id}, status=201)

    async def cancel_all(_request: web.Request) -> web.StreamResponse:
        cancelled = await engine.perform(lambda dcc, _now: dcc.faults.cancel())
        return web.json_response({"cancelled": cancelled})

    async def cancel(request: web.Request) -> web.StreamResponse:
        text = request.match_info["id"]
        if not text.isascii() or not text.isdigit() or len(text) > _MAX_ID_DIGITS:
            raise ConfigError(f"{text[:60]!r} is no number of a fault")
        if not await engine.perform(lambda dcc, _now: dcc.faults.cancel(int(text))):
            raise web.HTTPNotFound(text=f"no fault {text} waits for messages")
        return web.Response(status=204)

    app.router.add_get("/faults", show)
    app.router.add_post("/faults", inject)
    app.router.add_delete("/faults", cancel_all)
    app.router.add_delete("/faults/{id}", cancel)


_MAX_ID_DIGITS = 18


def _as_dict(armed: Armed) -> dict[str, Any]:
    fault = armed.fault
    return {
        "fault_id": armed.fault_id,
        "kind": fault.kind.value,
        "hop": None if fault.hop is None else fault.hop.value,
        "entity_id": None if fault.entity_id is None else str(fault.entity_id),
        "left": armed.left,
        "delay_s": fault.delay_s,
    }
