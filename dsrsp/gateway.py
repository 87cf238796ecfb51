"""The DSRSP's gateway: send messages to CEMs and receive theirs, through the DCC."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import time
from collections import deque
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import TracebackType
from weakref import WeakValueDictionary

from dsrsp.adaptor import Adaptor
from dsrsp.config import DsrspConfig
from dsrsp.core.matching import DccError, DeviceAlert, DeviceResponse, NotForUs, ReceivedReader
from dsrsp.core.uplink import Uplink, UplinkNews
from dsrsp.dcc_client import HttpDccClient
from dsrsp.downlink import Downlink
from dsrsp.errors import (
    ConfigurationError,
    GatewayNotRunning,
    StorageError,
    UnknownDevice,
    UnknownMessage,
)
from dsrsp.handles import Handle
from dsrsp.ports import DccClient, IncomingMessage, Storage
from dsrsp.receiver import Receiver
from dsrsp.store import SqliteStore
from gbcs.certificates import KeyUsage, Role
from gbcs.crypto import EcdsaSigner
from gbcs.duis import Schema, XmlSigner
from gbcs.entity_id import EntityId
from gbcs.errors import CertificateError, GbcsError
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal, Randomness, Signer
from smtunnel import (
    DeliveryState,
    FragmentIgnored,
    IgnoreReason,
    Limits,
    LocalError,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    MessageStatus,
    advance,
)

logger = logging.getLogger("dsrsp")


class ReceivedMessage:
    """A whole message from a CEM. Until `ack` it is handed out again after a restart."""

    def __init__(self, incoming: IncomingMessage, gateway: Gateway) -> None:
        self._incoming = incoming
        self._gateway = gateway

    def __repr__(self) -> str:
        return f"<ReceivedMessage {self.ref}, {len(self.message)} octets>"

    @property
    def ref(self) -> str:
        """The message's name: the same each time that it is handed out."""
        return self._incoming.ref

    @property
    def peer(self) -> EntityId:
        """The device that sent it, proven by its signature."""
        return self._incoming.device

    @property
    def message(self) -> bytes:
        """The octets, as they were sent."""
        return self._incoming.message

    @property
    def received_at(self) -> float:
        """When it was complete, in seconds since 1970, UTC."""
        return self._incoming.received_at

    async def ack(self, answers: str | None = None) -> None:
        """Take the message over: the gateway forgets it. Doing so again changes nothing.

        Args:
            answers: the ref of the sent message that this one answers, which becomes ANSWERED.

        Raises:
            UnknownMessage: there is no sent message of that ref; nothing is acknowledged.
            StorageError: it could not be stored; nothing is acknowledged.
        """
        self._gateway.acknowledge(self.ref, answers)


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
        journal: writes down fragments and states.
        listener: a bound and listening socket for the receive address, instead of
            ``config.receive_listen``.
        schema: the DUIS schema, against which whatever is posted to us is validated.
        signer: the supplier's digital-signature key, if it is not in the key store.
        dcc: reaches the DCC, if not over HTTP at ``config.dcc_url``; then no receive address is
            served either, and what the DCC posts is given to `receive_untrusted`.
        storage: durable state, if not the SQLite file ``config.state``; closed at the end.
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
        signer: Signer | None = None,
        dcc: DccClient | None = None,
        storage: Storage | None = None,
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
        self._reader = ReceivedReader(
            keystore,
            supplier_id=config.supplier_id,
            load_controller_id=config.load_controller_id,
            schema=schema,
        )
        self._handles: WeakValueDictionary[str, Handle] = WeakValueDictionary()
        self._inbox: deque[IncomingMessage] = deque()
        self._inbox_news = asyncio.Event()
        self._unacknowledged: set[str] = set()
        self._stack = contextlib.AsyncExitStack()
        self._storage_open: Storage | None = None
        self._downlink_open: Downlink | None = None
        self._uplink_open: Uplink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._receiver: Receiver | None = None

    # Life

    async def __aenter__(self) -> Gateway:
        async with contextlib.AsyncExitStack() as stack:
            signer, xml_signer = self._keys()
            storage = self._given_storage or SqliteStore(
                self._config.state, supplier_id=self._config.supplier_id
            )
            stack.callback(storage.close)
            self._storage_open = storage
            now = self._clock()
            storage.forget_finished(before=now - self._config.keep_finished_s)
            self._open_uplink(storage, now)
            dcc = self._dcc
            if dcc is None:
                dcc = await stack.enter_async_context(
                    HttpDccClient(
                        self._config.dcc_url, attempt_timeout_s=self._config.attempt_timeout_s
                    )
                )
            self._open_downlink(storage, dcc, signer, xml_signer)
            stack.push_async_callback(self._close)
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

    def _keys(self) -> tuple[Signer, XmlSigner]:
        supplier = self._config.supplier_id
        try:
            signer = self._signer or EcdsaSigner(
                self._keystore.private_key(supplier, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER)
            )
            return signer, XmlSigner.from_keystore(self._keystore, supplier, Role.XML_SIGNING_USER)
        except GbcsError as error:
            raise ConfigurationError(
                f"the supplier {supplier} needs a digital-signature key and an XML-signing key: "
                f"{error}"
            ) from None

    def _open_uplink(self, storage: Storage, now: float) -> None:
        limits = Limits(
            message_octets=self._config.max_message_octets,
            replay_window=self._config.replay_window,
        )
        try:
            self._uplink_open = Uplink(storage, limits=limits, now=now)
        except LocalError as error:
            raise StorageError(f"the stored replay windows cannot be used: {error}") from None
        self._inbox = deque(storage.unacknowledged())
        self._unacknowledged = {incoming.ref for incoming in self._inbox}
        self._schedule_timer()

    def _open_downlink(
        self, storage: Storage, dcc: DccClient, signer: Signer, xml_signer: XmlSigner
    ) -> None:
        downlink = Downlink(
            self._config,
            storage=storage,
            clock=self._clock,
            random_octets=self._random_octets,
            journal=self._journal,
            tell=self._tell,
        )
        self._downlink_open = downlink
        downlink.start(
            Adaptor(
                self._config,
                keystore=self._keystore,
                dcc=dcc,
                signer=signer,
                xml_signer=xml_signer,
                clock=self._clock,
                random_octets=self._random_octets,
                apply=downlink.apply,
            )
        )

    async def _close(self) -> None:
        if self._downlink_open is not None:
            await self._downlink_open.stop()
        if self._timer is not None:
            self._timer.cancel()
        self._downlink_open = self._uplink_open = self._storage_open = None
        for handle in list(self._handles.values()):
            handle.close()
        self._inbox_news.set()

    @property
    def receive_port(self) -> int:
        """The port of the receive address; 0 where none is served."""
        return 0 if self._receiver is None else self._receiver.port

    def _running(self) -> tuple[Storage, Downlink, Uplink]:
        if self._storage_open is None or self._downlink_open is None or self._uplink_open is None:
            raise GatewayNotRunning("the gateway is not running: use it inside `async with`")
        return self._storage_open, self._downlink_open, self._uplink_open

    # Sending

    async def send(self, device: EntityId, message: bytes, compression: str = "auto") -> Handle:
        """Take a message for a device; on return it survives a power cut.

        Args:
            device: the CEM's EUI-64.
            message: any octets, up to ``max_message_octets``.
            compression: "auto", "zlib" or "none".

        Raises:
            UnknownDevice: there is no valid certificate to check its answers with.
            SendError: too long, too many waiting, or a compression that does not exist.
            StorageError: it could not be stored and is not taken.
        """
        _, downlink, _ = self._running()
        self._check_device(device)
        handle = Handle(downlink.send(device, message, compression))
        self._handles[handle.ref] = handle
        return handle

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
        storage, _, _ = self._running()
        handle = self._handles.get(ref)
        if handle is None:
            stored = storage.message(ref)
            if stored is None:
                raise UnknownMessage(
                    f"no message {ref!r} was sent from here in the last "
                    f"{self._config.keep_finished_s / 86400:g} days"
                )
            handle = Handle(stored.status)
            self._handles[ref] = handle
        return handle

    def _tell(self, status: MessageStatus) -> None:
        handle = self._handles.get(status.ref)
        if handle is not None:
            handle.tell(status)

    # Receiving

    async def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield whole messages from CEMs, each once in a process; ends when the gateway ends."""
        self._running()
        while self._storage_open is not None:
            if self._inbox:
                yield ReceivedMessage(self._inbox.popleft(), self)
            else:
                self._inbox_news.clear()
                await self._inbox_news.wait()

    def acknowledge(self, ref: str, answers: str | None) -> None:
        """Do what `ReceivedMessage.ack` says."""
        storage, downlink, _ = self._running()
        answered = None
        if answers is not None:
            status = self.handle(answers).status
            if status.state is not DeliveryState.ANSWERED:
                answered = self._answered(status)
        storage.acknowledge(
            ref,
            answered=None if answered is None else (answered.ref, answered),
            now=self._clock(),
        )
        self._unacknowledged.discard(ref)
        if answered is not None:
            downlink.answered(answered)

    def _answered(self, status: MessageStatus) -> MessageStatus | None:
        try:
            return advance(status, DeliveryState.ANSWERED)
        except LocalError as error:
            # It failed as far as we knew, and was answered all the same: both are true.
            logger.warning("an answer to message %s: %s", status.ref, error)
            return None

    def receive_untrusted(self, octets: bytes) -> None:
        """Take what the DCC posts to the receive address; on return it is stored.

        Raises:
            ReceivedRefused: it is malformed, not genuine or contradicts itself.
            StorageError: it cannot be stored now; it should come again.
        """
        try:
            _, downlink, uplink = self._running()
        except GatewayNotRunning as error:
            raise StorageError(str(error)) from None
        now = self._clock()
        received = self._reader.read_untrusted(octets, at=datetime.fromtimestamp(now, UTC))
        if isinstance(received, DeviceResponse):
            downlink.receive_response(received)
        elif isinstance(received, DccError):
            downlink.receive_error(received)
        elif isinstance(received, NotForUs):
            logger.info("nothing to do for a %s", received.what)
        else:
            self._receive_alert(received, uplink, now)

    def _receive_alert(self, alert: DeviceAlert, uplink: Uplink, now: float) -> None:
        if len(self._unacknowledged) >= self._config.max_unacknowledged_messages:
            raise StorageError(
                f"{len(self._unacknowledged)} received messages wait for an ack of the application"
            )
        self._take_news(uplink.receive_alert(alert, now=now))
        self._schedule_timer()

    def _take_news(self, news: UplinkNews) -> None:
        for event in news.events:
            if isinstance(event, FragmentIgnored):
                # The DCC posts each alert to both of our identities: a replay is the normal case.
                level = logging.DEBUG if event.reason is IgnoreReason.REPLAY else logging.WARNING
                logger.log(
                    level,
                    "ignored alert %d of %s: %s: %s",
                    *(event.originator_counter, EntityId(event.peer), event.reason.value),
                    event.detail,
                )
            elif isinstance(event, MessageReassembled):
                self._journal_uplink("reassembled", event, message_octets=len(event.message))
            elif isinstance(event, MessageRejected):
                self._lost(event, "rejected", str(event.error))
            elif isinstance(event, MessageExpired):
                missing = f"fragments {event.missing} and perhaps more did not come in time"
                self._lost(event, "expired", missing)
            elif isinstance(event, MessageAborted):
                self._lost(event, "aborted", event.reason.value)
        for incoming in news.messages:
            self._unacknowledged.add(incoming.ref)
            self._inbox.append(incoming)
        if news.messages:
            self._inbox_news.set()

    def _lost(
        self, event: MessageRejected | MessageExpired | MessageAborted, state: str, reason: str
    ) -> None:
        logger.warning(
            "message %d of %s from counter %d %s: %s",
            *(event.tunnel_message_id, EntityId(event.peer), event.first_counter, state, reason),
        )
        self._journal_uplink(state, event, reason=reason)

    def _journal_uplink(
        self,
        state: str,
        event: MessageReassembled | MessageRejected | MessageExpired | MessageAborted,
        *,
        message_octets: int | None = None,
        reason: str | None = None,
    ) -> None:
        peer = EntityId(event.peer)
        self._journal.record(
            "message",
            state=state,
            message_ref=f"{peer.hex}-{event.first_counter}-{event.tunnel_message_id}",
            peer=str(peer),
            tunnel_message_id=event.tunnel_message_id,
            first_counter=event.first_counter,
            message_octets=message_octets,
            reason=reason,
        )

    # Time

    def _schedule_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = None if self._uplink_open is None else self._uplink_open.get_timer()
        if due is not None:
            delay = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay, self._handle_timer)

    def _handle_timer(self) -> None:
        if self._uplink_open is None:
            return
        try:
            self._take_news(self._uplink_open.handle_timer(self._clock()))
        except StorageError as error:
            logger.error("expired messages stay in the store until the next start: %s", error)
        self._schedule_timer()
