"""What the inspection says of messages whose keys are all, partly or not at hand."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest

from gbcs import (
    Alert,
    Command,
    EcdsaSigner,
    EntityId,
    GbcsDateTime,
    KeyStore,
    KeyUsage,
    Label,
    PreCommand,
    Response,
    Role,
    add_mac,
    shared_secret,
    sign_alert,
    sign_pre_command,
    sign_response,
)
from gbcs.errors import FormatError
from gbcs.inspection import Inspection, Verdict, explain
from gbcs.pki import Issued, TestPki

SUPPLIER, BROKER, DEVICE = (EntityId(bytes(7) + bytes((n,))) for n in (2, 4, 9))
BEGIN = 1_800_000_000.0
NOW = datetime.fromtimestamp(BEGIN + 60, UTC)


class Parties:
    """A test PKI's certificates and the messages that its parties make."""

    def __init__(self) -> None:
        pki = TestPki.create(random_octets=random.Random(1).randbytes, clock=lambda: BEGIN)
        self.authorities = pki.authorities()
        self.supplier = pki.issue_organisation(SUPPLIER, Role.SUPPLIER, KeyUsage.DIGITAL_SIGNATURE)
        self.broker = pki.issue_organisation(
            BROKER, Role.ACCESS_CONTROL_BROKER, KeyUsage.KEY_AGREEMENT
        )
        self.device_signs = pki.issue_device(DEVICE, KeyUsage.DIGITAL_SIGNATURE)
        self.device_agrees = pki.issue_device(DEVICE, KeyUsage.KEY_AGREEMENT)
        pre_command = PreCommand(SUPPLIER, DEVICE, 1, (Label(2, "Heat [pump]"),))
        signed = sign_pre_command(pre_command, EcdsaSigner(self.supplier.private_key))
        z = shared_secret(self.broker.private_key, self.device_agrees.private_key.public_key())
        self.command = add_mac(signed, z)
        device = EcdsaSigner(self.device_signs.private_key)
        self.response = sign_response(Response.answering(pre_command, (0xFA,)), device)
        self.alert = sign_alert(
            Alert(DEVICE, SUPPLIER, 7, "text", GbcsDateTime(), SUPPLIER), device
        )

    def store(self, *with_key: Issued, without: tuple[Issued, ...] = ()) -> KeyStore:
        """Return all certificates but some, and the private keys of some."""
        issued = (
            *self.authorities,
            self.supplier,
            self.broker,
            self.device_signs,
            self.device_agrees,
        )
        pems = {
            f"{number}.pem": item.certificate.pem
            for number, item in enumerate(issued)
            if item not in without
        }
        pems |= {f"{number}.key": item.private_key_pem for number, item in enumerate(with_key)}
        return KeyStore.from_pems(pems, test_mode=True)


@pytest.fixture(scope="module")
def parties() -> Parties:
    return Parties()


def verdicts(inspection: Inspection) -> dict[str, Verdict]:
    return {check.what: check.verdict for check in inspection.checks}


def test_broker_or_device_key_is_enough_for_the_mac(parties: Parties) -> None:
    for key in (parties.broker, parties.device_agrees):
        inspection = explain(parties.command.to_bytes(), parties.store(key), NOW)
        assert verdicts(inspection) == {
            "signature": Verdict.HOLDS,
            "signature's certificate": Verdict.HOLDS,
            "MAC": Verdict.HOLDS,
            "broker's certificate": Verdict.HOLDS,
            "device's certificate": Verdict.HOLDS,
        }
        assert inspection.holds()


def test_what_devices_sign_holds(parties: Parties) -> None:
    for message in (parties.response, parties.alert):
        inspection = explain(message.to_bytes(), parties.store(), NOW)
        assert set(verdicts(inspection).values()) == {Verdict.HOLDS}


def test_without_keys_nothing_is_checked_and_nothing_fails(parties: Parties) -> None:
    inspection = explain(parties.command.to_bytes(), None, NOW)
    assert set(verdicts(inspection).values()) == {Verdict.CANNOT_BE_CHECKED}
    assert inspection.holds()


