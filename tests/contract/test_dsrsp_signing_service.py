"""The gateway's client of the signing service against the reference service, a real process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import sys
import tomllib
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dsrsp.config import SigningServiceConfig
from dsrsp.errors import SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.http_signer import (
    PATH,
    USE_ECS46A,
    USE_ROUTE_2B_MESSAGE,
    USE_ROUTE_2B_PROOF,
    HttpSigner,
)
from dsrsp.signing import CheckedSigner, signed_part
from gbcs import CraFlag
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import verify_signature
from gbcs.entity_id import EntityId
from gbcs.messages import Label, PreCommand, Response
from gbcs.pki import DEFAULT_DEVICE as DEVICE
from gbcs.pki import DEFAULT_LOAD_CONTROLLER as LOAD_CONTROLLER
from gbcs.pki import DEFAULT_SUPPLIER as SUPPLIER
from gbcs.route_2b import Route2bMessage
from gbcs.route_2b_transcript import Transcript
from lab.errors import ConfigError
from lab.keys import read_keystore
from lab.pki_files import write_test_pki
from lab.signing_service import SigningConfig
from smtunnel import Compression, FragmentHeader, Originator


def pre_command(counter: int = 7, originator: EntityId = SUPPLIER) -> PreCommand:
    return PreCommand(originator, DEVICE, counter, (Label(1, "AAAA"),))


PAYLOAD = FragmentHeader(Originator.DSRSP, Compression.NONE, False, True, 0, 9).to_bytes() + b"text"
PIN = bytes(range(32))


def message(**changes: Any) -> Route2bMessage:
    fields = {
        "originator_id": SUPPLIER,
        "target_id": DEVICE,
        "originator_counter": 7,
        "cra_flag": CraFlag.COMMAND,
        "payload": PAYLOAD,
    }
    return Route2bMessage(**fields | changes)


def proof(**changes: Any) -> Transcript:
    fields = {
        "version": 1,
        "device": DEVICE,
        "dsrsp": SUPPLIER,
        "client_nonce": bytes(32),
        "server_nonce": b"n" * 32,
        "certificate_sha256": PIN,
    }
    return Transcript(**fields | changes)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signing") / "pki"
    write_test_pki(folder, devices=(DEVICE,), random_octets=os.urandom)
    return folder


@contextlib.asynccontextmanager
async def service(
    folder: Path, pki: Path, *, per_minute: int = 100, more: str = ""
) -> AsyncIterator[SigningServiceConfig]:
    """`smtunnel signing-service` on a free port."""
    path = folder / "signing.toml"
    path.write_text(
        f"""
