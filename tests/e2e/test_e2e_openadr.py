"""Unmodified openleadr at both ends of the real chain: both think that they talk directly."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from openleadr.messaging import create_message

from lab.journal import read_journal
from lab.local_system import LocalSystem
from lab.openadr_demo import DemoVen, DemoVtn, ReportWish
from lab.openadr_demo.day import measure_day
from lab.openadr_demo.vtn import new_values
from smtunnel import RouteChoice

WAYS = ("route 2a", "route 2b", "route 2b, cut in the middle")


class Cable:
    """What route 2b goes through here: it can be cut and mended."""

    def __init__(self) -> None:
        self.target = ("", 0)
        self._whole = True
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Cable:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        self.address = f"wss://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await self._server.wait_closed()

    def cut(self) -> None:
        self._whole = False
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def mend(self) -> None:
        self._whole = True

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._whole:
            writer.transport.abort()
            return
        self._writers.append(writer)
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self.target)
            self._writers.append(back)
            await asyncio.gather(self._pump(reader, back), self._pump(there, writer))
        writer.transport.abort()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65536):
                sink.write(octets)
                await sink.drain()
        sink.transport.abort()


@dataclass
class Session:
    system: LocalSystem
    vtn: DemoVtn
    ven: DemoVen
    cable: Cable | None


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@asynccontextmanager
async def session(
    new_system: Callable[..., LocalSystem],
    *,
    listen: str = "127.0.0.1:0",
    patience_s: float = 8.0,
    cable: Cable | None = None,
    receipt_batch_s: float = 60.0,
) -> AsyncIterator[Session]:
    second = timedelta(seconds=1)
    routes = "fallback_after_s = 0.5\nreceipt_timeout_2b_s = 1.0"
    async with (
        asyncio.timeout(90),
        DemoVtn(0, poll_interval=second, report_wish=ReportWish(second, second)) as vtn,
    ):
        settings = {
            # Reports come each second here, which no alert storm protection would bear.
            "cem": f"""alerts_per_window = 0
                {routes}
                [gateway.route_2b]
                connect_timeout_s = 0.5
                reconnect_min_s = 0.05
                reconnect_max_s = 0.2
                [openadr]
                listen = "{listen}"
                patience_s = {patience_s}""",
            "dsrsp": f"""receipt_batch_s = {receipt_batch_s}
                {routes}
                [openadr]
                vtn_url = "{vtn.url}\"""",
        }
        options = {} if cable is None else {"route_2b": True, "route_2b_address": cable.address}
        async with new_system(settings=settings, **options) as system:
            if cable is not None:
                cable.target = system.route_2b_address()
            async with DemoVen(system.ready("cem")["openadr"]) as ven:
                yield Session(system, vtn, ven, cable)


async def pass_json(s: Session, route: RouteChoice) -> None:
    """Beside OpenADR 2.0b, JSON (OpenADR 3) passes opaque, both ways, to the applications."""
    json = b'{"objectType":"EVENT","programID":"1","intervals":[{"id":0}]}'
    async with s.system.control("dsrsp") as dsrsp, s.system.control("cem") as cem:
        await dsrsp.send(json, to=s.system.identities.device_id, route=route)
        (down,) = await cem.received(wait_s=10)
        await cem.send(json, route=route)
        (up,) = await dsrsp.received(wait_s=10)
        for one, client in ((down, cem), (up, dsrsp)):
            assert one.message == json
            await client.ack(one.ref)


def routes_of(s: Session) -> Counter[str]:
    """Count the transmissions of messages, other than the tunnel's own, by route."""
    return Counter(
        event["route"]
        for name in ("dsrsp", "cem")
        for event in read_journal(s.system.journal(name))
        if event["event"] == "carrier" and not event["control"]
    )


