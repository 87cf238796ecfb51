"""Messages up, acknowledgements and restarts, in virtual time."""

from __future__ import annotations

import asyncio
import random

import pytest

from dsrsp import GatewayNotRunning, StorageError, UnknownMessage
from smtunnel import DeliveryState

LARGE = random.Random(1).randbytes(4000)


async def take(gateway, count=1):
    found = []
    async for received in gateway.received():
        found.append(received)
        if len(found) == count:
            break
    return found


def test_a_message_of_several_fragments_in_any_order_doubled(world):
    async def main():
        async with world.gateway() as gateway:
            alerts = world.dcc.alerts(LARGE, 10) + world.dcc.alerts(
                LARGE, 10, user=world.load_controller
            )
            assert len(alerts) > 6
            random.Random(2).shuffle(alerts)
            for alert in alerts:
                gateway.receive_untrusted(alert)
            (received,) = await take(gateway)
            assert (received.message, received.peer) == (LARGE, world.device)
            assert received.received_at > 0
            await received.ack()
            for alert in alerts:
                gateway.receive_untrusted(alert)
            assert not gateway._inbox_open

    world.run(main)
    assert [event["state"] for event in world.journal.of("message")] == ["reassembled"]


def test_partial_messages_survive_a_restart_and_replays_stay_out(world):
    async def main():
        alerts = world.dcc.alerts(LARGE, 10)
        async with world.gateway() as gateway:
            for alert in alerts[:-1]:
                gateway.receive_untrusted(alert)
        async with world.gateway() as gateway:
            for alert in alerts[:2]:
                gateway.receive_untrusted(alert)
            gateway.receive_untrusted(alerts[-1])
            (received,) = await take(gateway)
            assert received.message == LARGE
            await received.ack()
        async with world.gateway() as gateway:
            for alert in alerts:
                gateway.receive_untrusted(alert)
            assert not gateway._inbox_open

    world.run(main)


def test_a_message_is_handed_out_again_after_a_restart_until_it_is_acknowledged(world):
    async def main():
        refs = []
        async with world.gateway() as gateway:
            for alert in world.dcc.alerts(b"one", 10) + world.dcc.alerts(
                b"two", 11, tunnel_message_id=1
            ):
                gateway.receive_untrusted(alert)
            first, _ = await take(gateway, 2)
            await first.ack()
            await first.ack()  # twice changes nothing
            refs.append(first.ref)
        async with world.gateway() as gateway:
            (second,) = await take(gateway)
            assert second.message == b"two"
            refs.append(second.ref)
        async with world.gateway() as gateway:
            (again,) = await take(gateway)
            assert again.ref == second.ref
            await again.ack()
        async with world.gateway() as gateway:
            assert not gateway._inbox_open
        assert len(set(refs)) == 2

    world.run(main)


def test_an_answer_marks_the_message_that_it_answers(world):
    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"question")
            assert (await handle.wait()).state is DeliveryState.REASSEMBLED
            gateway.receive_untrusted(world.dcc.alerts(b"answer", 10)[0])
            (received,) = await take(gateway)
            with pytest.raises(UnknownMessage):
                await received.ack(answers="no such message")
            await received.ack(answers=handle.ref)
            assert handle.status.state is DeliveryState.ANSWERED
            ref = handle.ref
        async with world.gateway() as gateway:
            assert gateway.handle(ref).status.state is DeliveryState.ANSWERED
            assert not gateway._inbox_open

    world.run(main)


def test_an_answer_to_a_message_that_failed_is_acknowledged_all_the_same(world):
    world.dcc.results = lambda pre: (2,)

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"question")
            await handle.wait()
            gateway.receive_untrusted(world.dcc.alerts(b"answer", 10)[0])
            (received,) = await take(gateway)
            await received.ack(answers=handle.ref)
            assert handle.status.state is DeliveryState.FAILED

    world.run(main)


def test_an_early_answer_ends_the_waiting(world):
    """The answer may be here before the device's response to the last fragment."""
    world.dcc.latency_s = 100.0

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"question")
            await asyncio.sleep(1)
            gateway.receive_untrusted(world.dcc.alerts(b"answer", 10)[0])
            (received,) = await take(gateway)
            await received.ack(answers=handle.ref)
            assert (await handle.wait()).state is DeliveryState.ANSWERED
            await asyncio.sleep(200)
            assert handle.status.state is DeliveryState.ANSWERED

    world.run(main)


def test_a_message_whose_fragments_stay_away_expires(world):
    async def main():
        async with world.gateway() as gateway:
            alerts = world.dcc.alerts(LARGE, 10)
            gateway.receive_untrusted(alerts[0])
            await asyncio.sleep(4 * 86400)
            for alert in alerts:
                gateway.receive_untrusted(alert)
            assert not gateway._inbox_open

    world.run(main)
    assert [event["state"] for event in world.journal.of("message")] == ["expired"]


