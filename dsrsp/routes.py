"""Route 2b in the gateway: makes offers, carries whole messages, tells the tunnel who is there."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from dataclasses import dataclass, replace
from typing import Final

from dsrsp.config import DsrspConfig
from dsrsp.core.offers import Offers, OfferState, RouteRecord, terms_of
from dsrsp.errors import ConfigurationError, RouteNotOffered, StorageError
from dsrsp.news import News
from dsrsp.ports import Storage
from dsrsp.route_2b.gate import Complaints
from dsrsp.route_2b.server import Route2bServer
from dsrsp.route_2b.session import Application
from dsrsp.route_ports import MakeServer, RouteServer, RouteTunnel
from dsrsp.route_signing import SigningQueue
from dsrsp.signing import SupplierSigner
from gbcs.certificates import Role
from gbcs.entity_id import EntityId
from gbcs.errors import GbcsError
from gbcs.header import CraFlag
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, Randomness, Signer
from gbcs.route_2b import Route2bMessage, payload_capacity, sign_route_2b
from gbcs.route_2b_texts import CloseCode, build_try_later
from runner_io.http_listening import listen_reason
from smtunnel.limits import message_octets_within
from smtunnel.outbound import CONTROL_REF
from smtunnel.routes import RouteAnswer, RouteWithdrawn
from smtunnel.send_events import Transmit

logger = logging.getLogger("dsrsp")

_CLOCK_SKEW_S: Final = 86_400
"""Offers begin so long before they are made, in seconds: a CEM's clock may be behind ours."""

_LOOK_EVERY_S: Final = 3600.0
"""Longest sleep to a time of the wall clock, which somebody may set meanwhile."""


@dataclass(frozen=True, slots=True)
class RouteInfo:
    """How route 2b stands with one CEM.

    Attributes:
        device: which CEM.
        connected: whether it is connected now.
        offer: its newest offer; None: it never had one.
    """

    device: EntityId
    connected: bool
    offer: RouteRecord | None


