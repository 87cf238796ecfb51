"""The gateway's daemon with its supplier's key in a signing service, over mutual TLS."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from dsrsp.config import SigningServiceConfig
from dsrsp.errors import SignerUnavailable
from dsrsp.http_signer import USE_ECS46A, USE_ROUTE_2B_MESSAGE, USE_ROUTE_2B_PROOF, HttpSigner
from dsrsp.signing import CheckedSigner
from gbcs.certificates import KeyUsage, Role
from gbcs.messages import Label, PreCommand
from gbcs.pki import DEFAULT_DEVICE, DEFAULT_SUPPLIER
from lab.control_client import ControlClient
from lab.journal import read_journal
from lab.keys import read_keystore
from lab.local_system import LocalSystem
from lab.tls_files import write_tls_files
from smtunnel import RouteChoice

MESSAGE = Random(1).randbytes(1600)  # does not shrink: 21 fragments


class Service:
    """`smtunnel signing-service` in a folder of its own, always at the same port.

    Args:
        folder: for its configuration, token, TLS files and audit.
        pki: the folder that `smtunnel pki init` made.
        keys: where the supplier's key is.
    """

    def __init__(self, folder: Path, pki: Path, keys: Path) -> None:
        self.folder = folder
        write_tls_files(folder / "tls", ["service", "gateway"])
        write_tls_files(folder / "strangers", ["service", "gateway"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.set_inheritable(True)
        self.process: Process | None = None
        (folder / "signing.toml").write_text(
            f"""
supplier_id = "{DEFAULT_SUPPLIER}"
keys = {json.dumps([str(pki / "certificates"), str(keys)])}
listen = "fd:{self.listener.fileno()}"
token_file = "signing.token"
audit = "audit.jsonl"
certificate_file = "tls/service.pem"
key_file = "tls/service.key"
client_ca_file = "tls/ca.pem"
test_mode = true
"""
        )

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "lab", "signing-service"),
            *("--config", str(self.folder / "signing.toml")),
            stdin=DEVNULL,
            stdout=PIPE,
            pass_fds=[self.listener.fileno()],
        )
        assert self.process.stdout is not None
        assert json.loads(await self.process.stdout.readline())["ready"]

    async def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None

    def signed(self, use: str = USE_ECS46A) -> list[int]:
        """The counters of what was signed, in order; None where it has none."""
        lines = (self.folder / "audit.jsonl").read_text().splitlines()
        asked = [json.loads(line) for line in lines]
        return [
            line.get("originator_counter")
            for line in asked
            if (line["outcome"], line["use"]) == ("signed", use)
        ]

    def toml(self) -> str:
        """The table gateway.signing, as it stands in a file."""
        lines = [f"{name} = {json.dumps(value)}" for name, value in self.settings().items()]
        return "\n".join(["[gateway.signing]", *lines])

    def settings(
        self, *, certificate: str | None = "tls/gateway", ca: str = "tls"
    ) -> dict[str, str]:
        """The table gateway.signing; paths are absolute."""
        found = {
            "url": f"https://127.0.0.1:{self.port}",
            "token_file": str(self.folder / "signing.token"),
            "ca_file": str(self.folder / ca / "ca.pem"),
        }
        if certificate is not None:
            found["certificate_file"] = str(self.folder / f"{certificate}.pem")
            found["key_file"] = str(self.folder / f"{certificate}.key")
        return found


@contextlib.asynccontextmanager
async def running(folder: Path, pki: Path, keys: Path) -> AsyncIterator[Service]:
    folder.mkdir()
    service = Service(folder, pki, keys)
    try:
        await service.start()
        yield service
    finally:
        await service.kill()
        service.listener.close()


def supplier_key(pki: Path) -> Path:
    """The file of the supplier's digital-signature key."""
    certificate = read_keystore([pki / "certificates"], test_mode=True).certificate(
        DEFAULT_SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER
    )
    for path in (pki / "dsrsp").glob("*.key"):
        key = load_pem_private_key(path.read_bytes(), None)
        if key.public_key() == certificate.public_key:
            return path
    raise AssertionError("the test PKI has no key of the supplier")


def forms(pem: bytes) -> Iterable[bytes]:
    """All that would give a key away: its text, its DER, its number in octets and in hex."""
    key = load_pem_private_key(pem, None)
    number = key.private_numbers().private_value.to_bytes(32, "big")  # type: ignore[union-attr]
    yield from pem.splitlines()[1:3]
    yield key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    yield from (number, number.hex().encode(), number.hex().upper().encode())


def files_with(parts: Iterable[bytes], folders: Iterable[Path]) -> set[str]:
    parts = list(parts)
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return {path.name for path in files if any(part in path.read_bytes() for part in parts)}


@pytest.fixture
def split_pki(tmp_path: Path, test_pki: Path) -> tuple[Path, Path]:
    """The PKI without the supplier's key, and the folder that has it alone."""
    pki, keys = tmp_path / "pki", tmp_path / "vault"
    shutil.copytree(test_pki, pki)
    keys.mkdir(mode=0o700)
    key = supplier_key(test_pki)
    shutil.move(pki / "dsrsp" / key.name, keys / key.name)
    return pki, keys


