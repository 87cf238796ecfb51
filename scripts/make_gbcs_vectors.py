"""Makes specs/vectors/gbcs.json: GBCS messages with keys of our own, usable from any language.

Run it as ``python scripts/make_gbcs_vectors.py > specs/vectors/gbcs.json``. Signatures are
deterministic (RFC 6979), so it always writes the same octets; a test compares.
"""

from __future__ import annotations

import json
import sys
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from gbcs import (
    Alert,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    Label,
    PreCommand,
    Response,
    add_mac,
    shared_secret,
    sign_alert,
    sign_pre_command,
    sign_response,
)

SUPPLIER = EntityId.parse("02-53-4D-54-00-00-00-02")
BROKER = EntityId.parse("02-53-4D-54-00-00-00-04")
LOAD_CONTROLLER = EntityId.parse("02-53-4D-54-00-00-00-08")
DEVICE = EntityId.parse("02-53-4D-54-00-00-10-01")
ABOUT = (
    "GBCS messages of the use cases ECS46a and ECS200. All octets are hexadecimal. 'messages' must "
    "be built from 'fields' and read back; 'refused' must be refused. Signatures are ECDSA P-256 "
    "with SHA-256, raw r || s, made deterministically (RFC 6979); any valid signature is as good. "
    "The keys are made from public text: never use them for anything else."
)


def _key(name: str) -> ec.EllipticCurvePrivateKey:
    number = int.from_bytes(sha256(b"smtunnel test vectors: " + name.encode()).digest(), "big")
    return ec.derive_private_key(number >> 1, ec.SECP256R1())


SUPPLIER_SIGNS = _key("supplier digital signature")
DEVICE_SIGNS = _key("device digital signature")
DEVICE_AGREES = _key("device key agreement")
BROKER_AGREES = _key("access control broker key agreement")


def _described_key(key: ec.EllipticCurvePrivateKey) -> dict[str, str]:
    public = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return {
        "private": f"{key.private_numbers().private_value:064x}",
        "public": public.hex(),
    }


def _labels(text: str, first: int = 1) -> tuple[Label, ...]:
    pieces = [text[at : at + 22] for at in range(0, len(text), 22)]
    return tuple(Label(index, piece) for index, piece in enumerate(pieces, first))


def _command_fields(pre_command: PreCommand) -> dict[str, Any]:
    return {
        "originator_id": pre_command.originator_id.hex,
        "target_id": pre_command.target_id.hex,
        "originator_counter": str(pre_command.originator_counter),
        "labels": [{"index": label.index, "text": label.text} for label in pre_command.labels],
    }


def _command_flow(
    name: str, counter: int, labels: tuple[Label, ...], results: tuple[int, ...]
) -> list[dict[str, Any]]:
    pre_command = PreCommand(SUPPLIER, DEVICE, counter, labels)
    signed = sign_pre_command(pre_command, EcdsaSigner(SUPPLIER_SIGNS, deterministic=True))
    command = add_mac(signed, shared_secret(BROKER_AGREES, DEVICE_AGREES.public_key()))
    response = sign_response(
        Response.answering(command, results), EcdsaSigner(DEVICE_SIGNS, deterministic=True)
    )
    fields = _command_fields(pre_command)
    return [
        {
            "name": f"{name}: {step}",
            "kind": kind,
            "octet_count": len(octets),
            "fields": step_fields,
            "octets": octets.hex(),
        }
        for step, kind, step_fields, octets in (
            ("pre-command", "PreCommand", fields, pre_command.to_bytes()),
            ("signed pre-command", "SignedPreCommand", fields, signed.to_bytes()),
            ("command", "Command", fields, command.to_bytes()),
            ("response", "Response", _response_fields(response), response.to_bytes()),
        )
    ]


def _response_fields(response: Response) -> dict[str, Any]:
    return {
        "originator_id": response.originator_id.hex,
        "target_id": response.target_id.hex,
        "originator_counter": str(response.originator_counter),
        "results": list(response.results),
    }


def _alert(name: str, alert: Alert) -> dict[str, Any]:
    signed = sign_alert(alert, EcdsaSigner(DEVICE_SIGNS, deterministic=True))
    octets = signed.to_bytes()
    counters = (alert.supplementary_remote_party_counter, alert.supplementary_originator_counter)
    party = alert.supplementary_remote_party_id
    return {
        "name": name,
        "kind": "Alert",
        "octet_count": len(octets),
        "fields": {
            "originator_id": alert.originator_id.hex,
            "target_id": alert.target_id.hex,
            "originator_counter": str(alert.originator_counter),
            "supplementary_remote_party_id": None if party is None else party.hex,
            "supplementary_remote_party_counter": None if counters[0] is None else str(counters[0]),
            "supplementary_originator_counter": None if counters[1] is None else str(counters[1]),
            "alert_code": alert.alert_code,
            "date_time": alert.date_time.to_bytes().hex(),
            "text": alert.text,
        },
        "octets": octets.hex(),
    }


