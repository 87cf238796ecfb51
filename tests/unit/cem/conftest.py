"""What all tests of the CEM share: a small world of keys, and what its other members send."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import Server, ServerConnection, serve

from cem import CemConfig, Gateway
from cem.core.downlink import Downlink
from cem.core.routes import Offers
from cem.core.tunnel import TunnelEnd
from cem.core.uplink import AlertBuilder
from cem.credentials import load_credentials
from cem.errors import LinkError
from cem.ports import Store
from cem.route_2b.offers import judge_offer
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
from gbcs.steady import SteadyClock
from smtunnel import ECS46A, Limits, Originator, encode_message, payload_to_labels
from smtunnel.effects import Answer, Effects
from smtunnel.endpoint import Endpoint
from smtunnel.policy import Confirmation, Result, SendPolicy
from smtunnel.receipts import ReceiptSettings
from smtunnel.records import ReceiptPolicy

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

    def tunnel(
        self, store: Store, *, limits: Limits | None = None, told: Any = lambda effects: None
    ) -> TunnelEnd:
        config = self.config()
        credentials = load_credentials(config, self.keystore, NOW)
        counter = OriginatorCounter(store.counters)

        def new_endpoint() -> Endpoint:
            return Endpoint(
                side=Originator.CEM,
                counters=counter,
                policy=config.send_policy(),
                random_fraction=lambda: 0.5,
                limits=limits,
            )

        return TunnelEnd(
            new_endpoint,
            AlertBuilder(credentials.identities, credentials.signer),
            store,
            peer=self.supplier_id.octets,
            window_s=config.alert_window_s,
            offers=Offers(store.offer(), judge_offer, wanted=config.use_route_2b),
            wall=lambda: NOW,
            clock=SteadyClock(lambda: NOW, lambda: 0.0),
            clock_set=lambda ahead_s: None,
            told=told,
        )

    def downlink(
        self,
        store: Store,
        *,
        limits: Limits | None = None,
        inbox: int = 10,
        tunnel: TunnelEnd | None = None,
    ) -> Downlink:
        credentials = load_credentials(self.config(), self.keystore, NOW)
        return Downlink(
            credentials.admission,
            credentials.signer,
            store,
            tunnel or self.tunnel(store, limits=limits),
            unacknowledged_messages=inbox,
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


class Issuer:
    """Originator Counters of a supplier without a disk."""

    def __init__(self, first: int) -> None:
        self.counter = OriginatorCounter(self, floor=first - 1)

    def load(self) -> int:
        return 0

    def reserve(self, up_to: int) -> None:
        pass


class Dsrsp:
    """The other end of the tunnel: alerts in, commands out, in memory.

    Args:
        receipts: what it does about receipts.
        batch_s: how long it gathers them.
    """

    def __init__(
        self,
        world: World,
        *,
        receipts: ReceiptPolicy = ReceiptPolicy.EACH,
        batch_s: float = 60.0,
        clock: Any = lambda: NOW,
        first_counter: int = 10_000,
        limits: Limits | None = None,
    ) -> None:
        self.world = world
        self.clock = clock
        self.cem = world.device_id.octets
        self.received: list[bytes] = []
        self.news: list[Any] = []
        self.events: list[Any] = []
        self.statuses: list[Any] = []
        self.alerts: list[Alert] = []
        self.commands: list[tuple[int, bytes]] = []
        self.endpoint = Endpoint(
            side=Originator.DSRSP,
            counters=Issuer(first_counter).counter,
            policy=SendPolicy(confirmation=Confirmation.RESULTS, fragments_in_flight=64),
            random_fraction=lambda: 0.5,
            receipts=ReceiptSettings(policy=receipts, batch_s=batch_s),
            limits=limits,
        )

    def act(self, effects: Effects) -> None:
        self.received += [received.message for received in effects.received]
        self.news += [news.record for news in effects.news]
        self.events += effects.events
        self.statuses += [changed.status for changed in effects.statuses]
        for transmit in effects.transmits:
            command = self.world.command(transmit.originator_counter, str(transmit.payload))
            self.commands.append((transmit.originator_counter, command))

    def take_alert(self, octets: bytes) -> Alert:
        """Take one alert; commands may be there to be sent then."""
        alert = self.world.alert(octets)
        self.alerts.append(alert)
        self.act(
            self.endpoint.on_fragment(
                self.cem,
                alert.text,
                originator_counter=alert.originator_counter,
                now=self.clock(),
            )
        )
        return alert

    def take_response(self, octets: bytes) -> Response:
        response = self.world.response(octets)
        (result,) = set(response.results)
        results = {
            Answer.SUCCESS: Result.SUCCESS,
            Answer.TEMPORARY_FAILURE: Result.BUSY,
            Answer.OTHER_REASON: Result.REJECTED,
        }
        counter = response.originator_counter
        self.act(self.endpoint.on_result(counter, results[Answer(result)], self.clock()))
        return response

    def take(self, octets: bytes) -> None:
        """Take whatever the CEM sends."""
        if isinstance(parse_untrusted(octets), Alert):
            self.take_alert(octets)
        else:
            self.take_response(octets)

    def send(self, message: bytes, ref: str = "down") -> None:
        self.act(self.endpoint.send(ref, self.cem, message, self.clock()))

    def take_timer(self) -> None:
        timer = self.endpoint.get_timer()
        if timer is not None and timer <= self.clock():
            self.act(self.endpoint.on_timer(self.clock()))

    def take_commands(self) -> list[bytes]:
        commands, self.commands = [command for _, command in self.commands], []
        return commands


class MemoryHub:
    """A hub and a DCC in memory, for virtual time: a connector with a DSRSP behind it.

    Attributes:
        up: False: nobody can connect, and what is connected breaks.
        lose_alert: is asked about each alert whether it gets lost behind the hub.
        lose_command: the same for commands (by Originator Counter).
        sent: all alerts that the hub got, with the time, those included that got lost.
    """

    def __init__(self, dsrsp: Dsrsp, *, delay_s: float = 20.0) -> None:
        self.dsrsp = dsrsp
        self.up = True
        self.lose_alert: Callable[[Alert], bool] = lambda alert: False
        self.lose_command: Callable[[int], bool] = lambda counter: False
        self.sent: list[tuple[float, bytes]] = []
        self._delay_s = delay_s
        self._messages = 0
        self._queue: asyncio.Queue[str | bytes | None] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def __call__(self, url: str) -> AsyncIterator[MemoryHub]:
        if not self.up:
            raise LinkError("nobody answers")
        self._queue = asyncio.Queue()
        self._queue.put_nowait(Challenge(bytes(32)).build())
        yield self

    async def receive(self) -> str | bytes:
        message = await self._queue.get()
        if message is None:
            raise LinkError("the line broke")
        return message

    async def send(self, message: str | bytes) -> None:
        self._check()
        if isinstance(message, str):
            self._queue.put_nowait(build_welcome())
            return
        loop = asyncio.get_running_loop()
        parsed = parse_untrusted(message)
        if isinstance(parsed, Alert):
            self.sent.append((loop.time(), message))
            if self.lose_alert(parsed):
                return
        loop.call_later(self._next_delay_s(), self._arrive, message)

    async def confirm(self) -> None:
        self._check()

    def _check(self) -> None:
        if not self.up:
            raise LinkError("the line broke")

    def drop(self) -> None:
        """Break the line."""
        self.up = False
        self._queue.put_nowait(None)

    def send_down(self, message: bytes, ref: str = "down") -> None:
        self.dsrsp.send(message, ref)
        self._take_commands()

    def _arrive(self, message: bytes) -> None:
        self.dsrsp.take(message)
        self._take_commands()

    def _take_commands(self) -> None:
        loop = asyncio.get_running_loop()
        commands, self.dsrsp.commands = self.dsrsp.commands, []
        for counter, command in commands:
            if not self.lose_command(counter):
                loop.call_later(self._next_delay_s(), self.deliver, command)

    def _next_delay_s(self) -> float:
        # What is sent at one moment keeps its order.
        self._messages += 1
        return self._delay_s + self._messages * 1e-6

    def deliver(self, command: bytes) -> None:
        if self.up:
            self._queue.put_nowait(command)

    async def run(self) -> None:
        """Let the DSRSP's time pass."""
        while True:
            timer = self.dsrsp.endpoint.get_timer()
            pause_s = 5.0 if timer is None else min(max(timer - self.dsrsp.clock(), 0.001), 5.0)
            await asyncio.sleep(pause_s)
            self.dsrsp.take_timer()
            self._take_commands()


@pytest.fixture(scope="session")
def memory_hub() -> type[MemoryHub]:
    return MemoryHub


@pytest.fixture(scope="session")
def new_dsrsp(world: World) -> Any:
    """Makes the other end of the tunnel."""
    return functools.partial(Dsrsp, world)


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
