"""Messages of route 2b whose signatures come from elsewhere: slow, late, wrong, never."""

from __future__ import annotations

import asyncio

import pytest

from dsrsp import Gateway
from dsrsp.errors import ConfigurationError, SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.route_signing import SigningQueue
from dsrsp.signing import CheckedSigner, signed_part
from gbcs.header import CraFlag
from gbcs.keystore import KeyStore
from gbcs.messages import PreCommand
from gbcs.route_2b import Route2bMessage, parse_untrusted_route_2b, verify_route_2b
from gbcs.route_2b_texts import CloseCode
from smtunnel import Compression, DeliveryState, Route, RouteChoice, parse_untrusted_header
from smtunnel.routes import RouteOffer
from smtunnel.send_events import Transmit

EPOCH = 1_800_000_000.0


class Signer:
    """Signs when it is let; ``troubles``: counter to what happens at each asking, in turn."""

    def __init__(self, world):
        self.world = world
        self.troubles = {}
        self.gates = {}
        self.away = False
        self.takes_s = 0.0
        self.asked = []
        self.at_once = self.most_at_once = 0

    async def sign(self, what):
        if isinstance(what, PreCommand):
            return self.world.pki.supplier.sign(what.signed_part())
        counter = what.originator_counter
        self.asked.append(counter)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(self.takes_s)
            if counter in self.gates:
                await self.gates[counter].wait()
        finally:
            self.at_once -= 1
        if self.away:
            raise SignerUnavailable("connection refused")
        trouble = self.troubles.get(counter)
        if isinstance(trouble, Exception):
            raise trouble
        return trouble or self.world.pki.supplier.sign(signed_part(what))


class Outlet:
    """Takes what the queue gives."""

    def __init__(self, public_key):
        self.public_key = public_key
        self.carried, self.not_signed, self.closed = [], [], []
        self.unwanted = set()

    def carry(self, transmit, message):
        verify_route_2b(message, self.public_key)
        self.carried.append((message.target_id, transmit.originator_counter))

    def wanted(self, transmit):
        return transmit.originator_counter not in self.unwanted

    def refused(self, transmit):
        self.not_signed.append(transmit.originator_counter)

    def too_much(self, device, wait_s, why):
        self.closed.append((device, why))


class Desk:
    """A queue with its surroundings."""

    def __init__(self, world, **settings):
        public_key = world.pki.supplier._private_key.public_key()
        self.world, self.signer, self.outlet = world, Signer(world), Outlet(public_key)
        checked = CheckedSigner(self.signer, public_key)
        self.queue = SigningQueue(world.config(**settings), checked, self.outlet)

    def put(self, counter, device=None, octets=10):
        device = device or self.world.device
        message = Route2bMessage(
            self.world.supplier, device, counter, CraFlag.COMMAND, bytes(octets)
        )
        transmit = Transmit("ref", device.octets, 0, message.payload, counter, 1, Route.ROUTE_2B)
        self.queue.put(transmit, message)

    @property
    def carried(self):
        return [counter for _, counter in self.outlet.carried]

    def check_empty(self):
        queue = self.queue
        assert (queue._messages, queue._octets, queue._lanes, len(queue._turns)) == (0, 0, {}, 0)


@pytest.fixture
def desk(world):
    """Run a test with a desk, in virtual time; at the end nothing may be left in the queue."""

    def run(main, **settings):
        async def with_desk():
            made = Desk(world, **settings)
            try:
                await main(made)
            finally:
                await made.queue.close()
            made.check_empty()

        world.run(with_desk)

    return run


def test_those_to_one_device_go_in_the_order_of_hand_over(desk):
    async def main(desk):
        one, other = desk.world.device, desk.world.other_device
        desk.signer.gates[1] = asyncio.Event()
        for counter in (1, 2, 3):
            desk.put(counter, one)
        desk.put(4, other)
        await asyncio.sleep(1)
        # The first is slow: it holds up its own device, and nobody else.
        assert desk.signer.asked == [1, 2, 3, 4]
        assert desk.carried == [4]
        desk.signer.gates[1].set()
        await asyncio.sleep(1)
        assert desk.carried == [4, 1, 2, 3]

    desk(main)


