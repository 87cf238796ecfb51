"""The decoders of the smart metering formats: GBCS, certificates and keys, DUIS, SMKI, the link."""

from __future__ import annotations

import base64
import random
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from cem.core.admission import Admission, Identities
from cem.errors import CommandRefused
from dsrsp.core.matching import ReceivedReader
from dsrsp.errors import ReceivedRefused
from fuzzing.engine import Decoder, Parts
from gbcs import (
    Alert,
    Command,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    KeyStore,
    KeyUsage,
    Label,
    PreCommand,
    Response,
    Role,
    add_mac,
    parse_certificate,
    parse_untrusted,
    shared_secret,
    sign_alert,
    sign_pre_command,
    sign_response,
)
from gbcs.device_link import (
    Challenge,
    build_welcome,
    device_path,
    make_proof,
    parse_untrusted_challenge,
    parse_untrusted_path,
    parse_untrusted_proof,
    parse_untrusted_welcome,
    verify_proof,
)
from gbcs.duis import (
    AcknowledgementBody,
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    DeviceRecord,
    ErrorBody,
    InventoryBody,
    PreCommandBody,
    PropertyFilter,
    ReadInventory,
    Request,
    RequestId,
    ServiceResponseBody,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    UpdateInventory,
    XmlSigner,
    build_request,
    build_response,
    parse_untrusted_request,
    parse_untrusted_response,
)
from gbcs.duis import Response as DuisResponse
from gbcs.errors import (
    BuildError,
    CertificateFormatError,
    CertificateRefused,
    DuisFormatError,
    FormatError,
    SignatureInvalid,
    SmkiRepositoryFormatError,
    XmlSignatureInvalid,
)
from gbcs.inspection import explain
from gbcs.keystore import load_private_key
from gbcs.messages import Message
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_DEVICE,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
    TestPki,
)
from gbcs.smki_repository import parse_untrusted_data_request, parse_untrusted_search_request

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
_BASE64: Final = re.compile(
    rb">((?:[A-Za-z0-9+/]{4}){6,}(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?)<"
)


