"""Messages down and up through the tunnel: what gateway, DCC and route 2b ask of its end."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final

from dsrsp.config import DsrspConfig
from dsrsp.core.delivery import Outcome
from dsrsp.core.matching import DeviceAlert
from dsrsp.core.offers import RouteRecord
from dsrsp.core.request import Request
from dsrsp.core.wishes import Wishes, superseded
from dsrsp.echoes import Echoes
from dsrsp.errors import MessageNotSendable, NoEcho, SendError, StorageError, UnknownMessage
from dsrsp.inbox import Inbox
from dsrsp.news import News
from dsrsp.ports import SentMessage, Storage
from dsrsp.sent_messages import SentMessages, joined
from dsrsp.tunnel_inputs import TunnelInputs
from dsrsp.tunnel_outcomes import Beside, Outcomes, RequestRunner, RouteCarrier
from gbcs.entity_id import EntityId
from gbcs.ports import Clock, Journal, Randomness
from gbcs.steady import SteadyClock
from smtunnel import (
    CompressionChoice,
    DeliveryState,
    FragmentIgnored,
    IgnoreReason,
    LocalError,
    MessageStatus,
    RouteChoice,
)
from smtunnel.effects import Effects
from smtunnel.endpoint import Endpoint
from smtunnel.policy import Result
from smtunnel.records import Capabilities
from smtunnel.routes import RouteOffer, RouteWithdrawn

logger = logging.getLogger("dsrsp")

_PUT_OFF: Final = frozenset({IgnoreReason.BUSY, IgnoreReason.TOO_MANY_PEERS})


class Tunnel:
    """Messages down and up through one end of the tunnel.

    Args:
        config: the gateway's settings.
        storage: keeps everything.
        inbox: takes whole messages from CEMs.
        wall: the wall clock: callers give their deadlines in it.
        clock: what all else is measured by; where the wall clock was set, that is stored.
        random_octets: names messages and spreads retries.
        journal: writes down what happens.
        tell: called with each new status of a message.
    """

    def __init__(
        self,
        config: DsrspConfig,
        *,
        storage: Storage,
        inbox: Inbox,
        wall: Clock,
        clock: SteadyClock,
        random_octets: Randomness,
        journal: Journal,
        tell: Callable[[MessageStatus], None],
    ) -> None:
        self._config = config
        self._storage = storage
        self._inbox = inbox
        self._wall = wall
        self._clock = clock
        self._random_octets = random_octets
        self._news = News(journal)
        self._sent = SentMessages(storage.unfinished_messages())
        self._echoes = Echoes()
        self._outcomes = Outcomes(
            config.supplier_id,
            inbox=inbox,
            sent=self._sent,
            echoes=self._echoes,
            wall=wall,
            news=self._news,
            tell=tell,
        )
        self._inputs = TunnelInputs(
            config,
            storage=storage,
            sent=self._sent,
            outcomes=self._outcomes,
            wall=wall,
            clock=clock,
            random_octets=random_octets,
        )

    # Life

    def start(self, requests: RequestRunner, routes: RouteCarrier) -> None:
        """Take up what an earlier process left unfinished.

        Raises:
            StorageError: the state cannot be read, or is not what this version writes.
        """
        self._outcomes.start(requests, routes)
        self._inputs.start()
        requests.withdraw_ended()

    def stop(self) -> None:
        """Leave everything as it is in the store."""
        self._outcomes.stop()
        self._inputs.stop()
        self._echoes.close()

    # Messages down

    def send(
        self,
        device: EntityId,
        message: bytes,
        compression: str,
        wishes: Wishes,
        *,
        route: RouteChoice = RouteChoice.AUTO,
        urgent: bool = False,
    ) -> MessageStatus:
        """Take a message; on return it is stored, and what it supersedes has ended.

        Raises:
            UnknownMessage: what it is to supersede is not known.
            SendError: too long, too late, too many messages wait for this device, or what it is
                to supersede went to another.
            StorageError: it could not be stored.
        """
        wishes.check(self._wall())
        older = self._superseded(device, wishes)
        waiting = self._sent.waiting(device)
        if waiting >= self._config.max_queued_messages_per_device:
            raise SendError(
                f"{waiting} messages wait for {device} already: wait until some "
                "have ended, or raise max_queued_messages_per_device"
            )
        if len(message) > self._config.max_message_octets:
            raise MessageNotSendable(
                f"the message has {len(message)} octets, max_message_octets allows at most "
                f"{self._config.max_message_octets}"
            )
        ref = self._random_octets(8).hex()
        choice: Any = compression  # what is no choice is refused by name

        def work(endpoint: Endpoint, now: float) -> Effects:
            chosen: CompressionChoice = choice
            effects = endpoint.send(
                ref,
                device.octets,
                message,
                now,
                compression=chosen,
                priority=wishes.priority,
                route=route,
                urgent=urgent,
            )
            why = functools.partial(superseded, by=ref)
            return joined(
                effects, *(self._inputs.give_up(old, why, endpoint, now) for old in older)
            )

        with self._sent.taking(ref, wishes):
            try:
                # What is refused is refused before anything is superseded.
                self._inputs.do(work, may_refuse=True)
            except LocalError as error:
                raise MessageNotSendable(str(error)) from None
        taken = self._find(ref)
        if taken is None:
            raise StorageError(f"message {ref} was stored, and is not there")
        return taken.status

    def _superseded(self, device: EntityId, wishes: Wishes) -> list[str]:
        """List the messages on their way that a new one supersedes."""
        refs = []
        if wishes.topic is not None:
            refs = [sent.status.ref for sent in self._sent.about(device, wishes.topic)]
        if wishes.supersedes is not None and wishes.supersedes not in refs:
            older = self._find(wishes.supersedes)
            if older is None:
                raise UnknownMessage(f"no message {wishes.supersedes!r} that could be superseded")
            if older.device != device:
                raise MessageNotSendable(
                    f"message {wishes.supersedes} is for {older.device}: one for {device} cannot "
                    "supersede it"
                )
            if older.status.final:
                state = older.status.state.value
                logger.info("message %s is %s: nothing to supersede", wishes.supersedes, state)
            refs.append(wishes.supersedes)
        return refs

    def keep_request(self, request: Request, accepted: bool, outcome: Outcome | None) -> None:
        """Store a request's new state, and tell its message.

        Args:
            request: in its new state.
            accepted: True when the DCC has just accepted it.
            outcome: what became of it, if that is known now.

        Raises:
            StorageError: nothing is changed.
        """
        counter = request.originator_counter

        def work(endpoint: Endpoint, now: float) -> Effects:
            if outcome is None:
                return endpoint.on_transmitted(counter, now) if accepted else Effects()
            if outcome.result is None:
                sent = self._sent.get(request.message_ref)
                total = "" if sent is None else f" of {sent.status.fragments_total}"
                fragment = f"fragment {request.index + 1}{total}, counter {counter}"
                reason = f"{fragment}: {outcome.detail}"
                return endpoint.cancel(request.message_ref, reason, now, refused=counter)
            return endpoint.on_result(counter, outcome.result, now, detail=outcome.detail)

        self._inputs.do(work, Beside(request=request))
        if outcome is not None and outcome.result is not Result.SUCCESS:
            self._echoes.fail(request, outcome)

    def status(self, ref: str) -> MessageStatus | None:
        """Return what is known of a message; None: nothing."""
        sent = self._find(ref)
        return None if sent is None else sent.status

    def waits_for_route_2b_s(self, ref: str) -> float | None:
        """Return for how long a message waits for route 2b, as the gateway tells it.

        Raises:
            StorageError: the state cannot be read.
        """
        return self._inputs.look().waits_for_route_2b_s(ref, self._clock())

    def _find(self, ref: str) -> SentMessage | None:
        return self._sent.get(ref) or self._storage.message(ref)

    # Messages up

    def receive_alert(self, alert: DeviceAlert) -> None:
        """Take a verified alert; on return all that it changed is stored.

        Raises:
            StorageError: it could not be stored, or too much waits: it must come again.
        """
        full = self._inbox.too_much_waits(alert.device, self._config)
        effects = self._inputs.do(
            lambda endpoint, now: endpoint.on_fragment(
                alert.device.octets,
                alert.text,
                originator_counter=alert.originator_counter,
                now=now,
                busy=full is not None,
            )
        )
        for event in effects.events:
            if isinstance(event, FragmentIgnored) and event.reason in _PUT_OFF:
                raise StorageError(full or event.detail)

    def acknowledge(self, ref: str, answers: str | None) -> None:
        """Drop a received message; note which sent message it answers.

        Raises:
            StorageError: nothing is changed.
        """
        answered = None if answers is None else self._find(answers)
        if answered is not None and answered.status.state is DeliveryState.ANSWERED:
            answered = None

        def work(endpoint: Endpoint, now: float) -> Effects:
            if answered is None or answered.status.final:
                return Effects()
            return endpoint.answered(answered.status.ref, now)

        self._inputs.do(work, Beside(acknowledged=ref, answered=answered))
        self._inbox.forget(ref)

    # Route 2b

    def receive_message(
        self, device: EntityId, payload: bytes, originator_counter: int
    ) -> str | None:
        """Take a whole message that a device has signed; its receipt is among the transmits.

        Returns:
            Why nothing new is taken of the device for now, so that it comes again; None: it is.

        Raises:
            StorageError: nothing is changed, and there is no receipt: it comes again.
        """
        full = self._inbox.too_much_waits(device, self._config)
        self._inputs.do(
            lambda endpoint, now: endpoint.on_message(
                device.octets,
                payload,
                originator_counter=originator_counter,
                now=now,
                busy=full is not None,
            ),
            hold=True,
        )
        return full

    def written(self, originator_counter: int) -> None:
        """Note that a connection has taken a message.

        Raises:
            StorageError: nothing is changed.
        """
        self._inputs.do(
            lambda endpoint, now: endpoint.on_transmitted(originator_counter, now), hold=True
        )

    def route_up(self, device: EntityId, message_octets: int) -> None:
        """Note that a device is connected, and how long a message it takes.

        Raises:
            StorageError: it is not stored; it is known all the same.
        """
        self._inputs.route_up(device, message_octets)

    def route_down(self, device: EntityId) -> None:
        """Note that a device is connected no more.

        Raises:
            StorageError: it is not stored; it is known all the same.
        """
        self._inputs.route_down(device)

    def tell_route(self, record: RouteRecord, told: RouteOffer | RouteWithdrawn) -> None:
        """Tell a device about an offer, and store the offer's record with it.

        Raises:
            StorageError: nothing is changed.
        """
        self._inputs.do(
            lambda endpoint, now: endpoint.send_record(record.device.octets, told, now),
            Beside(offer=record),
        )

    def known_devices(self) -> list[EntityId]:
        """Return the devices that have said what they understand.

        Raises:
            StorageError: the state cannot be read.
        """
        return list(map(EntityId, self._inputs.look().peers()))

    # Echo and capabilities

    def capabilities(self, device: EntityId) -> Capabilities | None:
        """Return what a CEM has said that it understands; None: nothing yet.

        Raises:
            StorageError: the state cannot be read.
        """
        return self._inputs.look().capabilities(device.octets)

    async def echo(self, device: EntityId, timeout_s: float) -> float:
        """Ask a CEM for an echo and return how long it took, in seconds.

        Raises:
            NoEcho: it did not come in time, or the DCC or the device refused to carry it.
            StorageError: it could not be stored.
        """
        nonce = self._random_octets(8)
        begun = self._clock()
        with self._echoes.expect(device, nonce) as reply:
            self._inputs.do(lambda endpoint, now: endpoint.echo(device.octets, nonce, now))
            try:
                async with asyncio.timeout(timeout_s):
                    seconds = await reply - begun
            except TimeoutError:
                raise NoEcho(f"no echo of {device} in {timeout_s:g} s") from None
        self._news.tell_echo(device, seconds)
        return seconds
