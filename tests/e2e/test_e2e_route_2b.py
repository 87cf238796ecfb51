"""Route 2b through real processes: offered by 2a, dialled, used both ways, lost and found again."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from lab.control_client import ControlClient
from lab.errors import ControlError
from lab.journal import read_journal
from lab.local_system import LocalSystem
from lab.pki_files import write_server_certificate
from smtunnel import RouteChoice

MESSAGE = bytes(range(256)) * 8
QUICK = "fallback_after_s = {}\nreceipt_timeout_2b_s = 1.0"
EACH = '\nreceipts = "each"'
RECONNECT = """
    [gateway.route_2b]
    reconnect_min_s = 0.05
    reconnect_max_s = 0.5
    """


class Proxy:
    """Stands before the server, and can cut everything that passes, at once or at an octet."""

    def __init__(self) -> None:
        self.target = ("", 0)
        self.accepted = 0
        self.cut_after: int | None = None
        self._writers: list[asyncio.StreamWriter] = []
        self.server: asyncio.Server

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Proxy]:
        self.server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        try:
            yield self
        finally:
            self.server.close()
            self.cut()
            await self.server.wait_closed()

    @property
    def address(self) -> str:
        return f"wss://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._writers.append(writer)
        with contextlib.suppress(OSError):
            there, back = await asyncio.open_connection(*self.target)
            self._writers.append(back)
            await asyncio.gather(
                self._pump(reader, back, down=False), self._pump(there, writer, down=True)
            )
        writer.transport.abort()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, down: bool
    ) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(4096):
                if down and self.cut_after is not None:
                    self.cut_after -= len(octets)
                    if self.cut_after <= 0:
                        self.cut_after = None
                        sink.write(octets[: len(octets) // 2])
                        self.cut()
                        return
                sink.write(octets)
                await sink.drain()
        sink.transport.abort()


async def ended(client: ControlClient, ref: str) -> dict[str, Any]:
    async for status in client.statuses(ref):
        if status["state"] in ("REASSEMBLED", "FAILED"):
            return status
    return await client.status(ref)


async def down_and_up(
    system: LocalSystem, route: RouteChoice = RouteChoice.ONLY_2B
) -> tuple[str, str]:
    """Send a message each way; return by which routes they went."""
    went = []
    async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
        device = system.identities.device_id
        for one, other, to in ((dsrsp, cem, device), (cem, dsrsp, None)):
            sent = await one.send(MESSAGE, to=to, route=route, compression="zlib")
            (received,) = await other.received(wait_s=30)
            assert received.message == MESSAGE
            await other.ack(received.ref)
            status = await ended(one, sent["ref"])
            assert status["state"] == "REASSEMBLED", status
            went.append(status["routes"])
    return went[0], went[1]


async def test_an_offer_goes_down_and_messages_both_ways(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with new_system(route_2b=True) as system:
        assert await down_and_up(system) == ("2b", "2b")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            (told,) = (await dsrsp.route())["cems"]
            assert (told["state"], told["connected"]) == ("accepted", True)
            route = await cem.route()
            assert (route["state"], route["offer"]["number"]) == ("up", told["number"])
    # Nothing of the messages has passed the DCC.
    for name in ("dsrsp", "cem"):
        carried = [
            event
            for event in read_journal(system.journal(name))
            if event["event"] == "carrier" and not event["control"]
        ]
        assert [event["route"] for event in carried] == ["2b"]


@pytest.mark.parametrize("victim", ["dsrsp", "cem"])
async def test_a_kill_of_either_end(new_system: Callable[..., LocalSystem], victim: str) -> None:
    async with new_system(route_2b=True, settings={"cem": RECONNECT}) as system:
        assert await down_and_up(system) == ("2b", "2b")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            device = system.identities.device_id
            refs = [(await dsrsp.send(b"down %d" % n, to=device))["ref"] for n in range(20)]
            ups = [(await cem.send(b"up %d" % n))["ref"] for n in range(20)]
            await system.kill(victim)
        await system.start(victim)
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            for client, sent in ((dsrsp, refs), (cem, ups)):
                for ref in sent:
                    assert (await ended(client, ref))["state"] == "REASSEMBLED"
            for client, word in ((cem, b"down"), (dsrsp, b"up")):
                got: Counter[bytes] = Counter()
                while len(got) < 20:
                    for received in await client.received(wait_s=30):
                        got[received.message] += 1
                        await client.ack(received.ref)
                assert got == Counter(b"%s %d" % (word, n) for n in range(20))
        assert await down_and_up(system) == ("2b", "2b")
    for name in ("dsrsp", "cem"):
        counters = Counter(
            event["originator_counter"]
            for event in read_journal(system.journal(name))
            if event["event"] == "carrier" and event["route"] == "2b"
        )
        assert max(counters.values()) == 1


async def test_a_connection_cut_in_the_middle_of_a_message(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with Proxy().running() as proxy:
        system = new_system(
            route_2b=True, route_2b_address=proxy.address, settings={"cem": RECONNECT}
        )
        async with system:
            proxy.target = system.route_2b_address()
            assert await down_and_up(system) == ("2b", "2b")
            before = proxy.accepted
            proxy.cut_after = 30_000
            async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
                long = MESSAGE * 24
                device = system.identities.device_id
                sent = await dsrsp.send(long, to=device, compression="none", compact=False)
                (received,) = await cem.received(wait_s=30)
                assert received.message == long
                status = await ended(dsrsp, sent["ref"])
            assert (status["state"], status["routes"]) == ("REASSEMBLED", "2b")
            assert (proxy.accepted, proxy.cut_after) == (before + 1, None)


async def test_falls_back_and_returns(new_system: Callable[..., LocalSystem]) -> None:
    async with Proxy().running() as proxy:
        settings = {"dsrsp": QUICK.format(0.2) + EACH, "cem": QUICK.format(0.2) + RECONNECT}
        system = new_system(route_2b=True, route_2b_address=proxy.address, settings=settings)
        async with system:
            target = proxy.target = system.route_2b_address()
            assert await down_and_up(system) == ("2b", "2b")
            proxy.target = ("127.0.0.1", 1)
            proxy.cut()
            async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
                while (await dsrsp.route())["cems"][0]["connected"]:
                    pass
                while (await cem.route())["state"] == "up":
                    pass
            assert await down_and_up(system, RouteChoice.AUTO) == ("2a", "2a")
            proxy.target = target
            assert await down_and_up(system) == ("2b", "2b")
            assert await down_and_up(system, RouteChoice.AUTO) == ("2b", "2b")


async def test_both_routes_deliver_once(new_system: Callable[..., LocalSystem]) -> None:
    async with new_system(route_2b=True) as system:
        assert await down_and_up(system) == ("2b", "2b")
        assert await down_and_up(system, RouteChoice.BOTH) == ("2a+2b", "2a+2b")
        # down_and_up would have found what came twice.
        assert await down_and_up(system) == ("2b", "2b")


async def test_a_refused_offer(new_system: Callable[..., LocalSystem]) -> None:
    settings = {"dsrsp": EACH, "cem": "use_route_2b = false"}
    async with new_system(route_2b=True, settings=settings) as system:
        assert await down_and_up(system, RouteChoice.AUTO) == ("2a", "2a")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            while not (cems := (await dsrsp.route())["cems"]) or cems[0]["state"] == "offered":
                await dsrsp.echo(system.identities.device_id, timeout_s=30)
            assert (cems[0]["state"], cems[0]["answer"]) == ("refused", "not_wanted")
            assert (await cem.route())["state"] == "no offer"
        # Switched on later, it takes the same offer up.
        text = system.config("cem").read_text(encoding="utf-8")
        system.config("cem").write_text(text.replace("use_route_2b = false", ""), encoding="utf-8")
        await system.stop("cem")
        await system.start("cem")
        assert await down_and_up(system) == ("2b", "2b")


async def test_withdrawn_by_command_and_by_configuration(
    new_system: Callable[..., LocalSystem],
) -> None:
    settings = {"dsrsp": QUICK.format(0.2) + EACH, "cem": QUICK.format(0.2) + RECONNECT}
    async with new_system(route_2b=True, settings=settings) as system:
        device = system.identities.device_id
        assert await down_and_up(system) == ("2b", "2b")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            assert (await dsrsp.change_route("withdraw", device))["state"] == "withdrawn"
            with pytest.raises(ControlError, match="no offer"):
                await dsrsp.change_route("withdraw", device)
            with pytest.raises(ControlError, match="makes no offers"):
                await cem.change_route("offer", device)
            # What was given to the connection before both ends see its end, goes again by 2a.
            while (await cem.route())["state"] != "no offer" or (await dsrsp.route())["cems"][0][
                "connected"
            ]:
                await dsrsp.echo(device, timeout_s=30)
        assert await down_and_up(system, RouteChoice.AUTO) == ("2a", "2a")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            assert (await cem.route())["state"] == "no offer"
            first = (await cem.route())["offer"]
            assert first["withdrawn"]
            again = await dsrsp.change_route("offer", device)
            assert again["number"] > first["number"]
        assert await down_and_up(system) == ("2b", "2b")

        text = system.config("dsrsp").read_text(encoding="utf-8")
        system.config("dsrsp").write_text(text.partition("[gateway.route_2b]")[0], encoding="utf-8")
        await system.stop("dsrsp")
        await system.start("dsrsp")
        assert await down_and_up(system, RouteChoice.AUTO) == ("2a", "2a")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            while not (await cem.route())["offer"]["withdrawn"]:
                await dsrsp.echo(device, timeout_s=30)
            with pytest.raises(ControlError, match="not configured"):
                await dsrsp.change_route("offer", device)
        # And set again, it is offered again by itself.
        system.config("dsrsp").write_text(text, encoding="utf-8")
        await system.stop("dsrsp")
        await system.start("dsrsp")
        assert await down_and_up(system) == ("2b", "2b")


async def test_a_new_certificate_is_a_new_offer(new_system: Callable[..., LocalSystem]) -> None:
    async with new_system(route_2b=True, settings={"cem": RECONNECT}) as system:
        assert await down_and_up(system) == ("2b", "2b")
        async with system.control("cem") as cem:
            before = (await cem.route())["offer"]
        write_server_certificate(system.folder / "next")
        config = system.config("dsrsp")
        text = config.read_text(encoding="utf-8")
        config.write_text(text.replace('"route-2b/', '"next/route-2b/'), encoding="utf-8")
        await system.stop("dsrsp")
        await system.start("dsrsp")
        assert await down_and_up(system) == ("2b", "2b")
        async with system.control("cem") as cem:
            after = (await cem.route())["offer"]
        assert after["number"] > before["number"]
        assert set(after["pins"]).isdisjoint(before["pins"])