class Routes:
    """Route 2b with all CEMs.

    Args:
        config: the gateway's settings.
        storage: has the offers of earlier processes.
        tunnel: gives out what goes, takes what comes.
        make_server: makes the server; None: route 2b is not configured, and offers that still hold
            are withdrawn.
        signer: the supplier's digital-signature key, at hand: each message is signed and sent at
            once.
        elsewhere: the same, where it is not at hand: messages wait in a queue for their signatures.
            None of both only without a server.
        wall: the wall clock.
        news: tells what happens.
    """

    def __init__(
        self,
        config: DsrspConfig,
        *,
        storage: Storage,
        tunnel: RouteTunnel,
        make_server: MakeServer | None,
        signer: Signer | None,
        elsewhere: SupplierSigner | None,
        wall: Clock,
        news: News,
    ) -> None:
        self._config = config
        self._tunnel = tunnel
        self._signer = signer
        self._wall = wall
        self._news = news
        self._offers = Offers(storage.route_offers())
        self._server = None if make_server is None else make_server(self)
        self._queue = None if elsewhere is None else SigningQueue(config, elsewhere, self)
        self._to_consider: dict[EntityId, None] = {}
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False
        self._complaints = Complaints(logger)

    # Life

    async def start(self, listener: socket.socket | None) -> None:
        """Begin to take connections and to make offers."""
        if self._server is not None:
            try:
                await self._server.start(listener)
            except OSError as error:
                raise ConfigurationError(
                    f"route 2b cannot listen: {listen_reason(error)}"
                ) from None
        for device in (*self._tunnel.known_devices(), *self._offers.devices()):
            self._to_consider[device] = None
        self._task = asyncio.create_task(self._make_offers(), name="dsrsp route offers")

    async def close(self) -> None:
        """Close all connections; after a restart every route is down by itself."""
        self._closing = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._queue is not None:
            await self._queue.close()
        if self._server is not None:
            await self._server.close()

    @property
    def port(self) -> int:
        """The port of the server; 0 where there is none."""
        return 0 if self._server is None else self._server.port

    # Offers

    async def _make_offers(self) -> None:
        while True:
            self._something.clear()
            for device in self._offers.take_due(self._wall()):
                self._to_consider[device] = None
            try:
                while self._to_consider:
                    self._consider(next(iter(self._to_consider)))
                    # There may be thousands of them.
                    await asyncio.sleep(0)
            except StorageError as error:
                logger.error("route offers wait for the disk: %s", error)
                await asyncio.sleep(self._config.retry_max_s)
                continue
            except RouteNotOffered as error:
                logger.error("%s", error)
                del self._to_consider[next(iter(self._to_consider))]
                continue
            except Exception:
                # A fault of ours with one CEM must not keep the others from their offers.
                device = next(iter(self._to_consider))
                logger.exception("unforeseen error with the route offer to %s", device)
                del self._to_consider[device]
                continue
            due = self._offers.next_due()
            wait_s = _LOOK_EVERY_S if due is None else min(due - self._wall(), _LOOK_EVERY_S)
            try:
                async with asyncio.timeout(max(0.0, wait_s)):
                    await self._something.wait()
            except TimeoutError:
                continue

    def _consider(self, device: EntityId) -> None:
        """Offer or withdraw what is to be offered or withdrawn by itself."""
        now = self._wall()
        if self._server is None:
            if self._offers.wants_withdrawal(device, now):
                self._withdraw(device, by_hand=False)
        elif self._config.offer_route_2b and self._offers.wants_offer(
            device, terms_of(self._server.offer(1)), now
        ):
            self._offer(self._server, device)
        del self._to_consider[device]

    def offer(self, device: EntityId) -> RouteRecord:
        """Offer route 2b to a CEM, whatever was before.

        Raises:
            RouteNotOffered: there is no server.
            StorageError: it could not be stored.
        """
        if self._server is None:
            raise RouteNotOffered(
                "route 2b is not configured here: set [gateway.route_2b], see --example-config"
            )
        return self._offer(self._server, device)

    def _offer(self, server: RouteServer, device: EntityId) -> RouteRecord:
        now = self._wall()
        made = server.offer(self._offers.next_number(device, now))
        offer = replace(made, not_before=max(0, made.not_before - _CLOCK_SKEW_S))
        record = RouteRecord(
            device=device,
            number=offer.offer,
            terms=terms_of(offer),
            offered_at=now,
            not_after=float(offer.not_after),
        )
        self._tunnel.tell_route(record, offer)
        return record

    def withdraw(self, device: EntityId) -> RouteRecord:
        """Withdraw the offer to a CEM and close its connection; it gets no other by itself.

        Raises:
            RouteNotOffered: it has no offer that holds.
            StorageError: it could not be stored.
        """
        newest = self._offers.newest(device)
        if newest is None or newest.state is OfferState.WITHDRAWN:
            raise RouteNotOffered(f"{device} has no offer of route 2b that could be withdrawn")
        return self._withdraw(device, by_hand=True)

    def _withdraw(self, device: EntityId, *, by_hand: bool) -> RouteRecord:
        newest = self._offers.newest(device)
        if newest is None:
            raise RouteNotOffered(f"{device} never had an offer of route 2b")
        record = replace(newest, state=OfferState.WITHDRAWN, by_hand=by_hand)
        self._tunnel.tell_route(record, RouteWithdrawn(record.number))
        if self._server is not None:
            self._server.put_out(device, CloseCode.OFFER_OVER, "the offer is withdrawn")
        return record

    def info(self) -> list[RouteInfo]:
        """Return how route 2b stands with each CEM that ever had an offer, or is connected."""
        connected = set(() if self._server is None else self._server.devices())
        devices = sorted(connected.union(self._offers.devices()), key=lambda device: device.octets)
        return [RouteInfo(one, one in connected, self._offers.newest(one)) for one in devices]

    # What the tunnel's end asks and tells

    def heard(self, device: EntityId, answer: RouteAnswer) -> RouteRecord | None:
        """Return what is to be stored of an answer to an offer; None: nothing."""
        return self._offers.answered(device, answer, self._wall())

    def stored(self, record: RouteRecord) -> None:
        """Take over an offer's record that is stored."""
        self._offers.remember(record)
        self._something.set()
        self._news.tell_offer(record)

    def introduced(self, device: EntityId) -> None:
        """Take note that a CEM has said what it understands: it may be made an offer."""
        self._to_consider[device] = None
        self._something.set()

    def transmit(self, transmit: Transmit) -> None:
        """Sign a message and send it; to whom is not connected, nothing goes."""
        if self._server is None:
            return
        message = Route2bMessage(
            originator_id=self._config.supplier_id,
            target_id=EntityId(transmit.peer),
            originator_counter=transmit.originator_counter,
            cra_flag=CraFlag.COMMAND,
            payload=transmit.octets,
        )
        if self._signer is not None:
            self.carry(transmit, sign_route_2b(message, self._signer))
        elif self._queue is not None:
            self._queue.put(transmit, message)

    # What the queue for signatures asks and tells

    def carry(self, transmit: Transmit, message: Route2bMessage) -> None:
        """Send a signed message."""
        if self._server is None:
            return
        octets = message.to_bytes()
        written = functools.partial(self._written, transmit.originator_counter)
        if self._server.send(message.target_id, octets, written):
            self._news.tell_whole(transmit, octets)

    def wanted(self, transmit: Transmit) -> bool:
        """Tell whether a message is still to go: it may have ended while it waited."""
        if transmit.ref.startswith(CONTROL_REF):
            return True
        try:
            status = self._tunnel.status(transmit.ref)
        except StorageError:
            return True
        return status is None or not status.final

    def refused(self, transmit: Transmit) -> None:
        """Let a message that is not signed count as one that was lost on its way.

        For the tunnel's end the connection has taken it, and no receipt will come: it sends it
        again after the receipt timeout, and after ``attempts_2b`` of them by route 2a.
        """
        self._written(transmit.originator_counter)

    def too_much(self, device: EntityId, wait_s: float, why: str) -> None:
        """Close a connection for which no more can wait; the tunnel's end has all that did."""
        if self._server is not None:
            self._server.put_out(device, CloseCode.TRY_LATER, build_try_later(wait_s, why))

    def _written(self, counter: int) -> None:
        try:
            self._tunnel.written(counter)
        except StorageError as error:
            logger.error("cannot note that message %d has gone by route 2b: %s", counter, error)

    # What the server tells

    def check_offer(self, device: EntityId, offer: int) -> str | None:
        """Say what is wrong with the offer that a device follows; None: nothing."""
        return self._offers.check(device, offer, self._wall())

    def connected(self, device: EntityId, *, message_octets: int) -> None:
        """Take note that a device is there."""
        self._news.tell_route(device, "up")
        longest = message_octets_within(payload_capacity(message_octets))
        try:
            self._tunnel.route_up(device, longest)
        except StorageError as error:
            logger.error("route 2b to %s is up, and waits for the disk: %s", device, error)

    async def received(self, device: EntityId, message: Route2bMessage) -> None:
        """Take a message; what cannot be stored now has no receipt, and comes again."""
        try:
            full = self._tunnel.receive_message(device, message.payload, message.originator_counter)
        except StorageError as error:
            full = str(error)
        if full is not None:
            # As often as the device likes: the log must not fill the disk.
            text = "a message of %s by route 2b has to come again: %s"
            self._complaints.tell(text, device, full)
        # One CEM that floods us must not keep the others from their turn.
        await asyncio.sleep(0)

    def disconnected(self, device: EntityId, reason: str) -> None:
        """Take note that a device has gone."""
        if self._queue is not None:
            self._queue.forget(device)
        self._news.tell_route(device, "down", reason)
        if self._closing:
            return
        try:
            self._tunnel.route_down(device)
        except StorageError as error:
            logger.error("route 2b to %s is down, and that is not stored: %s", device, error)