def test_missing_keys_are_named(parties: Parties) -> None:
    inspection = explain(
        parties.command.to_bytes(), parties.store(without=(parties.supplier,)), NOW
    )
    assert verdicts(inspection) == dict.fromkeys(("signature", "MAC"), Verdict.CANNOT_BE_CHECKED)
    signature, mac = inspection.checks
    assert str(SUPPLIER) in signature.reason
    assert "private key-agreement key" in mac.reason
    no_device = explain(
        parties.command.to_bytes(), parties.store(without=(parties.device_agrees,)), NOW
    )
    assert str(DEVICE) in no_device.checks[-1].reason


def test_changed_messages_fail(parties: Parties) -> None:
    octets = bytearray(parties.command.to_bytes())
    octets[octets.index(b"Heat")] ^= 1
    inspection = explain(bytes(octets), parties.store(parties.broker), NOW)
    found = verdicts(inspection)
    assert found["signature"] is found["MAC"] is Verdict.FAILS
    assert not inspection.holds(validity_counts=False)


def test_unsigned_responses_fail_and_pre_commands_need_no_check(parties: Parties) -> None:
    unsigned = Response.answering(parties.command, (0,)).to_bytes()
    assert not explain(unsigned, parties.store(), NOW).holds()
    assert explain(parties.command.pre_command.to_bytes(), parties.store(), NOW).checks == ()


def test_a_certificate_out_of_time_is_told_apart(parties: Parties) -> None:
    early = datetime.fromtimestamp(0, UTC)
    inspection = explain(parties.alert.to_bytes(), parties.store(), early)
    assert verdicts(inspection)["signature's certificate"] is Verdict.OUT_OF_TIME
    assert not inspection.holds()
    assert inspection.holds(validity_counts=False)


def test_a_certificate_without_its_chain_fails(parties: Parties) -> None:
    # The store is made outside test mode's leniency for pinned certificates: no root, no trust.
    _, issuing_organisations, issuing_devices = parties.authorities
    pems = {"supplier": parties.supplier.certificate, "ca": issuing_devices.certificate}
    store = KeyStore(tuple(pems.values()), {})
    inspection = explain(parties.command.signed_pre_command.to_bytes(), store, NOW)
    assert verdicts(inspection) == {
        "signature": Verdict.HOLDS,
        "signature's certificate": Verdict.FAILS,
    }
    assert not inspection.holds(validity_counts=False)
    assert issuing_organisations.certificate.subject_name in inspection.checks[1].reason


def test_a_device_cannot_sign_as_a_supplier(parties: Parties) -> None:
    pre_command = PreCommand(DEVICE, DEVICE, 1, (Label(1, "x"),))
    signed = sign_pre_command(pre_command, EcdsaSigner(parties.device_signs.private_key))
    inspection = explain(signed.to_bytes(), parties.store(), NOW)
    assert verdicts(inspection) == {"signature": Verdict.CANNOT_BE_CHECKED}


def test_fields_cover_the_message_and_are_explained(parties: Parties) -> None:
    for message in (parties.command, parties.response, parties.alert):
        inspection = explain(message.to_bytes(), parties.store(), NOW)
        assert b"".join(field.octets for field in inspection.fields) == message.to_bytes()
    meanings = {
        field.title: field.meaning
        for message in (parties.command, parties.response, parties.alert)
        for field in explain(message.to_bytes(), parties.store(), NOW).fields
    }
    assert meanings["OBIS end"] == "value of label 2"
    assert meanings["label text"] == "'Heat [pump]'"
    assert meanings["data-access-result"] == "other reason"
    assert meanings["alert code"] == "operational update"
    assert meanings["recipient"] == f"{SUPPLIER} (supplier)"
    assert meanings["supplementary remote party"] == f"{SUPPLIER} (supplier)"


def test_unknown_results_and_alert_codes_are_called_so(parties: Parties) -> None:
    response = Response.answering(parties.command, (0xF0,)).to_bytes()
    alert = Alert(DEVICE, SUPPLIER, 7, "", GbcsDateTime(), None, alert_code=1).to_bytes()
    meanings = [
        field.meaning for octets in (response, alert) for field in explain(octets, None, NOW).fields
    ]
    assert "another error" in meanings
    assert "another alert" in meanings


def test_what_is_no_message_is_refused(parties: Parties) -> None:
    assert isinstance(parties.command, Command)
    with pytest.raises(FormatError):
        explain(parties.command.to_bytes()[:-1], None, NOW)