def test_a_message_expires_also_while_the_gateway_is_down(world):
    async def main():
        async with world.gateway() as gateway:
            gateway.receive_untrusted(world.dcc.alerts(LARGE, 10)[0])
        await asyncio.sleep(4 * 86400)
        async with world.gateway() as gateway:
            rows = gateway._storage_open.tunnel_rows()
            assert not [key for key, _ in rows if "/f/" in key]

    world.run(main)
    assert [event["state"] for event in world.journal.of("message")] == ["expired"]


def test_what_does_not_decode_is_rejected_and_the_rest_goes_on(world):
    async def main():
        async with world.gateway() as gateway:
            # A data message in one fragment that says zlib and is none.
            gateway.receive_untrusted(world.dcc.alert("uAAA" + "AAAA", 10))
            gateway.receive_untrusted(world.dcc.alert("not of this protocol {}", 11))
            gateway.receive_untrusted(world.dcc.alerts(b"good", 12, tunnel_message_id=3)[0])
            (received,) = await take(gateway)
            assert received.message == b"good"

    world.run(main)
    assert "rejected" in [event["state"] for event in world.journal.of("message")]


def test_what_cannot_be_stored_is_not_taken_and_comes_again(world, monkeypatch):
    async def main():
        async with world.gateway() as gateway:
            storage = gateway._storage_open
            alerts = world.dcc.alerts(LARGE, 10)
            gateway.receive_untrusted(alerts[0])

            def full(*given, **more):
                raise StorageError("disk full")

            with monkeypatch.context() as patch:
                patch.setattr(storage, "keep", full)
                for alert in alerts[1:]:
                    with pytest.raises(StorageError):
                        gateway.receive_untrusted(alert)
            assert not gateway._inbox_open
            for alert in alerts[1:]:
                gateway.receive_untrusted(alert)
            (received,) = await take(gateway)
            assert received.message == LARGE

    world.run(main)


def test_a_response_that_cannot_be_stored_comes_again(world, monkeypatch):
    dcc = world.dcc
    dcc.results = lambda pre: None

    async def main():
        async with world.gateway() as gateway:
            storage = gateway._storage_open
            handle = await gateway.send(world.device, b"x")
            await asyncio.sleep(1)
            octets = dcc.service_response(dcc.signed[0].pre_command, (0,))

            def full(*given, **more):
                raise StorageError("disk full")

            with monkeypatch.context() as patch:
                patch.setattr(storage, "keep", full)
                with pytest.raises(StorageError):
                    gateway.receive_untrusted(octets)
                assert handle.status.state is DeliveryState.ACCEPTED
            gateway.receive_untrusted(octets)
            return await handle.wait()

    assert world.run(main).state is DeliveryState.REASSEMBLED


def test_a_disk_that_is_full_for_a_while_delays_what_is_sent(world, monkeypatch):
    async def main():
        async with world.gateway() as gateway:
            storage = gateway._storage_open
            handle = await gateway.send(world.device, b"x")

            def full(*given, **more):
                raise StorageError("disk full")

            with monkeypatch.context() as patch:
                patch.setattr(storage, "keep", full)
                await asyncio.sleep(100)
                assert not handle.status.final
                assert world.dcc.sent == []
            return await handle.wait()

    assert world.run(main).state is DeliveryState.REASSEMBLED


def test_too_many_unacknowledged_messages_are_not_taken(world):
    async def main():
        async with world.gateway(max_unacknowledged_messages=1) as gateway:
            one, two = world.dcc.alerts(b"one", 1) + world.dcc.alerts(
                b"two", 2, tunnel_message_id=1
            )
            gateway.receive_untrusted(one)
            with pytest.raises(StorageError, match="wait for an ack"):
                gateway.receive_untrusted(two)
            (received,) = await take(gateway)
            await received.ack()
            gateway.receive_untrusted(two)
            (received,) = await take(gateway)
            assert received.message == b"two"

    world.run(main)


def test_too_many_unacknowledged_octets_are_not_taken(world):
    """A CEM's alert of a few hundred octets can become 65,536 in memory."""

    async def main():
        zeros, two = bytes(1000), world.dcc.alerts(b"two", 2, tunnel_message_id=1)[0]
        async with world.gateway(max_unacknowledged_octets=1000) as gateway:
            gateway.receive_untrusted(world.dcc.alerts(zeros, 1)[0])
            with pytest.raises(StorageError, match="1000 octets of received messages wait"):
                gateway.receive_untrusted(two)
        # After a restart they wait still.
        async with world.gateway(max_unacknowledged_octets=1000) as gateway:
            with pytest.raises(StorageError, match="wait for an ack"):
                gateway.receive_untrusted(two)
            (received,) = await take(gateway)
            assert received.message == zeros
            await received.ack()
            gateway.receive_untrusted(two)
            (received,) = await take(gateway)
            assert received.message == b"two"

    world.run(main)


def test_receiving_ends_with_the_gateway(world):
    async def main():
        async with world.gateway() as gateway:
            task = asyncio.create_task(take(gateway))
            await asyncio.sleep(1)
        assert await task == []
        with pytest.raises(GatewayNotRunning):
            await take(gateway)
        with pytest.raises(StorageError):
            gateway.receive_untrusted(b"")

    world.run(main)
