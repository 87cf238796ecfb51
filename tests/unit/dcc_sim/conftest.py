"""The world around a DCC simulator: a test PKI, a user with a receive address, a device."""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect

from dcc_sim import DccSimConfig, DeviceConfig, Simulator, UserConfig
from dcc_sim.core.dcc import Dcc
from dcc_sim.core.effects import Deliver, Effect, Note, Post
from dcc_sim.core.faults import Fault, Faults
from dcc_sim.core.keys import Keys
from dcc_sim.core.network import NetworkProfile
from dcc_sim.core.services import Service
from dcc_sim.core.sm_wan import Surroundings
from dcc_sim.ports import Storage
from dcc_sim.profile_files import load_profile
from dcc_sim.randomness import SeededStreams
from dcc_sim.store import SqliteStore
from gbcs import (
    Alert,
    Command,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    Label,
    PreCommand,
    Response,
    SignedPreCommand,
    parse_untrusted,
    sign_alert,
    sign_pre_command,
    sign_response,
    verify_mac,
)
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import shared_secret
from gbcs.device_link import (
    device_path,
    make_proof,
    parse_untrusted_challenge,
    parse_untrusted_welcome,
)
from gbcs.duis import (
    ParsedResponse,
    PreCommandBody,
    Request,
    Schema,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    parse_untrusted_response,
)
from gbcs.keystore import KeyStore
from gbcs.pki import Issued, TestPki
from gbcs.ports import Journal, NullJournal

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
LOAD_CONTROLLER = EntityId.parse("90-B3-D5-1F-30-01-00-08")
DCC = EntityId.parse("90-B3-D5-1F-30-00-00-02")
DEVICE = EntityId.parse("00-C0-FF-EE-00-00-00-01")
OTHER_DEVICE = EntityId.parse("00-C0-FF-EE-00-00-00-02")
STRANGER = EntityId.parse("90-B3-D5-1F-30-01-FF-FF")


@dataclass(frozen=True)
class Pki:
    """Who has which keys."""

    keystore: KeyStore
    supplier_xml: XmlSigner
    load_controller_xml: XmlSigner
    stranger_xml: XmlSigner
    supplier_signer: EcdsaSigner
    broker: Issued
    devices: dict[EntityId, tuple[Issued, Issued]]

    def device_signer(self, device: EntityId = DEVICE) -> EcdsaSigner:
        return EcdsaSigner(self.devices[device][0].private_key)

    def secret(self, device: EntityId = DEVICE) -> bytes:
        return shared_secret(
            self.devices[device][1].private_key, self.broker.certificate.public_key
        )


@pytest.fixture(scope="session")
def pki() -> Pki:
    ca = TestPki.create(random_octets=os.urandom, clock=time.time)
    signing, agreement = KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT
    supplier = ca.issue_organisation(SUPPLIER, Role.SUPPLIER, signing)
    broker = ca.issue_organisation(DCC, Role.ACCESS_CONTROL_BROKER, agreement)
    xml = {
        who: ca.issue_xml_signing(who, Role.XML_SIGNING_USER)
        for who in (SUPPLIER, LOAD_CONTROLLER, STRANGER)
    }
    dcc_xml = ca.issue_xml_signing(DCC, Role.XML_SIGNING_DCC)
    devices = {
        who: (ca.issue_device(who, signing), ca.issue_device(who, agreement))
        for who in (DEVICE, OTHER_DEVICE)
    }
    issued = [*ca.authorities(), supplier, broker, dcc_xml, *xml.values()]
    issued += [one for pair in devices.values() for one in pair]
    pems = {f"{n}.pem": one.certificate.pem for n, one in enumerate(issued)}
    pems |= {f"{n}.key": one.private_key_pem for n, one in enumerate([broker, dcc_xml])}

    def signer(who: EntityId) -> XmlSigner:
        certificate = xml[who].certificate
        return XmlSigner(
            EcdsaSigner(xml[who].private_key), certificate.issuer_name, certificate.serial
        )

    return Pki(
        keystore=KeyStore.from_pems(pems, test_mode=True),
        supplier_xml=signer(SUPPLIER),
        load_controller_xml=signer(LOAD_CONTROLLER),
        stranger_xml=signer(STRANGER),
        supplier_signer=EcdsaSigner(supplier.private_key, deterministic=True),
        broker=broker,
        devices=devices,
    )