supplier_id = "{SUPPLIER}"
keys = ["{pki / "certificates"}", "{pki / "dsrsp"}"]
listen = "127.0.0.1:0"
token_file = "signing.token"
audit = "audit.jsonl"
signatures_per_minute = {per_minute}
test_mode = true
{more}
"""
    )
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-W", "error", "-m", "lab", "signing-service", "--config", str(path)),
        stdin=DEVNULL,
        stdout=PIPE,
    )
    try:
        assert process.stdout is not None
        ready = json.loads(await process.stdout.readline())
        url = f"http://127.0.0.1:{ready['port']}"
        yield SigningServiceConfig(url=url, token_file="signing.token")
    finally:
        process.terminate()
        assert await process.wait() == 0


def audit(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "audit.jsonl").read_text().splitlines()]


async def test_it_signs_what_it_may_and_writes_it_down(tmp_path: Path, pki: Path) -> None:
    keystore = read_keystore([pki / "certificates"], test_mode=True)
    certificate = keystore.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER)
    async with (
        service(tmp_path, pki, per_minute=1) as config,
        HttpSigner(config, tmp_path, supplier_id=SUPPLIER) as signer,
    ):
        asked = pre_command()
        signature = await CheckedSigner(signer, certificate.public_key).sign(asked)
        verify_signature(certificate.public_key, signature, asked.signed_part())
        with pytest.raises(SignerUnavailable, match="too many"):
            await signer.sign(pre_command(8))
    first, second = audit(tmp_path)
    assert (first["outcome"], first["originator_counter"]) == ("signed", 7)
    assert (first["target"], first["originator"]) == (str(DEVICE), str(SUPPLIER))
    assert second["outcome"] == "refused"
    text = (tmp_path / "audit.jsonl").read_text()
    assert signature.hex() not in text
    assert base64.b64encode(signature).decode() not in text


async def test_it_refuses_what_its_policy_forbids(tmp_path: Path, pki: Path) -> None:
    response = Response(DEVICE, SUPPLIER, 7, (0,))
    async with service(tmp_path, pki) as config:
        async with HttpSigner(config, tmp_path, supplier_id=SUPPLIER) as signer:
            with pytest.raises(SigningRefused, match=r"403.*originator"):
                await signer.sign(pre_command(originator=LOAD_CONTROLLER))
        async with HttpSigner(config, tmp_path, supplier_id=LOAD_CONTROLLER) as signer:
            with pytest.raises(SigningRefused, match=r"404.*no key"):
                await signer.sign(pre_command())
        token = (tmp_path / "signing.token").read_text().strip()
        good = {
            "use": USE_ECS46A,
            "signer": str(SUPPLIER),
            "octets": base64.b64encode(pre_command().to_bytes()).decode(),
        }
        wrong = base64.b64encode(response.to_bytes()).decode()
        cases: list[tuple[int, Any]] = [
            (403, good | {"use": "anything"}),
            (403, good | {"octets": "AAAA"}),
            (403, good | {"octets": wrong}),
            (400, good | {"octets": "not base64"}),
            (400, {}),
            (400, []),
            (413, good | {"octets": "A" * 1_500_000}),
        ]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
            for status, body in cases:
                text = io.BytesIO(json.dumps(body).encode())
                async with http.post(config.url + PATH, data=text) as answer:
                    assert (answer.status, "signature" in await answer.json()) == (status, False)
        (tmp_path / "other.token").write_text("another token of sixteen\n")
        stranger = SigningServiceConfig(url=config.url, token_file="other.token")
        async with HttpSigner(stranger, tmp_path, supplier_id=SUPPLIER) as signer:
            with pytest.raises(SigningRefused, match=r"401.*token"):
                await signer.sign(pre_command())
    # Not of what is too long, nor without the token: anybody could fill the disk.
    assert [line["outcome"] for line in audit(tmp_path)] == ["refused"] * (2 + len(cases) - 1)


async def test_it_signs_for_route_2b_what_it_has_read(tmp_path: Path, pki: Path) -> None:
    keystore = read_keystore([pki / "certificates"], test_mode=True)
    key = keystore.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER).public_key
    long = message(payload=PAYLOAD + os.urandom(90_000))
    more = f'route_2b_message_octets = 100000\nroute_2b_pins = ["{PIN.hex()}"]'
    async with (
        service(tmp_path, pki, per_minute=0, more=more) as config,
        HttpSigner(config, tmp_path, supplier_id=SUPPLIER) as signer,
    ):
        checked = CheckedSigner(signer, key)
        for what in (message(), long, proof()):
            verify_signature(key, await checked.sign(what), signed_part(what))
        for refused, said in (
            (message(originator_id=LOAD_CONTROLLER), "originator"),
            (message(cra_flag=CraFlag.ALERT), "CRA flag"),
            (message(payload=b"any text"), "no route 2b message"),
            (message(payload=b""), "no route 2b message"),
            (message(payload=b"\x88" + PAYLOAD[1:]), "a CEM has made it"),
            (message(payload=bytes(100_000)), "at most 100000"),
            (message(payload=bytes(200_000)), "413"),
            (proof(dsrsp=LOAD_CONTROLLER), "originator"),
            (proof(version=2), "version"),
            (proof(server_nonce=bytes(32)), "nonces"),
            (proof(certificate_sha256=bytes(32)), "route_2b_pins"),
            # What commands a meter has a bound of its own.
            (pre_command(), "not given, only for 'route 2b message', 'route 2b server proof'"),
        ):
            with pytest.raises(SigningRefused, match=said):
                await signer.sign(refused)
        token = (tmp_path / "signing.token").read_text().strip()
        crossed = [
            (USE_ROUTE_2B_MESSAGE, proof().server_octets()),
            (USE_ROUTE_2B_MESSAGE, pre_command().to_bytes()),
            (USE_ROUTE_2B_MESSAGE, message().with_signature(bytes(64)).to_bytes()),
            (USE_ROUTE_2B_PROOF, message().to_bytes()),
            (USE_ROUTE_2B_PROOF, proof().client_octets()),
            (USE_ROUTE_2B_PROOF, b"\x09" + proof().server_octets()),
        ]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
            for use, octets in crossed:
                text = base64.b64encode(octets).decode()
                body = {"use": use, "signer": str(SUPPLIER), "octets": text}
                async with http.post(config.url + PATH, json=body) as answer:
                    assert (answer.status, "signature" in await answer.json()) == (403, False)
    signed = [line for line in audit(tmp_path) if line["outcome"] == "signed"]
    assert [line["use"] for line in signed] == [USE_ROUTE_2B_MESSAGE] * 2 + [USE_ROUTE_2B_PROOF]
    assert {(line["originator"], line["target"]) for line in signed} == {
        (str(SUPPLIER), str(DEVICE))
    }
    assert signed[0]["originator_counter"] == 7
    assert signed[2]["certificate_sha256"] == PIN.hex()


async def test_each_use_has_its_own_bound(tmp_path: Path, pki: Path) -> None:
    more = "route_2b_messages_per_minute = 1\nroute_2b_proofs_per_minute = 0"
    async with (
        service(tmp_path, pki, per_minute=1, more=more) as config,
        HttpSigner(config, tmp_path, supplier_id=SUPPLIER) as signer,
    ):
        await signer.sign(message())
        with pytest.raises(SignerUnavailable, match="too many"):
            await signer.sign(message())
        await signer.sign(pre_command())
        with pytest.raises(SigningRefused, match="not given"):
            await signer.sign(proof())


@pytest.mark.parametrize(
    "more",
    ["route_2b_pins = ['ab']", "route_2b_message_octets = 5", "route_2b_proofs_per_minute = -1"],
)
def test_settings_that_cannot_be_are_refused(more: str) -> None:
    needed = {"keys": [], "listen": "h:1", "token_file": "t", "audit": "a"}
    settings = {"supplier_id": SUPPLIER} | needed | tomllib.loads(more)
    with pytest.raises(ConfigError, match=r"route_2b|a minute"):
        SigningConfig(**settings).policy()


async def test_a_service_that_is_down_or_silent_is_asked_again(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        silent = SigningServiceConfig(url=f"http://127.0.0.1:{port}", timeout_s=0.05)
        async with HttpSigner(silent, tmp_path, supplier_id=SUPPLIER) as signer:
            with pytest.raises(SignerUnavailable, match=r"no answer in 0\.05 s"):
                await signer.sign(pre_command())
    async with HttpSigner(silent, tmp_path, supplier_id=SUPPLIER) as signer:
        with pytest.raises(SignerUnavailable):
            await signer.sign(pre_command())


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b"{}", SigningFailed),
        (200, b"nonsense", SigningFailed),
        (200, b'{"signature": 5}', SigningFailed),
        (200, b'{"signature": "%%%"}', SigningFailed),
        (200, b"[" * 20_000, SigningFailed),
        (503, b'{"error": "later"}', SignerUnavailable),
        (500, b"<html>", SignerUnavailable),
        (403, b"\xff", SigningRefused),
        (302, b"", SigningRefused),
    ],
)
async def test_whatever_it_answers_is_one_of_our_errors(
    tmp_path: Path, status: int, body: bytes, error: type[Exception]
) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        config = SigningServiceConfig(url=f"http://127.0.0.1:{port}")
        async with HttpSigner(config, tmp_path, supplier_id=SUPPLIER) as signer:
            with pytest.raises(error) as caught:
                await signer.sign(pre_command())
            assert type(caught.value) is error
