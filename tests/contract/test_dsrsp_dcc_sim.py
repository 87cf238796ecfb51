"""The DSRSP's adaptor against the DCC simulator over real HTTP: each kind of refusal, explained."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.client import connect

from dcc_sim import DccSimConfig, DeviceConfig, Simulator, UserConfig
from dsrsp import DsrspConfig, Gateway
from gbcs.certificates import KeyUsage
from gbcs.crypto import EcdsaSigner, sign_alert, sign_response, verify_message
from gbcs.date_time import GbcsDateTime
from gbcs.device_link import (
    device_path,
    make_proof,
    parse_untrusted_challenge,
    parse_untrusted_welcome,
)
from gbcs.entity_id import EntityId
from gbcs.keystore import KeyStore
from gbcs.messages import Alert, Command, Response, parse_untrusted
from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER as DCC
from gbcs.pki import DEFAULT_DEVICE as DEVICE
from gbcs.pki import DEFAULT_LOAD_CONTROLLER as LOAD_CONTROLLER
from gbcs.pki import DEFAULT_SUPPLIER as SUPPLIER
from lab.keys import read_keystore
from lab.pki_files import write_test_pki
from smtunnel import ECS200, DeliveryState, Originator, encode_message

OTHER_DEVICE = EntityId.parse("02-53-4D-54-00-00-00-77")


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    folder = tmp_path_factory.mktemp("contract") / "pki"
    write_test_pki(folder, devices=(DEVICE, OTHER_DEVICE), random_octets=os.urandom)
    return read_keystore([folder], test_mode=True)


@contextlib.asynccontextmanager
async def system(
    keystore: KeyStore, tmp_path: Path, **changes: Any
) -> AsyncIterator[tuple[Simulator, Gateway]]:
    """The simulator and a gateway that know each other's addresses."""

    settings_of_dsrsp = changes.pop("dsrsp", {})
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receive_url = f"http://127.0.0.1:{listener.getsockname()[1]}/smartdcc/duis"
        users = [
            UserConfig(
                entity_id=SUPPLIER,
                role=changes.pop("role", "supplier"),
                receive_url=receive_url,
            ),
            UserConfig(entity_id=LOAD_CONTROLLER, role="load-controller", receive_url=receive_url),
        ]
        config = DccSimConfig(
            **{
                "dcc_id": DCC,
                "duis_listen": "127.0.0.1:0",
                "device_listen": "127.0.0.1:0",
                "smki_listen": "127.0.0.1:0",
                "state": ":memory:",
                "test_mode": True,
                "users": users,
                "devices": [DeviceConfig(entity_id=DEVICE)],
                **changes,
            }
        )
        async with Simulator(config, keystore) as simulator:
            settings = DsrspConfig(
                supplier_id=SUPPLIER,
                load_controller_id=LOAD_CONTROLLER,
                dcc_url=f"http://127.0.0.1:{simulator.duis_port}",
                state=str(tmp_path / "dsrsp.sqlite"),
                test_mode=True,
                # Once, so that what becomes of one request is what becomes of the message.
                **({"fragment_attempts": 1} | settings_of_dsrsp),
            )
            async with Gateway(settings, keystore, listener=listener.dup()) as gateway:
                yield simulator, gateway


class Device:
    """A device on the simulator's hub that answers each command with given results."""

    def __init__(
        self, keystore: KeyStore, port: int, results: tuple[int, ...] | None, *, busy: int = 0
    ) -> None:
        key = keystore.private_key(DEVICE, KeyUsage.DIGITAL_SIGNATURE)
        self._signer = EcdsaSigner(key)
        self._supplier = keystore.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
        self._url = f"ws://127.0.0.1:{port}{device_path(DEVICE)}"
        self._results = results
        self._busy = busy  # so many commands are answered 02 first
        self.commands: list[Command] = []

    async def __aenter__(self) -> Device:
        self._link = await connect(self._url, compression=None, proxy=None)
        challenge = parse_untrusted_challenge(await self._link.recv())
        proof = make_proof(challenge, DEVICE, self._signer, os.urandom(32))
        await self._link.send(proof.build())
        parse_untrusted_welcome(await self._link.recv())
        self._task = asyncio.create_task(self._answer())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self._link.close()

    async def _answer(self) -> None:
        async for octets in self._link:
            assert isinstance(octets, bytes)
            command = parse_untrusted(octets)
            assert isinstance(command, Command)
            verify_message(command, self._supplier.public_key)
            self.commands.append(command)
            if self._results is not None:
                labels = len(command.pre_command.labels)
                busy = len(self.commands) <= self._busy
                results = ((2,) if busy else self._results) * labels
                results = results[:labels]
                response = Response.answering(command, results)
                await self._link.send(sign_response(response, self._signer).to_bytes())

    async def send_alert(self, text: str, counter: int) -> None:
        alert = Alert(DEVICE, SUPPLIER, counter, text, GbcsDateTime(), LOAD_CONTROLLER)
        await self._link.send(sign_alert(alert, self._signer).to_bytes())


