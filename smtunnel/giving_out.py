"""Giving out: which message goes next, by which route, under which counter.

Each route has a line of its own in which the peers stand. What the DCC bounds (fragments in all, in
a window of time) holds up route 2a alone; on 2b there is only what may be on its way to each peer.

Source: specs/tunnel-protocol.md, sending and two routes.
"""

from __future__ import annotations

import math
from typing import Final

from smtunnel.course import MOST, Course
from smtunnel.delivery import advance
from smtunnel.header import Originator
from smtunnel.links import Ways
from smtunnel.outbox import Outbox, Recipient
from smtunnel.outgoing import OutgoingMessage
from smtunnel.pacing import PACE_KEY, Pace
from smtunnel.policy import Confirmation, CounterIssuer, SendPolicy
from smtunnel.route_choice import Route, RouteChoice
from smtunnel.send_events import SenderEvent, Transmit
from smtunnel.send_states import SendInput, SendState

CONTROL_MESSAGES_IN_FLIGHT: Final = 8
MAX_LIVE_IDS: Final = 255
"""So many ids may be of messages on their way, those included that were overtaken."""


class GivingOut:
    """Gives out fragments and whole messages while there is room for them."""

    def __init__(
        self,
        outbox: Outbox,
        course: Course,
        policy: SendPolicy,
        *,
        originator: Originator,
        counters: CounterIssuer,
    ) -> None:
        """Begin.

        Args:
            outbox: the books.
            course: moves messages.
            policy: how to send.
            originator: which end this is.
            counters: gives out originator counters; what it raises passes through.
        """
        self._outbox = outbox
        self._course = course
        self._policy = policy
        self._originator = originator
        self._counters = counters
        self.ways = Ways(policy)
        self.pace = Pace(policy.fragments_per_window, policy.window_s)
        self._pace_free_at: float | None = None

    def first_timer(self) -> float:
        """Return when the pace lets more go, if anybody waits for that; else infinity."""
        if self._pace_free_at is None or not self._outbox.lines[Route.ROUTE_2A]:
            return math.inf
        return self._pace_free_at

    def poll(self, now: float) -> list[SenderEvent]:
        """Give out what may go now."""
        events: list[SenderEvent] = []
        line = self._outbox.lines[Route.ROUTE_2B]
        while line:
            place, priority = line.first()
            if self._give_out_whole(events, place.recipient, priority, now):
                line.next_turn(priority)
            else:
                line.leave(priority)
        line = self._outbox.lines[Route.ROUTE_2A]
        while line and self._outbox.not_handed_over < self._policy.fragments_in_flight_total:
            self._pace_free_at = self.pace.free_at(now)
            if self._pace_free_at is not None:
                break
            place, priority = line.first()
            if self._give_out_fragment(events, place.recipient, priority, now):
                line.next_turn(priority)
            else:
                line.leave(priority)
        return events

    # Route 2b

    def _give_out_whole(
        self, events: list[SenderEvent], recipient: Recipient, priority: int, now: float
    ) -> bool:
        begun = None
        message = self._next_whole(recipient, priority, now)
        if self._is_overtaken(recipient, message, Route.ROUTE_2B, now):
            begun = self._start_next(events, recipient, priority, Route.ROUTE_2B, now)
            message = begun or message
        if message is None:
            return False
        counter = message.first_counter or 0
        if message is not begun:
            counter = self._counters.issue_for_tag(message.tag, 0)
        message.highest_counter = max(message.highest_counter, counter)
        message.whole.sent = min(message.whole.sent + 1, MOST)
        self._outbox.fly_whole(message, counter)
        self._course.tell(events, message, message.status)
        payload = message.whole_payload(self._originator)
        attempt = message.whole.sent
        events.append(
            Transmit(message.ref, message.peer, 0, payload, counter, attempt, Route.ROUTE_2B)
        )
        self._outbox.settle(message, now)
        return True

    def _next_whole(
        self, recipient: Recipient, priority: int, now: float
    ) -> OutgoingMessage | None:
        """Return the live message that goes next by route 2b; one may come over from 2a."""
        for message in recipient.live:
            if not message.control and message.priority < priority:
                break
            if message.state is not SendState.SENDING:
                continue
            if not self.ways.may_2b(message, recipient.link):
                continue
            if message.whole.engaged:
                if message.whole.due is not None and message.whole.due <= now:
                    return message
            elif message.has_something_due(now) and self._has_room_2b(recipient, message):
                message.engage_whole(now)
                return message
        return None

    def _has_room_2b(self, recipient: Recipient, message: OutgoingMessage) -> bool:
        on_2b = recipient.in_the_way(message, Route.ROUTE_2B)
        return on_2b < self._policy.messages_in_flight_2b

    # Route 2a

    def _give_out_fragment(
        self, events: list[SenderEvent], recipient: Recipient, priority: int, now: float
    ) -> bool:
        if recipient.in_flight >= self._policy.fragments_in_flight:
            return False
        message = self._next_fragment(recipient, priority, now)
        if self._is_overtaken(recipient, message, Route.ROUTE_2A, now):
            message = self._start_next(events, recipient, priority, Route.ROUTE_2A, now) or message
        if message is None:
            return False
        index = message.next_due(now)
        counter = (message.first_counter or 0) + index
        if index < message.next_new:
            counter = self._counters.issue_for_tag(message.tag, index)
        message.take_due(index)
        message.highest_counter = max(message.highest_counter, counter)
        message.sent[index] = min(message.sent[index] + 1, MOST)
        timeout_s = math.inf
        if message.confirmation is Confirmation.RESULTS:
            timeout_s = self._policy.result_timeout_s
        self._outbox.fly(message, counter, index, now + timeout_s)
        self.pace.count(now)
        if self._policy.fragments_per_window is not None:
            self._outbox.save(PACE_KEY, self.pace.to_bytes())
        self._course.tell(events, message, message.status)
        events.append(self.transmit(message, counter))
        self._outbox.settle(message, now)
        return True

    def _next_fragment(
        self, recipient: Recipient, priority: int, now: float
    ) -> OutgoingMessage | None:
        """Return the live message whose fragment goes next; one may come over from 2b."""
        for message in recipient.live:
            if not message.control and message.priority < priority:
                break
            if message.state is not SendState.SENDING:
                continue
            if not self.ways.may_2a(message, recipient.link, now):
                continue
            if (
                not message.on_2a
                and (message.whole.due is not None or message.choice is RouteChoice.BOTH)
                and self._has_room_2a(recipient, message)
            ):
                message.engage_fragments(now)
            if message.has_something_due(now):
                return message
        return None

    def _has_room_2a(self, recipient: Recipient, message: OutgoingMessage) -> bool:
        limits = (self._policy.messages_in_flight, CONTROL_MESSAGES_IN_FLIGHT)
        if recipient.in_the_way(message, Route.ROUTE_2A) >= limits[message.control]:
            return False
        return message.total == 1 or message.control or recipient.has_room()

    def transmit(self, message: OutgoingMessage, counter: int) -> Transmit:
        """Return what asks for the transport of a fragment that was given out."""
        index = message.flights[counter].index
        payload = message.payload(index, self._originator)
        attempt = message.sent[index]
        return Transmit(message.ref, message.peer, index, payload, counter, attempt)

    # Both

    def _may_begin(
        self, message: OutgoingMessage, recipient: Recipient, route: Route, now: float
    ) -> bool:
        if route is Route.ROUTE_2B:
            return self.ways.may_2b(message, recipient.link)
        return self.ways.may_2a(message, recipient.link, now)

    def _is_overtaken(
        self, recipient: Recipient, message: OutgoingMessage | None, route: Route, now: float
    ) -> bool:
        """Tell whether one that waits for its turn goes before a live data message."""
        if message is None or message.control:
            return message is None
        queued = recipient.next_queued(
            False, lambda head: self._may_begin(head, recipient, route, now)
        )
        return queued is not None and queued.priority > message.priority

    def _start_next(
        self,
        events: list[SenderEvent],
        recipient: Recipient,
        priority: int,
        route: Route,
        now: float,
    ) -> OutgoingMessage | None:
        has_room = self._has_room_2b if route is Route.ROUTE_2B else self._has_room_2a
        for control in (True, False):
            ids = recipient.ids[control]
            message = recipient.next_queued(
                control, lambda head: self._may_begin(head, recipient, route, now)
            )
            if message is None or ids.live >= MAX_LIVE_IDS:
                continue
            if not control and message.priority < priority:
                continue
            if not has_room(recipient, message):
                continue
            message_id, avoid_tags = ids.take()
            # By 2b a message is one piece; its fragments, if it comes to that, take counters as
            # every later transmission does.
            count = 1 if route is Route.ROUTE_2B else message.total
            first = self._counters.issue_block(count, avoid_tags=avoid_tags)
            self._course.move(events, message, SendInput.START)
            self._outbox.begin(message, route, message_id, first, now)
            status = advance(message.status, tunnel_message_id=message_id, first_counter=first)
            self._course.tell(events, message, status)
            return message
        return None
