"""A VTN of openleadr: registers VENs, wants their reports, sends them events."""

from __future__ import annotations

import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web
from openleadr import OpenADRServer, enums, utils

from lab.openadr_demo.happenings import Exchanges, Happenings


@dataclass(frozen=True, slots=True)
class ReportWish:
    """How often a VTN wants values, and reports of them."""

    sampling: timedelta
    reporting: timedelta


@dataclass(slots=True)
class KnownVen:
    """A VEN that has registered."""

    ven_id: str
    registration_id: str
    name: str
    fingerprint: str | None


class DemoVtn:
    """A VTN application.

    Args:
        port: where it listens, on 127.0.0.1; 0 takes any free one.
        poll_interval: what it asks VENs to wait between polls: whole seconds.
        report_wish: how often it wants values.
        options: more arguments for openleadr's server: TLS, for instance.
    """

    def __init__(
        self,
        port: int,
        *,
        poll_interval: timedelta = timedelta(seconds=10),
        report_wish: ReportWish | None = None,
        **options: Any,
    ) -> None:
        self.seen = Happenings()
        self.exchanges = Exchanges()
        self.vens: dict[str, KnownVen] = {}
        self._report_wish = report_wish or ReportWish(timedelta(minutes=5), timedelta(minutes=15))
        with warnings.catch_warnings():
            # It keeps things in aiohttp's application in a way that aiohttp advises against.
            warnings.simplefilter("ignore", web.NotAppKeyWarning)
            self.server = OpenADRServer(
                vtn_id="DSRSP_VTN",
                http_port=port,
                requested_poll_freq=poll_interval,
                ven_lookup=self._look_up,
                **options,
            )
        self.server.app.middlewares.append(self._note_exchange)
        self.server.add_handler("on_create_party_registration", self._register)
        self.server.add_handler("on_cancel_party_registration", self._deregister)
        self.server.add_handler("on_register_report", self._want_report)
        self.server.add_handler("on_created_report", self._created_report)
        # openleadr has no handlers for what a VEN says to a cancellation.
        self.server.services["report_service"].handlers["oadrCanceledReport"] = self._canceled
        self.server.services["registration_service"].handlers["oadrCanceledPartyRegistration"] = (
            self._canceled_registration
        )

    async def __aenter__(self) -> DemoVtn:
        await self.server.run()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.server.stop()

    @property
    def port(self) -> int:
        """Where it listens, once it runs."""
        return int(self.server.app_runner.addresses[0][1])

    @property
    def url(self) -> str:
        """The address that VENs are told, once it runs."""
        scheme = "http" if self.server.ssl_context is None else "https"
        return f"{scheme}://127.0.0.1:{self.port}{self.server.http_path_prefix}"

    # What it does

    def send_event(self, ven_id: str, intervals: list[tuple[datetime, timedelta, float]]) -> str:
        """Send an event that limits a charger; return its eventID.

        Args:
            ven_id: to whom.
            intervals: start, length, power in watts.
        """
        event_id = self.server.add_event(
            ven_id=ven_id,
            signal_name="LOAD_CONTROL",
            signal_type="x-loadControlSetpoint",
            intervals=[
                {"dtstart": start, "duration": duration, "signal_payload": power_w}
                for start, duration, power_w in intervals
            ],
            callback=self._answered_event,
        )
        return str(event_id)

    def modify_event(self, ven_id: str, event_id: str, change: Callable[[Any], None]) -> None:
        """Send a newer version of an event.

        Args:
            ven_id: to whom.
            event_id: which.
            change: changes openleadr's event in place.
        """
        event = utils.find_by(self.server.events[ven_id], "event_descriptor.event_id", event_id)
        change(event)
        utils.increment_event_modification_number(event)
        # openleadr takes the callback away with the first answer.
        self.server.event_callbacks[event_id] = (event, self._answered_event)
        self.server.events_updated[ven_id] = True

    def cancel_event(self, ven_id: str, event_id: str) -> None:
        """Cancel an event."""
        event = utils.find_by(self.server.events[ven_id], "event_descriptor.event_id", event_id)
        self.server.event_callbacks[event_id] = (event, self._answered_event)
        self.server.cancel_event(ven_id, event_id)

    def forget(self, ven_id: str) -> None:
        """Forget a VEN: whatever it says next, it is asked to register again."""
        del self.vens[ven_id]

    # What openleadr calls

    @web.middleware
    async def _note_exchange(
        self,
        request: web.Request,
        handler: Callable[[web.Request], Awaitable[web.StreamResponse]],
    ) -> web.StreamResponse:
        self.exchanges.note(await request.text(), sent=False)
        response = await handler(request)
        if isinstance(response, web.Response):
            self.exchanges.note(response.text or "", sent=True)
        return response

    def _look_up(self, ven_id: str) -> dict[str, Any] | None:
        known = self.vens.get(ven_id)
        if known is None:
            return None
        return {
            "ven_id": known.ven_id,
            "ven_name": known.name,
            "registration_id": known.registration_id,
            "fingerprint": known.fingerprint,
        }

    async def _register(self, registration: dict[str, Any]) -> tuple[str, str]:
        name = registration["ven_name"]
        ven_id = registration.get("ven_id") or f"ven-of-{name}"
        number = len([what for what in self.seen.log if what[0] == "registered"]) + 1
        known = KnownVen(ven_id, f"registration-{number}", name, registration.get("fingerprint"))
        self.vens[ven_id] = known
        await self.seen.add("registered", ven_id, known.registration_id)
        return known.ven_id, known.registration_id

    async def _deregister(self, cancel: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        self.vens.pop(cancel["ven_id"], None)
        await self.seen.add("deregistered", cancel["ven_id"], cancel["registration_id"])
        return "oadrCanceledPartyRegistration", {"registration_id": cancel["registration_id"]}

    async def _want_report(
        self,
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str,
        scale: str,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> tuple[Any, timedelta, timedelta]:
        await self.seen.add("offered", resource_id, measurement)

        async def take(values: list[tuple[datetime, float]]) -> None:
            await self.seen.add("values", resource_id, values)

        return take, self._report_wish.sampling, self._report_wish.reporting

    async def _created_report(self, created: dict[str, Any]) -> None:
        pending = created.get("pending_reports") or []
        await self.seen.add("created", [report["report_request_id"] for report in pending])

    async def _canceled(self, canceled: dict[str, Any]) -> None:
        await self.seen.add("canceled report", canceled["response"]["response_code"])

    async def _canceled_registration(self, canceled: dict[str, Any]) -> None:
        self.vens.pop(canceled["ven_id"], None)
        await self.seen.add("canceled registration", canceled["ven_id"])

    async def _answered_event(self, ven_id: str, event_id: str, opt_type: str) -> None:
        await self.seen.add("event answered", ven_id, event_id, opt_type)


def new_values(event: Any, power_w: float) -> None:
    """Change an event so that all its intervals have this value."""
    for signal in event.event_signals:
        for interval in signal.intervals:
            utils.setmember(interval, "signal_payload", power_w)
    event.event_descriptor.event_status = enums.EVENT_STATUS.FAR
