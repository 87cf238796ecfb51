"""A command from transform to service response, and an alert, on real sockets."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Any

import pytest

from gbcs.certificates import Role
from gbcs.duis import DeviceAlertBody, ServiceResponseBody
from gbcs.messages import parse_untrusted


@pytest.fixture(autouse=True)
def all_is_well(caplog):
    """A message of our own that the schema does not admit would be logged as an error."""
    yield
    assert not [r for r in caplog.get_records("call") if r.levelno >= logging.ERROR]


async def test_command_to_the_device_and_response_to_the_supplier(start_world, schema):
    async with start_world(schema=schema) as world, world.device() as device:
        signed = await world.send(counter=7, text="a label")
        command = await device.next_command()
        assert command.signed_pre_command == signed
        response = device.response(command)
        await device.connection.send(response.to_bytes())
        path, posted = await world.receiver.next()
        assert path == "/supplier"
        posted.verify(
            world.pki.keystore,
            role=Role.XML_SIGNING_DCC,
            at=datetime.fromtimestamp(time.time(), UTC),
        )
        assert posted.message.response_code == "I0"
        assert str(posted.message.request_id) == str(world.requests.transform(7).request_id)
        assert isinstance(posted.message.body, ServiceResponseBody)
        assert parse_untrusted(posted.message.body.gbcs_payload) == response


async def test_alert_to_supplier_and_load_controller(start_world, schema):
    async with start_world(schema=schema) as world, world.device() as device:
        alert = device.alert(counter=5, text="x" * 1062)
        await device.connection.send(alert.to_bytes())
        seen: dict[str, Any] = {}
        for _ in range(2):
            path, posted = await world.receiver.next()
            assert posted.signed
            seen[path] = posted.message
        assert set(seen) == {"/supplier", "/load-controller"}
        for message in seen.values():
            assert isinstance(message.body, DeviceAlertBody)
            assert message.body.alert_code == 0x8F88
            assert message.body.gbcs_payload == alert.to_bytes()
            assert message.request_id is None


async def test_failure_of_an_accepted_command_is_signed_and_valid(start_world, schema):
    async with start_world(schema=schema, device_connect_timeout_s=0.05) as world:
        await world.send()
        _, posted = await world.receiver.next()
        assert posted.signed
        assert posted.message.response_code == "E20"
