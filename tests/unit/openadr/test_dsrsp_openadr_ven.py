"""One CEM's VEN at the DSRSP without I/O: what is posted, which answers cross."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from dsrsp.openadr import OpenAdrConfig
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Post, Refused, Ven
from openadr_xml import Payload, PayloadRefused, building, parse_untrusted_payload

Read = Callable[[bytes], Payload]
URL = "http://127.0.0.1:8080/OpenADR2/Simple/2.0b"


class Cem:
    def __init__(self, read: Read, **config: Any) -> None:
        self.read = read
        self.others: dict[str, str] = {}
        self.ven = Ven(
            OpenAdrConfig(vtn_url=URL, **config),
            VenState(),
            device="me",
            owner_of=self.others.get,
            registrant_of={}.get,
        )
        self.now = 0.0

    def plan(self, octets: bytes) -> Post | Refused:
        return self.ven.plan(self.read(octets))

    def answered(self, request: bytes, answer: bytes | None) -> Payload | None:
        said = None if answer is None else self.read(answer)
        crossing = self.ven.answered(self.read(request), said, self.now)
        return self.read(crossing) if crossing else None

    def polled(self, answer: bytes | None) -> Payload | None:
        said = None if answer is None else self.read(answer)
        crossing = self.ven.polled(said, self.now)
        return self.read(crossing) if crossing else None


@pytest.fixture
def cem(read: Read, xml: Any) -> Cem:
    cem = Cem(read)
    assert cem.answered(xml.registration("r"), xml.registered("r")) is not None
    return cem


def test_registration_binds_and_sets_the_pace(read: Read, xml: Any) -> None:
    cem = Cem(read)
    assert not cem.ven.registered
    assert cem.ven.poll_interval_s == 10.0
    registration = xml.registration("r")
    assert cem.plan(registration) == Post("EiRegisterParty", registration)
    crossing = cem.answered(registration, xml.registered("r"))
    assert crossing is not None
    assert crossing.octets == xml.registered("r"), "the VTN's own octets"
    assert cem.ven.registered
    assert cem.ven.poll_interval_s == 30.0


@pytest.mark.parametrize("answer", ["response", "nothing"])
def test_confirmations_without_content_do_not_cross(cem: Cem, xml: Any, answer: str) -> None:
    said = xml.response() if answer == "response" else None
    for request in (xml.created_event(), xml.canceled_report()):
        assert cem.answered(request, said) is None
    assert cem.answered(xml.update_report("u"), xml.updated_report("u")) is None
    assert cem.ven.counts["elided"] == 3


def test_what_says_something_crosses(cem: Cem, xml: Any) -> None:
    cancels = cem.answered(xml.update_report("u"), xml.updated_report("u", cancels="RR1"))
    assert cancels is not None
    assert cancels.cancels_reports
    refused = cem.answered(xml.created_event(request_id="v1"), xml.response(None, code=452))
    assert refused is not None
    assert (refused.response_code, refused.answered_request_id) == (452, "v1")


def test_answers_that_a_ven_waits_for_cross_and_name_its_request(cem: Cem, xml: Any) -> None:
    answer = cem.answered(xml.request_event("a"), xml.response(None))
    assert answer is not None
    assert (answer.response_code, answer.answered_request_id) == (200, "a")
    nothing = cem.answered(xml.request_event("b"), None)
    assert nothing is not None
    assert (nothing.response_code, nothing.answered_request_id) == (469, "b")


def test_empty_polls_do_not_cross_and_the_same_event_crosses_once(cem: Cem, xml: Any) -> None:
    assert cem.polled(None) is None
    assert cem.polled(xml.response()) is None
    assert cem.polled(xml.event(request_id="v1")) is not None
    assert cem.polled(xml.event(request_id="v2")) is None, "only its requestID is another"
    assert cem.polled(xml.event(modification=1)) is not None
    near = re.sub(rb"(eventStatus>)\w+", rb"\1near", xml.event(modification=1))
    assert cem.polled(near) is not None
    cem.now += 3600.0
    assert cem.polled(near) is not None
    cem.now -= 1e6  # the clock is set back
    assert cem.polled(near) is not None


def test_events_that_were_asked_for_are_not_sent_again_by_a_poll(cem: Cem, xml: Any) -> None:
    assert cem.answered(xml.request_event("a"), xml.event(answers="a")) is not None
    # openleadr gives the same events to the next poll.
    answered_by_poll = xml.event(answers="None", request_id="v2")
    assert cem.polled(answered_by_poll) is None


def test_that_a_ven_must_register_again_crosses_once(cem: Cem, xml: Any) -> None:
    assert cem.polled(xml.reregister()) is not None
    assert cem.polled(xml.reregister()) is None
    assert cem.answered(xml.update_report(), xml.reregister()) is None
    assert cem.answered(xml.request_event("a"), xml.reregister()) is not None, "it waits"
    cem.answered(xml.registration("r"), xml.registered("r"))
    assert cem.answered(xml.update_report(), xml.response(code=463)) is not None
    assert cem.polled(xml.response(code=463)) is None


def test_one_cem_cannot_speak_as_another(cem: Cem, xml: Any) -> None:
    cem.others["VEN2"] = "somebody else"
    for octets in (xml.update_report(ven_id="VEN2"), xml.registration("x", ven_id="VEN2")):
        refused = cem.plan(octets)
        assert isinstance(refused, Refused)
        assert cem.read(refused.answer).response_code == 452


def test_a_new_cem_cannot_take_a_ven_id_that_is_another_cems(read: Read, xml: Any) -> None:
    cem = Cem(read)
    cem.others["VEN1"] = "somebody else"
    refused = cem.plan(xml.registration("x", ven_id="VEN1"))
    assert isinstance(refused, Refused)
    assert cem.read(refused.answer).response_code == 463
    cem.others["VEN1"] = "me"
    assert isinstance(cem.plan(xml.registration("x", ven_id="VEN1")), Post)


def test_what_no_ven_sends_is_not_posted(cem: Cem, xml: Any) -> None:
    for octets in (xml.event(), xml.poll(), xml.query(), xml.registered()):
        refused = cem.plan(octets)
        assert isinstance(refused, Refused)
        assert refused.answer == b""


def test_the_vtn_is_given_an_address_that_it_reaches(read: Read, xml: Any) -> None:
    pushes = xml.registration(
        "r", http_pull_model=False, transport_address="http://192.168.0.7:8080"
    )
    plan = Cem(read).plan(pushes)
    assert isinstance(plan, Post)
    posted = read(plan.octets)
    assert (posted.pull_model, posted.transport_address) == (True, "")
    cem = Cem(read, push_listen="127.0.0.1:0", push_url="https://dsrsp.example:8443")
    for registration in (pushes, xml.registration("r")):
        plan = cem.plan(registration)
        assert isinstance(plan, Post)
        posted = read(plan.octets)
        assert not posted.pull_model
        assert posted.transport_address == "https://dsrsp.example:8443/me/OpenADR2/Simple/2.0b"


@pytest.mark.parametrize("pull", [True, False])
@pytest.mark.parametrize("push", [True, False])
def test_a_signature_stays_whole(read: Read, xml: Any, pull: bool, push: bool) -> None:
    where = {"push_listen": "127.0.0.1:0", "push_url": "https://x"} if push else {}
    cem = Cem(read, **where)
    signature = b'<Signature xmlns="http://www.w3.org/2000/09/xmldsig#"/>'
    place = b"<oadr:oadrSignedObject"
    signed = xml.registration("r", http_pull_model=pull).replace(place, signature + place, 1)
    payload = parse_untrusted_payload(signed)
    assert payload.signed
    plan = cem.ven.plan(payload)
    if pull and not push:
        assert plan == Post("EiRegisterParty", signed)
        return
    assert isinstance(plan, Refused)
    told = read(plan.answer)
    assert (told.response_code, told.answered_request_id) == (459, "r")
    assert "without signature" in told.response_description
    with pytest.raises(PayloadRefused, match="signature"):
        building.with_transport(signed, pull_model=True, address=None)


@pytest.mark.parametrize("who", ["ven", "vtn"])
def test_deregistration_ends_the_polls(cem: Cem, xml: Any, who: str) -> None:
    if who == "ven":
        crossing = cem.answered(xml.cancel_registration("c"), xml.canceled_registration("c"))
        assert crossing is not None
    else:
        assert cem.polled(xml.cancel_registration("c")) is not None
        assert cem.answered(xml.canceled_registration("c"), xml.response("c")) is None
    assert not cem.ven.registered


def test_a_ven_that_is_not_known_is_told_to_register_and_not_over_and_over(
    read: Read, xml: Any
) -> None:
    cem = Cem(read)
    first, second = (cem.plan(xml.update_report(f"u{n}")) for n in (1, 2))
    assert isinstance(first, Refused)
    assert read(first.answer).kind == "oadrRequestReregistration"
    assert isinstance(second, Refused)
    assert second.answer == b""
    waits = cem.plan(xml.request_event())
    assert isinstance(waits, Refused)
    assert read(waits.answer).kind == "oadrRequestReregistration"
    assert isinstance(cem.plan(xml.registration("r", ven_id="VEN1")), Post)
