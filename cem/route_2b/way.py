"""Route 2b as the gateway's tunnel uses it: signs what goes out, takes in what comes."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import deque
from collections.abc import Callable

from cem.config import CemConfig
from cem.core.tunnel import TunnelEnd
from cem.errors import AlertError, StoreError
from cem.route_2b.client import Phase, Route2bClient, RouteState
from cem.route_2b.dialling import Dialler
from cem.telling import Teller
from gbcs.entity_id import EntityId
from gbcs.header import CraFlag
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Randomness, Signer
from gbcs.route_2b import Route2bMessage, payload_capacity, sign_route_2b
from smtunnel.limits import message_octets_within
from smtunnel.routes import RouteOffer
from smtunnel.send_events import Transmit

logger = logging.getLogger("cem")

SETTLE_S = 0.02
"""So long after a message has come its receipt goes, in seconds: by then the application has most
likely answered, what came meanwhile shares the write to the disk, and the receipts one message."""

SETTLE_AGAIN_S = 1.0
"""The same after the store has failed."""

_LEAVES_WITHIN_S = 1.0
"""So long, in seconds, the connection has at the end to take what is queued."""


class Route2bWay:
    """Carries whole messages over the internet, while a connection stands.

    Args:
        config: the gateway's settings.
        keystore: this device's key, the DSRSP's certificate and those above it.
        signer: the device's digital-signature key.
        tunnel: gives out what goes, takes what comes.
        teller: tells what happens.
        busy: whether too many received messages wait for the application.
        dialler: opens connections; None: WebSockets over TLS.
        wall: the wall clock: offers hold by it.
        clock: what all else is measured by; see `gbcs.steady`.
        random_octets: for nonces and jitter.
    """

    def __init__(
        self,
        config: CemConfig,
        keystore: KeyStore,
        signer: Signer,
        tunnel: TunnelEnd,
        teller: Teller,
        *,
        busy: Callable[[], bool],
        dialler: Dialler | None,
        wall: Clock,
        clock: Clock,
        random_octets: Randomness,
    ) -> None:
        self._device = config.device_id
        self._supplier = config.supplier_id
        self._signer = signer
        self._tunnel = tunnel
        self._teller = teller
        self._busy = busy
        self._clock = clock
        self._settling: asyncio.TimerHandle | None = None
        self.up = asyncio.Event()
        """Set while a connection stands."""
        self._followed: RouteOffer | None = None
        # At most what the tunnel's end gives out without hearing that it has gone.
        self._waiting: deque[Transmit] = deque()
        self.client = Route2bClient(
            config.route_2b,
            keystore,
            config.device_id,
            config.supplier_id,
            self,
            changed=self._changed,
            dialler=dialler,
            clock=wall,
            random_octets=random_octets,
        )

    def follow(self, offer: RouteOffer | None) -> None:
        """Follow this offer, or none, from now on."""
        if offer == self._followed:
            return
        self._followed = offer
        if offer is None:
            self.client.rest()
        else:
            self.client.use(offer)

    def transmit(self, transmit: Transmit) -> None:
        """Sign a message and send it; where no connection stands, nothing happens."""
        if self.client.state.phase is Phase.UP:
            self._waiting.append(transmit)
            self._pump()

    def _pump(self) -> None:
        """Queue what waits, while there is room: signed when its turn comes."""
        while self._waiting:
            transmit = self._waiting[0]
            counter = transmit.originator_counter
            message = Route2bMessage(
                originator_id=self._device,
                target_id=EntityId(transmit.peer),
                originator_counter=counter,
                cra_flag=CraFlag.ALERT,
                payload=transmit.octets,
            )
            octets = sign_route_2b(message, self._signer).to_bytes()
            if not self.client.send(octets, functools.partial(self._written, counter)):
                # The queue is full: what is written next makes room.
                return
            self._waiting.popleft()
            self._teller.tell_whole(transmit, octets)

    def _written(self, counter: int) -> None:
        try:
            self._tunnel.written(counter, self._clock())
        except (StoreError, AlertError) as error:
            logger.error("cannot note that a message has gone by route 2b: %s", error)
        self._pump()
        self._settle_soon()

    def _settle_soon(self) -> None:
        """Let what was taken be durable, and its receipts go, when others have had their turn."""
        if self._settling is None and self._tunnel.unsettled:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(SETTLE_S, self._settle)

    def _settle(self) -> None:
        self._settling = None
        try:
            self._tunnel.settle(self._clock())
        except (StoreError, AlertError) as error:
            logger.error("what came by route 2b waits for the store: %s", error)
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(SETTLE_AGAIN_S, self._settle)

    async def leave(self) -> None:
        """Give the receipts that are owed, while the connection stands."""
        if self._settling is not None:
            self._settling.cancel()
            self._settle()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LEAVES_WITHIN_S):
                await self.client.drain()

    def close(self) -> None:
        """Leave what is held durable, if that is possible."""
        if self._settling is not None:
            self._settling.cancel()
            self._settle()
            if self._settling is not None:
                self._settling.cancel()

    # What the client tells

    def connected(self, *, message_octets: int) -> None:
        """Take note that the route is up."""
        self.up.set()
        longest = message_octets_within(payload_capacity(message_octets))
        try:
            self._tunnel.route_up(longest, self._clock())
        except (StoreError, AlertError) as error:
            logger.error("route 2b is up, and waits for the store: %s", error)

    async def received(self, message: Route2bMessage) -> None:
        """Take a message; what cannot be stored now has no receipt, and comes again."""
        try:
            self._tunnel.receive_message(
                message.payload, message.originator_counter, self._clock(), busy=self._busy()
            )
        except (StoreError, AlertError) as error:
            logger.error("a message by route 2b is not taken: %s", error)
        self._settle_soon()
        # Whoever floods us must not keep everybody else from their turn.
        await asyncio.sleep(0)

    def disconnected(self, reason: str) -> None:
        """Take note that the route is down."""
        self.up.clear()
        self._waiting.clear()
        try:
            self._tunnel.route_down(self._clock())
        except (StoreError, AlertError) as error:
            logger.error("route 2b is down, and that is not stored: %s", error)

    def _changed(self, state: RouteState) -> None:
        self._teller.tell_route(self._supplier, state.phase.value, state.reason, state.retry_in_s)
