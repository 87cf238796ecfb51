"""The DCC and its network: retries, give-ups, late deliveries, storms, restarts."""

from __future__ import annotations

import pytest

from dcc_sim import ConfigError, DeviceConfig, Fault, FaultKind, Hop
from dcc_sim.core.effects import Deliver, Post, Restart
from dcc_sim.core.network import NetworkProfile, Parameter, Standing
from dcc_sim.core.network.distributions import Constant
from dcc_sim.core.network.profile import AlertStorm, DccTimes, Region, Retries
from dcc_sim.core.services import Service
from gbcs import Alert, GbcsDateTime, Response, sign_alert, sign_response
from gbcs.duis import (
    CommandFailure,
    DccAlertBody,
    DeviceAlertBody,
    ErrorBody,
    Throttled,
    parse_untrusted_response,
)


def p(value):
    return Parameter(value, Standing.ASSUMED, "a test")


def table(kind, **values):
    return kind(**{name: p(value) for name, value in values.items()})


def constant(value_s):
    return Constant(value_s=value_s)


def network(*, down_s=3.0, up_s=5.0, region=(), retries=(), dcc=(), storm=None):
    return NetworkProfile(
        summary="",
        default_region="r",
        regions={
            "r": table(
                Region,
                latency_down=constant(down_s),
                latency_up=constant(up_s),
                **dict(region),
            )
        },
        retries=table(Retries, **dict(retries)),
        dcc=table(DccTimes, **dict(dcc)),
        alert_storm=storm,
    )


class Story:
    """A core whose time runs on its own: what was delivered and posted, and when."""

    def __init__(self, core, device, requests):
        self.core = core
        self.requests = requests
        self.device = device
        self.start = core.now
        self.delivered = []
        self.posted = []
        self.restarts = []

    def accept(self, *counters):
        """Let the DCC accept commands of these counters."""
        requests = self.requests
        for counter in counters:
            transform, signed = requests.transform(counter), requests.signed(counter)
            assert self.core.code("serviceT", requests.octets(transform)) == "I0"
            assert self.core.code("serviceS", requests.octets(signed)) == "I99"

    def collect(self):
        for effect in self.core.effects():
            at = round(self.core.now - self.start, 3)
            if isinstance(effect, Deliver):
                self.delivered.append((at, effect.octets))
            elif isinstance(effect, Restart):
                self.restarts.append((at, effect.pause_s))
            elif isinstance(effect, Post):
                self.posted.append((at, parse_untrusted_response(effect.xml).message))
                self.core.dcc.handle_posted(effect.posting_id)

    def run(self, until):
        """Let time pass to so many seconds after the start."""
        self.collect()
        while True:
            when = self.core.dcc.get_timer()
            if when is None or when > self.start + until:
                break
            self.core.timer()
            self.collect()
        self.core.now = self.start + until

    def codes(self):
        return [(at, message.response_code) for at, message in self.posted]


@pytest.fixture
def tell(make_core, requests, names):
    def make(profile, *, connected=True, commands=(1,), **arguments):
        core = make_core(profile=profile, **arguments)
        story = Story(core, names["device"], requests)
        if connected:
            core.dcc.handle_connected(names["device"], core.now)
        story.accept(*commands)
        return story

    return make


@pytest.fixture
def answer(pki, requests, names):
    def make(counter=1):
        response = Response.answering(requests.pre_command(counter), (0,))
        return sign_response(response, pki.device_signer(names["device"])).to_bytes()

    return make


@pytest.fixture
def alert(pki, names):
    def make(counter):
        made = Alert(
            originator_id=names["device"],
            target_id=names["supplier"],
            originator_counter=counter,
            text="up",
            date_time=GbcsDateTime.from_timestamp(1_700_000_000.0),
            supplementary_remote_party_id=None,
        )
        return sign_alert(made, pki.device_signer(names["device"])).to_bytes()

    return make


def test_there_and_back_takes_its_time(tell, answer):
    story = tell(network(dcc={"dispatch": constant(0.5), "response": constant(0.25)}))
    story.run(4.0)
    assert [at for at, _ in story.delivered] == [3.5]
    story.core.message(answer())
    story.run(100.0)
    assert story.codes() == [(9.25, "I0")]
    assert story.core.dcc.get_timer() is None


def test_the_dccs_own_time(tell, requests):
    times = {"transform": constant(1.5), "send_command": constant(2.5), "non_device": constant(3.5)}
    core = tell(network(dcc=times), commands=()).core
    replies = {
        service: core.dcc.receive_untrusted_request(service, b"<x/>", core.now)
        for service in Service
    }
    assert {service.value: reply.delay_s for service, reply in replies.items()} == {
        "serviceT": 1.5,
        "serviceS": 2.5,
        "serviceD": 3.5,
    }


