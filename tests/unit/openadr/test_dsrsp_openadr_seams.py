"""One CEM's VEN at the DSRSP where things meet: whose registration it is, what comes again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dsrsp.openadr import OpenAdrConfig
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Post, Refused, Ven
from openadr_xml import Payload

Read = Callable[[bytes], Payload]


class Street:
    """CEMs of one DSRSP, that know of each other what `OpenAdrVens` lets them know."""

    def __init__(self, read: Read, xml: Any) -> None:
        self.read = read
        self.xml = xml
        self.vens: dict[str, Ven] = {}

    def ven(self, device: str) -> Ven:
        if device not in self.vens:
            self.vens[device] = Ven(
                OpenAdrConfig(vtn_url="http://127.0.0.1:8080"),
                VenState(),
                device=device,
                owner_of=lambda ven_id: self._find(lambda s: s.ven_id == ven_id),
                registrant_of=lambda number: self._find(lambda s: s.registration_id == number),
            )
        return self.vens[device]

    def _find(self, condition: Callable[[VenState], bool]) -> str | None:
        return next((d for d, ven in self.vens.items() if condition(ven.state)), None)

    def exchange(self, device: str, request: bytes, answer: bytes) -> Payload | None:
        asked = self.read(request)
        assert isinstance(self.ven(device).plan(asked), Post)
        crossing = self.ven(device).answered(asked, self.read(answer), 0.0)
        return self.read(crossing) if crossing else None

    def register(self, device: str, **answer: str) -> Payload | None:
        registered = self.xml.registered("r", **answer)
        return self.exchange(device, self.xml.registration("r"), registered)


@pytest.fixture
def street(read: Read, xml: Any) -> Street:
    street = Street(read, xml)
    street.register("first")
    return street


def test_a_ven_id_that_the_vtn_gives_twice_stays_with_its_cem(street: Street) -> None:
    told = street.register("second", registration_id="REG2")
    assert told is not None
    assert (told.kind, told.response_code) == ("oadrResponse", 463)
    assert not street.ven("second").registered
    assert street.ven("first").registered


@pytest.mark.parametrize("kind", ["registration", "cancel_registration"])
def test_nobody_touches_the_registration_of_another(street: Street, kind: str) -> None:
    xml = street.xml
    octets = (
        xml.registration("x", registration_id="REG1")
        if kind == "registration"
        else xml.cancel_registration().replace(b"<ei:venID>VEN1</ei:venID>", b"")
    )
    asked = street.read(octets)
    assert (asked.registration_id, asked.ven_id) == ("REG1", "")
    refused = street.ven("second").plan(asked)
    assert isinstance(refused, Refused)
    assert street.read(refused.answer).response_code == 463
    assert isinstance(street.ven("first").plan(asked), Post)


def test_an_old_deregistration_does_not_end_the_new_registration(street: Street) -> None:
    xml = street.xml
    street.register("first", registration_id="REG2")
    # The registration has overtaken what the VEN said before.
    refused = street.ven("first").plan(street.read(xml.cancel_registration("c")))
    assert isinstance(refused, Refused)
    assert street.read(refused.answer).response_code == 452
    street.exchange("first", xml.canceled_registration("c"), xml.response("c"))
    assert street.ven("first").registered
    late = street.read(xml.canceled_registration("c"))
    street.ven("first").answered(street.read(xml.cancel_registration("c")), late, 0.0)
    assert street.ven("first").registered


def test_a_report_that_is_cancelled_can_be_asked_for_again(street: Street) -> None:
    ven = street.ven("first")
    cancels = street.read(street.xml.cancel_report())
    creates = street.read(street.xml.create_report())
    for said in (creates, cancels, creates, cancels):
        assert ven.polled(said, 0.0)
        assert not ven.polled(said, 0.0)


def test_a_vtn_that_does_not_know_the_ven_any_more_has_it_register(street: Street) -> None:
    crossing = street.ven("first").polled(street.read(street.xml.response(code=452)), 0.0)
    asks = street.read(crossing)
    assert (asks.kind, asks.ven_id) == ("oadrRequestReregistration", "VEN1")
    assert not street.ven("first").polled(street.read(street.xml.response(code=452)), 0.0)
