"""A signer elsewhere: slow, away, wrong, unwilling. What it gives is checked before it is used."""

from __future__ import annotations

import asyncio

import pytest

from dsrsp import Gateway
from dsrsp.config import SigningServiceConfig
from dsrsp.errors import ConfigurationError, SignerUnavailable, SigningRefused
from smtunnel import Compression, DeliveryState, parse_untrusted_header


class Signer:
    """Has the supplier's key; ``troubles`` are what happens first."""

    def __init__(self, world, *troubles, takes_s=0.0):
        self.world = world
        self.troubles = list(troubles)
        self.takes_s = takes_s
        self.asked = 0

    async def sign(self, pre_command):
        self.asked += 1
        await asyncio.sleep(self.takes_s)
        header = parse_untrusted_header(pre_command.labels[0].text[:4])
        # The tunnel's own messages are always signed well.
        if header.compression is Compression.CONTROL:
            return self.world.pki.supplier.sign(pre_command.signed_part())
        if self.troubles:
            trouble = self.troubles.pop(0)
            if isinstance(trouble, Exception):
                raise trouble
            return trouble
        return self.world.pki.supplier.sign(pre_command.signed_part())


def gateway(world, signer, **settings):
    start = world.gateway(**settings)
    made = Gateway(
        world.config(**settings),
        world.keystore,
        clock=start._clock,
        random_octets=world.random,
        journal=world.journal,
        dcc=world.dcc,
        signer=signer,
    )
    world.dcc.receive = made.receive_untrusted
    return made


def send(world, signer, **settings):
    async def main():
        async with gateway(world, signer, fragment_attempts=1, **settings) as running:
            status = await (await running.send(world.device, b"x")).wait()
            return status, asyncio.get_running_loop().time()

    return world.run(main)


def test_a_slow_signer_holds_nobody_else_up(world):
    signer = Signer(world, takes_s=20.0)

    async def main():
        async with gateway(world, signer, fragments_in_flight=8) as running:
            handles = [await running.send(world.device, b"x%d" % n) for n in range(4)]
            assert all([(await h.wait()).state is DeliveryState.REASSEMBLED for h in handles])
            return asyncio.get_running_loop().time()

    assert world.run(main) < 25.0


def test_a_signer_that_is_away_is_asked_until_it_is_back(world):
    signer = Signer(world, *[SignerUnavailable("connection refused")] * 5)
    status, took_s = send(world, signer)
    assert status.state is DeliveryState.REASSEMBLED
    assert took_s > 0.25 + 0.5 + 1 + 2 + 4


def test_a_signer_that_stays_away_is_told_as_the_reason(world):
    signer = Signer(world, *[SignerUnavailable("connection refused")] * 10_000)
    status, _ = send(world, signer, transform_timeout_s=60.0, message_lifetime_s=100.0)
    assert "not signed in 60 s (last trouble: connection refused)" in status.reason
    assert world.dcc.sent == []


@pytest.mark.parametrize("signature", [bytes(64), b"", bytes(63), b"\xff" * 64])
def test_a_wrong_signature_is_never_sent(world, signature):
    signer = Signer(world, signature)
    status, _ = send(world, signer)
    assert status.state is DeliveryState.FAILED
    assert "not of our certificate's key" in status.reason
    assert world.dcc.sent == []


def test_a_signature_of_something_else_is_never_sent(world):
    status, _ = send(world, Signer(world, world.pki.supplier.sign(b"something else")))
    assert "not of our certificate's key" in status.reason
    assert world.dcc.sent == []


def test_what_the_signer_will_not_sign_ends_the_message_with_its_words(world):
    status, _ = send(world, Signer(world, SigningRefused("HTTP 403: not on a Sunday")))
    assert "not signed: HTTP 403: not on a Sunday" in status.reason
    assert world.dcc.sent == []


def test_a_message_that_ends_does_not_wait_for_its_signature(world):
    signer = Signer(world, takes_s=100.0)

    async def main():
        async with gateway(world, signer) as running:
            now = 1_800_000_000.0 + asyncio.get_running_loop().time()
            status = await (await running.send(world.device, b"x", deadline=now + 10)).wait()
            await asyncio.sleep(1000)
            return status

    assert "nothing of it was given to the DCC" in world.run(main).reason
    assert world.dcc.sent == []


def test_the_certificate_of_an_outside_signer_is_needed(world):
    world.keystore = world.pki.keystore(without="supplier")

    async def main():
        async with gateway(world, Signer(world)):
            pass

    with pytest.raises(ConfigurationError, match="digital-signature"):
        world.run(main)


@pytest.mark.parametrize("url", ["ftp://x", "http://example.org", "https://", "127.0.0.1"])
def test_an_address_that_cannot_be_is_refused(url):
    with pytest.raises(ConfigurationError, match=r"signing\.url"):
        SigningServiceConfig(url=url).check()
