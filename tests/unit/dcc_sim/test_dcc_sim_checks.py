"""Every check on a request: it is made, in its place, and gives its code."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from dcc_sim import CHECKS, Check, ConfigError, DeviceConfig, Told
from dcc_sim.core.checks import describe_checks
from gbcs import EcdsaSigner, Label, sign_pre_command
from gbcs.crypto import add_mac
from gbcs.duis import (
    DCC_ALERT_CODES,
    RESPONSE_CODES,
    ErrorBody,
    PreCommandBody,
    ReadInventory,
    ReturnLocalCommandResponse,
    UpdateAlcDescriptions,
    UpdateInventory,
    build_request,
)

ROOT = Path(__file__).resolve().parents[3]

# For each check, a request that fails it and nothing before it: (service, octets, settings).
CASES = {}


def case(check, name=""):
    def keep(make):
        CASES[f"{check.name} {name or make.__name__}"] = (check, make)
        return make

    return keep


@pytest.fixture
def kit(requests, pki, names):
    return SimpleNamespace(requests=requests, pki=pki, **names)


@case(Check.XML)
def garbage(kit):
    return "serviceT", b"\x00\xff garbage"


@case(Check.XML)
def empty(kit):
    return "serviceT", b""


@case(Check.XML)
def external_entity(kit):
    octets = kit.requests.octets(kit.requests.transform())
    dtd = b'<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    return "serviceT", octets.replace(b"<sr:Request", dtd + b"<sr:Request", 1)


@case(Check.XML)
def a_response(kit):
    return "serviceS", b'<Response xmlns="http://www.dccinterface.co.uk/ServiceUserGateway"/>'


@case(Check.XML)
def label_too_long(kit):
    octets = kit.requests.octets(kit.requests.transform(text="x" * 22))
    return "serviceT", octets.replace(b"x" * 22, b"x" * 23)


@case(Check.XML)
def label_not_printable(kit):
    octets = kit.requests.octets(kit.requests.transform(text="hello"))
    return "serviceT", octets.replace(b"hello", "héllo".encode())


@case(Check.XML_SIGNATURE)
def signed_text_changed(kit):
    octets = kit.requests.octets(kit.requests.transform(text="hello"))
    return "serviceT", octets.replace(b"hello", b"hallo")


@case(Check.XML_SIGNATURE)
def not_signed(kit):
    octets = kit.requests.octets(kit.requests.transform())
    return "serviceT", re.sub(rb"<ds:Signature.*</ds:Signature>", b"", octets, flags=re.S)


@case(Check.CERTIFICATE)
def signed_by_another_user(kit):
    return "serviceT", build_request(kit.requests.transform(), kit.pki.load_controller_xml)


@case(Check.CERTIFICATE)
def unknown_certificate(kit):
    signer = replace(kit.pki.supplier_xml, serial=12345)
    return "serviceT", build_request(kit.requests.transform(), signer)


@case(Check.USER)
def certified_but_no_user(kit):
    request = kit.requests.transform(originator_id=kit.stranger)
    return "serviceT", build_request(request, kit.pki.stranger_xml)


@case(Check.ROLE)
def load_controller_sets_labels(kit):
    request = kit.requests.transform(originator_id=kit.load_controller)
    return "serviceT", build_request(request, kit.pki.load_controller_xml)


@case(Check.DEVICE_KNOWN)
def device_not_in_inventory(kit):
    return "serviceT", kit.requests.octets(kit.requests.transform(target_id=kit.stranger))


@case(Check.DEVICE_AUTHORISED)
def another_suppliers_device(kit):
    device = DeviceConfig(entity_id=kit.device, supplier_id=kit.stranger)
    return "serviceT", kit.requests.octets(kit.requests.transform()), {"devices": [device]}


@case(Check.DEVICE_STATUS)
def suspended(kit):
    device = DeviceConfig(entity_id=kit.device, status="Suspended")
    return "serviceT", kit.requests.octets(kit.requests.transform()), {"devices": [device]}


@case(Check.DEVICE_TYPE)
def gas_meter(kit):
    device = DeviceConfig(entity_id=kit.device, device_type="GSME")
    return "serviceT", kit.requests.octets(kit.requests.transform()), {"devices": [device]}


@case(Check.COMMAND_VARIANT)
def non_critical_variant(kit):
    return "serviceS", kit.requests.octets(kit.requests.transform(command_variant=1))


@case(Check.COMMAND_VARIANT)
def labels_in_a_send(kit):
    return "serviceS", kit.requests.octets(kit.requests.transform(command_variant=5))


@case(Check.COMMAND_VARIANT)
def signed_pre_command_in_a_transform(kit):
    return "serviceT", kit.requests.octets(kit.requests.signed(command_variant=4))


@case(Check.COMMAND_VARIANT)
def no_such_service(kit):
    request = kit.requests.transform(service_reference="99.1", service_reference_variant="99.1")
    return "serviceT", kit.requests.octets(request)


@case(Check.ADDRESS)
def transform_to_send(kit):
    return "serviceS", kit.requests.octets(kit.requests.transform())


@case(Check.ADDRESS)
def send_to_transform(kit):
    return "serviceT", kit.requests.octets(kit.requests.signed())


@case(Check.ADDRESS)
def device_request_to_non_device(kit):
    return "serviceD", kit.requests.octets(kit.requests.transform())


@case(Check.ADDRESS)
def non_device_request_to_transform(kit):
    return "serviceT", _read_inventory(kit)


def _read_inventory(kit):
    """An 8.2."""
    request = kit.requests.transform(
        command_variant=8, service_reference="8.2", service_reference_variant="8.2"
    )
    return _with_foreign_body(kit, request)


def _with_foreign_body(kit, request, body=None):
    """Sign a request with a body that the library can read but not write."""
    octets = build_request(request, kit.pki.supplier_xml).decode()
    unsigned = re.sub(r"^<\?xml[^>]*\?>|<ds:Signature.*</ds:Signature>", "", octets, flags=re.S)
    body = _INVENTORY if body is None else body
    canonical = re.sub(r"(?<=<sr:Body>).*(?=</sr:Body>)", body, unsigned.strip(), flags=re.S)
    signature = kit.pki.supplier_xml.signature_over(canonical)
    return canonical.replace("</sr:Request>", signature + "</sr:Request>").encode()


_INVENTORY = (
    "<sr:ReadInventory><sr:DeviceID>00-C0-FF-EE-00-00-00-01</sr:DeviceID></sr:ReadInventory>"
)


@case(Check.STRUCTURE)
def body_of_another_service(kit):
    return "serviceT", _with_foreign_body(kit, kit.requests.transform(counter=2))


@case(Check.XML)
def one_label_twice(kit):
    body = UpdateAlcDescriptions((Label(1, "one"), Label(2, "two")))
    octets = kit.requests.octets(kit.requests.transform(body=body))
    return "serviceT", octets.replace(b'index="2"', b'index="1"')


@case(Check.STRUCTURE)
def another_non_device_body(kit):
    body = UpdateInventory(kit.device, "UpdateDeviceStatusExceptCH", "Pending")
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.2", body))


@case(Check.OFFERED)
def other_non_device_service(kit):
    body = ReadInventory(device_id=kit.device)
    return "serviceD", kit.requests.octets(kit.requests.non_device("12.1", body))


@case(Check.OFFERED)
def other_change_of_the_inventory(kit):
    body = UpdateInventory(kit.device, "UpdateDeviceStatusExceptCH", "Pending")
    request = kit.requests.non_device("8.4", body)
    change = "<sr:DeleteDevice></sr:DeleteDevice>"
    inventory = (
        f"<sr:UpdateInventory><sr:DeviceID>{kit.device}</sr:DeviceID>{change}</sr:UpdateInventory>"
    )
    return "serviceD", _with_foreign_body(kit, request, inventory)


@case(Check.SCHEMA_VERSION)
def too_old_a_schema_version(kit):
    return "serviceT", kit.requests.octets(kit.requests.transform(schema_version="5.1"))


@case(Check.SCHEMA_VERSION)
def too_new_a_schema_version(kit):
    return "serviceT", kit.requests.octets(kit.requests.transform(schema_version="5.5"))


@case(Check.ROLE)
def load_controller_changes_the_inventory(kit):
    body = UpdateInventory(kit.device, "UpdateDeviceStatusExceptCH", "Pending")
    request = kit.requests.non_device("8.4", body, originator_id=kit.load_controller)
    return "serviceD", build_request(request, kit.pki.load_controller_xml)


@case(Check.INVENTORY_FOUND)
def not_in_the_inventory(kit):
    body = ReadInventory(device_id=kit.stranger)
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.2", body))


@case(Check.INVENTORY_FOUND)
def no_address_is_known(kit):
    body = ReadInventory(uprn="1")
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.2", body))


@case(Check.INVENTORY_DEVICE)
def change_of_an_unknown_device(kit):
    body = UpdateInventory(kit.stranger, "UpdateDeviceStatusExceptCH", "Pending")
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.4", body))


@case(Check.INVENTORY_DEVICE)
def change_of_another_suppliers_device(kit):
    body = UpdateInventory(kit.device, "UpdateDeviceStatusExceptCH", "Pending")
    device = DeviceConfig(entity_id=kit.device, supplier_id=kit.stranger)
    octets = kit.requests.octets(kit.requests.non_device("8.4", body))
    return "serviceD", octets, {"devices": [device]}


@case(Check.INVENTORY_STATUS)
def a_meter_is_no_communications_hub(kit):
    body = UpdateInventory(kit.device, "UpdateDeviceStatusCH", "Withdrawn")
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.4", body))


@case(Check.INVENTORY_STATUS)
def a_communications_hub_is_no_meter(kit):
    body = UpdateInventory(kit.device, "UpdateDeviceStatusExceptCH", "Pending")
    device = DeviceConfig(entity_id=kit.device, device_type="CHF")
    octets = kit.requests.octets(kit.requests.non_device("8.4", body))
    return "serviceD", octets, {"devices": [device]}


@case(Check.LOCAL_RESPONSE)
def garbage_returned(kit):
    body = ReturnLocalCommandResponse(b"garbage")
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.13", body))


@case(Check.LOCAL_RESPONSE)
def command_returned(kit):
    body = ReturnLocalCommandResponse(kit.requests.pre_command().to_bytes())
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.13", body))


@case(Check.LOCAL_RESPONSE)
def response_signed_by_another_device(kit):
    body = ReturnLocalCommandResponse(kit.requests.response(signer=kit.other_device).to_bytes())
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.13", body))


@case(Check.LOCAL_RESPONSE)
def alert_returned(kit):
    body = ReturnLocalCommandResponse(kit.requests.alert().to_bytes())
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.13", body))


@case(Check.LOCAL_COMMAND)
def response_to_what_was_never_sent(kit):
    body = ReturnLocalCommandResponse(kit.requests.response().to_bytes())
    return "serviceD", kit.requests.octets(kit.requests.non_device("8.13", body))


@case(Check.COUNTER_USED)
def counter_of_a_transform_for_a_reading(kit):
    body = ReadInventory(device_id=kit.device)
    request = kit.requests.non_device("8.2", body, originator_counter=1)
    return "serviceD", kit.requests.octets(request)


@case(Check.OFFERED)
def other_critical_service(kit):
    request = kit.requests.transform(service_reference="6.14", service_reference_variant="6.14.2")
    return "serviceT", kit.requests.octets(request)


@case(Check.OFFERED)
def sequenced_request(kit):
    octets = kit.requests.octets(kit.requests.transform())
    first = b"</sr:RequestID><sr:FirstInSequence>true</sr:FirstInSequence>"
    return "serviceT", kit.requests.signed_again(octets.replace(b"</sr:RequestID>", first))


@case(Check.OFFERED)
def request_after_another(kit):
    octets = kit.requests.octets(kit.requests.transform(2))
    before = f"{kit.requests.transform(1).request_id}"
    preceding = f"</sr:RequestID><sr:PrecedingServiceRequestID>{before}"
    preceding += "</sr:PrecedingServiceRequestID>"
    octets = octets.replace(b"</sr:RequestID>", preceding.encode())
    return "serviceT", kit.requests.signed_again(octets)


@case(Check.OFFERED)
def future_dated_command(kit):
    octets = kit.requests.octets(kit.requests.signed())
    when = b"<sr:SignedPreCommand><sr:ExecutionDateTime>2030-01-01T00:00:00.00Z"
    when += b"</sr:ExecutionDateTime>"
    octets = octets.replace(b"<sr:SignedPreCommand>", when)
    return "serviceS", kit.requests.signed_again(octets)


@case(Check.GBCS_FORMAT)
def payload_truncated(kit):
    made = sign_pre_command(kit.requests.pre_command(), kit.pki.supplier_signer).to_bytes()
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=made[:-1]))


@case(Check.GBCS_FORMAT)
def payload_garbage(kit):
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=b"garbage"))


@case(Check.GBCS_FORMAT)
def payload_not_signed(kit):
    made = kit.requests.pre_command().to_bytes()
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=made))


@case(Check.GBCS_FORMAT)
def payload_with_a_mac_already(kit):
    signed = sign_pre_command(kit.requests.pre_command(), kit.pki.supplier_signer)
    made = add_mac(signed, kit.pki.secret()).to_bytes()
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=made))


@case(Check.NOT_TRANSFORMED)
def never_transformed(kit):
    return "serviceS", kit.requests.octets(kit.requests.signed(counter=99))


@case(Check.CORRELATION)
def other_label(kit):
    return "serviceS", kit.requests.octets(kit.requests.signed(text="other"))


@case(Check.CORRELATION)
def other_device_in_the_request_id(kit):
    return "serviceS", kit.requests.octets(kit.requests.signed(target_id=kit.other_device))


@case(Check.CORRELATION)
def other_device_in_the_payload(kit):
    other = kit.requests.pre_command(target_id=kit.other_device)
    payload = sign_pre_command(other, kit.pki.supplier_signer).to_bytes()
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=payload))


@case(Check.GBCS_SIGNATURE)
def signed_by_a_device(kit):
    made = sign_pre_command(kit.requests.pre_command(), kit.pki.device_signer())
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=made.to_bytes()))


@case(Check.GBCS_SIGNATURE)
def signature_bit_flipped(kit):
    made = bytearray(
        sign_pre_command(kit.requests.pre_command(), kit.pki.supplier_signer).to_bytes()
    )
    made[-1] ^= 1
    return "serviceS", kit.requests.octets(kit.requests.signed(payload=bytes(made)))


@case(Check.COUNTER_USED)
def counter_for_another_label(kit):
    return "serviceT", kit.requests.octets(kit.requests.transform(text="other"))


@case(Check.COUNTER_USED)
def counter_for_another_device(kit):
    return "serviceT", kit.requests.octets(kit.requests.transform(target_id=kit.other_device))


@pytest.mark.parametrize("name", CASES)
def test_each_check_gives_its_code(name, kit, make_core):
    check, make = CASES[name]
    service, octets, *settings = make(kit)
    core = make_core(**(settings[0] if settings else {}))
    if not settings:
        # The one earlier request to which later ones must relate.
        assert core.code("serviceT", kit.requests.octets(kit.requests.transform())) == "I0"
    core.effects()
    status, answer = core.request(service, octets)
    assert core.effects() == []
    assert answer.message.response_code == CHECKS[check].code
    assert isinstance(answer.message.body, ErrorBody)
    assert not answer.signed
    assert status == (400 if check is Check.XML else 200)
    assert (answer.message.request_id is None) == (check is Check.XML)
    assert f"{CHECKS[check].code} {check.name}" in core.notes[-1]


# Tried elsewhere: they need a history, a schema, or come after acceptance.
OTHERWISE = {
    Check.SCHEMA: "test_schema_is_asked_first",
    Check.COUNTER_STALE: "test_counter_below_the_window",
    Check.ALREADY_ACCEPTED: "test_signed_pre_command_is_taken_once",
    Check.MAC: "test_device_without_a_certificate",
    Check.COMMAND_ROOM: "test_dcc_sim_commands.py",
    Check.QUARANTINE_ROOM: "test_dcc_sim_quarantine.py",
    Check.ANOMALY: "test_dcc_sim_quarantine.py",
    Check.RELEASED: "test_dcc_sim_quarantine.py",
    Check.DEVICE_REACHABLE: "test_dcc_sim_commands.py",
    Check.DEVICE_RESPONDS: "test_dcc_sim_commands.py",
}


def test_every_check_is_tried():
    tried = {check for check, _ in CASES.values()}
    assert tried.isdisjoint(OTHERWISE)
    assert tried | OTHERWISE.keys() == set(Check)


def test_the_table_has_every_check_in_order_with_a_code_of_the_schema():
    assert list(CHECKS) == list(Check)
    for row in CHECKS.values():
        assert row.code in (DCC_ALERT_CODES if row.told is Told.ALERT else RESPONSE_CODES)


def test_the_table_for_readers_is_the_code():
    table = (ROOT / "specs" / "dcc-sim-checks.md").read_text(encoding="utf-8")
    assert describe_checks() in table, "run scripts/make_dcc_sim_checks.py"


def test_schema_is_asked_first(make_core, schema, kit):
    core = make_core(schema=schema)
    request = kit.requests.transform(
        originator_id=kit.stranger, service_reference="99.1", service_reference_variant="99.1"
    )
    status, answer = core.request("serviceT", kit.requests.octets(request))
    assert (status, answer.message.response_code) == (200, CHECKS[Check.SCHEMA].code)
    assert str(answer.message.request_id) == str(request.request_id)
    core.effects()
    assert "SCHEMA" in core.notes[-1]


def test_what_the_simulator_says_is_valid(make_core, schema, kit):
    core = make_core(schema=schema)
    octets = kit.requests.octets
    assert core.code("serviceT", octets(kit.requests.transform())) == "I0"
    assert core.code("serviceS", octets(kit.requests.signed())) == "I99"
    for service, request in (
        ("serviceT", b"garbage"),
        ("serviceT", octets(kit.requests.transform(target_id=kit.stranger))),
        ("serviceD", octets(kit.requests.non_device("8.2", ReadInventory(uprn="1")))),
    ):
        _, answer = core.request(service, request)
        assert isinstance(answer.message.body, ErrorBody)
    core.effects()
    assert not [note for note in core.notes if "our own message" in note]


def test_counter_below_the_window(make_core, kit):
    core = make_core(counter_window=2)
    for counter in (10, 11, 12):
        octets = kit.requests.octets(kit.requests.transform(counter))
        assert core.code("serviceT", octets) == "I0"
    for counter in (1, 10):
        octets = kit.requests.octets(kit.requests.transform(counter))
        assert core.code("serviceT", octets) == CHECKS[Check.COUNTER_STALE].code
    core.restart()
    octets = kit.requests.octets(kit.requests.transform(10))
    assert core.code("serviceT", octets) == CHECKS[Check.COUNTER_STALE].code


def test_repeated_transform_gives_the_same_pre_command_until_it_comes_signed(make_core, kit):
    core = make_core()
    octets = kit.requests.octets(kit.requests.transform())
    first, again = core.request("serviceT", octets)[1], core.request("serviceT", octets)[1]
    assert isinstance(first.message.body, PreCommandBody)
    assert first.message.body == again.message.body
    core.restart()
    assert core.request("serviceT", octets)[1].message.body == first.message.body
    assert core.code("serviceS", kit.requests.octets(kit.requests.signed())) == "I99"
    assert core.code("serviceT", octets) == CHECKS[Check.COUNTER_USED].code
    core.restart()
    assert core.code("serviceT", octets) == CHECKS[Check.COUNTER_USED].code


def test_signed_pre_command_is_taken_once(make_core, kit):
    core = make_core()
    core.code("serviceT", kit.requests.octets(kit.requests.transform()))
    signed = kit.requests.octets(kit.requests.signed())
    assert core.code("serviceS", signed) == "I99"
    assert core.code("serviceS", signed) == CHECKS[Check.ALREADY_ACCEPTED].code
    core.restart()
    assert core.code("serviceS", signed) == CHECKS[Check.ALREADY_ACCEPTED].code


def test_a_refused_request_uses_up_nothing(make_core, kit):
    core = make_core()
    forged = sign_pre_command(kit.requests.pre_command(), kit.pki.device_signer())
    core.code("serviceT", kit.requests.octets(kit.requests.transform()))
    core.code("serviceS", kit.requests.octets(kit.requests.signed(payload=forged.to_bytes())))
    assert core.code("serviceS", kit.requests.octets(kit.requests.signed())) == "I99"


def test_device_without_a_certificate(make_core, kit):
    device = DeviceConfig(entity_id=kit.stranger)
    core = make_core(devices=[device])
    request = {"target_id": kit.stranger}
    core.code("serviceT", kit.requests.octets(kit.requests.transform(**request)))
    made = sign_pre_command(kit.requests.pre_command(**request), kit.pki.supplier_signer)
    signed = kit.requests.signed(payload=made.to_bytes(), **request)
    assert core.code("serviceS", kit.requests.octets(signed)) == CHECKS[Check.MAC].code


def test_codes_can_be_changed(make_core, make_config, kit):
    core = make_core(response_codes={"USER": "E3"})
    request = kit.requests.transform(originator_id=kit.stranger)
    assert core.code("serviceT", build_request(request, kit.pki.stranger_xml)) == "E3"
    make_config(response_codes={"ANOMALY": "N1"})
    for wrong in (
        {"NO_SUCH_CHECK": "E1"},
        {"USER": "E999"},
        {"USER": "N1"},
        {"ANOMALY": "E1"},
    ):
        with pytest.raises(ConfigError):
            make_config(response_codes=wrong)


def test_older_schema_version_is_answered_in_kind(make_core, kit):
    core = make_core()
    octets = kit.requests.octets(kit.requests.transform(schema_version="5.2"))
    assert core.request("serviceT", octets)[1].message.schema_version == "5.2"


def test_expired_certificates_are_refused(make_core, kit):
    core = make_core(now=1_800_000_000.0 + 200 * 365 * 86400.0)
    octets = kit.requests.octets(kit.requests.transform())
    assert core.code("serviceT", octets) == CHECKS[Check.CERTIFICATE].code


def test_foreign_gbcs_key_is_no_suppliers(make_core, kit, pki):
    core = make_core()
    core.code("serviceT", kit.requests.octets(kit.requests.transform()))
    signer = EcdsaSigner(pki.broker.private_key)
    made = sign_pre_command(kit.requests.pre_command(), signer).to_bytes()
    signed = kit.requests.octets(kit.requests.signed(payload=made))
    assert core.code("serviceS", signed) == CHECKS[Check.GBCS_SIGNATURE].code