RETRIES = {
    "attempts": 3,
    "interval_s": 30.0,
    "contact_timeout_s": 100.0,
    "response_timeout_s": 120.0,
}


def test_retries_until_there_is_a_response(tell, answer):
    story = tell(network(retries=RETRIES))
    story.run(40.0)
    assert [at for at, _ in story.delivered] == [3.0, 33.0]
    assert len({octets for _, octets in story.delivered}) == 1
    story.core.message(answer())
    story.run(1000.0)
    assert [at for at, _ in story.delivered] == [3.0, 33.0]
    assert story.codes() == [(45.0, "I0")]


@pytest.mark.parametrize(
    ("connected", "at", "code", "alert_code"),
    [
        (True, 123.0, "E21", "N13"),
        (False, 100.0, "E20", "N12"),
    ],
)
@pytest.mark.parametrize("how", ["response", "alert", "both"])
def test_giving_up_is_told(tell, names, connected, at, code, alert_code, how):
    story = tell(network(retries=RETRIES | {"tell": how}), connected=connected)
    story.run(1000.0)
    bodies = {}
    for when, message in story.posted:
        assert when == at
        bodies[type(message.body)] = message
    expected = {"response": {ErrorBody}, "alert": {DccAlertBody}, "both": {ErrorBody, DccAlertBody}}
    assert set(bodies) == expected[how]
    if how != "alert":
        assert bodies[ErrorBody].response_code == code
    if how != "response":
        body = bodies[DccAlertBody].body
        assert body.alert_code == alert_code
        assert isinstance(body.alert, CommandFailure)
        assert body.alert.device_id == names["device"]
    assert len(story.delivered) == (3 if connected else 0)


def test_the_alerts_code_can_be_another(tell):
    retries = RETRIES | {"tell": "alert", "not_answered_alert": "N999"}
    story = tell(network(retries=retries))
    story.run(1000.0)
    assert story.posted[0][1].body.alert_code == "N999"


def test_a_command_comes_through_after_it_was_given_up(tell, answer, names):
    story = tell(network(), device_connect_timeout_s=10.0, commands=())
    story.core.dcc.inject(Fault(kind=FaultKind.HUB_DOWN, hub=str(names["device"])), story.core.now)
    story.accept(1)
    story.run(3600.0)
    assert story.codes() == [(10.0, "E20")]
    assert story.delivered == []
    story.core.dcc.inject(Fault(kind=FaultKind.HUB_UP, hub=str(names["device"])), story.core.now)
    story.run(3601.0)
    assert [at for at, _ in story.delivered] == [3600.0]
    assert any("comes through after it was given up" in note for note in story.core.notes)
    # Its response is passed on all the same.
    story.core.message(answer())
    story.run(4000.0)
    assert story.codes() == [(10.0, "E20"), (3606.0, "I0")]


def test_lost_commands_and_answers_are_noted(tell, answer):
    story = tell(network(), commands=())
    for hop in (Hop.COMMAND, Hop.RESPONSE):
        story.core.dcc.inject(Fault(kind=FaultKind.DROP, hop=hop), story.core.now)
    story.accept(1, 2)
    story.run(5.0)
    assert len(story.delivered) == 1
    story.core.message(answer(2))
    story.run(1000.0)
    assert [code for _, code in story.codes()] == ["E20", "E21"]
    notes = "\n".join(story.core.notes)
    assert ":1 did not come through: fault 1, dropped" in notes
    assert "response" in notes
    assert "did not come through: fault 2, dropped" in notes


def test_a_bent_message_is_not_believed(tell, answer, alert):
    story = tell(network())
    story.core.dcc.inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.RESPONSE), story.core.now)
    story.core.dcc.inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.ALERT), story.core.now)
    story.core.message(answer())
    story.core.message(alert(1))
    story.run(20.0)
    assert story.posted == []
    assert sum("dropped a message" in note for note in story.core.notes) == 2


def test_duplicates_reach_the_user_once(tell, answer, alert):
    story = tell(network())
    for hop in (Hop.COMMAND, Hop.RESPONSE):
        story.core.dcc.inject(Fault(kind=FaultKind.DUPLICATE, hop=hop), story.core.now)
    story.accept(2)
    story.core.message(answer(1))
    story.run(20.0)
    assert story.codes() == [(5.0, "I0")]
    assert len(story.delivered) == 3


