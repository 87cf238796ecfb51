"""A pre-command that does not say exactly what was asked is never signed."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsrsp.core.correlation import correlate
from dsrsp.errors import CorrelationFailed
from gbcs.crypto import sign_response
from gbcs.entity_id import EntityId
from gbcs.messages import Label, PreCommand, Response, SignedPreCommand

ASKED = PreCommand(
    EntityId(b"supplier"),
    EntityId(b"a device"),
    2**40 + 5,
    (Label(1, "a" * 22), Label(2, "b" * 22), Label(3, "c")),
)
FIRST, SECOND, THIRD = ASKED.labels

WRONG = {
    "originator": replace(ASKED, originator_id=EntityId(b"somebody")),
    "target": replace(ASKED, target_id=EntityId(b"elsewher")),
    "counter": replace(ASKED, originator_counter=ASKED.originator_counter + 1),
    "label 1": replace(ASKED, labels=(Label(1, "A" + "a" * 21), SECOND, THIRD)),
    "label 2": replace(ASKED, labels=(FIRST, Label(2, "b" * 21), THIRD)),
    "label 3": replace(ASKED, labels=(FIRST, SECOND, Label(3, "C"))),
    "label 3: asked 'c', received none": replace(ASKED, labels=(FIRST, SECOND)),
    "label 4: asked none": replace(ASKED, labels=(*ASKED.labels, Label(4, "d"))),
    "label 5: asked none": replace(ASKED, labels=(FIRST, SECOND, Label(5, "c"))),
}


def test_what_was_asked_is_taken():
    assert correlate(ASKED, ASKED.to_bytes()) == ASKED


@pytest.mark.parametrize("field", WRONG)
def test_each_changed_field_is_named(field):
    with pytest.raises(CorrelationFailed, match=field):
        correlate(ASKED, WRONG[field].to_bytes())


def test_another_kind_of_message_is_refused(pki):
    signed = SignedPreCommand(ASKED, bytes(64))
    response = sign_response(
        Response(ASKED.target_id, ASKED.originator_id, ASKED.originator_counter, (0, 0, 0)),
        pki.supplier,
    )
    for message in (signed, response):
        with pytest.raises(CorrelationFailed, match=type(message).__name__):
            correlate(ASKED, message.to_bytes())


@given(st.data())
def test_each_changed_octet_is_refused(data):
    octets = bytearray(ASKED.to_bytes())
    place = data.draw(st.integers(0, len(octets) - 1))
    octets[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(CorrelationFailed):
        correlate(ASKED, bytes(octets))


@given(st.binary(max_size=300))
def test_garbage_is_refused(octets):
    with pytest.raises(CorrelationFailed):
        correlate(ASKED, octets)


@given(st.integers(0, 300), st.binary(min_size=1, max_size=3))
def test_cut_or_lengthened_is_refused(length, tail):
    octets = ASKED.to_bytes()
    for changed in (octets[: min(length, len(octets) - 1)], octets + tail):
        with pytest.raises(CorrelationFailed):
            correlate(ASKED, changed)
