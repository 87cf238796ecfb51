"""Messages from CEMs: reassembled, written down, kept until the application acknowledges them."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable

from dsrsp.core.matching import DeviceAlert
from dsrsp.core.uplink import Uplink, UplinkNews
from dsrsp.errors import StorageError
from dsrsp.ports import IncomingMessage, Storage
from gbcs.entity_id import EntityId
from gbcs.ports import Clock, Journal
from smtunnel import (
    FragmentIgnored,
    IgnoreReason,
    Limits,
    LocalError,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
)

logger = logging.getLogger("dsrsp")

Acknowledge = Callable[[str, str | None], None]
"""Acknowledges a received message by its ref; with the ref of the sent one that it answers."""


class ReceivedMessage:
    """A whole message from a CEM. Until `ack` it is handed out again after a restart."""

    def __init__(self, incoming: IncomingMessage, acknowledge: Acknowledge) -> None:
        self._incoming = incoming
        self._acknowledge = acknowledge

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
            GatewayNotRunning: the gateway has ended; nothing is acknowledged.
        """
        self._acknowledge(self.ref, answers)


class Inbox:
    """Takes verified alerts and hands whole messages out.

    Args:
        storage: keeps windows, fragments and messages.
        limits: bounds on reassembly.
        max_unacknowledged: with so many messages waiting for an ack no alert is taken.
        clock: the wall clock.
        journal: writes down what became of messages.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        limits: Limits,
        max_unacknowledged: int,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self._max_unacknowledged = max_unacknowledged
        self._clock = clock
        self._journal = journal
        self._waiting = deque(storage.unacknowledged())
        self._unacknowledged = {incoming.ref for incoming in self._waiting}
        self._changed = asyncio.Event()
        self._closed = False
        self._timer: asyncio.TimerHandle | None = None
        try:
            self._uplink = Uplink(storage, limits=limits)
        except LocalError as error:
            raise StorageError(f"the stored replay windows cannot be used: {error}") from None
        self._take_news(self._uplink.restored)
        # What expired while nobody was here ends now.
        self._handle_timer()

    def close(self) -> None:
        """Stop the timer and end all handing out."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._changed.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def hand_out(self, acknowledge: Acknowledge) -> AsyncIterator[ReceivedMessage]:
        """Yield messages as they come, each once; end when the inbox is closed."""
        while not self._closed:
            if self._waiting:
                yield ReceivedMessage(self._waiting.popleft(), acknowledge)
            else:
                self._changed.clear()
                await self._changed.wait()

    def forget(self, ref: str) -> None:
        """Take note that a message is acknowledged and no more in the store."""
        self._unacknowledged.discard(ref)

    def receive_alert(self, alert: DeviceAlert) -> None:
        """Take a verified alert; on return all that it changed is stored.

        Raises:
            StorageError: it could not be stored, or too much waits: it must come again.
        """
        if len(self._unacknowledged) >= self._max_unacknowledged:
            raise StorageError(
                f"{len(self._unacknowledged)} received messages wait for an ack of the application"
            )
        self._take_news(self._uplink.receive_alert(alert, now=self._clock()))
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
                self._record("reassembled", event, message_octets=len(event.message))
            elif isinstance(event, MessageRejected):
                self._lost(event, "rejected", str(event.error))
            elif isinstance(event, MessageExpired):
                more = "" if event.last_known else " and all after them"
                self._lost(event, "expired", f"fragments {event.missing}{more} did not come")
            elif isinstance(event, MessageAborted):
                self._lost(event, "aborted", event.reason.value)
        for incoming in news.messages:
            self._unacknowledged.add(incoming.ref)
            self._waiting.append(incoming)
        if news.messages:
            self._changed.set()

    def _lost(
        self, event: MessageRejected | MessageExpired | MessageAborted, state: str, reason: str
    ) -> None:
        logger.warning(
            "message %d of %s from counter %d %s: %s",
            *(event.tunnel_message_id, EntityId(event.peer), event.first_counter, state, reason),
        )
        self._record(state, event, reason=reason)

    def _record(
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

    def _schedule_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._uplink.get_timer()
        if due is not None and not self._closed:
            delay_s = max(0.0, due - self._clock())
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._handle_timer)

    def _handle_timer(self) -> None:
        try:
            self._take_news(self._uplink.handle_timer(self._clock()))
        except StorageError as error:
            logger.error("expired messages stay in the store until the next start: %s", error)
        self._schedule_timer()
