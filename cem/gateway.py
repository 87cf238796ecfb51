"""The CEM's gateway: what an application embeds to talk to its DSRSP through route 2a."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Final, Self

from cem.config import CemConfig
from cem.core.downlink import Downlink, Handled, Outcome
from cem.core.uplink import Uplink
from cem.credentials import load_credentials
from cem.errors import (
    CommandRefused,
    GatewayClosed,
    LinkError,
    QueueFull,
    StoreError,
    UnknownMessage,
)
from cem.handles import MessageHandle, ReceivedMessage, StatusBoard
from cem.link import HubLink, websocket_connector
from cem.ports import Connector, HubConnection, OutgoingMessage, Store
from cem.store import SqliteStore
from gbcs.counters import OriginatorCounter
from gbcs.errors import GbcsError
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal, Randomness
from smtunnel import DeliveryState, Limits, MessageStatus, advance
from smtunnel.errors import TunnelError

logger = logging.getLogger("cem")

_REF_OCTETS: Final = 8

_TIMER_STEP_S: Final = 3600.0
"""Longest sleep to a deadline of the wall clock, which somebody may set meanwhile."""

_LOG_LEVELS: Final = {
    Outcome.FRAGMENT: logging.DEBUG,
    Outcome.MESSAGE: logging.INFO,
    Outcome.LABELS: logging.INFO,
    Outcome.REPLAY: logging.INFO,
    Outcome.CONTROL: logging.INFO,
}
"""All other outcomes are warnings."""


class Gateway:
    """The CEM end of the tunnel: sends and receives whole messages, whatever happens between.

    Use it with ``async with``. What `send` took and what was received is on disk, and goes
    on where it was when a gateway is opened again with the same state.

    Args:
        config: who, where to, and how much.
        keystore: certificates of supplier, access control broker and device, and the device's
            private keys.
        clock: the wall clock, seconds since 1970.
        random_octets: unpredictable octets for references, nonces and jitter.
        journal: gets the events "carrier" and "message".
        store: where state is kept; None: a SQLite file at config.state. It is closed at the end.
        connector: how to reach the hub; None: by WebSocket.
    """

    def __init__(
        self,
        config: CemConfig,
        keystore: KeyStore,
        *,
        clock: Clock = time.time,
        random_octets: Randomness = os.urandom,
        journal: Journal | None = None,
        store: Store | None = None,
        connector: Connector | None = None,
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._clock = clock
        self._random_octets = random_octets
        self._journal = NullJournal() if journal is None else journal
        self._given_store = store
        self._connector = websocket_connector(config) if connector is None else connector
        self._peer_name = str(config.supplier_id)
        self._counts: Counter[str] = Counter()
        self._board = StatusBoard()
        self._outgoing_added = asyncio.Event()
        self._message_stored = asyncio.Event()
        self._deadline_changed = asyncio.Event()
        self._last_handed_over = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False

    async def __aenter__(self) -> Self:
        """Open the state, check the keys, begin to connect.

        Raises:
            StoreError: the state file cannot be used.
            CertificateError: a key or certificate is missing or not to be trusted.
        """
        if self._open or self._board.closed:
            raise GatewayClosed("a gateway can be opened once: make another with the same state")
        config = self._config
        credentials = load_credentials(config, self._keystore, self._clock())
        limits = Limits(message_octets=config.message_octets, replay_window=config.replay_window)
        self._store: Store = self._given_store or SqliteStore(
            config.state,
            config.device_id,
            replay_window=config.replay_window,
            finished_messages=config.finished_messages,
        )
        try:
            self._downlink = Downlink(
                credentials.admission,
                credentials.signer,
                self._store,
                limits=limits,
                unacknowledged_messages=config.unacknowledged_messages,
            )
            self._uplink = Uplink(
                credentials.identities,
                credentials.signer,
                OriginatorCounter(
                    self._store.counters,
                    reserve=config.counter_reserve,
                    floor=config.counter_floor,
                ),
                message_octets=config.message_octets,
                last_tunnel_message_id=self._store.last_tunnel_message_id(),
            )
            self._link = HubLink(
                config, credentials.signer, self._connector, self._random_octets, self._session
            )
        except BaseException:
            self._store.close()
            raise
        self._open = True
        self._tasks = [
            asyncio.create_task(self._link.run(), name="cem link"),
            asyncio.create_task(self._run_deadlines(), name="cem deadlines"),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the link and close the state; nothing that was accepted is lost."""
        self._open = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._board.close()
        self._message_stored.set()
        self._store.close()

    # What the application uses

    async def send(self, message: bytes, compression: str = "auto") -> MessageHandle:
        """Take a message for the DSRSP; it is on disk when this returns.

        Args:
            message: any octets, at most config.message_octets.
            compression: "auto", "zlib" or "none".

        Returns:
            A handle that tells what becomes of it.

        Raises:
            smtunnel.errors.LocalError: too long, or an unknown compression.
            QueueFull: too many messages wait to be sent.
            StoreError: the state file fails; the message was not taken.
            GatewayClosed: the gateway is not open.
        """
        self._require_open()
        ref = self._random_octets(_REF_OCTETS).hex()
        message = bytes(message)
        status = self._uplink.accept(ref, message, compression)
        if self._store.count_outgoing() >= self._config.queued_messages:
            raise QueueFull(
                f"{self._config.queued_messages} messages wait to be sent already: wait until "
                "some are sent, or raise queued_messages"
            )
        self._store.add_outgoing(OutgoingMessage(ref, message, compression, status))
        self._tell(status)
        self._outgoing_added.set()
        return MessageHandle(ref, self._status, self._board)

    def handle(self, ref: str) -> MessageHandle:
        """Return the handle of a message that was sent, also before a restart.

        Raises:
            UnknownMessage: no message has this reference, or it ended long ago.
            GatewayClosed: the gateway is not open.
        """
        self._status(ref)
        return MessageHandle(ref, self._status, self._board)

    async def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield each whole message from the DSRSP, oldest first; ends when the gateway closes.

        A message is yielded once while the gateway is open, and again after a restart until
        its ``ack()``. Several iterators share the messages between them.

        Raises:
            GatewayClosed: the gateway was not opened.
            StoreError: the state file fails.
        """
        self._require_open()
        while self._open:
            stored = self._store.next_received(self._last_handed_over)
            if stored is None:
                self._message_stored.clear()
                await self._message_stored.wait()
                continue
            self._last_handed_over = stored.number
            yield ReceivedMessage(
                stored.ref, stored.peer, stored.message, stored.received_at, self._acknowledge
            )

    def labels(self) -> dict[int, str]:
        """Return the labels that were set by commands which carried no fragment, by index."""
        self._require_open()
        return self._store.labels()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many commands had each `Outcome` (by name), and how many were "REFUSED_COMMAND"."""
        return dict(self._counts)

    @property
    def connected(self) -> bool:
        """Whether the link to the communications hub stands."""
        return self._open and self._link.connected

    async def wait_connected(self) -> None:
        """Return when the link to the communications hub stands."""
        self._require_open()
        await self._link.wait_connected()

    # Inside

    def _require_open(self) -> None:
        if not self._open:
            raise GatewayClosed("the gateway is not open: use it inside 'async with'")

    def _status(self, ref: str) -> MessageStatus:
        self._require_open()
        status = self._store.status(ref)
        if status is None:
            raise UnknownMessage(
                f"no message {ref!r} was sent, or it ended so long ago that it is forgotten"
            )
        return status

    async def _acknowledge(self, ref: str, answers: str | None) -> None:
        self._require_open()
        answered = None
        if answers is not None:
            answered = advance(self._status(answers), DeliveryState.ANSWERED)
        self._store.acknowledge(ref, answered)
        if answered is not None:
            self._tell(answered)

    def _tell(self, status: MessageStatus) -> None:
        self._journal.record(
            "message",
            state=status.state.value,
            message_ref=status.ref,
            peer=self._peer_name,
            message_octets=status.message_octets,
            fragments_total=status.fragments_total,
            tunnel_message_id=status.tunnel_message_id,
            reason=status.reason,
        )
        self._board.publish(status)

    async def _run_deadlines(self) -> None:
        while True:
            self._deadline_changed.clear()
            deadline = self._downlink.get_timer()
            delay_s = None
            if deadline is not None:
                delay_s = min(max(deadline - self._clock(), 0.0), _TIMER_STEP_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._deadline_changed.wait()
            try:
                for end in self._downlink.handle_timer(self._clock()):
                    logger.warning("%s", end)
            except StoreError as error:
                logger.error("cannot end messages whose time is over: %s", error)

    async def _session(self, connection: HubConnection) -> None:
        """Serve one connection until it breaks."""
        # No task group: in Python 3.11 one can swallow a cancellation that meets a failure.
        tasks = [
            asyncio.create_task(self._receive_commands(connection), name="cem receive"),
            asyncio.create_task(self._send_queued(connection), name="cem send"),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for task in done:
            task.result()

    async def _receive_commands(self, connection: HubConnection) -> None:
        while True:
            message = await connection.receive()
            if isinstance(message, str):
                raise LinkError(
                    f"the hub sent a text of {len(message)} characters, expected binary messages"
                )
            response = self._obey(message)
            if response is not None:
                await connection.send(response)
            # A hub that floods us must not keep everybody else from their turn.
            await asyncio.sleep(0)

    def _obey(self, octets: bytes) -> bytes | None:
        try:
            handled = self._downlink.receive_untrusted(octets, self._clock())
        except CommandRefused as error:
            self._counts["REFUSED_COMMAND"] += 1
            logger.warning(
                "refused %d octets from the hub, no answer is sent: %s", len(octets), error
            )
            return None
        self._deadline_changed.set()
        self._counts[handled.outcome.name] += 1
        self._log(handled)
        if handled.message is not None:
            self._journal.record(
                "message",
                state=DeliveryState.REASSEMBLED.value,
                message_ref=handled.message.ref,
                peer=str(handled.message.peer),
                message_octets=len(handled.message.message),
            )
            self._message_stored.set()
        return handled.response

    def _log(self, handled: Handled) -> None:
        names = handled.command.pre_command
        logger.log(
            _LOG_LEVELS.get(handled.outcome, logging.WARNING),
            "command %d from %s: %s%s",
            names.originator_counter,
            names.originator_id,
            handled.outcome.value,
            f": {handled.detail}" if handled.detail else "",
        )
        for end in handled.ended:
            logger.warning("%s", end)

    async def _send_queued(self, connection: HubConnection) -> None:
        while True:
            self._outgoing_added.clear()
            outgoing = self._store.next_outgoing()
            if outgoing is None:
                await self._outgoing_added.wait()
            else:
                await self._send_message(connection, outgoing)

    async def _send_message(self, connection: HubConnection, outgoing: OutgoingMessage) -> None:
        status = outgoing.status
        if status.first_counter is None:
            try:
                built = self._uplink.build(outgoing, status, self._clock())
            except (TunnelError, GbcsError) as error:
                logger.error("message %s cannot be sent: %s", outgoing.ref, error)
                self._finish(advance(status, DeliveryState.FAILED, reason=str(error)))
                return
            status = built.status
            self._store.save_alerts(status, built.alerts)
        for alert in self._store.unsent_alerts(outgoing.ref):
            self._journal.record(
                "carrier",
                direction="up",
                peer=self._peer_name,
                message_ref=outgoing.ref,
                tunnel_message_id=status.tunnel_message_id,
                index=alert.index,
                originator_counter=alert.originator_counter,
                payload=alert.payload,
            )
            await connection.send(alert.octets)
            await connection.confirm()
            current = self._store.status(outgoing.ref)
            if current is None or current.final:
                return  # answered meanwhile: the DSRSP had it all before
            status = advance(current, fragments_accepted=current.fragments_accepted + 1)
            self._store.alert_sent(status, alert.index)
            self._tell(status)
        self._finish(advance(status, DeliveryState.SENT))

    def _finish(self, status: MessageStatus) -> None:
        self._store.finish_outgoing(status)
        self._tell(status)
