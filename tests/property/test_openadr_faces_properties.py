"""Both OpenADR faces without I/O, with a tunnel between them that keeps no order, and crashes.

A VEN does what it likes, the VTN answers, messages cross in any order, either end restarts from
what it saved. In the end, when everything has crossed, both ends agree and nothing is left over.
"""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from cem.openadr import OpenAdrConfig as CemOpenAdr
from cem.openadr.core.face import Answer, Face, Forward
from cem.openadr.core.state import FaceState
from dsrsp.openadr import OpenAdrConfig as DsrspOpenAdr
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Refused, Ven
from openadr_xml import Payload, building, parse_untrusted_payload

OADR = "http://openadr.org/oadr-2.0b/2012/07"
EI = "http://docs.oasis-open.org/ns/energyinterop/201110"
PYLD = "http://docs.oasis-open.org/ns/energyinterop/201110/payloads"


def make(kind: str, *, response: int = 0, **texts: str) -> bytes:
    """Build a payload of texts: ``request`` is its requestID, or that of its eiResponse."""
    request = texts.pop("request", "")
    root = etree.Element(f"{{{OADR}}}oadrPayload")
    signed_object = etree.SubElement(root, f"{{{OADR}}}oadrSignedObject")
    scope = etree.SubElement(signed_object, f"{{{OADR}}}{kind}")
    if response:
        told = etree.SubElement(scope, f"{{{EI}}}eiResponse")
        etree.SubElement(told, f"{{{EI}}}responseCode").text = str(response)
        etree.SubElement(told, f"{{{PYLD}}}requestID").text = request
    elif request:
        etree.SubElement(scope, f"{{{PYLD}}}requestID").text = request
    for name, text in texts.items():
        etree.SubElement(scope, f"{{{EI}}}{name}").text = text
    return etree.tostring(root)


class Vtn:
    """A VTN that registers anew each time, and does what it is asked."""

    def __init__(self) -> None:
        self.registration = ""
        self.registrations = 0
        self.reports: list[str] = []

    def answer(self, asked: Payload) -> bytes:
        request = asked.request_id
        if asked.kind == "oadrCreatePartyRegistration":
            self.registrations += 1
            self.registration = f"REG{self.registrations}"
            return make(
                "oadrCreatedPartyRegistration",
                response=200,
                request=request,
                registrationID=self.registration,
                venID="VEN",
                vtnID="VTN",
            )
        if not self.registration:
            return building.request_reregistration("VEN")
        if asked.kind == "oadrCancelPartyRegistration":
            if asked.registration_id != self.registration:
                return building.response(452, "not this one", request_id=request)
            self.registration = ""
            return make(
                "oadrCanceledPartyRegistration",
                response=200,
                request=request,
                registrationID=asked.registration_id,
                venID="VEN",
            )
        if asked.kind == "oadrUpdateReport":
            self.reports.append(request)
            return building.updated_report(request_id=request, ven_id="VEN")
        return building.response(200, "OK", request_id=request)


