"""The DSRSP's gateway: send messages to CEMs and receive theirs, through the DCC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import TracebackType
from weakref import WeakValueDictionary

from dsrsp.adaptor import Adaptor
from dsrsp.brake import Brake
from dsrsp.config import DsrspConfig
from dsrsp.core.matching import DccError, DeviceResponse, NotForUs, ReceivedReader
from dsrsp.core.offers import RouteRecord
from dsrsp.core.wishes import Wishes
from dsrsp.dcc_client import HttpDccClient
from dsrsp.errors import (
    ConfigurationError,
    GatewayNotRunning,
    StorageError,
    UnknownDevice,
    UnknownMessage,
)
from dsrsp.handles import Handle
from dsrsp.inbox import Inbox, ReceivedMessage
from dsrsp.ports import DccClient, Storage
from dsrsp.receiver import Receiver
from dsrsp.requests import Requests
from dsrsp.route_ports import MakeServer
from dsrsp.routes import RouteInfo, Routes, open_routes
from dsrsp.signing import CheckedSigner, LocalSigner, SupplierSigner
from dsrsp.store import SqliteStore
from dsrsp.tunnel import Tunnel
from gbcs.certificates import KeyUsage, Role
from gbcs.duis import Schema, XmlSigner
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, GbcsError
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal, Randomness
from gbcs.steady import SteadyClock
from openadr_xml import compact as compact_xml
from smtunnel import MessageStatus, RouteChoice
from smtunnel.records import Capabilities

logger = logging.getLogger("dsrsp")


class Gateway:
    """Carries messages between a DSRSP's application and its CEMs.

    ::

        async with Gateway(config, keystore) as gateway:
            handle = await gateway.send(device, message)
            status = await handle.wait()
            async for received in gateway.received():
                ...
                await received.ack()

    Args:
        config: the settings.
        keystore: the supplier's keys; certificates of the devices, of the DCC, and of issuers.
        clock: the wall clock.
        random_octets: names messages and spreads pauses.
        journal: writes down what happens: specs/journal.md.
        listener: a bound and listening socket for the receive address, instead of
            ``config.receive_listen``.
        schema: the DUIS schema, against which whatever is posted to us is validated.
        signer: signs as the supplier, if its digital-signature key is not in the key store. Its
            certificate is there: each signature is checked with it before it is used.
        dcc: reaches the DCC, if not over HTTP at ``config.dcc_url``; then no receive address is
            served either, and what the DCC posts is given to `receive_untrusted`.
        storage: durable state, if not the SQLite file ``config.state``; closed at the end.
        route_2b_listener: a listening socket for route 2b, instead of ``config.route_2b.listen``.
        route_2b_server: makes route 2b's server, if not the one that ``config.route_2b`` is of.
    """

    def __init__(
        self,
        config: DsrspConfig,
        keystore: KeyStore,
        *,
        clock: Clock = time.time,
        random_octets: Randomness = os.urandom,
        journal: Journal | None = None,
        listener: socket.socket | None = None,
        schema: Schema | None = None,
        signer: SupplierSigner | None = None,
        dcc: DccClient | None = None,
        storage: Storage | None = None,
        route_2b_listener: socket.socket | None = None,
        route_2b_server: MakeServer | None = None,
    ) -> None:
        config.check()
        self._config = config
        self._keystore = keystore
        self._clock = clock
        self._random_octets = random_octets
        self._journal: Journal = journal or NullJournal()
        self._listener = listener
        self._signer = signer
        self._dcc = dcc
        self._given_storage = storage
        self._route_2b_listener = route_2b_listener
        self._route_2b_server = route_2b_server
        self._reader = ReceivedReader(
            keystore,
            supplier_id=config.supplier_id,
            load_controller_id=config.load_controller_id,
            schema=schema,
        )
        self._handles: WeakValueDictionary[str, Handle] = WeakValueDictionary()
        self._stack = contextlib.AsyncExitStack()
        self._storage_open: Storage | None = None
        self._tunnel_open: Tunnel | None = None
        self._requests_open: Requests | None = None
        self._inbox_open: Inbox | None = None
        self._routes_open: Routes | None = None
        self._receiver: Receiver | None = None

    # Life

    async def __aenter__(self) -> Gateway:
        async with contextlib.AsyncExitStack() as stack:
            signer, xml_signer = self._keys()
            storage = self._given_storage or SqliteStore(
                self._config.state, supplier_id=self._config.supplier_id
            )
            stack.callback(storage.close)
            self._check_own_certificates(self._clock())
            monotonic = asyncio.get_running_loop().time
            steady = SteadyClock(
                self._clock,
                monotonic,
                wall_ahead_s=storage.load_wall_ahead(),
                not_before=storage.latest_time(),
            )
            now = steady()
            storage.forget_finished(
                before=now - self._config.keep_finished_s,
                requests_before=now - self._config.keep_requests_s,
            )
            dcc = self._dcc
            if dcc is None:
                dcc = await stack.enter_async_context(
                    HttpDccClient(
                        self._config.dcc_url, attempt_timeout_s=self._config.attempt_timeout_s
                    )
                )
            # Ends before what it uses: the store and the client.
            stack.push_async_callback(self._close)
            self._storage_open = storage
            routes = self._open(storage, steady, dcc, signer, xml_signer)
            await routes.start(self._route_2b_listener)
            if self._dcc is None:
                self._receiver = await stack.enter_async_context(
                    Receiver(
                        self.receive_untrusted,
                        listen=self._config.receive_listen,
                        path=self._config.receive_path,
                        listener=self._listener,
                    )
                )
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    def _keys(self) -> tuple[SupplierSigner, XmlSigner]:
        supplier, keystore = self._config.supplier_id, self._keystore
        signer: SupplierSigner
        try:
            if self._signer is None:
                signer = LocalSigner(keystore.signer(supplier, role=Role.SUPPLIER))
            else:
                usage = KeyUsage.DIGITAL_SIGNATURE
                certificate = keystore.certificate(supplier, usage, role=Role.SUPPLIER)
                signer = CheckedSigner(self._signer, certificate.public_key)
            return signer, XmlSigner.from_keystore(keystore, supplier, Role.XML_SIGNING_USER)
        except GbcsError as error:
            raise ConfigurationError(
                f"the supplier {supplier} needs a digital-signature key and an XML-signing key: "
                f"{error}"
            ) from None

    def _check_own_certificates(self, now: float) -> None:
        """Tell of certificates that the DCC will refuse; receiving goes on without them."""
        supplier = self._config.supplier_id
        usage = KeyUsage.DIGITAL_SIGNATURE
        for role in (Role.SUPPLIER, Role.XML_SIGNING_USER):
            try:
                certificate = self._keystore.certificate(supplier, usage, role=role)
                at = datetime.fromtimestamp(now, UTC)
                self._keystore.verify(
                    certificate, at=at, usage=usage, role=role, entity_id=supplier
                )
            except CertificateError as error:
                logger.error("what is sent now will be refused: %s", error)

    def _open(
        self,
        storage: Storage,
        steady: SteadyClock,
        dcc: DccClient,
        signer: SupplierSigner,
        xml_signer: XmlSigner,
    ) -> Routes:
        inbox = self._inbox_open = Inbox(storage.unacknowledged())
        tunnel = self._tunnel_open = Tunnel(
            self._config,
            storage=storage,
            inbox=inbox,
            wall=self._clock,
            clock=steady,
            random_octets=self._random_octets,
            journal=self._journal,
            tell=self._tell,
        )
        brake = Brake(
            steady,
            per_window=self._config.fragments_per_window,
            window_s=self._config.window_s,
            stops_on_quarantine=self._config.stop_on_quarantine,
        )
        brake.restore(storage.signed_since(steady() - self._config.window_s))
        requests = self._requests_open = Requests(
            self._config,
            storage=storage,
            journal=self._journal,
            keep=tunnel.keep_request,
            brake=brake,
        )
        adaptor = Adaptor(
            self._config,
            keystore=self._keystore,
            dcc=dcc,
            signer=signer,
            xml_signer=xml_signer,
            wall=self._clock,
            clock=steady,
            random_octets=self._random_octets,
            apply=requests.apply,
            brake=brake,
        )
        routes = self._routes_open = open_routes(
            self._config,
            self._keystore,
            storage=storage,
            tunnel=tunnel,
            make_server=self._route_2b_server,
            elsewhere=None if self._signer is None else signer,
            wall=self._clock,
            random_octets=self._random_octets,
            journal=self._journal,
        )
        # First what is under way; then what the tunnel's end has to add.
        requests.start(adaptor)
        tunnel.start(requests, routes)
        return routes

    async def _close(self) -> None:
        if self._routes_open is not None:
            await self._routes_open.close()
        if self._tunnel_open is not None:
            self._tunnel_open.stop()
        if self._requests_open is not None:
            await self._requests_open.stop()
        if self._inbox_open is not None:
            self._inbox_open.close()
        self._tunnel_open = self._requests_open = self._inbox_open = self._storage_open = None
        self._routes_open = None
        for handle in list(self._handles.values()):
            handle.close()

    @property
    def receive_port(self) -> int:
        """The port of the receive address; 0 where none is served."""
        return 0 if self._receiver is None else self._receiver.port

    @property
    def route_2b_port(self) -> int:
        """The port of route 2b's server; 0 where there is none."""
        return 0 if self._routes_open is None else self._routes_open.port

    def _running(self) -> tuple[Tunnel, Requests, Inbox]:
        if self._tunnel_open is None or self._requests_open is None or self._inbox_open is None:
            raise GatewayNotRunning("the gateway is not running: use it inside `async with`")
        return self._tunnel_open, self._requests_open, self._inbox_open

    # Sending

    async def send(
        self,
        device: EntityId,
        message: bytes,
        compression: str = "auto",
        *,
        compact: bool | None = None,
        deadline: float | None = None,
        priority: int = 0,
        topic: str | None = None,
        supersedes: str | None = None,
        route: RouteChoice = RouteChoice.AUTO,
        urgent: bool = False,
    ) -> Handle:
        """Take a message for a device; on return it survives a power cut.

        What is given up, because its deadline has passed or a newer one supersedes it, ends as
        failed. Its reason says what the CEM may have of it; the CEM drops incomplete parts. What
        is delivered by then stays delivered.

        Args:
            device: the CEM's EUI-64.
            message: any octets, up to ``max_message_octets``.
            compression: "auto" takes what is smallest and what the CEM is known to understand;
                or "zlib", "dictionary", "none".
            compact: whether OpenADR XML goes in its compact form, which is equal as canonical
                XML; None: as ``config.compact`` says. What is signed goes untouched always.
            deadline: when it is of no more use, in seconds since 1970; it is not sent after that.
                ``message_lifetime_s`` ends it at the latest.
            priority: higher goes first, to this device and to all.
            topic: what it is about, for instance an eventID, in up to 200 characters: messages on
                their way to this device about the same are superseded.
            supersedes: the ref of an older message to this device, which is superseded if it is
                still on its way.
            route: which routes it may take; see `smtunnel.RouteChoice`.
            urgent: True to go through the smart metering system at once where route 2b is down.

        Raises:
            UnknownMessage: there is no message ``supersedes``.
            UnknownDevice: there is no valid certificate to check its answers with.
            SendError: too long, too late, too many waiting, or a compression that does not exist
                or that the CEM does not understand; ``supersedes`` is for another device.
            StorageError: it could not be stored and is not taken.
        """
        tunnel, _, _ = self._running()
        self._check_device(device)
        if self._config.compact if compact is None else compact:
            message = compact_xml(message)
        wishes = Wishes(deadline=deadline, priority=priority, topic=topic, supersedes=supersedes)
        handle = Handle(
            tunnel.send(device, message, compression, wishes, route=route, urgent=urgent)
        )
        self._handles[handle.ref] = handle
        return handle

    def waits_for_route_2b_s(self, ref: str) -> float | None:
        """Return for how long a sent message waits for route 2b before it goes by 2a, in seconds.

        Infinite: it goes by route 2b only. None: it does not wait for route 2b, as that stands, or
        it goes by 2a already, or has ended.

        Raises:
            StorageError: the state cannot be read.
            GatewayNotRunning: the gateway is not running.
        """
        tunnel, _, _ = self._running()
        return tunnel.waits_for_route_2b_s(ref)

    async def echo(self, device: EntityId, *, timeout_s: float | None = None) -> float:
        """Send a CEM a small message that it sends back at once.

        Args:
            device: the CEM's EUI-64.
            timeout_s: how long to wait, in seconds; ``response_timeout_s`` unless given.

        Returns:
            How long there and back took, in seconds.

        Raises:
            UnknownDevice: there is no valid certificate to check its answers with.
            NoEcho: it did not come in time, or could not be carried.
            StorageError: it could not be stored.
        """
        tunnel, _, _ = self._running()
        self._check_device(device)
        return await tunnel.echo(
            device, self._config.response_timeout_s if timeout_s is None else timeout_s
        )

    def capabilities(self, device: EntityId) -> Capabilities | None:
        """Return what a CEM has said that it understands; None: nothing yet.

        Raises:
            StorageError: the state cannot be read just now.
        """
        tunnel, _, _ = self._running()
        return tunnel.capabilities(device)

    # Route 2b

    def offer_route(self, device: EntityId) -> RouteRecord:
        """Offer route 2b to a CEM, also to one from which it was withdrawn.

        Raises:
            UnknownDevice: there is no valid certificate to check its answers with.
            RouteNotOffered: route 2b is not configured.
            StorageError: it could not be stored.
        """
        self._check_device(device)
        return self._routes().offer(device)

    def withdraw_route(self, device: EntityId) -> RouteRecord:
        """Withdraw the offer to a CEM, and end its connection; it gets no other by itself.

        Raises:
            RouteNotOffered: it has no offer.
            StorageError: it could not be stored.
        """
        return self._routes().withdraw(device)

    def routes(self) -> list[RouteInfo]:
        """Return how route 2b stands with each CEM that ever had an offer."""
        return self._routes().info()

    def _routes(self) -> Routes:
        self._running()
        if self._routes_open is None:
            raise GatewayNotRunning("the gateway is not running: use it inside `async with`")
        return self._routes_open

    def _check_device(self, device: EntityId) -> None:
        try:
            self._keystore.verify(
                self._keystore.certificate(device, KeyUsage.DIGITAL_SIGNATURE),
                at=datetime.fromtimestamp(self._clock(), UTC),
                usage=KeyUsage.DIGITAL_SIGNATURE,
                role=None,
                entity_id=device,
            )
        except CertificateError as error:
            raise UnknownDevice(f"cannot send to {device}: {error}") from None

    def handle(self, ref: str) -> Handle:
        """Find a message that was sent, also by an earlier process.

        Raises:
            UnknownMessage: there is none, or it ended longer ago than ``keep_finished_s``.
        """
        tunnel, _, _ = self._running()
        handle = self._handles.get(ref)
        if handle is None:
            status = tunnel.status(ref)
            if status is None:
                raise UnknownMessage(
                    f"no message {ref!r} was sent from here in the last "
                    f"{self._config.keep_finished_s / 86400:g} days"
                )
            handle = Handle(status)
            self._handles[ref] = handle
        return handle

    def _tell(self, status: MessageStatus) -> None:
        handle = self._handles.get(status.ref)
        if handle is not None:
            handle.tell(status)

    # Receiving

    def received(self) -> AsyncIterator[ReceivedMessage]:
        """Iterate over whole messages from CEMs, each once in a process; ends with the gateway.

        Raises:
            GatewayNotRunning: it is not started, or has ended.
        """
        _, _, inbox = self._running()
        return inbox.hand_out(self.acknowledge)

    def acknowledge(self, ref: str, answers: str | None) -> None:
        """Do what `ReceivedMessage.ack` says."""
        tunnel, _, _ = self._running()
        if answers is not None:
            self.handle(answers)  # there must be such a message
        tunnel.acknowledge(ref, answers)

    def receive_untrusted(self, octets: bytes) -> None:
        """Take what the DCC posts to the receive address; on return it is stored.

        Raises:
            ReceivedRefused: it is malformed, not genuine or contradicts itself.
            StorageError: it cannot be stored now; it should come again.
        """
        try:
            tunnel, requests, _ = self._running()
        except GatewayNotRunning as error:
            raise StorageError(str(error)) from None
        now = self._clock()
        received = self._reader.read_untrusted(octets, at=datetime.fromtimestamp(now, UTC))
        if isinstance(received, DeviceResponse):
            requests.receive_response(received)
        elif isinstance(received, DccError):
            requests.receive_error(received)
        elif isinstance(received, NotForUs):
            logger.info("nothing to do for a %s", received.what)
        else:
            tunnel.receive_alert(received)
