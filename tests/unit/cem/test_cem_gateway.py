"""The whole gateway against a communications hub at the end of a real WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from contextlib import asynccontextmanager

import pytest
from websockets.exceptions import ConnectionClosed

from cem import AlertError, GatewayClosed, LinkError, QueueFull, StoreError, UnknownMessage
from cem.store import SqliteStore
from gbcs import EcdsaSigner, Response, parse_untrusted
from gbcs.device_link import Challenge, build_welcome
from gbcs.errors import CertificateNotFound, CertificateRefused, PrivateKeyNotFound
from gbcs.keystore import KeyStore
from smtunnel import ECS200, DeliveryState, MessageReassembled, Originator, Reassembler
from smtunnel.errors import LocalError, MessageTooLong

DOWN = random.Random(1).randbytes(700)  # does not shrink: nine fragments
UP = random.Random(2).randbytes(3000)  # does not shrink: four fragments


class Recorder:
    def __init__(self) -> None:
        self.events = []

    def record(self, event, /, **fields) -> None:
        self.events.append((event, fields))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "cem.sqlite")


async def response_of(world, device):
    """The next response of the CEM; its alerts are passed over."""
    while isinstance(octets := await device.recv(), bytes):
        if isinstance(parse_untrusted(octets), Response):
            return world.response(octets)
    raise AssertionError("a text message")


async def send_down(world, device, message=DOWN, first_counter=1000, message_id=0):
    for command in world.commands(message, first_counter, message_id):
        await device.send(command)
        assert (await response_of(world, device)).success


class Served:
    """A DSRSP behind the hub, for as long as the hub runs."""

    def __init__(self, hub, dsrsp) -> None:
        self.hub = hub
        self.dsrsp = dsrsp
        self.device = None

    async def run(self) -> None:
        while True:
            self.device = await self.hub.devices.get()
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await self.flush()
                    self.dsrsp.take(await self.device.recv())

    async def flush(self) -> None:
        for command in self.dsrsp.take_commands():
            await self.device.send(command)

    async def send(self, message, ref="down") -> None:
        self.dsrsp.send(message, ref)
        await self.flush()


@pytest.fixture
async def served(hub, new_dsrsp):
    behind = Served(hub, new_dsrsp())
    task = asyncio.create_task(behind.run())
    yield behind
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_down_and_up_and_answered(world, hub, served) -> None:
    journal = Recorder()
    async with world.gateway(world.config(hub_url=hub.url), journal=journal) as gateway:
        handle = await gateway.send(UP)
        assert handle.status.fragments_total == 4
        assert (await handle.wait()).state is DeliveryState.REASSEMBLED
        assert handle.status.fragments_accepted == 4
        assert served.dsrsp.received == [UP]
        await served.send(DOWN)
        received = await anext(gateway.received())
        assert (received.message, received.peer) == (DOWN, world.supplier_id)
        await received.ack(answers=handle.ref)
        assert handle.status.state is DeliveryState.ANSWERED
    carriers = [fields for event, fields in journal.events if event == "carrier"]
    assert [fields["payload"] for fields in carriers] == [a.text for a in served.dsrsp.alerts]
    assert {(fields["direction"], fields["attempt"]) for fields in carriers} == {("up", 1)}
    states = [fields["state"] for event, fields in journal.events if event == "message"]
    assert list(dict.fromkeys(states)) == ["queued", "sent", "reassembled", "answered"]


async def test_statuses_tell_each_step(world, hub, served) -> None:
    async with world.gateway(world.config(hub_url=hub.url)) as gateway:
        handle = await gateway.send(UP)
        seen = [(s.state.name, s.fragments_accepted) async for s in handle.statuses()]
        assert seen[0] == ("QUEUED", 0)
        assert seen[-2:] == [("SENT", 4), ("REASSEMBLED", 4)]
        assert [count for _, count in seen] == sorted(count for _, count in seen)
        assert [s async for s in handle.statuses()] == [handle.status]


async def test_many_messages_keep_their_order(world, hub, served) -> None:
    async with world.gateway(world.config(hub_url=hub.url, alerts_per_window=0)) as gateway:
        messages = [b"message %d" % n for n in range(300)]
        for message in messages:
            handle = await gateway.send(message, "none")
        assert (await handle.wait()).state is DeliveryState.REASSEMBLED
    assert served.dsrsp.received == messages


async def test_redelivered_after_a_restart_until_acknowledged(world, hub, path) -> None:
    config = world.config(hub_url=hub.url, state=path)
    async with world.gateway(config) as gateway:
        device = await hub.devices.get()
        await send_down(world, device, b"one", 10, 1)
        await send_down(world, device, b"two", 20, 2)
        first = await anext(gateway.received())
    async with world.gateway(config) as gateway:
        messages = gateway.received()
        again = await anext(messages)
        assert (again.ref, again.message) == (first.ref, b"one")
        await again.ack()
        assert (await anext(messages)).message == b"two"
    async with world.gateway(config) as gateway:
        assert (await anext(gateway.received())).message == b"two"


async def test_who_is_cancelled_while_it_closes_leaves_the_state_to_the_next(
    world, hub, path, monkeypatch
) -> None:
    leaves = asyncio.Event()

    async def drain(client) -> None:
        leaves.set()
        await asyncio.Event().wait()

    monkeypatch.setattr("cem.route_2b.client.Route2bClient.drain", drain)
    config = world.config(hub_url=hub.url, state=path)

    async def live() -> None:
        async with world.gateway(config):
            pass

    living = asyncio.create_task(live())
    await leaves.wait()
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
    assert not [task for task in asyncio.all_tasks() if task.get_name().startswith("cem ")]
    world.store(path).close()


async def test_queued_message_goes_out_after_a_restart(world, hub, served, path) -> None:
    config = world.config(state=path, hub_url="ws://127.0.0.1:9")  # nobody listens there
    async with world.gateway(config) as gateway:
        ref = (await gateway.send(UP)).ref
    async with world.gateway(world.config(hub_url=hub.url, state=path)) as gateway:
        assert (await gateway.handle(ref).wait()).state is DeliveryState.REASSEMBLED
    assert served.dsrsp.received == [UP]


async def test_reconnects_when_the_hub_comes_back(world, hub, served) -> None:
    async with world.gateway(world.config(hub_url=hub.url)) as gateway:
        await gateway.wait_connected()
        await hub.stop()
        handle = await gateway.send(b"while the hub is away")
        await hub.start()
        assert (await handle.wait()).state is DeliveryState.REASSEMBLED
        assert gateway.connected
    assert served.dsrsp.received == [b"while the hub is away"]


class FragileHub:
    """A connector whose links break when told: after a send, before the hub confirms."""

    def __init__(self, world) -> None:
        self.world = world
        self.sent = []
        self.confirmations_left = 0
        self.broken = asyncio.Event()

    @asynccontextmanager
    async def __call__(self, url):
        self._answers = [build_welcome(), Challenge(bytes(32)).build()]
        self._proven = False
        yield self

    async def receive(self):
        if not self._answers:
            await asyncio.Event().wait()
        return self._answers.pop()

    async def send(self, message) -> None:
        if isinstance(message, bytes):
            self.sent.append(message)

    async def confirm(self) -> None:
        if self.confirmations_left == 0:
            self.broken.set()
            raise LinkError("the line broke")
        self.confirmations_left -= 1


async def test_unconfirmed_alerts_are_sent_again_octet_for_octet(world, path) -> None:
    fragile = FragileHub(world)
    fragile.confirmations_left = 3
    config = world.config(state=path)
    async with world.gateway(config, connector=fragile) as gateway:
        ref = (await gateway.send(UP)).ref
        await fragile.broken.wait()
    before = list(dict.fromkeys(fragile.sent))
    assert len(before) == 4  # our capabilities, two fragments; the third is perhaps lost
    fragile = FragileHub(world)
    fragile.confirmations_left = 100
    async with world.gateway(config, connector=fragile) as gateway:
        assert gateway.handle(ref).status.fragments_accepted == 2
        async for status in gateway.handle(ref).statuses():
            if status.state is DeliveryState.SENT:
                break
    assert fragile.sent[0] == before[3]
    assert len(fragile.sent) == 2
    alerts = [world.alert(octets) for octets in (*before, fragile.sent[1])]
    assert [alert.originator_counter for alert in alerts] == [1, 2, 3, 4, 5]
    assert reassembled(alerts) == [UP]


def reassembled(alerts):
    reassembler = Reassembler(originator=Originator.CEM, carrier=ECS200)
    events = []
    for alert in alerts:
        events += reassembler.receive_fragment(
            b"cem", alert.text, originator_counter=alert.originator_counter, now=0.0
        )
    return [event.message for event in events if isinstance(event, MessageReassembled)]


# A hub that misbehaves


async def test_bad_commands_get_no_answer_and_a_log_line(world, hub, caplog) -> None:
    caplog.set_level(logging.WARNING, "cem")
    async with world.gateway(world.config(hub_url=hub.url)) as gateway:
        device = await hub.devices.get()
        await device.send(b"garbage")
        await device.send(world.command(1, ((1, "x"),), broker_secret=bytes(32)))
        await device.send(world.command(1, ((1, "x"),), target_id=world.other_device_id))
        await device.send(bytes(4000))
        await send_down(world, device)  # the first answers are to good commands
        assert gateway.counts["REFUSED_COMMAND"] == 4
        assert gateway.counts["MESSAGE"] == 1
    told = [record.getMessage() for record in caplog.records]
    for reason in ("not a GBCS message", "MAC does not hold", "is for 02-53-4D-54-00-00-00-02"):
        assert any(reason in line for line in told), reason


@pytest.mark.parametrize("garbage", ["text", "x" * 10_000, bytes(10_000)])
async def test_link_is_made_anew_after_garbage(world, hub, garbage) -> None:
    async with world.gateway(world.config(hub_url=hub.url)) as gateway:
        device = await hub.devices.get()
        await device.send(garbage)
        device = await hub.devices.get()
        await send_down(world, device)
        assert (await anext(gateway.received())).message == DOWN


@pytest.mark.parametrize("greeting", ["", "{}", "[]", "nonsense", b"\x00", '{"type": "welcome"}'])
async def test_hub_that_cannot_greet(world, greeting) -> None:
    came = asyncio.Queue()

    class Rude(FragileHub):
        @asynccontextmanager
        async def __call__(self, url):
            self._answers = [greeting]
            came.put_nowait(url)
            yield self

    async with world.gateway(world.config(), connector=Rude(world)) as gateway:
        urls = [await came.get() for _ in range(3)]
        assert not gateway.connected
    assert urls == ["ws://127.0.0.1:8090/device/02534d5400000001"] * 3


async def test_fault_of_our_own_does_not_end_the_link(world, caplog) -> None:
    fragile = FragileHub(world)
    attempts = asyncio.Queue()

    @asynccontextmanager
    async def connector(url):
        attempts.put_nowait(url)
        if attempts.qsize() == 1:
            raise RuntimeError("a bug")
        yield fragile

    async with world.gateway(world.config(), connector=connector) as gateway:
        fragile._answers = [build_welcome(), Challenge(bytes(32)).build()]
        await gateway.wait_connected()
    assert "unforeseen error" in caplog.text


async def test_hub_that_floods_us_keeps_nobody_from_their_turn(world) -> None:
    class Flood:
        def __init__(self):
            self.first = [Challenge(bytes(32)).build(), build_welcome()]

        async def receive(self):
            return self.first.pop(0) if self.first else b"garbage without end"

        async def send(self, message):
            pass

        async def confirm(self):
            pass

    @asynccontextmanager
    async def connector(url):
        yield Flood()

    async with world.gateway(world.config(), connector=connector) as gateway:
        handle = await gateway.send(b"between the garbage")
        async for status in handle.statuses():
            if status.state is DeliveryState.SENT:
                break
        assert gateway.counts["REFUSED_COMMAND"]


async def test_hub_that_refuses_our_key(world, hub, caplog) -> None:
    from cryptography.hazmat.primitives.asymmetric import ec

    genuine = world.device_public_key
    world.device_public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    try:
        refusal = asyncio.Event()
        handler = logging.Handler()
        handler.emit = lambda record: refusal.set()
        logging.getLogger("cem").addHandler(handler)
        async with world.gateway(world.config(hub_url=hub.url)) as gateway:
            await refusal.wait()
            assert not gateway.connected
    finally:
        logging.getLogger("cem").removeHandler(handler)
        world.device_public_key = genuine
    assert "refused this device" in caplog.text
    assert "not your key" in caplog.text


async def test_back_off_doubles_and_stays_below_its_limit(world) -> None:
    from cem.link import HubLink

    for octets, share in ((b"\x00" * 4, 1.0), (b"\xff" * 4, 0.5)):
        config = world.config(reconnect_min_s=1.0, reconnect_max_s=60.0)
        link = HubLink(config, None, None, lambda count, o=octets: o, None)
        pauses = [link._pause_s(failures) for failures in (0, 1, 2, 5, 6, 7, 10**6)]
        expected = [seconds * share for seconds in (1, 2, 4, 32, 60, 60, 60)]
        assert pauses == pytest.approx(expected)


# What the application may do wrong


async def test_refused_messages(world, hub) -> None:
    config = world.config(message_octets=1000, queued_messages=2, hub_url="ws://127.0.0.1:9")
    async with world.gateway(config) as gateway:
        with pytest.raises(MessageTooLong):
            await gateway.send(bytes(1001))
        with pytest.raises(LocalError, match="brotli"):
            await gateway.send(b"x", "brotli")
        for _ in range(2):
            await gateway.send(b"x")
        with pytest.raises(QueueFull, match="queued_messages"):
            await gateway.send(b"x")


async def test_a_message_given_again_under_its_reference_goes_once(world, path) -> None:
    config = world.config(hub_url="ws://127.0.0.1:9", state=path)
    async with world.gateway(config) as gateway:
        ref = gateway.new_ref()
        assert (await gateway.send(b"once", ref=ref)).ref == ref
    async with world.gateway(config) as gateway:
        assert (await gateway.send(b"once", ref=ref)).status.message_octets == 4
        assert gateway.new_ref() != ref
        assert gateway._store.count_outgoing() == 1


async def test_unknown_references(world, hub) -> None:
    async with world.gateway(world.config(hub_url=hub.url)) as gateway:
        with pytest.raises(UnknownMessage, match="'nothing'"):
            gateway.handle("nothing")
        device = await hub.devices.get()
        await send_down(world, device)
        received = await anext(gateway.received())
        with pytest.raises(UnknownMessage):
            await received.ack(answers="nothing")
        await received.ack()
        await received.ack()  # twice is once


async def test_closed_gateway(world) -> None:
    gateway = world.gateway(world.config(hub_url="ws://127.0.0.1:9"))
    with pytest.raises(GatewayClosed):
        await gateway.send(b"x")
    async with gateway:
        handle = await gateway.send(b"x")
        waiting = asyncio.create_task(handle.wait())
        received = asyncio.create_task(anext(gateway.received(), None))
        await asyncio.sleep(0)
    with pytest.raises(GatewayClosed, match="QUEUED"):
        await waiting
    assert await received is None
    for action in (gateway.send(b"x"), handle.wait(), gateway.wait_connected()):
        with pytest.raises(GatewayClosed):
            await action
    with pytest.raises(GatewayClosed, match="once"):
        await gateway.__aenter__()


async def test_expiry_runs_by_itself(world, hub, caplog) -> None:
    expired = asyncio.Event()
    handler = logging.Handler()
    handler.emit = lambda record: expired.set() if "expired" in record.getMessage() else None
    logging.getLogger("cem").addHandler(handler)
    try:
        config = world.config(hub_url=hub.url, message_lifetime_s=0.1)
        async with world.gateway(config):
            device = await hub.devices.get()
            await device.send(world.commands(DOWN, 1000)[0])
            await response_of(world, device)
            await expired.wait()
    finally:
        logging.getLogger("cem").removeHandler(handler)


async def test_full_disk_does_not_end_the_gateway(world, hub) -> None:
    class Failing(SqliteStore):
        full = False

        def commit(self, changes) -> None:
            if self.full:
                raise StoreError("the disk is full")
            super().commit(changes)

    store = Failing(":memory:", world.device_id, replay_window=64)
    async with world.gateway(world.config(hub_url=hub.url), store=store) as gateway:
        device = await hub.devices.get()
        store.full = True
        await device.send(world.commands(DOWN, 1000)[0])
        assert set((await response_of(world, device)).results) == {2}
        store.full = False
        await send_down(world, device)
        assert (await anext(gateway.received())).message == DOWN


async def test_no_counter_is_left(world, hub) -> None:
    config = world.config(hub_url=hub.url, counter_floor=2**64 - 2)
    async with world.gateway(config) as gateway:
        device = await hub.devices.get()
        assert world.alert(await device.recv()).originator_counter == 2**64 - 1
        with pytest.raises(AlertError, match="used up"):
            await gateway.send(b"x")
        await send_down(world, device)  # what needs no counter goes on
        assert (await anext(gateway.received())).message == DOWN


# Keys


async def test_missing_and_wrong_keys(world) -> None:
    config = world.config(hub_url="ws://127.0.0.1:9")

    async def open_with(pems, **changes):
        keystore = KeyStore.from_pems(pems, test_mode=True)
        from cem import Gateway

        async with Gateway(config, keystore, **({"clock": lambda: 1_700_000_000.0} | changes)):
            pass

    without = {name: pem for name, pem in world.pems.items() if name != "broker"}
    with pytest.raises(CertificateNotFound, match="access control broker"):
        await open_with(without)
    without = {name: pem for name, pem in world.pems.items() if name != "DIGITAL_SIGNATURE.key"}
    with pytest.raises(PrivateKeyNotFound):
        await open_with(without)
    with pytest.raises(CertificateRefused, match="not valid at"):
        await open_with(world.pems, clock=lambda: 3_000_000_000.0)


async def test_keys_do_not_show(world) -> None:
    gateway = world.gateway(world.config())
    async with gateway:
        shown = repr(gateway) + repr(vars(gateway))
    assert "PRIVATE" not in shown
    assert world.broker_secret.hex() not in shown
    assert repr(world.broker_secret) not in shown
    assert isinstance(world.supplier_signer, EcdsaSigner)
