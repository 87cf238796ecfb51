"""Asking an SMKI repository for certificates: the XML of its two requests and their answers.

The form of the requests is what a client made for the DCC's emulator sends; that of the answers is
what it reads. Elements that it does not read are left out.

``certificatesearch``::

    <CertificateSearchRequest>
      <CertificateSubjectAltName>00-DB-12-34-56-78-90-A0</CertificateSubjectAltName>
    </CertificateSearchRequest>

    <CertificateSearchResponse>
      <Result>                                                       none or more
        <CertificateSerial>730c9adaead36d3057022f36c2c89de3</CertificateSerial>
        <CertificateUsage>KA</CertificateUsage>                      DS or KA
        <CertificateStatus>I</CertificateStatus>                     see CertificateStatus
      </Result>
    </CertificateSearchResponse>

``retrievecertificate``::

    <CertificateDataRequest>
      <CertificateSerial>730c9adaead36d3057022f36c2c89de3</CertificateSerial>
    </CertificateDataRequest>

    <CertificateDataResponse>
      <CertificateResponse>                                          none or one
        <CertificateSerial>…</CertificateSerial>
        <CertificateSubjectName>OU=02,…</CertificateSubjectName>     of an organisation, or
        <CertificateSubjectAltName>00-DB-…</CertificateSubjectAltName>   of a device
        <CertificateBody>MIIB…</CertificateBody>                     DER in base64
      </CertificateResponse>
    </CertificateDataResponse>
"""

from __future__ import annotations

import base64
import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives import serialization
from lxml import etree

from gbcs.certificates import Certificate, CertificateKind, KeyUsage
from gbcs.duis.reading import parse_xml
from gbcs.duis.signature import escape_text
from gbcs.entity_id import EntityId
from gbcs.errors import BuildError, DuisError, SmkiRepositoryFormatError

_SERIAL = re.compile(r"[0-9A-Fa-f]{1,40}")
_MAX_QUOTED_CHARS = 60
_PROLOGUE = '<?xml version="1.0" encoding="UTF-8"?>'
_USAGES = {KeyUsage.DIGITAL_SIGNATURE: "DS", KeyUsage.KEY_AGREEMENT: "KA"}


class CertificateStatus(enum.Enum):
    """Where a certificate is in its life; the value is what the repository says.

    Only "I" was seen to matter to a client; the other letters are assumed.
    """

    IN_USE = "I"
    EXPIRED = "E"
    REVOKED = "R"


_STATUSES = {status.value: status for status in CertificateStatus}


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """Which certificates does a party have?

    Attributes:
        entity_id: the party, a device or an organisation.
    """

    entity_id: EntityId


@dataclass(frozen=True, slots=True)
class DataRequest:
    """Give out a certificate.

    Attributes:
        serial: its serial number.
    """

    serial: int


def parse_untrusted_search_request(octets: bytes) -> SearchRequest:
    """Read a CertificateSearchRequest; the EUI-64 in either case, with or without hyphens.

    Raises:
        SmkiRepositoryFormatError: it is none, or asks by something else.
    """
    text = _only_child(octets, "CertificateSearchRequest", "CertificateSubjectAltName")
    try:
        return SearchRequest(EntityId.parse(text))
    except BuildError as error:
        raise SmkiRepositoryFormatError(f"CertificateSubjectAltName: {error}") from None


def parse_untrusted_data_request(octets: bytes) -> DataRequest:
    """Read a CertificateDataRequest; the serial number in hexadecimal digits.

    Raises:
        SmkiRepositoryFormatError: it is none.
    """
    text = _only_child(octets, "CertificateDataRequest", "CertificateSerial")
    if not _SERIAL.fullmatch(text):
        raise SmkiRepositoryFormatError(
            f"CertificateSerial is {text[:_MAX_QUOTED_CHARS]!r}: expected hexadecimal digits"
        )
    return DataRequest(int(text, 16))


