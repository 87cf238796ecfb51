"""The inventory: read (8.2), a device's status changed (8.4)."""

from __future__ import annotations

import pytest

from dcc_sim import CHECKS, Check, DeviceConfig
from dcc_sim.core.state import utc
from gbcs import EntityId
from gbcs.certificates import Role
from gbcs.duis import (
    AcknowledgementBody,
    DeviceRecord,
    InventoryBody,
    ReadInventory,
    UpdateInventory,
    build_request,
)


@pytest.fixture
def devices(names):
    return [
        DeviceConfig(
            entity_id=names["device"], mpxn="1234567890123", model="M", firmware_version="01"
        ),
        DeviceConfig(entity_id=names["other_device"], device_type="CHF", mpxn="1234567890123"),
    ]


@pytest.fixture
def core(make_core, schema, devices):
    return make_core(schema=schema, devices=devices)


@pytest.fixture
def ask(requests):
    counters = iter(range(100, 200))

    def ask_it(core, variant, body):
        request = requests.non_device(variant, body, originator_counter=next(counters))
        return core.request("serviceD", requests.octets(request))[1]

    return ask_it


def test_one_device(core, ask, names, pki):
    answer = ask(core, "8.2", ReadInventory(device_id=names["device"]))
    record = DeviceRecord(
        names["device"], "ESME", "Commissioned", "0000", "M", "01", "1234567890123"
    )
    assert answer.message.body == InventoryBody((record,))
    assert answer.message.response_code == "I0"
    assert answer.message.service_reference_variant == "8.2"
    answer.verify(pki.keystore, role=Role.XML_SIGNING_DCC, at=utc(core.now))
    core.effects()
    assert not [note for note in core.notes if "our own message" in note]


def test_all_of_a_metering_point(core, ask, names):
    body = ask(core, "8.2", ReadInventory(mpxn="1234567890123")).message.body
    assert {one.device_id for one in body.devices} == {names["device"], names["other_device"]}


def test_no_more_than_the_schema_allows(make_core, ask):
    many = [DeviceConfig(entity_id=EntityId(bytes([7] * 7 + [n])), mpxn="1") for n in range(20)]
    core = make_core(devices=many)
    assert len(ask(core, "8.2", ReadInventory(mpxn="1")).message.body.devices) == 17


def test_every_user_may_read(core, requests, names, pki):
    body = ReadInventory(device_id=names["device"])
    request = requests.non_device("8.2", body, originator_id=names["load_controller"])
    assert core.code("serviceD", build_request(request, pki.load_controller_xml)) == "I0"


def test_a_changed_status_counts_at_once_and_after_a_restart(core, ask, requests, names):
    change = UpdateInventory(names["device"], "UpdateDeviceStatusExceptCH", "Pending")
    answer = ask(core, "8.4", change).message
    assert (answer.response_code, answer.body) == ("I99", AcknowledgementBody())
    for _ in range(2):
        asked = ReadInventory(device_id=names["device"])
        (record,) = ask(core, "8.2", asked).message.body.devices
        assert record.status == "Pending"
        octets = requests.octets(requests.transform())
        assert core.code("serviceT", octets) == CHECKS[Check.DEVICE_STATUS].code
        core.effects()
        core.restart()
    back = UpdateInventory(
        names["device"], "UpdateDeviceStatusExceptCH", "InstalledNotCommissioned"
    )
    assert ask(core, "8.4", back).message.response_code == "I99"
    assert core.code("serviceT", octets) == "I0"


def test_a_communications_hub_has_statuses_of_its_own(core, ask, names):
    hub = names["other_device"]
    for status in ("Withdrawn", "Commissioned"):
        change = UpdateInventory(hub, "UpdateDeviceStatusCH", status)
        assert ask(core, "8.4", change).message.response_code == "I99"
        (record,) = ask(core, "8.2", ReadInventory(device_id=hub)).message.body.devices
        assert record.status == status


def test_a_status_of_a_device_that_left_the_inventory_is_no_harm(make_core, core, ask, names):
    change = UpdateInventory(names["device"], "UpdateDeviceStatusExceptCH", "Pending")
    ask(core, "8.4", change)
    core.effects()
    core = make_core(storage=core.storage, devices=[])
    asked = ask(core, "8.2", ReadInventory(device_id=names["device"])).message
    assert asked.response_code == CHECKS[Check.INVENTORY_FOUND].code


def test_euis_in_lower_case(core, requests, names):
    octets = requests.octets(requests.non_device("8.2", ReadInventory(device_id=names["device"])))
    for name in ("device", "supplier", "dcc"):
        octets = octets.replace(str(names[name]).encode(), str(names[name]).lower().encode())
    assert b"c0-ff-ee" in octets
    assert core.code("serviceD", requests.signed_again(octets)) == "I0"
