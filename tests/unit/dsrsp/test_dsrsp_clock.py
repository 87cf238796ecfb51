"""A wall clock that somebody sets: what lasts so long lasts so long; only a caller's date moves."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dsrsp import Gateway
from dsrsp.brake import Brake
from dsrsp.errors import ConfigurationError
from dsrsp.store import SqliteStore
from gbcs.duis import DccAlertBody, QuarantinedRequest, build_response
from gbcs.duis import Response as DuisResponse
from gbcs.steady import SteadyClock
from smtunnel import DeliveryState

EPOCH = 1_800_000_000.0
HOUR = 3600.0
JUMPS = (-10 * HOUR, -100.0, 100.0, 10 * HOUR)


class WallClock:
    """Virtual time, and what somebody has set it ahead by."""

    def __init__(self) -> None:
        self.ahead_s = 0.0

    def __call__(self) -> float:
        return EPOCH + asyncio.get_running_loop().time() + self.ahead_s


def gateway(world, wall, **settings):
    made = Gateway(
        world.config(**settings),
        world.keystore,
        clock=wall,
        random_octets=world.random,
        journal=world.journal,
        dcc=world.dcc,
    )
    world.dcc.receive = made.receive_untrusted
    world.dcc.clock = wall
    return made


def elapsed_s() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_request_has_its_time_whatever_the_wall_clock_says(world, jump_s):
    """The device never answers: the request ends after response_timeout_s, no sooner, no later."""
    wall = WallClock()
    world.dcc.results = lambda pre: None

    async def main():
        async with gateway(world, wall, fragment_attempts=1, response_timeout_s=HOUR) as running:
            handle = await running.send(world.device, b"x")
            await asyncio.sleep(60)
            wall.ahead_s = jump_s
            status = await handle.wait()
            return status, elapsed_s()

    status, took_s = world.run(main)
    assert "no answer from the device in 3600 s" in status.reason
    assert took_s == pytest.approx(HOUR, abs=1)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_an_answer_that_comes_after_the_jump_counts(world, jump_s):
    wall = WallClock()
    world.dcc.latency_s = 1800.0

    async def main():
        async with gateway(world, wall) as running:
            handle = await running.send(world.device, b"x")
            await asyncio.sleep(60)
            wall.ahead_s = jump_s
            return await handle.wait(), elapsed_s()

    status, took_s = world.run(main)
    assert status.state is DeliveryState.REASSEMBLED
    assert took_s == pytest.approx(1800, abs=1)
    assert len(world.dcc.signed) == 1


@pytest.mark.parametrize("jump_s", JUMPS)
def test_a_fragment_is_tried_again_after_its_pause(world, jump_s):
    wall = WallClock()
    answers = [(1,)]  # a hardware fault
    world.dcc.results = lambda pre: answers.pop() if answers else (0,) * len(pre.labels)

    async def main():
        settings = {"fragment_retry_first_s": 600.0, "fragment_retry_max_s": 600.0}
        async with gateway(world, wall, **settings) as running:
            handle = await running.send(world.device, b"x")
            await asyncio.sleep(60)
            wall.ahead_s = jump_s
            return await handle.wait(), elapsed_s()

    status, took_s = world.run(main)
    assert status.state is DeliveryState.REASSEMBLED
    assert 300 <= took_s <= 650


@pytest.mark.parametrize(("jump_s", "takes_s"), [(1000.0, 120.0), (-500.0, 1500.0)])
def test_a_callers_deadline_is_a_date_and_moves_with_the_wall_clock(world, jump_s, takes_s):
    wall = WallClock()
    world.dcc.on_transform = lambda request: None

    async def main():
        async with gateway(world, wall) as running:
            handle = await running.send(world.device, b"x", deadline=wall() + 1000)
            await asyncio.sleep(60)
            wall.ahead_s = jump_s
            return await handle.wait(), elapsed_s()

    status, took_s = world.run(main)
    assert "its deadline passed" in status.reason
    # A jump ahead is seen within a minute.
    assert took_s == pytest.approx(takes_s, abs=61 if jump_s > 0 else 1)
    assert world.dcc.signed == []


def test_what_is_overdue_by_a_jump_is_not_posted_even_before_anybody_looks(world):
    """The clock is set while a command is being signed: its signature is the last of it."""
    wall = WallClock()

    def transform(request):
        wall.ahead_s = 5000.0
        return world.dcc.transform(request)

    world.dcc.on_transform = transform

    async def main():
        async with gateway(world, wall) as running:
            handle = await running.send(world.device, b"x", deadline=wall() + 1000)
            return await handle.wait(), elapsed_s()

    status, took_s = world.run(main)
    assert "its deadline passed" in status.reason
    assert took_s < 1.0
    assert world.dcc.sent == []


@pytest.mark.parametrize("jump_s", JUMPS)
def test_over_a_restart_the_wall_clock_tells_how_long_nobody_was_here(world, jump_s, caplog):
    """It was set while the first process lived: for the second that is no time that has passed."""
    wall = WallClock()
    world.dcc.results = lambda pre: None
    settings = {"fragment_attempts": 1, "response_timeout_s": HOUR, "resume_grace_s": 1.0}

    async def main():
        async with gateway(world, wall, **settings) as running:
            ref = (await running.send(world.device, b"x")).ref
            await asyncio.sleep(60)
            wall.ahead_s = jump_s
            await asyncio.sleep(120)
        world.dcc.receive = lambda octets: None
        await asyncio.sleep(1000)
        async with gateway(world, wall, **settings) as running:
            return await running.handle(ref).wait(), elapsed_s()

    with caplog.at_level(logging.WARNING, logger="dsrsp"):
        status, took_s = world.run(main)
    assert "no answer from the device in 3600 s" in status.reason
    assert took_s == pytest.approx(HOUR, abs=2)
    assert caplog.text.count("the wall clock was set") == 1


def test_a_wall_clock_that_was_set_back_while_nobody_was_here_holds_nothing_up(world):
    """No time has passed as far as anybody can tell: what has an hour left has it still."""
    wall = WallClock()
    settings = {"fragment_attempts": 1, "response_timeout_s": HOUR, "resume_grace_s": 1.0}

    async def main():
        async with gateway(world, wall, **settings) as running:
            await (await running.send(world.device, b"arrives")).wait()
            world.dcc.results = lambda pre: None
            ref = (await running.send(world.device, b"x")).ref
            await asyncio.sleep(60)
        world.dcc.receive = lambda octets: None
        wall.ahead_s = -10 * HOUR
        began_s = elapsed_s()
        async with gateway(world, wall, **settings) as running:
            return await running.handle(ref).wait(), elapsed_s() - began_s

    status, took_s = world.run(main)
    assert "no answer from the device in 3600 s" in status.reason
    assert HOUR - 120 <= took_s <= HOUR + 2


def test_the_clock_goes_on_where_the_store_says(tmp_path, world):
    async def main():
        store = SqliteStore(str(tmp_path / "clock.sqlite"), supplier_id=world.supplier)
        assert store.load_wall_ahead() == 0.0
        wall = WallClock()
        clock = SteadyClock(wall, elapsed_s)
        assert clock.moved() is None
        wall.ahead_s = 0.5
        assert clock.moved() is None
        wall.ahead_s = -90.0
        assert clock.moved() == pytest.approx(-90.0)
        store.keep_wall_ahead(-90.0)
        clock.note(-90.0)
        assert clock.moved() is None
        later = SteadyClock(wall, elapsed_s, wall_ahead_s=store.load_wall_ahead())
        assert later() == pytest.approx(clock())
        assert later.moved() is None
        store.close()

    world.run(main)


@pytest.mark.parametrize("jump_s", JUMPS)
def test_the_brake_counts_on_whatever_the_wall_clock_says(world, jump_s):
    async def main():
        wall = WallClock()
        brake = Brake(
            SteadyClock(wall, elapsed_s), per_window=2, window_s=160.0, stops_on_quarantine=True
        )
        await brake.wait()
        await brake.wait()
        wall.ahead_s = jump_s
        await brake.wait()
        return elapsed_s()

    assert 160.0 <= world.run(main) <= 180.0


# What the brake knows survives a restart


def quarantined(world, request):
    """The DCC's alert that it holds a request back."""
    alert = QuarantinedRequest(request.request_id, "ADUserThresholdBreach", 12)
    body = DccAlertBody("N26", alert)
    made = DuisResponse("I0", world.dcc._now(), body, response_id=request.request_id)
    return build_response(made, world.pki.dcc_xml)