def build_search_request(entity_id: EntityId) -> bytes:
    """Write a CertificateSearchRequest for the certificates of a party."""
    return (
        f"{_PROLOGUE}<CertificateSearchRequest><CertificateSubjectAltName>{entity_id}"
        "</CertificateSubjectAltName></CertificateSearchRequest>"
    ).encode()


def parse_untrusted_search_response(octets: bytes) -> dict[int, CertificateStatus]:
    """Read a CertificateSearchResponse.

    Returns:
        The status of each certificate by its serial number. What is neither in use nor expired
        counts as revoked: no other letter is known.

    Raises:
        SmkiRepositoryFormatError: it is none.
    """
    try:
        root = parse_xml(octets)
    except DuisError as error:
        raise SmkiRepositoryFormatError(str(error)) from error
    if _local_name(root) != "CertificateSearchResponse":
        raise SmkiRepositoryFormatError(
            f"found {_local_name(root)[:_MAX_QUOTED_CHARS]!r}: expected CertificateSearchResponse"
        )
    found = {}
    for result in root:
        texts = {_local_name(child): (child.text or "").strip() for child in result}
        serial, status = texts.get("CertificateSerial", ""), texts.get("CertificateStatus", "")
        if not _SERIAL.fullmatch(serial) or not status:
            raise SmkiRepositoryFormatError(
                "a Result of the CertificateSearchResponse lacks a serial number or a status"
            )
        found[int(serial, 16)] = _STATUSES.get(status, CertificateStatus.REVOKED)
    return found


def build_search_response(found: Iterable[tuple[Certificate, CertificateStatus]]) -> bytes:
    """Write a CertificateSearchResponse.

    Args:
        found: certificates of organisations and devices, each with its status.

    Returns:
        The XML document, UTF-8.
    """
    results = "".join(
        "<Result>"
        f"<CertificateSerial>{certificate.serial:x}</CertificateSerial>"
        f"<CertificateUsage>{_USAGES[certificate.usage]}</CertificateUsage>"
        f"<CertificateStatus>{status.value}</CertificateStatus>"
        "</Result>"
        for certificate, status in found
        if certificate.usage in _USAGES
    )
    return (f"{_PROLOGUE}<CertificateSearchResponse>{results}</CertificateSearchResponse>").encode()


def build_data_response(certificate: Certificate | None) -> bytes:
    """Write a CertificateDataResponse.

    Args:
        certificate: what was asked for; None: there is no such certificate.

    Returns:
        The XML document, UTF-8.
    """
    content = "" if certificate is None else _certificate_response(certificate)
    return f"{_PROLOGUE}<CertificateDataResponse>{content}</CertificateDataResponse>".encode()


def _certificate_response(certificate: Certificate) -> str:
    if certificate.kind is CertificateKind.DEVICE:
        whose = f"<CertificateSubjectAltName>{certificate.entity_id}</CertificateSubjectAltName>"
    else:
        name = escape_text(certificate.subject_name)
        whose = f"<CertificateSubjectName>{name}</CertificateSubjectName>"
    body = base64.b64encode(certificate.x509.public_bytes(serialization.Encoding.DER)).decode()
    return (
        "<CertificateResponse>"
        f"<CertificateSerial>{certificate.serial:x}</CertificateSerial>{whose}"
        f"<CertificateBody>{body}</CertificateBody>"
        "</CertificateResponse>"
    )


def _only_child(octets: bytes, root_name: str, name: str) -> str:
    try:
        root = parse_xml(octets)
    except DuisError as error:
        raise SmkiRepositoryFormatError(str(error)) from error
    found = [_local_name(root), *(_local_name(child) for child in root)]
    if found != [root_name, name] or len(root[0]):
        raise SmkiRepositoryFormatError(
            f"found {' with '.join(found)[:_MAX_QUOTED_CHARS]!r}: expected {root_name} with one "
            f"{name}, and text in that"
        )
    return (root[0].text or "").strip()


def _local_name(element: etree._Element) -> str:
    return etree.QName(element).localname
