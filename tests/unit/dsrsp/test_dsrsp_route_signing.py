"""Messages of route 2b whose signatures come from elsewhere: slow, late, wrong, never."""

from __future__ import annotations

import asyncio

import pytest

from dsrsp.errors import SignerUnavailable, SigningFailed, SigningRefused
from dsrsp.route_signing import SigningQueue
from dsrsp.signing import CheckedSigner, signed_part
from gbcs.header import CraFlag
from gbcs.route_2b import Route2bMessage, verify_route_2b
from smtunnel import Route
from smtunnel.send_events import Transmit


class Signer:
    """Signs when it is let; ``troubles``: counter to what happens at each asking, in turn."""

    def __init__(self, world):
        self.world = world
        self.troubles = {}
        self.gates = {}
        self.away = False
        self.takes_s = 0.0
        self.asked, self.asked_at = [], []
        self.at_once = self.most_at_once = 0

    async def sign(self, what):
        counter = what.originator_counter
        self.asked.append(counter)
        self.asked_at.append(asyncio.get_running_loop().time())
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
        # After 1, 2, 4, 8 s, then every 10 s: four at once together.
        assert sorted(set(desk.signer.asked_at))[:7] == [0, 1, 3, 7, 15, 25, 35]
        assert len(desk.signer.asked) == 4 * len(set(desk.signer.asked_at))
        desk.signer.away = False
        await asyncio.sleep(10)
        assert desk.carried == list(range(40))
        assert desk.outlet.not_signed == desk.outlet.closed == []
        desk.put(40)
        await asyncio.sleep(0.01)
        assert desk.carried[-1] == 40
        # The next time it is away, the pauses begin anew.
        desk.signer.away = True
        desk.put(41)
        before = len(desk.signer.asked)
        await asyncio.sleep(1.5)
        assert len(desk.signer.asked) == before + 2

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
