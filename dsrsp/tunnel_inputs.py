"""One input at a time to the tunnel's end: it thinks, what it says is stored, and then done."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Final, TypeAlias

from dsrsp.config import DsrspConfig
from dsrsp.core.wishes import deadline_passed
from dsrsp.errors import StorageError
from dsrsp.ports import Changes, Storage
from dsrsp.sent_messages import SentMessages, joined
from dsrsp.tunnel_outcomes import NOTHING_BESIDE, Beside, Outcomes
from dsrsp.tunnel_settings import receipt_settings, receive_limits, send_policy
from gbcs.counters import OriginatorCounter
from gbcs.entity_id import EntityId
from gbcs.ports import Clock, Randomness
from gbcs.steady import SteadyClock
from smtunnel import LocalError, Originator, Route, StateError
from smtunnel.effects import Effects
from smtunnel.endpoint import Endpoint

logger = logging.getLogger("dsrsp")

_FORGET_EVERY_S: Final = 86_400.0
_SETTLE_S: Final = 0.02
"""So long after a message has come by route 2b its receipt goes, in seconds: by then the
application has most likely answered, what came meanwhile shares the write to the disk, and the
receipts one message."""
_LOOK_EVERY_S: Final = 60.0
"""The longest sleep while anything is due later."""

Work: TypeAlias = Callable[[Endpoint, float], Effects]
"""Gives an input to the end, at a time in seconds."""


class TunnelInputs:
    """The tunnel's end, its store and its timer.

    Memory may be ahead of the disk when something fails; then the end is made anew from the store.

    Args:
        config: the gateway's settings.
        storage: keeps everything.
        sent: the messages on their way down.
        outcomes: says what is stored, and does what is asked for.
        wall: the wall clock: callers give their deadlines in it.
        clock: what all else is measured by; where the wall clock was set, that is stored.
        random_octets: spreads retries.
    """

    def __init__(
        self,
        config: DsrspConfig,
        *,
        storage: Storage,
        sent: SentMessages,
        outcomes: Outcomes,
        wall: Clock,
        clock: SteadyClock,
        random_octets: Randomness,
    ) -> None:
        self._config = config
        self._storage = storage
        self._sent = sent
        self._outcomes = outcomes
        self._wall = wall
        self._clock = clock
        self._random_octets = random_octets
        self._counter = OriginatorCounter(storage.counter_store(), floor=config.counter_floor)
        # Who is connected by route 2b, and how long a message it takes there.
        self._up: dict[EntityId, int] = {}
        # What is to be done when what is held is durable.
        self._undone: list[Callable[[], None]] = []
        self._settling: asyncio.TimerHandle | None = None
        self._endpoint: Endpoint | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._forgot_at = clock()
        self._running = False

    # Life

    def start(self) -> None:
        """Take up what an earlier process left unfinished.

        Raises:
            StorageError: the state cannot be read, or is not what this version writes.
        """
        self._running = True
        self._open(self._clock())
        # What came to its end while nobody was here ends now.
        self.do(lambda endpoint, now: endpoint.on_timer(now))

    def stop(self) -> None:
        """Leave everything as it is in the store."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
        if self._settling is not None:
            self._settling.cancel()
            try:
                self._storage.flush()
            except StorageError as error:
                logger.error("what came last has no receipt, and comes again: %s", error)

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
        changes = self._outcomes.changes(effects, fresh)
        self._store(changes, now)
        self._endpoint = endpoint
        # What came before this is done before it.
        self._do_undone()
        self._outcomes.act(effects, changes, fresh, now)
        return endpoint

    def _random_fraction(self) -> float:
        return int.from_bytes(self._random_octets(4), "big") / 0xFFFFFFFF

    # One input: think, store, do

    def do(
        self,
        work: Work,
        beside: Beside = NOTHING_BESIDE,
        *,
        may_refuse: bool = False,
        hold: bool = False,
    ) -> Effects:
        """Let the end take an input; on return all that it changed is stored, and being done.

        Args:
            work: gives the input to the end.
            beside: what is stored with what it changes.
            may_refuse: whether the end may refuse the input, with nothing changed.
            hold: whether it is enough that it is durable, and acted upon, soon; not for whole
                messages and requests.

        Raises:
            StorageError: nothing is changed.
            LocalError: the end refuses it.
        """
        effects = self._take(work, beside, may_refuse=may_refuse, hold=hold)
        # Whatever was given out just now waits for its turn to run, and is withdrawn here.
        self._end_overdue()
        return effects

    def _take(
        self,
        work: Work,
        beside: Beside = NOTHING_BESIDE,
        *,
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
                changes = self._outcomes.changes(effects, effects.transmits, beside)
                # A message that is handed out must keep its name; a request must not run before it
                # is durable.
                hold = hold and not (changes.requests or changes.received)
                self._store(changes, now, hold=hold)
            except BaseException as error:
                if not (may_refuse and isinstance(error, LocalError)):
                    # What the end remembers is ahead of the disk: what is stored counts.
                    self._endpoint = None
                raise
            act = functools.partial(self._outcomes.act, effects, changes, effects.transmits, now)
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
        if self._settling is None and self._running:
            loop = asyncio.get_running_loop()
            self._settling = loop.call_later(delay_s, self._settle)

    def _settle(self) -> None:
        self._settling = None
        try:
            self._storage.flush()
            self._do_undone()
            if self._endpoint is not None and self._endpoint.owes_receipts:
                self.do(lambda endpoint, now: endpoint.give_receipts(now))
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

    def look(self) -> Endpoint:
        """Return the end, to ask it something: whoever gives it an input does so by ``do``.

        Raises:
            StorageError: the state cannot be read.
        """
        if self._endpoint is None:
            self.do(lambda endpoint, now: Effects())
        if self._endpoint is None:
            raise StorageError("the state of the tunnel cannot be read")
        return self._endpoint

    # Time

    def _schedule(self) -> None:
        if not self._running:
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
            self.do(lambda endpoint, now: endpoint.on_timer(now))
            self._forget_now_and_then()
        except StorageError as error:
            logger.error("what time brings waits for the disk: %s", error)

    def _end_overdue(self) -> None:
        """End the messages whose deadlines have passed, and tell what the CEM may have of them."""
        while (overdue := self._sent.take_overdue(self._wall())) is not None:
            ref = overdue.status.ref
            why = functools.partial(deadline_passed, deadline=overdue.deadline or 0.0)
            try:
                self._take(functools.partial(self.give_up, ref, why))
            except StorageError as error:
                self._sent.remind(overdue)
                logger.error("message %s is overdue, its end waits for the disk: %s", ref, error)
                return

    def give_up(self, ref: str, why: Callable[..., str], endpoint: Endpoint, now: float) -> Effects:
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

    # Route 2b

    def route_up(self, device: EntityId, message_octets: int) -> None:
        """Note that a device is connected, and how long a message it takes.

        Raises:
            StorageError: it is not stored; it is known all the same.
        """
        self._up[device] = message_octets
        self.do(
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
        self.do(lambda endpoint, now: endpoint.route_down(device.octets, now))
