"""Whatever comes in, the logic answers or drops it; nothing else happens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.core.services import Service
from dcc_sim.errors import DeviceMessageRefused
from gbcs import Response, sign_response
from gbcs.device_link import Challenge

services = st.sampled_from([service.value for service in Service])
edits = st.lists(
    st.tuples(st.integers(0, 4000), st.integers(0, 3), st.binary(max_size=4)),
    min_size=1,
    max_size=4,
)


def edited(octets, changes):
    for place, removed, inserted in changes:
        place %= len(octets) + 1
        octets = octets[:place] + inserted + octets[place + removed :]
    return octets


@pytest.fixture(scope="module")
def valid(requests, pki, names):
    response = Response.answering(requests.pre_command(), (0,))
    return {
        "transform": requests.octets(requests.transform()),
        # Of a counter that is never transformed: even an edit that changes nothing is refused.
        "signed": requests.octets(requests.signed(2)),
        "response": sign_response(response, pki.device_signer()).to_bytes(),
    }


@given(service=services, octets=st.binary(max_size=300) | st.text(max_size=100).map(str.encode))
def test_any_octets_as_a_request(shared_core, service, octets):
    assert shared_core.request(service, octets)[0] == 400
    assert shared_core.effects() == []


@given(service=services, which=st.sampled_from(["transform", "signed"]), changes=edits)
def test_edited_requests_do_nothing(shared_core, valid, service, which, changes):
    octets = edited(valid[which], changes)
    status, answer = shared_core.request(service, octets)
    # An edit may undo itself or touch what the signature does not cover, the declaration, say.
    assert status in (200, 400)
    assert answer.message.response_code != "I99"
    assert shared_core.effects() == []


@given(octets=st.binary(max_size=1300))
def test_any_octets_of_a_device(shared_core, octets):
    shared_core.message(octets)
    assert shared_core.effects() == []


@given(changes=edits)
def test_edited_responses_are_not_passed_on(shared_core, valid, changes):
    shared_core.message(edited(valid["response"], changes))
    assert shared_core.effects() == []


@given(text=st.text(max_size=200) | st.binary(max_size=100))
def test_any_text_as_a_proof(shared_core, names, text):
    with pytest.raises(DeviceMessageRefused):
        shared_core.dcc.check_untrusted_proof(
            names["device"], Challenge(bytes(32)), text, shared_core.now
        )
