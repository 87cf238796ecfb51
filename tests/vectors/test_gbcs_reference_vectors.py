"""The reference messages of the real system, with the public test keys."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from gbcs import (
    Alert,
    Command,
    EntityId,
    KeyStore,
    KeyUsage,
    Label,
    PreCommand,
    Response,
    Role,
    add_mac,
    parse_untrusted,
    shared_secret,
    verify_mac,
    verify_message,
)
from gbcs.inspection import Verdict, explain
from gbcs.messages import Message

SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")
LOAD_CONTROLLER = EntityId.parse("90-B3-D5-1F-30-01-00-08")
DEVICE = EntityId.parse("00-DB-12-34-56-78-90-A0")
# Most certificates of the public set are valid from 2015 or 2023 into 2025.
WHEN = datetime(2024, 6, 1, tzinfo=UTC)
LABELS = (Label(2, "Label2"), Label(3, "Label3"), Label(4, "Label4"))
FILES = {
    "alert": "ECS200_NA_8F88_ALERT_GBCS.HEX",
    "error response": "ECS46a_6.14.1_ALL_OPTIONALS_ERROR_RESPONSE_GBCS.HEX",
    "command": "ECS46a_6.14.1_SOME_OPTIONALS_SUCCESS_COMMAND_GBCS.HEX",
    "pre-command": "ECS46a_6.14.1_SOME_OPTIONALS_SUCCESS_PRECOMMAND_GBCS.HEX",
    "response": "ECS46a_6.14.1_SOME_OPTIONALS_SUCCESS_RESPONSE_GBCS.HEX",
}


@pytest.fixture(scope="module")
def octets(reference_vectors: Path) -> dict[str, bytes]:
    folder = reference_vectors / "rtds"
    return {name: bytes.fromhex((folder / file).read_text()) for name, file in FILES.items()}


@pytest.fixture(scope="module")
def keystore(reference_vectors: Path) -> KeyStore:
    files = [file for file in (reference_vectors / "keys").iterdir() if file.suffix != ".json"]
    return KeyStore.from_pems({file.name: file.read_bytes() for file in files}, test_mode=True)


@pytest.fixture(scope="module")
def messages(octets: dict[str, bytes]) -> dict[str, Message]:
    return {name: parse_untrusted(message) for name, message in octets.items()}


def test_every_reference_message_is_covered(reference_vectors: Path) -> None:
    assert {file.name for file in (reference_vectors / "rtds").iterdir()} == set(FILES.values())


@pytest.mark.parametrize("name", FILES)
def test_what_is_read_is_written_again(name: str, octets: dict[str, bytes]) -> None:
    assert parse_untrusted(octets[name]).to_bytes() == octets[name]


def test_builder_reproduces_the_pre_command(octets: dict[str, bytes]) -> None:
    built = PreCommand(SUPPLIER, DEVICE, 1002, LABELS).to_bytes()
    assert built == octets["pre-command"]


def test_command_says_what_the_pre_command_said(messages: dict[str, Message]) -> None:
    command = messages["command"]
    assert isinstance(command, Command)
    assert command.pre_command == messages["pre-command"]


def test_command_signature_and_mac_hold(messages: dict[str, Message], keystore: KeyStore) -> None:
    command = messages["command"]
    assert isinstance(command, Command)
    supplier = keystore.certificate(SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER)
    verify_message(command, supplier.public_key)
    broker = keystore.access_control_broker()
    assert broker.entity_id is not None
    z = shared_secret(
        keystore.private_key(
            broker.entity_id, KeyUsage.KEY_AGREEMENT, role=Role.ACCESS_CONTROL_BROKER
        ),
        keystore.certificate(DEVICE, KeyUsage.KEY_AGREEMENT).public_key,
    )
    verify_mac(command, z)
    assert add_mac(command.signed_pre_command, z) == command


def test_responses(messages: dict[str, Message], keystore: KeyStore) -> None:
    device = keystore.certificate(DEVICE, KeyUsage.DIGITAL_SIGNATURE)
    for name, counter, results in (
        ("response", 1002, (0, 0, 0)),
        ("error response", 1006, (0, 0, 0, 1, 0xFA)),
    ):
        response = messages[name]
        assert isinstance(response, Response)
        assert (response.originator_id, response.target_id) == (DEVICE, SUPPLIER)
        assert (response.originator_counter, response.results) == (counter, results)
        assert response.success == (name == "response")
        verify_message(response, device.public_key)


def test_alert(messages: dict[str, Message], keystore: KeyStore) -> None:
    alert = messages["alert"]
    assert isinstance(alert, Alert)
    assert alert.text == '{"outputState":"100","inputState":"0","other-data":""}'
    assert alert.supplementary_remote_party_id == LOAD_CONTROLLER
    assert alert.date_time.timestamp() == datetime(2015, 1, 1, tzinfo=UTC).timestamp()
    verify_message(alert, keystore.certificate(DEVICE, KeyUsage.DIGITAL_SIGNATURE).public_key)


@pytest.mark.parametrize("name", FILES)
def test_inspection_finds_that_all_holds(
    name: str, octets: dict[str, bytes], keystore: KeyStore
) -> None:
    inspection = explain(octets[name], keystore, WHEN)
    assert {check.verdict for check in inspection.checks} <= {Verdict.HOLDS}
    assert inspection.holds()
    expected = {"command": 5, "pre-command": 0}.get(name, 2)
    assert len(inspection.checks) == expected


def test_inspection_tells_expired_certificates(
    octets: dict[str, bytes], keystore: KeyStore
) -> None:
    inspection = explain(octets["command"], keystore, datetime(2026, 6, 1, tzinfo=UTC))
    assert not inspection.holds()
    assert inspection.holds(validity_counts=False)
