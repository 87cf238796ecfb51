"""A VEN of openleadr in front of a simulated charger."""

from __future__ import annotations

import asyncio
import contextlib
import re
from datetime import UTC, datetime, timedelta
from typing import Any

from openleadr import OpenADRClient, objects

from lab.openadr_demo.charger import Charger
from lab.openadr_demo.happenings import Exchanges, Happenings

_RETRY_S = 1.0
_TRY_AGAIN = 469
_REQUEST_ID = re.compile("<requestID[^>]*>([^<]+)<")


class DemoVen:
    """A VEN application.

    Args:
        vtn_url: where its VTN is, as far as it knows: http://host:port/OpenADR2/Simple/2.0b
        name: its own name.
        sampling: the range of times between two values that it offers.
        options: more arguments for openleadr's client: TLS, for instance.
    """

    def __init__(
        self,
        vtn_url: str,
        *,
        name: str = "home-cem",
        sampling: tuple[timedelta, timedelta] = (timedelta(seconds=1), timedelta(hours=1)),
        **options: Any,
    ) -> None:
        self.seen = Happenings()
        self.exchanges = Exchanges()
        self.charger = Charger(lambda: datetime.now(UTC))
        self.client = OpenADRClient(ven_name=name, vtn_url=vtn_url, **options)
        self.client.add_report(
            callback=self._measure,
            resource_id="charger",
            measurement="powerReal",
            unit="W",
            scale="none",
            sampling_rate=objects.SamplingRate(
                min_period=sampling[0], max_period=sampling[1], on_change=False
            ),
            report_specifier_id="charger-report",
            r_id="charger-power",
        )
        self.client.add_handler("on_event", self._on_event)
        self.client.add_handler("on_update_event", self._on_update_event)
        self._reports_request_id = ""
        self._reports_unanswered = False
        self.client.hooks["before_send_xml"].append(self._note_request)
        self.client.hooks["after_receive_xml"].append(
            lambda text: self.exchanges.note(text, sent=False)
        )
        self.client.hooks["after_parse_xml"].append(self._note_answer)

    async def __aenter__(self) -> DemoVen:
        self._watching = asyncio.create_task(self.charger.watch(self._note_power))
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        if self.client.client_session is not None:
            await self.client.stop()

    async def register(self) -> None:
        """Register and begin to work; again and again until the VTN has answered."""
        while True:
            # openleadr gives up after one failure, and keeps its closed session.
            self.client.client_session = None
            await self.client.run()
            if self.client.registration_id:
                break
            await asyncio.sleep(_RETRY_S)
        await self.seen.add("registered", self.client.ven_id, self.client.registration_id)
        while self._reports_unanswered:
            # openleadr offers its reports once, whatever the VTN says.
            await asyncio.sleep(_RETRY_S)
            await self.client.register_reports(self.client.reports)

    async def deregister(self) -> None:
        """Cancel the registration."""
        if self.client.report_queue_task is not None:
            self.client.report_queue_task.cancel()
        await self.client.cancel_party_registration()
        await self.seen.add("deregistered", self.client.registration_id)

    def _note_request(self, text: str) -> None:
        self.exchanges.note(text, sent=True)
        if "<oadr:oadrRegisterReport " in text:
            found = _REQUEST_ID.search(text)
            self._reports_request_id = "" if found is None else found[1]

    def _note_answer(self, _kind: str, payload: dict[str, Any]) -> None:
        # Polls go on meanwhile: which answer this is only its requestID tells.
        answered = payload.get("response", {})
        if answered.get("request_id") == self._reports_request_id:
            self._reports_unanswered = answered.get("response_code") == _TRY_AGAIN

    async def _note_power(self, power_w: float) -> None:
        await self.seen.add("power", power_w)

    def _measure(self) -> float:
        return self.charger.power_w()

    async def _on_event(self, event: dict[str, Any]) -> str:
        return await self._obey("event", event)

    async def _on_update_event(self, event: dict[str, Any]) -> str:
        return await self._obey("changed event", event)

    async def _obey(self, what: str, event: dict[str, Any]) -> str:
        self.charger.obey(event)
        descriptor = event["event_descriptor"]
        await self.seen.add(
            what,
            descriptor["event_id"],
            descriptor["modification_number"],
            descriptor["event_status"],
        )
        return "optIn"