async def test_a_message_goes_down_though_the_key_is_elsewhere_and_the_service_dies_on_the_way(
    tmp_path: Path, split_pki: tuple[Path, Path]
) -> None:
    pki, keys = split_pki
    home = tmp_path / "system"
    home.mkdir()
    async with running(tmp_path / "service", pki, keys) as service:
        settings = {"dsrsp": f"retry_max_s = 0.2\n{service.toml()}"}
        async with LocalSystem(home, pki, settings=settings) as system:
            async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
                to = system.identities.device_id
                ref = (await dsrsp.send(MESSAGE, to=to, compression="zlib"))["ref"]
                async for status in dsrsp.statuses(ref):
                    if status["fragments_delivered"] >= 3:
                        await service.kill()
                        break
                # What was signed by then arrives; then nothing moves, and nothing fails.
                second = (await dsrsp.send(b"second", to=to))["ref"]
                await service.start()
                for one in (ref, second):
                    async for status in dsrsp.statuses(one):
                        if status["state"] in ("REASSEMBLED", "FAILED"):
                            break
                    assert status["state"] == "REASSEMBLED", status
                received = {r.message for r in await cem.received(wait_s=30)}
                assert received == {MESSAGE, b"second"}
            journal = read_journal(system.journal("dcc-sim"))
        sent = {
            event["originator_counter"]
            for event in journal
            if event["event"] == "gbcs" and event["hop"] == "signed_pre_command"
        }
        assert len(sent) > 10
        assert sent <= set(service.signed())
    secret = list(forms((keys / supplier_key_name(keys)).read_bytes()))
    # The search finds it where it is, and nowhere else: folders, states, logs, journals.
    assert files_with(secret, [keys]) == {supplier_key_name(keys)}
    assert files_with(secret, [home, pki, tmp_path / "service"]) == set()


async def test_route_2b_though_the_key_is_elsewhere_and_the_service_dies_on_the_way(
    tmp_path: Path, split_pki: tuple[Path, Path]
) -> None:
    pki, keys = split_pki
    home = tmp_path / "system"
    home.mkdir()
    async with running(tmp_path / "service", pki, keys) as service:
        settings = {"dsrsp": f"retry_max_s = 0.2\n{service.toml()}"}
        async with LocalSystem(home, pki, settings=settings, route_2b=True) as system:
            await system.route_2b_up()
            async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:

                async def ended(client: ControlClient, refs: list[str]) -> None:
                    for ref in refs:
                        async for status in client.statuses(ref):
                            if status["state"] in ("REASSEMBLED", "FAILED"):
                                break
                        assert status["state"] == "REASSEMBLED", status
                        assert status["routes"] == "2b"

                async def send(client: ControlClient, words: list[bytes]) -> list[str]:
                    to = system.identities.device_id if client is dsrsp else None
                    how = {"to": to, "route": RouteChoice.ONLY_2B}
                    return [(await client.send(word, **how))["ref"] for word in words]

                await ended(dsrsp, await send(dsrsp, [MESSAGE]))
                await ended(cem, await send(cem, [MESSAGE]))
                before = len(service.signed(USE_ROUTE_2B_MESSAGE))
                await service.kill()
                downs = await send(dsrsp, [b"down %d" % n for n in range(20)])
                ups = await send(cem, [b"up %d" % n for n in range(20)])
                # The CEM's messages come, but what tells it so has no signature yet.
                got = {MESSAGE}
                while not got >= {b"up %d" % n for n in range(20)}:
                    for received in await dsrsp.received(wait_s=30):
                        got.add(received.message)
                        await dsrsp.ack(received.ref)
                assert len(service.signed(USE_ROUTE_2B_MESSAGE)) == before
                assert (await dsrsp.route())["cems"][0]["connected"]
                await service.start()
                await ended(dsrsp, downs)
                await ended(cem, ups)
                got = set()
                while len(got) < 21:
                    for received in await cem.received(wait_s=30):
                        assert received.message not in got
                        got.add(received.message)
                        await cem.ack(received.ref)
                assert got == {MESSAGE, *(b"down %d" % n for n in range(20))}
            journal = list(read_journal(system.journal("dsrsp")))
    # The connection stood all the time, and nothing has gone that the service has not signed.
    sent = {
        event["originator_counter"]
        for event in journal
        if event["event"] == "carrier" and event["direction"] == "down" and event["route"] == "2b"
    }
    assert len(sent) > 20
    assert sent <= set(service.signed(USE_ROUTE_2B_MESSAGE))
    assert len(service.signed(USE_ROUTE_2B_PROOF)) == 1
    secret = list(forms((keys / supplier_key_name(keys)).read_bytes()))
    assert files_with(secret, [home, pki, tmp_path / "service"]) == set()


def supplier_key_name(keys: Path) -> str:
    (path,) = keys.iterdir()
    return path.name


@pytest.mark.parametrize(
    ("certificate", "ca", "said"),
    [
        (None, "tls", "disconnected|reset"),
        ("strangers/gateway", "tls", "disconnected|reset"),
        ("tls/gateway", "strangers", "(?i)certificate verify failed"),
    ],
)
async def test_without_a_certificate_of_the_right_ca_nobody_is_spoken_to(
    tmp_path: Path, split_pki: tuple[Path, Path], certificate: str | None, ca: str, said: str
) -> None:
    pki, keys = split_pki
    supplier = read_keystore([pki / "certificates"], test_mode=True).certificate(
        DEFAULT_SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER
    )
    asked = PreCommand(DEFAULT_SUPPLIER, DEFAULT_DEVICE, 7, (Label(1, "AAAA"),))
    async with running(tmp_path / "service", pki, keys) as service:
        good = SigningServiceConfig(**service.settings())
        async with HttpSigner(good, tmp_path, supplier_id=DEFAULT_SUPPLIER) as signer:
            await CheckedSigner(signer, supplier.public_key).sign(asked)
        bad = SigningServiceConfig(**service.settings(certificate=certificate, ca=ca))
        async with HttpSigner(bad, tmp_path, supplier_id=DEFAULT_SUPPLIER) as signer:
            with pytest.raises(SignerUnavailable, match=said):
                await signer.sign(asked)
        assert service.signed() == [7]
