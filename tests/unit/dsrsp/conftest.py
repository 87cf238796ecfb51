"""A DSRSP's surroundings for tests: a PKI, a DCC with a will of its own, and a virtual clock."""

from __future__ import annotations

import asyncio
import hashlib
import selectors
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from dsrsp import DsrspConfig, Gateway, Service
from dsrsp.errors import DccUnreachable
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import EcdsaSigner, sign_alert, sign_response
from gbcs.date_time import GbcsDateTime
from gbcs.duis import (
    AcknowledgementBody,
    DeviceAlertBody,
    ErrorBody,
    PreCommandBody,
    RequestId,
    ServiceResponseBody,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    XmlSigner,
    build_response,
    parse_untrusted_request,
)
from gbcs.duis import Request as DuisRequest
from gbcs.duis import Response as DuisResponse
from gbcs.entity_id import EntityId
from gbcs.keystore import KeyStore
from gbcs.messages import Alert, PreCommand, Response, SignedPreCommand, parse_untrusted
from gbcs.pki import TestPki
from smtunnel import (
    ECS46A,
    ECS200,
    Compression,
    ControlReceived,
    Originator,
    Reassembler,
    encode_message,
    labels_to_payload,
    parse_untrusted_header,
)

EPOCH = 1_800_000_000.0
SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
LOAD_CONTROLLER = EntityId.parse("90-B3-D5-1F-30-01-00-08")
DCC = EntityId.parse("90-B3-D5-1F-30-00-00-02")
DEVICES = (
    EntityId.parse("02-53-4D-54-00-00-00-01"),
    EntityId.parse("02-53-4D-54-00-00-00-02"),
)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing else is to do."""

    class _Selector(selectors.SelectSelector):
        loop: VirtualTimeLoop

        def select(self, timeout: float | None = None) -> Any:
            ready = super().select(0)
            if not ready and timeout is None:
                raise RuntimeError("everything waits and no timer runs: a deadlock")
            if not ready and timeout:
                self.loop.now += timeout
            return ready

    def __init__(self) -> None:
        self.now = 0.0
        selector = self._Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run_virtual(main: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    """Run a coroutine in virtual time; a deadlock is an error, hours are nothing."""
    loop = VirtualTimeLoop()
    try:
        return loop.run_until_complete(main())
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


def virtual_clock() -> float:
    return EPOCH + asyncio.get_running_loop().time()


@dataclass(repr=False)
class Pki:
    """All keys, and what each party may see of them."""

    public: dict[str, bytes]
    dcc_keys: dict[str, bytes]
    dsrsp_keys: dict[str, bytes]
    devices: dict[EntityId, EcdsaSigner]
    supplier: EcdsaSigner
    dcc_xml: XmlSigner
    user_xml: XmlSigner
    foreign_xml: XmlSigner

    def keystore(self, *, without: str | None = None) -> KeyStore:
        pems = {**self.public, **self.dsrsp_keys}
        if without is not None:
            pems = {name: pem for name, pem in pems.items() if without not in name}
        return KeyStore.from_pems(pems, test_mode=True)

    def write_to(self, folder: Path) -> None:
        folder.mkdir()
        for name, pem in {**self.public, **self.dsrsp_keys}.items():
            (folder / name).write_bytes(pem)


@pytest.fixture(scope="session")
def pki() -> Pki:
    state = [0]

    def octets(count: int) -> bytes:
        state[0] += 1
        return hashlib.shake_256(b"dsrsp tests %d" % state[0]).digest(count)

    made = TestPki.create(random_octets=octets, clock=lambda: EPOCH)
    other = TestPki.create(random_octets=octets, clock=lambda: EPOCH)
    signing = KeyUsage.DIGITAL_SIGNATURE
    supplier = made.issue_organisation(SUPPLIER, Role.SUPPLIER, signing)
    load_controller = made.issue_organisation(LOAD_CONTROLLER, Role.LOAD_CONTROLLER, signing)
    user_xml = made.issue_xml_signing(SUPPLIER, Role.XML_SIGNING_USER)
    dcc_xml = made.issue_xml_signing(DCC, Role.XML_SIGNING_DCC)
    foreign = other.issue_xml_signing(DCC, Role.XML_SIGNING_DCC)
    devices = {device: made.issue_device(device, signing) for device in DEVICES}
    issued = [*made.authorities(), supplier, load_controller, user_xml, dcc_xml, *devices.values()]

    def xml_signer(one: Any) -> XmlSigner:
        certificate = one.certificate
        return XmlSigner(EcdsaSigner(one.private_key), certificate.issuer_name, certificate.serial)

    def keys(*some: Any) -> dict[str, bytes]:
        return {f"{one.file_stem}.key": one.private_key_pem for one in some}

    return Pki(
        public={f"{one.file_stem}.pem": one.certificate.pem for one in issued},
        dcc_keys=keys(dcc_xml),
        dsrsp_keys=keys(supplier, load_controller, user_xml),
        devices={device: EcdsaSigner(one.private_key) for device, one in devices.items()},
        supplier=EcdsaSigner(supplier.private_key),
        dcc_xml=xml_signer(dcc_xml),
        user_xml=xml_signer(user_xml),
        foreign_xml=xml_signer(foreign),
    )


class Recorder:
    """A journal that can be looked at."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def record(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]


