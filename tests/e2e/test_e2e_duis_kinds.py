"""A real run with the official schema: every kind of DUIS message comes up, and each is valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from gbcs import EntityId, Label
from gbcs.certificates import Role
from gbcs.duis import (
    Request,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    parse_untrusted_response,
)
from gbcs.duis.codes import Code
from lab.daemon import read_duis_schema
from lab.journal import read_journal
from lab.keys import read_keystore
from lab.local_system import LocalSystem

STRANGER = EntityId.parse("02-53-4D-54-FF-FF-FF-FF")
SECONDS_S = "device_connect_timeout_s = 0.3\ndevice_response_timeout_s = 5.0"


def _signed(pki: Path, user: EntityId, device: EntityId, counter: int) -> bytes:
    keystore = read_keystore([pki / "certificates", pki / "dsrsp"], test_mode=True)
    request = Request(
        originator_id=user,
        target_id=device,
        originator_counter=counter,
        command_variant=4,
        body=UpdateAlcDescriptions((Label(1, "label"),)),
    )
    return build_request(request, XmlSigner.from_keystore(keystore, user, Role.XML_SIGNING_USER))


def _duis(system: LocalSystem, **wanted: str) -> list[dict[str, Any]]:
    return [
        event
        for event in read_journal(system.journal("dcc-sim"))
        if event["event"] == "duis" and all(event[name] == wanted[name] for name in wanted)
    ]


@pytest.fixture
def schema_file(reference_vectors: Path) -> Path:
    return reference_vectors / "duis" / "duis54.xsd"


async def test_every_kind_of_message_of_a_real_run_is_valid(
    new_system: Callable[..., LocalSystem], test_pki: Path, schema_file: Path
) -> None:
    settings = {"simulator": SECONDS_S}
    async with new_system(duis_schema=schema_file, settings=settings) as system:
        await _good_and_failed_messages(system)
        await _refused_requests(system, test_pki)
        schema = read_duis_schema(schema_file)
        for event in _duis(system, direction="out"):
            schema.validate(bytes.fromhex(event["xml"]))
        assert {event["kind"] for event in _duis(system, direction="out")} == {
            "PreCommandBody",
            "AcknowledgementBody",
            "ServiceResponseBody",
            "DeviceAlertBody",
            "ErrorBody",
        }
        assert {event["kind"] for event in _duis(system, direction="in")} == {
            "UpdateAlcDescriptions",
            "SignedPreCommandBody",
            "unreadable",
        }
        # What the gateway sent by itself; the rest was made wrong on purpose.
        for kind in ("UpdateAlcDescriptions", "SignedPreCommandBody"):
            schema.validate(bytes.fromhex(_duis(system, direction="in", kind=kind)[0]["xml"]))
        assert "is not valid" not in system.log("dcc-sim").read_text()


async def _good_and_failed_messages(system: LocalSystem) -> None:
    device = system.identities.device_id
    async with system.control("dsrsp") as dsrsp:
        async with system.control("cem") as cem:
            await dsrsp.send(b"down", to=device)
            assert [message.message for message in await cem.received(wait_s=30)] == [b"down"]
            await cem.send(b"up")
            assert [message.message for message in await dsrsp.received(wait_s=30)] == [b"up"]
        await system.stop("cem")
        await dsrsp.send(b"nobody is there", to=device)
        events: list[dict[str, Any]] = []
        while not events:
            async with aiohttp.ClientSession() as http:  # one exchange gives the others a turn
                await http.get(system.duis_url())
            events = _duis(system, direction="out", kind="ErrorBody")
    error = parse_untrusted_response(bytes.fromhex(events[0]["xml"]))
    assert (error.message.response_code, error.signed) == (Code.DEVICE_UNREACHABLE, True)


async def _refused_requests(system: LocalSystem, pki: Path) -> None:
    who = system.identities
    good = _signed(pki, who.supplier_id, who.device_id, 10**6)
    taken = {
        kind: bytes.fromhex(_duis(system, direction="in", kind=kind)[0]["xml"])
        for kind in ("UpdateAlcDescriptions", "SignedPreCommandBody")
    }
    label = b">label<"
    assert label in good
    refused: list[tuple[str, bytes, Code]] = [
        (
            "serviceT",
            _signed(pki, who.load_controller_id, who.device_id, 1),
            Code.ROLE_NOT_ELIGIBLE,
        ),
        ("serviceT", _signed(pki, who.supplier_id, STRANGER, 10**6), Code.UNKNOWN_DEVICE),
        ("serviceS", taken["SignedPreCommandBody"], Code.SIGNED_PRE_COMMAND_REPEATED),
        ("serviceT", taken["UpdateAlcDescriptions"], Code.COUNTER_USED_BEFORE),
        ("serviceT", good.replace(label, b">other<"), Code.XML_SIGNATURE_INVALID),
        ("serviceT", good.replace(label, b">" + b"x" * 23 + b"<"), Code.XML_INVALID),
        ("serviceT", good.replace(label, ">läbel<".encode()), Code.XML_INVALID),
        ("serviceT", good.replace(label, b"><"), Code.XML_INVALID),
        ("serviceT", good[:-1], Code.XML_INVALID),
        ("serviceS", b"<Foreign xmlns='urn:x'/>", Code.XML_INVALID),
        ("serviceD", good, Code.WRONG_SERVICE_ADDRESS),
    ]
    async with aiohttp.ClientSession(headers={"Content-Type": "application/xml"}) as http:
        for service, octets, code in refused:
            url = f"{system.duis_url()}/api/v1/{service}"
            async with http.post(url, data=octets) as answer:
                told = parse_untrusted_response(await answer.read()).message.response_code
            assert told == code, (service, octets[:2000])
            assert answer.status in (200, 400)
        # None of them used the counter up.
        async with http.post(f"{system.duis_url()}/api/v1/serviceT", data=good) as answer:
            told = parse_untrusted_response(await answer.read()).message.response_code
            assert told == Code.SUCCESS
