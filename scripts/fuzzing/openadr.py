"""Rows for OpenADR payloads: reading them, and what both faces make of any that can be read."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Final

from cem.openadr import OpenAdrConfig as CemOpenAdr
from cem.openadr.core.face import Face, Forward
from cem.openadr.core.state import Binding, FaceState
from dsrsp.openadr import OpenAdrConfig as DsrspOpenAdr
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Post, Ven
from fuzzing.engine import Decoder
from lab.openadr_messages import make_story
from openadr_xml import PayloadRefused, building, compact, parse_untrusted_payload

NOW: Final = datetime(2026, 6, 1, tzinfo=UTC)
_CEM: Final = CemOpenAdr(push=True)
_DSRSP: Final = DsrspOpenAdr(vtn_url="http://127.0.0.1:1/OpenADR2/Simple/2.0b")


def _seeds() -> list[bytes]:
    numbers = itertools.count()
    story = [message.octets for message in make_story(NOW, lambda: f"id-{next(numbers)}")]
    ours = [
        building.response(452, "no", request_id="r", ven_id="V"),
        building.updated_report(request_id="r", ven_id="V"),
        building.created_party_registration(
            request_id="r", vtn_id="T", poll_interval_s=10, registration_id="R", ven_id="V"
        ),
        building.poll("V"),
        building.request_reregistration("V"),
        building.cancel_report("r", ["a", "b"], ven_id="V"),
    ]
    return [*story, *(compact(octets) for octets in story), *ours]


def _read(octets: bytes) -> None:
    payload = parse_untrusted_payload(octets)
    named = building.with_answered_request_id(octets, "another")
    if parse_untrusted_payload(named).kind != payload.kind:
        raise AssertionError("another requestID made it another payload")


def _cem_face(octets: bytes) -> None:
    payload = parse_untrusted_payload(octets)
    binding = Binding(ven_id=payload.ven_id or "V", registration_id=payload.registration_id)
    face = Face(_CEM, FaceState(binding=binding), vtn_id="T", is_over=lambda _: True)
    reaction = face.request(payload, payload.service, "", 1.0)
    if isinstance(reaction, Forward):
        face.begun(reaction, "ref", "", 1.0)
        face.sent(reaction, "ref")
    face.receive(payload, 2.0)
    face.status()


def _dsrsp_face(octets: bytes) -> None:
    payload = parse_untrusted_payload(octets)
    ven = Ven(
        _DSRSP, VenState(), device="me", owner_of=lambda _: None, registrant_of=lambda _: None
    )
    if isinstance(ven.plan(payload), Post):
        ven.answered(payload, payload, 1.0)
    ven.polled(payload, 2.0)


def decoders() -> list[Decoder]:
    """Return the rows of the table."""
    seeds = _seeds()
    read = (
        "openadr_xml.payloads:parse_untrusted_payload",
        "openadr_xml.payloads:parse_untrusted_tree",
    )
    return [
        Decoder("openadr-payload", read, _read, (PayloadRefused,), seeds),
        Decoder("openadr-cem-face", (), _cem_face, (PayloadRefused,), seeds),
        Decoder("openadr-dsrsp-face", (), _dsrsp_face, (PayloadRefused,), seeds),
    ]
