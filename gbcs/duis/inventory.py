"""The inventory of devices in DUIS: asking for records (8.2), changing them (8.4).

Source: DUIS schema 5.4, types ReadInventory, UpdateInventory, DSPInventory and Device.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from gbcs.duis.reading import Cursor
from gbcs.duis.signature import escape_text
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError

MAX_INVENTORY_DEVICES = 17

STATUS_CHANGES: dict[str, frozenset[str]] = {
    "UpdateDeviceStatusExceptCH": frozenset({"Pending", "InstalledNotCommissioned"}),
    "UpdateDeviceStatusCH": frozenset({"Commissioned", "Withdrawn", "InstalledNotCommissioned"}),
}
"""By the element that sets a device's status, the statuses it may set; CH: communications hub."""

OTHER_CHANGES = ("UpdateDeviceDetails", "DeleteDevice", "UpdateMPxN")
"""The other changes of an UpdateInventory; their content is not read here."""

# The children of a Device after its firmware version, in order; one of them is kept.
_DEVICE_REST = (
    "DeviceFirmwareVersionStatus",
    "CPLStatus",
    "DateCommissioned",
    "ImportMPxN",
    "SecondaryImportMPAN",
    "ExportMPAN",
    "ESMEVariant",
    "UPRN",
    "PropertyFilter",
    "CSPRegion",
    "DeviceGBCSVersion",
    "HANVariant",
    "S1SP",
    "Connectivity",
)
_HYPHENATED = re.compile(r"[A-Fa-f0-9]{2}(?:-[A-Fa-f0-9]{2}){7}")
_MPXN = re.compile(r"[!-~]{1,13}")
_UPRN = re.compile(r"[1-9][0-9]{0,11}")


@dataclass(frozen=True, slots=True)
class PropertyFilter:
    """A property by its address.

    Attributes:
        post_code: 6 to 8 characters.
        address_identifier: at most 30 characters.
    """

    post_code: str
    address_identifier: str

    def __post_init__(self) -> None:
        if not 6 <= len(self.post_code) <= 8 or len(self.address_identifier) > 30:
            raise BuildError(
                f"property filter {self.post_code!r}, {self.address_identifier!r}: expected a "
                "post code of 6 to 8 characters and at most 30 for the address"
            )


@dataclass(frozen=True, slots=True)
class ReadInventory:
    """Body of 8.2: whose record is wanted; exactly one of the fields is given.

    Attributes:
        device_id: of one device, and with it of those at the same property.
        mpxn: the metering point, 1 to 13 characters.
        uprn: the property's reference number, up to 12 digits.
        property_filter: the property's address.
    """

    device_id: EntityId | None = None
    mpxn: str | None = None
    uprn: str | None = None
    property_filter: PropertyFilter | None = None

    def __post_init__(self) -> None:
        given = (self.device_id, self.mpxn, self.uprn, self.property_filter)
        if sum(one is not None for one in given) != 1:
            raise BuildError("ReadInventory asks by device, MPxN, UPRN or address: by exactly one")
        if self.mpxn is not None and not _MPXN.fullmatch(self.mpxn):
            raise BuildError(f"MPxN {self.mpxn[:40]!r}: expected 1 to 13 characters")
        if self.uprn is not None and not _UPRN.fullmatch(self.uprn):
            raise BuildError(f"UPRN {self.uprn[:40]!r}: expected up to 12 digits")


@dataclass(frozen=True, slots=True)
class UpdateInventory:
    """Body of 8.4: change the record of one device.

    Attributes:
        device_id: whose.
        change: the element that says what is changed, of ``STATUS_CHANGES`` or ``OTHER_CHANGES``.
        status: the new status; None for other changes, which can be read but not written here.
    """

    device_id: EntityId
    change: str
    status: str | None

    def __post_init__(self) -> None:
        if self.change in STATUS_CHANGES:
            if self.status not in STATUS_CHANGES[self.change]:
                raise BuildError(
                    f"{self.change} to {self.status!r}: expected one of "
                    + ", ".join(sorted(STATUS_CHANGES[self.change]))
                )
        elif self.change not in OTHER_CHANGES or self.status is not None:
            raise BuildError(f"inventory change {self.change[:40]!r} with status {self.status!r}")


@dataclass(frozen=True, slots=True)
class DeviceRecord:
    """What the inventory says of one device.

    Attributes:
        device_id: which.
        device_type: for example "ESME".
        status: for example "Commissioned"; None: not said.
        manufacturer: at most 30 characters.
        model: at most 30 characters.
        firmware_version: 1 to 8 characters; None: not said.
        import_mpxn: the metering point; None: not said.
    """

    device_id: EntityId
    device_type: str
    status: str | None
    manufacturer: str
    model: str
    firmware_version: str | None = None
    import_mpxn: str | None = None


