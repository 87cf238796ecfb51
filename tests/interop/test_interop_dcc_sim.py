"""Clients made for the DCC's emulator against our simulator, and every request template there is.

The key store client and the templates come from npm when the tests run; the client is a separate
program. The messages carry the identities of the published test keys.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from lxml import etree

from dcc_sim import CHECKS, Check, DccSimConfig, DeviceConfig, Simulator, UserConfig
from gbcs import EntityId, KeyStore, Role
from gbcs.duis import (
    ErrorBody,
    InventoryBody,
    ParsedResponse,
    PreCommandBody,
    Schema,
    XmlSigner,
    parse_untrusted_response,
)

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
DCC = EntityId.parse("90-B3-D5-1F-30-00-00-02")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
# Most of the published certificates have expired: the moment is pinned.
MOMENT = datetime(2026, 11, 21, 19, 50, tzinfo=UTC)
SERVICES = {"4": "serviceT", "8": "serviceD"}

# Node programs: the client's own documentation shows these calls.
QUERY = """
(async () => {
  const { BoxedKeyStore, KeyUsage } = require("@smartdcc/dccboxed-keystore");
  const store = await BoxedKeyStore.new(process.argv[2]);
  const found = [];
  for (const query of JSON.parse(process.argv[3])) {
    if (query.keyUsage) query.keyUsage = KeyUsage[query.keyUsage];
    if (query.serial) query.serial = BigInt(query.serial);
    const answer = await store.query({ ...query, lookup: "certificate" });
    found.push([].concat(answer ?? []).map((one) => one.certificate.serialNumber.toLowerCase()));
  }
  await store.cleanup();
  console.log(JSON.stringify(found));
})();
"""


@pytest.fixture(scope="session")
def duis_schema(reference_vectors: Path) -> Schema:
    files = [p for p in (reference_vectors / "duis").iterdir() if p.suffix in (".xsd", ".dtd")]
    return Schema({path.name: path.read_bytes() for path in files}, "duis54.xsd")


StartSimulator = Callable[..., Any]


@pytest.fixture
def start_simulator(reference_keystore: KeyStore, duis_schema: Schema) -> StartSimulator:
    @asynccontextmanager
    async def start(devices: set[EntityId], **changes: Any) -> AsyncIterator[Simulator]:
        config = DccSimConfig(
            **{
                "dcc_id": DCC,
                "duis_listen": "127.0.0.1:0",
                "device_listen": "127.0.0.1:0",
                "smki_listen": "127.0.0.1:0",
                "state": ":memory:",
                "test_mode": True,
                "users": [
                    UserConfig(
                        entity_id=SUPPLIER, role="supplier", receive_url="http://127.0.0.1:9"
                    )
                ],
                "devices": [DeviceConfig(entity_id=device) for device in sorted(devices)],
                **changes,
            }
        )
        async with Simulator(
            config, reference_keystore, schema=duis_schema, clock=MOMENT.timestamp
        ) as simulator:
            yield simulator

    return start


async def send(
    session: aiohttp.ClientSession, simulator: Simulator, service: str, octets: bytes
) -> tuple[int, ParsedResponse]:
    url = f"http://127.0.0.1:{simulator.duis_port}/api/v1/{service}"
    headers = {"Content-Type": "application/xml"}
    async with session.post(url, data=octets, headers=headers) as response:
        return response.status, parse_untrusted_response(await response.read())


class Template:
    """A request template with a counter and a signature of ours in it."""

    def __init__(self, path: Path, counter: int, signer: XmlSigner) -> None:
        parser = etree.XMLParser(remove_blank_text=True, remove_comments=True)
        root = etree.parse(path, parser).getroot()
        ns = {"sr": "http://www.dccinterface.co.uk/ServiceUserGateway"}
        for signature in root.findall("{http://www.w3.org/2000/09/xmldsig#}Signature"):
            root.remove(signature)
        (request_id,) = root.xpath("sr:Header/sr:RequestID", namespaces=ns)
        _, target, _ = request_id.text.split(":")
        request_id.text = f"{SUPPLIER}:{target}:{counter}"
        header = root.find("sr:Header", ns)
        self.name = path.name
        self.target = EntityId.parse(target)
        self.mentioned = {
            EntityId.parse(text)
            for text in root.xpath("sr:Body/sr:ReadInventory/sr:DeviceID/text()", namespaces=ns)
        }
        self.command_variant = header.findtext("sr:CommandVariant", None, ns)
        self.service_reference_variant = header.findtext("sr:ServiceReferenceVariant", None, ns)
        canonical = etree.tostring(root, method="c14n").decode()
        signature = signer.signature_over(canonical)
        self.octets = re.sub("</sr:Request>$", signature + "</sr:Request>", canonical).encode()

    @property
    def service(self) -> str:
        return SERVICES.get(self.command_variant, "serviceS")


@pytest.fixture(scope="session")
def templates(duis_templates: Path, reference_keystore: KeyStore) -> list[Template]:
    signer = XmlSigner.from_keystore(reference_keystore, SUPPLIER, Role.XML_SIGNING_USER)
    paths = sorted(duis_templates.glob("*.XML"))
    return [Template(path, counter, signer) for counter, path in enumerate(paths, 1)]


async def test_every_template_gets_its_answer(
    templates: list[Template], start_simulator: StartSimulator, caplog: pytest.LogCaptureFixture
) -> None:
    devices = {template.target for template in templates} - {DCC}
    devices |= {device for template in templates for device in template.mentioned}
    seen: dict[str, int] = {}
    async with start_simulator(devices) as simulator, aiohttp.ClientSession() as session:
        for template in templates:
            status, answer = await send(session, simulator, template.service, template.octets)
            code = answer.message.response_code
            seen[code] = seen.get(code, 0) + 1
            assert status == 200, template.name
            expected = EXPECTED.get(template.service_reference_variant, CHECKS[Check.OFFERED].code)
            assert code == expected, template.name
            if code.startswith("E"):
                assert isinstance(answer.message.body, ErrorBody)
            assert answer.message.request_id is not None
            variant = answer.message.service_reference_variant
            assert variant == template.service_reference_variant
    assert len(templates) > 250
    assert sum(seen.values()) == len(templates)
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# What is not here is not offered.
EXPECTED = {
    "6.14.1": "I0",
    "8.2": "I0",
    # Updates of a device's details are not simulated, but its status.
    "8.4": CHECKS[Check.OFFERED].code,
    # Returns a response of another use case, which this simulator's devices do not give.
    "8.13": CHECKS[Check.LOCAL_RESPONSE].code,
    # These templates have another command variant than the schema says (in its comments).
    **dict.fromkeys(("7.12", "7.13", "7.14", "7.15"), CHECKS[Check.COMMAND_VARIANT].code),
}


async def test_every_template_in_the_wrong_place(
    templates: list[Template], start_simulator: StartSimulator
) -> None:
    devices = {template.target for template in templates} - {DCC}
    wrong = {"serviceT": "serviceS", "serviceS": "serviceD", "serviceD": "serviceT"}
    async with start_simulator(devices) as simulator, aiohttp.ClientSession() as session:
        for template in templates:
            service = wrong[template.service]
            status, answer = await send(session, simulator, service, template.octets)
            contradicts = EXPECTED.get(template.service_reference_variant) == "E12"
            code = CHECKS[Check.COMMAND_VARIANT if contradicts else Check.ADDRESS].code
            assert (status, answer.message.response_code) == (200, code), template.name


async def test_templates_signed_by_the_dccs_tool(
    duis_templates: Path,
    dcc_tool: Any,
    reference_vectors: Path,
    start_simulator: StartSimulator,
) -> None:
    stem = reference_vectors / "keys" / "90b3d51f30010000-xml-sign-90B3D51F30010000-ds"
    keys = (stem.with_suffix(".pem"), stem.with_suffix(".key"))
    devices = {DEVICE, EntityId.parse("00-DB-12-34-56-78-90-A2")}
    bodies = []
    async with start_simulator(devices) as simulator, aiohttp.ClientSession() as session:
        for pattern, service in (("*_6.14.1_*", "serviceT"), ("8.2_*", "serviceD")):
            path = sorted(duis_templates.glob(pattern))[0]
            parser = etree.XMLParser(remove_comments=True)
            root = etree.parse(path, parser).getroot()
            for signature in root.findall("{http://www.w3.org/2000/09/xmldsig#}Signature"):
                root.remove(signature)
            counter = str(len(bodies) + 1)
            octets = re.sub(
                rb":\d+</sr:RequestID>", f":{counter}</sr:RequestID>".encode(), etree.tostring(root)
            )
            signed = await asyncio.to_thread(dcc_tool.sign, octets, *keys)
            status, answer = await send(session, simulator, service, signed)
            assert (status, answer.message.response_code) == (200, "I0")
            bodies.append(answer.message.body)
    assert isinstance(bodies[0], PreCommandBody)
    assert isinstance(bodies[1], InventoryBody)


async def test_the_key_store_client_finds_certificates(
    npm_packages: Path,
    reference_keystore: KeyStore,
    start_simulator: StartSimulator,
    tmp_path: Path,
) -> None:
    program = npm_packages.parent.parent / "query.cjs"
    program.write_text(QUERY)
    # The client always asks at port 8083: an address that nobody else has there.
    host = f"127.{random.randint(1, 254)}.{random.randint(0, 254)}.{random.randint(1, 254)}"
    ours = [one for one in reference_keystore.certificates() if one.entity_id == DEVICE]
    queries: list[dict[str, str]] = [
        {"eui": str(DEVICE), "keyUsage": "digitalSignature"},
        {"eui": DEVICE.hex, "keyUsage": "keyAgreement"},
        {"serial": str(ours[0].serial)},
        {"serial": "12345"},
        {"eui": "00-DB-12-34-56-78-90-FF", "keyUsage": "keyAgreement"},
    ]

    def ask() -> list[list[str]]:
        done = subprocess.run(
            ["node", program, host, json.dumps(queries)],
            cwd=program.parent,
            capture_output=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr.decode()
        answer: list[list[str]] = json.loads(done.stdout)
        return answer

    by_usage = {one.usage.value: f"{one.serial:x}" for one in ours}
    async with start_simulator({DEVICE}, smki_listen=f"{host}:8083") as simulator:
        found = await asyncio.to_thread(ask)
        assert found == [
            [by_usage["digitalSignature"]],
            [by_usage["keyAgreement"]],
            [f"{ours[0].serial:x}"],
            [],
            [],
        ]
        for certificate in ours:
            await simulator.revoke(certificate.issuer_name, certificate.serial)
        # No longer in use: the search finds nothing that the client would take.
        assert (await asyncio.to_thread(ask))[:2] == [[], []]
