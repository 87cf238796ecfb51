"""The server's own signature comes from elsewhere: late, wrong, refused, not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cem.route_2b import Phase
from dsrsp.errors import SignerUnavailable, SigningRefused
from dsrsp.signing import CheckedSigner
from gbcs.route_2b_transcript import Transcript


class Signer:
    """Has the supplier's key, and gives what the test says."""

    def __init__(self, parties: Any) -> None:
        self.key = parties.signer(parties.supplier)
        self.trouble: Exception | bytes | None = None
        self.asked: list[Transcript] = []
        self.begun = asyncio.Event()
        self.hold = asyncio.Event()
        self.hold.set()

    async def sign(self, transcript: Transcript) -> bytes:
        self.asked.append(transcript)
        self.begun.set()
        await self.hold.wait()
        if isinstance(self.trouble, Exception):
            raise self.trouble
        signature: bytes = self.key.sign(transcript.server_octets())
        return self.trouble or signature


def checked(bench: Any, signer: Signer) -> CheckedSigner:
    return CheckedSigner(signer, bench.parties.supplier_signs.certificate.public_key)


async def test_the_proof_is_signed_elsewhere_and_nobody_waits_for_anothers(bench: Any) -> None:
    parties = bench.parties
    signer = Signer(parties)
    # The key store has certificates alone.
    server = await bench.server(keystore=parties.store(), signer=checked(bench, signer))
    signer.hold.clear()
    _, slow = bench.client(bench.offer(server))
    await signer.begun.wait()
    signer.hold, held = asyncio.Event(), signer.hold
    signer.hold.set()
    _, quick = bench.client(bench.offer(server), device=parties.other_device)
    await quick.next(Phase.UP.name)
    assert server.devices() == [parties.other_device]
    held.set()
    await slow.next(Phase.UP.name)
    assert {one.device for one in signer.asked} == {parties.device, parties.other_device}
    assert {one.certificate_sha256 for one in signer.asked} == set(server.pins)


@pytest.mark.parametrize(
    ("trouble", "wait_s"),
    [
        (SignerUnavailable("connection refused"), 15),
        (SigningRefused("HTTP 403: not on a Sunday"), 300),
        (bytes(64), 300),
    ],
)
async def test_a_server_that_cannot_prove_itself_says_when_to_come_again(
    bench: Any, trouble: Exception | bytes, wait_s: int
) -> None:
    signer = Signer(bench.parties)
    signer.trouble = trouble
    server = await bench.server(keystore=bench.parties.store(), signer=checked(bench, signer))
    _, told = bench.client(bench.offer(server))
    _, reason, retry_in_s = await told.next(Phase.DOWN.name)
    assert "4429" in reason
    assert "cannot prove itself" in reason
    assert wait_s <= retry_in_s <= wait_s * 1.11
    assert server.devices() == []
    # Nobody but a device that has proven itself costs a signature.
    stranger = await bench.raw(server)
    await stranger.send(bench.handshake(server).begin())
    await stranger.recv()
    await stranger.send('{"type": "proof", "signature": "%s"}' % ("A" * 86 + "=="))
    await stranger.wait_closed()
    assert (stranger.close_code, len(signer.asked)) == (4401, 1)