@pytest.fixture(scope="session")
def schema(reference_vectors: Path) -> Schema:
    folder = reference_vectors / "duis"
    files = {
        path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in (".xsd", ".dtd")
    }
    return Schema(files, "duis54.xsd")


@pytest.fixture(scope="session")
def names() -> dict[str, EntityId]:
    return {
        "supplier": SUPPLIER,
        "load_controller": LOAD_CONTROLLER,
        "dcc": DCC,
        "device": DEVICE,
        "other_device": OTHER_DEVICE,
        "stranger": STRANGER,
    }


@dataclass
class Requests:
    """Makes the requests of a supplier."""

    pki: Pki

    def transform(self, counter: int = 1, text: str = "hello", **changes: Any) -> Request:
        fields = {
            "originator_id": SUPPLIER,
            "target_id": DEVICE,
            "originator_counter": counter,
            "command_variant": 4,
            "body": UpdateAlcDescriptions((Label(1, text),)),
        }
        return Request(**(fields | changes))

    def pre_command(self, counter: int = 1, text: str = "hello", **changes: Any) -> PreCommand:
        fields = {
            "originator_id": SUPPLIER,
            "target_id": DEVICE,
            "originator_counter": counter,
            "labels": (Label(1, text),),
        }
        return PreCommand(**(fields | changes))

    def signed(
        self, counter: int = 1, text: str = "hello", *, payload: bytes | None = None, **changes: Any
    ) -> Request:
        if payload is None:
            made = sign_pre_command(self.pre_command(counter, text), self.pki.supplier_signer)
            payload = made.to_bytes()
        fields = {"command_variant": 5, "body": SignedPreCommandBody(payload)}
        return self.transform(counter, **(fields | changes))

    def non_device(
        self, variant: str, body: Any, *, originator_counter: int = 1000, **changes: Any
    ) -> Request:
        fields = {
            "target_id": DCC,
            "command_variant": 8,
            "body": body,
            "service_reference": ".".join(variant.split(".")[:2]),
            "service_reference_variant": variant,
        }
        return self.transform(originator_counter, **(fields | changes))

    def response(
        self,
        counter: int = 1,
        results: tuple[int, ...] = (0,),
        signer: EntityId = DEVICE,
        **changes: Any,
    ) -> Response:
        fields = {
            "originator_id": DEVICE,
            "target_id": SUPPLIER,
            "originator_counter": counter,
            "results": results,
            "signature": None,
        }
        return sign_response(Response(**(fields | changes)), self.pki.device_signer(signer))

    def alert(self, counter: int = 1) -> Alert:
        alert = Alert(
            originator_id=DEVICE,
            target_id=SUPPLIER,
            originator_counter=counter,
            text="up",
            date_time=GbcsDateTime.from_timestamp(1_700_000_000.0),
            supplementary_remote_party_id=LOAD_CONTROLLER,
        )
        return sign_alert(alert, self.pki.device_signer())

    def signed_again(self, octets: bytes) -> bytes:
        """Sign a request whose text was changed."""
        unsigned = re.sub(
            rb"^<\?xml[^>]*\?>|<ds:Signature.*</ds:Signature>", b"", octets, flags=re.S
        ).decode()
        signature = self.pki.supplier_xml.signature_over(unsigned)
        return unsigned.replace("</sr:Request>", signature + "</sr:Request>").encode()

    def octets(self, request: Request) -> bytes:
        return build_request(request, self.pki.supplier_xml)


@pytest.fixture(scope="session")
def requests(pki: Pki) -> Requests:
    return Requests(pki)