async def test_a_message_goes_down_and_one_comes_up(keystore: KeyStore, tmp_path: Path) -> None:
    async with (
        system(keystore, tmp_path) as (simulator, gateway),
        Device(keystore, simulator.device_port, (0,)) as device,
    ):
        handle = await gateway.send(DEVICE, bytes(range(256)))
        status = await handle.wait()
        assert status.state is DeliveryState.REASSEMBLED, status
        first = status.first_counter
        assert first is not None
        counters = {command.pre_command.originator_counter for command in device.commands}
        assert counters >= set(range(first, first + status.fragments_total))
        encoded = encode_message(
            b"an answer", carrier=ECS200, originator=Originator.CEM, tunnel_message_id=0
        )
        await device.send_alert(str(encoded.payloads[0]), 1)
        async for received in gateway.received():
            assert received.message == b"an answer"
            await received.ack(answers=handle.ref)
            break
        assert handle.status.state is DeliveryState.ANSWERED


@pytest.mark.parametrize(
    ("changes", "code", "teaches"),
    [
        ({"role": "load-controller"}, "E2", "6.14.1 needs an electricity import supplier"),
        ({"devices": [DeviceConfig(entity_id=OTHER_DEVICE)]}, "E19", "inventory"),
        ({"devices": [DeviceConfig(entity_id=DEVICE, status="Pending")]}, "E5", "commissioned"),
        ({"devices": [DeviceConfig(entity_id=DEVICE, device_type="GSME")]}, "E11", "ESME"),
        (
            {"devices": [DeviceConfig(entity_id=DEVICE, supplier_id=OTHER_DEVICE)]},
            "E4",
            "responsible import supplier",
        ),
        ({"device_connect_timeout_s": 0.01}, "E20", "communications hub"),
    ],
)
async def test_a_refusal_is_explained(
    keystore: KeyStore, tmp_path: Path, changes: dict[str, Any], code: str, teaches: str
) -> None:
    async with system(keystore, tmp_path, **changes) as (_, gateway):
        status = await (await gateway.send(DEVICE, b"x")).wait()
    assert status.state is DeliveryState.FAILED
    assert f"refused with {code}" in (status.reason or "")
    assert teaches in (status.reason or "")


async def test_a_silent_device_is_told(keystore: KeyStore, tmp_path: Path) -> None:
    async with (
        system(keystore, tmp_path, device_response_timeout_s=0.05) as (simulator, gateway),
        Device(keystore, simulator.device_port, None),
    ):
        status = await (await gateway.send(DEVICE, b"x")).wait()
    assert status.state is DeliveryState.FAILED
    assert "refused with E21" in (status.reason or "")


async def test_a_device_that_refuses_a_label_is_told(keystore: KeyStore, tmp_path: Path) -> None:
    async with (
        system(keystore, tmp_path) as (simulator, gateway),
        Device(keystore, simulator.device_port, (0, 3)),
    ):
        status = await (await gateway.send(DEVICE, bytes(range(100)))).wait()
    assert status.state is DeliveryState.FAILED
    assert "label 2: 03 not allowed" in (status.reason or "")


async def test_a_device_that_is_busy_is_asked_again(keystore: KeyStore, tmp_path: Path) -> None:
    async with (
        system(keystore, tmp_path, dsrsp={"fragment_retry_first_s": 0.02}) as (simulator, gateway),
        Device(keystore, simulator.device_port, (0,), busy=6),
    ):
        status = await (await gateway.send(DEVICE, b"x")).wait()
    assert status.state is DeliveryState.REASSEMBLED
