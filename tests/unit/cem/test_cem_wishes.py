"""Deadline and priority of a message up, in virtual time and over restarts."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random

import pytest

from cem.store import SqliteStore
from lab.virtual_time import run_virtual
from smtunnel import Compression, DeliveryState, parse_untrusted_header
from smtunnel.errors import LocalError

NOW = 1_700_000_000.0
LONG = random.Random(4).randbytes(5000)  # does not shrink: several fragments


def now() -> float:
    return NOW + asyncio.get_running_loop().time()


class LastingStore(SqliteStore):
    """Lives on in memory when the gateway that used it is gone."""

    def close(self) -> None:
        pass


class Setting:
    """A hub with a DSRSP behind it, and what of the CEM outlives a restart."""

    def __init__(self, world, new_dsrsp, memory_hub) -> None:
        self.world = world
        self.dsrsp = new_dsrsp(clock=now)
        self.hub = memory_hub(self.dsrsp)
        self.store = LastingStore(":memory:", world.device_id, replay_window=1024)

    def data_alerts(self) -> int:
        """How many alerts with data the hub got."""
        texts = [self.world.alert(octets).text for _, octets in self.hub.sent]
        headers = [parse_untrusted_header(text[:4]) for text in texts]
        return sum(header.compression is not Compression.CONTROL for header in headers)

    @contextlib.asynccontextmanager
    async def gateway(self, **changes):
        config = self.world.config(reconnect_min_s=1.0, reconnect_max_s=10.0, **changes)
        task = asyncio.create_task(self.hub.run())
        try:
            async with self.world.gateway(
                config, clock=now, store=self.store, connector=self.hub
            ) as gateway:
                yield gateway
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def setting(world, new_dsrsp, memory_hub):
    return Setting(world, new_dsrsp, memory_hub)


@pytest.mark.parametrize("restart", [False, True])
def test_what_has_expired_is_not_sent_when_the_hub_is_back(setting, restart) -> None:
    async def main() -> None:
        setting.hub.up = False
        async with setting.gateway() as gateway:
            handle = await gateway.send(LONG, deadline=now() + 60)
            kept = await gateway.send(b"of use for long")
            if not restart:
                status = await handle.wait()
                assert now() == pytest.approx(NOW + 60, abs=1)
        if restart:
            await asyncio.sleep(100)
        setting.hub.up = True
        async with setting.gateway() as gateway:
            status = await gateway.handle(handle.ref).wait()
            assert status.state is DeliveryState.FAILED
            assert status.reason.startswith("its deadline passed: ")
            done = await gateway.handle(kept.ref).wait()
            assert done.state is DeliveryState.REASSEMBLED
            await asyncio.sleep(100_000)
        assert setting.dsrsp.received == [b"of use for long"]

    run_virtual(main())


def test_an_end_on_the_way_says_that_it_may_have_arrived(setting) -> None:
    async def main() -> None:
        setting.hub.lose_alert = lambda alert: True
        async with setting.gateway() as gateway:
            status = await (await gateway.send(b"x", deadline=now() + 1000)).wait()
            assert status.reason.startswith("its deadline passed: ")
            assert "not known whether it has arrived" in status.reason
            assert now() == pytest.approx(NOW + 1000, abs=1)
            sent = setting.data_alerts()
            assert sent > 1
            await asyncio.sleep(100_000)
            assert setting.data_alerts() == sent

    run_virtual(main())


@pytest.mark.parametrize("deadline_s", [None, 5000.0])
def test_without_a_deadline_before_it_the_lifetime_ends_it(setting, deadline_s) -> None:
    async def main() -> None:
        setting.hub.lose_alert = lambda alert: True
        async with setting.gateway(message_lifetime_s=2000.0) as gateway:
            deadline = None if deadline_s is None else now() + deadline_s
            status = await (await gateway.send(b"x", deadline=deadline)).wait()
            assert status.reason.startswith("its lifetime is over: ")
            assert now() == pytest.approx(NOW + 2000, abs=1)

    run_virtual(main())


@pytest.mark.parametrize("late_s", [0.0, -1.0, -math.inf, math.nan])
def test_what_is_too_late_is_not_taken(setting, late_s) -> None:
    async def main() -> None:
        async with setting.gateway() as gateway:
            with pytest.raises(LocalError, match=r"the deadline .* has passed"):
                await gateway.send(b"x", deadline=now() + late_s)
            assert setting.store.count_outgoing() == 0

    run_virtual(main())


@pytest.mark.parametrize("restart", [False, True])
def test_the_higher_priority_goes_first_of_what_waits(setting, restart) -> None:
    async def main() -> None:
        setting.hub.up = False
        settings = {"messages_in_flight": 1}
        async with setting.gateway(**settings) as gateway:
            for name, priority in ((b"first", 0), (b"low", -5), (b"even", 0), (b"high", 7)):
                handle = await gateway.send(name, priority=priority)
                if name == b"low":
                    last = handle.ref
            if not restart:
                setting.hub.up = True
                await gateway.handle(last).wait()
        if restart:
            setting.hub.up = True
            async with setting.gateway(**settings) as gateway:
                await gateway.handle(last).wait()

    run_virtual(main())
    # The first was given out before the others were there.
    assert setting.dsrsp.received == [b"first", b"high", b"even", b"low"]


@pytest.mark.parametrize("priority", [2**31, -(2**31) - 1])
def test_a_priority_that_does_not_fit_is_refused(setting, priority) -> None:
    async def main() -> None:
        async with setting.gateway() as gateway:
            with pytest.raises(LocalError, match="priority"):
                await gateway.send(b"x", priority=priority)
            assert setting.store.count_outgoing() == 0

    run_virtual(main())
