"""Client and server without sockets, on a virtual clock: hours of reconnecting in a moment."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import AsyncIterator, Collection
from typing import Any

import pytest

from cem.errors import LinkError
from cem.route_2b import Phase, Route2bClient, Route2bClientConfig, RouteState
from dsrsp.route_2b import Route2bServerConfig
from dsrsp.route_2b.links import Links
from dsrsp.route_2b.revocation import Revocations
from dsrsp.route_2b.session import Sessions
from dsrsp.signing import LocalSigner
from gbcs import EcdsaSigner, EntityId
from gbcs.errors import Route2bClosed
from gbcs.route_2b import Route2bMessage
from gbcs.route_2b_texts import CloseCode, build_try_later
from lab.virtual_time import run_virtual
from smtunnel.routes import RouteOffer

PIN = bytes(32)
OFFER = RouteOffer(
    offer=1, addresses=("wss://a", "wss://b"), pins=(PIN,), not_before=0, not_after=2**40,
    message_octets=1 << 20,
)  # fmt: skip


class Pipe:
    """One end of a connection in memory."""

    certificate_sha256 = PIN

    def __init__(self) -> None:
        self.other: Pipe
        self._arrived: asyncio.Queue[str | bytes | Route2bClosed] = asyncio.Queue()
        self.ended = False
        self._told = Route2bClosed(None, "")

    @classmethod
    def pair(cls) -> tuple[Pipe, Pipe]:
        one, other = cls(), cls()
        one.other, other.other = other, one
        return one, other

    async def receive(self) -> str | bytes:
        if self.ended and self._arrived.empty():
            raise self._told
        got = await self._arrived.get()
        if isinstance(got, Route2bClosed):
            raise got
        return got

    async def send(self, message: str | bytes) -> None:
        if self.ended:
            raise self._told
        self.other._arrived.put_nowait(message)

    async def close(self, code: int, reason: str) -> None:
        self.end(Route2bClosed(code, reason))

    def end(self, closed: Route2bClosed) -> None:
        """Break the connection for both ends."""
        for end, told in ((self.other, closed), (self, Route2bClosed(None, ""))):
            if not end.ended:
                end.ended, end._told = True, told
                end._arrived.put_nowait(told)


class Town:
    """A DSRSP's sessions, and a dialler to them that can be told to fail."""

    def __init__(self, parties: Any) -> None:
        self.taken: list[tuple[EntityId, int]] = []
        self.links = Links()
        self.dialled: list[tuple[float, str]] = []
        self.broken = False
        self.later: int | None = None
        self.pipes: list[Pipe] = []
        config = Route2bServerConfig(
            listen="h:1", certificate="c", private_key="k", addresses=["wss://a"]
        )
        self.sessions = Sessions(
            config,
            dsrsp=parties.supplier,
            keystore=parties.server_store,
            signer=LocalSigner(EcdsaSigner(parties.supplier_signs.private_key)),
            revocations=Revocations(None, None, fresh_s=1),
            links=self.links,
            application=self,
            clock=lambda: parties_now(parties),
            random_octets=random.Random(1).randbytes,
        )

    def check_offer(self, device: EntityId, offer: int) -> str | None:
        return None

    def connected(self, device: EntityId, *, message_octets: int) -> None:
        return

    async def received(self, device: EntityId, message: Route2bMessage) -> None:
        self.taken.append((device, message.originator_counter))

    def disconnected(self, device: EntityId, reason: str) -> None:
        return

    @contextlib.asynccontextmanager
    async def dial(
        self, address: str, device: EntityId, pins: Collection[bytes]
    ) -> AsyncIterator[Pipe]:
        self.dialled.append((asyncio.get_running_loop().time(), address))
        if self.broken:
            raise LinkError("nobody there")
        ours, theirs = Pipe.pair()
        self.pipes.append(ours)
        if self.later is not None:
            await theirs.close(CloseCode.TRY_LATER, build_try_later(self.later, "busy"))
            serving = None
        else:
            serving = asyncio.create_task(self.sessions.serve(theirs, device, lambda: None))
        try:
            yield ours
        finally:
            ours.end(Route2bClosed(1000, ""))
            if serving is not None:
                await serving


