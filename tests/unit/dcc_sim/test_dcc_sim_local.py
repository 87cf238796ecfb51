"""The simulator without sockets on virtual time: hours of a bad day, restarts, the same again."""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter

import pytest

from dcc_sim import (
    DccSimError,
    DeviceConfig,
    Fault,
    FaultKind,
    Hop,
    LocalSimulator,
    MessageDropped,
)
from dcc_sim.core.services import Service
from gbcs import (
    Alert,
    EcdsaSigner,
    GbcsDateTime,
    Response,
    parse_untrusted,
    sign_alert,
    sign_pre_command,
    sign_response,
)
from gbcs.duis import DeviceAlertBody, parse_untrusted_response
from lab.virtual_time import run_virtual, virtual_clock


class Events:
    """A journal that keeps times and fields."""

    def __init__(self):
        self.rows = []

    def record(self, event, /, **fields):
        self.rows.append((virtual_clock(), event, fields))


class Town:
    """A user and devices around a simulator, all on one event loop."""

    def __init__(self, pki, requests, names, config, **arguments):
        self.pki = pki
        self.requests = requests
        self.names = names
        self.config = config
        self.arguments = arguments
        self.journal = Events()
        self.posts = []
        self.commands = []
        self.refused = 0
        self.simulator = None
        self.links = {}

    async def post(self, url, xml):
        self.posts.append((virtual_clock(), parse_untrusted_response(xml).message))
        return 204

    async def __aenter__(self):
        self.simulator = LocalSimulator(
            self.config,
            self.pki.keystore,
            post=self.post,
            clock=lambda: 1_800_000_000.0 + virtual_clock(),
            journal=self.journal,
            **self.arguments,
        )
        await self.simulator.__aenter__()
        for device in self.config.devices:
            self.link(device.entity_id)
        return self

    async def __aexit__(self, *error):
        await self.simulator.__aexit__(*error)

    def link(self, device):
        def closed():
            del self.links[device]
            asyncio.get_running_loop().call_later(1.0, self.link, device)

        def receive(octets):
            self.commands.append((virtual_clock(), octets))
            try:
                command = parse_untrusted(octets)
            except Exception:
                self.refused += 1
                return
            signer = EcdsaSigner(self.pki.devices[device][0].private_key, deterministic=True)
            response = sign_response(Response.answering(command, (0,)), signer)
            self.links[device].send(response.to_bytes())

        try:
            self.links[device] = self.simulator.connect(device, receive, closed)
        except DccSimError:
            asyncio.get_running_loop().call_later(1.0, self.link, device)

    async def ask(self, counter, device=None):
        device = self.names["device"] if device is None else device
        transform = self.requests.transform(counter, target_id=device)
        await self.simulator.request(Service.TRANSFORM, self.requests.octets(transform))
        pre_command = self.requests.pre_command(counter, target_id=device)
        signed = self.requests.signed(
            counter,
            payload=sign_pre_command(pre_command, self.pki.supplier_signer).to_bytes(),
            target_id=device,
        )
        reply = await self.simulator.request(Service.SEND_COMMAND, self.requests.octets(signed))
        return parse_untrusted_response(reply.xml).message.response_code

    def alert(self, counter, device=None):
        device = self.names["device"] if device is None else device
        made = Alert(
            originator_id=device,
            target_id=self.names["supplier"],
            originator_counter=counter,
            text="up",
            date_time=GbcsDateTime.from_timestamp(1_700_000_000.0),
            supplementary_remote_party_id=None,
        )
        signer = EcdsaSigner(self.pki.devices[device][0].private_key, deterministic=True)
        self.links[device].send(sign_alert(made, signer).to_bytes())

    def codes(self):
        return Counter(message.response_code for _, message in self.posts)


@pytest.fixture
def town(pki, requests, names, make_config):
    def make(*, scenario=(), **changes):
        return Town(pki, requests, names, make_config(**changes), scenario=scenario)

    return make


