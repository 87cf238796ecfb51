"""Anomaly detection: what is counted, held back, told, released and discarded."""

from __future__ import annotations

import pytest

from dcc_sim import (
    CHECKS,
    Check,
    ConfigError,
    DeviceConfig,
    NotInQuarantine,
    ThresholdConfig,
    UserConfig,
)
from gbcs import parse_untrusted
from gbcs.duis import (
    AcknowledgementBody,
    DccAlertBody,
    ErrorBody,
    LocalCommandBody,
    QuarantinedRequest,
    parse_untrusted_response,
)
from gbcs.errors import BuildError

LIMIT = 2
PERIOD_S = 100.0


@pytest.fixture
def users(names):
    threshold = ThresholdConfig(service_reference_variant="6.14.1", limit=LIMIT, period_s=PERIOD_S)
    urls = {"receive_url": "http://127.0.0.1:9/x"}
    return [
        UserConfig(entity_id=names["supplier"], role="supplier", thresholds=[threshold], **urls),
        UserConfig(entity_id=names["load_controller"], role="load-controller", **urls),
    ]


@pytest.fixture
def core(make_core, users, schema):
    return make_core(users=users, schema=schema)


@pytest.fixture
def send(requests):
    """Transform, sign and send one command; returns the answer to the second request."""

    def send_to(core, counter, variant=5, **changes):
        transform = requests.transform(counter, **changes)
        assert core.code("serviceT", requests.octets(transform)) == "I0"
        signed = requests.signed(counter, command_variant=variant, **changes)
        return core.request("serviceS", requests.octets(signed))[1].message

    return send_to


def posted(core):
    return [parse_untrusted_response(post.xml).message for post in core.posts()]


def fill(core, send, first=1):
    for counter in range(first, first + LIMIT):
        assert send(core, counter).response_code == "I99"
    core.effects()


def test_what_exceeds_the_threshold_is_held_back_and_told(core, send, requests):
    fill(core, send)
    answer = send(core, 3)
    assert isinstance(answer.body, AcknowledgementBody)
    (alert,) = posted(core)
    assert core.deliveries() == []
    assert isinstance(alert.body, DccAlertBody)
    assert alert.body.alert_code == CHECKS[Check.ANOMALY].code
    request_id = requests.transform(3).request_id
    assert alert.body.alert == QuarantinedRequest(request_id, "ADUserThresholdBreach", 1)
    (held,) = core.dcc.quarantined()
    assert (held.event_reference, held.request_id) == (1, str(request_id))
    assert held.since == core.now
    assert not [note for note in core.notes if "our own message" in note]


def test_released_goes_on_its_way(core, send, requests, names):
    core.dcc.handle_connected(names["device"], core.now)
    fill(core, send)
    send(core, 3)
    posted(core)
    core.dcc.release(1, core.now)
    (delivery,) = core.deliveries()
    assert parse_untrusted(delivery.octets).pre_command.originator_counter == 3
    assert core.dcc.quarantined() == []
    core.message(requests.response(3).to_bytes())
    (response,) = posted(core)
    assert response.response_code == "I0"
    assert response.request_id == requests.transform(3).request_id


def test_discarded_is_told(core, send, requests):
    fill(core, send)
    send(core, 3)
    posted(core)
    core.dcc.discard(1, core.now)
    (refusal,) = posted(core)
    assert isinstance(refusal.body, ErrorBody)
    assert refusal.response_code == CHECKS[Check.RELEASED].code
    assert refusal.request_id == requests.transform(3).request_id
    assert core.dcc.quarantined() == []
    signed = requests.octets(requests.signed(3))
    assert core.code("serviceS", signed) == CHECKS[Check.ALREADY_ACCEPTED].code


@pytest.mark.parametrize("end", ["release", "discard"])
def test_each_ends_once(core, send, end):
    fill(core, send)
    send(core, 3)
    getattr(core.dcc, end)(1, core.now)
    for again in ("release", "discard"):
        with pytest.raises(NotInQuarantine):
            getattr(core.dcc, again)(1, core.now)


def test_a_new_period_begins_to_count_anew(core, send):
    fill(core, send)
    core.now += PERIOD_S
    fill(core, send, first=10)
    assert core.dcc.quarantined() == []
    send(core, 12)
    assert len(core.dcc.quarantined()) == 1


def test_a_clock_set_back_opens_no_period_again(core, send):
    core.now += PERIOD_S
    fill(core, send)
    core.now -= PERIOD_S
    send(core, 3)
    assert len(core.dcc.quarantined()) == 1