class World:
    """Everybody with keys, the same in every run, and what they say to each other."""

    def __init__(self) -> None:
        chance = random.Random(3)  # noqa: S311
        pki = TestPki.create(random_octets=chance.randbytes, clock=NOW.timestamp)
        both = (KeyUsage.DIGITAL_SIGNATURE, KeyUsage.KEY_AGREEMENT)
        issued = list(pki.authorities())
        for entity_id, role in (
            (DEFAULT_SUPPLIER, Role.SUPPLIER),
            (DEFAULT_LOAD_CONTROLLER, Role.LOAD_CONTROLLER),
            (DEFAULT_ACCESS_CONTROL_BROKER, Role.ACCESS_CONTROL_BROKER),
        ):
            issued += [pki.issue_organisation(entity_id, role, usage) for usage in both]
        issued += [pki.issue_device(DEFAULT_DEVICE, usage) for usage in both]
        issued += [
            pki.issue_xml_signing(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER),
            pki.issue_xml_signing(DEFAULT_ACCESS_CONTROL_BROKER, Role.XML_SIGNING_DCC),
        ]
        self.certificates = [one.certificate.pem for one in issued]
        self.keys = [one.private_key_pem for one in issued]
        self.pems = {f"{one.file_stem}.pem": one.certificate.pem for one in issued}
        self.pems |= {f"{one.file_stem}.key": one.private_key_pem for one in issued}
        self.keystore = KeyStore.from_pems(self.pems, test_mode=True)
        self.user = self._xml_signer(DEFAULT_SUPPLIER, Role.XML_SIGNING_USER)
        self.dcc = self._xml_signer(DEFAULT_ACCESS_CONTROL_BROKER, Role.XML_SIGNING_DCC)
        self.device_signer = self.signer(DEFAULT_DEVICE)
        self.device_public_key = self.keystore.certificate(DEFAULT_DEVICE, both[0]).public_key
        self.supplier_public_key = self.keystore.certificate(DEFAULT_SUPPLIER, both[0]).public_key
        self.secret = shared_secret(
            self.keystore.private_key(DEFAULT_DEVICE, both[1]),
            self.keystore.access_control_broker().public_key,
        )
        self.messages = self._messages()
        self.gbcs = [message.to_bytes() for message in self.messages]

    def _xml_signer(self, entity_id: EntityId, role: Role) -> XmlSigner:
        signer = XmlSigner.from_keystore(self.keystore, entity_id, role)
        key = self.keystore.private_key(entity_id, KeyUsage.DIGITAL_SIGNATURE, role=role)
        return replace(signer, signer=EcdsaSigner(key, deterministic=True))

    def signer(self, entity_id: EntityId) -> EcdsaSigner:
        """Return who signs as an entity, always with the same signature."""
        usage = KeyUsage.DIGITAL_SIGNATURE
        return EcdsaSigner(self.keystore.private_key(entity_id, usage), deterministic=True)

    def _messages(self) -> list[Message]:
        made: list[Message] = []
        for labels in (
            (Label(1, "x"),),
            (Label(1, "KAAAeNpLTEpOSU1Lz8jMys"), Label(2, "7JzcsvKCwqLikt")),
            tuple(Label(index, "a" * 22) for index in range(1, 6)),
        ):
            pre = PreCommand(DEFAULT_SUPPLIER, DEFAULT_DEVICE, 2**40 + len(labels), labels)
            signed = sign_pre_command(pre, self.signer(DEFAULT_SUPPLIER))
            made += [pre, signed, add_mac(signed, self.secret)]
            response = Response(
                DEFAULT_DEVICE, DEFAULT_SUPPLIER, 7, (0,) * len(labels), signature=None
            )
            made += [sign_response(response, self.device_signer)]
        for text in ("x", "OAAA" * 60, "y" * 1062):
            alert = Alert(
                DEFAULT_DEVICE,
                DEFAULT_SUPPLIER,
                9,
                text,
                GbcsDateTime.from_timestamp(NOW.timestamp()),
                DEFAULT_LOAD_CONTROLLER,
                signature=None,
            )
            made.append(sign_alert(alert, self.device_signer))
        return made

    def requests(self) -> list[bytes]:
        """Return DUIS requests of all kinds that the project builds."""
        alc = UpdateAlcDescriptions((Label(1, "x & y"), Label(3, "a" * 22)))
        inventory = (
            ("8.2", ReadInventory(device_id=DEFAULT_DEVICE)),
            ("8.2", ReadInventory(mpxn="1234567890123")),
            ("8.2", ReadInventory(property_filter=PropertyFilter("AB1 2CD", "1 & 2"))),
            ("8.4", UpdateInventory(DEFAULT_DEVICE, "UpdateDeviceStatusCH", "Withdrawn")),
        )
        base = Request(DEFAULT_SUPPLIER, DEFAULT_DEVICE, 5, 4, alc)
        made = [base]
        made += [
            replace(base, command_variant=5, body=SignedPreCommandBody(octets))
            for octets in self.gbcs[1:5:3]
        ]
        made += [
            replace(
                base,
                target_id=DEFAULT_ACCESS_CONTROL_BROKER,
                command_variant=8,
                body=body,
                service_reference=service,
                service_reference_variant=service,
            )
            for service, body in inventory
        ]
        return [build_request(request, self.user) for request in made]

    def responses(self) -> list[bytes]:
        """Return DUIS responses and alerts of all kinds that the project builds."""
        request_id = RequestId(DEFAULT_SUPPLIER, DEFAULT_DEVICE, 5)
        response_id = RequestId(DEFAULT_DEVICE, DEFAULT_SUPPLIER, 9)
        record = DeviceRecord(DEFAULT_DEVICE, "ESME", "Commissioned", "maker", "model", "1.0")
        answers = [
            ("I0", PreCommandBody(self.gbcs[0])),
            ("I0", ServiceResponseBody(self.gbcs[3])),
            ("I99", AcknowledgementBody()),
            ("E5", ErrorBody()),
            ("I0", InventoryBody((record, record))),
            ("I0", DccAlertBody("N12", CommandFailure(request_id, DEFAULT_DEVICE))),
        ]
        made = [
            DuisResponse(code, NOW, body, request_id=request_id, response_id=response_id)
            for code, body in answers
        ]
        alert = DeviceAlertBody(0x8F88, self.gbcs[-1])
        made.append(DuisResponse("I0", NOW, alert, request_id=None, response_id=response_id))
        return [build_response(one, self.dcc) for one in made] + [build_response(made[3], None)]


def _der_parts(octets: bytes) -> list[bytes]:
    """Take a PEM apart: its first line, the DER, its last line."""
    head, *body, last = octets.strip().split(b"\n")
    return [head, base64.b64decode(b"".join(body)), last]


