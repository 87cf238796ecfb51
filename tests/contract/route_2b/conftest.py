"""A DSRSP and some CEMs of a test PKI, with servers and clients of route 2b."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect

from cem.route_2b import Phase, Route2bClient, Route2bClientConfig, RouteState
from dsrsp.route_2b import Route2bServer, Route2bServerConfig
from gbcs import CraFlag, EcdsaSigner, EntityId, KeyStore, KeyUsage, Role
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_SUPPLIER, Issued, TestPki
from gbcs.route_2b import Route2bMessage, sign_route_2b
from gbcs.route_2b_link import ClientHandshake
from gbcs.route_2b_texts import SUBPROTOCOL, route_2b_path
from lab.pki_files import write_server_certificate
from smtunnel.routes import RouteOffer

NOW = time.time()
OTHER_DEVICE = EntityId(bytes.fromhex("02534d5400000002"))
STRANGER = EntityId(bytes.fromhex("02534d5400000099"))
PATIENCE_S = 20


def _pems(*issued: Issued) -> dict[str, bytes]:
    return {f"{item.file_stem}.pem": item.certificate.pem for item in issued}


def _keys(*issued: Issued) -> dict[str, bytes]:
    return {f"{item.file_stem}.key": item.private_key_pem for item in issued}


class Parties:
    """Everybody's keys."""

    def __init__(self, folder: Path) -> None:
        self.supplier, self.device, self.other_device = (
            DEFAULT_SUPPLIER, DEFAULT_DEVICE, OTHER_DEVICE,
        )  # fmt: skip
        usage = KeyUsage.DIGITAL_SIGNATURE
        self.pki = TestPki.create(random_octets=random.Random(3).randbytes, clock=lambda: NOW)
        self.signs = {
            entity_id: self.pki.issue_device(entity_id, usage)
            for entity_id in (self.device, self.other_device)
        }
        self.supplier_signs = self.pki.issue_organisation(self.supplier, Role.SUPPLIER, usage)
        self.agrees = self.pki.issue_device(
            EntityId(bytes.fromhex("02534d5400000003")), KeyUsage.KEY_AGREEMENT
        )
        self.public = _pems(
            *self.pki.authorities(), self.supplier_signs, self.agrees, *self.signs.values()
        )
        self.server_store = self.store(self.supplier_signs)
        self.certificate, self.private_key = write_server_certificate(folder / "one")
        self.other_certificate, self.other_key = write_server_certificate(folder / "two")

    def store(self, *with_key: Issued) -> KeyStore:
        return KeyStore.from_pems(self.public | _keys(*with_key), test_mode=True)

    def device_store(self, device: EntityId) -> KeyStore:
        return self.store(self.signs[device])

    def signer(self, entity_id: EntityId) -> EcdsaSigner:
        issued = self.supplier_signs if entity_id == self.supplier else self.signs[entity_id]
        return EcdsaSigner(issued.private_key)

    def command(self, counter: int, payload: bytes, device: EntityId | None = None) -> bytes:
        """Return a signed message from the DSRSP to a device."""
        message = Route2bMessage(
            self.supplier, device or self.device, counter, CraFlag.COMMAND, payload
        )
        return sign_route_2b(message, self.signer(self.supplier)).to_bytes()

    def alert(self, counter: int, payload: bytes, device: EntityId | None = None) -> bytes:
        """Return a signed message from a device to the DSRSP."""
        device = device or self.device
        message = Route2bMessage(device, self.supplier, counter, CraFlag.ALERT, payload)
        return sign_route_2b(message, self.signer(device)).to_bytes()


class Told:
    """Keeps what it is told; whoever waits for something gets it."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self._more = asyncio.Event()
        self._read = 0

    def tell(self, *event: Any) -> None:
        self.events.append(event)
        self._more.set()

    async def next(self, kind: str) -> tuple[Any, ...]:
        """Return the next event of a kind that was not given out yet."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                while self._read < len(self.events):
                    event = self.events[self._read]
                    self._read += 1
                    if event[0] == kind:
                        return event
                self._more.clear()
                await self._more.wait()


class ServerApplication(Told):
    def __init__(self) -> None:
        super().__init__()
        self.offers = {1}
        self.hold: asyncio.Event | None = None

    def check_offer(self, device: EntityId, offer: int) -> str | None:
        return None if offer in self.offers else f"offer {offer} is not known, or over"

    def connected(self, device: EntityId, *, message_octets: int) -> None:
        self.tell("connected", device, message_octets)

    async def received(self, device: EntityId, message: Route2bMessage) -> None:
        if self.hold is not None:
            await self.hold.wait()
        self.tell("received", device, message.originator_counter, message.payload)

    def disconnected(self, device: EntityId, reason: str) -> None:
        self.tell("disconnected", device, reason)


