"""OpenADR messages written by hand, in styles that no preset dictionary was made from."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from xml.etree import ElementTree

import pytest

OADR: Final = "http://openadr.org/oadr-2.0b/2012/07"
EI: Final = "http://docs.oasis-open.org/ns/energyinterop/201110"
PYLD: Final = "http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
XCAL: Final = "urn:ietf:params:xml:ns:icalendar-2.0"
STRM: Final = "urn:ietf:params:xml:ns:icalendar-2.0:stream"
EMIX: Final = "http://docs.oasis-open.org/ns/emix/2011/06"
POWER: Final = "http://docs.oasis-open.org/ns/emix/2011/06/power"
SCALE: Final = "http://docs.oasis-open.org/ns/emix/2011/06/siscale"

_NAMESPACES: Final[Mapping[str, str]] = {
    PYLD: "requestID reportToFollow",
    XCAL: "properties dtstart date-time duration tolerance tolerate startafter components uid text "
    "granularity",
    STRM: "intervals",
    EMIX: "marketContext",
    POWER: "endDeviceAsset mrid powerReal powerAttributes hertz voltage ac",
    SCALE: "siScaleCode",
}
_NAMES: Final = {name: space for space, names in _NAMESPACES.items() for name in names.split()}

# name{...} is an element with children, name=value; one with a text, name; an empty one.
_OK: Final = "eiResponse{responseCode=200;responseDescription=OK;requestID=%s;}"
_INTERVAL: Final = (
    "interval{duration{duration=%s;}uid{text=%s;}signalPayload{payloadFloat{value=%s;}}}"
)
_MESSAGES: Final[Mapping[str, str]] = {
    "Response": f"oadrResponse{{{_OK % '7f3c'}venID=CEM-0042;}}",
    "Response with an error": "oadrResponse{eiResponse{responseCode=452;"
    "responseDescription=Unknown registrationID;requestID=88123;}venID=CEM-0042;}",
    "RequestReregistration": "oadrRequestReregistration{venID=CEM-0042;}",
    "CancelReport": "oadrCancelReport{requestID=r-551;reportRequestID=telemetry/7;"
    "reportToFollow=true;venID=CEM-0042;}",
    "UpdatedReport": f"oadrUpdatedReport{{{_OK % 'upd-19'}venID=CEM-0042;}}",
    "CreatedPartyRegistration": f"oadrCreatedPartyRegistration{{{_OK % '1'}"
    "registrationID=5b0c1e0c-94c7-4a53-8a5f-3c0a5d1b7e11;venID=CEM-0042;vtnID=FlexCo;"
    "oadrProfiles{oadrProfile{oadrProfileName=2.0b;oadrTransports{oadrTransport{"
    "oadrTransportName=simpleHttp;}}}}oadrRequestedOadrPollFreq{duration=PT20S;}}",
    "RegisteredReport": f"oadrRegisteredReport{{{_OK % 'reg-2'}oadrReportRequest{{"
    "reportRequestID=telemetry/7;reportSpecifier{reportSpecifierID=power-profile;"
    "granularity{duration=PT5M;}reportBackDuration{duration=PT1H;}"
    "specifierPayload{rID=heat-pump;readingType=Direct Read;}"
    "specifierPayload{rID=battery;readingType=Direct Read;}}}venID=CEM-0042;}",
    "CreateReport": "oadrCreateReport{requestID=cr-90;oadrReportRequest{reportRequestID=once/3;"
    "reportSpecifier{reportSpecifierID=history;granularity{duration=PT15M;}"
    "reportBackDuration{duration=PT0S;}reportInterval{properties{"
    "dtstart{date-time=2027-03-01T00:00:00Z;}duration{duration=P1D;}}}"
    "specifierPayload{rID=meter;readingType=Mean;}}}venID=CEM-0042;}",
    "DistributeEvent": f"oadrDistributeEvent{{{_OK % 'poll-6631'}requestID=de-77;vtnID=FlexCo;"
    "oadrEvent{eiEvent{eventDescriptor{eventID=turn-down-2027-03-02;modificationNumber=1;"
    "modificationDateTime=2027-03-01T16:02:11Z;priority=2;"
    "eiMarketContext{marketContext=https://flexco.example/winter;}"
    "createdDateTime=2027-03-01T09:15:00Z;eventStatus=far;testEvent=false;vtnComment;}"
    "eiActivePeriod{properties{dtstart{date-time=2027-03-02T17:00:00Z;}duration{duration=PT2H;}"
    "tolerance{tolerate{startafter=PT2M;}}x-eiNotification{duration=PT4H;}}components;}"
    f"eiEventSignals{{eiEventSignal{{intervals{{{_INTERVAL % ('PT1H', '0', '1500.0')}"
    f"{_INTERVAL % ('PT1H', '1', '2200.0')}}}signalName=LOAD_DISPATCH;signalType=setpoint;"
    "signalID=s1;powerReal{itemDescription=RealPower;itemUnits=W;siScaleCode=none;"
    "powerAttributes{hertz=50;voltage=230;ac=true;}}currentValue{payloadFloat{value=0.0;}}}}"
    "eiTarget{resourceID=heat-pump;venID=CEM-0042;}}oadrResponseRequired=always;}}",
}


def _build(text: str) -> ElementTree.Element:
    root = ElementTree.Element(f"{{{OADR}}}oadrPayload")
    parents = [ElementTree.SubElement(root, f"{{{OADR}}}oadrSignedObject")]
    for name, rest, value in re.findall(r"([\w-]+)(=([^;]*);|\{|;)|\}", text):
        if not name:
            parents.pop()
            continue
        parent = parents[-1]
        namespace = OADR if name.startswith("oadr") else _NAMES.get(name, EI)
        if name.startswith("item"):
            namespace = parent.tag[1:].partition("}")[0]
        element = ElementTree.SubElement(parent, f"{{{namespace}}}{name}")
        element.text = value or None
        if len(parents) == 1:
            element.set(f"{{{EI}}}schemaVersion", "2.0b")
        if rest == "{":
            parents.append(element)
    return root


def _by_element_tree(root: ElementTree.Element) -> bytes:
    """ns0, ns1, ... on the root, as Python's own library writes."""
    return str(ElementTree.tostring(root, "unicode")).encode()


