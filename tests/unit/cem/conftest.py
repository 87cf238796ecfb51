"""What all tests of the CEM share: a small world of keys, and what its other members send."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from cem import CemConfig, Gateway
from cem.core.admission import Identities
from cem.core.downlink import Downlink
from cem.core.uplink import Uplink
from cem.credentials import load_credentials
from cem.ports import Store
from cem.store import SqliteStore
from gbcs import (
    Alert,
    EcdsaSigner,
    EntityId,
    Label,
    PreCommand,
    Response,
    add_mac,
    parse_untrusted,
    shared_secret,
    sign_pre_command,
    verify_message,
)
from gbcs.certificates import KeyUsage, Role
from gbcs.counters import OriginatorCounter
from gbcs.device_link import (
    CLOSE_REFUSED,
    Challenge,
    build_welcome,
    parse_untrusted_path,
    parse_untrusted_proof,
    verify_proof,
)
from gbcs.errors import SignatureInvalid
from gbcs.keystore import KeyStore
from gbcs.pki import TestPki
from smtunnel import ECS46A, Limits, Originator, encode_message, payload_to_labels

NOW = 1_700_000_000.0


class World:
    """Everybody's keys."""

    def __init__(self) -> None:
        self.device_id = EntityId.parse("02-53-4D-54-00-00-00-01")
        self.other_device_id = EntityId.parse("02-53-4D-54-00-00-00-02")
        self.supplier_id = EntityId.parse("90-B3-D5-1F-30-01-00-00")
        self.load_controller_id = EntityId.parse("90-B3-D5-1F-30-01-00-08")
        self.broker_id = EntityId.parse("90-B3-D5-1F-30-00-00-02")
        pki = TestPki.create(random_octets=os.urandom, clock=lambda: NOW)
        signing, agreement = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT
        supplier = pki.issue_organisation(self.supplier_id, Role.SUPPLIER, signing)
        broker = pki.issue_organisation(self.broker_id, Role.ACCESS_CONTROL_BROKER, agreement)
        device = {usage: pki.issue_device(self.device_id, usage) for usage in (signing, agreement)}
        self.supplier_signer = EcdsaSigner(supplier.private_key)
        self.device_public_key = device[signing].certificate.public_key
        self.broker_secret = shared_secret(
            broker.private_key, device[agreement].certificate.public_key
        )
        self.pems = {
            **{f"ca{n}": item.certificate.pem for n, item in enumerate(pki.authorities())},
            "supplier": supplier.certificate.pem,
            "broker": broker.certificate.pem,
        }
        for usage, item in device.items():
            self.pems[f"{usage.name}.pem"] = item.certificate.pem
            self.pems[f"{usage.name}.key"] = item.private_key_pem
        self.keystore = KeyStore.from_pems(self.pems, test_mode=True)

    def config(self, **changes: object) -> CemConfig:
        fields: dict[str, object] = {
            "device_id": self.device_id,
            "supplier_id": self.supplier_id,
            "load_controller_id": self.load_controller_id,
            "state": ":memory:",
            "reconnect_min_s": 0.001,
            "reconnect_max_s": 0.002,
        }
        return CemConfig(**(fields | changes))  # type: ignore[arg-type]

    def store(self, path: str | Path = ":memory:", **changes: int) -> SqliteStore:
        return SqliteStore(str(path), self.device_id, **({"replay_window": 1024} | changes))

    def gateway(self, config: CemConfig, **changes: Any) -> Gateway:
        return Gateway(config, self.keystore, **({"clock": lambda: NOW} | changes))

    def downlink(self, store: Store, *, limits: Limits | None = None, inbox: int = 10) -> Downlink:
        credentials = load_credentials(self.config(), self.keystore, NOW)
        return Downlink(
            credentials.admission,
            credentials.signer,
            store,
            limits=limits or Limits(),
            unacknowledged_messages=inbox,
        )

    def uplink(self, store: Store, *, message_octets: int = 65536) -> Uplink:
        credentials = load_credentials(self.config(), self.keystore, NOW)
        return Uplink(
            Identities(self.device_id, self.supplier_id, self.load_controller_id),
            credentials.signer,
            OriginatorCounter(store.counters),
            message_octets=message_octets,
            last_tunnel_message_id=store.last_tunnel_message_id(),
        )

    def command(
        self,
        counter: int,
        labels: str | tuple[tuple[int, str], ...],
        *,
        originator_id: EntityId | None = None,
        target_id: EntityId | None = None,
        signer: EcdsaSigner | None = None,
        broker_secret: bytes | None = None,
    ) -> bytes:
        """One command, of a carrier payload or of labels."""
        pairs = payload_to_labels(labels) if isinstance(labels, str) else labels
        pre_command = PreCommand(
            originator_id=originator_id or self.supplier_id,
            target_id=target_id or self.device_id,
            originator_counter=counter,
            labels=tuple(Label(index, text) for index, text in pairs),
        )
        signed = sign_pre_command(pre_command, signer or self.supplier_signer)
        return add_mac(signed, broker_secret or self.broker_secret).to_bytes()

    def commands(self, message: bytes, first_counter: int, message_id: int = 0) -> list[bytes]:
        """All the commands of one message, in order."""
        return [
            self.command(first_counter + index, payload)
            for index, payload in enumerate(self.payloads(message, message_id))
        ]

    def payloads(self, message: bytes, message_id: int = 0) -> tuple[str, ...]:
        return encode_message(
            message, carrier=ECS46A, originator=Originator.DSRSP, tunnel_message_id=message_id
        ).payloads

    def response(self, octets: bytes) -> Response:
        """A response of our device, its signature checked."""
        response = parse_untrusted(octets)
        assert isinstance(response, Response)
        verify_message(response, self.device_public_key)
        assert (response.originator_id, response.target_id) == (self.device_id, self.supplier_id)
        return response

    def alert(self, octets: bytes) -> Alert:
        """An alert of our device, its signature checked."""
        alert = parse_untrusted(octets)
        assert isinstance(alert, Alert)
        verify_message(alert, self.device_public_key)
        assert (alert.originator_id, alert.target_id) == (self.device_id, self.supplier_id)
        assert alert.supplementary_remote_party_id == self.load_controller_id
        return alert