def test_each_device_has_its_turn(desk):
    async def main(desk):
        desk.signer.takes_s = 1.0
        for counter in range(5):
            desk.put(counter)
        desk.put(5, desk.world.other_device)
        await asyncio.sleep(3.5)
        assert desk.carried == [0, 1, 5]

    desk(main, signatures_in_flight=1)


def test_a_few_are_asked_for_at_once(desk):
    async def main(desk):
        desk.signer.takes_s = 1.0
        for counter in range(20):
            desk.put(counter)
        await asyncio.sleep(4.5)
        assert desk.signer.most_at_once == 5
        assert desk.carried == list(range(20))
        desk.check_empty()

    desk(main, signatures_in_flight=5)


def test_a_signer_that_is_away_is_asked_with_growing_pauses_until_it_is_back(desk):
    async def main(desk):
        desk.signer.away = True
        for counter in range(40):
            desk.put(counter)
        await asyncio.sleep(600)
        assert desk.carried == []
        # 1 + 2 + 4 + 8 s, then every 10 s: the four at once together.
        rounds = len(desk.signer.asked) / 4
        assert 55 <= rounds <= 65
        desk.signer.away = False
        await asyncio.sleep(10)
        assert desk.carried == list(range(40))
        assert desk.outlet.not_signed == desk.outlet.closed == []
        desk.put(40)
        await asyncio.sleep(0.01)
        assert desk.carried[-1] == 40

    desk(main, signatures_in_flight=4, retry_first_s=1.0, retry_max_s=10.0)


@pytest.mark.parametrize(
    "trouble",
    [
        SigningRefused("HTTP 403: not on a Sunday"),
        SigningFailed("no signature in it"),
        bytes(64),
        b"short",
        ValueError("a fault of ours"),
        "something else",
    ],
)
def test_what_is_not_signed_well_is_never_sent_and_holds_up_nothing(desk, trouble, caplog):
    async def main(desk):
        if trouble == "something else":
            desk.signer.troubles[2] = desk.world.pki.supplier.sign(b"something else")
        else:
            desk.signer.troubles[2] = trouble
        for counter in (1, 2, 3):
            desk.put(counter)
        await asyncio.sleep(1)
        assert desk.carried == [1, 3]
        assert desk.outlet.not_signed == [2]

    desk(main)
    assert "signed" in caplog.text


def test_what_has_ended_while_it_waited_is_not_sent(desk):
    async def main(desk):
        desk.signer.away = True
        for counter in (1, 2, 3):
            desk.put(counter)
        await asyncio.sleep(1)
        desk.outlet.unwanted = {1}
        desk.signer.away = False
        desk.signer.gates[2] = asyncio.Event()
        asked = len(desk.signer.asked)
        await asyncio.sleep(60)
        # One that ends while its signature is made does not go either.
        desk.outlet.unwanted = {1, 2}
        desk.signer.gates[2].set()
        await asyncio.sleep(1)
        assert desk.carried == [3]
        assert 1 not in desk.signer.asked[asked:]
        assert desk.outlet.not_signed == []

    desk(main)


def test_what_waits_goes_with_its_connection(desk):
    async def main(desk):
        one, other = desk.world.device, desk.world.other_device
        desk.signer.takes_s = 5.0
        for counter in range(5):
            desk.put(counter, one)
        desk.put(5, other)
        await asyncio.sleep(1)
        desk.queue.forget(one)
        # It has connected once more, and the tunnel's end has given it out again.
        desk.put(6, one)
        await asyncio.sleep(100)
        assert desk.outlet.carried == [(other, 5), (one, 6)]
        desk.check_empty()

    desk(main, signatures_in_flight=3)


