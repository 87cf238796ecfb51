"""The CEM's OpenADR face without I/O: what is answered, what crosses, what comes late."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from cem.openadr import OpenAdrConfig
from cem.openadr.core.face import MAX_WAITING, Answer, Face, Forward, Wait
from cem.openadr.core.state import FaceState
from openadr_xml import Payload

Read = Callable[[bytes], Payload]


class Home:
    """A face with a VEN before it and a tunnel behind it; time stands unless it is moved."""

    def __init__(self, read: Read, **config: Any) -> None:
        self.read = read
        self.config = OpenAdrConfig(**config)
        self.face = Face(self.config, FaceState(), vtn_id="SUPPLIER", is_over=self.ended)
        self.now = 1000.0
        self.crossed: list[Payload] = []

    def ended(self, ref: str) -> bool:
        return True  # the tunnel takes no time here

    def restart(self) -> None:
        saved = msgspec.msgpack.encode(self.face.state)
        state = msgspec.msgpack.decode(saved, type=FaceState)
        self.face = Face(self.config, state, vtn_id="SUPPLIER", is_over=self.ended)
        self.face.recover()

    def ask(
        self,
        octets: bytes,
        service: str = "",
        certificate: str = "",
        *,
        delivered: bool = True,
    ) -> Payload | None:
        """Post, and return what is answered at once; None: nothing yet, or nothing at all."""
        payload = self.read(octets)
        reaction = self.face.request(payload, service or payload.service, certificate, self.now)
        if isinstance(reaction, Forward):
            ref = f"m{len(self.crossed) + 1}"
            self.face.begun(reaction, ref, certificate, self.now)
            self.crossed.append(payload)
            self.face.sent(reaction, ref)
            return self.read(reaction.answer) if reaction.answer else None
        if isinstance(reaction, Wait) or not reaction.octets:
            return None
        if delivered:
            self.face.delivered(reaction)
        return self.read(reaction.octets)

    def come(self, octets: bytes) -> str:
        return self.face.receive(self.read(octets), self.now)

    def poll(self, xml: Any, *, delivered: bool = True) -> Payload:
        answer = self.ask(xml.poll(), delivered=delivered)
        assert answer is not None
        return answer


@pytest.fixture
def home(read: Read, xml: Any) -> Home:
    """A registered VEN."""
    return registered(Home(read), xml)


def registered(home: Home, xml: Any, certificate: str = "") -> Home:
    assert home.ask(xml.registration("reg"), certificate=certificate) is None
    home.come(xml.registered("reg"))
    answer = home.ask(xml.registration("reg"), certificate=certificate)
    assert answer is not None
    assert (answer.kind, answer.ven_id) == ("oadrCreatedPartyRegistration", "VEN1")
    home.crossed.clear()
    return home


def test_queries_never_cross_and_tell_what_is_known(read: Read, xml: Any) -> None:
    home = Home(read)
    answer = home.ask(xml.query("q"))
    assert answer is not None
    assert (answer.answered_request_id, answer.vtn_id, answer.ven_id) == ("q", "SUPPLIER", "")
    assert answer.poll_interval_s == 10.0
    registered(home, xml)
    answer = home.ask(xml.query("q2"))
    assert answer is not None
    assert (answer.vtn_id, answer.ven_id, answer.registration_id) == ("VTN", "VEN1", "REG1")
    assert answer.poll_interval_s == 30.0
    assert home.crossed == []


def test_polls_never_cross_and_give_what_came_in_order(home: Home, xml: Any) -> None:
    assert home.poll(xml).kind == "oadrResponse"
    home.come(xml.event("E1"))
    home.come(xml.cancel_report())
    home.restart()
    first = home.poll(xml, delivered=False)
    assert first.octets == xml.event("E1")
    assert home.poll(xml).octets == xml.event("E1"), "what was not written comes again"
    assert home.poll(xml).kind == "oadrCancelReport"
    assert home.poll(xml).succeeded
    assert home.crossed == []


def test_a_message_that_comes_twice_is_given_once(home: Home, xml: Any) -> None:
    home.come(xml.event())
    home.come(xml.event())
    assert home.poll(xml).kind == "oadrDistributeEvent"
    assert home.poll(xml).kind == "oadrResponse"


def test_an_event_that_a_newer_version_has_overtaken_is_not_given(home: Home, xml: Any) -> None:
    home.come(xml.event(modification=2))
    home.come(xml.event(modification=1))
    assert home.poll(xml).events[0].modification_number == 2
    assert home.poll(xml).kind == "oadrResponse"


def test_reports_are_answered_at_once_and_cross_once(home: Home, xml: Any) -> None:
    answer = home.ask(xml.update_report("u1"))
    assert answer is not None
    assert (answer.kind, answer.answered_request_id) == ("oadrUpdatedReport", "u1")
    home.restart()
    assert home.ask(xml.update_report("u1")) == answer, "the VEN did not hear it and tries again"
    assert home.ask(xml.update_report("u2")) is not None
    assert [payload.request_id for payload in home.crossed] == ["u1", "u2"]


def test_a_confirmation_without_content_does_not_cross(home: Home, xml: Any) -> None:
    assert home.ask(xml.response(), "EiRegisterParty") is None
    assert home.crossed == []
    assert home.ask(xml.response(code=452), "EiRegisterParty") is None
    assert [payload.kind for payload in home.crossed] == ["oadrResponse"]


def test_a_request_that_waits_crosses_once_however_often_it_is_tried(home: Home, xml: Any) -> None:
    for request_id in ("a", "b", "c"):
        assert home.ask(xml.register_report(request_id)) is None
    assert len(home.crossed) == 1
    assert home.come(xml.registered_report("a")) == "m1"
    home.restart()
    answer = home.ask(xml.register_report("d"))
    assert answer is not None
    assert (answer.kind, answer.answered_request_id) == ("oadrRegisteredReport", "d")
    assert home.ask(xml.register_report("e")) is None
    assert len(home.crossed) == 2, "an answer that was fetched is not given again"


def test_the_time_of_making_does_not_make_a_request_another_one(home: Home, xml: Any) -> None:
    from datetime import UTC, datetime

    home.ask(xml.register_report("a"))
    home.ask(xml.register_report("b", datetime(2026, 12, 24, tzinfo=UTC)))
    assert len(home.crossed) == 1


def test_a_kept_answer_goes_stale_and_a_lost_request_crosses_again(home: Home, xml: Any) -> None:
    home.ask(xml.request_event("a"))
    home.come(xml.response("a"))
    home.now += home.config.keep_answers_s
    assert home.ask(xml.request_event("b")) is None
    assert len(home.crossed) == 2
    home.now += home.config.unanswered_s
    assert home.ask(xml.request_event("c")) is None
    assert len(home.crossed) == 3
    home.now -= 10_000_000  # the clock is set back
    home.ask(xml.request_event("d"))
    assert len(home.crossed) == 4


def test_late_events_that_nobody_fetches_are_given_to_a_poll(home: Home, xml: Any) -> None:
    home.ask(xml.request_event("a"))
    home.come(xml.event(answers="a"))
    assert home.poll(xml).kind == "oadrDistributeEvent"
    assert home.poll(xml).kind == "oadrResponse"


def test_answers_are_told_apart_by_their_requests(home: Home, xml: Any) -> None:
    home.ask(xml.request_event("a"))
    home.ask(xml.register_report("b"))
    home.come(xml.response("b", code=459))
    home.come(xml.response("a"))
    first = home.ask(xml.request_event("a"))
    second = home.ask(xml.register_report("b"))
    assert first is not None
    assert second is not None
    assert (first.response_code, second.response_code) == (200, 459)


def test_more_waiting_requests_than_can_be_kept_are_told_to_try_again(read: Read, xml: Any) -> None:
    home = Home(read)
    for number in range(MAX_WAITING + 1):
        answer = home.ask(xml.registration("r", ven_name=f"n{number}"))
    assert answer is not None
    assert answer.response_code == 469
    assert len(home.crossed) == MAX_WAITING


# What the VTN refuses later


def test_a_refused_report_reaches_the_ven_as_its_cancellation(home: Home, xml: Any) -> None:
    home.ask(xml.update_report("u1", "RR7"))
    home.restart()
    home.come(xml.response("u1", code=452))
    cancel = home.poll(xml)
    assert (cancel.kind, cancel.report_request_ids) == ("oadrCancelReport", ("RR7",))
    assert cancel.ven_id == "VEN1"


def test_a_refused_promise_of_reports_is_taken_back_where_it_names_any(
    home: Home, xml: Any
) -> None:
    promise = xml.canceled_report("k1").replace(b"oadrCanceledReport", b"oadrCreatedReport")
    home.ask(promise)
    home.come(xml.response("k1", code=452))
    cancel = home.poll(xml)
    assert (cancel.kind, cancel.report_request_ids) == ("oadrCancelReport", ("RR1",))
    named = re.compile(rb"<(\w+:)?reportRequestID>RR1</(\w+:)?reportRequestID>")
    home.ask(named.sub(b"", promise.replace(b"k1", b"k2")))
    home.come(xml.response("k2", code=452))
    assert home.poll(xml).kind == "oadrResponse"


def test_who_must_name_itself_and_does_not_is_told(home: Home, xml: Any) -> None:
    for octets in (xml.poll(), xml.request_event("a"), xml.created_event(request_id="v")):
        answer = home.ask(octets.replace(b"venID>VEN1<", b"venID><"))
        assert answer is not None
        assert (answer.kind, answer.response_code) == ("oadrResponse", 452)
    assert home.crossed == []


def test_a_cancellation_in_the_confirmation_of_a_report_reaches_the_ven(
    home: Home, xml: Any
) -> None:
    home.ask(xml.update_report("u1", "RR7"))
    home.come(xml.updated_report("u1", cancels="RR8"))
    cancel = home.poll(xml)
    assert (cancel.kind, cancel.report_request_ids) == ("oadrCancelReport", ("RR8",))
    assert (cancel.request_id, cancel.ven_id) == ("c1", "VEN1")


@pytest.mark.parametrize("how", ["reregister", "463"])
def test_a_ven_that_the_vtn_forgot_is_asked_until_it_registers(
    home: Home, xml: Any, how: str
) -> None:
    home.ask(xml.update_report("u1"))
    home.come(xml.reregister() if how == "reregister" else xml.response("u1", code=463))
    home.restart()
    assert home.poll(xml).kind == "oadrRequestReregistration"
    assert home.poll(xml).kind == "oadrRequestReregistration"
    assert home.ask(xml.registration("new", ven_id="VEN1", registration_id="REG1")) is None
    assert home.poll(xml).kind == "oadrResponse"


def test_who_waits_when_the_vtn_forgot_the_ven_gets_that_as_answer(home: Home, xml: Any) -> None:
    home.ask(xml.request_event("a"))
    home.come(xml.reregister())
    answer = home.ask(xml.request_event("a"))
    assert answer is not None
    assert answer.kind == "oadrRequestReregistration"


def test_a_refused_answer_to_an_event_leads_to_a_new_start_when_no_newer_event_comes(
    home: Home, xml: Any
) -> None:
    home.come(xml.event())
    home.poll(xml)
    home.ask(xml.created_event(request_id="v1"))
    home.come(xml.response("v1", code=452))
    assert home.poll(xml).kind == "oadrResponse"
    home.now += home.config.refusal_grace_s
    assert home.poll(xml).kind == "oadrRequestReregistration"
    # Not for ever: the next refusal within an hour is only counted.
    home.ask(xml.registration("new", ven_id="VEN1"))
    home.ask(xml.created_event(request_id="v2"))
    home.come(xml.response("v2", code=452))
    home.now += home.config.refusal_grace_s
    assert home.poll(xml).kind == "oadrResponse"


@pytest.mark.parametrize("newer_first", [True, False])
def test_a_refused_answer_to_an_old_version_is_no_reason_for_anything(
    home: Home, xml: Any, newer_first: bool
) -> None:
    home.come(xml.event())
    home.poll(xml)
    home.ask(xml.created_event(request_id="v1"))
    news = [xml.event(modification=1), xml.response("v1", code=452)]
    for octets in news if newer_first else reversed(news):
        home.come(octets)
    home.now += home.config.refusal_grace_s
    assert home.poll(xml).events[0].modification_number == 1
    assert home.poll(xml).kind == "oadrResponse"


# Who may say what


def test_nobody_is_served_before_registration(read: Read, xml: Any) -> None:
    home = Home(read)
    assert home.poll(xml).kind == "oadrRequestReregistration"
    for octets in (xml.update_report(), xml.request_event(), xml.created_event()):
        answer = home.ask(octets)
        assert answer is not None
        assert answer.kind == "oadrRequestReregistration"
    assert home.crossed == []


def test_another_ven_id_is_refused(home: Home, xml: Any) -> None:
    others = (
        xml.poll("VEN2"),
        xml.update_report(ven_id="VEN2"),
        xml.request_event(ven_id="VEN2"),
        xml.registration("x", ven_id="VEN2"),
        xml.registration("x", registration_id="REG9"),
    )
    for octets in others:
        answer = home.ask(octets)
        assert answer is not None
        assert (answer.kind, answer.response_code) == ("oadrResponse", 452)
    assert home.crossed == []


def test_a_configured_ven_id_holds_from_the_first_registration(read: Read, xml: Any) -> None:
    home = Home(read, ven_id="VEN1")
    answer = home.ask(xml.registration("x", ven_id="VEN2"))
    assert answer is not None
    assert answer.response_code == 452
    registered(home, xml)


def test_a_registered_ven_is_bound_to_its_certificate(read: Read, xml: Any) -> None:
    home = registered(Home(read), xml, certificate="aa")
    for octets in (xml.poll(), xml.registration("x"), xml.query()):
        for certificate in ("", "bb"):
            answer = home.ask(octets, certificate=certificate)
            assert answer is not None
            assert (answer.kind, answer.response_code) == ("oadrResponse", 463)
    answer = home.ask(xml.poll(), certificate="aa")
    assert answer is not None
    assert answer.succeeded


def test_what_is_not_for_a_vtn_or_not_for_this_service_is_refused(home: Home, xml: Any) -> None:
    for octets, service in (
        (xml.event(), "EiEvent"),
        (xml.registered(), "EiRegisterParty"),
        (xml.update_report(), "EiEvent"),
        (xml.poll(), "EiReport"),
    ):
        answer = home.ask(octets, service)
        assert answer is not None
        assert answer.response_code == 459
    assert home.crossed == []


def test_the_push_model_needs_to_be_allowed(read: Read, xml: Any) -> None:
    push = xml.registration("r", http_pull_model=False, transport_address="http://127.0.0.1:9/")
    answer = Home(read).ask(push)
    assert answer is not None
    assert answer.response_code == 459
    home = Home(read, push=True)
    home.ask(push)
    home.come(xml.registered("r"))
    home.ask(push)
    assert home.face.next_push(home.now) is None
    home.come(xml.event())
    pushed = home.face.next_push(home.now)
    assert pushed is not None
    assert pushed[0] == "http://127.0.0.1:9/"
    assert pushed[1].octets == xml.event()
    home.face.delivered(pushed[1])
    assert home.face.next_push(home.now) is None


def test_deregistration_ends_all(home: Home, xml: Any) -> None:
    home.come(xml.event())
    home.ask(xml.cancel_registration("x"))
    home.come(xml.canceled_registration("x"))
    answer = home.ask(xml.cancel_registration("x"))
    # Who is not registered any more may still fetch this answer, but it takes the kept one.
    assert answer is not None
    assert home.poll(xml).kind == "oadrRequestReregistration"
    assert home.face.state.queue == []


def test_a_vtn_that_ends_the_registration_is_confirmed(home: Home, xml: Any) -> None:
    home.come(xml.cancel_registration("c"))
    assert home.poll(xml).kind == "oadrCancelPartyRegistration"
    answer = home.ask(xml.canceled_registration("c"))
    assert answer is not None
    assert answer.succeeded
    assert home.crossed[-1].kind == "oadrCanceledPartyRegistration"
    assert home.poll(xml).kind == "oadrRequestReregistration"


def test_a_vtn_that_wants_no_ven_binds_none(read: Read, xml: Any) -> None:
    home = Home(read)
    home.ask(xml.registration("r"))
    home.come(xml.registered("r", ven_id="", registration_id=""))
    assert home.face.state.binding is None


def test_a_request_that_was_not_sent_may_be_tried_again(home: Home, xml: Any) -> None:
    payload = home.read(xml.request_event("a"))
    reaction = home.face.request(payload, "EiEvent", "", home.now)
    assert isinstance(reaction, Forward)
    home.face.begun(reaction, "m", "", home.now)
    assert isinstance(home.face.request(payload, "EiEvent", "", home.now), Wait)
    refusal = home.face.not_sent(reaction, "m")
    assert home.read(refusal.octets).response_code == 469
    assert isinstance(home.face.request(payload, "EiEvent", "", home.now), Forward)


def test_a_crash_before_the_gateway_took_a_request_lets_it_cross_again(
    home: Home, xml: Any
) -> None:
    payload = home.read(xml.request_event("a"))
    reaction = home.face.request(payload, "EiEvent", "", home.now)
    assert isinstance(reaction, Forward)
    home.face.begun(reaction, "m", "", home.now)
    home.restart()
    assert isinstance(home.face.request(payload, "EiEvent", "", home.now), Forward)


def test_what_answers_nothing_changes_nothing(home: Home, xml: Any) -> None:
    before = msgspec.msgpack.encode(home.face.state)
    for octets in (xml.response("zzz", code=452), xml.registered("zzz"), xml.poll(), xml.query()):
        home.come(octets)
    assert msgspec.msgpack.encode(home.face.state) == before


def test_the_status_tells_what_stands(home: Home, xml: Any) -> None:
    home.ask(xml.request_event("a"))
    home.come(xml.cancel_report())
    status = home.face.status()
    assert status["registered"] is True
    assert status["requests_without_answer"] == ["oadrRequestEvent"]
    assert status["queued_for_polls"] == ["oadrCancelReport"]
    assert isinstance(home.face.answer_of("none", "x"), Answer)
