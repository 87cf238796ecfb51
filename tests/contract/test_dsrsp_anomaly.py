"""The gateway against the simulator's anomaly detection: paced, nothing is ever quarantined."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from dcc_sim import DccSimConfig, DeviceConfig, UserConfig
from dcc_sim.config import ThresholdConfig
from dcc_sim.core.services import Service as SimulatorService
from dcc_sim.local import LocalSimulator
from dsrsp import DsrspConfig, Gateway, Service
from dsrsp.errors import DccUnreachable, StorageError
from gbcs.certificates import KeyUsage
from gbcs.crypto import EcdsaSigner, sign_response
from gbcs.keystore import KeyStore
from gbcs.messages import Command, Response, parse_untrusted
from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER as DCC
from gbcs.pki import DEFAULT_DEVICE as DEVICE
from gbcs.pki import DEFAULT_LOAD_CONTROLLER as LOAD_CONTROLLER
from gbcs.pki import DEFAULT_SUPPLIER as SUPPLIER
from lab.keys import read_keystore
from lab.pki_files import write_test_pki
from lab.virtual_time import run_virtual
from smtunnel import DeliveryState

START_S = 1_900_000_000.0
LIMIT, PERIOD_S = 12, 600.0
MESSAGES = [bytes([n]) * 60 + os.urandom(150) for n in range(10)]


@pytest.fixture(scope="module")
def keystore(tmp_path_factory: pytest.TempPathFactory) -> KeyStore:
    folder = tmp_path_factory.mktemp("anomaly") / "pki"
    write_test_pki(folder, devices=(DEVICE,), random_octets=os.urandom)
    return read_keystore([folder], test_mode=True)


def virtual_clock() -> float:
    return START_S + asyncio.get_running_loop().time()


class Quarantined:
    """A journal that counts what is held back."""

    def __init__(self) -> None:
        self.held = 0

    def record(self, event: str, /, **fields: Any) -> None:
        self.held += event == "quarantine" and fields["outcome"] == "held"


class LocalDcc:
    """Brings requests to the simulator; loses the answer of every ``loses``-th."""

    def __init__(self, simulator: LocalSimulator, loses: int) -> None:
        self.simulator = simulator
        self.loses = loses
        self.sends = 0

    async def post(self, service: Service, request: bytes) -> bytes:
        reply = await self.simulator.request(SimulatorService(service.value), request)
        self.sends += service is Service.SEND
        if self.loses and self.sends % self.loses == 0:
            self.sends += 1
            raise DccUnreachable("the answer is lost")
        return reply.xml


async def talk(keystore: KeyStore, *, loses: int = 0, **settings: Any) -> dict[str, Any]:
    """Send messages to a device that answers; return what became of them."""
    gateways: list[Gateway] = []

    async def post(url: str, octets: bytes) -> int:
        try:
            gateways[0].receive_untrusted(octets)
        except StorageError:
            return 503
        return 204

    url = "http://dsrsp.invalid/"
    threshold = ThresholdConfig(service_reference_variant="6.14.1", limit=LIMIT, period_s=PERIOD_S)
    config = DccSimConfig(
        dcc_id=DCC,
        state=":memory:",
        test_mode=True,
        users=[
            UserConfig(
                entity_id=SUPPLIER, role="supplier", receive_url=url, thresholds=[threshold]
            ),
            UserConfig(entity_id=LOAD_CONTROLLER, role="load-controller", receive_url=url),
        ],
        devices=[DeviceConfig(entity_id=DEVICE)],
    )
    signer = EcdsaSigner(keystore.private_key(DEVICE, KeyUsage.DIGITAL_SIGNATURE))
    journal = Quarantined()
    simulator = LocalSimulator(config, keystore, post=post, clock=virtual_clock, journal=journal)
    async with simulator:

        def obey(octets: bytes) -> None:
            command = parse_untrusted(octets)
            assert isinstance(command, Command)
            results = (0,) * len(command.pre_command.labels)
            response = sign_response(Response.answering(command, results), signer).to_bytes()
            asyncio.get_running_loop().call_later(1.0, link.send, response)

        link = simulator.connect(DEVICE, obey, lambda: None)
        dsrsp = DsrspConfig(
            supplier_id=SUPPLIER,
            load_controller_id=LOAD_CONTROLLER,
            state=":memory:",
            test_mode=True,
            **settings,
        )
        gateway = Gateway(dsrsp, keystore, clock=virtual_clock, dcc=LocalDcc(simulator, loses))
        gateways.append(gateway)
        async with gateway:
            handles = [await gateway.send(DEVICE, message) for message in MESSAGES]
            for _ in range(200):
                await asyncio.sleep(60.0)
                if all(handle.status.final for handle in handles):
                    break
            return {
                "states": {handle.status.state for handle in handles},
                "quarantined": journal.held,
                "fragments": sum(handle.status.fragments_total for handle in handles),
            }


@pytest.mark.parametrize("loses", [0, 3])
def test_paced_below_the_threshold_nothing_is_quarantined(keystore: KeyStore, loses: int) -> None:
    """Control records count, repetitions over HTTP do not, and periods need not be in step."""
    run = run_virtual(
        talk(keystore, loses=loses, fragments_per_window=LIMIT, window_s=PERIOD_S),
    )
    assert run["fragments"] > 2 * LIMIT
    assert run["quarantined"] == 0
    assert run["states"] == {DeliveryState.REASSEMBLED}


def test_without_a_pace_commands_are_quarantined_and_no_more_follow(keystore: KeyStore) -> None:
    run = run_virtual(
        talk(keystore, message_lifetime_s=3600.0),
    )
    # Those that were on their way when the first was held; the others wait.
    assert 1 <= run["quarantined"] <= 6


def test_what_nobody_releases_silences_nobody_for_longer_than_a_window(keystore: KeyStore) -> None:
    run = run_virtual(
        talk(keystore, message_lifetime_s=7200.0, window_s=PERIOD_S, response_timeout_s=7200.0),
    )
    # With a stop to the end of what is held, nothing but the first LIMIT would ever have gone.
    assert DeliveryState.REASSEMBLED in run["states"]
    assert 1 <= run["quarantined"] < run["fragments"] // 2


def test_without_the_stop_the_quarantine_fills(keystore: KeyStore) -> None:
    run = run_virtual(
        talk(keystore, stop_on_quarantine=False, fragments_in_flight=64, messages_in_flight=64),
    )
    assert run["quarantined"] > 6
