"""A gateway whose key is elsewhere sends by route 2b, whatever becomes of the signing service."""

from __future__ import annotations

import asyncio
import math

import pytest

from dsrsp import Gateway
from dsrsp.errors import ConfigurationError, SignerUnavailable, SigningRefused
from dsrsp.signing import signed_part
from gbcs.keystore import KeyStore
from gbcs.messages import PreCommand
from gbcs.route_2b import parse_untrusted_route_2b
from gbcs.route_2b_texts import CloseCode
from smtunnel import Compression, DeliveryState, RouteChoice, parse_untrusted_header
from smtunnel.routes import RouteOffer

EPOCH = 1_800_000_000.0


class Signer:
    """Has the supplier's key; for route 2b it may be away, refuse, or sign something else."""

    def __init__(self, world):
        self.world = world
        self.away = self.refuses = self.errs = False
        self.asked = 0

    async def sign(self, what):
        if not isinstance(what, PreCommand):
            self.asked += 1
            if self.away:
                raise SignerUnavailable("connection refused")
            if self.refuses:
                raise SigningRefused("HTTP 403: commands only")
            if self.errs:
                return self.world.pki.supplier.sign(b"something else")
        return self.world.pki.supplier.sign(signed_part(what))


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

    def __init__(self, world, **settings):
        self.signer = Signer(world)
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


@pytest.mark.parametrize("fault", ["refuses", "errs"])
def test_what_the_service_does_not_sign_well_goes_by_2a_at_last(world, fault):
    async def main():
        site = Site(world, attempts_2b=3, receipt_timeout_2b_s=10.0)
        setattr(site.signer, fault, True)
        async with site.gateway as gateway:
            site.server.connect(world.device)
            handle = await send(gateway, world, b"one")
            status = await handle.wait()
            assert status.state is DeliveryState.REASSEMBLED
            assert asyncio.get_running_loop().time() > 10 + 20 + 40
        assert site.signer.asked >= 3
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
            site.signer.away, asked = False, site.signer.asked
            await asyncio.sleep(60)
            assert (site.server.sent, site.signer.asked) == ([], asked)
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


def test_it_is_known_for_how_long_a_message_waits_for_route_2b(world):
    async def main():
        site = Site(world)
        async with site.gateway as gateway:
            first = await send(gateway, world, b"first")
            assert gateway.waits_for_route_2b_s(first.ref) is None, "it never stood"
            site.server.connect(world.device)
            site.server.disconnect(world.device)
            waits = await send(gateway, world, b"waits")
            only = await send(gateway, world, b"only", route=RouteChoice.ONLY_2B)
            other = await send(gateway, world, b"other", route=RouteChoice.ONLY_2A)
            await asyncio.sleep(100)
            told = [gateway.waits_for_route_2b_s(one.ref) for one in (waits, only, other)]
            assert told == [pytest.approx(200.0), math.inf, None]
            assert gateway.waits_for_route_2b_s("unknown") is None
            await asyncio.sleep(210)
            assert gateway.waits_for_route_2b_s(waits.ref) is None

    world.run(main)
