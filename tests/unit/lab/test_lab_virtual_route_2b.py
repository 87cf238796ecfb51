"""Both routes on virtual time: connections break at random, every message arrives once."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace
from typing import Any

from cem import Phase
from cem.route_2b import Route2bClientConfig
from lab.virtual_faults import Disconnect, FaultPlan, every_fault, random_disconnects
from lab.virtual_internet import InternetSettings
from lab.virtual_run import RunPlan, RunReport, run_plan
from lab.virtual_system import VirtualSettings, VirtualSystem
from lab.virtual_time import run_virtual
from smtunnel import DeliveryState, Route, RouteChoice

DISCONNECTS = int(os.environ.get("SMTUNNEL_DISCONNECTS", "600"))
"""How many in the test of random ones; thousands take a minute."""

HASTY: dict[str, Any] = {
    "fallback_after_s": 60.0,
    "route_2b": Route2bClientConfig(reconnect_min_s=0.1, reconnect_max_s=3.0),
}


def plan_of(faults: FaultPlan, *, messages: int, profile: str = "none", **more: Any) -> RunPlan:
    return RunPlan(
        devices=6, messages=messages, profile=profile, faults=faults,
        internet=InternetSettings(jitter_s=0.02),
        dsrsp={"fallback_after_s": 60.0}, cem=HASTY, settle_s=600.0, **more,
    )  # fmt: skip


def random_run(seed: int, count: int) -> RunReport:
    duration_s = max(600.0, count / 2)
    disconnects = random_disconnects(seed, duration_s=duration_s, devices=6, count=count)
    faults = FaultPlan(disconnects=disconnects)
    return run_plan(plan_of(faults, messages=count // 2, seed=seed, duration_s=duration_s))


def test_random_disconnects_lose_and_double_nothing() -> None:
    report = random_run(1, DISCONNECTS)
    assert report.wrong == []
    assert {fate.name for fate, _ in report.outcomes} == {"DELIVERED"}
    assert report.deeds["connection of route 2b cut"] > DISCONNECTS / 4


def test_the_same_seed_gives_the_same_octets() -> None:
    first, again, other = (random_run(seed, 60) for seed in (3, 3, 4))
    assert first.digest == again.digest != other.digest


def test_disconnects_among_every_other_fault() -> None:
    duration_s = 900.0
    faults = replace(
        every_fault(5, duration_s=duration_s, devices=6),
        disconnects=random_disconnects(5, duration_s=duration_s, devices=6, count=200),
    )
    report = run_plan(
        plan_of(faults, messages=150, profile="bad-day", seed=5, duration_s=duration_s)
    )
    assert report.wrong == []


async def _route_up(system: VirtualSystem) -> None:
    gateway, _ = await system.cems[0].running()
    await gateway.wait_route_2b()
    assert gateway.route_2b.phase is Phase.UP


def test_the_internets_delay_is_what_a_message_takes() -> None:
    async def main() -> list[tuple[float, frozenset[Route]]]:
        settings = VirtualSettings(internet=InternetSettings(round_trip_s=0.5))
        async with VirtualSystem(settings) as system:
            await _route_up(system)
            dsrsp, _ = await system.dsrsp.running()
            loop = asyncio.get_running_loop()
            took = []
            for _ in range(3):
                began = loop.time()
                handle = await dsrsp.send(system.device(0), b"hello")
                status = await handle.wait()
                assert status.state is DeliveryState.REASSEMBLED
                took.append((loop.time() - began, status.routes))
            return took

    for seconds, routes in run_virtual(main()):
        # And the moments in which receipts are gathered there, and what they bring here.
        assert 0.5 <= seconds < 0.55
        assert routes == {Route.ROUTE_2B}


def test_falls_back_after_the_set_time_and_urgent_does_not_wait() -> None:
    async def main() -> list[tuple[float, str, bool]]:
        settings = VirtualSettings(
            internet=InternetSettings(), dsrsp={"fallback_after_s": 100.0}, cem=HASTY
        )
        async with VirtualSystem(settings) as system:
            await _route_up(system)
            dsrsp, _ = await system.dsrsp.running()
            loop = asyncio.get_running_loop()
            system.internet.take_offline(system.device(0))
            await asyncio.sleep(1.0)
            began, took = loop.time(), []

            async def send(urgent: bool, route: RouteChoice) -> None:
                handle = await dsrsp.send(system.device(0), b"?", urgent=urgent, route=route)
                status = await handle.wait()
                routes = "+".join(route.name for route in sorted(status.routes))
                took.append((loop.time() - began, routes, urgent))

            tasks = [
                asyncio.create_task(send(urgent, route))
                for urgent, route in (
                    (False, RouteChoice.ONLY_2B),
                    (False, RouteChoice.AUTO),
                    (True, RouteChoice.AUTO),
                )
            ]
            await asyncio.sleep(200.0)
            system.internet.bring_online(system.device(0))
            await asyncio.gather(*tasks)
            return took

    urgent, waited, only = run_virtual(main())
    assert urgent[1:] == ("ROUTE_2A", True)
    assert urgent[0] < 1.0
    assert waited[1:] == ("ROUTE_2A", False)
    assert 98.0 < waited[0] < 101.0
    assert only[1] == "ROUTE_2B"
    assert 200.0 < only[0] < 204.0


def test_a_killed_end_comes_back_to_route_2b() -> None:
    async def main() -> list[bytes]:
        settings = VirtualSettings(internet=InternetSettings(), cem=HASTY)
        got = []
        async with VirtualSystem(settings) as system:
            for process in (system.dsrsp, system.cems[0], system.dsrsp):
                await _route_up(system)
                dsrsp, _ = await system.dsrsp.running()
                handle = await dsrsp.send(system.device(0), b"before")
                # Written, or about to be: no receipt has come.
                process.kill()
                await process.buried()
                await process.start()
                await _route_up(system)
                dsrsp, _ = await system.dsrsp.running()
                status = await dsrsp.handle(handle.ref).wait()
                assert (status.state, status.routes) == (
                    DeliveryState.REASSEMBLED, {Route.ROUTE_2B},
                )  # fmt: skip
                cem, _ = await system.cems[0].running()
                received = await anext(cem.received())
                got.append(received.message)
                await received.ack()
        return got

    assert run_virtual(main()) == [b"before"] * 3


def test_an_end_that_leaves_at_once_has_said_what_it_got() -> None:
    async def main() -> DeliveryState:
        settings = VirtualSettings(internet=InternetSettings(), cem=HASTY)
        async with VirtualSystem(settings) as system:
            await _route_up(system)
            dsrsp, _ = await system.dsrsp.running()
            handle = await dsrsp.send(system.device(0), b"last")
            cem, _ = await system.cems[0].running()
            received = await anext(cem.received())
            await received.ack()
            await system.cems[0].stop()
            return (await handle.wait()).state

    assert run_virtual(main()) is DeliveryState.REASSEMBLED


def test_one_disconnect_while_a_message_is_on_its_way() -> None:
    faults = FaultPlan(
        disconnects=[Disconnect(at_s=1.0 + n / 100, cem=0, away_s=0.0) for n in range(9)]
    )
    report = run_plan(plan_of(faults, messages=40, seed=2, duration_s=2.0))
    assert report.wrong == []