def test_without_network_nothing_takes_time(town):
    async def story():
        async with town() as there:
            assert await there.ask(1) == "I99"
            there.alert(1)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            return virtual_clock(), there.codes()

    assert run_virtual(story()) == (0.0, {"I0": 2})


def test_the_answer_takes_its_time(town):
    async def story():
        async with town(network="gb-assumed", network_seed=3) as there:
            assert await there.ask(1) == "I99"
            accepted = virtual_clock()
            await asyncio.sleep(600.0)
            ((answered, message),) = there.posts
            return accepted, answered, message.response_code

    accepted, answered, code = run_virtual(story())
    assert 0.1 < accepted < 5.0
    assert 2.0 < answered < 100.0
    assert code == "I0"


def bad_hours(town, seed):
    """Two hours of a bad day: 120 commands and 120 alerts to and from two devices."""

    async def story():
        async with town(network="bad-day", network_seed=seed) as there:
            devices = [device.entity_id for device in there.config.devices]
            for n in range(120):
                for_device = devices[n % 2]
                await there.ask(n, for_device)
                there.alert(n, for_device)
                await asyncio.sleep(60.0)
            await asyncio.sleep(6 * 3600.0)
            return there

    return run_virtual(story())


def test_every_command_of_a_bad_day_ends_with_an_answer_or_a_reason(town):
    there = bad_hours(town, 1)
    told = Counter()
    alerts = 0
    for _, message in there.posts:
        if isinstance(message.body, DeviceAlertBody):
            alerts += 1
        else:
            told[message.request_id.originator_counter] += 1
    assert set(told) == set(range(120))
    lost_alerts = [
        fields
        for _, event, fields in there.journal.rows
        if event == "network" and fields["hop"] == "alert" and fields["outcome"] != "arrived"
    ]
    assert lost_alerts
    assert all(fields["reason"] for fields in lost_alerts)
    assert {"I0", "E20"} <= set(there.codes())
    # A late response may follow a give-up; nothing else comes twice.
    for counter, times in told.items():
        codes = [
            message.response_code
            for _, message in there.posts
            if message.request_id is not None and message.request_id.originator_counter == counter
        ]
        assert times == 1 or (times == 2 and codes[0] in ("E20", "E21") and codes[1] == "I0")


def test_the_same_seed_is_the_same_day(town):
    def run(seed):
        rows = bad_hours(town, seed).journal.rows
        return [(at, fields) for at, event, fields in rows if event == "network"]

    first = run(1)
    assert run(1) == first
    assert run(2) != first


def test_faults_of_the_users_side(town):
    async def story():
        async with town(post_backoff_s=2.0) as there:
            inject = there.simulator.inject

            await inject(Fault(kind=FaultKind.DROP, hop=Hop.REQUEST))
            with pytest.raises(MessageDropped, match="request was lost: fault 1"):
                await there.ask(1)
            await inject(Fault(kind=FaultKind.DROP, hop=Hop.ANSWER))
            with pytest.raises(MessageDropped, match="answer was lost: fault 2"):
                await there.ask(1)
            # It was done all the same: the same transform is answered again.
            await inject(Fault(kind=FaultKind.DELAY, hop=Hop.REQUEST, delay_s=4.0))
            await inject(Fault(kind=FaultKind.DELAY, hop=Hop.ANSWER, delay_s=3.0))
            assert await there.ask(1) == "I99"
            assert virtual_clock() == 7.0
            await inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.REQUEST))
            octets = there.requests.octets(there.requests.transform(9))
            reply = await there.simulator.request(Service.TRANSFORM, octets)
            assert parse_untrusted_response(reply.xml).message.response_code.startswith("E")
            await inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.ANSWER))
            bent = await there.simulator.request(Service.TRANSFORM, octets)
            whole = await there.simulator.request(Service.TRANSFORM, octets)
            assert len(bent.xml) == len(whole.xml)
            await inject(Fault(kind=FaultKind.DUPLICATE, hop=Hop.REQUEST))
            assert await there.ask(2) == "I99"
            await asyncio.sleep(1.0)
            there.posts.clear()
            start = virtual_clock()
            await inject(
                Fault(kind=FaultKind.DROP, hop=Hop.POST, entity_id=there.names["supplier"])
            )
            assert await there.ask(3) == "I99"
            await asyncio.sleep(1.0)
            assert there.posts == []
            await asyncio.sleep(10.0)
            await inject(Fault(kind=FaultKind.DELAY, hop=Hop.POST, delay_s=30.0))
            await inject(Fault(kind=FaultKind.DUPLICATE, hop=Hop.POST))
            assert await there.ask(4) == "I99"
            await asyncio.sleep(100.0)
            return [
                (round(at - start, 3), message.request_id.originator_counter)
                for at, message in there.posts
            ]

    assert run_virtual(story()) == [(2.0, 3), (41.0, 4), (41.0, 4)]


