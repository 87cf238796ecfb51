"""What is away for a day is worth one line in the log of a device, and one when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import logging

from cem.errors import LinkError, connect_reason
from cem.route_2b.client import Phase, Route2bClient
from cem.route_2b.config import Route2bClientConfig
from lab.virtual_time import run_virtual
from smtunnel.routes import RouteOffer

EPOCH = 1_700_000_000.0
DAY = 86_400.0


def now() -> float:
    return EPOCH + asyncio.get_running_loop().time()


def lines(caplog, *loggers: str) -> list[str]:
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.INFO and record.name in loggers
    ]


def test_a_hub_that_is_away_is_told_once_each_time(world, new_dsrsp, memory_hub, caplog) -> None:
    hub = memory_hub(new_dsrsp(clock=now))

    async def main() -> None:
        hub.up = False
        config = world.config(reconnect_min_s=1.0, reconnect_max_s=60.0)
        async with world.gateway(config, clock=now, connector=hub) as gateway:
            await asyncio.sleep(DAY)
            hub.up = True
            await gateway.wait_connected()
            hub.drop()
            await asyncio.sleep(DAY)

    with caplog.at_level(logging.INFO, logger="cem"):
        run_virtual(main())
    told = [line for line in lines(caplog, "cem") if "hub" in line]
    assert [line.split(";")[0] for line in told] == [
        "no link to the hub: nobody answers",
        "connected to the hub at ws://127.0.0.1:8090/device/02534d5400000001",
        "no link to the hub: the line broke",
        "no link to the hub: nobody answers",
    ]


def test_a_server_of_route_2b_that_is_away_is_told_once(world, caplog) -> None:
    tried = []

    @contextlib.asynccontextmanager
    async def dial(address, device, pins):
        tried.append(now())
        raise LinkError("nobody answers")
        yield

    async def main() -> None:
        states = []
        client = Route2bClient(
            Route2bClientConfig(),
            world.keystore,
            world.device_id,
            world.supplier_id,
            None,
            changed=states.append,
            dialler=dial,
            clock=now,
        )
        client.use(
            RouteOffer(
                offer=1,
                addresses=("wss://dsrsp.example",),
                pins=(bytes(32),),
                not_before=0,
                not_after=int(EPOCH + 10 * DAY),
                message_octets=65536,
            )
        )
        task = asyncio.create_task(client.run())
        await asyncio.sleep(DAY)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        # The journal has each of them.
        assert sum(state.phase is Phase.DOWN for state in states) == len(tried) > 1000

    with caplog.at_level(logging.INFO, logger="cem.route_2b"):
        run_virtual(main())
    connecting, down = lines(caplog, "cem.route_2b")
    assert connecting == "route 2b: connecting: wss://dsrsp.example"
    assert down.startswith("route 2b: down: nobody answers; next try in ")


def test_why_no_connection_came_about_is_said_in_few_words() -> None:
    refused = ConnectionRefusedError(111, "Connect call failed ('127.0.0.1', 8090)")
    assert connect_reason(refused) == "Connection refused"
    assert connect_reason(OSError("Multiple exceptions: a, b")) == "Multiple exceptions: a, b"
    assert connect_reason(TimeoutError()) == "TimeoutError"