def open_routes(
    config: DsrspConfig,
    keystore: KeyStore,
    *,
    storage: Storage,
    tunnel: RouteTunnel,
    make_server: MakeServer | None,
    elsewhere: SupplierSigner | None,
    wall: Clock,
    random_octets: Randomness,
    journal: Journal,
) -> Routes:
    """Make route 2b of a gateway.

    Args:
        config: the gateway's settings.
        keystore: the devices' certificates, and the supplier's key where it is at hand.
        storage: has the offers of earlier processes.
        tunnel: gives out what goes, takes what comes.
        make_server: makes the server, if not the one that the settings are of.
        elsewhere: signs as the supplier, and lets no wrong signature through; None: its key is in
            the key store.
        wall: the wall clock.
        random_octets: for nonces.
        journal: writes down what happens.

    Raises:
        ConfigurationError: certificate or key of the server, or the supplier's key, cannot be used.
    """
    settings = config.route_2b
    signer: Signer | None = None
    if elsewhere is None and (settings is not None or make_server is not None):
        try:
            signer = keystore.signer(config.supplier_id, role=Role.SUPPLIER)
        except GbcsError as error:
            raise ConfigurationError(
                "route 2b signs each message when it goes: the supplier's private key must be "
                f"among the keys, or [gateway.signing] name a service that has it: {error}"
            ) from None
    if settings is not None and make_server is None:

        def make_server(application: Application) -> RouteServer:
            return Route2bServer(
                settings,
                keystore,
                config.supplier_id,
                application,
                signer=elsewhere,
                clock=wall,
                random_octets=random_octets,
            )

    return Routes(
        config,
        storage=storage,
        tunnel=tunnel,
        make_server=make_server,
        signer=signer,
        elsewhere=elsewhere,
        wall=wall,
        news=News(journal),
    )