def parties_now(parties: Any) -> float:
    return parties.supplier_signs.certificate.not_before.timestamp() + 86_400.0


class Home:
    """A CEM's client."""

    def __init__(self, parties: Any, town: Town, **settings: Any) -> None:
        self.states: list[RouteState] = []
        self.up = asyncio.Event()
        self.client = Route2bClient(
            Route2bClientConfig(**settings),
            parties.device_store(parties.device),
            parties.device,
            parties.supplier,
            self,
            changed=self._changed,
            dialler=town.dial,
            clock=lambda: parties_now(parties),
            random_octets=random.Random(2).randbytes,
        )

    def _changed(self, state: RouteState) -> None:
        self.states.append(state)
        self.up.set() if state.phase is Phase.UP else self.up.clear()

    def connected(self, *, message_octets: int) -> None:
        return

    async def received(self, message: Route2bMessage) -> None:
        return

    def disconnected(self, reason: str) -> None:
        return


@pytest.fixture
def worlds(parties: Any) -> Any:
    @contextlib.asynccontextmanager
    async def make(**settings: Any) -> AsyncIterator[tuple[Town, Home]]:
        town = Town(parties)
        home = Home(parties, town, **settings)
        home.client.use(OFFER)
        running = asyncio.create_task(home.client.run())
        try:
            yield town, home
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    return make


def test_pauses_double_up_to_the_longest_and_are_jittered(worlds: Any) -> None:
    async def main() -> None:
        async with worlds(reconnect_min_s=1.0, reconnect_max_s=60.0) as (town, home):
            town.broken = True
            await asyncio.sleep(1000)
            pauses = [s.retry_in_s for s in home.states if s.phase is Phase.DOWN]
            for number, pause in enumerate(pauses):
                longest = min(60.0, 2.0**number)
                assert longest / 2 <= pause <= longest
            assert len(pauses) > 15
            assert [address for _, address in town.dialled[:4]] == ["wss://a", "wss://b"] * 2
            town.broken = False
            await home.up.wait()

    run_virtual(main())


def test_a_thousand_breaks_and_the_route_is_up_again_each_time(worlds: Any, parties: Any) -> None:
    async def main() -> None:
        chance = random.Random(3)
        async with worlds(reconnect_max_s=30.0) as (town, home):
            for number in range(1000):
                await home.up.wait()
                if chance.random() < 0.5:
                    assert home.client.send(parties.alert(number, b"x"))
                await asyncio.sleep(chance.choice([0, 0, 0.001, 5, 100]))
                town.pipes[-1].end(Route2bClosed(None, ""))
                await asyncio.sleep(0)
            assert len(town.links) <= 1
            counters = [counter for _, counter in town.taken]
            assert counters == sorted(set(counters))
            assert len(counters) > 100

    run_virtual(main())


