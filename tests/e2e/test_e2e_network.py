"""Daemons with a network that takes time between them, and a kill while everything is under way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lab.journal import read_journal
from lab.local_system import LocalSystem

MESSAGE = bytes(range(256))  # a few fragments down

SLOW = """
summary = "A minute each way, nothing else."
default_region = "far"

[regions.far.latency_down]
value = { kind = "constant", value_s = 60.0 }
standing = "assumed"
source = "long enough for a kill in between"

[regions.far.latency_up]
value = { kind = "constant", value_s = 60.0 }
standing = "assumed"
source = "long enough for a kill in between"
"""


@pytest.fixture
def slow_system(tmp_path: Path, new_system: Callable[..., LocalSystem]) -> LocalSystem:
    (tmp_path / "slow.toml").write_text(SLOW, encoding="utf-8")
    settings = 'network = "slow.toml"\nnetwork_time_scale = 60.0'
    return new_system(settings={"simulator": settings})


async def test_commands_under_way_survive_a_kill_of_the_dcc(slow_system: LocalSystem) -> None:
    async with slow_system as system:
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            sent = await dsrsp.send(MESSAGE, to=system.identities.device_id, compression="zlib")
            async for status in dsrsp.statuses(sent["ref"]):
                if status["fragments_accepted"] >= 1:
                    break
            assert status["fragments_delivered"] == 0
            await system.kill("dcc-sim")
            await system.start("dcc-sim")
            received = await cem.received(wait_s=30)
            assert [r.message for r in received] == [MESSAGE]
            await cem.ack(received[0].ref)
        events = [
            event
            for event in read_journal(system.journal("dcc-sim"))
            if event["event"] == "network"
        ]
        assert {event["outcome"] for event in events} == {"arrived"}
        assert {event["wan_s"] for event in events} == {60.0}


async def test_a_message_through_an_assumed_network(
    new_system: Callable[..., LocalSystem],
) -> None:
    settings = 'network = "gb-assumed"\nnetwork_seed = 3\nnetwork_time_scale = 60.0'
    async with (
        new_system(settings={"simulator": settings}) as system,
        system.control("dsrsp") as dsrsp,
        system.control("cem") as cem,
    ):
        # What this network loses on the way down, which is little, the DCC sends again.
        await dsrsp.send(b"down", to=system.identities.device_id)
        received = await cem.received(wait_s=60)
        assert [r.message for r in received] == [b"down"]
