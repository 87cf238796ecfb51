"""The gateway's client of the signing service against the reference service, a real process."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from dsrsp.config import SigningServiceConfig
from dsrsp.errors import SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.http_signer import PATH, USE_ECS46A, HttpSigner
from dsrsp.signing import CheckedSigner
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import verify_signature
from gbcs.entity_id import EntityId
from gbcs.messages import Label, PreCommand, Response
from gbcs.pki import DEFAULT_DEVICE as DEVICE
from gbcs.pki import DEFAULT_LOAD_CONTROLLER as LOAD_CONTROLLER
from gbcs.pki import DEFAULT_SUPPLIER as SUPPLIER
from lab.keys import read_keystore
from lab.pki_files import write_test_pki


def pre_command(counter: int = 7, originator: EntityId = SUPPLIER) -> PreCommand:
    return PreCommand(originator, DEVICE, counter, (Label(1, "AAAA"),))


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("signing") / "pki"
    write_test_pki(folder, devices=(DEVICE,), random_octets=os.urandom)
    return folder


@contextlib.asynccontextmanager
async def service(
    folder: Path, pki: Path, *, per_minute: int = 100
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
        ]
        async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as http:
            for status, body in cases:
                async with http.post(config.url + PATH, json=body) as answer:
                    assert (answer.status, "signature" in await answer.json()) == (status, False)
        (tmp_path / "other.token").write_text("another token of sixteen\n")
        stranger = SigningServiceConfig(url=config.url, token_file="other.token")
        async with HttpSigner(stranger, tmp_path, supplier_id=SUPPLIER) as signer:
            with pytest.raises(SigningRefused, match=r"401.*token"):
                await signer.sign(pre_command())
    assert {line["outcome"] for line in audit(tmp_path)} == {"refused"}


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