def _by_last_word(root: ElementTree.Element) -> bytes:
    """Prefixes made of the last word of the namespace, CRLF, three spaces."""
    prefixes: dict[str, str] = {}
    for element in root.iter():
        namespace = element.tag[1:].partition("}")[0]
        prefixes.setdefault(namespace, "n" + re.split(r"[/:]", namespace)[-1])
    declared = "".join(f'\r\n   xmlns:{p}="{n}"' for n, p in prefixes.items())

    def write(element: ElementTree.Element, depth: int) -> str:
        namespace, name = element.tag[1:].split("}")
        tag = f"{prefixes[namespace]}:{name}"
        attributes = f' {prefixes[EI]}:schemaVersion="2.0b"' if element.attrib else ""
        start = f"{'   ' * depth}<{tag}{attributes}{declared if not depth else ''}>"
        if not len(element):
            return f"{start}{element.text or ''}</{tag}>\r\n"
        children = "".join(write(child, depth + 1) for child in element)
        return f"{start}\r\n{children}{'   ' * depth}</{tag}>\r\n"

    return ("<?xml version='1.0' encoding='utf-8' standalone='no'?>\r\n" + write(root, 0)).encode()


def _by_defaults(root: ElementTree.Element) -> bytes:
    """A default namespace wherever it changes, tabs."""

    def write(element: ElementTree.Element, depth: int, outer: str) -> str:
        namespace, name = element.tag[1:].split("}")
        attributes = f' xmlns="{namespace}"' * (namespace != outer)
        if element.attrib:
            attributes += f' xmlns:e="{EI}" e:schemaVersion="2.0b"'
        start = "\n" + "\t" * depth + f"<{name}{attributes}"
        if not len(element):
            return f"{start}>{element.text}</{name}>" if element.text else f"{start}/>"
        children = "".join(write(child, depth + 1, namespace) for child in element)
        end = "\n" + "\t" * depth + f"</{name}>"
        return f"{start}>{children}{end}"

    return ('<?xml version="1.0"?>' + write(root, 0, "")).encode()


@pytest.fixture(scope="session")
def foreign_messages() -> Mapping[str, Mapping[str, bytes]]:
    """Downlink messages by style, then by kind."""
    styles = {
        "ElementTree": _by_element_tree,
        "last word": _by_last_word,
        "defaults": _by_defaults,
    }
    return {
        style: {kind: write(_build(text)) for kind, text in _MESSAGES.items()}
        for style, write in styles.items()
    }
