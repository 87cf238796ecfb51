"""Unmodified openleadr at both ends of the real chain: both think that they talk directly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lab.local_system import LocalSystem
from lab.openadr_demo import DemoVen, DemoVtn, ReportWish
from lab.openadr_demo.vtn import new_values


@dataclass
class Session:
    system: LocalSystem
    vtn: DemoVtn
    ven: DemoVen


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def session(new_system: Callable[..., LocalSystem]) -> AsyncIterator[Session]:
    vtn_port, face_port = free_port(), free_port()
    settings = {
        # Reports come each second here, which no alert storm protection would bear.
        "cem": f'alerts_per_window = 0\n[openadr]\nlisten = "127.0.0.1:{face_port}"',
        "dsrsp": f'[openadr]\nvtn_url = "http://127.0.0.1:{vtn_port}/OpenADR2/Simple/2.0b"',
    }
    vtn = DemoVtn(
        vtn_port,
        poll_interval=timedelta(seconds=1),
        report_wish=ReportWish(timedelta(seconds=1), timedelta(seconds=1)),
    )
    async with (
        asyncio.timeout(90),
        new_system(settings=settings) as system,
        vtn,
        DemoVen(system.ready("cem")["openadr"]) as ven,
    ):
        yield Session(system, vtn, ven)


async def test_openleadr_holds_a_whole_session(new_system: Callable[..., LocalSystem]) -> None:
    async with session(new_system) as s:
        await s.ven.register()
        ven_id = s.ven.client.ven_id
        assert s.vtn.seen.log[0] == ("registered", ven_id, "registration-1")
        assert s.ven.client.registration_id == "registration-1"
        assert s.ven.client.poll_frequency == timedelta(seconds=1)

        # Reports: offered, wanted, created, updated.
        await s.vtn.seen.wait_for("offered", "charger")
        await s.vtn.seen.wait_for("created")
        values = await s.vtn.seen.wait_for("values", "charger", count=2)
        assert values[0][2][0][1] == 7400.0

        # An event, a newer version of it, its end before its time.
        start = datetime.now(UTC) - timedelta(seconds=1)
        event_id = s.vtn.send_event(ven_id, [(start, timedelta(hours=1), 2000.0)])
        await s.ven.seen.wait_for("event", event_id, 0)
        await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn")
        assert s.ven.charger.power_w() == 2000.0
        s.vtn.modify_event(ven_id, event_id, lambda event: new_values(event, 3000.0))
        await s.ven.seen.wait_for("changed event", event_id, 1)
        await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn", count=2)
        assert s.ven.charger.power_w() == 3000.0
        s.vtn.cancel_event(ven_id, event_id)
        await s.ven.seen.wait_for("changed event", event_id, 2, "cancelled")
        await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn", count=3)
        assert s.ven.charger.power_w() == 7400.0

        # The VTN forgets the VEN: it registers again, and its reports.
        s.vtn.forget(ven_id)
        await s.vtn.seen.wait_for("registered", ven_id, "registration-2")
        await s.vtn.seen.wait_for("offered", "charger", count=2)
        await s.vtn.seen.wait_for("created", count=2)
        assert s.ven.client.registration_id == "registration-2"

        await s.ven.deregister()
        assert s.ven.client.registration_id is None
        assert s.vtn.seen.log[-1] == ("deregistered", ven_id, "registration-2")
        for name in ("dcc-sim", "dsrsp", "cem"):
            assert "Traceback" not in s.system.log(name).read_text()