@dataclass
class Receiver:
    """A receive address: keeps what is posted; answers with the statuses in turn, then 204."""

    posts: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)
    statuses: list[int] = field(default_factory=list)
    port: int = 0

    async def handle(self, request: web.Request) -> web.Response:
        assert request.content_type == "application/xml"
        await self.posts.put((request.path, await request.read()))
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    async def next(self) -> tuple[str, ParsedResponse]:
        async with asyncio.timeout(10):
            path, xml = await self.posts.get()
        return path, parse_untrusted_response(xml)

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[Receiver]:
        app = web.Application()
        app.router.add_post("/{user}", self.handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
        await site.start()
        self.port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver().listening() as listening:
        yield listening


MakeConfig = Callable[..., DccSimConfig]


def base_config(receive_url: str = "http://127.0.0.1:9", **changes: Any) -> DccSimConfig:
    config = DccSimConfig(
        duis_listen="127.0.0.1:0",
        device_listen="127.0.0.1:0",
        smki_listen="127.0.0.1:0",
        dcc_id=DCC,
        state=":memory:",
        test_mode=True,
        users=[
            UserConfig(entity_id=SUPPLIER, role="supplier", receive_url=f"{receive_url}/supplier"),
            UserConfig(
                entity_id=LOAD_CONTROLLER,
                role="load-controller",
                receive_url=f"{receive_url}/load-controller",
            ),
        ],
        devices=[DeviceConfig(entity_id=DEVICE), DeviceConfig(entity_id=OTHER_DEVICE)],
        post_backoff_s=0.01,
    )
    return msgspec.structs.replace(config, **changes)


@pytest.fixture
def make_config() -> MakeConfig:
    return base_config


class Core:
    """The logic alone, with a clock that is set by hand."""

    def __init__(
        self,
        pki: Pki,
        *,
        storage: Storage | None = None,
        schema: Schema | None = None,
        journal: Journal | None = None,
        now: float = 1_800_000_000.0,
        profile: NetworkProfile | None = None,
        scenario: Sequence[Fault] = (),
        **changes: Any,
    ) -> None:
        self.pki = pki
        self.now = now
        self.config = base_config(**changes)
        self.storage = SqliteStore(self.config.state) if storage is None else storage
        self.schema = schema
        self.journal = NullJournal() if journal is None else journal
        self.keys = Keys(pki.keystore, DCC)
        self.profile = load_profile("none") if profile is None else profile
        self.faults = Faults(scenario)
        self.dcc = self.make()
        self.notes: list[str] = []

    def make(self) -> Dcc:
        return Dcc(
            self.config,
            self.keys,
            self.storage,
            schema=self.schema,
            journal=self.journal,
            surroundings=Surroundings(self.profile, SeededStreams(7), self.faults),
            now=self.now,
        )

    def restart(self) -> None:
        """As after a crash: what was not committed is lost."""
        self.dcc = self.make()

    def request(self, service: str, octets: bytes) -> tuple[int, ParsedResponse]:
        reply = self.dcc.receive_untrusted_request(Service(service), octets, self.now)
        self.storage.commit()
        return reply.http_status, parse_untrusted_response(reply.xml)

    def code(self, service: str, octets: bytes) -> str:
        return self.request(service, octets)[1].message.response_code

    def message(self, octets: bytes, device: EntityId = DEVICE) -> None:
        self.dcc.receive_untrusted_message(device, octets, self.now)

    def timer(self) -> None:
        """Let time pass until the next timer and call it."""
        when = self.dcc.get_timer()
        assert when is not None
        self.now = max(self.now, when)
        self.dcc.handle_timer(self.now)

    def effects(self) -> list[Effect]:
        """Take the effects; log lines go to ``notes``."""
        self.storage.commit()
        effects = self.dcc.take_effects()
        self.notes += [effect.text for effect in effects if isinstance(effect, Note)]
        return [effect for effect in effects if not isinstance(effect, Note)]

    def deliveries(self) -> list[Deliver]:
        return [effect for effect in self.effects() if isinstance(effect, Deliver)]

    def posts(self) -> list[Post]:
        return [effect for effect in self.effects() if isinstance(effect, Post)]


MakeCore = Callable[..., Core]


@pytest.fixture(scope="session")
def shared_core(pki: Pki) -> Iterator[Core]:
    """One core for all examples of a property."""
    core = Core(pki)
    yield core
    core.storage.close()


@pytest.fixture
def make_core(pki: Pki) -> Iterator[MakeCore]:
    cores: list[Core] = []

    def make(**arguments: Any) -> Core:
        cores.append(Core(pki, **arguments))
        return cores[-1]

    yield make
    for core in cores:
        core.storage.close()


@dataclass
class Client:
    """A user's HTTP client."""

    session: aiohttp.ClientSession
    base: str

    async def post(
        self, service: str, octets: bytes, content_type: str = "application/xml"
    ) -> tuple[int, bytes]:
        async with self.session.post(
            f"{self.base}/api/v1/{service}", data=octets, headers={"Content-Type": content_type}
        ) as response:
            return response.status, await response.read()

    async def send(self, service: str, octets: bytes) -> ParsedResponse:
        status, body = await self.post(service, octets)
        assert status == 200, body
        return parse_untrusted_response(body)


@dataclass
class Device:
    """A device's end of the link."""

    pki: Pki
    entity_id: EntityId
    connection: ClientConnection

    async def next_command(self) -> Command:
        async with asyncio.timeout(10):
            octets = await self.connection.recv()
        assert isinstance(octets, bytes)
        command = parse_untrusted(octets)
        assert isinstance(command, Command)
        verify_mac(command, self.pki.secret(self.entity_id))
        return command

    def response(self, command: Command, results: tuple[int, ...] = (0,)) -> Response:
        return sign_response(
            Response.answering(command, results), self.pki.device_signer(self.entity_id)
        )

    def alert(self, counter: int = 1, text: str = "up", **changes: Any) -> Alert:
        fields = {
            "originator_id": self.entity_id,
            "target_id": SUPPLIER,
            "originator_counter": counter,
            "text": text,
            "date_time": GbcsDateTime.from_timestamp(1_700_000_000.0),
            "supplementary_remote_party_id": LOAD_CONTROLLER,
        }
        return sign_alert(Alert(**(fields | changes)), self.pki.device_signer(self.entity_id))


@dataclass
class World:
    """A running simulator and those around it."""

    simulator: Simulator
    client: Client
    receiver: Receiver
    pki: Pki
    requests: Requests

    def device_url(self, path: str) -> str:
        return f"ws://127.0.0.1:{self.simulator.device_port}{path}"

    @asynccontextmanager
    async def device(self, entity_id: EntityId = DEVICE) -> AsyncIterator[Device]:
        url = self.device_url(device_path(entity_id))
        async with connect(url, compression=None) as connection:
            challenge = parse_untrusted_challenge(await connection.recv())
            proof = make_proof(
                challenge, entity_id, self.pki.device_signer(entity_id), os.urandom(32)
            )
            await connection.send(proof.build())
            parse_untrusted_welcome(await connection.recv())
            yield Device(self.pki, entity_id, connection)

    async def transform(self, counter: int = 1, text: str = "hello") -> PreCommand:
        request = self.requests.transform(counter, text)
        answer = (await self.client.send("serviceT", self.requests.octets(request))).message
        assert answer.response_code == "I0"
        assert isinstance(answer.body, PreCommandBody)
        pre_command = parse_untrusted(answer.body.gbcs_payload)
        assert isinstance(pre_command, PreCommand)
        return pre_command

    async def send(self, counter: int = 1, text: str = "hello") -> SignedPreCommand:
        """Transform, sign and send; the simulator must take it."""
        pre_command = await self.transform(counter, text)
        signed = sign_pre_command(pre_command, self.pki.supplier_signer)
        request = self.requests.signed(counter, payload=signed.to_bytes())
        answer = await self.client.send("serviceS", self.requests.octets(request))
        assert answer.message.response_code == "I99"
        return signed


StartWorld = Callable[..., Any]


@pytest.fixture
def start_world(pki: Pki, receiver: Receiver, requests: Requests, tmp_path: Path) -> StartWorld:
    """Start a simulator with settings changed; it stops at the end of the block."""

    @asynccontextmanager
    async def start(
        *,
        schema: Schema | None = None,
        journal: Journal | None = None,
        admin_token: str | None = None,
        **changes: Any,
    ) -> AsyncIterator[World]:
        state = {"state": str(tmp_path / "dcc.sqlite")}
        config = base_config(f"http://127.0.0.1:{receiver.port}", **(state | changes))
        async with (
            Simulator(
                config, pki.keystore, schema=schema, journal=journal, admin_token=admin_token
            ) as simulator,
            aiohttp.ClientSession() as session,
        ):
            client = Client(session, f"http://127.0.0.1:{simulator.duis_port}")
            yield World(simulator, client, receiver, pki, requests)

    return start


@pytest.fixture
async def world(start_world: StartWorld) -> AsyncIterator[World]:
    async with start_world() as running:
        yield running
