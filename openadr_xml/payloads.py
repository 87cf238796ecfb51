"""Reading of OpenADR 2.0b payloads, as far as routing them needs.

A payload is never made into objects here and written again: what crosses are its own octets.

Source: OpenADR 2.0b profile, schema oadr_20b.xsd; ISO 8601 durations as in RFC 5545 section 3.3.6.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from lxml import etree

from openadr_xml.canonical import NotCompactable, canonical_of_tree, drop_layout, parse_untrusted
from openadr_xml.namespaces import XML_SIGNATURE

OADR: Final = "http://openadr.org/oadr-2.0b/2012/07"
EI: Final = "http://docs.oasis-open.org/ns/energyinterop/201110"
PYLD: Final = "http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
XCAL: Final = "urn:ietf:params:xml:ns:icalendar-2.0"

MAX_PAYLOAD_OCTETS: Final = 65_536
"""The longest payload that is read, in octets: the longest message of the tunnel."""

MAX_DEPTH: Final = 64
"""The deepest nesting of elements that is read; the schema needs less than 20."""

SERVICES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "oadrQueryRegistration": "EiRegisterParty",
        "oadrCreatePartyRegistration": "EiRegisterParty",
        "oadrCreatedPartyRegistration": "EiRegisterParty",
        "oadrCancelPartyRegistration": "EiRegisterParty",
        "oadrCanceledPartyRegistration": "EiRegisterParty",
        "oadrRequestReregistration": "EiRegisterParty",
        "oadrResponse": "EiRegisterParty",
        "oadrRegisterReport": "EiReport",
        "oadrRegisteredReport": "EiReport",
        "oadrCreateReport": "EiReport",
        "oadrCreatedReport": "EiReport",
        "oadrUpdateReport": "EiReport",
        "oadrUpdatedReport": "EiReport",
        "oadrCancelReport": "EiReport",
        "oadrCanceledReport": "EiReport",
        "oadrRequestEvent": "EiEvent",
        "oadrDistributeEvent": "EiEvent",
        "oadrCreatedEvent": "EiEvent",
        "oadrCreateOpt": "EiOpt",
        "oadrCreatedOpt": "EiOpt",
        "oadrCancelOpt": "EiOpt",
        "oadrCanceledOpt": "EiOpt",
        "oadrPoll": "OadrPoll",
    }
)
"""Each kind of payload and the service at whose address it is posted.

oadrResponse is what a VEN posts after oadrRequestReregistration, so it belongs to EiRegisterParty.
"""

_PAYLOAD: Final = f"{{{OADR}}}oadrPayload"
_SIGNED_OBJECT: Final = f"{{{OADR}}}oadrSignedObject"
_SIGNATURE: Final = f"{{{XML_SIGNATURE}}}Signature"
_RESPONSE: Final = f"{{{EI}}}eiResponse"
_REQUEST_ID: Final = f"{{{PYLD}}}requestID"
_CREATED: Final = f"{{{EI}}}createdDateTime"
_IDENTITIES: Final = ("venID", "vtnID", "registrationID")
_ABOUT: Final = ("eiTarget", "reportSubject", "reportDataSource")
"""Elements in which a venID says whom something is about, and not who speaks."""
_DURATION: Final = re.compile(
    r"P(?:(?P<w>\d{1,4})W)?(?:(?P<d>\d{1,6})D)?"
    r"(?:T(?:(?P<h>\d{1,6})H)?(?:(?P<m>\d{1,6})M)?(?:(?P<s>\d{1,8}(?:\.\d{1,6})?)S)?)?"
)
_SECONDS: Final = {"w": 604_800, "d": 86_400, "h": 3600, "m": 60, "s": 1}


class PayloadRefused(ValueError):
    """The octets are no OpenADR 2.0b payload that is read here; the message says why."""


@dataclass(frozen=True, slots=True)
class EventVersion:
    """An event and which version of it."""

    event_id: str
    modification_number: int


@dataclass(frozen=True, slots=True)
class Payload:
    """What routing needs to know of a payload. Texts that are absent or empty are "".

    ``request_id`` is the payload's own requestID, ``answered_request_id`` that of its
    eiResponse: the request that it answers. ``response_code`` is 0 where there is no eiResponse.
    ``digest`` is equal for payloads that say the same, whatever their requestID, signature, layout
    and time of making.
    """

    octets: bytes = field(repr=False)
    kind: str
    service: str
    request_id: str
    answered_request_id: str
    response_code: int
    response_description: str
    ven_id: str
    vtn_id: str
    registration_id: str
    opt_id: str
    report_request_ids: tuple[str, ...]
    events: tuple[EventVersion, ...]
    poll_interval_s: float | None
    pull_model: bool
    transport_address: str
    cancels_reports: bool
    signed: bool
    digest: bytes = field(repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether it holds an eiResponse that says success."""
        return 200 <= self.response_code < 300

    @property
    def correlation(self) -> str:
        """The requestID of the exchange that it belongs to: its own, or that which it answers."""
        return self.request_id or self.answered_request_id