def test_only_what_passes_all_other_checks_counts(core, send, requests):
    for counter in range(50, 60):
        assert core.code("serviceT", requests.octets(requests.transform(counter))) == "I0"
        assert core.code("serviceS", requests.octets(requests.signed(counter, "else"))) == "E42"
    fill(core, send)
    assert core.dcc.quarantined() == []


def test_a_user_without_threshold_has_no_limit(make_core, send):
    core = make_core()
    for counter in range(1, 20):
        assert send(core, counter).response_code == "I99"
    assert core.dcc.quarantined() == []


def test_a_restart_forgets_neither_count_nor_quarantine(core, send, requests):
    fill(core, send)
    core.restart()
    send(core, 3)
    before = core.dcc.quarantined()
    core.effects()
    core.restart()
    assert core.dcc.quarantined() == before
    core.dcc.discard(1, core.now)
    core.effects()
    core.restart()
    assert core.dcc.quarantined() == []
    send(core, 4)
    (held,) = core.dcc.quarantined()
    assert held.event_reference == 2


def test_a_response_to_what_is_held_back_is_not_believed(core, send, requests):
    fill(core, send)
    send(core, 3)
    core.effects()
    core.message(requests.response(3).to_bytes())
    assert core.posts() == []
    assert "no command awaits" in core.notes[-1]


def test_quarantine_is_bounded(make_core, users, send, requests):
    core = make_core(users=users, quarantine_limit=1)
    fill(core, send)
    send(core, 3)
    refused = send(core, 4)
    assert refused.response_code == CHECKS[Check.QUARANTINE_ROOM].code
    core.dcc.discard(1, core.now)
    assert core.code("serviceS", requests.octets(requests.signed(4))) == "I99"
    assert [one.event_reference for one in core.dcc.quarantined()] == [2]


def test_a_full_quarantine_hinders_nothing_that_fits_the_threshold(make_core, users, send):
    core = make_core(users=users, quarantine_limit=1)
    fill(core, send)
    send(core, 3)
    core.now += PERIOD_S
    assert send(core, 4).response_code == "I99"
    assert len(core.dcc.quarantined()) == 1


def test_what_is_held_back_outlives_its_counter(make_core, users, send):
    core = make_core(users=users, counter_window=4)
    fill(core, send)
    send(core, 3)
    core.now += PERIOD_S
    for counter in (11, 12, 21, 22, 31, 32):
        send(core, counter)
        core.now += PERIOD_S / 2
    core.effects()
    core.restart()
    assert len(core.dcc.quarantined()) == 1
    core.dcc.release(1, core.now)
    core.effects()
    core.restart()
    assert core.dcc.quarantined() == []


@pytest.mark.parametrize("variant", [6, 7])
@pytest.mark.parametrize("old", [False, True])
def test_a_released_command_for_local_delivery_is_posted(
    make_core, users, send, requests, schema, variant, old
):
    core = make_core(users=users, schema=schema, counter_window=4)
    fill(core, send)
    assert isinstance(send(core, 3, variant).body, AcknowledgementBody)
    posted(core)
    if old:
        for counter in range(10, 15):
            core.now += PERIOD_S
            send(core, counter)
    core.effects()
    core.dcc.release(1, core.now)
    (local,) = posted(core)
    assert isinstance(local.body, LocalCommandBody)
    assert local.request_id == requests.transform(3).request_id
    assert not [note for note in core.notes if "our own message" in note]
    core.restart()
    assert core.dcc.quarantined() == []


@pytest.mark.parametrize("fields", [{"limit": -1}, {"period_s": 0.0}])
def test_impossible_thresholds(fields):
    usual = {"service_reference_variant": "6.14.1", "limit": 1, "period_s": 1.0}
    with pytest.raises(ConfigError):
        ThresholdConfig(**(usual | fields))


def test_two_thresholds_for_one_kind(names):
    threshold = ThresholdConfig(service_reference_variant="6.14.1", limit=1, period_s=1.0)
    with pytest.raises(ConfigError, match="two thresholds"):
        UserConfig(
            entity_id=names["supplier"],
            role="supplier",
            receive_url="http://x",
            thresholds=[threshold, threshold],
        )


@pytest.mark.parametrize(
    "fields", [{"mpxn": ""}, {"firmware_version": "123456789"}, {"model": "x" * 31}]
)
def test_what_the_inventory_cannot_say(names, fields):
    with pytest.raises((ConfigError, BuildError)):
        DeviceConfig(entity_id=names["device"], **fields)
