"""The internet between CEMs and DSRSP in a simulation: route 2b without sockets, on virtual time.

Sessions, handshakes, links and clients are the real ones of `dsrsp.route_2b` and `cem.route_2b`;
only TLS and WebSocket are replaced, by queues with a delay.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import random
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cem.errors import LinkError, PinMismatch
from cem.route_2b.dialling import Dialler
from dsrsp.route_2b import Application, Route2bServerConfig
from dsrsp.route_2b.links import Links
from dsrsp.route_2b.revocation import Revocations
from dsrsp.route_2b.session import Sessions
from dsrsp.signing import LocalSigner
from gbcs.certificates import Role
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bClosed
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Randomness
from gbcs.route_2b_texts import VERSION, CloseCode
from gbcs.route_2b_trust import Connection
from lab.errors import VirtualError
from lab.virtual_process import Life
from lab.virtual_tape import Tape
from smtunnel.routes import RouteOffer

ADDRESS = "wss://dsrsp.virtual:8443"
PIN = sha256(b"the certificate of the simulated server").digest()
_ROUND_TRIPS_TO_DIAL = 3
"""TCP, TLS 1.3 and the WebSocket's request."""


@dataclass(frozen=True, slots=True)
class InternetSettings:
    """What the simulated internet is like.

    Attributes:
        round_trip_s: there and back, in seconds. Assumed: a home's line to a data centre.
        jitter_s: up to so much more on each way, at random, in seconds; order is kept.
        line: makes one way of one connection, "up" from the CEM or "down", in place of both: what
            so many octets take on it, in seconds; order is kept.
    """

    round_trip_s: float = 0.030
    jitter_s: float = 0.0
    line: Callable[[str], Callable[[int], float]] | None = None


_GOING_AWAY: Final = 1001


