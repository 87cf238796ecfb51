"""Faults on the real sockets: a broken exchange, a restart, the admin interface."""

from __future__ import annotations

import asyncio
import contextlib

import aiohttp
import pytest
from websockets.exceptions import ConnectionClosed

from dcc_sim import DccSimError, Fault, FaultKind, Hop, Simulator
from dcc_sim.core.faults import parse_scenario

TOKEN = "a token for the tests"


async def call(world, method, path, **more):
    url = f"{world.client.base}/admin/v1{path}"
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with world.client.session.request(method, url, headers=headers, **more) as response:
        return response.status, None if response.status == 204 else await response.json()


@pytest.mark.parametrize("hop", [Hop.REQUEST, Hop.ANSWER])
async def test_a_lost_exchange_is_a_broken_connection(world, requests, hop):
    await world.simulator.inject(Fault(kind=FaultKind.DROP, hop=hop))
    octets = requests.octets(requests.transform())
    with pytest.raises(aiohttp.ClientError):
        await world.client.post("serviceT", octets)
    status, _ = await world.client.post("serviceT", octets)
    assert status == 200


async def test_a_restart_keeps_what_was_accepted(world):
    async with world.device() as device:
        await world.send(counter=1)
        await device.next_command()
        await world.simulator.inject(Fault(kind=FaultKind.RESTART))
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(device.connection.recv(), 10)
    # The sockets stay open: whoever comes during the restart waits for its end.
    async with world.device() as device:
        command = await device.next_command()
        await device.connection.send(device.response(command).to_bytes())
        assert (await world.receiver.next())[1].message.response_code == "I0"
    await world.send(counter=2)


async def test_leaving_while_the_dcc_is_down(start_world):
    async with start_world() as world:
        await world.simulator.inject(Fault(kind=FaultKind.RESTART, duration_s=3600.0))
        with pytest.raises(DccSimError, match="on its way"):
            await world.simulator.inject(Fault(kind=FaultKind.DROP, hop=Hop.POST))


async def test_faults_over_the_admin_interface(start_world, requests):
    async with start_world(admin_token=TOKEN) as world:
        drop = {"kind": "drop", "hop": "request", "count": 2}
        assert await call(world, "POST", "/faults", json=drop) == (201, {"fault_id": 1})
        down = {"kind": "hub-down", "hub": "H1"}
        assert await call(world, "POST", "/faults", json=down) == (201, {"fault_id": None})
        with pytest.raises(aiohttp.ClientError):
            await world.client.post("serviceT", requests.octets(requests.transform()))
        status, shown = await call(world, "GET", "/faults")
        assert (status, shown["hubs_down"]) == (200, ["H1"])
        (armed,) = shown["armed"]
        assert (armed["kind"], armed["hop"], armed["left"]) == ("drop", "request", 1)
        assert await call(world, "DELETE", "/faults/1") == (204, None)
        assert (await call(world, "DELETE", "/faults/1"))[0] == 404
        assert (await call(world, "DELETE", "/faults/x"))[0] == 400
        await call(world, "POST", "/faults", json=drop)
        assert await call(world, "DELETE", "/faults") == (200, {"cancelled": 1})
        await world.transform()
        status, refusal = await call(world, "POST", "/faults", json={"kind": "drop"})
        assert status == 400
        assert "needs hop" in refusal["error"]


async def test_a_restart_over_the_admin_interface(start_world):
    async with start_world(admin_token=TOKEN) as world:
        status, _ = await call(world, "POST", "/faults", json={"kind": "restart"})
        assert status == 201
        async with asyncio.timeout(10):
            # A connection of before may still be broken off: the next one is served.
            while True:
                with contextlib.suppress(aiohttp.ClientError):
                    await world.send()
                    return


async def test_a_scenario(make_config, pki):
    text = '[[fault]]\nat_s = 0\nkind = "hub-down"\nhub = "H1"'
    async with Simulator(
        make_config(), pki.keystore, scenario=parse_scenario(text, where="x")
    ) as simulator:
        # Done by the first timer, before anything that is asked for later.
        await simulator.inject(Fault(kind=FaultKind.HUB_UP, hub="H2"))
        await simulator.inject(Fault(kind=FaultKind.HUB_UP, hub="H2"))
        assert simulator.faults.hubs_down == ["H1"]
