"""Command variants 5 to 7, and responses that users collect themselves (8.13)."""

from __future__ import annotations

import pytest

from dcc_sim import CHECKS, Check
from dcc_sim.core.state import utc
from gbcs import Command, parse_untrusted
from gbcs.certificates import Role
from gbcs.crypto import verify_mac
from gbcs.duis import (
    AcknowledgementBody,
    LocalCommandBody,
    RequestId,
    ReturnLocalCommandResponse,
    ServiceResponseBody,
    parse_untrusted_response,
)


@pytest.fixture
def core(make_core, schema, names):
    core = make_core(schema=schema)
    core.dcc.handle_connected(names["device"], core.now)
    core.effects()
    return core


@pytest.fixture
def send(requests):
    def send_to(core, variant, counter=1):
        assert core.code("serviceT", requests.octets(requests.transform(counter))) == "I0"
        signed = requests.signed(counter, command_variant=variant)
        return core.request("serviceS", requests.octets(signed))[1]

    return send_to


@pytest.fixture
def bring_back(requests):
    def back(core, response, number=500, original=None):
        body = ReturnLocalCommandResponse(response.to_bytes(), original)
        request = requests.non_device("8.13", body, originator_counter=number)
        return core.request("serviceD", requests.octets(request))[1].message

    return back


def posted(core):
    return [parse_untrusted_response(post.xml).message for post in core.posts()]


@pytest.mark.parametrize(("variant", "given_out", "delivered"), [(5, 0, 1), (6, 1, 0), (7, 1, 1)])
def test_who_gets_the_command(core, send, pki, variant, given_out, delivered):
    answer = send(core, variant)
    deliveries = core.deliveries()
    assert len(deliveries) == delivered
    commands = [delivery.octets for delivery in deliveries]
    if given_out:
        assert answer.message.response_code == "I0"
        assert isinstance(answer.message.body, LocalCommandBody)
        answer.verify(pki.keystore, role=Role.XML_SIGNING_DCC, at=utc(core.now))
        commands.append(answer.message.body.gbcs_payload)
    else:
        assert isinstance(answer.message.body, AcknowledgementBody)
        assert not answer.signed
    assert len(set(commands)) == 1
    command = parse_untrusted(commands[0])
    assert isinstance(command, Command)
    verify_mac(command, pki.secret())
    assert not [note for note in core.notes if "our own message" in note]


@pytest.mark.parametrize("variant", [6, 7])
@pytest.mark.parametrize("restart", [False, True])
def test_a_returned_response_goes_on_as_if_from_the_network(
    core, send, bring_back, requests, variant, restart
):
    send(core, variant)
    core.effects()
    if restart:
        core.restart()
    response = requests.response()
    original = requests.transform().request_id
    answer = bring_back(core, response, original=original)
    assert answer.response_code == "I99"
    assert isinstance(answer.body, AcknowledgementBody)
    (passed_on,) = posted(core)
    assert passed_on.request_id == original
    assert passed_on.response_id == RequestId(
        original.target_id, original.originator_id, original.originator_counter
    )
    assert passed_on.body == ServiceResponseBody(response.to_bytes())
    # Once: neither by hand nor through the network.
    assert bring_back(core, response, 501).response_code == CHECKS[Check.LOCAL_COMMAND].code
    core.message(response.to_bytes())
    assert core.posts() == []


def test_of_two_ways_the_first_counts(core, send, bring_back, requests):
    send(core, 7)
    core.effects()
    core.message(requests.response().to_bytes())
    assert len(posted(core)) == 1
    answer = bring_back(core, requests.response())
    assert answer.response_code == CHECKS[Check.LOCAL_COMMAND].code


def test_given_up_by_the_network_it_may_still_be_brought(core, send, bring_back, requests):
    send(core, 7)
    core.effects()
    core.timer()
    assert [one.response_code for one in posted(core)] == ["E21"]
    assert bring_back(core, requests.response()).response_code == "I99"
    assert [one.response_code for one in posted(core)] == ["I0"]


def test_what_is_delivered_by_hand_is_never_given_up(core, send):
    send(core, 6)
    core.effects()
    assert core.dcc.get_timer() is None


def test_not_for_commands_that_went_through_the_network_alone(core, send, bring_back, requests):
    send(core, 5)
    core.effects()
    answer = bring_back(core, requests.response())
    assert answer.response_code == CHECKS[Check.LOCAL_COMMAND].code
    assert core.posts() == []


def test_the_claimed_request_must_be_the_right_one(core, send, bring_back, requests):
    send(core, 6)
    core.effects()
    other = requests.transform(2).request_id
    answer = bring_back(core, requests.response(), original=other)
    assert answer.response_code == CHECKS[Check.LOCAL_COMMAND].code
    assert bring_back(core, requests.response()).response_code == "I99"


def test_a_response_of_the_wrong_form_is_refused(core, send, bring_back, requests):
    send(core, 6)
    answer = bring_back(core, requests.response(results=(0, 0)))
    assert answer.response_code == CHECKS[Check.LOCAL_COMMAND].code
    # What was refused used nothing up, not even its own counter.
    assert bring_back(core, requests.response()).response_code == "I99"


def test_each_non_device_request_needs_a_counter_of_its_own(core, send, bring_back, requests):
    send(core, 6, counter=1)
    send(core, 6, counter=2)
    assert bring_back(core, requests.response(1), 500).response_code == "I99"
    answer = bring_back(core, requests.response(2), 500)
    assert answer.response_code == CHECKS[Check.COUNTER_USED].code
    core.effects()
    core.restart()
    answer = bring_back(core, requests.response(2), 500)
    assert answer.response_code == CHECKS[Check.COUNTER_USED].code
    assert bring_back(core, requests.response(2), 501).response_code == "I99"


def test_forgotten_when_its_counter_leaves_the_window(make_core, send, bring_back, requests):
    core = make_core(counter_window=2)
    send(core, 6, counter=1)
    for counter in (10, 11):
        core.code("serviceT", requests.octets(requests.transform(counter)))
    for _ in range(2):
        answer = bring_back(core, requests.response(1))
        assert answer.response_code == CHECKS[Check.LOCAL_COMMAND].code
        core.effects()
        core.restart()