class ClientApplication(Told):
    def connected(self, *, message_octets: int) -> None:
        self.tell("connected", message_octets)

    async def received(self, message: Route2bMessage) -> None:
        self.tell("received", message.originator_counter, message.payload)

    def disconnected(self, reason: str) -> None:
        self.tell("disconnected", reason)

    def changed(self, state: RouteState) -> None:
        self.tell(state.phase.name, state.reason, state.retry_in_s)


@dataclass
class Bench:
    """Starts servers and clients, ends them at the end."""

    parties: Parties
    stack: contextlib.AsyncExitStack
    application: ServerApplication = field(default_factory=ServerApplication)

    async def server(
        self, *, keystore: KeyStore | None = None, clock: Callable[[], float] = time.time,
        status_source: Any = None, application: Any = None, signer: Any = None, **settings: Any,
    ) -> Route2bServer:  # fmt: skip
        fields: dict[str, Any] = {
            "listen": "127.0.0.1:0",
            "certificate": str(self.parties.certificate),
            "private_key": str(self.parties.private_key),
            "addresses": ["wss://127.0.0.1:1"],
        }
        return await self.stack.enter_async_context(
            Route2bServer(
                Route2bServerConfig(**fields | settings),
                keystore or self.parties.server_store,
                self.parties.supplier,
                application or self.application,
                signer=signer,
                clock=clock,
                status_source=status_source,
            )
        )

    def offer(self, *servers: Route2bServer, number: int = 1, **changes: Any) -> RouteOffer:
        fields: dict[str, Any] = {
            "offer": number,
            "addresses": tuple(f"wss://127.0.0.1:{server.port}" for server in servers),
            "pins": tuple({pin for server in servers for pin in server.pins}),
            "not_before": 0,
            "not_after": 2**40,
            "message_octets": 1 << 20,
        }
        return RouteOffer(**fields | changes)

    def client(
        self, offer: RouteOffer | None = None, *, device: EntityId | None = None,
        keystore: KeyStore | None = None, dialler: Any = None,
        clock: Callable[[], float] = time.time, **settings: Any,
    ) -> tuple[Route2bClient, ClientApplication]:  # fmt: skip
        device = device or self.parties.device
        application = ClientApplication()
        fields: dict[str, Any] = {"reconnect_min_s": 0.01, "reconnect_max_s": 0.05}
        client = Route2bClient(
            Route2bClientConfig(**fields | settings),
            keystore or self.parties.device_store(device),
            device,
            self.parties.supplier,
            application,
            changed=application.changed,
            dialler=dialler,
            clock=clock,
        )
        if offer is not None:
            client.use(offer)
        task = asyncio.get_running_loop().create_task(client.run())

        async def end() -> None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        self.stack.push_async_callback(end)
        return client, application

    async def up(
        self, server: Route2bServer, **options: Any
    ) -> tuple[Route2bClient, ClientApplication]:
        client, told = self.client(self.offer(server), **options)
        await told.next(Phase.UP.name)
        await self.application.next("connected")
        return client, told

    async def raw(
        self, server: Route2bServer, device: EntityId | None = None, **options: Any
    ) -> ClientConnection:
        """Open a bare WebSocket to a server, for whoever does not keep the rules."""
        context = options.pop("ssl", None) or loose_context()
        path = options.pop("path", route_2b_path(device or self.parties.device))
        fields = {"subprotocols": [SUBPROTOCOL], "compression": None, "proxy": None}
        return await self.stack.enter_async_context(
            connect(
                f"wss://127.0.0.1:{server.port}{path}", ssl=context, close_timeout=1,
                **fields | options,
            )
        )  # fmt: skip

    def handshake(self, server: Route2bServer, **changes: Any) -> ClientHandshake:
        device = changes.get("device", self.parties.device)
        fields: dict[str, Any] = {
            "device": device,
            "dsrsp": self.parties.supplier,
            "offer": 1,
            "message_octets": 1 << 20,
            "certificate_sha256": server.pins[0],
            "signer": self.parties.signer(self.parties.device),
            "dsrsp_key": self.parties.supplier_signs.certificate.public_key,
            "random_octets": random.Random(5).randbytes,
        }
        return ClientHandshake(**fields | changes)

    async def proven(self, server: Route2bServer, **changes: Any) -> ClientConnection:
        """Open a bare WebSocket and do the handshake properly."""
        socket = await self.raw(server, changes.get("device"))
        handshake = self.handshake(server, **changes)
        await socket.send(handshake.begin())
        await socket.send(handshake.receive_untrusted_challenge(await socket.recv()))
        handshake.receive_untrusted_welcome(await socket.recv())
        await self.application.next("connected")
        return socket


def loose_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def changed(text: str, **fields: object) -> str:
    return json.dumps({**json.loads(text), **fields})


@pytest.fixture(scope="session")
def parties(tmp_path_factory: pytest.TempPathFactory) -> Parties:
    return Parties(tmp_path_factory.mktemp("route-2b"))


@pytest.fixture
async def bench(parties: Parties) -> AsyncIterator[Bench]:
    async with contextlib.AsyncExitStack() as stack:
        yield Bench(parties, stack)


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime.fromtimestamp(NOW, UTC)