class VirtualPipe:
    """One end of a connection; a `gbcs.route_2b_trust.Connection`."""

    certificate_sha256 = PIN

    def __init__(self, delay_s: Callable[[int], float], say: Callable[[bytes], None]) -> None:
        self._delay_s = delay_s
        self._say = say
        self._arrived: asyncio.Queue[str | bytes | Route2bClosed] = asyncio.Queue()
        self._ended: Route2bClosed | None = None
        self._last_at = 0.0
        self.other: VirtualPipe

    async def receive(self) -> str | bytes:
        """Return the next message."""
        got = await self._arrived.get()
        if isinstance(got, Route2bClosed):
            # Whoever asks once more is told once more.
            self._arrived.put_nowait(got)
            raise got
        return got

    async def send(self, message: str | bytes) -> None:
        """Send one message; it arrives later, unless the connection breaks meanwhile."""
        if self._ended is not None:
            raise self._ended
        octets = message.encode() if isinstance(message, str) else message
        self._say(octets)
        self._later(functools.partial(self.other.arrive, message), len(octets))

    async def close(self, code: int, reason: str) -> None:
        """End the connection; the other end is told why, after what was sent before."""
        if self._ended is None:
            self._later(functools.partial(self.other.end, Route2bClosed(code, reason)))
            self.end(Route2bClosed(None, ""))

    def arrive(self, message: str | bytes) -> None:
        """Take what the other end has sent."""
        if self._ended is None:
            self._arrived.put_nowait(message)

    def end(self, told: Route2bClosed) -> None:
        """Break this end; nothing more arrives."""
        if self._ended is None:
            self._ended = told
            self._arrived.put_nowait(told)

    def _later(self, what: Callable[[], None], octets: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._last_at = max(self._last_at, loop.time() + self._delay_s(octets))
        loop.call_at(self._last_at, what)


class VirtualInternet:
    """Where the DSRSP's server is found, and what can go wrong on the way.

    Args:
        settings: how fast it is.
        tape: gets what is said.
        seed: of what is random.
    """

    def __init__(self, settings: InternetSettings, tape: Tape, seed: int) -> None:
        self._settings = settings
        self._tape = tape
        self._chance = random.Random(f"{seed}/internet")  # noqa: S311  # to come out the same
        self._server: VirtualServer | None = None
        self._open: dict[EntityId, VirtualPipe] = {}
        self._offline: Counter[EntityId] = Counter()
        self.dialled = 0
        """How many connections were opened."""

    def delay_s(self, octets: int) -> float:
        """Return how long a message takes on its way, in seconds; its length does not count."""
        settings = self._settings
        return settings.round_trip_s / 2 + self._chance.random() * settings.jitter_s

    def listen(self, server: VirtualServer) -> None:
        """Let a server be found."""
        self._server = server

    def listen_no_more(self, server: VirtualServer) -> None:
        """Let a server be found no more."""
        if self._server is server:
            self._server = None

    # What goes wrong

    def cut(self, device: EntityId) -> bool:
        """Break a CEM's connection, with all that is on its way; False: there is none."""
        ours = self._open.pop(device, None)
        if ours is None:
            return False
        for end in (ours, ours.other):
            end.end(Route2bClosed(None, ""))
        return True

    def take_offline(self, device: EntityId) -> None:
        """Take a CEM's internet away."""
        self._offline[device] += 1
        self.cut(device)

    def bring_online(self, device: EntityId) -> None:
        """Give a CEM its internet back."""
        self._offline[device] -= 1

    def dialler(self, life: Life) -> Dialler:
        """Return what opens connections for one life of a CEM's process."""

        @contextlib.asynccontextmanager
        async def dial(
            address: str, device: EntityId, pins: Collection[bytes]
        ) -> AsyncIterator[Connection]:
            await asyncio.sleep(self._settings.round_trip_s * _ROUND_TRIPS_TO_DIAL)
            if not life.alive or self._offline[device] > 0:
                raise LinkError(f"cannot connect to {address}: no way there")
            server = self._server
            if server is None or address != ADDRESS:
                raise LinkError(f"cannot connect to {address}: connection refused")
            if PIN not in pins:
                raise PinMismatch("the server shows another certificate than the offer names")
            ours = self._connect(device, server)
            cut = functools.partial(self._cut_pipe, device, ours)
            life.at_end(cut)
            try:
                yield ours
            finally:
                life.not_at_end(cut)
                if life.alive and self._open.get(device) is ours:
                    # In order: what was sent before arrives.
                    del self._open[device]
                    await ours.close(_GOING_AWAY, "")

        return dial

    def _connect(self, device: EntityId, server: VirtualServer) -> VirtualPipe:
        ours, theirs = (
            VirtualPipe(self._line(way), functools.partial(self._tape.write, f"route 2b {what}"))
            for way, what in (("up", f"{device} to DSRSP"), ("down", f"DSRSP to {device}"))
        )
        ours.other, theirs.other = theirs, ours
        self.cut(device)
        self._open[device] = ours
        self.dialled += 1
        server.accept(theirs, device)
        return ours

    def _line(self, way: str) -> Callable[[int], float]:
        make = self._settings.line
        return self.delay_s if make is None else make(way)

    def _cut_pipe(self, device: EntityId, ours: VirtualPipe) -> None:
        if self._open.get(device) is ours:
            self.cut(device)


class VirtualServer:
    """Route 2b's server of one life of the DSRSP's process; a `dsrsp.route_ports.RouteServer`.

    Args:
        internet: where it is found.
        life: of the process.
        keystore: certificates of devices, and the supplier's certificate and key.
        dsrsp: the supplier's EUI.
        application: whom it serves.
        clock: the wall clock.
        random_octets: for nonces.
    """

    def __init__(
        self,
        internet: VirtualInternet,
        life: Life,
        keystore: KeyStore,
        dsrsp: EntityId,
        application: Application,
        *,
        clock: Clock,
        random_octets: Randomness,
    ) -> None:
        self._internet = internet
        self._life = life
        self._clock = clock
        self._config = Route2bServerConfig(
            listen="dsrsp.virtual:8443",
            certificate="none",
            private_key="none",
            addresses=[ADDRESS],
        )
        self._links = Links()
        self._sessions = Sessions(
            self._config,
            dsrsp=dsrsp,
            keystore=keystore,
            signer=LocalSigner(keystore.signer(dsrsp, role=Role.SUPPLIER)),
            revocations=Revocations(None, None, fresh_s=self._config.revocation_check_s),
            links=self._links,
            application=application,
            clock=clock,
            random_octets=random_octets,
        )
        self._tasks: set[asyncio.Task[None]] = set()
        # In their order, which must be the same in every run.
        self._pipes: dict[VirtualPipe, None] = {}

    async def start(self, listener: socket.socket | None = None) -> None:
        """Begin to take connections."""
        if listener is not None:
            raise VirtualError("a simulated server has no socket")
        self._internet.listen(self)
        self._life.at_end(self._vanish)

    async def close(self) -> None:
        """Close all connections and stop."""
        self._life.not_at_end(self._vanish)
        self._vanish()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _vanish(self) -> None:
        self._internet.listen_no_more(self)
        for pipe in self._pipes:
            for end in (pipe, pipe.other):
                end.end(Route2bClosed(None, ""))

    def accept(self, pipe: VirtualPipe, device: EntityId) -> None:
        """Serve a connection until it ends."""
        self._pipes[pipe] = None
        task = asyncio.get_running_loop().create_task(self._serve(pipe, device))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, pipe: VirtualPipe, device: EntityId) -> None:
        try:
            await self._sessions.serve(pipe, device, lambda: None)
        finally:
            self._pipes.pop(pipe, None)

    @property
    def port(self) -> int:
        """No port: nothing is listened on."""
        return 0

    def offer(self, number: int) -> RouteOffer:
        """Return an offer of this server that holds from now on."""
        now = int(self._clock())
        return RouteOffer(
            offer=number,
            addresses=tuple(self._config.addresses),
            pins=(PIN,),
            not_before=now,
            not_after=now + int(self._config.offer_valid_s),
            versions=(VERSION,),
            message_octets=self._config.message_octets,
        )

    def devices(self) -> list[EntityId]:
        """Return who is connected."""
        return [link.device for link in self._links]

    def send(
        self, device: EntityId, message: bytes, written: Callable[[], None] | None = None
    ) -> bool:
        """Queue a signed message for a device; see `dsrsp.route_2b.Route2bServer.send`."""
        link = self._links.get(device)
        return link is not None and link.send(message, written)

    def put_out(self, device: EntityId, code: CloseCode, reason: str) -> None:
        """Close a device's connection."""
        link = self._links.get(device)
        if link is not None:
            link.end(code, reason)
