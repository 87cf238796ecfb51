"""From acceptance to the service response: delivery, time-outs, what devices may say."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from dcc_sim.core.checks import CHECKS, Check
from dcc_sim.core.effects import Deliver, Post
from dcc_sim.core.services import Service
from gbcs import (
    Alert,
    GbcsDateTime,
    Response,
    parse_untrusted,
    sign_alert,
    sign_pre_command,
    sign_response,
)
from gbcs.duis import ErrorBody, ServiceResponseBody, parse_untrusted_response


@pytest.fixture
def accepted(make_core, requests):
    """Make a core that has accepted the supplier's commands of these counters."""

    def make(*counters, **arguments):
        core = make_core(**arguments)
        for counter in counters:
            assert core.code("serviceT", requests.octets(requests.transform(counter))) == "I0"
            assert core.code("serviceS", requests.octets(requests.signed(counter))) == "I99"
        return core

    return make


@pytest.fixture
def answer(pki, requests, names):
    """Make a device's signed response; changes are made before signing."""

    def make(counter=1, results=(0,), *, device=None, **changes):
        response = replace(Response.answering(requests.pre_command(counter), results), **changes)
        return sign_response(response, pki.device_signer(device or names["device"]))

    return make


def posted(effects):
    (post,) = [effect for effect in effects if isinstance(effect, Post)]
    return parse_untrusted_response(post.xml).message


def test_command_waits_for_its_device_then_is_answered_once(accepted, answer, names):
    core = accepted(1)
    assert core.deliveries() == []
    core.dcc.handle_connected(names["other_device"], core.now)
    assert core.deliveries() == []
    core.dcc.handle_connected(names["device"], core.now)
    (delivery,) = core.deliveries()
    assert delivery.device == names["device"]
    response = answer().to_bytes()
    core.message(response)
    message = posted(core.effects())
    assert message.response_code == "I0"
    assert message.body == ServiceResponseBody(response)
    core.message(response)
    assert core.effects() == []
    assert "answered before" in core.notes[-1]
    assert core.dcc.get_timer() is None


def test_commands_go_out_in_order_and_again_after_a_broken_connection(accepted, answer, names):
    core = accepted(3, 1, 2)
    for _ in range(2):
        core.dcc.handle_connected(names["device"], core.now)
        counters = [
            parse_untrusted(delivery.octets).pre_command.originator_counter
            for delivery in core.deliveries()
        ]
        assert counters == [3, 1, 2]
        core.dcc.handle_disconnected(names["device"])
    core.message(answer(1).to_bytes())
    core.dcc.handle_connected(names["device"], core.now)
    assert sum(isinstance(effect, Deliver) for effect in core.effects()) == 2


def test_device_that_never_connects(accepted, names):
    core = accepted(1, device_connect_timeout_s=7.0)
    start = core.now
    core.timer()
    assert core.now == start + 7.0
    message = posted(core.effects())
    assert message.response_code == "E20"
    assert isinstance(message.body, ErrorBody)
    core.dcc.handle_connected(names["device"], core.now)
    assert core.deliveries() == []


def test_device_that_does_not_respond(accepted, answer, names):
    core = accepted(1, device_response_timeout_s=9.0)
    core.now += 20.0
    core.dcc.handle_connected(names["device"], core.now)
    start = core.now
    core.dcc.handle_disconnected(names["device"])
    core.timer()
    assert core.now == start + 9.0
    message = posted(core.effects())
    assert message.response_code == "E21"
    assert str(message.request_id).endswith(":1")
    # A response after all is still passed on, once, also after a restart.
    core.restart()
    core.message(answer().to_bytes())
    assert "I0" in {
        parse_untrusted_response(post.xml).message.response_code for post in core.posts()
    }
    core.message(answer().to_bytes())
    assert core.posts() == []


def test_restart_keeps_what_was_accepted(accepted, answer, names):
    core = accepted(1, 2)
    core.dcc.handle_connected(names["device"], core.now)
    core.message(answer(1).to_bytes())
    core.effects()
    core.restart()
    # What waited to be posted is posted again, what was not answered goes out again.
    assert posted(core.effects()).response_code == "I0"
    core.dcc.handle_connected(names["device"], core.now)
    (delivery,) = core.deliveries()
    assert delivery.request_id.endswith(":2")


