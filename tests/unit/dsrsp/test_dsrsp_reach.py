"""A DCC that is away for a while: told when it goes and when it is back, not for each fragment."""

from __future__ import annotations

import asyncio
import logging
import random

from dsrsp.reach import Reach
from smtunnel import DeliveryState

LONG = random.Random(3).randbytes(2000)  # does not shrink: many fragments


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_outage_is_two_lines_however_many_fragments_and_attempts(world, caplog) -> None:
    refused = []

    def away(request):
        refused.append(request)

    async def main() -> None:
        async with world.gateway() as gateway:
            # The first makes the two known to each other.
            first = await gateway.send(world.device, b"before")
            assert (await first.wait()).state is DeliveryState.REASSEMBLED
            caplog.clear()
            world.dcc.on_transform, world.dcc.harms_control = away, True
            handle = await gateway.send(world.device, LONG)
            other = await gateway.send(world.other_device, b"x")
            await asyncio.sleep(3600)
            assert len(warnings(caplog)) == 1
            world.dcc.on_transform = None
            assert (await handle.wait()).state is DeliveryState.REASSEMBLED
            assert (await other.wait()).state is DeliveryState.REASSEMBLED

    with caplog.at_level(logging.INFO, logger="dsrsp"):
        world.run(main)
    gone, back = warnings(caplog)
    waited = {request.originator_counter for request in refused}
    assert len(refused) > 2 * len(waited) > 4
    assert gone == (
        "the DCC cannot be reached: the test cut the line; requests wait, each is tried again "
        "until its time is over"
    )
    assert back.startswith("the DCC answers again after 36")
    assert back.endswith(f" s; {len(waited)} requests waited")


def test_who_is_lost_while_others_are_answered_has_a_trouble_of_its_own(caplog) -> None:
    now = 0.0
    reach = Reach(lambda: now)
    with caplog.at_level(logging.INFO, logger="dsrsp"):
        reach.answered()
        now = 10.0
        reach.answered()
        assert not reach.lost(1, 5.0, "no answer in 30 s")
        assert warnings(caplog) == []
        assert reach.lost(1, 10.0, "no answer in 30 s")
        assert reach.lost(1, 11.0, "no answer in 30 s")
        now = 70.0
        reach.answered()
        reach.answered()
    assert len(warnings(caplog)) == 2
    assert warnings(caplog)[1] == "the DCC answers again after 60 s; 1 request waited"