def parse_untrusted_tree(octets: bytes) -> etree._ElementTree:
    """Parse a payload strictly: UTF-8, no DTD, no entities, no network, neither long nor deep.

    Raises:
        PayloadRefused: it is not such XML, or no oadrPayload with one payload of a known kind.
    """
    if len(octets) > MAX_PAYLOAD_OCTETS:
        raise PayloadRefused(
            f"{len(octets)} octets are too many: at most {MAX_PAYLOAD_OCTETS} are read"
        )
    try:
        tree = parse_untrusted(octets, allow_signature=True)
    except NotCompactable as error:
        raise PayloadRefused(str(error)) from None
    root = tree.getroot()
    _check_depth(root)
    if root.tag != _PAYLOAD:
        raise PayloadRefused(
            f"the root element is {_short(root.tag)}, expected oadrPayload of 2.0b"
        )
    objects = [child for child in root.iterchildren(etree.Element) if child.tag != _SIGNATURE]
    if [child.tag for child in objects] != [_SIGNED_OBJECT]:
        raise PayloadRefused("expected one oadrSignedObject in oadrPayload")
    payloads = list(objects[0].iterchildren(etree.Element))
    if len(payloads) != 1:
        raise PayloadRefused(f"expected one payload in oadrSignedObject, found {len(payloads)}")
    name = etree.QName(payloads[0])
    if name.namespace != OADR or name.localname not in SERVICES:
        raise PayloadRefused(f"{_short(payloads[0].tag)} is no payload of OpenADR 2.0b")
    return tree


def payload_element(tree: etree._ElementTree) -> etree._Element:
    """Return the element of the payload in a tree of `parse_untrusted_tree`."""
    signed_object = next(tree.getroot().iterchildren(_SIGNED_OBJECT))
    return next(signed_object.iterchildren(etree.Element))


def parse_untrusted_payload(octets: bytes) -> Payload:
    """Read a payload.

    Raises:
        PayloadRefused: it is none, too long, too deep, or says what cannot be.
    """
    tree = parse_untrusted_tree(octets)
    element = payload_element(tree)
    kind = etree.QName(element).localname
    # Opt and event payloads keep theirs one level down; reports have many below oadrReport.
    scope = next(
        (c for c in element.iterchildren(f"{{{PYLD}}}eiCreatedEvent", f"{{{PYLD}}}eiRequestEvent")),
        element,
    )
    response = next(scope.iterchildren(_RESPONSE), None)
    description = f"{{{EI}}}responseDescription"
    identities = _identities(element)
    return Payload(
        octets=octets,
        kind=kind,
        service=SERVICES[kind],
        request_id=_text(scope, _REQUEST_ID),
        answered_request_id=_answered(scope, response),
        response_code=0 if response is None else _code(response),
        response_description="" if response is None else _text(response, description),
        ven_id=identities["venID"],
        vtn_id=identities["vtnID"],
        registration_id=identities["registrationID"],
        opt_id=_text(element, f"{{{EI}}}optID"),
        report_request_ids=_report_request_ids(element),
        events=tuple(_events(element)),
        poll_interval_s=_poll_interval(element),
        pull_model=_text(scope, f"{{{OADR}}}oadrHttpPullModel") not in ("false", "0"),
        transport_address=_text(scope, f"{{{OADR}}}oadrTransportAddress"),
        cancels_reports=next(element.iterchildren(f"{{{OADR}}}oadrCancelReport"), None) is not None,
        signed=next(tree.getroot().iterchildren(_SIGNATURE), None) is not None,
        digest=_digest(tree),
    )


