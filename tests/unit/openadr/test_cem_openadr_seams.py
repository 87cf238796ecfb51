"""The CEM's OpenADR face where things meet: late, twice, at once, in another order."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from cem.openadr import OpenAdrConfig
from cem.openadr.core.face import Answer, Face, Forward, Reaction, Wait
from cem.openadr.core.ordering import MAX_HELD, MAX_UNCONFIRMED, Order
from cem.openadr.core.state import FaceState
from openadr_xml import Payload

START = datetime(2026, 11, 21, 18, tzinfo=UTC)
Read = Callable[[bytes], Payload]


class Home:
    """A face whose caller does each step by itself."""

    def __init__(self, read: Read, xml: Any, **config: Any) -> None:
        self.read = read
        self.xml = xml
        self.face = Face(
            OpenAdrConfig(**config), FaceState(), vtn_id="SUPPLIER", is_over=lambda _: True
        )
        self.now = 1000.0
        self.sent = 0

    def ask(self, octets: bytes, certificate: str = "") -> Reaction:
        payload = self.read(octets)
        return self.face.request(payload, payload.service, certificate, self.now)

    def begin(self, octets: bytes, certificate: str = "") -> Forward:
        reaction = self.ask(octets, certificate)
        assert isinstance(reaction, Forward)
        self.face.begun(reaction, "m", certificate, self.now)
        return reaction

    def send(self, octets: bytes, certificate: str = "") -> Forward:
        forward = self.begin(octets, certificate)
        self.sent += 1
        self.face.sent(forward, f"m{self.sent}")
        return forward

    def come(self, octets: bytes) -> None:
        self.face.receive(self.read(octets), self.now)

    def get(self, octets: bytes, certificate: str = "") -> Payload:
        """Post what is answered at once, and take the answer."""
        reaction = self.ask(octets, certificate)
        assert isinstance(reaction, Answer)
        self.face.delivered(reaction)
        return self.read(reaction.octets)

    def register(self, registered: bytes = b"", certificate: str = "") -> None:
        self.send(self.xml.registration("reg"), certificate)
        self.come(registered or self.xml.registered("reg"))
        self.get(self.xml.registration("reg"), certificate)


@pytest.fixture
def home(read: Read, xml: Any) -> Home:
    home = Home(read, xml)
    home.register()
    return home


def test_a_late_answer_to_a_deregistration_is_given_to_its_retry(home: Home, xml: Any) -> None:
    home.send(xml.cancel_registration("c"))
    home.come(xml.canceled_registration("c"))
    assert home.get(xml.cancel_registration("c")).kind == "oadrCanceledPartyRegistration"
    assert home.get(xml.poll()).kind == "oadrRequestReregistration"


def test_a_late_registration_with_another_ven_id_is_given_to_its_retry(
    home: Home, xml: Any
) -> None:
    again = xml.registration("a", ven_id="VEN1", registration_id="REG1")
    home.send(again)
    home.come(xml.registered("a", ven_id="VEN2", registration_id="REG2"))
    assert home.get(again).ven_id == "VEN2"
    assert home.get(again).response_code == 452


def test_a_kept_answer_is_for_the_certificate_that_asked(read: Read, xml: Any) -> None:
    home = Home(read, xml)
    home.send(xml.registration("r"), "aa")
    other = home.ask(xml.registration("r"), "bb")
    assert isinstance(other, Forward), "a request of somebody else is another request"


def test_two_who_ask_the_same_at_once_both_get_the_answer(home: Home, xml: Any) -> None:
    key = home.send(xml.request_event("a")).key
    home.face.watch(key, +1)
    assert isinstance(home.ask(xml.request_event("b")), Wait)
    home.face.watch(key, +1)
    home.come(xml.event(answers="a"))
    home.face.watch(key, -1)
    home.face.delivered(home.face.answer_of(key, "a"))
    assert home.face.has_answer(key)
    home.face.watch(key, -1)
    second = home.face.answer_of(key, "b")
    events = home.read(second.octets)
    assert (events.kind, events.answered_request_id) == ("oadrDistributeEvent", "b")
    home.face.delivered(second)
    assert home.face.status()["answers_not_fetched"] == []
    assert home.face.status()["queued_for_polls"] == []


def test_what_is_posted_again_while_it_is_being_sent_crosses_once(home: Home, xml: Any) -> None:
    forward = home.begin(xml.update_report("u"))
    again = home.ask(xml.update_report("u"))
    assert isinstance(again, Answer)
    assert home.read(again.octets).response_code == 469, "nobody can say OK yet"
    home.face.sent(forward, "m")
    assert isinstance(home.ask(xml.update_report("u")), Answer)
    forward = home.begin(xml.update_report("u2"))
    home.face.not_sent(forward, "m")
    assert isinstance(home.ask(xml.update_report("u2")), Forward)


def test_a_ven_may_change_its_mind_and_change_it_back(home: Home, xml: Any) -> None:
    joins = xml.created_event(request_id="v1")
    leaves = joins.replace(b"optIn", b"optOut")
    for said in (joins, leaves, joins):
        home.send(said)
        assert isinstance(home.ask(said), Answer), "a repetition"
    home.send(xml.created_event("E2", request_id="v1"))
    assert isinstance(home.ask(joins), Answer), "of another event"


@pytest.mark.parametrize("failure", ["469", "nothing", "not sent"])
def test_a_registration_that_fails_leaves_the_ven_asked_to_register(
    home: Home, xml: Any, failure: str
) -> None:
    home.come(xml.reregister())
    again = xml.registration("a", ven_id="VEN1")
    forward = home.begin(again)
    assert home.get(xml.poll()).succeeded, "it has been told, and does so"
    if failure == "not sent":
        home.face.not_sent(forward, "m")
    else:
        home.face.sent(forward, "m")
        if failure == "469":
            home.come(xml.response("a", code=469))
            assert home.get(again).response_code == 469
        home.now += 7201.0
    assert home.get(xml.poll()).kind == "oadrRequestReregistration"


def test_a_registration_that_comes_late_is_fetched(home: Home, xml: Any) -> None:
    home.come(xml.reregister())
    again = xml.registration("a", ven_id="VEN1")
    home.send(again)
    home.come(xml.registered("a"))
    assert home.get(xml.poll()).kind == "oadrRequestReregistration"
    assert home.get(again).ven_id == "VEN1"
    assert home.get(xml.poll()).succeeded


def test_the_end_of_an_older_registration_does_not_end_this_one(home: Home, xml: Any) -> None:
    home.send(xml.cancel_registration("c"))
    home.send(xml.registration("a"))
    home.come(xml.registered("a", registration_id="REG2"))
    home.come(xml.canceled_registration("c"))
    assert home.face.status()["registered"]


def test_a_push_ven_is_told_to_register_again(read: Read, xml: Any) -> None:
    home = Home(read, xml, push=True)
    url = "http://127.0.0.1:9"
    registration = xml.registration("reg", http_pull_model=False, transport_address=url)
    home.send(registration)
    home.come(xml.registered("reg"))
    home.get(registration)
    assert home.face.next_push(home.now) is None
    home.come(xml.reregister())
    push = home.face.next_push(home.now)
    assert push is not None
    assert (push[0], push[2]) == (url, "oadrRequestReregistration")
    home.face.delivered(push[1])
    assert home.face.next_push(home.now) is None, "told once: it need not be asked by polls"


def test_a_push_ven_gets_late_events_and_a_new_start(read: Read, xml: Any) -> None:
    home = Home(read, xml, push=True)
    registration = xml.registration(
        "reg", http_pull_model=False, transport_address="http://127.0.0.1:9"
    )
    home.send(registration)
    home.come(xml.registered("reg"))
    home.get(registration)
    home.send(xml.request_event("e"))
    home.come(xml.event(answers="e"))
    push = home.face.next_push(home.now)
    assert push is not None
    assert push[2] == "oadrDistributeEvent"
    home.face.delivered(push[1])
    home.send(xml.created_event(request_id="e"))
    home.come(xml.response("e", code=452))
    assert home.face.next_push(home.now) is None
    home.now += 61.0
    push = home.face.next_push(home.now)
    assert push is not None
    assert push[2] == "oadrRequestReregistration"


def test_counting_who_waits_leaves_nothing_behind(home: Home) -> None:
    for number in range(10):
        home.face.watch(str(number), +1)
        home.face.watch(str(number), -1)
    assert not home.face._watched


def ordered(home: Home, octets: bytes) -> Forward:
    """Send what the gateway has not confirmed before something else is asked."""
    home.sent += 1
    reaction = home.ask(octets)
    assert isinstance(reaction, Forward)
    home.face.begun(reaction, f"m{home.sent}", "", home.now)
    home.face.sent(reaction, f"m{home.sent}")
    return reaction


def test_what_waits_for_what(home: Home, xml: Any) -> None:
    over: set[str] = set()
    home.face.order = Order(home.face.state, over.__contains__)
    assert ordered(home, xml.created_event("E1")).after == ()
    opt_out = xml.created_event("E1").replace(b"optIn", b"optOut")
    assert ordered(home, opt_out).after == ("m2",), "another answer to the same version"
    assert ordered(home, xml.created_event("E1")).after == ("m3",), "it changes its mind again"
    assert ordered(home, xml.created_event("E2")).after == (), "another event"
    assert ordered(home, xml.created_event("E1", 1)).after == (), "its number tells it is newer"
    assert ordered(home, xml.register_report("r7")).after == ()
    later = xml.register_report("r8", START + timedelta(hours=1))
    assert ordered(home, later.replace(b">spec<", b">other<")).after == ("m7",)
    assert ordered(home, xml.create_report("RR1", "c9")).after == ()
    assert ordered(home, xml.cancel_report("RR1", "c10")).after == ("m9",)
    for free in (xml.update_report("u1"), xml.canceled_report("c1"), xml.cancel_registration("c")):
        assert ordered(home, free).after == ()
    assert home.face.status()["held_for_order"] == [
        "oadrCreatedEvent",
        "oadrCreatedEvent",
        "oadrRegisterReport",
        "oadrCancelReport",
    ]
    over |= {"m2", "m7", "m9"}
    assert ordered(home, opt_out).after == ("m4",), "what is held is before it, too"


def test_only_so_much_is_held(home: Home, xml: Any) -> None:
    home.face.order = Order(home.face.state, lambda ref: False)
    says = (xml.created_event("E1"), xml.created_event("E1").replace(b"optIn", b"optOut"))
    for number in range(MAX_HELD + 1):
        ordered(home, says[number % 2])
    refused = home.get(says[(MAX_HELD + 1) % 2])
    assert refused.response_code == 469
    assert "again" in refused.response_description
    for number in range(MAX_UNCONFIRMED - MAX_HELD - 1):
        ordered(home, xml.created_event(f"F{number}"))
    assert home.get(xml.created_event("G")).response_code == 469
    assert len(home.face.state.ordered) == MAX_UNCONFIRMED


def test_what_is_held_ends_with_the_registration(home: Home, xml: Any) -> None:
    home.face.order = Order(home.face.state, lambda ref: False)
    ordered(home, xml.created_event("E1"))
    ordered(home, xml.created_event("E1").replace(b"optIn", b"optOut"))
    home.send(xml.cancel_registration("c"))
    home.come(xml.canceled_registration("c"))
    assert not home.face.order.held
