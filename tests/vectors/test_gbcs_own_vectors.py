"""specs/vectors/gbcs.json: what a stranger would do with it, and that it is up to date."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gbcs import (
    Alert,
    Command,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    Label,
    Message,
    PreCommand,
    Response,
    SignedPreCommand,
    add_mac,
    parse_untrusted,
    shared_secret,
    sign_alert,
    sign_pre_command,
    sign_response,
    verify_mac,
    verify_message,
)
from gbcs.errors import FormatError

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "specs" / "vectors" / "gbcs.json"
VECTORS = json.loads(FILE.read_text())
PARTIES = VECTORS["parties"]


def key(party: str, usage: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(PARTIES[party][usage]["private"], 16), ec.SECP256R1())


def public(party: str, usage: str) -> ec.EllipticCurvePublicKey:
    point = bytes.fromhex(PARTIES[party][usage]["public"])
    return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)


def counter(text: str | None) -> int | None:
    return None if text is None else int(text)


def build(kind: str, fields: dict[str, Any]) -> Message:
    names = {
        "originator_id": EntityId.parse(fields["originator_id"]),
        "target_id": EntityId.parse(fields["target_id"]),
        "originator_counter": int(fields["originator_counter"]),
    }
    device = EcdsaSigner(key("device", "digital_signature"), deterministic=True)
    if kind == "Response":
        return sign_response(Response(**names, results=tuple(fields["results"])), device)
    if kind == "Alert":
        party = fields["supplementary_remote_party_id"]
        alert = Alert(
            **names,
            text=fields["text"],
            date_time=GbcsDateTime.parse_untrusted(bytes.fromhex(fields["date_time"])),
            supplementary_remote_party_id=None if party is None else EntityId.parse(party),
            supplementary_remote_party_counter=counter(
                fields["supplementary_remote_party_counter"]
            ),
            supplementary_originator_counter=counter(fields["supplementary_originator_counter"]),
            alert_code=fields["alert_code"],
        )
        return sign_alert(alert, device)
    labels = tuple(Label(label["index"], label["text"]) for label in fields["labels"])
    pre_command = PreCommand(**names, labels=labels)
    if kind == "PreCommand":
        return pre_command
    supplier = EcdsaSigner(key("supplier", "digital_signature"), deterministic=True)
    signed = sign_pre_command(pre_command, supplier)
    return signed if kind == "SignedPreCommand" else add_mac(signed, z())


def z() -> bytes:
    return bytes.fromhex(VECTORS["shared_secret"])


def test_the_file_is_what_the_script_makes() -> None:
    script = ROOT / "scripts" / "make_gbcs_vectors.py"
    made = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert made.stdout == FILE.read_text(), f"run: python {script} > {FILE}"


def test_both_sides_agree_on_the_shared_secret() -> None:
    broker, device = key("access_control_broker", "key_agreement"), key("device", "key_agreement")
    assert shared_secret(broker, public("device", "key_agreement")) == z()
    assert shared_secret(device, public("access_control_broker", "key_agreement")) == z()


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_messages_are_built_to_the_octet(vector: dict[str, Any]) -> None:
    octets = build(vector["kind"], vector["fields"]).to_bytes()
    assert octets.hex() == vector["octets"]
    assert len(octets) == vector["octet_count"]


@pytest.mark.parametrize("vector", VECTORS["messages"], ids=lambda vector: vector["name"])
def test_messages_are_read_and_verified(vector: dict[str, Any]) -> None:
    octets = bytes.fromhex(vector["octets"])
    message = parse_untrusted(octets)
    assert type(message).__name__ == vector["kind"]
    assert message == build(vector["kind"], vector["fields"])
    assert message.to_bytes() == octets
    if isinstance(message, SignedPreCommand | Command):
        verify_message(message, public("supplier", "digital_signature"))
    if isinstance(message, Command):
        verify_mac(message, z())
    if isinstance(message, Response | Alert):
        verify_message(message, public("device", "digital_signature"))


@pytest.mark.parametrize("vector", VECTORS["refused"], ids=lambda vector: vector["name"])
def test_malformed_messages_are_refused_at_the_right_octet(vector: dict[str, Any]) -> None:
    with pytest.raises(FormatError) as refused:
        parse_untrusted(bytes.fromhex(vector["octets"]))
    assert refused.value.offset == vector["offset"]
