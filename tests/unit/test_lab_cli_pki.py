"""``smtunnel pki``: what it writes, what it shows, what it refuses."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from dsrsp.route_2b.tls import make_server_context, read_certificate_sha256
from gbcs import EntityId, KeyStore, KeyUsage, Role
from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER, DEFAULT_DEVICE, DEFAULT_SUPPLIER
from lab.cli.app import run
from lab.errors import KeyFolderError
from lab.keys import read_keystore
from lab.pki_files import write_server_certificate, write_test_pki

SECOND = EntityId.parse("02-53-4D-54-00-00-00-02")


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    folder = tmp_path / "new" / "pki"
    assert run(["pki", "init", str(folder)]) == 0
    return folder


def keystore(*folders: Path) -> KeyStore:
    paths = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return KeyStore.from_pems({str(path): path.read_bytes() for path in paths}, test_mode=True)


def test_everybody_finds_their_keys(pki: Path) -> None:
    public = pki / "certificates"
    dsrsp = keystore(public, pki / "dsrsp")
    dsrsp.private_key(DEFAULT_SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER)
    dsrsp.private_key(DEFAULT_SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.XML_SIGNING_USER)
    dcc = keystore(public, pki / "dcc")
    dcc.private_key(DEFAULT_ACCESS_CONTROL_BROKER, KeyUsage.KEY_AGREEMENT)
    dcc.private_key(
        DEFAULT_ACCESS_CONTROL_BROKER, KeyUsage.DIGITAL_SIGNATURE, role=Role.XML_SIGNING_DCC
    )
    device = keystore(public, pki / "devices" / DEFAULT_DEVICE.hex)
    device.private_key(DEFAULT_DEVICE, KeyUsage.KEY_AGREEMENT)
    assert not list(public.glob("*.key"))


def test_private_keys_are_private(pki: Path) -> None:
    for path in [pki, *pki.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        if path.is_dir():
            assert mode == 0o700
        elif path.suffix == ".key":
            assert mode == 0o600


def test_own_identities(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pki", "init", str(tmp_path / "p"), "--supplier", "0011223344556677"]
    devices = ["--device", "00-00-00-00-00-00-00-01", "--device", "0000000000000002"]
    assert run([*arguments, *devices]) == 0
    assert "16 certificates" in capsys.readouterr().out
    names = {path.name for path in (tmp_path / "p").rglob("*")}
    assert "0011223344556677-supplier-ds.key" in names
    assert {"0000000000000001", "0000000000000002"} <= names
    assert DEFAULT_DEVICE.hex not in names


def test_nothing_is_overwritten(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in pki.rglob("*") if path.is_file()}
    assert run(["pki", "init", str(pki)]) == 3
    assert "something in it already" in capsys.readouterr().err
    assert run(["pki", "add-device", str(pki), str(DEFAULT_DEVICE)]) == 3
    assert "has certificates already" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in pki.rglob("*") if path.is_file()}


def test_add_device(pki: Path) -> None:
    assert run(["pki", "add-device", str(pki), SECOND.hex]) == 0
    store = keystore(pki / "certificates", pki / "devices" / SECOND.hex)
    assert store.private_key(SECOND, KeyUsage.DIGITAL_SIGNATURE) is not None


def test_add_device_where_there_is_no_pki(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["pki", "add-device", str(tmp_path), SECOND.hex]) == 3
    assert "smtunnel pki init" in capsys.readouterr().err


def test_a_certificate_for_route_2b(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pki", "init", str(tmp_path / "p")]) == 0
    assert run(["pki", "route-2b-certificate", str(tmp_path / "p")]) == 0
    told = capsys.readouterr().out
    folder = tmp_path / "p" / "route-2b"
    assert (folder / "server.privkey").stat().st_mode & 0o777 == 0o600
    assert read_certificate_sha256(folder / "server.crt").hex() in told
    make_server_context(folder / "server.crt", folder / "server.privkey", tls_1_2=False)
    # Nobody who reads the whole folder stumbles over it.
    read_keystore([tmp_path / "p"], test_mode=True)
    assert run(["pki", "show", str(tmp_path / "p")]) == 0
    before = (folder / "server.crt").read_bytes()
    assert run(["pki", "route-2b-certificate", str(tmp_path / "p")]) == 3
    assert "there is one already" in capsys.readouterr().err
    assert (folder / "server.crt").read_bytes() == before
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeyFolderError, match="cannot write the certificate"):
        write_server_certificate(tmp_path / "file")


def test_bad_eui(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["pki", "init", str(tmp_path / "p"), "--supplier", "90-B3"]) == 2
    assert "16 hexadecimal digits" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()


def test_same_eui_twice(tmp_path: Path) -> None:
    with pytest.raises(KeyFolderError, match="given twice"):
        write_test_pki(tmp_path / "p", supplier=DEFAULT_DEVICE)


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KeyFolderError, match="cannot write"):
        write_test_pki(tmp_path / "file")


def test_show_table(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["pki", "show", str(pki)]) == 0
    shown = capsys.readouterr().out
    for part in (str(DEFAULT_DEVICE), "load-controller", "keyAgreement", "9999-12-31", "root"):
        assert part in shown


def test_show_one(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    path = pki / "certificates" / f"{DEFAULT_SUPPLIER.hex}-user-xml.pem"
    assert run(["pki", "show", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "CN=SMTUNNEL TEST Z1,OU=07" in shown
    assert "87" in shown


def test_show_json(pki: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["pki", "show", "--json", str(pki)]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert len(facts) == 14
    device = next(one for one in facts if one["entity_id"] == str(DEFAULT_DEVICE))
    assert device["role"] is None
    assert device["kind"] == "device"
    assert int(device["serial"]).bit_length() == 127


def test_show_refuses_what_is_no_certificate(
    pki: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["pki", "show", str(pki / "ca" / "root.key")]) == 3
    captured = capsys.readouterr()
    assert "private key, which is not shown" in captured.err
    odd = tmp_path / "odd.pem"
    odd.write_text("nothing")
    assert run(["pki", "show", str(odd)]) == 3
    assert "not a certificate" in capsys.readouterr().err
    assert run(["pki", "show", str(pki / "dsrsp")]) == 3
    assert "no certificates" in capsys.readouterr().err