def _join_pem(parts: list[bytes]) -> bytes:
    return parts[0] + b"\n" + base64.encodebytes(parts[1]) + parts[2] + b"\n"


PEM: Final = Parts(_der_parts, _join_pem)


def _split_xml(octets: bytes) -> list[bytes]:
    """Take XML apart at its longer texts in base64, so that what is in them is damaged."""
    pieces = _BASE64.split(octets)
    return [base64.b64decode(p) if n % 2 else p for n, p in enumerate(pieces)]


def _join_xml(parts: list[bytes]) -> bytes:
    made = [b">%s<" % base64.b64encode(p) if n % 2 else p for n, p in enumerate(parts)]
    return b"".join(made)


XML: Final = Parts(_split_xml, _join_xml)


def _round_trip(octets: bytes) -> None:
    if parse_untrusted(octets).to_bytes() != octets:
        raise AssertionError("what was read is built in other octets")


def _certificate(octets: bytes) -> None:
    certificate = parse_certificate(octets)
    str(certificate), repr(certificate)


def _keystore(world: World, *, certificate: bool) -> Callable[[bytes], None]:
    """Return what puts an input among good files and asks what the store then says of it."""

    def run(octets: bytes) -> None:
        others = {name: pem for name, pem in world.pems.items() if not name.endswith(".key")}
        if not certificate:
            KeyStore.from_pems({**others, "fuzzed.key": octets}, test_mode=True)
            return
        store = KeyStore.from_pems({**others, "fuzzed.pem": octets}, test_mode=True)
        for one in store.certificates():
            if one.pem in world.certificates:
                continue
            store.verify(one, at=NOW, usage=one.usage, role=one.role, entity_id=one.entity_id)

    return run


def _admission(world: World) -> Admission:
    identities = Identities(DEFAULT_DEVICE, DEFAULT_SUPPLIER, DEFAULT_LOAD_CONTROLLER)
    return Admission(identities, world.supplier_public_key, world.secret)


def _link(world: World) -> list[Decoder]:
    challenge = Challenge(bytes(range(32)))
    proof = make_proof(challenge, DEFAULT_DEVICE, world.device_signer, bytes(32))

    def prove(octets: bytes) -> None:
        given = parse_untrusted_proof(octets.decode("utf-8", "surrogateescape"))
        verify_proof(given, challenge, DEFAULT_DEVICE, world.device_public_key)

    def as_text(parse: Callable[[str], object]) -> Callable[[bytes], object]:
        return lambda octets: parse(octets.decode("utf-8", "surrogateescape"))

    rows: list[tuple[str, Callable[[bytes], object], str]] = [
        ("challenge", as_text(parse_untrusted_challenge), challenge.build()),
        ("proof", prove, proof.build()),
        ("welcome", as_text(parse_untrusted_welcome), build_welcome()),
        ("path", as_text(parse_untrusted_path), device_path(DEFAULT_DEVICE)),
    ]
    return [
        Decoder(
            f"link-{name}",
            (f"gbcs.device_link:parse_untrusted_{name}",),
            decode,
            (FormatError, SignatureInvalid) if name == "proof" else (FormatError,),
            [seed.encode()],
        )
        for name, decode, seed in rows
    ]


def _gbcs(world: World) -> list[Decoder]:
    admission = _admission(world)
    date_times = [GbcsDateTime.from_timestamp(t).to_bytes() for t in (0.0, 1e9, 4e9)]
    return [
        Decoder(
            "gbcs-message",
            ("gbcs.messages:parse_untrusted",),
            _round_trip,
            (FormatError,),
            world.gbcs,
        ),
        Decoder(
            "gbcs-inspection",
            ("gbcs.inspection:explain",),
            lambda octets: explain(octets, world.keystore, NOW),
            (FormatError,),
            world.gbcs,
        ),
        Decoder(
            "gbcs-date-time",
            ("gbcs.date_time:GbcsDateTime.parse_untrusted",),
            GbcsDateTime.parse_untrusted,
            (FormatError,),
            date_times,
        ),
        Decoder(
            "gbcs-entity-id",
            ("gbcs.entity_id:EntityId.parse",),
            lambda octets: EntityId.parse(octets.decode("utf-8", "surrogateescape")),
            (BuildError,),
            [str(DEFAULT_DEVICE).encode(), DEFAULT_SUPPLIER.hex.encode()],
        ),
        Decoder(
            "cem-command",
            ("cem.core.admission:Admission.admit_untrusted",),
            admission.admit_untrusted,
            (CommandRefused,),
            [message.to_bytes() for message in world.messages if isinstance(message, Command)],
        ),
    ]