def test_after_a_restart_nothing_is_signed_while_the_dcc_holds_a_command(world):
    wall = WallClock()
    held = []

    def hold(request):
        if held:
            return world.dcc.accept(request)
        held.append(request)
        alert = quarantined(world, request)
        asyncio.get_running_loop().call_later(0.5, lambda: world.dcc.receive(alert))
        return world.dcc.acknowledgement(request.request_id)

    world.dcc.on_send = hold

    async def main():
        async with gateway(world, wall) as running:
            first = (await running.send(world.device, b"one")).ref
            await asyncio.sleep(10)
        async with gateway(world, wall) as running:
            second = await running.send(world.other_device, b"two")
            await asyncio.sleep(HOUR)
            assert len(world.dcc.sent) == 1
            # Released: the device answers at last.
            world.dcc.deliver(held[0])
            assert (await second.wait()).state is DeliveryState.REASSEMBLED
            assert (await running.handle(first).wait()).state is DeliveryState.REASSEMBLED

    world.run(main)
    assert len(world.dcc.sent) == 2


def test_after_a_restart_what_was_signed_counts_still(world):
    wall = WallClock()
    settings = {"fragments_per_window": 3, "window_s": HOUR}
    times = []

    def note(request):
        times.append(elapsed_s())
        return world.dcc.accept(request)

    world.dcc.on_send = note

    async def main():
        for n in range(8):
            async with gateway(world, wall, **settings) as running:
                handle = await running.send(world.device, b"message %d" % n)
                await asyncio.sleep(120)
                last = handle.ref
        async with gateway(world, wall, **settings) as running:
            assert (await running.handle(last).wait()).state is DeliveryState.REASSEMBLED

    world.run(main)
    assert len(times) == 8
    assert all(later - first > HOUR for first, later in zip(times, times[3:], strict=False))


