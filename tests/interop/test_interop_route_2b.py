"""Route 2b written for Node.js with the package ws, from the specification alone, against ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cem.route_2b import Route2bClient, Route2bClientConfig, RouteState
from dsrsp.route_2b import Route2bServer, Route2bServerConfig
from gbcs import CraFlag, EcdsaSigner, EntityId, KeyStore, KeyUsage, Role
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_SUPPLIER, Issued, TestPki
from gbcs.route_2b import Route2bMessage, sign_route_2b
from lab.pki_files import write_server_certificate
from smtunnel.routes import RouteOffer

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("route_2b_node.js")
VECTORS = ROOT / "specs/vectors/route-2b.json"
PACKAGE = "ws@8"
PAYLOADS = (b"", b"x", bytes(range(256)) * 3, b"\x2b" * 70_000, bytes(900_000))
PATIENCE_S = 30


def found(name: str) -> str:
    """Find a program; in CI its absence is a failure."""
    program = shutil.which(name)
    if program is None:
        reason = f"no {name}: install nodejs, version 18 or later, with npm"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return program


@pytest.fixture(scope="session")
def ws_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the package ws, fetched for this run."""
    found("node")
    folder = tmp_path_factory.mktemp("ws")
    arguments = ["install", "--prefix", folder, "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(
        [found("npm"), *arguments, PACKAGE], cwd=folder, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()
    return folder / "node_modules" / "ws"


def test_it_passes_the_vectors() -> None:
    done = subprocess.run(
        [found("node"), PROGRAM, "vectors", VECTORS], capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr.decode()
    told, vectors = json.loads(done.stdout), json.loads(VECTORS.read_text(encoding="utf-8"))
    assert all(told["messages"])
    assert len(told["messages"]) == len(vectors["messages"])
    for kind in ("refused_messages", "refused_texts"):
        expected = {case["name"]: case["close_code"] for case in vectors[kind]}
        assert dict(zip(expected, told[kind], strict=True)) == expected
    assert told["handshake"] == [None] * 4
    assert told["signed"] == [
        vectors["handshake"]["client_signs"], vectors["handshake"]["server_signs"],
    ]  # fmt: skip
    assert all(told["refused_paths"])
    assert told["try_later"] == [case["wait_s"] for case in vectors["try_later"]]


class World:
    """Keys of one DSRSP and one CEM, and what our ends tell."""

    def __init__(self, folder: Path) -> None:
        pki = TestPki.create(random_octets=random.Random(4).randbytes, clock=time.time)
        usage = KeyUsage.DIGITAL_SIGNATURE
        self.device = pki.issue_device(DEFAULT_DEVICE, usage)
        self.supplier = pki.issue_organisation(DEFAULT_SUPPLIER, Role.SUPPLIER, usage)
        self.public = [*pki.authorities(), self.device, self.supplier]
        self.certificate, self.key = write_server_certificate(folder)
        self.told: asyncio.Queue[tuple[Any, ...]] = asyncio.Queue()

    def store(self, own: Issued) -> KeyStore:
        pems = {item.file_stem: item.certificate.pem for item in self.public}
        return KeyStore.from_pems(pems | {"own.key": own.private_key_pem}, test_mode=True)

    def message(self, cra: CraFlag, counter: int, payload: bytes) -> bytes:
        ends = [(DEFAULT_SUPPLIER, self.supplier), (DEFAULT_DEVICE, self.device)]
        if cra is CraFlag.ALERT:
            ends.reverse()
        message = Route2bMessage(ends[0][0], ends[1][0], counter, cra, payload)
        return sign_route_2b(message, EcdsaSigner(ends[0][1].private_key)).to_bytes()

    def settings(self, me: Issued, peer: Issued, **more: Any) -> dict[str, Any]:
        spki = peer.certificate.public_key.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        )
        assert me.certificate.entity_id is not None
        assert peer.certificate.entity_id is not None
        return {
            "me": me.certificate.entity_id.hex,
            "peer": peer.certificate.entity_id.hex,
            "key": me.private_key_pem.decode(),
            "peerKey": spki.decode(),
            "offer": 1,
            "messageOctets": 1 << 20,
            **more,
        }

    async def next(self, kind: str) -> tuple[Any, ...]:
        async with asyncio.timeout(PATIENCE_S):
            while (event := await self.told.get())[0] != kind:
                continue
            return event


class Dsrsp:
    """Our server's application."""

    def __init__(self, world: World) -> None:
        self._told = world.told

    def check_offer(self, device: EntityId, offer: int) -> str | None:
        return None if offer == 1 else "another"

    def connected(self, device: EntityId, *, message_octets: int) -> None:
        self._told.put_nowait(("connected", message_octets))

    async def received(self, device: EntityId, message: Route2bMessage) -> None:
        self._told.put_nowait(("received", message.originator_counter, message.payload))

    def disconnected(self, device: EntityId, reason: str) -> None:
        self._told.put_nowait(("disconnected", reason))


class Cem:
    """Our client's application."""

    def __init__(self, world: World) -> None:
        self._told = world.told

    def connected(self, *, message_octets: int) -> None:
        self._told.put_nowait(("connected", message_octets))

    async def received(self, message: Route2bMessage) -> None:
        self._told.put_nowait(("received", message.originator_counter, message.payload))

    def disconnected(self, reason: str) -> None:
        self._told.put_nowait(("disconnected", reason))

    def changed(self, state: RouteState) -> None:
        self._told.put_nowait((state.phase.name, state.reason))


class Node:
    """The running program."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        async with asyncio.timeout(PATIENCE_S):
            said: dict[str, Any] = json.loads(await self._process.stdout.readline())
        return said


@contextlib.asynccontextmanager
async def node(what: str, settings: dict[str, Any]) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        found("node"), PROGRAM, what,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings).encode() + b"\n")
    try:
        yield Node(process)
    finally:
        process.stdin.close()
        await process.wait()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@contextlib.asynccontextmanager
async def our_server(world: World) -> AsyncIterator[Route2bServer]:
    config = Route2bServerConfig(
        listen="127.0.0.1:0",
        certificate=str(world.certificate),
        private_key=str(world.key),
        addresses=["wss://127.0.0.1:1"],
    )
    keystore = world.store(world.supplier)
    async with Route2bServer(config, keystore, DEFAULT_SUPPLIER, Dsrsp(world)) as server:
        yield server


async def test_its_client_and_our_server(world: World, ws_package: Path) -> None:
    async with our_server(world) as server:
        settings = world.settings(
            world.device, world.supplier,
            ws=str(ws_package), port=server.port, pin=server.pins[0].hex(),
        )  # fmt: skip
        async with node("client", settings) as client:
            assert await client.says() == {"open": True, "message_octets": 1 << 20}
            assert await world.next("connected") == ("connected", 1 << 20)
            for counter, payload in enumerate(PAYLOADS, 1):
                server.send(DEFAULT_DEVICE, world.message(CraFlag.COMMAND, counter, payload))
                assert await world.next("received") == ("received", counter, payload)
                said = await client.says()
                assert said == {"received": len(payload), "counter": str(counter)}
            # What is forged it refuses by the specification's code.
            forged = bytearray(world.message(CraFlag.COMMAND, 9, b"x"))
            forged[-1] ^= 1
            server.send(DEFAULT_DEVICE, bytes(forged))
            assert (await client.says())["refused"] == 4401
            assert "4401" in (await world.next("disconnected"))[1]
        async with node("client", settings | {"offer": 2}) as client:
            said = await client.says()
            assert (said["closed"], said["reason"]) == (4410, "another")
        async with node("client", settings | {"pin": "00" * 32}) as client:
            assert await client.says() == {"pin": server.pins[0].hex()}


async def test_our_client_and_its_server(world: World, ws_package: Path) -> None:
    settings = world.settings(
        world.supplier, world.device,
        ws=str(ws_package), cert=str(world.certificate), cert_key=str(world.key),
    )  # fmt: skip
    async with our_server(world) as ours:
        pins = ours.pins
    async with node("server", settings) as server:
        port = (await server.says())["port"]
        application = Cem(world)
        client = Route2bClient(
            Route2bClientConfig(),
            world.store(world.device),
            DEFAULT_DEVICE,
            DEFAULT_SUPPLIER,
            application,
            changed=application.changed,
        )
        offer = RouteOffer(
            offer=1,
            addresses=(f"wss://127.0.0.1:{port}",),
            pins=pins,
            not_before=0,
            not_after=2**40,
            message_octets=1 << 20,
        )
        client.use(offer)
        async with asyncio.TaskGroup() as group:
            running = group.create_task(client.run())
            assert await world.next("connected") == ("connected", 1 << 20)
            assert (await server.says())["open"]
            for counter, payload in enumerate(PAYLOADS, 1):
                assert client.send(world.message(CraFlag.ALERT, counter, payload))
                assert await world.next("received") == ("received", counter, payload)
                said = await server.says()
                assert said == {"received": len(payload), "counter": str(counter)}
            forged = bytearray(world.message(CraFlag.ALERT, 9, b"x"))
            forged[-1] ^= 1
            assert client.send(bytes(forged))
            assert (await server.says())["refused"] == 4401
            assert "4401" in (await world.next("disconnected"))[1]
            running.cancel()