class World:
    """VEN, both faces, VTN, and what is between the faces in each direction."""

    def __init__(self) -> None:
        self.now = 0.0
        self.vtn = Vtn()
        self.up: list[tuple[str, bytes]] = []
        self.down: list[bytes] = []
        self.number = 0
        self.believes = ""
        self.told_ok: list[str] = []
        self.cem_state = FaceState()
        self.dsrsp_state = VenState()
        self.restart_cem()
        self.restart_dsrsp()

    def restart_cem(self) -> None:
        saved = msgspec.msgpack.encode(self.cem_state)
        self.cem_state = msgspec.msgpack.decode(saved, type=FaceState)
        self.face = Face(CemOpenAdr(), self.cem_state, vtn_id="V", is_over=lambda _: True)
        self.face.recover()

    def restart_dsrsp(self) -> None:
        saved = msgspec.msgpack.encode(self.dsrsp_state)
        self.dsrsp_state = msgspec.msgpack.decode(saved, type=VenState)
        self.ven = Ven(
            DsrspOpenAdr(vtn_url="http://127.0.0.1:1"),
            self.dsrsp_state,
            device="me",
            owner_of=lambda _: None,
            registrant_of=lambda _: None,
        )

    def ask(self, octets: bytes) -> Payload | None:
        """Post as the VEN; None: no answer in its patience."""
        self.now += 1.0
        payload = parse_untrusted_payload(octets)
        reaction = self.face.request(payload, payload.service, "", self.now)
        if isinstance(reaction, Forward):
            self.number += 1
            self.face.begun(reaction, f"m{self.number}", "", self.now)
            self.up.append((f"m{self.number}", payload.octets))
            self.face.sent(reaction, f"m{self.number}")
            if reaction.answer:
                reaction = Answer(reaction.answer)
        if not isinstance(reaction, Answer) or not reaction.octets:
            return None
        self.face.delivered(reaction)
        answer = parse_untrusted_payload(reaction.octets)
        if answer.kind == "oadrCreatedPartyRegistration":
            self.believes = answer.registration_id
        if answer.kind == "oadrCanceledPartyRegistration":
            self.believes = ""
        return answer

    def register(self) -> None:
        self.ask(make("oadrCreatePartyRegistration", request=f"r{self.now}"))

    def deregister(self) -> None:
        if self.believes:
            content = {"registrationID": self.believes, "venID": "VEN"}
            self.ask(make("oadrCancelPartyRegistration", request=f"c{self.now}", **content))

    def report(self) -> None:
        request = f"u{self.now}"
        answer = self.ask(
            make("oadrUpdateReport", request=request, venID="VEN", reportRequestID=request)
        )
        if answer is not None and answer.kind == "oadrUpdatedReport":
            self.told_ok.append(request)

    def poll(self) -> None:
        if not self.believes:
            self.register()  # again, until it is answered
            return
        answer = self.ask(building.poll("VEN"))
        if answer is not None and answer.kind == "oadrRequestReregistration":
            self.register()

    def vtn_forgets(self) -> None:
        self.vtn.registration = ""

    def dsrsp_polls(self) -> None:
        if not self.ven.registered:
            return
        said = (
            building.response(200, "OK")
            if self.vtn.registration
            else building.request_reregistration("VEN")
        )
        crossing = self.ven.polled(parse_untrusted_payload(said), self.now)
        if crossing:
            self.down.append(crossing)

    def cross_up(self, index: int = 0) -> None:
        if not self.up:
            return
        _, octets = self.up.pop(index % len(self.up))
        payload = parse_untrusted_payload(octets)
        plan = self.ven.plan(payload)
        if isinstance(plan, Refused):
            crossing = plan.answer
        else:
            answer = parse_untrusted_payload(self.vtn.answer(payload))
            crossing = self.ven.answered(payload, answer, self.now)
        if crossing:
            self.down.append(crossing)

    def cross_down(self, index: int = 0) -> None:
        if self.down:
            payload = parse_untrusted_payload(self.down.pop(index % len(self.down)))
            self.face.receive(payload, self.now)

    def settle(self) -> None:
        """Let everything cross, and the VEN poll, until nothing moves."""
        for _ in range(6):
            self.dsrsp_polls()
            while self.up or self.down:
                self.cross_up()
                self.cross_down()
            self.poll()


MOVES = ("register", "deregister", "report", "poll", "vtn_forgets", "dsrsp_polls")
RESTARTS = ("restart_cem", "restart_dsrsp")


@given(
    st.lists(
        st.one_of(
            st.sampled_from(MOVES + RESTARTS),
            st.tuples(st.sampled_from(("cross_up", "cross_down")), st.integers(0, 3)),
        ),
        max_size=30,
    )
)
def test_whatever_happens_both_ends_agree_in_the_end(
    events: list[str | tuple[str, int]],
) -> None:
    world = World()
    world.register()
    world.settle()
    for event in events:
        if isinstance(event, tuple):
            getattr(world, event[0])(event[1])
        else:
            getattr(world, event)()
    world.settle()
    binding = world.face.state.binding
    assert binding is not None, "the VEN registers whenever it is asked to"
    assert world.vtn.registration == world.ven.state.registration_id
    assert binding.registration_id == world.vtn.registration
    assert world.believes == world.vtn.registration
    assert not any(not waiting.answer for waiting in world.face.state.waiting.values())
    assert not world.face.state.reregister
    assert len(set(world.vtn.reports)) == len(world.vtn.reports), "no report is posted twice"
    assert set(world.vtn.reports) <= set(world.told_ok)
