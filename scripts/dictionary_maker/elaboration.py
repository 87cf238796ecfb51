"""Optional elements that OpenADR's schema allows and openleadr never writes."""

from __future__ import annotations

from typing import Final

from lxml import etree
from openleadr import enums

from dictionary_maker.picking import Picker

OADR: Final = "http://openadr.org/oadr-2.0b/2012/07"
EI: Final = "http://docs.oasis-open.org/ns/energyinterop/201110"
PYLD: Final = "http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
XCAL: Final = "urn:ietf:params:xml:ns:icalendar-2.0"
POWER: Final = "http://docs.oasis-open.org/ns/emix/2011/06/power"


def elaborate(root: etree._Element, pick: Picker) -> bool:
    """Put in what the schema allows and openleadr never writes; tell whether anything was."""
    before = etree.tostring(root)
    for signal in root.iter(f"{{{EI}}}eiEventSignal"):
        _put_asset_target(signal, pick)
    for descriptor in root.iter(f"{{{EI}}}eventDescriptor"):
        if pick.chance(60):
            number = descriptor.find(f"{{{EI}}}modificationNumber")
            dated = descriptor.find(f"{{{EI}}}modificationDateTime")
            reason = etree.Element(f"{{{EI}}}modificationReason")
            reason.text = pick.one((None, "Update"))
            place = number if dated is None else dated
            if place is not None:
                place.addnext(reason)
    for interval in root.iter(f"{{{EI}}}interval"):
        _put_status(interval, pick)
    for registered in root.iter(f"{{{OADR}}}oadrCreatedPartyRegistration"):
        extensions = etree.SubElement(registered, f"{{{OADR}}}oadrExtensions")
        extension = etree.SubElement(extensions, f"{{{OADR}}}oadrExtension")
        etree.SubElement(extension, f"{{{OADR}}}oadrExtensionName").text = "Extension"
        information = etree.SubElement(extension, f"{{{OADR}}}oadrInfo")
        etree.SubElement(information, f"{{{OADR}}}oadrKey").text = "Key"
        etree.SubElement(information, f"{{{OADR}}}oadrValue").text = "Value"
    return etree.tostring(root) != before


def _put_asset_target(signal: etree._Element, pick: Picker) -> None:
    target = etree.Element(f"{{{EI}}}eiTarget")
    asset = etree.SubElement(target, f"{{{POWER}}}endDeviceAsset")
    name = etree.SubElement(asset, f"{{{POWER}}}mrid")
    name.text = pick.one(enums.SIGNAL_TARGET_MRID.values)
    signal[0].addnext(target)


def _put_status(interval: etree._Element, pick: Picker) -> None:
    """Turn a report's number into a resource status, and number the interval."""
    payload = interval.find(f"{{{OADR}}}oadrReportPayload")
    number = interval.find(f"{{{OADR}}}oadrReportPayload/{{{EI}}}payloadFloat")
    if payload is None or number is None:
        return
    uid = etree.Element(f"{{{XCAL}}}uid")
    etree.SubElement(uid, f"{{{XCAL}}}text").text = "0"
    payload.addprevious(uid)
    status = etree.Element(f"{{{OADR}}}oadrPayloadResourceStatus")
    etree.SubElement(status, f"{{{OADR}}}oadrOnline").text = pick.one(("true", "false"))
    etree.SubElement(status, f"{{{OADR}}}oadrManualOverride").text = "false"
    state = etree.SubElement(status, f"{{{OADR}}}oadrLoadControlState")
    for part in ("oadrCapacity", "oadrLevelOffset", "oadrPercentOffset", "oadrSetPoint"):
        values = etree.SubElement(state, f"{{{OADR}}}{part}")
        for name in ("oadrMin", "oadrMax", "oadrCurrent", "oadrNormal"):
            etree.SubElement(values, f"{{{OADR}}}{name}").text = "0"
    payload.replace(number, status)
