"""The simulator as a whole: restarts, users that are away, a disk that fails, sockets."""

from __future__ import annotations

import asyncio
import logging
import socket

import aiohttp
import pytest

from dcc_sim import ConfigError, DccSimError, Simulator, StoreError
from dcc_sim.store import SqliteStore
from gbcs.errors import CertificateError
from gbcs.keystore import KeyStore


async def test_posting_is_retried_until_taken(start_world):
    async with start_world() as world, world.device() as device:
        world.receiver.statuses = [500, 400, 302]
        await device.connection.send(device.alert(supplementary_remote_party_id=None).to_bytes())
        seen = [await world.receiver.next() for _ in range(4)]
        assert len({str(posted.message.response_id) for _, posted in seen}) == 1


async def test_restart_with_a_posting_and_a_command_pending(start_world, receiver):
    port = receiver.port
    async with start_world() as world:
        await world.send(counter=1)
        async with world.device() as device:
            receiver.statuses = [503] * 1000
            await device.connection.send(
                device.alert(supplementary_remote_party_id=None).to_bytes()
            )
            await receiver.next()
            await device.next_command()
    receiver.statuses = []
    while not receiver.posts.empty():
        receiver.posts.get_nowait()
    assert receiver.port == port
    async with start_world() as world:
        _, posted = await receiver.next()
        assert posted.message.request_id is None
        async with world.device() as device:
            command = await device.next_command()
            await device.connection.send(device.response(command).to_bytes())
            _, posted = await receiver.next()
            assert posted.message.response_code == "I0"
        answer = await world.client.send(
            "serviceS", world.requests.octets(world.requests.signed(1))
        )
        assert answer.message.response_code == "E47"


@pytest.mark.parametrize(("connected", "code"), [(False, "E20"), (True, "E21")])
async def test_time_out_is_told(start_world, connected, code):
    async with start_world(device_connect_timeout_s=0.05, device_response_timeout_s=0.05) as world:
        if connected:
            async with world.device() as device:
                await world.send()
                await device.next_command()
                path, posted = await world.receiver.next()
        else:
            await world.send()
            path, posted = await world.receiver.next()
        assert (path, posted.message.response_code) == ("/supplier", code)


async def test_disk_that_fails_loses_nothing(start_world, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    async with start_world() as world, world.device() as device:
        octets = world.requests.octets(world.requests.transform())
        with monkeypatch.context() as patch:

            def fail(_store):
                raise StoreError("the disk is full")

            patch.setattr(SqliteStore, "commit", fail)
            status, body = await world.client.post("serviceT", octets)
            assert status == 503
            assert b"the disk is full" in body
        # Nothing was promised, so nothing is remembered: the same request is new.
        await world.send(counter=1)
        command = await device.next_command()
        await device.connection.send(device.response(command).to_bytes())
        assert (await world.receiver.next())[1].message.response_code == "I0"
    assert any("the disk is full" in line for line in caplog.messages)
    assert not [record for record in caplog.records if record.exc_info]


async def test_error_inside_is_told_and_survived(start_world, monkeypatch, caplog):
    caplog.set_level(logging.ERROR)
    async with start_world() as world:
        octets = world.requests.octets(world.requests.transform())
        with monkeypatch.context() as patch:

            def fail(*_arguments, **_more):
                raise ZeroDivisionError("a fault of ours")

            patch.setattr("dcc_sim.core.dcc.RequestDesk.receive_untrusted_request", fail)
            status, _ = await world.client.post("serviceT", octets)
            assert status == 503
        await world.send()
    assert any("a fault of ours" in line for line in caplog.messages)


async def test_sockets_may_be_handed_over(make_config, pki):
    with (
        socket.create_server(("127.0.0.1", 0)) as duis,
        socket.create_server(("127.0.0.1", 0)) as devices,
    ):
        ports = (duis.getsockname()[1], devices.getsockname()[1])
        config = make_config(duis_listen="fd:7", device_listen="fd:8")
        async with Simulator(
            config, pki.keystore, duis_listener=duis, device_listener=devices
        ) as simulator:
            assert (simulator.duis_port, simulator.device_port) == ports


@pytest.mark.parametrize("listen", ["nonsense", "127.0.0.1:x", ":", "127.0.0.1:99999"])
async def test_impossible_address(make_config, pki, listen):
    with pytest.raises(ConfigError, match="listen"):
        async with Simulator(make_config(duis_listen=listen), pki.keystore):
            pass


async def test_address_in_use(make_config, pki):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigError, match="cannot listen"):
            async with Simulator(make_config(device_listen=listen), pki.keystore):
                pass


async def test_ports_are_known_once_started(make_config, pki):
    simulator = Simulator(make_config(), pki.keystore)
    with pytest.raises(DccSimError):
        _ = simulator.duis_port


async def test_missing_keys_of_the_dcc(make_config):
    with pytest.raises(CertificateError):
        async with Simulator(make_config(), KeyStore.from_pems({}, test_mode=True)):
            pass


async def test_stopping_with_a_request_under_way(start_world, requests):
    async with start_world() as world:
        octets = requests.octets(requests.transform())
        tasks = [asyncio.ensure_future(world.client.post("serviceT", octets)) for _ in range(5)]
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for outcome in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(outcome, aiohttp.ClientError) or outcome[0] in (200, 503)
