"""How a message moves through its states: what each step does to the books, and what it tells.

Source: specs/tunnel-protocol.md, sending.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import replace
from typing import Final

from smtunnel.delivery import DeliveryState, MessageStatus, advance
from smtunnel.outbox import Outbox
from smtunnel.outgoing import OutgoingMessage
from smtunnel.policy import Confirmation, Result, SendPolicy
from smtunnel.route_choice import RouteChoice
from smtunnel.send_events import ControlEnded, SenderEvent, StatusChanged
from smtunnel.send_states import SendInput, SendState, next_state

MOST: Final = 255
"""Attempts and losses of a fragment are counted in an octet."""

_GIVEN_UP: Final = frozenset({SendInput.EXHAUSTED, SendInput.EXPIRED})
_OPEN: Final = frozenset({SendState.SENDING, SendState.WAITING})
"""States in which the peer has not said that it ended the message."""


class Course:
    """Moves messages; MessageSender says when."""

    def __init__(
        self, outbox: Outbox, policy: SendPolicy, random_fraction: Callable[[], float]
    ) -> None:
        """Begin.

        Args:
            outbox: the books.
            policy: how to send.
            random_fraction: returns a random number from 0 to 1, for the waits.
        """
        self._outbox = outbox
        self._policy = policy
        self._random_fraction = random_fraction

    def attempts(self, message: OutgoingMessage) -> int:
        """Return how often a fragment of a message is sent at most."""
        policy = self._policy
        return policy.control_attempts if message.control else policy.attempts_per_fragment

    def fragment_delivered(
        self, events: list[SenderEvent], message: OutgoingMessage, index: int
    ) -> None:
        """Note that a fragment had the result 00."""
        for counter in [c for c, flight in message.flights.items() if flight.index == index]:
            self._outbox.land(message, counter)
        message.retries = [entry for entry in message.retries if entry[1] != index]
        heapq.heapify(message.retries)
        message.set_delivered(index)
        self._outbox.seen(message)
        self.count(events, message)
        if message.delivered == message.total:
            self.move(events, message, SendInput.CONFIRMED)

    def lost(
        self,
        events: list[SenderEvent],
        message: OutgoingMessage,
        counter: int,
        result: Result,
        now: float,
        detail: str,
    ) -> None:
        """Note that an attempt has come to nothing, and send again if there is one left."""
        flight = message.flights[counter]
        index, known = flight.index, flight.deadline is None
        if result is Result.UNKNOWN:
            self._outbox.give_up(message, flight)
        else:
            self._outbox.land(message, counter)
        if known or next_state(message.state, SendInput.AGAIN) is None:
            return
        if not message.on_2a:
            # It goes by route 2b now, whole.
            return
        message.losses[index] = min(message.losses[index] + 1, MOST)
        if result in (Result.BUSY, Result.NOT_HANDED_OVER):
            # Nobody is to blame: only the lifetime bounds this.
            message.sent[index] -= 1
        message.reason = f"fragment {index + 1} of {message.total}: {detail or result.value}"
        if message.has_other_attempt(index):
            return
        if message.sent[index] >= self.attempts(message):
            reason = f"{message.reason}, after {message.sent[index]} attempts"
            self.move(events, message, SendInput.EXHAUSTED, reason)
            return
        wait_s = self._policy.retry_wait_s(message.losses[index], self._random_fraction())
        message.send_again(index, now + wait_s)
        self.move(events, message, SendInput.AGAIN)

    def check_handed_over(
        self, events: list[SenderEvent], message: OutgoingMessage, now: float
    ) -> None:
        """Note that every fragment is handed over, if that is so."""
        if message.state is not SendState.SENDING or not message.all_handed_over:
            return
        if self.nothing_confirms(message):
            self.move(events, message, SendInput.HANDED_OVER_FINALLY)
            return
        self.move(events, message, SendInput.HANDED_OVER)
        if not message.on_2a or message.confirmation is Confirmation.NONE:
            return
        state = DeliveryState.ACCEPTED
        if message.confirmation is Confirmation.RECEIPTS:
            if not message.whole.engaged:
                message.receipt_due = now + self._policy.receipt_wait_s(message.asked)
            state = DeliveryState.SENT
        if message.status.state is DeliveryState.QUEUED:
            self.tell(events, message, advance(message.status, state))

    def nothing_confirms(self, message: OutgoingMessage) -> bool:
        """Tell whether nothing more will be heard of a message once it is handed over."""
        if message.whole.engaged:
            return message.sent_once
        return message.confirmation is Confirmation.NONE

    def check_final(self, events: list[SenderEvent], message: OutgoingMessage) -> None:
        """Note that nothing will confirm a message that is handed over, if that is so."""
        if message.state is SendState.WAITING and self.nothing_confirms(message):
            self.move(events, message, SendInput.HANDED_OVER_FINALLY)

    # Route 2b

    def whole_handed_over(
        self, events: list[SenderEvent], message: OutgoingMessage, now: float
    ) -> None:
        """Note that the connection has taken a message; its receipt is awaited."""
        self._outbox.land_whole(message)
        if not message.sent_once:
            message.receipt_due = now + self._policy.receipt_wait_2b_s(message.whole.asked + 1)
        self.check_handed_over(events, message, now)
        # What is under way there is not saved, but of what goes by 2a as well.
        changed = message.final or message.choice is RouteChoice.BOTH
        self._outbox.settle(message, now, changed=changed)

    def whole_unanswered(
        self, events: list[SenderEvent], message: OutgoingMessage, now: float
    ) -> None:
        """Let a message go once more, for no receipt has come though the route stands."""
        whole = message.whole
        whole.asked = min(whole.asked + 1, MOST)
        message.reason = f"no receipt came by route 2b, though sent {whole.sent} times"
        if message.choice is RouteChoice.BOTH and whole.asked >= self._policy.attempts_2b:
            self._leave_2b(events, message, now)
            return
        whole.due = now
        self.move(events, message, SendInput.AGAIN)

    def whole_lost(self, events: list[SenderEvent], message: OutgoingMessage, now: float) -> None:
        """Note that the connection is gone, with what was on its way there."""
        whole = message.whole
        given_out = whole.due is None
        self._outbox.land_whole(message)
        if given_out and message.sent_once:
            self.move(events, message, SendInput.HANDED_OVER_FINALLY)
        elif message.choice is RouteChoice.BOTH:
            self._leave_2b(events, message, now)
        else:
            message.receipt_due = None
            whole.due = now
            self.move(events, message, SendInput.AGAIN)

    def join_2b(self, events: list[SenderEvent], message: OutgoingMessage, now: float) -> None:
        """Let a message that goes by both routes go by 2b too, which has come up."""
        if next_state(message.state, SendInput.AGAIN) is not None:
            message.engage_whole(now)
            self.move(events, message, SendInput.AGAIN)

    def _leave_2b(self, events: list[SenderEvent], message: OutgoingMessage, now: float) -> None:
        """Let a message that goes by both routes go on by 2a alone."""
        message.leave_whole()
        message.receipt_due = None
        if message.state is SendState.WAITING and message.confirmation is Confirmation.RECEIPTS:
            message.receipt_due = now + self._policy.receipt_wait_s(message.asked)
        self.check_final(events, message)
        self.check_handed_over(events, message, now)

    # Every step

    def move(
        self,
        events: list[SenderEvent],
        message: OutgoingMessage,
        what: SendInput,
        reason: str = "",
    ) -> bool:
        """Take an input through the table; False: it means nothing in this state."""
        state = next_state(message.state, what)
        if state is None:
            return False
        before, message.state = message.state, state
        if reason:
            message.reason = reason
        if what in _GIVEN_UP and before in _OPEN and message.may_be_there:
            # To say that it failed would be to say more than is known.
            message.reason += "; not known whether it has arrived"
        if state not in (SendState.SENDING, SendState.WAITING, SendState.DISPUTED):
            self._outbox.leave(message, delivered=state is SendState.DELIVERED)
        if message.final:
            self._end(events, message)
        return True

    def _end(self, events: list[SenderEvent], message: OutgoingMessage) -> None:
        status = message.status
        if message.state is SendState.FAILED:
            status = advance(status, DeliveryState.FAILED, reason=message.reason)
        elif message.state is SendState.UNCONFIRMED:
            status = replace(advance(status, DeliveryState.SENT), receipt_expected=False)
        else:
            delivered = status.fragments_delivered == status.fragments_total
            if message.confirmation is Confirmation.RESULTS and delivered:
                self.tell(events, message, advance(status, DeliveryState.DELIVERED))
            status = advance(message.status, DeliveryState.REASSEMBLED)
        self.tell(events, message, status)
        if message.control:
            delivered = message.state is not SendState.FAILED
            events.append(ControlEnded(message.ref, message.peer, delivered))

    def count(self, events: list[SenderEvent], message: OutgoingMessage) -> None:
        """Tell how many fragments are accepted and delivered."""
        accepted = max(message.status.fragments_accepted, message.accepted)
        delivered = max(message.status.fragments_delivered, message.delivered)
        self.tell(
            events,
            message,
            advance(message.status, fragments_accepted=accepted, fragments_delivered=delivered),
        )

    def tell(
        self, events: list[SenderEvent], message: OutgoingMessage, status: MessageStatus
    ) -> None:
        """Tell a status, and the routes that the message has taken, if any of it is news."""
        if not message.routes <= status.routes:
            status = replace(status, routes=status.routes | message.routes)
        if status != message.status:
            message.status = status
            if not message.control:
                events.append(StatusChanged(message.peer, status))
