"""The CEM's end of the tunnel on its disk: whatever it does is stored before it shows.

An `Endpoint` decides; here its effects are stored, as one, with what belongs to them: alerts that
are signed and ready, whole messages, the answer to a command. When that fails the endpoint's memory
is ahead of the disk; then it is thrown away, and made again from the disk at the next call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Final, cast

from cem.core.deadlines import (
    CLOCK_KEY,
    ClockState,
    Deadlines,
    deadline_reason,
    may_have_gone,
)
from cem.core.routes import KnownOffer, Offers
from cem.core.uplink import AlertBuilder
from cem.errors import AlertError, StoreError
from cem.ports import NO_CHANGES, BuiltAlert, Changes, NewMessage, Store
from gbcs.entity_id import EntityId
from gbcs.errors import GbcsError
from gbcs.ports import Clock
from gbcs.steady import SteadyClock
from smtunnel import DeliveryState, MessageStatus, Route, RouteChoice, advance
from smtunnel.effects import Effects, ReceivedMessage
from smtunnel.endpoint import Endpoint
from smtunnel.errors import StateError
from smtunnel.fragments import CompressionChoice
from smtunnel.pacing import PACE_KEY
from smtunnel.send_events import StatusChanged

RETRY_S: Final = 10.0
"""After a failure of the store: when timers are tried again, in seconds."""

_WINDOW_KEY: Final = "cem/window"
"""The window that the saved pace was counted in: it means nothing in another."""


class TunnelEnd:
    """One CEM's end of the tunnel.

    Args:
        new_endpoint: makes an endpoint that knows nothing.
        alerts: builds alerts.
        store: keeps everything.
        peer: the EUI of the other end, 8 octets.
        window_s: the window of the endpoint's pacing, in seconds.
        offers: of route 2b: what came, and what is answered.
        wall: the wall clock: the dates of alerts, offers and callers' deadlines are by it.
        clock: what all else is measured by, and every ``now``; where the wall clock was set, that
            is stored.
        clock_set: is told how far the wall clock is ahead, in seconds, when it was set.
        told: is called with all that has happened, when it is stored.
    """

    def __init__(
        self,
        new_endpoint: Callable[[], Endpoint],
        alerts: AlertBuilder,
        store: Store,
        *,
        peer: bytes,
        window_s: float,
        offers: Offers,
        wall: Clock,
        clock: SteadyClock,
        clock_set: Callable[[float], None],
        told: Callable[[Effects], None],
    ) -> None:
        self._new_endpoint = new_endpoint
        self._alerts = alerts
        self._store = store
        self._peer = peer
        self._window = repr(window_s).encode("ascii")
        self._offers = offers
        self._wall = wall
        self._clock = clock
        self._clock_set = clock_set
        self._deadlines = Deadlines()
        self._told = told
        self._up: int | None = None
        # What is to be told when what is held is durable.
        self._untold: list[Effects] = []
        self._endpoint: Endpoint | None = None
        self._failed_at: float | None = None

    # Inputs. All raise StoreError or AlertError when nothing of them has happened.

    def start(self, now: float) -> None:
        """Go on where the store stands, and tell the other end what this one understands."""
        self.work(lambda endpoint: endpoint.announce(self._peer, now), now)
        # What came to its end while nobody was here is not sent any more.
        self.handle_timer(now)
        changed = self._offers.reconsider(self._wall())
        if changed is not None:
            known, answer = changed
            self.work(
                lambda endpoint: endpoint.send_record(self._peer, answer, now),
                now,
                lambda _: Changes(offer=known),
            )
            self._offers.known = known

    def send(
        self,
        ref: str,
        message: bytes,
        compression: str,
        now: float,
        *,
        priority: int = 0,
        deadline: float | None = None,
        route: RouteChoice = RouteChoice.AUTO,
        urgent: bool = False,
    ) -> None:
        """Take a message for the other end; ``deadline`` is by the wall clock.

        Raises:
            LocalError: it is longer than the other end takes, or the compression cannot be had.
        """
        # Text from the application: what is unknown is refused.
        choice = cast(CompressionChoice, compression)

        def take(endpoint: Endpoint) -> Effects:
            effects = endpoint.send(
                ref,
                self._peer,
                message,
                now,
                compression=choice,
                priority=priority,
                route=route,
                urgent=urgent,
            )
            if deadline is None:
                return effects
            return replace(effects, saves={**effects.saves, **self._deadlines.add(ref, deadline)})

        self.work(take, now)

    def handed_over(self, alert: BuiltAlert, now: float) -> None:
        """Note that the hub has an alert."""
        counter = alert.originator_counter
        self.work(
            lambda endpoint: endpoint.on_transmitted(counter, now),
            now,
            lambda _: Changes(done_alerts=(counter,)),
        )

    def acknowledge(self, received: str, answers: MessageStatus | None, now: float) -> None:
        """Let the application take a message over, which perhaps answers one that was sent.

        Args:
            received: reference of the message.
            answers: the status of the sent message; it ends as answered.
            now: seconds since 1970.

        Raises:
            LocalError: the sent message had failed.
        """
        changes = Changes(acknowledged=received)
        if answers is None:
            self._store.commit(changes)
            return
        ref, answered = answers.ref, advance(answers, DeliveryState.ANSWERED)

        def work(endpoint: Endpoint) -> Effects:
            effects = endpoint.answered(ref, now)
            if not any(told.status.ref == ref and told.status.final for told in effects.statuses):
                # What was about to begin anew does not.
                effects = _joined(effects, endpoint.cancel(ref, "it is answered", now))
            others = tuple(told for told in effects.statuses if told.status.ref != ref)
            return replace(effects, statuses=(*others, StatusChanged(self._peer, answered)))

        self.work(work, now, lambda _: changes)

    # Route 2b

    def receive_message(
        self, payload: bytes, originator_counter: int, now: float, *, busy: bool
    ) -> Effects:
        """Take a whole message that the other end has signed.

        For the application it is stored at once. What a control message brings, and all receipts,
        wait for `settle`, which is to be called soon: by then the application may have answered,
        and what comes together is stored together.
        """
        return self.work(
            lambda endpoint: endpoint.on_message(
                self._peer, payload, originator_counter=originator_counter, now=now, busy=busy
            ),
            now,
            hold=True,
        )

    @property
    def unsettled(self) -> bool:
        """Whether `settle` has something to do."""
        owes = self._endpoint is not None and self._endpoint.owes_receipts
        return owes or self._store.holds or bool(self._untold)

    def settle(self, now: float) -> None:
        """Make durable what is held, do what waits for that, and give the receipts."""
        self._store.flush()
        self._tell_untold()
        if self._endpoint is not None and self._endpoint.owes_receipts:
            self.work(lambda endpoint: endpoint.give_receipts(now), now)

    def route_up(self, message_octets: int, now: float) -> None:
        """Note that route 2b stands, and how long a message the other end takes there."""
        self._up = message_octets
        self.work(
            lambda endpoint: endpoint.route_up(self._peer, now, message_octets=message_octets), now
        )

    def route_down(self, now: float) -> None:
        """Note that route 2b is gone."""
        self._up = None
        self.work(lambda endpoint: endpoint.route_down(self._peer, now), now)

    def written(self, originator_counter: int, now: float) -> None:
        """Note that the connection of route 2b has taken a message."""
        self.work(lambda endpoint: endpoint.on_transmitted(originator_counter, now), now, hold=True)

    def waits_for_route_2b_s(self, ref: str, now: float) -> float | None:
        """Return for how long a message waits for route 2b, as an `Endpoint` does."""
        return self._ready(now).waits_for_route_2b_s(ref, now)

    # Time

    def get_timer(self) -> float | None:
        """Return when `handle_timer` should be called, on the steady clock; None: not at all.

        The wall clock may be set meanwhile, and a deadline pass sooner.
        """
        if self._endpoint is None:
            return None if self._failed_at is None else self._failed_at + RETRY_S
        timer, deadline = self._endpoint.get_timer(), self._deadlines.first()
        if deadline is None:
            return timer
        due = self._clock() + (deadline - self._wall())
        return due if timer is None else min(timer, due)

    def handle_timer(self, now: float) -> None:
        """Do what time brings."""
        self._end_overdue(now)
        self.work(lambda endpoint: endpoint.on_timer(now), now)

    def _end_overdue(self, now: float) -> None:
        """End the messages whose deadlines have passed."""
        for ref in self._deadlines.overdue(self._wall()):
            self.work(functools.partial(self._give_up, ref, now), now)

    def _give_up(self, ref: str, now: float, endpoint: Endpoint) -> Effects:
        status = self._store.status(ref)
        effects = Effects()
        if status is not None:
            gone, reason = may_have_gone(status), deadline_reason(status)
            effects = endpoint.cancel(ref, reason, now, may_have_gone=gone)
        return replace(effects, saves={**effects.saves, **self._deadlines.drop(ref)})

    def keep_clock(self) -> None:
        """Store how far the wall clock is ahead, if it was set."""
        if self._clock.moved() is not None:
            self._commit(Effects(), self._clock(), NO_CHANGES)

    # Inside

    def work(
        self,
        do: Callable[[Endpoint], Effects],
        now: float,
        more: Callable[[Effects], Changes] = lambda _: NO_CHANGES,
        *,
        hold: bool = False,
    ) -> Effects:
        """Let the endpoint do something, and store what comes of it.

        Args:
            do: is given the endpoint.
            now: seconds since 1970.
            more: returns what else is to be stored, as one with it: not rows, statuses or alerts.
            hold: True where it is enough that it is durable, and told, by the next `settle`; not
                for whole messages and alerts.

        Raises:
            StoreError: the store fails.
            AlertError: no alert can be built.
        """
        try:
            endpoint = self._ready(now)
            effects = do(endpoint)
            changes = more(effects)
            offer = None
            if effects.news:
                effects, offer = self._hear(endpoint, effects, now)
            # A message that was handed out must keep its name, and an alert its place.
            hold = hold and not (
                effects.received or any(t.route is Route.ROUTE_2A for t in effects.transmits)
            )
            changes = changes if offer is None else replace(changes, offer=offer)
            self._commit(effects, now, changes, hold=hold)
        except BaseException as error:
            self._endpoint, self._failed_at = None, now
            if isinstance(error, GbcsError):
                raise AlertError(f"no Originator Counter for an alert: {error}") from None
            raise
        if offer is not None:
            self._offers.known = offer
        if hold:
            self._untold.append(effects)
        else:
            self._tell_untold()
            self._told(effects)
        return effects

    def _tell_untold(self) -> None:
        while self._untold and not self._store.holds:
            self._told(self._untold.pop(0))

    def _hear(
        self, endpoint: Endpoint, effects: Effects, now: float
    ) -> tuple[Effects, KnownOffer | None]:
        """Answer route offers; returns all that comes of it, and what is to be kept."""
        kept, answers = self._offers.hear((news.record for news in effects.news), self._wall())
        for answer in answers:
            effects = _joined(effects, endpoint.send_record(self._peer, answer, now))
        return effects, kept

    def _ready(self, now: float) -> Endpoint:
        if self._endpoint is None:
            endpoint = self._new_endpoint()
            rows = self._store.tunnel_rows()
            rows.pop(CLOCK_KEY, None)
            self._deadlines.take_rows(rows)
            if rows.pop(_WINDOW_KEY, None) != self._window:
                rows.pop(PACE_KEY, None)
            try:
                effects = endpoint.restore(rows.items(), now)
            except StateError as error:
                raise StoreError(
                    f"the stored state of the tunnel is damaged: {error}; restore the state file"
                ) from None
            # What was signed before goes out as it is; what no message waits for goes not at all.
            signed = self._store.alert_counters()
            wanted = {transmit.originator_counter for transmit in effects.transmits}
            new = tuple(t for t in effects.transmits if t.originator_counter not in signed)
            effects = replace(
                effects, saves={**effects.saves, _WINDOW_KEY: self._window}, transmits=new
            )
            if self._up is not None:
                # The connection stands, whatever became of the memory of it.
                up = endpoint.route_up(self._peer, now, message_octets=self._up)
                effects = _joined(effects, up)
            self._commit(effects, now, Changes(done_alerts=signed - wanted))
            self._endpoint = endpoint
            # What came before this is told before it.
            self._tell_untold()
            self._told(effects)
        return self._endpoint

    def _commit(self, effects: Effects, now: float, more: Changes, *, hold: bool = False) -> None:
        statuses = tuple(told.status for told in effects.statuses)
        wall = self._wall()
        changes = replace(
            more,
            rows={**effects.saves, **self._deadlines.drop_ended(statuses)},
            received=tuple(_new_message(received, wall) for received in effects.received),
            statuses=statuses,
            alerts=tuple(
                self._alerts.build(transmit, wall)
                for transmit in effects.transmits
                if transmit.route is Route.ROUTE_2A
            ),
        )
        ahead_s = self._clock.moved()
        if changes == NO_CHANGES and ahead_s is None:
            if not hold:
                self._store.flush()
            return
        clock = ClockState(self._clock.noted_s if ahead_s is None else ahead_s, now)
        changes = replace(changes, rows={**changes.rows, CLOCK_KEY: clock.build()})
        if hold:
            self._store.hold(changes)
        else:
            self._store.commit(changes)
        if ahead_s is not None:
            self._clock.note(ahead_s)
            self._clock_set(ahead_s)


def message_ref(peer: bytes, tunnel_message_id: int, first_counter: int) -> str:
    """Return the name of a message from the other end; of no other, ever."""
    return f"{peer.hex()}-{tunnel_message_id}-{first_counter}"


def _new_message(received: ReceivedMessage, wall: float) -> NewMessage:
    ref = message_ref(received.peer, received.tunnel_message_id, received.first_counter)
    return NewMessage(ref, EntityId(received.peer), received.message, wall, received.route)


def _joined(first: Effects, second: Effects) -> Effects:
    return Effects(
        saves={**first.saves, **second.saves},
        received=first.received + second.received,
        statuses=first.statuses + second.statuses,
        answer=first.answer,
        transmits=first.transmits + second.transmits,
        news=first.news + second.news,
        events=first.events + second.events,
    )
