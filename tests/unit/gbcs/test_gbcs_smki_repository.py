"""The XML of the SMKI repository."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gbcs import EntityId
from gbcs.certificates import KeyUsage, Role, parse_certificate
from gbcs.errors import SmkiRepositoryFormatError
from gbcs.pki import TestPki
from gbcs.smki_repository import (
    CertificateStatus,
    DataRequest,
    SearchRequest,
    build_data_response,
    build_search_response,
    parse_untrusted_data_request,
    parse_untrusted_search_request,
)

DEVICE = EntityId.parse("00-C0-FF-EE-00-00-00-01")
SUPPLIER = EntityId.parse("90-B3-D5-1F-30-01-00-00")


def search(text: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><CertificateSearchRequest>'
        f"<CertificateSubjectAltName>{text}</CertificateSubjectAltName></CertificateSearchRequest>"
    ).encode()


def data(text: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><CertificateDataRequest>'
        f"<CertificateSerial>{text}</CertificateSerial></CertificateDataRequest>"
    ).encode()


@pytest.mark.parametrize(
    "text", ["00-C0-FF-EE-00-00-00-01", "00-c0-ff-ee-00-00-00-01", "00c0ffee00000001", " {}\n"]
)
def test_search_by_eui_in_any_writing(text: str) -> None:
    asked = search(text.format(DEVICE))
    assert parse_untrusted_search_request(asked) == SearchRequest(DEVICE)


@pytest.mark.parametrize("text", ["29d42b64e76714244cb", "0029D42B64E76714244CB"])
def test_data_by_serial_in_any_writing(text: str) -> None:
    assert parse_untrusted_data_request(data(text)) == DataRequest(12345678901234567890123)


@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b"garbage",
        b"<x/>",
        b"<CertificateSearchRequest/>",
        b"<CertificateDataRequest/>",
        search(""),
        search("00-C0"),
        search("<x/>"),
        search("1").replace(b"SubjectAltName", b"SubjectName"),
        search(str(DEVICE)).replace(b"</CertificateSearch", b"<x/></CertificateSearch"),
        data(""),
        data("xyz"),
        data("1" * 41),
        data("0x12"),
        b"<!DOCTYPE a><CertificateDataRequest/>",
    ],
)
def test_no_request(octets: bytes) -> None:
    for parse in (parse_untrusted_search_request, parse_untrusted_data_request):
        with pytest.raises(SmkiRepositoryFormatError):
            parse(octets)


@given(st.binary(max_size=200) | st.text(max_size=100).map(search))
def test_only_one_kind_of_error(octets: bytes) -> None:
    for parse in (parse_untrusted_search_request, parse_untrusted_data_request):
        with contextlib.suppress(SmkiRepositoryFormatError):
            parse(octets)


def test_answers() -> None:
    pki = TestPki.create(random_octets=os.urandom, clock=time.time)
    device = pki.issue_device(DEVICE, KeyUsage.KEY_AGREEMENT).certificate
    supplier = pki.issue_organisation(
        SUPPLIER, Role.SUPPLIER, KeyUsage.DIGITAL_SIGNATURE
    ).certificate
    authority = pki.authorities()[0].certificate
    found = build_search_response(
        [
            (device, CertificateStatus.IN_USE),
            (supplier, CertificateStatus.REVOKED),
            (authority, CertificateStatus.IN_USE),
        ]
    ).decode()
    assert re.findall("<CertificateSerial>(.*?)<", found) == [
        f"{device.serial:x}",
        f"{supplier.serial:x}",
    ]
    assert re.findall("<CertificateUsage>(.*?)<", found) == ["KA", "DS"]
    assert re.findall("<CertificateStatus>(.*?)<", found) == ["I", "R"]
    for certificate in (device, supplier):
        given_out = build_data_response(certificate).decode()
        (body,) = re.findall("<CertificateBody>(.*?)<", given_out)
        assert parse_certificate(base64.b64decode(body)) == certificate
        assert (f"<CertificateSubjectAltName>{DEVICE}<" in given_out) is (certificate is device)
        assert ("<CertificateSubjectName>" in given_out) is (certificate is supplier)
    assert b"<CertificateDataResponse></CertificateDataResponse>" in build_data_response(None)