def _alerts() -> list[dict[str, Any]]:
    when = GbcsDateTime.from_timestamp(1_735_689_600.25)
    return [
        _alert("short alert", Alert(DEVICE, SUPPLIER, 1, "MAEBAA==", when, LOAD_CONTROLLER)),
        _alert("full alert", Alert(DEVICE, SUPPLIER, 2, "x" * 1062, when, LOAD_CONTROLLER)),
        _alert("alert without a supplementary party", Alert(DEVICE, SUPPLIER, 3, "~", when, None)),
        _alert(
            "alert with all supplementary fields, of no known time",
            Alert(
                DEVICE, SUPPLIER, 2**64 - 1, " " * 130, GbcsDateTime(), LOAD_CONTROLLER, 5, 2**63
            ),
        ),
    ]


def _changed(octets: bytes, offset: int, new: str) -> bytes:
    replacement = bytes.fromhex(new)
    return octets[:offset] + replacement + octets[offset + len(replacement) :]


def _refused() -> list[dict[str, Any]]:
    pre_command = PreCommand(SUPPLIER, DEVICE, 7, (Label(1, "ab"), Label(2, "c"))).to_bytes()
    padded = pre_command[:33] + b"\x81" + pre_command[33:]
    unsigned_response = Response(DEVICE, SUPPLIER, 7, (0, 0)).to_bytes()
    cases = [
        ("nothing at all", b"", 0),
        ("another tag", _changed(pre_command, 0, "D0"), 0),
        ("cut in the originator", pre_command[:15], 12),
        ("cut at its last octet", pre_command[:-1], len(pre_command) - 1),
        ("an octet after the end", pre_command + b"\x00", len(pre_command)),
        ("a message code that is not ours", _changed(pre_command, 31, "0054"), 31),
        ("a length not in its shortest form", padded, 33),
        ("a content length one too small", _changed(pre_command, 33, "22"), 33),
        ("an invoke id that is not the counter's end", _changed(pre_command, 36, "000008"), 36),
        ("no labels", _changed(pre_command, 40, "00"), 40),
        ("six labels", _changed(pre_command, 40, "06"), 40),
        ("a label that does not exist", _changed(pre_command, 49, "0A"), 49),
        ("the same label twice", _changed(pre_command, 59, "0B"), 40),
        ("fewer texts than labels", _changed(pre_command, 61, "01"), 61),
        ("an empty label", _changed(pre_command, 63, "00"), 63),
        ("a label of 23 characters", _changed(pre_command, 63, "17"), 63),
        ("a label with a line end", _changed(pre_command, 64, "0A"), 64),
        ("a label with an octet that is not ASCII", _changed(pre_command, 64, "E9"), 64),
        ("a signature length of 63", unsigned_response[:-1] + b"\x3f" + bytes(63), 49),
        ("a date-time in the header", _changed(pre_command, 29, "0C"), 29),
        ("too long for the network", pre_command + bytes(1200), None),
    ]
    return [
        {"name": name, "offset": offset, "octets": octets.hex()} for name, octets, offset in cases
    ]


def _vectors() -> dict[str, Any]:
    return {
        "about": ABOUT,
        "parties": {
            "supplier": {
                "entity_id": SUPPLIER.hex,
                "digital_signature": _described_key(SUPPLIER_SIGNS),
            },
            "access_control_broker": {
                "entity_id": BROKER.hex,
                "key_agreement": _described_key(BROKER_AGREES),
            },
            "load_controller": {"entity_id": LOAD_CONTROLLER.hex},
            "device": {
                "entity_id": DEVICE.hex,
                "digital_signature": _described_key(DEVICE_SIGNS),
                "key_agreement": _described_key(DEVICE_AGREES),
            },
        },
        "shared_secret": shared_secret(BROKER_AGREES, DEVICE_AGREES.public_key()).hex(),
        "messages": [
            *_command_flow("full labels", 1, _labels("0123456789" * 11), (0,) * 5),
            *_command_flow("one full label", 2**24 + 5, _labels("~" * 22), (0xFA,)),
            *_command_flow(
                "labels 2 and 5", 2**64 - 1, (Label(2, "b"), Label(5, "Heat pump")), (0, 3)
            ),
            *_alerts(),
        ],
        "refused": _refused(),
    }


def main() -> None:
    """Print the vectors as JSON."""
    json.dump(_vectors(), sys.stdout, indent=1)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
