"""Deadlines, priorities and superseding, in virtual time and over restarts."""

from __future__ import annotations

import asyncio
import math

import pytest

from dsrsp import MessageNotSendable, UnknownMessage
from dsrsp.core.request import State
from dsrsp.ports import Changes
from dsrsp.store import SqliteStore
from gbcs.messages import parse_untrusted
from smtunnel import DeliveryState
from smtunnel.records import Cancelled

LONG = bytes(range(256)) * 4
HOUR = 3600.0


def now() -> float:
    return 1_800_000_000.0 + asyncio.get_running_loop().time()


def cancelled(world):
    return [record for _, record in world.dcc.control if isinstance(record, Cancelled)]


def test_an_expired_message_is_not_sent_and_nobody_is_told(world):
    """No fragment was signed, as the DCC was away: the CEM knows nothing of the message."""
    world.dcc.on_transform = lambda request: None

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, LONG, deadline=now() + 60)
            status = await handle.wait()
            assert asyncio.get_running_loop().time() == pytest.approx(60, abs=0.1)
            world.dcc.on_transform = None
            before = len(world.dcc.posted)
            await asyncio.sleep(2 * HOUR)
            assert len(world.dcc.posted) == before
            return status

    status = world.run(main)
    assert status.state is DeliveryState.FAILED
    assert "its deadline passed, 2027-01-15T08:01:00Z" in status.reason
    assert "nothing of it was given to the DCC" in status.reason
    assert world.dcc.signed == []
    assert cancelled(world) == []


def test_a_message_that_expires_on_its_way_is_taken_back_from_the_cem(world):
    """Two fragments are answered, two wait for the device: the others never go."""
    world.dcc.results = lambda pre: (0,) * len(pre.labels) if len(world.dcc.signed) < 3 else None

    async def main():
        async with world.gateway(fragments_in_flight=2) as gateway:
            handle = await gateway.send(world.device, LONG, deadline=now() + 60)
            status = await handle.wait()
            sent = len(world.dcc.signed)
            await asyncio.sleep(3 * HOUR)
            assert len(world.dcc.signed) == sent
            return status

    status = world.run(main)
    assert status.state is DeliveryState.FAILED
    assert f"of its {status.fragments_total} fragments the CEM has 2" in status.reason
    assert [record.message.tunnel_message_id for record in cancelled(world)] == [
        status.tunnel_message_id
    ]


def test_a_signed_command_that_the_dcc_did_not_take_is_not_posted_after_the_deadline(world):
    world.dcc.on_send = lambda request: None

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"short", deadline=now() + 60)
            status = await handle.wait()
            world.dcc.on_send = None
            before = len(world.dcc.posted)
            await asyncio.sleep(3 * HOUR)
            assert len(world.dcc.posted) == before
            return status

    status = world.run(main)
    assert "it was given to the DCC and may still reach the CEM" in status.reason
    # A single fragment is never held there as a part.
    assert cancelled(world) == []


def test_a_deadline_holds_over_a_restart(world):
    world.dcc.on_transform = lambda request: None

    async def begin():
        async with world.gateway() as gateway:
            return (await gateway.send(world.device, b"short", deadline=now() + 60)).ref

    ref = world.run(begin)
    world.dcc.on_transform = None
    world.dcc.posted.clear()

    async def go_on():
        await asyncio.sleep(61)
        async with world.gateway() as gateway:
            status = gateway.handle(ref).status
            await asyncio.sleep(HOUR)
            return status

    status = world.run(go_on)
    assert status.state is DeliveryState.FAILED
    assert "its deadline passed" in status.reason
    assert world.dcc.posted == []


def test_what_was_signed_before_a_restart_is_not_posted_when_its_message_has_ended(world):
    """As a kill leaves it between the end of a message and the end of its requests."""
    world.dcc.on_send = lambda request: None

    async def begin():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"short", deadline=now() + 60)
            await asyncio.sleep(1)
            return handle.ref

    ref = world.run(begin)
    store = SqliteStore(world.state, supplier_id=world.supplier)
    [request] = [one for one in store.unfinished_requests() if one.message_ref == ref]
    assert request.state is State.SIGNED
    store.close()

    async def expire():
        await asyncio.sleep(61)
        async with world.gateway():
            pass

    world.run(expire)
    store = SqliteStore(world.state, supplier_id=world.supplier)
    again = store.request(request.originator_counter)
    assert again is not None
    assert again.state is State.WITHDRAWN
    # The kill came before that was stored.
    store.keep(Changes(requests=(request,)), now=0.0)
    store.close()
    world.dcc.on_send = None
    world.dcc.posted.clear()

    async def go_on():
        await asyncio.sleep(120)
        async with world.gateway():
            await asyncio.sleep(HOUR)

    world.run(go_on)
    assert world.dcc.posted == []


@pytest.mark.parametrize("deadline", [1.0, math.nan, math.inf])
def test_a_deadline_that_cannot_be_met_is_refused(world, deadline):
    async def main():
        async with world.gateway() as gateway:
            with pytest.raises(MessageNotSendable, match="deadline"):
                await gateway.send(world.device, b"x", deadline=deadline)

    world.run(main)


