"""A VEN of openleadr in front of a simulated charger."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

from openleadr import OpenADRClient, objects

from lab.openadr_demo.charger import Charger
from lab.openadr_demo.vtn import Happenings

_RETRY_S = 1.0


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

    async def __aenter__(self) -> DemoVen:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.client.client_session is not None:
            await self.client.stop()

    async def register(self) -> None:
        """Register and begin to work; again and again until the VTN has answered."""
        while True:
            # openleadr gives up after one failure, and keeps its closed session.
            self.client.client_session = None
            await self.client.run()
            if self.client.registration_id:
                await self.seen.add("registered", self.client.ven_id, self.client.registration_id)
                return
            await asyncio.sleep(_RETRY_S)

    async def deregister(self) -> None:
        """Cancel the registration."""
        if self.client.report_queue_task is not None:
            self.client.report_queue_task.cancel()
        await self.client.cancel_party_registration()
        await self.seen.add("deregistered", self.client.registration_id)

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
