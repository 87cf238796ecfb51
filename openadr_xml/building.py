"""Building of the few OpenADR 2.0b payloads that the gateways give themselves.

All are valid against schema oadr_20b.xsd. Nothing that has crossed is built here; the functions
at the end change one text of a payload that stands at the edge.
"""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from typing import Final

from lxml import etree

from openadr_xml.namespaces import XML_SIGNATURE
from openadr_xml.payloads import (
    EI,
    OADR,
    PYLD,
    XCAL,
    PayloadRefused,
    parse_untrusted_tree,
    payload_element,
)

INVALID_ID: Final = 452
"""A venID, registrationID or the like is not the one that it should be."""
COMPLIANCE_ERROR: Final = 459
"""The payload should not have come, or not to this address."""
NOT_AUTHORIZED: Final = 463
"""Not registered, or not who it says."""
OTHER_ERROR: Final = 469
"""Something else is wrong; here mostly: no answer yet, the same request may come again."""

_PREFIXES: Final = {"oadr": OADR, "ei": EI, "pyld": PYLD, "xcal": XCAL}


def response(code: int, description: str, *, request_id: str = "", ven_id: str = "") -> bytes:
    """Build an oadrResponse."""
    payload = _payload("oadrResponse")
    _add_response(payload, code, description, request_id)
    _add(payload, EI, "venID", ven_id)
    return _document(payload)


def updated_report(*, request_id: str, ven_id: str) -> bytes:
    """Build an oadrUpdatedReport that says OK and cancels nothing."""
    payload = _payload("oadrUpdatedReport")
    _add_response(payload, 200, "OK", request_id)
    _add(payload, EI, "venID", ven_id)
    return _document(payload)


def created_party_registration(
    *,
    request_id: str,
    vtn_id: str,
    poll_interval_s: float,
    registration_id: str = "",
    ven_id: str = "",
) -> bytes:
    """Build the oadrCreatedPartyRegistration that answers an oadrQueryRegistration.

    Args:
        request_id: of the query.
        vtn_id: the VTN's name of itself.
        poll_interval_s: how often the VEN may poll, in whole seconds.
        registration_id: "" unless the VEN is registered.
        ven_id: "" unless the VEN is registered.
    """
    payload = _payload("oadrCreatedPartyRegistration")
    _add_response(payload, 200, "OK", request_id)
    if registration_id:
        _add(payload, EI, "registrationID", registration_id)
    if ven_id:
        _add(payload, EI, "venID", ven_id)
    _add(payload, EI, "vtnID", vtn_id)
    profile = _add(_add(payload, OADR, "oadrProfiles"), OADR, "oadrProfile")
    _add(profile, OADR, "oadrProfileName", "2.0b")
    transport = _add(_add(profile, OADR, "oadrTransports"), OADR, "oadrTransport")
    _add(transport, OADR, "oadrTransportName", "simpleHttp")
    interval = _add(payload, OADR, "oadrRequestedOadrPollFreq")
    _add(interval, XCAL, "duration", f"PT{max(1, round(poll_interval_s))}S")
    return _document(payload)


def poll(ven_id: str) -> bytes:
    """Build an oadrPoll."""
    payload = _payload("oadrPoll")
    _add(payload, EI, "venID", ven_id)
    return _document(payload)


def request_reregistration(ven_id: str) -> bytes:
    """Build an oadrRequestReregistration."""
    payload = _payload("oadrRequestReregistration")
    _add(payload, EI, "venID", ven_id)
    return _document(payload)


def cancel_report(request_id: str, report_request_ids: Iterable[str], *, ven_id: str) -> bytes:
    """Build an oadrCancelReport of at least one report, with no report to follow."""
    payload = _payload("oadrCancelReport")
    _add(payload, PYLD, "requestID", request_id)
    for report_request_id in report_request_ids:
        _add(payload, EI, "reportRequestID", report_request_id)
    _add(payload, PYLD, "reportToFollow", "false")
    _add(payload, EI, "venID", ven_id)
    return _document(payload)


