"""The device link against devices who do it wrong."""

from __future__ import annotations

import asyncio
import json
import logging
import os

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from dcc_sim.device_server import DeviceServer
from gbcs.device_link import (
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    Challenge,
    device_path,
    make_proof,
    parse_untrusted_challenge,
)


@pytest.fixture(autouse=True)
def no_traceback(caplog):
    caplog.set_level(logging.INFO)
    yield
    assert not [record for record in caplog.get_records("call") if record.exc_info]


async def still_serves(world):
    async with world.device() as device:
        await world.send(counter=999)
        command = await device.next_command()
        await device.connection.send(device.response(command).to_bytes())
        assert (await world.receiver.next())[1].message.response_code == "I0"


async def closed_with(connection):
    async def read_all():
        while True:
            await connection.recv()

    with pytest.raises(ConnectionClosed) as caught:
        await asyncio.wait_for(read_all(), 10)
    assert caught.value.rcvd is not None
    return caught.value.rcvd


@pytest.mark.parametrize("path", ["/", "/device/", "/device/xyz", "/device/00-C0", "/other"])
async def test_wrong_path(world, path):
    with pytest.raises(InvalidStatus) as caught:
        async with connect(world.device_url(path)):
            pass
    assert caught.value.response.status_code == 404


PROOFS = {
    "another nonce": lambda kit: make_proof(
        Challenge(bytes(32)), kit["device"], kit["pki"].device_signer(), os.urandom(32)
    ).build(),
    "another device's key": lambda kit: make_proof(
        kit["challenge"],
        kit["device"],
        kit["pki"].device_signer(kit["other_device"]),
        os.urandom(32),
    ).build(),
    "another EUI in the proof": lambda kit: make_proof(
        kit["challenge"], kit["other_device"], kit["pki"].device_signer(), os.urandom(32)
    ).build(),
    "not JSON": lambda kit: "garbage",
    "JSON, no proof": lambda kit: json.dumps({"type": "welcome"}),
    "deep JSON": lambda kit: "[" * 1000,
    "binary": lambda kit: b"\x00" * 100,
}


@pytest.mark.parametrize("name", PROOFS)
async def test_proof_that_does_not_hold(world, pki, names, caplog, name):
    async with connect(world.device_url(device_path(names["device"]))) as connection:
        challenge = parse_untrusted_challenge(await connection.recv())
        await connection.send(PROOFS[name](names | {"pki": pki, "challenge": challenge}))
        assert (await closed_with(connection)).code == CLOSE_REFUSED
    assert any("refused device" in line for line in caplog.messages)
    await still_serves(world)


async def test_device_not_in_the_inventory(world, pki, names):
    async with connect(world.device_url(device_path(names["stranger"]))) as connection:
        challenge = parse_untrusted_challenge(await connection.recv())
        proof = make_proof(challenge, names["stranger"], pki.device_signer(), os.urandom(32))
        await connection.send(proof.build())
        closed = await closed_with(connection)
    assert closed.code == CLOSE_REFUSED
    assert "inventory" in closed.reason


async def test_no_proof_in_time(start_world, names):
    async with start_world(device_proof_timeout_s=0.05) as world:
        async with connect(world.device_url(device_path(names["device"]))) as connection:
            closed = await closed_with(connection)
        assert (closed.code, closed.reason) == (CLOSE_REFUSED, "no proof in time")


async def test_leaving_before_the_proof(world, names):
    async with connect(world.device_url(device_path(names["device"]))) as connection:
        await connection.recv()
    await still_serves(world)


async def test_text_after_the_welcome(world):
    async with world.device() as device:
        await device.connection.send("text")
        assert (await closed_with(device.connection)).code == 1003
    await still_serves(world)


async def test_oversized_message(world):
    async with world.device() as device:
        await device.connection.send(b"x" * 1201)
        assert (await closed_with(device.connection)).code == 1009
    await still_serves(world)


async def test_garbage_then_the_truth_on_one_connection(world, caplog):
    async with world.device() as device:
        await world.send(counter=1)
        command = await device.next_command()
        response = device.response(command).to_bytes()
        forged = bytearray(response)
        forged[-1] ^= 1
        for octets in (b"", b"\xff" * 1200, response[:-1], bytes(forged)):
            await device.connection.send(octets)
        await device.connection.send(response)
        await device.connection.send(response)
        _, posted = await world.receiver.next()
        assert posted.message.body.gbcs_payload == response
        # The replay is no second answer: what comes next is the alert.
        await device.connection.send(device.alert(supplementary_remote_party_id=None).to_bytes())
        _, posted = await world.receiver.next()
        assert posted.message.request_id is None
    assert sum("dropped a message" in line for line in caplog.messages) == 5


async def test_newer_connection_takes_over(world):
    async with world.device() as older, world.device() as newer:
        closed = await closed_with(older.connection)
        assert closed.code == CLOSE_REPLACED
        await world.send()
        await newer.next_command()


async def test_command_goes_out_again_when_the_connection_broke(world):
    async with world.device() as device:
        await world.send()
        first = await device.next_command()
    async with world.device() as device:
        assert await device.next_command() == first
        await device.connection.send(device.response(first).to_bytes())
        assert (await world.receiver.next())[1].message.response_code == "I0"


@pytest.mark.parametrize("octets", [b"\xff" * 100, b"GET /device/x HTTP/1.1\r\n\r\n", b"\r\n"])
async def test_garbage_instead_of_websocket(world, octets, caplog):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.simulator.device_port)
    writer.write(octets)
    writer.write_eof()
    async with asyncio.timeout(10):
        await reader.read()
    writer.close()
    await writer.wait_closed()
    assert any("refused a connection from" in line for line in caplog.messages)
    assert not [line for line in caplog.messages if "\n" in line]
    await still_serves(world)


async def test_device_that_floods_us_keeps_nobody_from_their_turn(names):
    class Endless:
        def __aiter__(self):
            return self

        async def __anext__(self):
            return b"garbage without end"

    class Engine:
        def message(self, device, octets):
            turns.append(octets)

    turns = []
    server = DeviceServer(random_octets=os.urandom, proof_timeout_s=1)
    server._engine = Engine()
    reading = asyncio.create_task(server._read(Endless(), names["device"]))
    for _ in range(10):
        await asyncio.sleep(0)
    assert 0 < len(turns) <= 10
    reading.cancel()
