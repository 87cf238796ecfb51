"""What was taken for sending goes on after a restart, from each state."""

from __future__ import annotations

import asyncio

import pytest

from dsrsp import (
    ConfigurationError,
    GatewayNotRunning,
    MessageNotSendable,
    SendError,
    StorageError,
    UnknownDevice,
    UnknownMessage,
)
from gbcs.entity_id import EntityId
from smtunnel import DeliveryState

MESSAGE = bytes(range(256)) * 2


def restart_after(world, seconds, *, message=MESSAGE, before=None, **settings):
    """Stop the gateway after some seconds, start another, and return the final status."""

    async def main():
        async with world.gateway(**settings) as gateway:
            handle = await gateway.send(world.device, message)
            ref = handle.ref
            await asyncio.sleep(seconds)
        if before is not None:
            await before()
        async with world.gateway(**settings) as gateway:
            return await gateway.handle(ref).wait()

    return world.run(main)


@pytest.mark.parametrize("seconds", [0.0, 0.005, 0.015, 0.025, 0.5, 1.03, 2.5, 4.1, 60.0])
def test_a_restart_at_any_moment_loses_nothing_and_repeats_octets_only(world, seconds):
    status = restart_after(world, seconds, resume_grace_s=0.001)
    assert status.state in (DeliveryState.REASSEMBLED, DeliveryState.ANSWERED)
    by_counter = {}
    for one in world.dcc.signed:
        by_counter.setdefault(one.pre_command.originator_counter, set()).add(one.to_bytes())
    assert all(len(octets) == 1 for octets in by_counter.values())
    assert len(by_counter) == status.fragments_total


def test_a_signed_request_is_posted_again_as_it_was(world):
    dcc = world.dcc
    dcc.on_send = lambda request: None

    async def mended():
        dcc.on_send = lambda request: dcc.deliver(request) or dcc.refusal(request.request_id, "E47")

    status = restart_after(world, 0.5, message=b"x", before=mended)
    assert status.state is DeliveryState.REASSEMBLED
    assert len(dcc.sent) >= 2
    assert len(set(dcc.sent)) == 1
    assert len(dcc.transformed) == 1


def test_an_accepted_request_is_not_posted_again(world):
    world.dcc.latency_s = 50.0
    status = restart_after(world, 10.0, message=b"x")
    assert status.state is DeliveryState.REASSEMBLED
    assert len(world.dcc.sent) == 1


def test_after_a_long_stop_an_accepted_request_gets_its_grace(world):
    world.dcc.latency_s = 10_000.0

    async def long_stop():
        await asyncio.sleep(9_960)

    status = restart_after(world, 10.0, message=b"x", before=long_stop)
    assert status.state is DeliveryState.REASSEMBLED


def test_counters_never_repeat_over_restarts(world):
    async def main():
        counters = []
        for _ in range(3):
            async with world.gateway() as gateway:
                handle = await gateway.send(world.device, b"x")
                counters.append((await handle.wait()).first_counter)
        return counters

    counters = world.run(main)
    assert counters == sorted(set(counters))


def test_counters_begin_above_the_floor(world):
    async def main():
        async with world.gateway(counter_floor=5000) as gateway:
            return await (await gateway.send(world.device, b"x")).wait()

    assert world.run(main).first_counter == 5002  # 5001 carried our capabilities


def test_old_ended_messages_are_forgotten_and_counters_still_rise(world):
    async def main():
        async with world.gateway() as gateway:
            refs, counters = [], []
            for _ in range(3):
                handle = await gateway.send(world.device, b"x")
                counters.append((await handle.wait()).first_counter)
                refs.append(handle.ref)
        await asyncio.sleep(31 * 86400)
        async with world.gateway() as gateway:
            for ref in refs:
                with pytest.raises(UnknownMessage, match="30 days"):
                    gateway.handle(ref)
            assert gateway._storage_open.request(counters[0]) is None
            handle = await gateway.send(world.device, b"x")
            assert (await handle.wait()).first_counter > max(counters)

    world.run(main)


