"""Does the services that concern the DCC's own records: 8.2, 8.4 and 8.13."""

from __future__ import annotations

from dcc_sim.config import DeviceConfig
from dcc_sim.core.checks import Check
from dcc_sim.core.command_desk import CommandDesk
from dcc_sim.core.effects import Severity
from dcc_sim.core.state import State
from dcc_sim.errors import RequestRefused
from gbcs.duis import (
    AcknowledgementBody,
    DeviceRecord,
    InventoryBody,
    ReadInventory,
    Request,
    ReturnLocalCommandResponse,
    UpdateInventory,
)
from gbcs.duis.inventory import MAX_INVENTORY_DEVICES
from gbcs.entity_id import EntityId

_COMMUNICATIONS_HUB = "CHF"
_OF_COMMUNICATIONS_HUBS = "UpdateDeviceStatusCH"


class NonDeviceDesk:
    """Answers requests that have passed the checks which all requests must pass.

    Args:
        state: shared with the other parts.
        commands: takes responses that were collected locally.
    """

    def __init__(self, state: State, commands: CommandDesk) -> None:
        self._state = state
        self._commands = commands

    def answer(self, request: Request, now: float) -> AcknowledgementBody | InventoryBody:
        """Do what is asked.

        Returns:
            The inventory, or that it is done.

        Raises:
            RequestRefused: it cannot be done; nothing has changed.
        """
        match request.body:
            case ReadInventory():
                answer: AcknowledgementBody | InventoryBody = self._read_inventory(request.body)
            case UpdateInventory():
                answer = self._update_inventory(request.originator_id, request.body)
            case ReturnLocalCommandResponse():
                answer = self._local_response(request.originator_id, request.body, now)
            case _:
                raise RequestRefused(Check.STRUCTURE, "the body is not of a non-device service")
        self._state.use_counter(request.originator_id, request.originator_counter)
        return answer

    def _read_inventory(self, asked: ReadInventory) -> InventoryBody:
        if asked.device_id is not None:
            device = self._state.devices.get(asked.device_id)
            found = [] if device is None else [device]
        elif asked.mpxn is not None:
            found = [one for one in self._state.devices.values() if one.mpxn == asked.mpxn]
        else:
            # The configuration knows no addresses.
            found = []
        if not found:
            raise RequestRefused(
                Check.INVENTORY_FOUND, "no device of the inventory is what was asked for"
            )
        return InventoryBody(tuple(_record(one) for one in found[:MAX_INVENTORY_DEVICES]))

    def _update_inventory(self, user: EntityId, asked: UpdateInventory) -> AcknowledgementBody:
        device = self._state.devices.get(asked.device_id)
        if device is None or device.supplier_id not in (None, user):
            raise RequestRefused(
                Check.INVENTORY_DEVICE,
                f"{asked.device_id} is not in the inventory"
                if device is None
                else f"{asked.device_id} is a device of {device.supplier_id}, not of {user}",
            )
        is_hub = device.device_type == _COMMUNICATIONS_HUB
        if asked.status is None or is_hub != (asked.change == _OF_COMMUNICATIONS_HUBS):
            raise RequestRefused(
                Check.INVENTORY_STATUS,
                f"{asked.change} does not fit {asked.device_id}, which is a {device.device_type}",
            )
        self._state.change_device_status(device.entity_id, asked.status)
        self._state.note(
            Severity.INFO, f"{user} changed {device.entity_id}: {device.status} to {asked.status}"
        )
        return AcknowledgementBody()

    def _local_response(
        self, user: EntityId, returned: ReturnLocalCommandResponse, now: float
    ) -> AcknowledgementBody:
        answered = self._commands.receive_untrusted_local_response(
            user, returned.gbcs_payload, returned.original_request_id, now
        )
        self._state.note(Severity.INFO, f"{user} returned the response to {answered}")
        return AcknowledgementBody()


def _record(device: DeviceConfig) -> DeviceRecord:
    return DeviceRecord(
        device_id=device.entity_id,
        device_type=device.device_type,
        status=device.status,
        manufacturer=device.manufacturer,
        model=device.model,
        firmware_version=device.firmware_version,
        import_mpxn=device.mpxn,
    )
