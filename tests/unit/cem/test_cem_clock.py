"""A wall clock that somebody sets: what lasts so long lasts so long; only a caller's date moves."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random

import pytest

from cem.core.deadlines import CLOCK_KEY, ClockState, Deadlines, read_clock
from cem.errors import StoreError
from cem.store import SqliteStore
from gbcs.steady import SteadyClock
from lab.virtual_time import run_virtual
from smtunnel import DeliveryState

EPOCH = 1_700_000_000.0
HOUR = 3600.0
JUMPS = (-10 * HOUR, -HOUR, HOUR, 10 * HOUR)
LONG = random.Random(4).randbytes(5000)  # does not shrink: several fragments
DOWN = random.Random(1).randbytes(700)


def elapsed_s() -> float:
    return asyncio.get_running_loop().time()


class LastingStore(SqliteStore):
    """Lives on in memory when the gateway that used it is gone."""

    def close(self) -> None:
        pass


class Setting:
    """A hub with a DSRSP behind it, whose clock is right, and a CEM whose clock is set."""

    def __init__(self, world, new_dsrsp, memory_hub) -> None:
        self.world = world
        self.ahead_s = 0.0
        self.dsrsp = new_dsrsp(clock=lambda: EPOCH + elapsed_s())
        self.hub = memory_hub(self.dsrsp)
        self.store = LastingStore(":memory:", world.device_id, replay_window=1024)

    def wall(self) -> float:
        return EPOCH + elapsed_s() + self.ahead_s

    @contextlib.asynccontextmanager
    async def gateway(self, **changes):
        config = self.world.config(reconnect_min_s=1.0, reconnect_max_s=10.0, **changes)
        task = asyncio.create_task(self.hub.run())
        try:
            async with self.world.gateway(
                config, clock=self.wall, store=self.store, connector=self.hub
            ) as gateway:
                yield gateway
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


@pytest.fixture
def setting(world, new_dsrsp, memory_hub):
    return Setting(world, new_dsrsp, memory_hub)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_message_has_its_lifetime_whatever_the_wall_clock_says(setting, jump_s) -> None:
    async def main() -> None:
        setting.hub.lose_alert = lambda alert: True
        async with setting.gateway(message_lifetime_s=2 * HOUR) as gateway:
            handle = await gateway.send(LONG)
            await asyncio.sleep(60)
            setting.ahead_s = jump_s
            status = await handle.wait()
            assert status.reason.startswith("its lifetime is over: ")
            assert elapsed_s() == pytest.approx(2 * HOUR, abs=1)

    run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_receipt_is_asked_for_after_its_pause(setting, jump_s) -> None:
    """The first receipt is lost; the second is asked for when the pause is over."""

    async def main() -> None:
        setting.hub.lose_command = lambda counter: elapsed_s() < 200
        async with setting.gateway(receipt_timeout_s=300.0) as gateway:
            handle = await gateway.send(b"x")
            await asyncio.sleep(60)
            setting.ahead_s = jump_s
            status = await handle.wait()
            assert status.state is DeliveryState.REASSEMBLED
            assert 300 < elapsed_s() < 700

    run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS)
def test_half_a_message_from_the_dsrsp_is_kept_for_its_lifetime(setting, jump_s, caplog) -> None:
    async def main() -> None:
        async with setting.gateway(message_lifetime_s=2 * HOUR) as gateway:
            await gateway.wait_connected()
            setting.hub.deliver(setting.world.commands(DOWN, 20_000)[0])
            await asyncio.sleep(60)
            setting.ahead_s = jump_s
            await asyncio.sleep(2 * HOUR - 120)
            assert "never came" not in caplog.text
            await asyncio.sleep(200)
            assert "never came" in caplog.text

    with caplog.at_level(logging.WARNING, logger="cem"):
        run_virtual(main())


@pytest.mark.parametrize("jump_s", JUMPS)
def test_over_a_restart_the_wall_clock_tells_how_long_nobody_was_here(
    setting, jump_s, caplog
) -> None:
    """It was set while the first process lived: for the second that is no time that has passed."""

    async def main() -> None:
        setting.hub.lose_alert = lambda alert: True
        settings = {"message_lifetime_s": 2 * HOUR}
        async with setting.gateway(**settings) as gateway:
            ref = (await gateway.send(b"x")).ref
            await asyncio.sleep(60)
            setting.ahead_s = jump_s
            await asyncio.sleep(30)
        await asyncio.sleep(1000)
        async with setting.gateway(**settings) as gateway:
            status = await gateway.handle(ref).wait()
            assert status.reason.startswith("its lifetime is over: ")
            assert elapsed_s() == pytest.approx(2 * HOUR, abs=2)

    with caplog.at_level(logging.WARNING, logger="cem"):
        run_virtual(main())
    assert caplog.text.count("the wall clock was set") == 1


@pytest.mark.parametrize("behind_s", [HOUR, EPOCH - 1000])
def test_a_device_that_starts_without_a_clock_holds_nothing_up(setting, behind_s) -> None:
    """At the start it is 1970 or an hour ago, until a time server has told better."""

    async def main() -> None:
        setting.hub.up = False
        async with setting.gateway(message_lifetime_s=2 * HOUR) as gateway:
            ref = (await gateway.send(b"x")).ref
            await asyncio.sleep(600)
        setting.ahead_s = -behind_s
        await asyncio.sleep(300)
        async with setting.gateway(message_lifetime_s=2 * HOUR) as gateway:
            await asyncio.sleep(60)
            setting.ahead_s = 0.0
            status = await gateway.handle(ref).wait()
            assert status.reason.startswith("its lifetime is over: ")
            # How long nobody was here is not known: at most that is lost.
            assert elapsed_s() == pytest.approx(2 * HOUR, abs=1000)

    # Keys are not yet valid in 1970: what is looked at here is the time alone.
    setting.world = _Ageless(setting.world)
    run_virtual(main())


class _Ageless:
    """The world, whose certificates hold at any time."""

    def __init__(self, world) -> None:
        self._world = world

    def __getattr__(self, name):
        return getattr(self._world, name)

    def gateway(self, config, *, clock, **changes):
        return self._world.gateway(config, clock=_FirstRight(clock), **changes)


class _FirstRight:
    """Tells the right time to the first who asks: the check of the certificates."""

    def __init__(self, clock) -> None:
        self._clock = clock
        self._asked = False

    def __call__(self) -> float:
        if not self._asked:
            self._asked = True
            return EPOCH + elapsed_s()
        return self._clock()


@pytest.mark.parametrize(("jump_s", "takes_s"), [(1000.0, 61.0), (-500.0, 1500.0)])
@pytest.mark.parametrize("restart", [False, True])
def test_a_callers_deadline_is_a_date_and_moves_with_the_wall_clock(
    setting, jump_s, takes_s, restart
) -> None:
    async def main() -> None:
        setting.hub.up = False
        async with setting.gateway() as gateway:
            handle = await gateway.send(b"x", deadline=setting.wall() + 1000)
            ref = handle.ref
            await asyncio.sleep(60)
            setting.ahead_s = jump_s
            if not restart:
                status = await handle.wait()
        if restart:
            async with setting.gateway() as gateway:
                status = await gateway.handle(ref).wait()
        assert status.reason.startswith("its deadline passed: ")
        # A jump ahead is seen within a minute.
        assert elapsed_s() == pytest.approx(takes_s, abs=61 if jump_s > 0 else 1)
        assert [key for key in setting.store.tunnel_rows() if "deadline" in key] == []

    run_virtual(main())


def test_a_message_that_arrives_leaves_no_deadline_behind(setting) -> None:
    async def main() -> None:
        async with setting.gateway() as gateway:
            handle = await gateway.send(b"x", deadline=setting.wall() + 5000)
            assert [key for key in setting.store.tunnel_rows() if "deadline" in key]
            assert (await handle.wait()).state is DeliveryState.REASSEMBLED
            assert [key for key in setting.store.tunnel_rows() if "deadline" in key] == []

    run_virtual(main())


def test_times_that_people_see_are_the_wall_clocks(setting) -> None:
    async def main() -> None:
        async with setting.gateway() as gateway:
            await asyncio.sleep(60)
            setting.ahead_s = HOUR
            setting.hub.send_down(b"news")
            received = await anext(gateway.received())
            assert received.received_at == pytest.approx(setting.wall(), abs=1)
            setting.hub.sent.clear()
            await gateway.send(b"x")
            await asyncio.sleep(10)
            (_, octets), *_ = setting.hub.sent
            told = setting.world.alert(octets).date_time
            assert str(told) == str(type(told).from_timestamp(setting.wall() - 10))

    run_virtual(main())


def test_a_damaged_row_is_told() -> None:
    assert read_clock({}) == ClockState()
    state = ClockState(-5.0, EPOCH)
    assert read_clock({CLOCK_KEY: state.build()}) == state
    for octets in (b"", b"x" * 15, ClockState(float("nan"), 0.0).build()):
        with pytest.raises(StoreError, match=r"row 'cem/clock'; restore the state file"):
            read_clock({CLOCK_KEY: octets})
    with pytest.raises(StoreError, match="row 'cem/deadline/ab'"):
        Deadlines().take_rows({"cem/deadline/ab": b"1234567"})


def test_the_clock_never_begins_before_what_was_seen() -> None:
    clock = SteadyClock(lambda: 5.0, lambda: 0.0, wall_ahead_s=2.0, not_before=100.0)
    assert clock() == 100.0
    assert clock.moved() == -95.0
    clock.note(-95.0)
    assert (clock.moved(), clock.noted_s) == (None, -95.0)