def test_a_limit_lowered_over_a_restart_does_not_touch_what_was_taken(world):
    world.dcc.latency_s = 5.0

    async def main():
        async with world.gateway() as gateway:
            await gateway.send(world.device, b"first")
            handle = await gateway.send(world.device, MESSAGE)
            ref = handle.ref
        async with world.gateway(max_message_octets=100) as gateway:
            return await gateway.handle(ref).wait()

    assert world.run(main).state is DeliveryState.REASSEMBLED


# What is not taken


@pytest.mark.parametrize(
    ("device", "message", "compression", "error", "says"),
    [
        ("nobody!!", b"x", "auto", UnknownDevice, "certificate"),
        ("\x90\xb3\xd5\x1f\x30\x01\x00\x00", b"x", "auto", UnknownDevice, "device"),
        (None, bytes(70_000), "auto", MessageNotSendable, "65536"),
        (None, b"x", "best", MessageNotSendable, "auto, zlib, dictionary, none"),
    ],
)
def test_what_cannot_be_sent_is_refused_at_once(world, device, message, compression, error, says):
    to = world.device if device is None else EntityId(device.encode("latin-1"))

    async def main():
        async with world.gateway() as gateway:
            with pytest.raises(error, match=says):
                await gateway.send(to, message, compression)

    world.run(main)
    assert world.journal.events == []


def test_too_many_queued_messages_are_not_taken(world):
    async def main():
        async with world.gateway(max_queued_messages_per_device=2) as gateway:
            for _ in range(2):
                await gateway.send(world.device, b"x")
            with pytest.raises(SendError, match="wait for"):
                await gateway.send(world.device, b"x")
            await gateway.send(world.other_device, b"x")

    world.run(main)


def test_a_message_that_cannot_be_stored_is_not_taken(world, monkeypatch):
    async def main():
        async with world.gateway() as gateway:
            storage = gateway._storage_open

            def full(*given, **more):
                raise StorageError("disk full")

            with monkeypatch.context() as patch:
                patch.setattr(storage, "keep", full)
                with pytest.raises(StorageError):
                    await gateway.send(world.device, b"x")
            await asyncio.sleep(1000)

    world.run(main)
    assert world.dcc.posted == []
    assert world.journal.events == []


def test_two_gateways_cannot_share_a_state(world):
    async def main():
        async with world.gateway():
            with pytest.raises(StorageError, match="another process"):
                await world.gateway().__aenter__()

    world.run(main)


def test_a_gateway_that_does_not_run_says_so(world):
    async def main():
        gateway = world.gateway()
        with pytest.raises(GatewayNotRunning):
            await gateway.send(world.device, b"x")
        with pytest.raises(GatewayNotRunning):
            gateway.handle("x")

    world.run(main)


def test_watching_ends_with_the_gateway(world):
    world.dcc.results = lambda pre: None

    async def main():
        async with world.gateway() as gateway:
            handle = await gateway.send(world.device, b"x")
            waiting = asyncio.create_task(handle.wait())
            await asyncio.sleep(1)
        with pytest.raises(GatewayNotRunning, match="accepted"):
            await waiting
        with pytest.raises(GatewayNotRunning):
            await handle.wait()

    world.run(main)


def test_missing_keys_are_named_at_the_start(world, pki):
    world.keystore = pki.keystore(without=".key")

    async def main():
        with pytest.raises(ConfigurationError, match="digital-signature key and an XML-signing"):
            await world.gateway().__aenter__()

    world.run(main)


def test_own_certificates_that_are_out_of_time_are_told_at_the_start(world, caplog):
    async def main():
        async with world.gateway():
            assert not caplog.records
        late = world.gateway()
        late._clock = lambda: 4e9  # in 2096
        async with late:
            pass

    world.run(main)
    errors = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(errors) == 2
    assert all("will be refused" in error and "not valid at" in error for error in errors)


@pytest.mark.parametrize(
    "changes",
    [
        {"load_controller_id": EntityId.parse("90-B3-D5-1F-30-01-00-00")},
        {"response_timeout_s": 0.0},
        {"fragments_in_flight": 0},
        {"messages_in_flight": 256},
        {"fragments_per_window": 0},
        {"dcc_url": "dcc.example"},
        {"receive_path": "smartdcc"},
    ],
)
def test_impossible_settings_are_refused(world, changes):
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        world.gateway(**changes)