def test_an_alert_storm_is_held_back_and_told(tell, alert):
    storm = table(
        AlertStorm, enabled=True, codes=("8F88",), threshold=5, window_s=60.0, period_s=60.0
    )
    story = tell(network(storm=storm), commands=())
    for counter in range(100):
        story.core.message(alert(counter))
        story.run(float(counter + 1))
    story.run(1000.0)
    bodies = [message.body for _, message in story.posted]
    assert all(isinstance(body, DeviceAlertBody) for body in bodies)
    assert [body.throttled for body in bodies] == [None] * 5 + [Throttled(1, 59)]
    story.core.message(alert(100))
    story.run(2000.0)
    assert story.posted[-1][1].body.throttled == Throttled(2, 35)
    assert sum("discarded alert" in note for note in story.core.notes) == 94


def test_restart_with_messages_under_way(tell, answer, alert):
    story = tell(network(), commands=(1, 2))
    story.run(4.0)
    assert len(story.delivered) == 2
    story.core.message(answer(1))
    story.core.message(alert(7))
    story.collect()
    story.core.now += 1.0
    story.core.restart()
    story.core.dcc.handle_connected(story.device, story.core.now)
    story.run(1000.0)
    # The response and the alert set out anew, and so do the commands; none is lost.
    references = [str(m.request_id or m.response_id).rpartition(":")[2] for _, m in story.posted]
    assert sorted(references) == ["1", "2", "7"]
    assert {m.response_code for _, m in story.posted} == {"I0", "E21"}
    assert [at for at, _ in story.delivered] == [3.0, 3.0, 8.0, 8.0]
    assert story.core.storage.load().uplinks == []


def test_what_was_not_committed_is_not_under_way(tell, alert):
    story = tell(network(), commands=())
    story.core.dcc.receive_untrusted_message(story.device, alert(1), story.core.now)
    story.core.restart()
    story.run(1000.0)
    assert story.posted == []


def test_network_time_goes_on_after_a_restart(tell):
    story = tell(network(), commands=())
    story.run(500.0)
    first = story.core.storage.load().network_run
    story.core.restart()
    story.collect()
    second = story.core.storage.load().network_run
    assert (first.epoch, first.run) == (story.start, 1)
    assert (second.epoch, second.run) == (story.start, 2)


def test_a_scenario_at_its_times(tell, names, pki):
    scenario = (
        Fault(kind=FaultKind.DROP, hop=Hop.COMMAND, at_s=50.0),
        Fault(kind=FaultKind.RESTART, at_s=70.0, duration_s=5.0),
        Fault(kind=FaultKind.REVOKE, at_s=80.0, entity_id=names["device"]),
    )
    story = tell(network(), scenario=scenario)
    story.run(60.0)
    assert len(story.delivered) == 1
    assert [armed.fault.kind for armed in story.core.faults.armed] == [FaultKind.DROP]
    story.run(100.0)
    assert story.restarts == [(70.0, 5.0)]
    serials = {serial for _, serial in story.core.dcc.revoked()}
    assert serials == {one.certificate.serial for one in pki.devices[names["device"]]}


def test_scaled_time(tell, answer):
    story = tell(network(retries=RETRIES), network_time_scale=10.0)
    story.run(100.0)
    assert [at for at, _ in story.delivered] == [0.3, 3.3, 6.3]
    assert story.codes() == [(12.3, "E21")]


def test_the_inventory_has_to_fit(make_core, names):
    devices = [
        DeviceConfig(entity_id=names["device"], region="r", hub="H"),
        DeviceConfig(entity_id=names["other_device"], region="s", hub="H"),
    ]
    with pytest.raises(ConfigError, match="region 's' is none of"):
        make_core(profile=network(), devices=devices)
    profile = network()
    both = replace_regions(profile)
    with pytest.raises(ConfigError, match="'H' is in region 'r' already"):
        make_core(profile=both, devices=devices)


def replace_regions(profile):
    return NetworkProfile(
        summary="", default_region="r", regions={"r": profile.regions["r"], "s": Region()}
    )


def test_the_journal_names_what_comes_up(tell, answer, alert, names):
    rows = []

    class Rows:
        def record(self, event, /, **fields):
            if event == "network":
                rows.append((fields["hop"], fields["reference"]))

    story = tell(network(), commands=(), journal=Rows())
    for octets in (answer(5), alert(7), b"\xdf\x09"):
        story.core.message(octets)
    story.run(100.0)
    ends = f"{names['device']}:{names['supplier']}"
    assert rows == [
        ("response", f"{ends}:5"),
        ("alert", f"{ends}:7"),
        ("response", "unreadable"),
    ]