def test_a_message_in_time_is_delivered_and_its_deadline_forgotten(world):
    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, LONG, deadline=now() + 600)
            status = await handle.wait()
            await asyncio.sleep(HOUR)
            assert handle.status is status
            return status

    assert world.run(main).state is DeliveryState.REASSEMBLED


# Superseding


def test_a_newer_message_about_the_same_supersedes_the_older(world):
    world.dcc.results = lambda pre: None

    async def main():
        async with world.gateway() as gateway:
            old = await gateway.send(world.device, LONG, topic="event 7")
            other = await gateway.send(world.device, b"other", topic="event 8")
            elsewhere = await gateway.send(world.other_device, b"x", topic="event 7")
            await asyncio.sleep(10)
            world.dcc.results = lambda pre: (0,) * len(pre.labels)
            new = await gateway.send(world.device, b"newer", topic="event 7")
            assert old.status.state is DeliveryState.FAILED
            assert old.status.reason.startswith(f"superseded by {new.ref}: of its ")
            assert not other.status.final
            assert not elsewhere.status.final
            assert (await new.wait()).state is DeliveryState.REASSEMBLED
            await asyncio.sleep(10)
            return old.status

    old = world.run(main)
    assert [record.message.tunnel_message_id for record in cancelled(world)] == [
        old.tunnel_message_id
    ]


def test_a_topic_is_remembered_over_a_restart(world):
    world.dcc.on_transform = lambda request: None

    async def begin():
        async with world.gateway() as gateway:
            return (await gateway.send(world.device, LONG, topic="event 7")).ref

    old = world.run(begin)

    async def go_on():
        async with world.gateway() as gateway:
            new = await gateway.send(world.device, b"newer", topic="event 7")
            return gateway.handle(old).status, new.ref

    status, new = world.run(go_on)
    assert status.reason == f"superseded by {new}: nothing of it was given to the DCC"
    assert cancelled(world) == []


def test_a_message_that_is_delivered_is_left(world, caplog):
    async def main():
        async with world.gateway() as gateway:
            old = await gateway.send(world.device, b"old", topic="t")
            await old.wait()
            with caplog.at_level("INFO", "dsrsp"):
                await gateway.send(world.device, b"new", topic="t", supersedes=old.ref)
            assert old.status.state is DeliveryState.REASSEMBLED
            assert f"message {old.ref} is reassembled: nothing to supersede" in caplog.text

    world.run(main)


def test_what_cannot_be_superseded_is_refused_and_changes_nothing(world):
    world.dcc.on_transform = lambda request: None

    async def main():
        async with world.gateway() as gateway:
            old = await gateway.send(world.other_device, b"old", topic="t")
            with pytest.raises(UnknownMessage):
                await gateway.send(world.device, b"new", supersedes="0123")
            with pytest.raises(MessageNotSendable, match="cannot supersede"):
                await gateway.send(world.device, b"new", supersedes=old.ref)
            with pytest.raises(MessageNotSendable, match="octets"):
                await gateway.send(world.other_device, bytes(70_000), topic="t")
            with pytest.raises(MessageNotSendable, match="compression"):
                await gateway.send(world.other_device, b"new", "best", topic="t")
            with pytest.raises(MessageNotSendable, match="topic"):
                await gateway.send(world.device, b"new", topic="")
            assert not old.status.final

    world.run(main)


# Priority


def test_a_higher_priority_overtakes_a_long_message_to_the_same_device(world):
    async def main():
        async with world.gateway(fragments_in_flight=1) as gateway:
            slow = await gateway.send(world.device, LONG)
            await asyncio.sleep(0.5)
            urgent = await gateway.send(world.device, b"urgent", priority=1)
            await urgent.wait()
            assert not slow.status.final
            assert slow.status.fragments_delivered <= 2
            assert (await slow.wait()).state is DeliveryState.REASSEMBLED

    world.run(main)


def test_a_higher_priority_overtakes_what_the_pace_holds_up_to_other_devices(world):
    async def main():
        async with world.gateway(fragments_per_window=3, window_s=160.0) as gateway:
            slow = await gateway.send(world.device, LONG)
            await asyncio.sleep(5)
            urgent = await gateway.send(world.other_device, b"urgent", priority=-1)
            more_urgent = await gateway.send(world.other_device, b"more", priority=5)
            await more_urgent.wait()
            took = asyncio.get_running_loop().time()
            assert not urgent.status.final
            assert not slow.status.final
            return took

    assert world.run(main) < 200


def test_a_posted_command_is_of_the_counter_that_was_asked(world):
    """The fragments that go after an overtaking keep their message's block of counters."""

    async def main():
        async with world.gateway(fragments_in_flight=1) as gateway:
            slow = await gateway.send(world.device, LONG)
            await asyncio.sleep(0.5)
            await gateway.send(world.device, b"urgent", priority=1)
            return await slow.wait()

    status = world.run(main)
    counters = [one.pre_command.originator_counter for one in world.dcc.signed]
    assert len(counters) == len(set(counters))
    first = status.first_counter
    assert set(range(first, first + status.fragments_total)) <= set(counters)
    assert parse_untrusted(world.dcc.signed[0].to_bytes()) == world.dcc.signed[0]