def test_a_corrupted_post_is_posted(town):
    async def story():
        async with town() as there:
            seen = []

            async def post(url, xml):
                seen.append(xml)
                return 400 if len(seen) == 1 else 204

            there.simulator._post = post
            await there.simulator.inject(Fault(kind=FaultKind.CORRUPT, hop=Hop.POST))
            there.alert(1)
            await asyncio.sleep(10.0)
            return seen

    bent, whole = run_virtual(story())
    assert bent != whole
    assert len(bent) == len(whole)


def test_restarts_lose_nothing_that_was_accepted(town):
    async def story():
        scenario = [
            Fault(kind=FaultKind.RESTART, at_s=37.0 * n, duration_s=5.0) for n in range(1, 20)
        ]
        async with town(network="gb-assumed", network_seed=5, scenario=scenario) as there:
            accepted, refused = set(), 0
            for n in range(200):
                try:
                    if await there.ask(n) == "I99":
                        accepted.add(n)
                except DccSimError:
                    refused += 1
                await asyncio.sleep(3.0)
            await asyncio.sleep(3600.0)
            return there, accepted, refused

    there, accepted, refused = run_virtual(story())
    assert refused > 5
    assert len(accepted) > 100
    told = {message.request_id.originator_counter for _, message in there.posts}
    assert accepted <= told
    assert there.codes()["I0"] > 0.9 * len(accepted)


def test_a_hub_is_taken_down_for_a_while(town, names):
    async def story():
        devices = [DeviceConfig(entity_id=names["device"], hub="H")]
        async with town(network="gb-assumed", devices=devices) as there:
            await there.simulator.inject(Fault(kind=FaultKind.HUB_DOWN, hub="H", duration_s=7200.0))
            assert await there.ask(1) == "I99"
            await asyncio.sleep(7000.0)
            assert there.simulator.faults.hubs_down == ["H"]
            assert there.codes() == {"E20": 1}
            await asyncio.sleep(1000.0)
            return there.codes(), there.commands[0][0]

    codes, delivered = run_virtual(story())
    assert codes == {"E20": 1, "I0": 1}
    assert 7200.0 <= delivered < 7210.0


def test_a_link_that_is_replaced_or_closed_is_dead(town):
    async def story():
        async with town() as there:
            device = there.names["device"]
            ends = []
            first = there.simulator.connect(device, ends.append, lambda: ends.append("closed"))
            second = there.simulator.connect(device, ends.append)
            first.send(b"ignored")
            first.close()
            second.close()
            second.close()
            second.send(b"ignored")
            await asyncio.sleep(0.5)
            return ends

    assert run_virtual(story()) == ["closed"]


def test_a_network_that_does_not_exist(town):
    async def story():
        async with town(network="mars"):
            pass

    with pytest.raises(DccSimError, match="mars"):
        run_virtual(story())


def test_digest_of_a_day(town):
    """Not only the fates: all octets to the devices are the same with the same seed."""

    def digest():
        octets = b"".join(octets for _, octets in bad_hours(town, 4).commands)
        return hashlib.sha256(octets).hexdigest()

    assert digest() == digest()