@pytest.mark.parametrize("way", WAYS)
async def test_openleadr_holds_a_whole_session(
    new_system: Callable[..., LocalSystem], way: str
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        cable = None if way == "route 2a" else await stack.enter_async_context(Cable())
        s = await stack.enter_async_context(session(new_system, cable=cable))
        # By route 2b: this waits until it is up.
        await pass_json(s, RouteChoice.AUTO if cable is None else RouteChoice.ONLY_2B)
        await s.ven.register()
        ven_id = s.ven.client.ven_id
        assert s.vtn.seen.log[0] == ("registered", ven_id, "registration-1")
        assert s.ven.client.registration_id == "registration-1"
        assert s.ven.client.poll_frequency == timedelta(seconds=1)

        # Reports: offered, wanted, created, updated.
        await s.vtn.seen.wait_for("offered", "charger")
        await s.vtn.seen.wait_for("created")
        values = await s.vtn.seen.wait_for("values", "charger")
        assert values[0][2][0][1] == 7400.0
        await events_come_and_go(s, cut="cut" in way)

        # The VTN forgets the VEN: it registers again, and its reports.
        s.vtn.forget(ven_id)
        await s.vtn.seen.wait_for("registered", ven_id, "registration-2")
        await s.vtn.seen.wait_for("offered", "charger", count=2)
        await s.vtn.seen.wait_for("created", count=2)
        assert s.ven.client.registration_id == "registration-2"
        async with s.system.control("dsrsp") as dsrsp, s.system.control("cem") as cem:
            assert (await cem.openadr())["ven_id"] == ven_id
            told = (await dsrsp.openadr())["vens"][str(s.system.identities.device_id)]
            assert (told["ven_id"], told["vtn_id"]) == (ven_id, "DSRSP_VTN")

        await s.ven.deregister()
        assert s.ven.client.registration_id is None
        assert s.vtn.seen.log[-1] == ("deregistered", ven_id, "registration-2")
        went = routes_of(s)
        expected = {"route 2a": {"2a"}, "route 2b": {"2b"}}.get(way, {"2a", "2b"})
        assert set(went) == expected, went
        await check_command_line_and_logs(s)


async def events_come_and_go(s: Session, *, cut: bool) -> None:
    """Send an event, a newer version of it, its end before its time; each arrives once."""
    ven_id = s.ven.client.ven_id
    start = datetime.now(UTC) - timedelta(seconds=1)
    event_id = s.vtn.send_event(ven_id, [(start, timedelta(hours=1), 2000.0)])
    await s.ven.seen.wait_for("event", event_id, 0)
    await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn")
    assert s.ven.charger.power_w() == 2000.0
    if cut and s.cable is not None:
        assert "2a" not in routes_of(s)
        s.cable.cut()
    s.vtn.modify_event(ven_id, event_id, lambda event: new_values(event, 3000.0))
    await s.ven.seen.wait_for("changed event", event_id, 1)
    await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn", count=2)
    assert s.ven.charger.power_w() == 3000.0
    if cut and s.cable is not None:
        before = routes_of(s)
        assert before["2a"] > 0
        s.cable.mend()
        await pass_json(s, RouteChoice.ONLY_2B)
    s.vtn.cancel_event(ven_id, event_id)
    await s.ven.seen.wait_for("changed event", event_id, 2, "cancelled")
    answered = await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn", count=3)
    assert s.ven.charger.power_w() == 7400.0
    assert len(answered) == 3
    changes = [what for what in s.ven.seen.log if what[0] in ("event", "changed event")]
    assert [what[2] for what in changes] == [0, 1, 2]


async def check_command_line_and_logs(s: Session) -> None:
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


async def test_an_opt_out_waits_for_the_opt_in_before_it_also_over_a_kill(
    new_system: Callable[..., LocalSystem],
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    async with session(new_system, listen=listen, receipt_batch_s=4.0) as s:
        await s.ven.register()
        ven_id = s.ven.client.ven_id
        event = [(datetime.now(UTC), timedelta(hours=1), 2000.0)]
        event_id = s.vtn.send_event(ven_id, event)
        await s.vtn.seen.wait_for("event answered", ven_id, event_id, "optIn")
        said = {"response_code": 200, "response_description": "OK", "request_id": "out"}
        answer = {"event_id": event_id, "modification_number": 0, "opt_type": "optOut"}
        opt_out = create_message(
            "oadrCreatedEvent", response=said, ven_id=ven_id, event_responses=[{**said, **answer}]
        )
        async with (
            aiohttp.ClientSession(headers={"Content-Type": "application/xml"}) as http,
            http.post(f"{s.system.ready('cem')['openadr']}/EiEvent", data=opt_out) as response,
        ):
            assert response.status == 200
        device = str(s.system.identities.device_id)
        async with s.system.control("dsrsp") as dsrsp:

            async def crossed() -> int:
                counts = (await dsrsp.openadr())["vens"][device]["counts"]
                return int(counts["from VEN oadrCreatedEvent"])

            assert await crossed() == 1
            async with s.system.control("cem") as cem:
                assert (await cem.openadr())["held_for_order"] == ["oadrCreatedEvent"]
            await s.system.kill("cem")
            await s.system.start("cem")
            while await crossed() < 2:
                # Nothing tells of it here but the next report of the VEN, one a second.
                reports = len([what for what in s.vtn.seen.log if what[0] == "values"])
                await s.vtn.seen.wait_for("values", "charger", count=reports + 1)
        async with s.system.control("cem") as cem:
            assert (await cem.openadr())["held_for_order"] == []


@pytest.mark.parametrize("route_2b", [False, True], ids=["route 2a", "route 2b"])
async def test_in_shortened_time_next_to_nothing_crosses(
    tmp_path: Path, test_pki: Path, route_2b: bool
) -> None:
    counts = await measure_day(tmp_path, test_pki, polls=300, route_2b=route_2b)
    assert counts.polls == 300
    assert counts.http_messages >= 2 * 300
    # Registration, reports and events cross, the same in a short day as in a long one: some 20
    # messages. Of polls and queries nothing does, whose fragments would be five times as many.
    assert counts.crossed_messages_down + counts.crossed_messages_up <= 26
    assert counts.fragments_share < 0.05
    whole = counts.crossed_whole_down + counts.crossed_whole_up
    if route_2b:
        # Introductions and the route offer go by 2a, all else by 2b, with a receipt for each.
        assert counts.crossed_fragments_down + counts.crossed_fragments_up <= 12
        assert whole >= 15
    else:
        assert whole == 0


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
