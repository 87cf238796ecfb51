"""``smtunnel gbcs inspect`` as a person or a script meets it."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from gbcs import (
    Alert,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    KeyUsage,
    Label,
    PreCommand,
    Role,
    add_mac,
    sign_pre_command,
)
from gbcs.pki import TestPki
from lab.cli.app import run
from smtunnel import ECS46A, Originator, encode_message, payload_to_labels

SUPPLIER, DEVICE = EntityId(bytes(7) + b"\2"), EntityId(bytes(7) + b"\x09")
PRE_COMMAND = PreCommand(SUPPLIER, DEVICE, 1, (Label(2, "Heat [bold]pump"),))
KEY = ec.derive_private_key(7, ec.SECP256R1())

ROOT = Path(__file__).resolve().parents[2]


def inspect(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(["gbcs", "inspect", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def inspect_json(
    capsys: pytest.CaptureFixture[str], *arguments: object
) -> tuple[int, dict[str, Any]]:
    code, out, _ = inspect(capsys, "--json", *arguments)
    return code, json.loads(out)


@pytest.fixture
def keys(tmp_path: Path) -> Path:

    pki = TestPki.create(random_octets=os.urandom, clock=time.time)
    supplier = pki.issue_organisation(SUPPLIER, Role.SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
    folder = tmp_path / "keys"
    (folder / "deep").mkdir(parents=True)
    for number, issued in enumerate((*pki.authorities(), supplier)):
        (folder / "deep" / f"{number}.pem").write_bytes(issued.certificate.pem)
    (folder / "supplier.key").write_bytes(supplier.private_key_pem)
    signed = sign_pre_command(PRE_COMMAND, EcdsaSigner(supplier.private_key))
    (tmp_path / "signed.hex").write_text(signed.to_bytes().hex())
    return folder


def test_hexadecimal_digits_as_an_argument(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = inspect(capsys, PRE_COMMAND.to_bytes().hex(" "))
    assert code == 0
    assert "ECS46a pre-command (unsigned), 69 octets" in out
    # markup in a label is shown, not obeyed
    assert "'Heat [bold]pump'" in out
    assert str(DEVICE) in out


@pytest.mark.parametrize(
    "content",
    [
        PRE_COMMAND.to_bytes(),
        PRE_COMMAND.to_bytes().hex().encode(),
        PRE_COMMAND.to_bytes().hex("\n").upper().encode() + b"\r\n",
    ],
    ids=["binary", "hex", "hex in lines"],
)
def test_files_and_standard_input(
    content: bytes,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = tmp_path / "message"
    file.write_bytes(content)
    assert inspect_json(capsys, file)[1]["kind"] == "PreCommand"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    assert inspect_json(capsys, "-")[1]["kind"] == "PreCommand"


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("no such file", "neither a file nor"),
        ("DF0", "neither a file nor"),
        ("", "neither a file nor"),
        ("DF09", "ends too early"),
        ("00" * 20, "expected DF"),
        ("DF" * 1201, "at most 1200"),
        ("x" * 5000, "neither a file nor"),
    ],
)
def test_bad_input_is_told_and_has_its_exit_code(
    argument: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, err = inspect(capsys, argument)
    assert (code, out) == (3, "")
    assert told in err


def test_huge_files_bad_times_and_missing_folders(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = tmp_path / "huge"
    huge.write_bytes(bytes(5_000_000))
    message = PRE_COMMAND.to_bytes().hex()
    for arguments, told in (
        ((huge,), "too long"),
        ((message, "--at", "yesterday"), "is not a time"),
        ((message, "--keys", tmp_path / "nowhere"), "no such folder"),
    ):
        code, _, err = inspect(capsys, *arguments)
        assert code == 3
        assert told in err


def test_a_signature_that_holds(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = inspect_json(capsys, tmp_path / "signed.hex", "--keys", keys)
    assert code == 0
    assert said["verdict"] == "what can be checked holds"
    assert [check["verdict"] for check in said["checks"]] == ["holds", "holds"]
    code, out, _ = inspect(capsys, tmp_path / "signed.hex", "--keys", keys)
    assert code == 0
    assert "signature: holds: by the supplier" in out


def test_a_signature_that_does_not_hold(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    forged = sign_pre_command(PRE_COMMAND, EcdsaSigner(KEY)).to_bytes().hex()
    code, said = inspect_json(capsys, forged, "--keys", keys)
    assert code == 1
    assert said["verdict"] == "something fails"
    assert inspect(capsys, forged, "--keys", keys)[0] == 1


def test_certificates_are_judged_at_a_time_when_asked(
    keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "signed.hex"
    assert inspect(capsys, file, "--keys", keys, "--at", "2001-01-01")[0] == 1
    code, said = inspect_json(capsys, file, "--keys", keys, "--at", "2001-01-01T00:00:00Z")
    assert code == 1
    assert said["checks"][1]["verdict"] == "not valid at that time"


def test_without_keys_a_command_cannot_be_checked(capsys: pytest.CaptureFixture[str]) -> None:
    command = add_mac(sign_pre_command(PRE_COMMAND, EcdsaSigner(KEY)), bytes(32))
    code, said = inspect_json(capsys, command.to_bytes().hex())
    assert code == 0
    assert said["verdict"] == "nothing can be checked"
    assert said["use_case"] == "ECS46a"


def test_a_fragment_inside_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    encoded = encode_message(
        b"<oadrPoll/>", carrier=ECS46A, originator=Originator.DSRSP, tunnel_message_id=77
    )
    pairs = payload_to_labels(encoded.payloads[0])
    labels = tuple(Label(index, text) for index, text in pairs)
    octets = PreCommand(SUPPLIER, DEVICE, 1, labels).to_bytes().hex()
    code, said = inspect_json(capsys, octets)
    assert code == 0
    assert said["tunnel"]["payload"] == encoded.payloads[0]
    assert said["tunnel"]["fragment"]["tunnel_message_id"] == 77
    assert said["tunnel"]["fragment"]["originator"] == "DSRSP"
    assert "tunnel: fragment 0 (the last) of message 77" in inspect(capsys, octets)[1]


def test_what_is_no_fragment_is_called_so(capsys: pytest.CaptureFixture[str]) -> None:
    said = inspect_json(capsys, PRE_COMMAND.to_bytes().hex())[1]
    assert said["tunnel"]["payload"] is None
    assert "somebody's own" in said["tunnel"]["reason"]
    alert = Alert(DEVICE, SUPPLIER, 1, '{"outputState":"1"}', GbcsDateTime(), None)
    code, out, _ = inspect(capsys, alert.to_bytes().hex())
    assert code == 0
    assert "tunnel: no fragment" in out


def test_a_message_of_route_2b(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vectors = json.loads((ROOT / "specs/vectors/route-2b.json").read_text(encoding="utf-8"))
    octets = bytes.fromhex(vectors["messages"][1]["octets"])
    file = tmp_path / "message"
    file.write_bytes(octets)
    code, out, _ = inspect(capsys, file)
    assert code == 0
    assert "route 2b (assumed)" in out
    assert "5 octets; `smtunnel inspect`" in out
    code, out, _ = inspect(capsys, octets.hex(), "--json")
    told = json.loads(out)
    assert (told["kind"], told["use_case"]) == ("Route2bMessage", "route 2b")
    assert told["tunnel"]["payload"] == b"\x08\x00\x05hello".hex()
    assert told["tunnel"]["fragment"]["tunnel_message_id"] == 5
    assert told["tunnel"]["fragment"]["body_octets"] == 5