def test_a_quarantine_that_is_told_before_the_acknowledgement_survives_a_restart(world):
    """It was stored in the middle of a post: the same octets are posted again, and wait."""
    wall = WallClock()
    held = []

    def hold(request):
        if held:
            return world.dcc.refusal(request.request_id, "E47")
        held.append(request)
        world.dcc.receive(quarantined(world, request))
        return None

    world.dcc.on_send = hold

    async def main():
        async with gateway(world, wall) as running:
            ref = (await running.send(world.device, b"one")).ref
            await asyncio.sleep(0.1)
            assert len(held) == 1
        async with gateway(world, wall) as running:
            other = await running.send(world.other_device, b"two")
            await asyncio.sleep(HOUR)
            assert not other.status.fragments_accepted
            world.dcc.deliver(held[0])
            world.dcc.on_send = None
            assert (await running.handle(ref).wait()).state is DeliveryState.REASSEMBLED
            assert (await other.wait()).state is DeliveryState.REASSEMBLED

    world.run(main)
    of_first = [octets for octets in world.dcc.sent if octets == world.dcc.sent[0]]
    assert len(of_first) == len(world.dcc.sent) - 1 >= 2


def test_what_is_counted_again_after_a_restart_must_be_kept_for_a_window(world):
    with pytest.raises(ConfigurationError, match=r"keep_requests_s is 60 s.*window_s, 3600 s"):
        world.config(fragments_per_window=5, keep_requests_s=60.0).check()
    world.config(keep_requests_s=60.0).check()
