"""The live engine: Stream 1 as real processes."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dcc_sim.core.network.distributions import Constant
from dcc_sim.core.network.profile import Parameter, Standing
from gbcs import EntityId
from lab.openadr_messages import StoryMessage
from lab.study.cases import Case
from lab.study.engine import Surroundings
from lab.study.errors import EngineError
from lab.study.internet import SlowProxy
from lab.study.live import LiveEngine
from lab.study.networks import Internet, Network
from lab.study.parameters import Route, Workload
from lab.study.stream_1_live import Stream1Ends

ROUND_TRIP_S = 0.04


def assumed(value: Any) -> Parameter[Any]:
    return Parameter(value=value, standing=Standing.ASSUMED, source="test")


@pytest.mark.parametrize("round_trips", [0.5, 2.5])
def test_stream_1_takes_the_round_trips_that_the_model_says(round_trips: float) -> None:
    internet = Internet(
        round_trip=assumed(Constant(value_s=ROUND_TRIP_S)), loss_probability=assumed(0.0)
    )
    case = Case(
        experiment="test",
        engine="live",
        route=Route(name="s", kind="stream1", poll_s=0.0, exchange_round_trips=round_trips),
        workload=Workload(name="w", kind="session", cems=1),
        network=Network(name="line", internet=internet),
        deadlines_s=(10.0,),
    )
    tables = LiveEngine().run(case, Surroundings())
    rows = tables.messages.to_pylist()
    assert [row["outcome"] for row in rows] == ["delivered"] * 7
    assert [row["direction"] for row in rows].count("down") == 3
    assert {row["type"] for row in rows} >= {"oadrDistributeEvent", "oadrUpdateReport"}
    fastest = min(row["latency_s"] for row in rows)
    # No message is faster than its way; the best one loses less than one way more to the software.
    assert round_trips <= fastest / ROUND_TRIP_S < round_trips + 0.5
    assert all(row["confirmed_s"] > row["latency_s"] for row in rows)
    counted = {row["counter"]: row["value"] for row in tables.counters.to_pylist()}
    assert counted["internet_octets"] > sum(row["message_octets"] for row in rows)
    assert counted["signatures"] == 0
    fragments = tables.fragments.to_pylist()
    assert len(fragments) == 7
    assert all(row["completes"] for row in fragments)


async def test_an_end_of_stream_1_that_dies_is_an_error(tmp_path: Path) -> None:
    async def proxy() -> SlowProxy:
        made = SlowProxy(lambda: lambda octets: 0.0, lambda: 0.0)
        await made.start()
        return made

    device = EntityId.parse("02-53-4D-54-10-00-00-00")
    async with Stream1Ends(tmp_path, device, keep=True, make_proxy=proxy) as ends:
        message = StoryMessage("oadrDistributeEvent", True, b"<oadrPayload/>")
        assert await ends.carry(0, message)
        (pid,) = (end.pid for name, end in ends.ends.items() if name == "cem")
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(EngineError, match="has ended"):
            await ends.carry(0, message)