@pytest.mark.parametrize(
    "bound", [{"messages_to_sign": 3}, {"octets_to_sign": 3 * (10 + 100) + 10}]
)
def test_for_whom_there_is_no_room_loses_the_connection_and_nobody_else(desk, bound):
    async def main(desk):
        one, other = desk.world.device, desk.world.other_device
        desk.signer.away = True
        desk.put(1, one)
        desk.put(2, other)
        desk.put(3, one)
        desk.put(4, one)
        ((device, why),) = desk.outlet.closed
        assert (device, why) == (one, "3 messages wait for signatures")
        desk.put(5, other)
        desk.signer.away = False
        await asyncio.sleep(60)
        assert desk.outlet.carried == [(other, 2), (other, 5)]

    desk(main, **bound)


def test_one_message_always_may_wait(desk):
    async def main(desk):
        desk.put(1, octets=5000)
        await asyncio.sleep(1)
        assert desk.carried == [1]

    desk(main, octets_to_sign=1)


def test_a_queue_that_is_closed_asks_for_nothing(desk):
    async def main(desk):
        desk.signer.takes_s = 5.0
        for counter in range(20):
            desk.put(counter)
        await asyncio.sleep(1)
        await desk.queue.close()
        desk.put(20)
        await asyncio.sleep(100)
        assert (desk.carried, desk.signer.at_once) == ([], 0)
        assert len(desk.signer.asked) == 16

    desk(main)


# In the gateway


class Server:
    """Route 2b's server: who is connected is what the test says; what is sent is kept."""

    port = 0

    def __init__(self, application):
        self.application = application
        self.sent, self.put_outs = [], []
        self.up = set()

    async def start(self, listener=None):
        return

    async def close(self):
        return

    def connect(self, device):
        self.up.add(device)
        self.application.connected(device, message_octets=1 << 20)

    def disconnect(self, device):
        self.up.discard(device)
        self.application.disconnected(device, "gone")

    def offer(self, number):
        return RouteOffer(
            offer=number, addresses=("wss://a",), pins=(bytes(32),), not_before=0,
            not_after=2**32, message_octets=1 << 20,
        )  # fmt: skip

    def devices(self):
        return list(self.up)

    def send(self, device, message, written=None):
        if device not in self.up:
            return False
        self.sent.append(parse_untrusted_route_2b(message))
        if written is not None:
            asyncio.get_running_loop().call_soon(written)
        return True

    def put_out(self, device, code, reason):
        self.put_outs.append((device, code, reason))
        asyncio.get_running_loop().call_soon(self.disconnect, device)


class Site:
    """A gateway whose key is elsewhere, and its server."""

    def __init__(self, world, signer=None, **settings):
        self.signer = signer or Signer(world)
        start = world.gateway(**settings)
        public = {**world.pki.public, **world.pki.dsrsp_keys}
        self.gateway = Gateway(
            world.config(**settings),
            KeyStore.from_pems(
                {n: pem for n, pem in public.items() if "supplier" not in n or n.endswith(".pem")},
                test_mode=True,
            ),
            clock=start._clock,
            random_octets=world.random,
            journal=world.journal,
            dcc=world.dcc,
            signer=self.signer,
            route_2b_server=self._make,
        )
        world.dcc.receive = self.gateway.receive_untrusted

    def _make(self, application):
        self.server = Server(application)
        return self.server

    def bodies(self):
        """What was sent by 2b beside control messages."""
        headers = [(parse_untrusted_header(m.payload[:3]), m.payload[3:]) for m in self.server.sent]
        return [body for header, body in headers if header.compression is Compression.NONE]


def send(gateway, world, word, **how):
    return gateway.send(world.device, word, "none", compact=False, **how)


def test_a_gateway_without_its_key_sends_by_2b_also_after_the_service_was_away(world):
    async def main():
        site = Site(world)
        async with site.gateway as gateway:
            site.server.connect(world.device)
            await send(gateway, world, b"one", route=RouteChoice.ONLY_2B)
            await asyncio.sleep(1)
            assert site.bodies() == [b"one"]
            site.signer.away = True
            for word in (b"two", b"three"):
                await send(gateway, world, word, route=RouteChoice.ONLY_2B)
            await asyncio.sleep(120)
            assert site.server.put_outs == []
            site.signer.away = False
            await asyncio.sleep(60)
            # Without a receipt the first goes again.
            assert [body for body in site.bodies() if body != b"one"][:2] == [b"two", b"three"]
            counters = [message.originator_counter for message in site.server.sent]
            assert len(set(counters)) == len(counters)

    world.run(main)


