"""Reading and building of OpenADR payloads: strict, safe, and valid against the schema."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openleadr.messaging import parse_message, validate_xml_schema

from openadr_xml import (
    MAX_PAYLOAD_OCTETS,
    Payload,
    PayloadRefused,
    building,
    parse_untrusted_payload,
)
from openadr_xml.payloads import MAX_DEPTH, parse_duration

Read = Callable[[bytes], Payload]

OADR = b'xmlns:o="http://openadr.org/oadr-2.0b/2012/07"'
POLL = building.poll("V")


@pytest.mark.parametrize(
    ("octets", "words"),
    [
        (b"", "not XML"),
        (b"\xff\xfe\x00", "not XML"),
        (b"<a", "not XML"),
        (POLL.decode().encode("utf-16"), "not XML"),
        (b"<a/>", "root element"),
        (b"<oadrPayload/>", "root element"),
        (b"<o:oadrPayload " + OADR + b"/>", "one oadrSignedObject"),
        (b"<o:oadrPayload " + OADR + b"><o:oadrSignedObject/></o:oadrPayload>", "one payload"),
        (
            b"<o:oadrPayload " + OADR + b"><o:oadrSignedObject><o:oadrPoll/><o:oadrPoll/>"
            b"</o:oadrSignedObject></o:oadrPayload>",
            "found 2",
        ),
        (POLL.replace(b"oadrPoll", b"oadrNonsense"), "no payload of OpenADR"),
        (
            b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]>'
            + POLL.split(b"?>")[1].replace(b">V<", b">&b;<"),
            "DTD",
        ),
        (b"<!DOCTYPE a SYSTEM 'http://127.0.0.1:9/a.dtd'>" + POLL.split(b"?>")[1], "DTD"),
        (b" " * (MAX_PAYLOAD_OCTETS + 1), "too many"),
        (b"<a>" * 10_000, "not XML"),
        (
            POLL.replace(b">V<", b">" + b"<a>" * MAX_DEPTH + b"</a>" * MAX_DEPTH + b"<"),
            "nested deeper",
        ),
        (building.response(200, "OK").replace(b">200<", b">two<"), "three digits"),
        (POLL.replace(b">V<", b">V<a>2</a><"), "holds elements"),
    ],
)
def test_what_is_no_payload_is_refused_with_the_reason(octets: bytes, words: str) -> None:
    with pytest.raises(PayloadRefused, match=words):
        parse_untrusted_payload(octets)


def test_a_billion_laughs_are_not_heard() -> None:
    entities = "".join(
        f'<!ENTITY l{n} "{"&l" + str(n - 1) + ";" if n else "ha"}'
        + f'{"&l" + str(n - 1) + ";" if n else ""}">'
        for n in range(30)
    )
    bomb = f"<!DOCTYPE a [{entities}]>" + POLL.decode().split("?>")[1].replace(">V<", ">&l29;<")
    with pytest.raises(PayloadRefused):
        parse_untrusted_payload(bomb.encode())


@given(octets=st.binary(max_size=300))
def test_any_octets_are_read_or_refused(octets: bytes) -> None:
    with pytest.raises(PayloadRefused):
        parse_untrusted_payload(octets)


@given(
    cut=st.integers(0, 2000),
    length=st.integers(0, 30),
    put=st.binary(max_size=8),
)
def test_damaged_payloads_are_read_or_refused(cut: int, length: int, put: bytes) -> None:
    whole = building.cancel_report("r", ["a", "b"], ven_id="V")
    damaged = whole[:cut] + put + whole[cut + length :]
    with contextlib.suppress(PayloadRefused):
        assert parse_untrusted_payload(damaged).octets == damaged


@given(text=st.text(max_size=60))
def test_what_is_built_is_valid_and_says_what_it_was_given(text: str) -> None:
    for octets in (
        building.response(469, text, request_id=text, ven_id=text),
        building.updated_report(request_id=text, ven_id=text),
        building.created_party_registration(
            request_id=text, vtn_id=text, poll_interval_s=0.2, registration_id=text, ven_id=text
        ),
        building.poll(text),
        building.request_reregistration(text),
        building.cancel_report(text, [text], ven_id=text),
    ):
        validate_xml_schema(octets)
        payload = parse_untrusted_payload(octets)
        printable = "".join(c for c in text if c.isprintable()).strip()
        assert printable in (payload.ven_id, payload.request_id, payload.answered_request_id)


def test_all_captured_messages_are_read(reference_vectors: Path) -> None:
    files = sorted((reference_vectors / "openadr").glob("*.xml"))
    assert len(files) == 47
    for file in files:
        payload = parse_untrusted_payload(file.read_bytes())
        assert payload.kind == file.name.split("_")[1]
        assert payload.ven_id or payload.kind in (
            "oadrQueryRegistration",
            "oadrCreatePartyRegistration",
            "oadrCreatedPartyRegistration",
            "oadrDistributeEvent",
        )


def test_the_digest_tells_what_is_said_and_not_how(xml: Any) -> None:
    one = parse_untrusted_payload(xml.event(request_id="a", answers="x"))
    same = parse_untrusted_payload(xml.event(request_id="b", answers="y"))
    other = parse_untrusted_payload(xml.event(modification=1))
    assert one.digest == same.digest != other.digest
    laid_out = one.octets.replace(b"><ei:event", b">\n  <ei:event")
    assert laid_out != one.octets
    assert parse_untrusted_payload(laid_out).digest == one.digest


def test_an_answer_can_name_another_request(xml: Any, read: Read) -> None:
    answer = building.with_answered_request_id(xml.registered_report("a"), "b")
    assert read(answer).answered_request_id == "b"
    assert building.with_answered_request_id(answer, "b") is answer
    assert building.with_answered_request_id(POLL, "b") == POLL


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT10S", 10), ("PT1H30M", 5400), ("P1D", 86400), ("P1W", 604800), ("PT0.5S", 0.5)]
    + [(wrong, None) for wrong in ("", "P", "PT", "10", "-PT1S", "PT0S", "PT1X", "P" + "9" * 99)],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("remark", [b"<!-- -->", b"<?a b?>"])
def test_a_remark_cannot_hide_who_speaks(xml: Any, remark: bytes) -> None:
    for hiding, meant in ((remark + b"VEN2", "VEN2"), (b"VEN1" + remark + b"2", "VEN12")):
        octets = xml.update_report().replace(b">VEN1<", b">" + hiding + b"<")
        validate_xml_schema(octets)
        # What another reader takes it for.
        assert parse_message(octets)[1]["ven_id"] == meant
        assert parse_untrusted_payload(octets).ven_id == meant


@pytest.mark.parametrize("name", ["venID", "registrationID"])
def test_a_payload_speaks_for_one_alone(xml: Any, name: str) -> None:
    octets = xml.cancel_registration()
    tag = f"<ei:{name}>".encode()
    start = octets.index(tag)
    end = octets.index(b"</ei:" + name.encode()) + len(tag) + 1
    own, other = octets[start:end], f"<ei:{name}>OTHER</ei:{name}>".encode()
    for twice in (own + other, other + own, own + other.replace(b"ei:", b"oadr:")):
        with pytest.raises(PayloadRefused, match=f"more than one {name}"):
            parse_untrusted_payload(octets.replace(own, twice))
    assert parse_untrusted_payload(octets.replace(own, own + own)).kind
    other = other.replace(b"ei:", b"oadr:")
    hidden = parse_untrusted_payload(octets.replace(own, other))
    assert "OTHER" in (hidden.ven_id, hidden.registration_id)


def test_a_target_is_not_who_speaks(xml: Any) -> None:
    event = parse_untrusted_payload(xml.event())
    assert b"venID>VEN1<" in event.octets
    assert event.ven_id == ""


def test_many_names_deep_in_a_payload_cost_no_more_than_elsewhere(xml: Any) -> None:
    report = xml.update_report()
    place = report.index(b"</oadr:oadrUpdateReport>")

    def cost_s(inner: bytes) -> float:
        octets = report[:place] + inner + report[place:]
        begun = time.process_time()
        parse_untrusted_payload(octets)
        return time.process_time() - begun

    flat = b"<a>" * 50 + b"</a>" * 50 + b"<venID/>" * 6000
    deep = b"<a>" * 50 + b"<venID/>" * 6000 + b"</a>" * 50
    # Who looked for the ancestors of each found 50 times as many; processor time, best of three.
    assert min(cost_s(deep) for _ in range(3)) < 2.5 * min(cost_s(flat) for _ in range(3))