def parse_duration(text: str) -> float | None:
    """Return a duration such as PT10S in seconds; None: it is none, or not above zero."""
    match = _DURATION.fullmatch(text.strip().lstrip("+"))
    if match is None:
        return None
    parts = match.groupdict()
    seconds = sum(float(parts[name]) * unit for name, unit in _SECONDS.items() if parts[name])
    return seconds or None


def _check_depth(root: etree._Element) -> None:
    depth = 0
    for event, _ in etree.iterwalk(root, events=("start", "end")):
        depth += 1 if event == "start" else -1
        if depth > MAX_DEPTH:
            raise PayloadRefused(f"elements are nested deeper than {MAX_DEPTH}")


def _short(tag: object) -> str:
    # Foreign text for an error: as a literal, and not without end.
    return f"{str(tag)[:120]!r}"


def _text(scope: etree._Element, tag: str) -> str:
    child = next(scope.iterchildren(tag), None)
    return "" if child is None else _content(child)


def _content(element: etree._Element) -> str:
    if next(element.iterchildren(etree.Element), None) is not None:
        raise PayloadRefused(f"{_short(element.tag)} holds elements, expected a text")
    # A remark may stand in the middle of a text, and other readers take what is around it.
    return "".join((element.text or "", *(child.tail or "" for child in element))).strip()


def _identities(element: etree._Element) -> dict[str, str]:
    """Return who a payload says that it is from, or about: one text of each, wherever it stands.

    Other readers may look for it at another place, or without its namespace: a payload that
    names two would be one party's here and another's there.
    """
    named: dict[str, set[str]] = {name: set() for name in _IDENTITIES}
    about = 0
    for event, found in etree.iterwalk(element, events=("start", "end")):
        name = str(found.tag).rpartition("}")[2]
        if name in _ABOUT:
            about += 1 if event == "start" else -1
        elif name in named and event == "start" and not about:
            named[name].add(_content(found))
    for name, texts in named.items():
        texts.discard("")
        if len(texts) > 1:
            raise PayloadRefused(f"it names more than one {name}")
    return {name: texts.pop() if texts else "" for name, texts in named.items()}


def _code(response: etree._Element) -> int:
    text = _text(response, f"{{{EI}}}responseCode")
    if not re.fullmatch("[0-9]{3}", text):
        raise PayloadRefused(f"the responseCode is {text[:20]!r}, expected three digits")
    return int(text)


def _answered(scope: etree._Element, response: etree._Element | None) -> str:
    if response is None:
        return ""
    # Some leave it empty in oadrCreatedEvent, where each answered event names it again.
    inner = (_text(item, _REQUEST_ID) for item in scope.iter(f"{{{EI}}}eventResponse"))
    return _text(response, _REQUEST_ID) or next(inner, "")


def _report_request_ids(element: etree._Element) -> tuple[str, ...]:
    found = (_content(item) for item in element.iter(f"{{{EI}}}reportRequestID"))
    return tuple(dict.fromkeys(text for text in found if text))


def _events(element: etree._Element) -> Iterator[EventVersion]:
    for named in element.iter(f"{{{EI}}}eventDescriptor", f"{{{EI}}}qualifiedEventID"):
        number = _text(named, f"{{{EI}}}modificationNumber") or "0"
        if not re.fullmatch("[0-9]{1,10}", number):
            raise PayloadRefused(f"the modificationNumber is {number[:20]!r}, expected a number")
        yield EventVersion(_text(named, f"{{{EI}}}eventID"), int(number))


def _poll_interval(element: etree._Element) -> float | None:
    wished = next(element.iterchildren(f"{{{OADR}}}oadrRequestedOadrPollFreq"), None)
    return None if wished is None else parse_duration(_text(wished, f"{{{XCAL}}}duration"))


def _digest(tree: etree._ElementTree) -> bytes:
    """Return what is equal for two payloads that say the same; the tree is used up."""
    root = tree.getroot()
    for signature in list(root.iterchildren(_SIGNATURE)):
        root.remove(signature)
    for varying in root.iter(_REQUEST_ID, _CREATED):
        varying.text = None
    drop_layout(tree)
    return hashlib.sha256(canonical_of_tree(tree).encode()).digest()
