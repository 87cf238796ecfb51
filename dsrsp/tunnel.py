"""The tunnel's end at work: what it says is stored in one transaction, and only then done."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from dsrsp.config import DsrspConfig
from dsrsp.core.delivery import Outcome, make_request
from dsrsp.core.matching import DeviceAlert
from dsrsp.core.offers import RouteRecord
from dsrsp.core.request import Request
from dsrsp.core.wishes import Wishes, deadline_passed, superseded
from dsrsp.echoes import Echoes
from dsrsp.errors import MessageNotSendable, NoEcho, SendError, StorageError, UnknownMessage
from dsrsp.inbox import Inbox
from dsrsp.news import News, received_ref
from dsrsp.ports import Changes, IncomingMessage, SentMessage, Storage
from dsrsp.sent_messages import SentMessages, joined
from dsrsp.steady import SteadyClock
from dsrsp.tunnel_settings import receipt_settings, receive_limits, send_policy
from gbcs.counters import OriginatorCounter
from gbcs.entity_id import EntityId
from gbcs.ports import Clock, Journal, Randomness
from smtunnel import (
    CompressionChoice,
    DeliveryState,
    FragmentIgnored,
    IgnoreReason,
    LocalError,
    MessageStatus,
    Originator,
    Route,
    RouteChoice,
    StateError,
)
from smtunnel.effects import ControlNews, Effects
from smtunnel.endpoint import Endpoint
from smtunnel.policy import Result
from smtunnel.records import Capabilities, EchoReply
from smtunnel.routes import RouteAnswer, RouteOffer, RouteWithdrawn
from smtunnel.send_events import Transmit

logger = logging.getLogger("dsrsp")

_FORGET_EVERY_S: Final = 86_400.0
_SETTLE_S: Final = 0.02
"""So long after a message has come by route 2b its receipt goes, in seconds: by then the
application has most likely answered, what came meanwhile shares the write to the disk, and the
receipts one message."""
_LOOK_EVERY_S: Final = 60.0
"""The longest sleep while anything is due later."""
_PUT_OFF: Final = frozenset({IgnoreReason.BUSY, IgnoreReason.TOO_MANY_PEERS})


class RequestRunner(Protocol):
    """Carries fragments down."""

    def run(self, request: Request) -> None:
        """Begin a request that is stored."""
        ...

    def withdraw(self, ref: str, *, index: int | None, reason: str) -> None:
        """End the requests of a message that the DCC has not taken."""
        ...

    def withdraw_ended(self) -> None:
        """End the requests that an earlier process left of messages that have ended."""
        ...


class RouteCarrier(Protocol):
    """Carries whole messages by route 2b, and keeps the offers of it."""

    def transmit(self, transmit: Transmit) -> None:
        """Send a whole message, where there is a connection."""
        ...

    def heard(self, device: EntityId, answer: RouteAnswer) -> RouteRecord | None:
        """Return what is to be stored of an answer to an offer; None: nothing."""
        ...

    def stored(self, record: RouteRecord) -> None:
        """Take over an offer's record that is stored."""
        ...

    def introduced(self, device: EntityId) -> None:
        """Take note that a CEM has said what it understands."""
        ...


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
        self._tell = tell
        self._counter = OriginatorCounter(storage.counter_store(), floor=config.counter_floor)
        self._sent = SentMessages(storage.unfinished_messages())
        self._echoes = Echoes()
        self._requests: RequestRunner | None = None
        self._routes: RouteCarrier | None = None
        # Who is connected by route 2b, and how long a message it takes there.
        self._up: dict[EntityId, int] = {}
        # What is to be done when what is held is durable.
        self._undone: list[Callable[[], None]] = []
        self._settling: asyncio.TimerHandle | None = None
        self._endpoint: Endpoint | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._forgot_at = clock()

    # Life

    def start(self, requests: RequestRunner, routes: RouteCarrier) -> None:
        """Take up what an earlier process left unfinished.

        Raises:
            StorageError: the state cannot be read, or is not what this version writes.
        """
        self._requests = requests
        self._routes = routes
        self._open(self._clock())
        # What came to its end while nobody was here ends now.
        self._do(lambda endpoint, now: endpoint.on_timer(now))
        requests.withdraw_ended()

    def stop(self) -> None:
        """Leave everything as it is in the store."""
        self._requests = self._routes = None
        if self._timer is not None:
            self._timer.cancel()
        if self._settling is not None:
            self._settling.cancel()
            try:
                self._storage.flush()
            except StorageError as error:
                logger.error("what came last has no receipt, and comes again: %s", error)
        self._echoes.close()

    def _open(self, now: float) -> Endpoint:
        """Make the end from the store: at the start, and when memory may be ahead of the disk."""
        config = self._config
        endpoint = Endpoint(
            side=Originator.DSRSP,
            counters=self._counter,
            policy=send_policy(config),
            random_fraction=self._random_fraction,
            limits=receive_limits(config),
            receipts=receipt_settings(config),
            gathers_receipts=True,
        )
        try:
            effects = endpoint.restore(self._storage.tunnel_rows(), now)
        except StateError as error:
            raise StorageError(f"the stored state of the tunnel cannot be used: {error}") from None
        # What was given out before, and is not known to be handed over, comes again: for most of
        # that there is a request already.
        fresh = [t for t in effects.transmits if not self._storage.request(t.originator_counter)]
        for device, octets in self._up.items():
            # The connection stands, whatever became of the memory of it.
            up = endpoint.route_up(device.octets, now, message_octets=octets)
            effects = joined(effects, up)
            fresh += up.transmits
        changes = self._changes(effects, fresh, now)
        self._store(changes, now)
        self._endpoint = endpoint
        self._act(effects, changes, fresh, now)
        return endpoint

    def _random_fraction(self) -> float:
        return int.from_bytes(self._random_octets(4), "big") / 0xFFFFFFFF

    # One input: think, store, do

    def _do(
        self,
        work: Callable[[Endpoint, float], Effects],
        *,
        request: Request | None = None,
        acknowledged: str | None = None,
        answered: SentMessage | None = None,
        offer: RouteRecord | None = None,
        may_refuse: bool = False,
        hold: bool = False,
    ) -> Effects:
        """Let the end take an input; on return all that it changed is stored, and being done.

        Args:
            work: gives the input to the end.
            request: its new state is stored with it.
            acknowledged: the ref of a received message that the application has now.
            answered: a sent message that is answered.
            offer: a route offer that is new, or its new state.
            may_refuse: whether the end may refuse the input, with nothing changed.
            hold: whether it is enough that it is durable, and acted upon, soon; not for whole
                messages and requests.

        Raises:
            StorageError: nothing is changed.
            LocalError: the end refuses it.
        """
        effects = self._take(
            work,
            request=request,
            acknowledged=acknowledged,
            answered=answered,
            offer=offer,
            may_refuse=may_refuse,
            hold=hold,
        )
        # Whatever was given out just now waits for its turn to run, and is withdrawn here.
        self._end_overdue()
        return effects

    def _take(
        self,
        work: Callable[[Endpoint, float], Effects],
        *,
        request: Request | None = None,
        acknowledged: str | None = None,
        answered: SentMessage | None = None,
        offer: RouteRecord | None = None,
        may_refuse: bool = False,
        hold: bool = False,
    ) -> Effects:
        now = self._clock()
        try:
            if self._endpoint is None:
                self._storage.check_writable()
            endpoint = self._endpoint or self._open(now)
            try:
                effects = work(endpoint, now)
                changes = self._changes(
                    effects, effects.transmits, now, request, acknowledged, answered, offer
                )
                # A message that is handed out must keep its name; a request must not run before it
                # is durable.
                hold = hold and not (changes.requests or changes.received)
                self._store(changes, now, hold=hold)
            except BaseException as error:
                if not (may_refuse and isinstance(error, LocalError)):
                    # What the end remembers is ahead of the disk: what is stored counts.
                    self._endpoint = None
                raise
            act = functools.partial(self._act, effects, changes, effects.transmits, now)
            if hold:
                self._undone.append(act)
            else:
                self._do_undone()
                act()
            if self._undone or endpoint.owes_receipts:
                self._settle_in(_SETTLE_S)
        finally:
            self._schedule()
        return effects

    def _do_undone(self) -> None:
        while self._undone and not self._storage.holds:
            self._undone.pop(0)()

    def _settle_in(self, delay_s: float) -> None:
        """Let what is held be durable, and receipts go, when others have had their turn."""
        if self._settling is None and self._requests is not None:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(delay_s, self._settle)

    def _settle(self) -> None:
        self._settling = None
        try:
            self._storage.flush()
            self._do_undone()
            if self._endpoint is not None and self._endpoint.owes_receipts:
                self._do(lambda endpoint, now: endpoint.give_receipts(now))
        except StorageError as error:
            logger.error("what came by route 2b waits for the disk: %s", error)
            self._settle_in(self._config.retry_first_s)

    def _store(self, changes: Changes, now: float, *, hold: bool = False) -> None:
        if (wall_ahead_s := self._clock.moved()) is not None:
            logger.warning("the wall clock was set: it is %+.1f s from ours", wall_ahead_s)
            self._storage.keep_wall_ahead(wall_ahead_s)
            self._clock.note(wall_ahead_s)
        if changes and hold:
            self._storage.hold(changes, now=now)
        elif changes:
            self._storage.keep(changes, now=now)
        elif not hold:
            self._storage.flush()

    def _changes(
        self,
        effects: Effects,
        transmits: Sequence[Transmit],
        now: float,
        request: Request | None = None,
        acknowledged: str | None = None,
        answered: SentMessage | None = None,
        offer: RouteRecord | None = None,
    ) -> Changes:
        supplier_id = self._config.supplier_id
        requests = [make_request(t, supplier_id=supplier_id) for t in _by_2a(transmits)]
        received = [
            IncomingMessage(
                ref=received_ref(EntityId(m.peer), m.first_counter, m.tunnel_message_id),
                device=EntityId(m.peer),
                message=m.message,
                received_at=self._wall(),
                route=m.route,
            )
            for m in effects.received
        ]
        return Changes(
            tunnel=effects.saves,
            sent=tuple(self._sent.changed(effects, answered)),
            requests=(*requests, *(() if request is None else (request,))),
            received=tuple(received),
            acknowledged=acknowledged,
            offers=(*self._heard(effects.news), *(() if offer is None else (offer,))),
        )

    def _heard(self, news: Sequence[ControlNews]) -> list[RouteRecord]:
        """Return what is to be stored of answers to route offers."""
        records = []
        for one in news:
            if isinstance(one.record, RouteAnswer) and self._routes is not None:
                record = self._routes.heard(EntityId(one.peer), one.record)
                records += [] if record is None else [record]
        return records

    def _act(
        self, effects: Effects, changes: Changes, transmits: Sequence[Transmit], now: float
    ) -> None:
        """Do what is stored by now."""
        self._news.tell_events(effects.events)
        for incoming in changes.received:
            self._inbox.take(incoming)
        for sent in changes.sent:
            self._sent.remember(sent)
            self._news.tell_status(sent.device, sent.status)
            self._tell(sent.status)
        for record in changes.offers:
            if self._routes is not None:
                self._routes.stored(record)
        for news in effects.news:
            self._take_news(news, now)
        for transmit in transmits:
            if transmit.route is Route.ROUTE_2B and self._routes is not None:
                self._routes.transmit(transmit)
        for transmit, request in zip(_by_2a(transmits), changes.requests, strict=False):
            self._news.tell_transmit(transmit)
            if self._requests is not None:
                self._requests.run(request)
        for sent in changes.sent:
            if sent.status.final and self._requests is not None:
                reason = "its message has ended"
                self._requests.withdraw(sent.status.ref, index=None, reason=reason)

    def _take_news(self, news: ControlNews, now: float) -> None:
        device = EntityId(news.peer)
        if isinstance(news.record, Capabilities):
            self._news.tell_capabilities(device, news.record)
            if self._routes is not None:
                self._routes.introduced(device)
        elif isinstance(news.record, RouteAnswer):
            logger.info("%s answers route offer %d", device, news.record.offer)
        elif isinstance(news.record, EchoReply):
            self._echoes.take(device, news.record.nonce, now)
        else:
            logger.info("%s sent a %s, of no use here", device, type(news.record).__name__)

    # Time

    def _schedule(self) -> None:
        if self._requests is None:
            return
        delay_s: float | None = self._config.retry_max_s
        if self._endpoint is not None:
            timer, deadline = self._endpoint.get_timer(), self._sent.next_deadline
            delays = [] if timer is None else [timer - self._clock()]
            if deadline is not None:
                delays.append(deadline - self._wall())
            # Somebody may set the wall clock meanwhile.
            delay_s = max(0.0, min(*delays, _LOOK_EVERY_S)) if delays else None
        if delay_s is None:
            return
        loop = asyncio.get_running_loop()
        due = loop.time() + delay_s
        if self._timer is not None:
            if self._timer.when() <= due:
                # It looks again when it comes.
                return
            self._timer.cancel()
        self._timer = loop.call_at(due, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        try:
            self._do(lambda endpoint, now: endpoint.on_timer(now))
            self._forget_now_and_then()
        except StorageError as error:
            logger.error("what time brings waits for the disk: %s", error)

    def _end_overdue(self) -> None:
        """End the messages whose deadlines have passed, and tell what the CEM may have of them."""
        while (overdue := self._sent.take_overdue(self._wall())) is not None:
            ref = overdue.status.ref
            why = functools.partial(deadline_passed, deadline=overdue.deadline or 0.0)
            try:
                self._take(functools.partial(self._give_up, ref, why))
            except StorageError as error:
                self._sent.remind(overdue)
                logger.error("message %s is overdue, its end waits for the disk: %s", ref, error)
                return

    def _give_up(
        self, ref: str, why: Callable[..., str], endpoint: Endpoint, now: float
    ) -> Effects:
        """End a message, and tell the CEM if it may hold a part of it.

        Args:
            ref: which message; of none that has not ended, nothing happens.
            why: makes the reason of its status and of whether any of it may have gone.
            endpoint: the tunnel's end.
            now: the time, in seconds.
        """
        sent = self._sent.get(ref)
        if sent is None:
            return Effects()
        first = sent.status.first_counter
        gone = Route.ROUTE_2B in sent.status.routes or (
            first is not None and self._storage.may_have_gone(ref, first_counter=first)
        )
        reason = why(sent.status, may_have_gone=gone)
        return endpoint.cancel(ref, reason, now, may_have_gone=gone)

    def _forget_now_and_then(self) -> None:
        now = self._clock()
        if now >= self._forgot_at + _FORGET_EVERY_S:
            self._forgot_at = now
            self._storage.forget_finished(
                before=now - self._config.keep_finished_s,
                requests_before=now - self._config.keep_requests_s,
            )

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
            return joined(effects, *(self._give_up(old, why, endpoint, now) for old in older))

        with self._sent.taking(ref, wishes):
            try:
                # What is refused is refused before anything is superseded.
                self._do(work, may_refuse=True)
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

        self._do(work, request=request)
        if outcome is not None and outcome.result is not Result.SUCCESS:
            self._echoes.fail(request, outcome)

    def status(self, ref: str) -> MessageStatus | None:
        """Return what is known of a message; None: nothing."""
        sent = self._find(ref)
        return None if sent is None else sent.status

    def _find(self, ref: str) -> SentMessage | None:
        return self._sent.get(ref) or self._storage.message(ref)

    # Messages up

    def receive_alert(self, alert: DeviceAlert) -> None:
        """Take a verified alert; on return all that it changed is stored.

        Raises:
            StorageError: it could not be stored, or too much waits: it must come again.
        """
        full = self._inbox.too_much_waits(alert.device, self._config)
        effects = self._do(
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

        self._do(work, acknowledged=ref, answered=answered)
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
        self._do(
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
        self._do(lambda endpoint, now: endpoint.on_transmitted(originator_counter, now), hold=True)

    def route_up(self, device: EntityId, message_octets: int) -> None:
        """Note that a device is connected, and how long a message it takes.

        Raises:
            StorageError: it is not stored; it is known all the same.
        """
        self._up[device] = message_octets
        self._do(
            lambda endpoint, now: endpoint.route_up(
                device.octets, now, message_octets=message_octets
            )
        )

    def route_down(self, device: EntityId) -> None:
        """Note that a device is connected no more.

        Raises:
            StorageError: it is not stored; it is known all the same.
        """
        self._up.pop(device, None)
        self._do(lambda endpoint, now: endpoint.route_down(device.octets, now))

    def tell_route(self, record: RouteRecord, told: RouteOffer | RouteWithdrawn) -> None:
        """Tell a device about an offer, and store the offer's record with it.

        Raises:
            StorageError: nothing is changed.
        """
        self._do(
            lambda endpoint, now: endpoint.send_record(record.device.octets, told, now),
            offer=record,
        )

    def known_devices(self) -> list[EntityId]:
        """Return the devices that have said what they understand.

        Raises:
            StorageError: the state cannot be read.
        """
        if self._endpoint is None:
            self._do(lambda endpoint, now: Effects())
        return [] if self._endpoint is None else list(map(EntityId, self._endpoint.peers()))

    # Echo and capabilities

    def capabilities(self, device: EntityId) -> Capabilities | None:
        """Return what a CEM has said that it understands; None: nothing yet."""
        if self._endpoint is None:
            self._do(lambda endpoint, now: Effects())
        return None if self._endpoint is None else self._endpoint.capabilities(device.octets)

    async def echo(self, device: EntityId, timeout_s: float) -> float:
        """Ask a CEM for an echo and return how long it took, in seconds.

        Raises:
            NoEcho: it did not come in time, or the DCC or the device refused to carry it.
            StorageError: it could not be stored.
        """
        nonce = self._random_octets(8)
        begun = self._clock()
        with self._echoes.expect(device, nonce) as reply:
            self._do(lambda endpoint, now: endpoint.echo(device.octets, nonce, now))
            try:
                async with asyncio.timeout(timeout_s):
                    seconds = await reply - begun
            except TimeoutError:
                raise NoEcho(f"no echo of {device} in {timeout_s:g} s") from None
        self._news.tell_echo(device, seconds)
        return seconds


def _by_2a(transmits: Sequence[Transmit]) -> list[Transmit]:
    return [transmit for transmit in transmits if transmit.route is Route.ROUTE_2A]
