"""Messages on their way down: one after the other for each device, several devices at once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from dsrsp.adaptor import Adaptor, LiveRequest
from dsrsp.config import DsrspConfig
from dsrsp.core.delivery import cut_message, make_requests, payload_of, started, status_after
from dsrsp.core.matching import DccError, DeviceResponse
from dsrsp.core.refusals import explain_results
from dsrsp.core.request import Action, Input, Request, State
from dsrsp.errors import DsrspError, MessageNotSendable, ReceivedRefused, SendError, StorageError
from dsrsp.ports import OutgoingMessage, Storage
from gbcs.counters import OriginatorCounter
from gbcs.entity_id import EntityId
from gbcs.ports import Clock, Journal, Randomness
from smtunnel import CompressionChoice, DeliveryState, MessageStatus, advance, next_message_id

logger = logging.getLogger("dsrsp")

_STORED = frozenset({Action.KEEP, Action.AWAIT, Action.FINISH, Action.NOTE_LATE})


@dataclass(slots=True)
class _LiveMessage:
    """A message that is not finished, or whose last requests are still out."""

    outgoing: OutgoingMessage
    status: MessageStatus
    requests: list[Request]


class Downlink:
    """Sends messages and follows them to their end.

    Args:
        config: the gateway's settings.
        storage: keeps messages and requests.
        clock: the wall clock.
        random_octets: names messages.
        journal: writes down fragments and states.
        tell: called with each new status of a message.
    """

    def __init__(
        self,
        config: DsrspConfig,
        *,
        storage: Storage,
        clock: Clock,
        random_octets: Randomness,
        journal: Journal,
        tell: Callable[[MessageStatus], None],
    ) -> None:
        self._config = config
        self._storage = storage
        self._clock = clock
        self._random_octets = random_octets
        self._journal = journal
        self._tell = tell
        self._counter = OriginatorCounter(storage.counter_store(), floor=config.counter_floor)
        self._queues: dict[EntityId, deque[str]] = {}
        self._workers: dict[EntityId, asyncio.Task[None]] = {}
        self._messages: dict[str, _LiveMessage] = {}
        self._live: dict[int, LiveRequest] = {}
        self._adaptor: Adaptor | None = None

    def start(self, adaptor: Adaptor) -> None:
        """Take up what an earlier process left unfinished."""
        self._adaptor = adaptor
        for outgoing in self._storage.unfinished_messages():
            self._load(outgoing)
            self._enqueue(outgoing.device, outgoing.ref)

    async def stop(self) -> None:
        """Leave everything as it is in the store."""
        workers = list(self._workers.values())
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    # Sending

    def send(self, device: EntityId, message: bytes, compression: str) -> MessageStatus:
        """Take a message; on return it is stored.

        Raises:
            SendError: too long, or too many messages wait for this device.
            StorageError: it could not be stored.
        """
        waiting = self._queues.get(device, ())
        if len(waiting) >= self._config.max_queued_messages_per_device:
            raise SendError(
                f"{len(waiting)} messages wait for {device} already: wait until some have ended, "
                "or raise max_queued_messages_per_device"
            )
        payloads = self._cut(message, compression, tunnel_message_id=0)
        ref = self._random_octets(8).hex()
        status = MessageStatus(ref=ref, fragments_total=len(payloads), message_octets=len(message))
        outgoing = OutgoingMessage(ref, device, message, compression, status)
        self._storage.add_message(outgoing, now=self._clock())
        self._announce(device, status)
        self._load(outgoing)
        self._enqueue(device, ref)
        return status

    def _cut(self, message: bytes, compression: str, *, tunnel_message_id: int) -> list[str]:
        return cut_message(
            message,
            tunnel_message_id=tunnel_message_id,
            compression=cast("CompressionChoice", compression),
            max_message_octets=self._config.max_message_octets,
        )

    def _load(self, outgoing: OutgoingMessage) -> _LiveMessage:
        requests = self._storage.requests(outgoing.ref)
        self._unload(outgoing.ref)
        live = _LiveMessage(outgoing, outgoing.status, requests)
        self._messages[outgoing.ref] = live
        for request in requests:
            if not request.final:
                self._live[request.originator_counter] = LiveRequest(request)
        return live

    def _unload(self, ref: str) -> None:
        message = self._messages.pop(ref, None)
        for request in [] if message is None else message.requests:
            self._live.pop(request.originator_counter, None)

    def _enqueue(self, device: EntityId, ref: str) -> None:
        self._queues.setdefault(device, deque()).append(ref)
        if device not in self._workers:
            worker = asyncio.create_task(self._work(device), name=f"dsrsp downlink {device}")
            self._workers[device] = worker

    async def _work(self, device: EntityId) -> None:
        """Send the messages of one device, one after the other; ends when there is none."""
        queue = self._queues[device]
        failures = 0
        while queue:
            ref = queue[0]
            try:
                await self._send_message(self._messages[ref])
            except Exception as error:
                # Whatever went wrong, the stored state is whole: go back to it and try again.
                failures += 1
                unexpected = not isinstance(error, StorageError)
                logger.error("message %s to %s waits: %s", ref, device, error, exc_info=unexpected)
                await asyncio.sleep(min(self._config.retry_max_s, 2.0 ** min(failures, 16)))
                self._reload(ref)
                continue
            failures = 0
            self._unload(ref)
            queue.popleft()
        del self._workers[device]
        del self._queues[device]

    def _reload(self, ref: str) -> None:
        """Go back to what the store knows, after a write that failed."""
        with contextlib.suppress(StorageError):
            stored = self._storage.message(ref)
            if stored is not None:
                self._load(stored)

    # One message

    async def _send_message(self, message: _LiveMessage) -> None:
        if message.status.final:
            return
        if not message.requests:
            self._start(message)
        if message.status.final:
            return
        waiting = deque(request for request in message.requests if not request.final)
        running: set[asyncio.Task[None]] = set()
        try:
            while waiting or running:
                while waiting and len(running) < self._config.fragments_in_flight:
                    request = waiting.popleft()
                    if message.status.final and request.state is State.RESERVED:
                        self._apply(request, Input.WITHDRAW, reason="its message has ended")
                        continue
                    running.add(asyncio.create_task(self._run(message, request)))
                if running:
                    done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                    for task in done:
                        task.result()
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _start(self, message: _LiveMessage) -> None:
        """Give a message its id and its contiguous block of counters, durably."""
        outgoing = message.outgoing
        device = outgoing.device
        # One message at a time for each device: no other id is live.
        message_id = next_message_id(self._storage.last_tunnel_message_id(device), ())
        try:
            payloads = self._cut(
                outgoing.message or b"", outgoing.compression, tunnel_message_id=message_id
            )
        except MessageNotSendable as error:  # a limit was lowered since it was taken
            self._end(message, str(error))
            return
        requests = make_requests(
            outgoing.ref,
            payloads,
            supplier_id=self._config.supplier_id,
            device=device,
            first_counter=self._counter.issue_block(len(payloads)),
        )
        status = started(message.status, message_id=message_id, requests=requests)
        self._storage.start_message(outgoing.ref, status, requests)
        message.requests = requests
        message.status = status
        for request in requests:
            self._live[request.originator_counter] = LiveRequest(request)
        self._announce(device, status)

    def _end(self, message: _LiveMessage, reason: str) -> None:
        status = advance(message.status, DeliveryState.FAILED, reason=reason)
        self._storage.save_status(status.ref, status, now=self._clock())
        message.status = status
        self._announce(message.outgoing.device, status)

    async def _run(self, message: _LiveMessage, request: Request) -> None:
        if self._adaptor is None:
            raise DsrspError("the downlink is not started")
        if request.state is State.RESERVED:
            self._journal.record(
                "carrier",
                direction="down",
                peer=str(message.outgoing.device),
                message_ref=message.outgoing.ref,
                tunnel_message_id=message.status.tunnel_message_id,
                index=request.index,
                originator_counter=request.originator_counter,
                payload=payload_of(request),
            )
        live = self._live.get(request.originator_counter)
        if live is not None:
            await self._adaptor.run(live)

    # What happens to requests

    def apply(self, request: Request, what: Input, **news: Any) -> Action:
        """Give a request an input; store what must be stored and tell its message.

        Raises:
            StorageError: nothing was changed.
            InvalidTransition: one of our own steps is out of place.
        """
        before = replace(request)
        action = request.handle(what, **news)
        if action in _STORED:
            try:
                self._keep(before, request)
            except StorageError:
                for name in fields(request):
                    setattr(request, name.name, getattr(before, name.name))
                raise
        return action

    _apply = apply

    def _keep(self, before: Request, request: Request) -> None:
        message = self._messages.get(request.message_ref)
        news = [] if message is None else status_after(message.status, before, request)
        self._storage.save_request(request, news[-1] if news else None, now=self._clock())
        if message is not None:
            for status in news:
                message.status = status
                self._announce(message.outgoing.device, status)
        if request.final:
            live = self._live.pop(request.originator_counter, None)
            if live is not None:
                live.ended.set()

    def _announce(self, device: EntityId, status: MessageStatus) -> None:
        self._journal.record(
            "message",
            state=status.state.value,
            message_ref=status.ref,
            peer=str(device),
            reason=status.reason,
            fragments_total=status.fragments_total,
            fragments_accepted=status.fragments_accepted,
            fragments_delivered=status.fragments_delivered,
            message_octets=status.message_octets,
            tunnel_message_id=status.tunnel_message_id,
            first_counter=status.first_counter,
        )
        if status.state is DeliveryState.FAILED:
            logger.error("message %s to %s failed: %s", status.ref, device, status.reason)
        self._tell(status)

    # News from the receive address

    def receive_response(self, response: DeviceResponse) -> None:
        """Take a device's verified response.

        Raises:
            ReceivedRefused: its counter belongs to a request to another device.
            StorageError: it could not be stored and must come again.
        """
        request = self._find(response.originator_counter, response.device)
        if request is None:
            return
        reason = None
        if any(response.results) or len(response.results) != len(request.pre_command.labels):
            reason = explain_results(response.results, len(request.pre_command.labels))
        was = request.state
        action = self.apply(request, Input.RESPONSE, results=response.results, reason=reason)
        if action is Action.IGNORE:
            logger.info(
                "ignored a repeated response of %s to request %d, which is %s",
                *(response.device, response.originator_counter, was.value),
            )
        elif action is Action.NOTE_LATE:
            logger.warning(
                "%s answered request %d after it had %s: %s",
                *(response.device, response.originator_counter, was.value),
                reason or "success",
            )
            self._journal.record(
                "late_response",
                peer=str(response.device),
                message_ref=request.message_ref,
                originator_counter=request.originator_counter,
                results=bytes(response.results),
            )

    def receive_error(self, error: DccError) -> None:
        """Take the DCC's word that a request has failed after it was accepted.

        Raises:
            ReceivedRefused: its counter belongs to a request to another device.
            StorageError: it could not be stored and must come again.
        """
        request = self._find(error.originator_counter, error.device)
        if request is None or self._adaptor is None:
            return
        reason = self._adaptor.explain(request, error.code)
        live = self._live.get(error.originator_counter)
        if error.quarantined or not (error.signed or self._config.believe_unsigned_errors):
            held = f"the DCC holds it in quarantine ({error.code}): release or discard it there"
            note = held if error.quarantined else f"told without a signature, not proven: {reason}"
            logger.warning("request %d: %s", error.originator_counter, note)
            if live is not None:
                live.trouble = note
            return
        repeated = error.code in self._config.repeat_codes and request.posts > 1
        what = Input.REPEAT_REFUSAL if repeated else Input.REFUSAL
        if self.apply(request, what, reason=reason) is Action.IGNORE:
            logger.info(
                "ignored error %s for request %d, which is %s",
                *(error.code, error.originator_counter, request.state.value),
            )

    def _find(self, originator_counter: int, device: EntityId) -> Request | None:
        live = self._live.get(originator_counter)
        request = self._storage.request(originator_counter) if live is None else live.request
        if request is None:
            logger.warning(
                "a message of %s names request %d, which is not known here",
                device,
                originator_counter,
            )
            return None
        if request.pre_command.target_id != device:
            raise ReceivedRefused(
                f"response refused: request {originator_counter} went to "
                f"{request.pre_command.target_id}, not to {device}"
            )
        return request

    def answered(self, status: MessageStatus) -> None:
        """Tell that a message was answered by the other end's application; it is stored by now."""
        stored = self._storage.message(status.ref)
        message = self._messages.get(status.ref)
        if message is not None:
            message.status = status
        if stored is not None:
            self._announce(stored.device, status)