def payload_of(labels: Any) -> str:
    return "".join(label.text for label in labels)


def is_control(request: DuisRequest) -> bool:
    if isinstance(request.body, UpdateAlcDescriptions):
        labels = request.body.labels
    else:
        message = parse_untrusted(request.body.gbcs_payload)
        assert isinstance(message, SignedPreCommand)
        labels = message.pre_command.labels
    return parse_untrusted_header(payload_of(labels)[:4]).compression is Compression.CONTROL


@dataclass(repr=False)
class FakeDcc:
    """A DCC of gbcs functions. Replace ``on_transform`` and ``on_send`` to make it misbehave.

    ``results`` are what each device answers, after ``latency_s``; None: it never answers.
    What carries the tunnel's own control messages is not counted among ``posted`` and ``signed``,
    and is always served well unless ``harms_control``; ``control`` has the records that went down.
    """

    pki: Pki
    clock: Callable[[], float] = virtual_clock
    latency_s: float = 1.0
    results: Callable[[PreCommand], tuple[int, ...] | None] = lambda pre: (0,) * len(pre.labels)
    posted: list[tuple[Service, bytes]] = field(default_factory=list)
    signed: list[SignedPreCommand] = field(default_factory=list)
    receive: Callable[[bytes], Any] = lambda octets: None
    on_transform: Callable[[DuisRequest], bytes | None] | None = None
    on_send: Callable[[DuisRequest], bytes | None] | None = None
    held: int = 0
    most_held: int = 0
    harms_control: bool = False
    control: list[tuple[EntityId, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._control_end = Reassembler(originator=Originator.DSRSP, carrier=ECS46A)
        self.keystore = KeyStore.from_pems(self.pki.public, test_mode=True)

    @property
    def sent(self) -> list[bytes]:
        return [octets for service, octets in self.posted if service is Service.SEND]

    @property
    def transformed(self) -> list[bytes]:
        return [octets for service, octets in self.posted if service is Service.TRANSFORM]

    async def post(self, service: Service, request: bytes) -> bytes:
        await asyncio.sleep(0.01)
        return self.answer(service, request)

    def _serve_control(self, service: Service, request: DuisRequest) -> bytes:
        """Be an honest DCC, and a CEM that takes every control message."""
        if service is Service.TRANSFORM:
            return self.transform(request)
        message = parse_untrusted(request.body.gbcs_payload)
        assert isinstance(message, SignedPreCommand)
        pre = message.pre_command
        events = self._control_end.receive_fragment(
            pre.target_id.octets,
            payload_of(pre.labels),
            originator_counter=pre.originator_counter,
            now=self.clock(),
        )
        for event in events:
            if isinstance(event, ControlReceived):
                self.control += [(pre.target_id, record) for record in event.message.records]
        answer = self.service_response(pre, (0,) * len(pre.labels))
        asyncio.get_running_loop().call_later(self.latency_s, lambda: self.receive(answer))
        return self.acknowledgement(request.request_id)

    def answer(self, service: Service, octets: bytes) -> bytes:
        parsed = parse_untrusted_request(octets)
        parsed.verify(
            self.keystore,
            role=Role.XML_SIGNING_USER,
            at=self._now(),
        )
        request = parsed.message
        if is_control(request) and not self.harms_control:
            return self._serve_control(service, request)
        self.posted.append((service, octets))
        if service is Service.TRANSFORM:
            assert isinstance(request.body, UpdateAlcDescriptions)
            assert request.command_variant == 4
            made = self.on_transform(request) if self.on_transform else self.transform(request)
        else:
            assert isinstance(request.body, SignedPreCommandBody)
            assert request.command_variant == 5
            message = parse_untrusted(request.body.gbcs_payload)
            assert isinstance(message, SignedPreCommand)
            made = self.on_send(request) if self.on_send else self.accept(request)
        if made is None:
            raise DccUnreachable("the test cut the line")
        return made

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    # What an honest DCC says

    def pre_command(self, request: DuisRequest) -> PreCommand:
        assert isinstance(request.body, UpdateAlcDescriptions)
        return PreCommand(
            request.originator_id,
            request.target_id,
            request.originator_counter,
            request.body.labels,
        )

    def transform(self, request: DuisRequest) -> bytes:
        return self.pre_command_answer(request, self.pre_command(request).to_bytes())

    def pre_command_answer(
        self, request: DuisRequest, payload: bytes, signer: XmlSigner | None = None
    ) -> bytes:
        return build_response(
            DuisResponse("I0", self._now(), PreCommandBody(payload), request_id=request.request_id),
            signer or self.pki.dcc_xml,
        )

    def accept(self, request: DuisRequest) -> bytes:
        self.deliver(request)
        return self.acknowledgement(request.request_id)

    def acknowledgement(self, request_id: RequestId) -> bytes:
        body = AcknowledgementBody()
        return build_response(DuisResponse("I99", self._now(), body, request_id=request_id), None)

    def deliver(self, request: DuisRequest) -> None:
        assert isinstance(request.body, SignedPreCommandBody)
        message = parse_untrusted(request.body.gbcs_payload)
        assert isinstance(message, SignedPreCommand)
        self.signed.append(message)
        self.held += 1
        self.most_held = max(self.most_held, self.held)
        results = self.results(message.pre_command)
        if results is not None:
            octets = self.service_response(message.pre_command, results)

            def hand_over() -> None:
                self.held -= 1
                self.receive(octets)

            asyncio.get_running_loop().call_later(self.latency_s, hand_over)

    def refusal(self, request_id: RequestId | None, code: str, *, signed: bool = False) -> bytes:
        return build_response(
            DuisResponse(code, self._now(), ErrorBody(), request_id=request_id),
            self.pki.dcc_xml if signed else None,
        )

    # What devices say

    def response(self, pre: PreCommand, results: tuple[int, ...]) -> Response:
        return Response(pre.target_id, pre.originator_id, pre.originator_counter, results)

    def service_response(
        self,
        pre: PreCommand,
        results: tuple[int, ...],
        *,
        message: Response | None = None,
        device_signer: EcdsaSigner | None = None,
        request_id: RequestId | None = None,
        signer: XmlSigner | None = None,
        unsigned: bool = False,
    ) -> bytes:
        device_signer = device_signer or self.pki.devices[pre.target_id]
        signed = sign_response(message or self.response(pre, results), device_signer)
        request_id = request_id or RequestId(
            pre.originator_id, pre.target_id, pre.originator_counter
        )
        response_id = RequestId(
            request_id.target_id, request_id.originator_id, request_id.originator_counter
        )
        return build_response(
            DuisResponse(
                "I0",
                self._now(),
                ServiceResponseBody(signed.to_bytes()),
                request_id=request_id,
                response_id=response_id,
            ),
            None if unsigned else signer or self.pki.dcc_xml,
        )

    def alert(
        self,
        text: str,
        counter: int,
        *,
        device: EntityId = DEVICES[0],
        user: EntityId = SUPPLIER,
        recipient: EntityId = SUPPLIER,
        party: EntityId | None = LOAD_CONTROLLER,
        device_signer: EcdsaSigner | None = None,
        signer: XmlSigner | None = None,
        unsigned: bool = False,
        alert_code: int = 0x8F88,
        response_id: RequestId | None = None,
    ) -> bytes:
        message = Alert(
            originator_id=device,
            target_id=recipient,
            originator_counter=counter,
            text=text,
            date_time=GbcsDateTime(),
            supplementary_remote_party_id=party,
        )
        signed = sign_alert(message, device_signer or self.pki.devices[device])
        return build_response(
            DuisResponse(
                "I0",
                self._now(),
                DeviceAlertBody(alert_code, signed.to_bytes()),
                response_id=response_id or RequestId(device, user, counter),
            ),
            None if unsigned else signer or self.pki.dcc_xml,
        )

    def alerts(
        self, message: bytes, first_counter: int, *, tunnel_message_id: int = 0, **how: Any
    ) -> list[bytes]:
        """All alerts of an uplink message."""
        encoded = encode_message(
            message,
            carrier=ECS200,
            originator=Originator.CEM,
            tunnel_message_id=tunnel_message_id,
        )
        return [
            self.alert(str(payload), first_counter + index, **how)
            for index, payload in enumerate(encoded.payloads)
        ]

    def payloads(self) -> list[str]:
        """The carrier payloads of what was sent, in order."""
        found = [
            labels_to_payload([(label.index, label.text) for label in one.pre_command.labels])
            for one in self.signed
        ]
        return [payload for payload in found if payload is not None]


@dataclass(repr=False)
class World:
    """What a test of the gateway needs, in virtual time."""

    pki: Pki
    dcc: FakeDcc
    journal: Recorder
    state: str
    keystore: KeyStore
    device: EntityId = DEVICES[0]
    other_device: EntityId = DEVICES[1]
    supplier: EntityId = SUPPLIER
    load_controller: EntityId = LOAD_CONTROLLER

    def config(self, **changes: Any) -> DsrspConfig:
        settings: dict[str, Any] = {
            "supplier_id": SUPPLIER,
            "load_controller_id": LOAD_CONTROLLER,
            "state": self.state,
            "test_mode": True,
        }
        return DsrspConfig(**(settings | changes))

    def gateway(self, **changes: Any) -> Gateway:
        """A gateway whose DCC is `dcc`, without sockets, on the virtual clock."""
        gateway = Gateway(
            self.config(**changes),
            self.keystore,
            clock=virtual_clock,
            random_octets=self.random,
            journal=self.journal,
            dcc=self.dcc,
        )
        self.dcc.receive = gateway.receive_untrusted
        return gateway

    _drawn: int = 0

    def random(self, count: int) -> bytes:
        self._drawn += 1
        return self._drawn.to_bytes(max(count, 8), "big")[-count:]

    run = staticmethod(run_virtual)


@pytest.fixture
def world(pki: Pki, tmp_path: Path) -> World:
    return World(pki, FakeDcc(pki), Recorder(), str(tmp_path / "dsrsp.sqlite"), pki.keystore())