def test_crash_before_the_commit_is_as_if_nothing_came(make_core, requests):
    core = make_core()
    octets = requests.octets(requests.transform())
    core.dcc.receive_untrusted_request(Service.TRANSFORM, octets, core.now)
    core.restart()
    assert core.code("serviceS", requests.octets(requests.signed())) == "E41"
    assert core.code("serviceT", requests.octets(requests.transform(text="new"))) == "I0"


def test_partial_success_is_passed_on(accepted, answer, names):
    core = accepted(1)
    core.dcc.handle_connected(names["device"], core.now)
    response = answer(results=(0xFA,)).to_bytes()
    core.message(response)
    assert posted(core.effects()).body == ServiceResponseBody(response)
    assert "results fa" in core.notes[-1]


BAD_MESSAGES = {
    "garbage": lambda kit: b"\xff" * 50,
    "empty": lambda kit: b"",
    "truncated": lambda kit: kit.answer().to_bytes()[:-1],
    "something after the end": lambda kit: kit.answer().to_bytes() + b"\x00",
    "unsigned": lambda kit: replace(kit.answer(), signature=None).to_bytes(),
    "signed by another device": lambda kit: kit.answer(device=kit.other).to_bytes(),
    "from another device": lambda kit: kit.answer(
        originator_id=kit.other, device=kit.other
    ).to_bytes(),
    "too many results": lambda kit: kit.with_results((0, 0)).to_bytes(),
    "to another user": lambda kit: kit.answer(target_id=kit.load_controller).to_bytes(),
    "to a counter never used": lambda kit: kit.answer(77).to_bytes(),
    "to a command only transformed": lambda kit: kit.answer(2).to_bytes(),
    "a pre-command": lambda kit: kit.requests.pre_command().to_bytes(),
    "its own command back": lambda kit: sign_pre_command(
        kit.requests.pre_command(), kit.pki.device_signer()
    ).to_bytes(),
    "unsigned alert": lambda kit: replace(kit.alert(), signature=None).to_bytes(),
    "alert changed on the way": lambda kit: kit.alert().to_bytes().replace(b"upward", b"upwarp"),
    "alert in another device's name": lambda kit: kit.alert(originator_id=kit.other).to_bytes(),
}


@pytest.fixture
def kit(answer, pki, requests, names, make_alert):
    def with_results(results):
        return sign_response(replace(answer(), results=results), pki.device_signer())

    return SimpleNamespace(
        answer=answer,
        with_results=with_results,
        alert=make_alert,
        pki=pki,
        requests=requests,
        other=names["other_device"],
        load_controller=names["load_controller"],
    )


@pytest.fixture
def make_alert(pki, names):
    def make(**changes):
        fields = {
            "originator_id": names["device"],
            "target_id": names["supplier"],
            "originator_counter": 5,
            "text": "upward",
            "date_time": GbcsDateTime.from_timestamp(1_800_000_000.0),
            "supplementary_remote_party_id": names["load_controller"],
        }
        return sign_alert(Alert(**(fields | changes)), pki.device_signer())

    return make


@pytest.mark.parametrize("name", BAD_MESSAGES)
def test_what_a_device_may_not_say_is_dropped(name, accepted, requests, kit, names):
    core = accepted(1)
    core.code("serviceT", requests.octets(requests.transform(2)))
    core.dcc.handle_connected(names["device"], core.now)
    core.effects()
    core.message(BAD_MESSAGES[name](kit))
    assert core.effects() == []
    assert f"dropped a message of {names['device']}" in core.notes[-1]
    # The true response is still awaited.
    core.message(kit.answer().to_bytes())
    assert posted(core.effects()).response_code == "I0"


def test_alert_goes_to_both_users_and_survives(make_core, make_alert, names):
    core = make_core()
    alert = make_alert().to_bytes()
    core.message(alert)
    for _ in range(2):
        posts = core.posts()
        assert [post.url.rsplit("/", 1)[1] for post in posts] == ["supplier", "load-controller"]
        for post, user in zip(posts, ("supplier", "load_controller"), strict=True):
            message = parse_untrusted_response(post.xml).message
            assert message.body.gbcs_payload == alert
            assert str(message.response_id) == f"{names['device']}:{names[user]}:5"
        core.restart()


