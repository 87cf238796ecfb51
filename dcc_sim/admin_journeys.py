"""The last journeys over the admin interface.

::

    GET /admin/v1/journeys?since=NUMBER   -> 200 {"number", "began", "kept", "under_way",
                                             "counters", "journeys": [...], "others": [...]}
    GET /admin/v1/journeys/{reference}    -> 200 {"reference", ..., "steps": [...]}

``number`` rises with every event; a caller gives back the last one it was told, and gets what
has changed since. Another ``began`` means another run: numbers begin anew. A step's ``content``
is the message: XML as text, GBCS in hexadecimal.
"""

from __future__ import annotations

from typing import Any

from aiohttp import web

from dcc_sim.core.journeys import Journeys, KeptJourney, KeptStep, OtherEvent
from dcc_sim.errors import ConfigError

_MAX_NUMBER_DIGITS = 18


def add_journey_routes(app: web.Application, journeys: Journeys) -> None:
    """Add the routes to the admin interface's application."""

    async def show(request: web.Request) -> web.StreamResponse:
        since = _number(request.query.get("since", "0"))
        return web.json_response(
            {
                "number": journeys.number,
                "began": journeys.began,
                "kept": len(journeys),
                "under_way": journeys.under_way,
                "counters": journeys.counters,
                "journeys": [_summary(journey) for journey in journeys.changed_since(since)],
                "others": [_other(other) for other in journeys.others_since(since)],
            }
        )

    async def show_one(request: web.Request) -> web.StreamResponse:
        reference = request.match_info["reference"]
        journey = journeys.find(reference)
        if journey is None:
            raise web.HTTPNotFound(text=f"no journey {reference[:80]!r} is kept (any more)")
        steps = [_step(kept) for kept in journey.steps]
        return web.json_response(_summary(journey) | {"omitted": journey.omitted, "steps": steps})

    app.router.add_get("/journeys", show)
    app.router.add_get("/journeys/{reference}", show_one)


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > _MAX_NUMBER_DIGITS:
        raise ConfigError(f"since={text[:60]!r}: expected a number as told before")
    return int(text)


def _summary(journey: KeptJourney) -> dict[str, Any]:
    return {
        "reference": journey.reference,
        "is_alert": journey.is_alert,
        "state": journey.state,
        "finished": journey.finished,
        "failed": journey.failed,
        "changed": journey.changed,
        "began": journey.steps[0].t,
        "ended": journey.steps[-1].t,
        "step_count": journey.omitted + len(journey.steps),
    }


def _step(kept: KeptStep) -> dict[str, Any]:
    step = kept.step
    is_text = kept.event == "duis"
    content = step.content.decode("utf-8", "replace") if is_text else step.content.hex()
    return {
        "number": kept.number,
        "t": kept.t,
        "event": kept.event,
        "from": step.source.value,
        "to": step.target.value,
        "title": step.title,
        "facts": dict(step.facts),
        "failed": step.failed,
        "octets": step.octets,
        "content": content,
    }


def _other(other: OtherEvent) -> dict[str, Any]:
    return {"number": other.number, "t": other.t, "event": other.event, "facts": other.facts}
