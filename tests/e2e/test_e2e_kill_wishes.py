"""Deadlines and superseding over SIGKILL: what stands after the restart is whole, and told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest

from lab.control_client import ControlClient
from lab.errors import ControlError
from lab.local_system import LocalSystem

OLD = Random(1).randbytes(1600)  # does not shrink: 21 fragments down, 3 up
NEW = b"what holds now"
# Who was away for a moment is tried again soon, and what came is confirmed at once.
IMPATIENT = {
    "dsrsp": "retry_max_s = 0.2\nreceipts = 'each'",
    "cem": "reconnect_min_s = 0.1\nreconnect_max_s = 0.2",
}


async def final(client: ControlClient, ref: str) -> dict[str, Any]:
    """The last status of a message, as soon as it is there."""
    async for status in client.statuses(ref):
        if status["final"] or status["state"] == "REASSEMBLED":
            return status
    raise AssertionError("the statuses ended without an end")


@pytest.mark.parametrize("sender", ["dsrsp", "cem"])
async def test_what_expires_while_its_gateway_is_killed_is_never_sent(
    new_system: Callable[..., LocalSystem], sender: str
) -> None:
    async with new_system(settings=IMPATIENT) as system:
        to = system.identities.device_id if sender == "dsrsp" else None
        other = "cem" if sender == "dsrsp" else "dsrsp"
        await system.kill("dcc-sim")  # so that nothing can leave
        async with system.control(sender) as client:
            late = (await client.send(OLD, to=to, deadline=time.time() + 1.0))["ref"]
            kept = (await client.send(NEW, to=to, deadline=time.time() + 3600))["ref"]
        await system.kill(sender)
        await system.start(sender)
        async with system.control(sender) as client:
            status = await final(client, late)
            assert status["state"] == "FAILED"
            assert "its deadline passed" in status["reason"]
            if sender == "dsrsp":
                assert "nothing of it was given to the DCC" in status["reason"]
            # Only now there is a way.
            await system.start("dcc-sim")
            assert (await final(client, kept))["state"] == "REASSEMBLED"
        async with system.control(other) as client:
            assert [r.message for r in await client.received(wait_s=30)] == [NEW]


async def test_what_was_superseded_stays_so_over_a_kill(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with new_system(settings=IMPATIENT) as system:
        device = system.identities.device_id
        async with system.control("dsrsp") as dsrsp:
            old = (await dsrsp.send(OLD, to=device, compression="zlib", topic="event 1"))["ref"]
            async for status in dsrsp.statuses(old):
                if status["fragments_delivered"] >= 3:
                    break
            new = (await dsrsp.send(NEW, to=device, topic="event 1"))["ref"]
            await system.kill("dsrsp")
        await system.start("dsrsp")
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            assert (await final(dsrsp, new))["state"] == "REASSEMBLED"
            status = await final(dsrsp, old)
            assert status["state"] == "FAILED"
            assert f"superseded by {new}" in status["reason"]
            assert f"of its {status['fragments_total']} fragments the CEM has" in status["reason"]
            assert [r.message for r in await cem.received(wait_s=30)] == [NEW]


def changed(path: Path) -> Callable[[], bool]:
    """Tells whether a file is another than now."""

    def look() -> tuple[int, int]:
        found = path.stat()
        return found.st_size, found.st_mtime_ns

    before = look()
    return lambda: look() != before


async def test_a_kill_in_the_middle_of_superseding_leaves_one_of_both(
    new_system: Callable[..., LocalSystem],
) -> None:
    """Either the older is superseded and the newer is there, or neither has happened."""
    async with new_system(settings=IMPATIENT) as system:
        device = system.identities.device_id
        # Killed as it is asked; at the first octet that it writes; when it has told its journal.
        marks = [None, system.folder / "dsrsp.sqlite-wal", system.journal("dsrsp")]
        for turn, mark in enumerate(marks):
            topic = f"event {turn}"
            await system.kill("dcc-sim")  # so that both are still on their way
            async with system.control("dsrsp") as dsrsp:
                old = (await dsrsp.send(b"old %d" % turn, to=device, topic=topic))["ref"]
                reached = (lambda: True) if mark is None else changed(mark)
                sending = asyncio.create_task(dsrsp.send(b"new %d" % turn, to=device, topic=topic))
                await asyncio.sleep(0)
                while not reached():  # noqa: ASYNC110 (another process writes that file)
                    await asyncio.sleep(0)
                await system.kill("dsrsp")
                with contextlib.suppress(ControlError):
                    await sending
            await system.start("dcc-sim")
            await system.start("dsrsp")
            async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
                status = await final(dsrsp, old)
                (received,) = await cem.received(wait_s=30)
                await cem.ack(received.ref)
                if status["state"] == "FAILED":
                    assert "superseded by" in status["reason"]
                    assert received.message == b"new %d" % turn
                else:
                    assert received.message == b"old %d" % turn
                    assert sending.exception() is not None
        # The journal is written after the disk: the last of the three was superseded for sure.
        assert status["state"] == "FAILED"