def test_alert_for_strangers_goes_to_whom_is_known(make_core, make_alert, names):
    core = make_core()
    core.message(make_alert(supplementary_remote_party_id=names["stranger"]).to_bytes())
    assert [post.url.rsplit("/", 1)[1] for post in core.posts()] == ["supplier"]
    assert any("no user of this DCC" in note for note in core.notes)
    core.message(make_alert(supplementary_remote_party_id=None).to_bytes())
    assert len(core.posts()) == 1


def test_timed_out_command_is_forgotten_with_its_counter(accepted, requests):
    core = accepted(1, counter_window=1)
    assert core.code("serviceT", requests.octets(requests.transform(2))) == "I0"
    core.timer()
    core.effects()
    core.restart()
    assert core.dcc.get_timer() is None
    assert core.storage.load().commands[0].originator_counter == 2


def test_everything_is_journalled(accepted, answer, names):
    events = []

    class Keep:
        def record(self, event, /, **fields):
            events.append((event, fields.get("hop"), fields.get("direction"), fields.get("kind")))

    core = accepted(1, journal=Keep())
    core.dcc.handle_connected(names["device"], core.now)
    core.message(answer().to_bytes())
    assert events == [
        ("duis", "request", "in", "UpdateAlcDescriptions"),
        ("gbcs", "pre_command", None, None),
        ("duis", "response", "out", "PreCommandBody"),
        ("duis", "request", "in", "SignedPreCommandBody"),
        ("gbcs", "signed_pre_command", None, None),
        ("gbcs", "command", None, None),
        ("network", "command", None, None),
        ("duis", "response", "out", "AcknowledgementBody"),
        ("network", "response", None, None),
        ("gbcs", "response", None, None),
        ("duis", "response", "out", "ServiceResponseBody"),
    ]


def test_what_waits_for_a_device_is_bounded(accepted, requests, answer, names):
    core = accepted(1, 2, commands_per_device=2)
    for counter, device in ((3, names["device"]), (4, names["other_device"])):
        transform = requests.transform(counter, target_id=device)
        assert core.code("serviceT", requests.octets(transform)) == "I0"
    full = requests.octets(requests.signed(3))
    assert core.code("serviceS", full) == CHECKS[Check.COMMAND_ROOM].code
    core.effects()
    assert any("2 commands wait for" in note for note in core.notes)
    pre_command = requests.pre_command(4, target_id=names["other_device"])
    payload = sign_pre_command(pre_command, requests.pki.supplier_signer).to_bytes()
    other = requests.signed(4, payload=payload, target_id=names["other_device"])
    assert core.code("serviceS", requests.octets(other)) == "I99"
    core.dcc.handle_connected(names["device"], core.now)
    core.dcc.receive_untrusted_message(names["device"], answer(1).to_bytes(), core.now)
    assert core.code("serviceS", full) == "I99"


def test_what_waits_for_a_user_is_bounded_but_for_responses(accepted, requests, answer, names):
    core = accepted(1, postings_per_user=2)
    device = names["device"]
    core.dcc.handle_connected(device, core.now)
    for counter in (1, 2, 3):
        core.dcc.receive_untrusted_message(device, requests.alert(counter).to_bytes(), core.now)
    posts = core.posts()
    assert len(posts) == 4  # two alerts, each to both users
    assert sum("dropped alert" in note for note in core.notes) == 2
    assert core.code("serviceT", requests.octets(requests.transform(2))) == "I0"
    signed = requests.octets(requests.signed(2))
    assert core.code("serviceS", signed) == CHECKS[Check.COMMAND_ROOM].code
    core.dcc.receive_untrusted_message(device, answer(1).to_bytes(), core.now)
    posts += core.posts()
    assert len(posts) == 5
    for post in posts:
        core.dcc.handle_posted(post.posting_id)
    assert core.code("serviceS", signed) == "I99"


@pytest.mark.parametrize(("connects", "code"), [(False, "E20"), (True, "E21")])
def test_time_outs_of_devices_are_network_time(accepted, names, connects, code):
    core = accepted(1, network_time_scale=10.0)
    if connects:
        core.dcc.handle_connected(names["device"], core.now)
        core.effects()
    core.now += 2.9
    core.dcc.handle_timer(core.now)
    assert core.posts() == []
    core.now += 0.2
    core.dcc.handle_timer(core.now)
    (post,) = core.posts()
    assert parse_untrusted_response(post.xml).message.response_code == code
