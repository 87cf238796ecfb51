"""Processes killed in the middle (SIGKILL): nothing lost, nothing twice, no counter used again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from random import Random

import pytest

from lab.journal import read_journal
from lab.local_system import LocalSystem

MESSAGE = Random(1).randbytes(1600)  # does not shrink: 21 fragments down, 3 up


def _used_counters(system: LocalSystem, hop: str) -> list[int]:
    return [
        event["originator_counter"]
        for event in read_journal(system.journal("dcc-sim"))
        if event["event"] == "gbcs" and event["hop"] == hop
    ]


@pytest.mark.parametrize("victim", ["dsrsp", "cem", "dcc-sim"])
async def test_a_message_down_survives_a_kill_in_the_middle(
    new_system: Callable[..., LocalSystem], victim: str
) -> None:
    async with new_system() as system:
        device = system.identities.device_id
        async with system.control("dsrsp") as dsrsp:
            ref = (await dsrsp.send(MESSAGE, to=device, compression="zlib"))["ref"]
            async for status in dsrsp.statuses(ref):
                if status["fragments_delivered"] >= 3:
                    break
        await system.kill(victim)
        await system.start(victim)
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            received = await cem.received(wait_s=30)
            assert [r.message for r in received] == [MESSAGE]
            await cem.ack(received[0].ref)
            async for status in dsrsp.statuses(ref):
                if status["state"] in ("REASSEMBLED", "FAILED"):
                    break
            assert status["state"] == "REASSEMBLED", status
            second = await dsrsp.send(b"second", to=device)
            received = await cem.received(wait_s=30)
            assert [r.message for r in received] == [b"second"]
            assert second["first_counter"] is None or second["first_counter"] > 0
        # The same number may be seen again only in the very same command, sent once more.
        commands = {
            (event["originator_counter"], event["octets"])
            for event in read_journal(system.journal("dcc-sim"))
            if event["event"] == "gbcs" and event["hop"] == "signed_pre_command"
        }
        assert max(Counter(counter for counter, _ in commands).values()) == 1


@pytest.mark.parametrize("victim", ["dsrsp", "cem"])
async def test_a_received_message_is_given_out_again_until_acknowledged(
    new_system: Callable[..., LocalSystem], victim: str
) -> None:
    async with new_system() as system:
        to = system.identities.device_id if victim == "cem" else None
        sender = "dsrsp" if victim == "cem" else "cem"
        async with system.control(sender) as client:
            await client.send(b"hello", to=to)
        async with system.control(victim) as client:
            assert [r.message for r in await client.received(wait_s=30)] == [b"hello"]
        await system.kill(victim)
        await system.start(victim)
        async with system.control(victim) as client:
            received = await client.received(wait_s=30)
            assert [r.message for r in received] == [b"hello"]
            await client.ack(received[0].ref)
        await system.kill(victim)
        await system.start(victim)
        async with system.control(victim) as client, system.control(sender) as other:
            await other.send(b"next", to=to)
            assert [r.message for r in await client.received(wait_s=30)] == [b"next"]


async def test_a_message_up_that_was_accepted_survives_a_kill_of_the_cem(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with new_system() as system:
        await system.kill("dcc-sim")  # so that nothing can leave the CEM
        async with system.control("cem") as cem:
            await cem.send(MESSAGE, compression="zlib")
        await system.kill("cem")
        await system.start("dcc-sim")
        await system.start("cem")
        async with system.control("dsrsp") as dsrsp:
            assert [r.message for r in await dsrsp.received(wait_s=30)] == [MESSAGE]
        counters = _used_counters(system, "alert")
        assert counters == sorted(set(counters))