@dataclass(frozen=True, slots=True)
class InventoryBody:
    """Body of the answer to 8.2.

    Attributes:
        devices: 1 to 17 records.
    """

    devices: tuple[DeviceRecord, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.devices) <= MAX_INVENTORY_DEVICES:
            raise BuildError(
                f"an inventory of {len(self.devices)} devices: expected 1 to "
                f"{MAX_INVENTORY_DEVICES}"
            )


def encode_read_inventory(body: ReadInventory) -> str:
    """Write the body of 8.2 as canonical XML."""
    if body.property_filter is not None:
        key = (
            f"<sr:PropertyFilter>{_element('PostCode', body.property_filter.post_code)}"
            f"{_element('AddressIdentifier', body.property_filter.address_identifier)}"
            "</sr:PropertyFilter>"
        )
    elif body.device_id is not None:
        key = _element("DeviceID", str(body.device_id))
    else:
        key = _element("UPRN", body.uprn) + _element("MPxN", body.mpxn)
    return f"<sr:ReadInventory>{key}</sr:ReadInventory>"


def encode_update_inventory(body: UpdateInventory) -> str:
    """Write the body of 8.4 as canonical XML.

    Raises:
        BuildError: a change other than that of a status.
    """
    if body.status is None:
        raise BuildError(f"an UpdateInventory with {body.change} cannot be written here")
    return (
        f"<sr:UpdateInventory>{_element('DeviceID', str(body.device_id))}"
        f"{_element(body.change, body.status)}</sr:UpdateInventory>"
    )


def encode_inventory(body: InventoryBody) -> str:
    """Write the inventory as canonical XML."""
    devices = "".join(
        "<sr:Device>"
        + _element("DeviceID", str(device.device_id))
        + _element("DeviceType", device.device_type)
        + _element("DeviceStatus", device.status)
        + _element("DeviceManufacturer", device.manufacturer)
        + _element("DeviceModel", device.model)
        + _element("DeviceFirmwareVersion", device.firmware_version)
        + _element("ImportMPxN", device.import_mpxn)
        + "</sr:Device>"
        for device in body.devices
    )
    return f"<sr:DSPInventory>{devices}</sr:DSPInventory>"


def decode_read_inventory(cursor: Cursor) -> ReadInventory:
    """Read the children of a ReadInventory."""
    match cursor.peek():
        case "UPRN":
            body = ReadInventory(uprn=cursor.token("UPRN"))
        case "MPxN":
            body = ReadInventory(mpxn=cursor.text("MPxN"))
        case "PropertyFilter":
            address = cursor.inside("PropertyFilter")
            post_code, identifier = address.text("PostCode"), address.text("AddressIdentifier")
            address.end()
            body = ReadInventory(property_filter=PropertyFilter(post_code, identifier))
        case _:
            body = ReadInventory(device_id=_entity_id(cursor))
    cursor.end()
    return body


def decode_update_inventory(cursor: Cursor) -> UpdateInventory:
    """Read the children of an UpdateInventory; only a new status is looked into."""
    device_id = _entity_id(cursor)
    change = cursor.peek() or ""
    if change in STATUS_CHANGES:
        status: str | None = cursor.text(change)
    else:
        cursor.skip(change)
        status = None
    cursor.end()
    return UpdateInventory(device_id, change, status)


def decode_inventory(cursor: Cursor) -> InventoryBody:
    """Read the children of a DSPInventory."""
    devices = []
    while cursor.peek() is not None:
        devices.append(_device(cursor.inside("Device")))
    return InventoryBody(tuple(devices))


def _device(device: Cursor) -> DeviceRecord:
    device_id = _entity_id(device)
    device_type = device.text("DeviceType")
    status = _optional(device, "DeviceStatus")
    manufacturer = device.text("DeviceManufacturer")
    model = device.text("DeviceModel")
    _optional(device, "SMETSCHTSVersion")
    firmware_version = _optional(device, "DeviceFirmwareVersion")
    mpxn = None
    for name in _DEVICE_REST:
        if name == "ImportMPxN":
            mpxn = _optional(device, name)
        elif device.peek() == name:
            device.skip(name)
    device.end()
    return DeviceRecord(device_id, device_type, status, manufacturer, model, firmware_version, mpxn)


def _optional(cursor: Cursor, name: str) -> str | None:
    return cursor.text(name) if cursor.peek() == name else None


def _entity_id(cursor: Cursor) -> EntityId:
    text = cursor.token("DeviceID")
    if not _HYPHENATED.fullmatch(text):
        raise cursor.error(f"device {text[:40]!r}: expected an EUI-64 with hyphens")
    return EntityId.parse(text)


def _element(name: str, text: str | None) -> str:
    return "" if text is None else f"<sr:{name}>{escape_text(text)}</sr:{name}>"