class FakeHub:
    """A communications hub at the end of a real WebSocket; proven devices are put in `devices`."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.devices: asyncio.Queue[ServerConnection] = asyncio.Queue()
        self.refused = 0
        self.port = 0
        self._over = asyncio.Event()
        self._server: Server | None = None

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._over.clear()
        self._server = await serve(self._serve, "127.0.0.1", self.port, compression=None)
        self.port = next(iter(self._server.sockets)).getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._over.set()
        self._server.close()
        await self._server.wait_closed()

    async def _serve(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        entity_id = parse_untrusted_path(connection.request.path)
        challenge = Challenge(os.urandom(32))
        await connection.send(challenge.build())
        proof = parse_untrusted_proof(await connection.recv())
        try:
            verify_proof(proof, challenge, entity_id, self.world.device_public_key)
        except SignatureInvalid:
            self.refused += 1
            await connection.close(CLOSE_REFUSED, "not your key")
            return
        await connection.send(build_welcome())
        self.devices.put_nowait(connection)
        waits = [
            asyncio.ensure_future(wait) for wait in (self._over.wait(), connection.wait_closed())
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture
async def hub(world: World) -> AsyncIterator[FakeHub]:
    fake = FakeHub(world)
    await fake.start()
    yield fake
    await fake.stop()


@pytest.fixture
def world_folder(world: World, tmp_path: Path) -> Path:
    """The world's keys for a process of its own."""
    folder = tmp_path / "keys"
    folder.mkdir(mode=0o700)
    for name, pem in world.pems.items():
        (folder / name).write_bytes(pem)
    return folder
