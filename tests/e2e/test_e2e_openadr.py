"""Unmodified openleadr at both ends of the real chain: both think that they talk directly."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.local_system import LocalSystem
from lab.openadr_demo import DemoVen, DemoVtn, ReportWish
from lab.openadr_demo.day import measure_day
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
async def session(
    new_system: Callable[..., LocalSystem],
    *,
    listen: str = "127.0.0.1:0",
    patience_s: float = 8.0,
) -> AsyncIterator[Session]:
    second = timedelta(seconds=1)
    async with (
        asyncio.timeout(90),
        DemoVtn(0, poll_interval=second, report_wish=ReportWish(second, second)) as vtn,
    ):
        settings = {
            # Reports come each second here, which no alert storm protection would bear.
            "cem": f"""alerts_per_window = 0
                [openadr]
                listen = "{listen}"
                patience_s = {patience_s}""",
            "dsrsp": f'[openadr]\nvtn_url = "http://127.0.0.1:{vtn.port}/OpenADR2/Simple/2.0b"',
        }
        async with (
            new_system(settings=settings) as system,
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

        # Beside it JSON (OpenADR 3) passes the tunnel opaque, both ways, to the applications.
        json = b'{"objectType":"EVENT","programID":"1","intervals":[{"id":0}]}'
        async with s.system.control("dsrsp") as dsrsp, s.system.control("cem") as cem:
            await dsrsp.send(json, to=s.system.identities.device_id)
            assert [m.message for m in await cem.received(wait_s=10)] == [json]
            await cem.send(json)
            assert [m.message for m in await dsrsp.received(wait_s=10)] == [json]
            assert (await cem.openadr())["ven_id"] == ven_id
            told = (await dsrsp.openadr())["vens"][str(s.system.identities.device_id)]
            assert (told["ven_id"], told["vtn_id"]) == (ven_id, "DSRSP_VTN")

        # The VTN forgets the VEN: it registers again, and its reports.
        s.vtn.forget(ven_id)
        await s.vtn.seen.wait_for("registered", ven_id, "registration-2")
        await s.vtn.seen.wait_for("offered", "charger", count=2)
        await s.vtn.seen.wait_for("created", count=2)
        assert s.ven.client.registration_id == "registration-2"

        await s.ven.deregister()
        assert s.ven.client.registration_id is None
        assert s.vtn.seen.log[-1] == ("deregistered", ven_id, "registration-2")
        shown = await asyncio.to_thread(
            subprocess.run,
            [
                *(sys.executable, "-W", "error", "-m", "lab", "cem", "openadr"),
                *("--control", s.system.control_url("cem")),
                *("--token-file", str(s.system.token_file("cem"))),
            ],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "registered: False" in shown.stdout
        assert "asked oadrPoll" in shown.stdout
        for name in ("dcc-sim", "dsrsp", "cem"):
            assert "Traceback" not in s.system.log(name).read_text()


async def test_gateways_that_are_killed_go_on_without_a_new_registration(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with session(new_system, listen=f"127.0.0.1:{free_port()}") as s:
        await s.ven.register()
        ven_id = s.ven.client.ven_id
        await s.vtn.seen.wait_for("values", "charger")
        for name in ("cem", "dsrsp"):
            await s.system.kill(name)
        start = datetime.now(UTC)
        event_id = s.vtn.send_event(ven_id, [(start, timedelta(hours=1), 2000.0)])
        for name in ("dsrsp", "cem"):
            await s.system.start(name)
        await s.ven.seen.wait_for("event", event_id, 0)
        await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn")
        reports = len([what for what in s.vtn.seen.log if what[0] == "values"])
        await s.vtn.seen.wait_for("values", "charger", count=reports + 1)
        registrations = [what for what in s.vtn.seen.log if what[0] == "registered"]
        assert registrations == [("registered", ven_id, "registration-1")]


async def test_in_shortened_time_next_to_nothing_crosses(tmp_path: Path, test_pki: Path) -> None:
    counts = await measure_day(tmp_path, test_pki, polls=300)
    assert counts.polls == 300
    assert counts.http_messages >= 2 * 300
    # Registration, reports and events cross, the same in a short day as in a long one: some 20
    # messages. Of polls and queries nothing does, whose fragments would be five times as many.
    assert counts.crossed_messages_down + counts.crossed_messages_up <= 26
    assert counts.fragments_share < 0.05


async def test_a_way_that_is_slower_than_the_ven_is_patient(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with session(new_system, patience_s=0.001) as s:
        event = [(datetime.now(UTC), timedelta(hours=1), 2000.0)]
        event_id = s.vtn.send_event("ven-of-home-cem", event)
        await s.ven.register()
        await s.vtn.seen.wait_for("created")
        await s.ven.seen.wait_for("event", event_id)
        await s.vtn.seen.wait_for("event answered", s.ven.client.ven_id, event_id)
        async with s.system.control("cem") as cem:
            counts = (await cem.openadr())["counts"]
        assert counts["out of patience"] >= 3
        assert counts["answered late"] >= 2
        # However often the VEN tried, each request crossed once.
        for kind in ("oadrCreatePartyRegistration", "oadrRegisterReport", "oadrRequestEvent"):
            assert counts[f"crossed {kind}"] == 1, kind
        assert len([what for what in s.vtn.seen.log if what[0] == "registered"]) == 1