def unwrap_cancel_report(updated: bytes, *, ven_id: str) -> bytes:
    """Return the oadrCancelReport inside an oadrUpdatedReport as a payload of its own.

    Raises:
        PayloadRefused: there is none.
    """
    outer = payload_element(parse_untrusted_tree(updated))
    inner = next(outer.iterchildren(f"{{{OADR}}}oadrCancelReport"), None)
    if inner is None:
        raise PayloadRefused("the oadrUpdatedReport holds no oadrCancelReport")
    payload = _payload("oadrCancelReport")
    for child in inner.iterchildren(etree.Element):
        copied = deepcopy(child)
        copied.tail = None
        payload.append(copied)
    for named in list(payload.iterchildren(f"{{{EI}}}venID")):
        payload.remove(named)
    _add(payload, EI, "venID", ven_id)
    return _document(payload)


def with_answered_request_id(answer: bytes, request_id: str) -> bytes:
    """Return an answer as the answer to another request that says the same.

    What holds an XML signature stays as it is.

    Raises:
        PayloadRefused: it is no payload.
    """
    tree = parse_untrusted_tree(answer)
    element = payload_element(tree)
    found = next(element.iterchildren(f"{{{EI}}}eiResponse"), None)
    named = None if found is None else next(found.iterchildren(f"{{{PYLD}}}requestID"), None)
    signed = len(list(tree.getroot().iterchildren(etree.Element))) > 1
    if named is None or signed or (named.text or "") == request_id:
        return answer
    named.text = request_id
    return _octets(tree.getroot())


def with_transport(registration: bytes, *, pull_model: bool, address: str | None) -> bytes:
    """Return an oadrCreatePartyRegistration with another transport.

    Args:
        registration: the payload, whole.
        pull_model: True: its VEN polls; False: its VTN pushes.
        address: where to push to; None: nowhere.

    Raises:
        PayloadRefused: it is no such payload, or is signed.
    """
    tree = parse_untrusted_tree(registration)
    element = payload_element(tree)
    if etree.QName(element).localname != "oadrCreatePartyRegistration":
        raise PayloadRefused("not an oadrCreatePartyRegistration")
    if next(tree.getroot().iter(f"{{{XML_SIGNATURE}}}Signature"), None) is not None:
        raise PayloadRefused("it holds an XML signature, which would no longer verify")
    for name in ("oadrTransportAddress", "oadrHttpPullModel"):
        for old in list(element.iterchildren(f"{{{OADR}}}{name}")):
            element.remove(old)
    if address is not None:
        place = next(element.iterchildren(f"{{{OADR}}}oadrTransportName"), None)
        if place is None:
            raise PayloadRefused("the registration names no transport")
        added = etree.Element(f"{{{OADR}}}oadrTransportAddress", nsmap={"oadr": OADR})
        added.text = address
        place.addnext(added)
    _add(element, OADR, "oadrHttpPullModel", "true" if pull_model else "false")
    return _octets(tree.getroot())


def _payload(name: str) -> etree._Element:
    root = etree.Element(f"{{{OADR}}}oadrPayload", nsmap=_PREFIXES)
    signed_object = etree.SubElement(root, f"{{{OADR}}}oadrSignedObject")
    payload = etree.SubElement(signed_object, f"{{{OADR}}}{name}")
    payload.set(f"{{{EI}}}schemaVersion", "2.0b")
    return payload


def _add(parent: etree._Element, namespace: str, name: str, text: str = "") -> etree._Element:
    child = etree.SubElement(parent, f"{{{namespace}}}{name}")
    # What came from strangers can hold what XML cannot.
    child.text = "".join(c for c in text if c.isprintable()) or None
    return child


def _add_response(parent: etree._Element, code: int, description: str, request_id: str) -> None:
    told = _add(parent, EI, "eiResponse")
    _add(told, EI, "responseCode", str(code))
    _add(told, EI, "responseDescription", description)
    _add(told, PYLD, "requestID", request_id)


def _document(payload: etree._Element) -> bytes:
    root = payload.getroottree().getroot()
    etree.cleanup_namespaces(root)
    return _octets(root)


def _octets(root: etree._Element) -> bytes:
    return etree.tostring(root, encoding="UTF-8", xml_declaration=True)
