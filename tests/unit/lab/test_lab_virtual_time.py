"""The loop whose time jumps."""

from __future__ import annotations

import asyncio
import time

import pytest

from lab.virtual_time import NothingLeftToHappen, run_virtual, virtual_clock


def test_time_starts_where_it_is_told_and_hours_take_no_time():
    async def story():
        start = virtual_clock()
        await asyncio.sleep(100 * 3600.0)
        return start, virtual_clock()

    before = time.monotonic()
    assert run_virtual(story()) == (0.0, 360_000.0)
    assert run_virtual(story(), start_s=5.0) == (5.0, 360_005.0)
    assert time.monotonic() - before < 60.0


def test_timers_come_in_order_at_their_times():
    async def story():
        seen = []

        async def wait(seconds):
            await asyncio.sleep(seconds)
            seen.append((seconds, virtual_clock()))

        await asyncio.gather(*(wait(seconds) for seconds in (3.0, 0.1, 2.0, 1e-9, 86_401.5)))
        return seen

    assert run_virtual(story()) == [
        (seconds, seconds) for seconds in (1e-9, 0.1, 2.0, 3.0, 86_401.5)
    ]


def test_timeouts_are_virtual():
    async def story():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3600.0):
                await asyncio.Event().wait()
        return virtual_clock()

    assert run_virtual(story()) == 3600.0


def test_waiting_for_nothing_is_told():
    async def story():
        await asyncio.sleep(7.0)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(NothingLeftToHappen, match="at 7 s"):
        run_virtual(story())