def test_try_later_is_honoured(worlds: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with worlds(try_later_max_s=600.0) as (town, home):
            town.later = 120
            began = loop.time()
            await asyncio.sleep(119)
            assert len(town.dialled) == 1
            town.later = 10_000
            await asyncio.sleep(20)
            town.later = None
            await home.up.wait()
            # Believed up to ten minutes, and a tenth more at most.
            assert began + 120 + 600 <= loop.time() <= began + 132 + 660

    run_virtual(main())


def test_a_device_that_floods_or_flaps_is_held_to_its_allowance(worlds: Any, parties: Any) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with worlds(reconnect_min_s=0.01, reconnect_max_s=0.01) as (town, home):
            await home.up.wait()
            began = loop.time()
            message = parties.alert(1, b"x")
            for _ in range(8000):
                town.pipes[-1].other._arrived.put_nowait(message)
            await asyncio.sleep(1)
            # Half a minute's at once, but for the twenty of the connection, and a second's.
            assert 5980 <= len(town.taken) <= 6200
            await asyncio.sleep(10)
            assert len(town.taken) == 8000
            # Of the flapping there is no end, but a pace: ten a second.
            for _ in range(20):
                town.pipes[-1].end(Route2bClosed(None, ""))
                await asyncio.sleep(0.02)
                await home.up.wait()
            assert len(town.dialled) <= 20 + 10 * (loop.time() - began)
            assert any("4429" in s.reason for s in home.states if s.phase is Phase.DOWN)

    run_virtual(main())


def test_a_silent_server_is_left(worlds: Any) -> None:
    async def main() -> None:
        async with worlds(handshake_timeout_s=15.0) as (town, home):
            town.sessions.serve = lambda *_: asyncio.sleep(0)
            await asyncio.sleep(16)
            assert home.states[-2].phase is Phase.CONNECTING
            assert len(town.dialled) == 2

    run_virtual(main())


def test_who_is_refused_for_good_tries_again_after_hours(worlds: Any) -> None:
    """What closes a connection before the DSRSP is proven may be a mistake, or somebody else."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        async with worlds(refused_retry_s=7200.0) as (town, home):
            town.sessions._application.check_offer = lambda *_: "not known here"
            began = loop.time()
            await asyncio.sleep(3599)
            assert home.states[-1].phase is Phase.REFUSED
            assert home.states[-1].retry_in_s is not None
            # Only the first address: who has spoken has spoken for all.
            assert [address for _, address in town.dialled] == ["wss://a"]
            town.sessions._application.check_offer = lambda *_: None
            await home.up.wait()
            assert 3600 <= loop.time() - began <= 7200

    run_virtual(main())


def test_a_clock_that_is_set_opens_and_ends_an_offer(worlds: Any, parties: Any) -> None:
    """A home's clock may begin in 1970, and be set forward and back by whoever it listens to."""

    async def main() -> None:
        right = parties_now(parties)
        clock = [0.0]
        async with worlds() as (town, home):
            home.client._clock = lambda: clock[0]
            home.client.use(dataclasses.replace(
                OFFER, offer=2, not_before=int(right) - 10, not_after=int(right) + 10**6
            ))  # fmt: skip
            await asyncio.sleep(300)
            assert not town.dialled
            clock[0] = right
            await asyncio.sleep(61)
            assert home.up.is_set()
            clock[0] = right + 10**7
            await asyncio.sleep(61)
            assert not home.up.is_set()
            assert home.states[-1].phase is Phase.REFUSED
            await asyncio.sleep(86_400)
            clock[0] = right
            await asyncio.sleep(61)
            assert home.up.is_set()

    run_virtual(main())


def test_which_address_comes_next(worlds: Any) -> None:
    async def main() -> None:
        async with worlds(reconnect_min_s=1.0, reconnect_max_s=60.0) as (town, home):
            await home.up.wait()
            # A connection that stood and broke: a wait, then the first address.
            town.pipes[-1].end(Route2bClosed(None, ""))
            await asyncio.sleep(0)
            assert len(town.dialled) == 1
            await asyncio.sleep(1.001)
            await home.up.wait()
            assert [address for _, address in town.dialled] == ["wss://a", "wss://a"]
            # One that says nothing before it is proven: the next address at once, then a wait.
            # It stood less than the longest wait, so the waits go on growing.
            town.broken = True
            town.pipes[-1].end(Route2bClosed(None, ""))
            await asyncio.sleep(2.001)
            assert [address for _, address in town.dialled[2:]] == ["wss://a", "wss://b"]
            assert town.dialled[2][0] == town.dialled[3][0]
            assert home.states[-1].retry_in_s is not None
            assert home.states[-1].retry_in_s >= 2.0
            town.broken = False
            await home.up.wait()
            await asyncio.sleep(60)
            town.pipes[-1].end(Route2bClosed(None, ""))
            await asyncio.sleep(0)
            assert home.states[-1].retry_in_s is not None
            assert home.states[-1].retry_in_s <= 1.0

    run_virtual(main())