def test_what_the_service_refuses_goes_by_2a_at_last(world):
    class Refuses(Signer):
        async def sign(self, what):
            if isinstance(what, PreCommand):
                return await super().sign(what)
            self.asked.append(what.originator_counter)
            raise SigningRefused("HTTP 403: commands only")

    async def main():
        site = Site(world, Refuses(world), attempts_2b=3, receipt_timeout_2b_s=10.0)
        async with site.gateway as gateway:
            site.server.connect(world.device)
            handle = await send(gateway, world, b"one")
            status = await handle.wait()
            assert status.state is DeliveryState.REASSEMBLED
            assert asyncio.get_running_loop().time() > 10 + 20 + 40
        assert len(set(site.signer.asked)) >= 3
        assert site.server.sent == site.server.put_outs == []

    world.run(main)
    assert len(world.dcc.signed) == 1


def test_a_message_that_ends_while_the_service_is_away_is_not_sent_when_it_is_back(world):
    async def main():
        site = Site(world)
        async with site.gateway as gateway:
            site.server.connect(world.device)
            site.signer.away = True
            now = EPOCH + asyncio.get_running_loop().time()
            old = await send(gateway, world, b"old", topic="price", route=RouteChoice.ONLY_2B)
            late = await send(gateway, world, b"late", deadline=now + 60, route=RouteChoice.ONLY_2B)
            await send(gateway, world, b"new", topic="price", route=RouteChoice.ONLY_2B)
            assert (await old.wait()).state is (await late.wait()).state is DeliveryState.FAILED
            site.signer.away = False
            await asyncio.sleep(40)
            assert set(site.bodies()) == {b"new"}

    world.run(main)


def test_what_waits_when_the_connection_goes_comes_again_with_the_next(world):
    async def main():
        site = Site(world)
        async with site.gateway as gateway:
            site.server.connect(world.device)
            site.signer.away = True
            for word in (b"one", b"two"):
                await send(gateway, world, word, route=RouteChoice.ONLY_2B)
            await asyncio.sleep(1)
            site.server.disconnect(world.device)
            site.signer.away = False
            await asyncio.sleep(60)
            assert site.server.sent == []
            site.server.connect(world.device)
            await asyncio.sleep(1)
            assert site.bodies() == [b"one", b"two"]

    world.run(main)


def test_when_more_waits_than_may_the_cem_is_told_to_come_again_later(world):
    async def main():
        site = Site(world, messages_to_sign=6)
        async with site.gateway as gateway:
            site.server.connect(world.device)
            site.signer.away = True
            words = []
            while not site.server.put_outs:
                words.append(b"%d" % len(words))
                await send(gateway, world, words[-1], route=RouteChoice.ONLY_2B)
                await asyncio.sleep(0.01)
            assert len(words) <= 7
            ((device, code, reason),) = site.server.put_outs
            assert (device, code) == (world.device, CloseCode.TRY_LATER)
            assert reason == "30 s: 6 messages wait for signatures"
            site.signer.away = False
            await asyncio.sleep(33)
            assert site.server.sent == []
            site.server.connect(world.device)
            await asyncio.sleep(1)
            assert site.bodies() == words

    world.run(main)


def test_what_waits_when_the_gateway_ends_goes_in_the_next_life(world):
    async def main():
        site = Site(world)
        site.signer.away = True
        async with site.gateway as gateway:
            site.server.connect(world.device)
            await send(gateway, world, b"one", route=RouteChoice.ONLY_2B)
            await asyncio.sleep(10)
        again = Site(world)
        async with again.gateway:
            again.server.connect(world.device)
            await asyncio.sleep(1)
            assert again.bodies() == [b"one"]

    world.run(main)


def test_without_key_and_without_service_the_gateway_does_not_start(world):
    world.keystore = world.pki.keystore(without="supplier")

    async def main():
        async with world.gateway():
            pass

    with pytest.raises(ConfigurationError, match="digital-signature key"):
        world.run(main)