def _keys(world: World) -> list[Decoder]:
    return [
        Decoder(
            "certificate-pem",
            ("gbcs.certificates:parse_certificate",),
            _certificate,
            (CertificateFormatError,),
            world.certificates,
            PEM,
        ),
        Decoder(
            "certificate-der",
            ("gbcs.certificates:parse_certificate",),
            _certificate,
            (CertificateFormatError,),
            [parse_certificate(pem).x509.public_bytes(Encoding.DER) for pem in world.certificates],
        ),
        Decoder(
            "private-key",
            ("gbcs.keystore:load_private_key",),
            lambda octets: load_private_key(octets, "fuzzed.key"),
            (CertificateFormatError,),
            world.keys,
            PEM,
        ),
        Decoder(
            "keystore-certificate",
            ("gbcs.keystore:KeyStore.from_pems", "gbcs.keystore:KeyStore.verify"),
            _keystore(world, certificate=True),
            (CertificateFormatError, CertificateRefused),
            world.certificates,
            PEM,
        ),
        Decoder(
            "keystore-key",
            ("gbcs.keystore:KeyStore.from_pems",),
            _keystore(world, certificate=False),
            (CertificateFormatError,),
            world.keys,
            PEM,
        ),
    ]


def _duis(world: World) -> list[Decoder]:
    reader = ReceivedReader(
        world.keystore,
        supplier_id=DEFAULT_SUPPLIER,
        load_controller_id=DEFAULT_LOAD_CONTROLLER,
    )
    requests, responses = world.requests(), world.responses()

    def request(octets: bytes) -> None:
        parse_untrusted_request(octets).verify(world.keystore, role=Role.XML_SIGNING_USER, at=NOW)

    def response(octets: bytes) -> None:
        parse_untrusted_response(octets).verify(world.keystore, role=Role.XML_SIGNING_DCC, at=NOW)

    errors = (DuisFormatError, XmlSignatureInvalid, CertificateRefused)
    search = "<CertificateSearchRequest><CertificateSubjectAltName>{}</CertificateSubjectAltName>"
    serial = "<CertificateDataRequest><CertificateSerial>{}</CertificateSerial>"
    identifier = str(RequestId(DEFAULT_SUPPLIER, DEFAULT_DEVICE, 5)).encode()
    return [
        Decoder(
            "duis-request",
            ("gbcs.duis.parsing:parse_untrusted_request", "gbcs.duis.signature:read_signature"),
            request,
            errors,
            requests,
            XML,
        ),
        Decoder(
            "duis-response",
            ("gbcs.duis.parsing:parse_untrusted_response", "gbcs.duis.signature:read_signature"),
            response,
            errors,
            responses,
            XML,
        ),
        Decoder(
            "dsrsp-received",
            ("dsrsp.core.matching:ReceivedReader.read_untrusted",),
            lambda octets: reader.read_untrusted(octets, at=NOW),
            (ReceivedRefused,),
            responses,
            XML,
        ),
        Decoder(
            "duis-request-id",
            ("gbcs.duis.model:RequestId.parse_untrusted",),
            lambda octets: RequestId.parse_untrusted(octets.decode("utf-8", "surrogateescape")),
            (DuisFormatError,),
            [identifier],
        ),
        Decoder(
            "smki-search",
            ("gbcs.smki_repository:parse_untrusted_search_request",),
            parse_untrusted_search_request,
            (SmkiRepositoryFormatError,),
            [
                search.format(one).encode() + b"</CertificateSearchRequest>"
                for one in (DEFAULT_DEVICE, DEFAULT_SUPPLIER.hex)
            ],
        ),
        Decoder(
            "smki-data",
            ("gbcs.smki_repository:parse_untrusted_data_request",),
            parse_untrusted_data_request,
            (SmkiRepositoryFormatError,),
            [
                serial.format(one).encode() + b"</CertificateDataRequest>"
                for one in ("1f", "0A" * 16)
            ],
        ),
    ]


def decoders() -> list[Decoder]:
    """Return the rows of the table."""
    world = World()
    return [*_link(world), *_gbcs(world), *_keys(world), *_duis(world)]
