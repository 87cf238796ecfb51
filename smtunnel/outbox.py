"""The books of a MessageSender: messages, peers, attempts, timers, and what must be saved.

Nothing is decided here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from smtunnel.errors import StateError
from smtunnel.line import Line
from smtunnel.links import Link
from smtunnel.message_ids import MessageIds
from smtunnel.outgoing import Flight, OutgoingMessage
from smtunnel.records import MessageName
from smtunnel.route_choice import Route, RouteChoice
from smtunnel.saved_messages import (
    export_fixed,
    export_moving,
    restore_fixed,
    restore_moving,
)
from smtunnel.send_states import SendState

_Lane: TypeAlias = tuple[RouteChoice, bool]
"""What says by which routes a queued message may begin: its choice, and whether it is urgent."""

_Queue: TypeAlias = list[tuple[int, int, OutgoingMessage]]


class Place:
    """Where a recipient stands in the line of a route."""

    __slots__ = ("levels", "recipient")

    def __init__(self, recipient: Recipient) -> None:
        self.recipient = recipient
        self.levels: set[int] = set()


class Recipient:
    """The messages to one peer.

    Attributes:
        ids: of data messages and of control messages.
        queues: of data messages and of control messages: heaps in the order of sending, one for
            each lane, so that what waits for a route holds up nothing else.
        live: messages that have an id, in the order of sending.
        in_flight: attempts by route 2a whose result is awaited.
        places: where it stands in the lines, by route.
        holds: how many incomplete messages it holds; None: not known.
        link: route 2b to it.
    """

    __slots__ = ("holds", "ids", "in_flight", "link", "live", "places", "queues")

    def __init__(self) -> None:
        self.ids = (MessageIds(), MessageIds())
        self.queues: tuple[dict[_Lane, _Queue], ...] = ({}, {})
        self.live: list[OutgoingMessage] = []
        self.in_flight = 0
        self.places = (Place(self), Place(self))
        self.holds: int | None = None
        self.link = Link()

    def add_live(self, message: OutgoingMessage) -> None:
        """Add a message that has got its id."""
        self.live.append(message)
        self.live.sort(key=lambda held: (not held.control, -held.priority, held.sequence))

    def priorities(self) -> set[int]:
        """Return the priorities of what may have something to be given out."""
        found = {held.priority for held in self.live}
        for control in (True, False):
            found |= {head.priority for head in self._heads(control)}
        return found

    def in_the_way(self, message: OutgoingMessage, route: Route) -> int:
        """Count the live messages of its kind, on a route, that a message does not overtake."""
        return sum(
            held.control is message.control
            and held.priority >= message.priority
            and (held.on_2a if route is Route.ROUTE_2A else held.whole.engaged)
            for held in self.live
        )

    def has_room(self) -> bool:
        """Tell whether the peer holds one more message that comes in several fragments."""
        if self.holds is None:
            return True
        return sum(m.on_2a and m.total > 1 and not m.control for m in self.live) < self.holds

    def next_queued(
        self, control: bool, may_begin: Callable[[OutgoingMessage], bool]
    ) -> OutgoingMessage | None:
        """Return the message whose turn is next, of those that may begin now."""
        heads = [head for head in self._heads(control) if may_begin(head)]
        return min(heads, key=lambda head: (-head.priority, head.sequence), default=None)

    def _heads(self, control: bool) -> Iterator[OutgoingMessage]:
        for queue in self.queues[control].values():
            while queue and queue[0][2].state is not SendState.QUEUED:
                heapq.heappop(queue)
            if queue:
                yield queue[0][2]

    def queue_of(self, message: OutgoingMessage) -> _Queue:
        """Return the queue that a message waits in."""
        lanes = self.queues[message.control]
        return lanes.setdefault((message.choice, message.urgent), [])

    def fleeting(self) -> int:
        """Count the receipts that are on their way by route 2b."""
        return sum(held.fleeting for held in self.live)


class Outbox:
    """Keeps messages until they have ended."""

    def __init__(self) -> None:
        """Begin empty."""
        self.messages: dict[str, OutgoingMessage] = {}
        self.lines: tuple[Line[Place], Line[Place]] = (Line(), Line())
        """Recipients that may have something to be given out, by route."""
        self.not_handed_over = 0
        """Attempts of all peers that were given out, and are not known to be handed over."""
        self._by_counter: dict[int, OutgoingMessage] = {}
        self._recipients: dict[bytes, Recipient] = {}
        self._timers: list[tuple[float, int, OutgoingMessage]] = []
        self._fallbacks: list[tuple[float, bytes]] = []
        self._pushes = 0
        self._sequence = 0
        self._saves: dict[str, bytes | None] = {}
        self._changed: dict[str, OutgoingMessage] = {}

    def recipient(self, peer: bytes) -> Recipient:
        """Return what is kept of a peer."""
        found = self._recipients.get(peer)
        if found is None:
            found = self._recipients[peer] = Recipient()
        return found

    def next_sequence(self) -> int:
        """Return the number of a new message."""
        self._sequence += 1
        return self._sequence

    def add(self, message: OutgoingMessage) -> None:
        """Take a new message."""
        self.messages[message.ref] = message
        self.save_fixed(message)
        self.queue(message)

    def queue(self, message: OutgoingMessage) -> None:
        """Let a message wait for its turn."""
        entry = (-message.priority, message.sequence, message)
        heapq.heappush(self.recipient(message.peer).queue_of(message), entry)

    def find(self, peer: bytes, name: MessageName, control: bool) -> OutgoingMessage | None:
        """Find the live message that a control record means."""
        recipient = self._recipients.get(peer)
        if recipient is not None:
            for message in recipient.live:
                if (
                    message.control is control
                    and message.message_id == name.tunnel_message_id
                    and message.names(name.key32)
                ):
                    return message
        return None

    def sent_under(self, originator_counter: int) -> OutgoingMessage | None:
        """Find the message of an attempt that may still have a result."""
        return self._by_counter.get(originator_counter)

    # Ids

    def begin(
        self,
        message: OutgoingMessage,
        route: Route,
        message_id: int,
        first_counter: int,
        now: float,
    ) -> None:
        """Give the message whose turn it is an id and counters, and let it begin on a route."""
        recipient = self.recipient(message.peer)
        heapq.heappop(recipient.queue_of(message))
        message.begin(route, message_id, first_counter, now)
        recipient.ids[message.control].begin(message_id, first_counter, message.tag)
        recipient.add_live(message)
        self._save_id(message)

    def seen(self, message: OutgoingMessage) -> None:
        """Note that the peer has shown a sign of a message."""
        if message.message_id is None:
            return
        if self.recipient(message.peer).ids[message.control].seen(message.message_id):
            self._save_id(message)

    def leave(self, message: OutgoingMessage, *, delivered: bool) -> None:
        """Take id and attempts from a message."""
        if message.message_id is None:
            return
        for counter in list(message.flights):
            self.land(message, counter)
        self.land_whole(message)
        recipient = self.recipient(message.peer)
        recipient.ids[message.control].end(message.message_id, delivered=delivered)
        recipient.live.remove(message)
        self._save_id(message)
        message.rest()

    def confirm_ended(self, peer: bytes, name: MessageName, control: bool) -> None:
        """Note that a message that was sent once, and has ended here, has arrived."""
        recipient = self._recipients.get(peer)
        if recipient is None:
            return
        ids, number = recipient.ids[control], name.tunnel_message_id
        if ids.confirm(number, name.key32):
            self._saves[f"{peer.hex()}/i/{int(control)}/{number}"] = ids.export(number)

    # Attempts

    def fly_whole(self, message: OutgoingMessage, counter: int) -> None:
        """Note that an attempt by route 2b was given out; one at a time."""
        message.whole.due = None
        message.whole.counter = counter
        self._by_counter[counter] = message

    def land_whole(self, message: OutgoingMessage) -> None:
        """Note that the attempt by route 2b is handed over, or lost."""
        if message.whole.counter is not None:
            del self._by_counter[message.whole.counter]
            message.whole.counter = None

    def fly(self, message: OutgoingMessage, counter: int, index: int, deadline: float) -> None:
        """Note that an attempt was given out."""
        message.flights[counter] = Flight(index, deadline)
        self._by_counter[counter] = message
        self.recipient(message.peer).in_flight += 1
        self.not_handed_over += 1

    def hand_over(self, flight: Flight, deadline: float) -> None:
        """Note that an attempt is handed over; its result is awaited until the deadline."""
        if flight.deadline is not None and not flight.handed_over:
            flight.handed_over = True
            flight.deadline = deadline
            self.not_handed_over -= 1

    def give_up(self, message: OutgoingMessage, flight: Flight) -> None:
        """Wait no longer for an attempt's result; if it still comes, it is of use."""
        if flight.deadline is not None:
            flight.deadline = None
            self.recipient(message.peer).in_flight -= 1
            self.not_handed_over -= not flight.handed_over

    def land(self, message: OutgoingMessage, counter: int) -> None:
        """Forget an attempt."""
        self.give_up(message, message.flights.pop(counter))
        del self._by_counter[counter]

    # Time

    def stand(self, recipient: Recipient) -> None:
        """Let a recipient stand in the lines of the routes that there are to it."""
        priorities = recipient.priorities()
        self.lines[Route.ROUTE_2A].add(recipient.places[Route.ROUTE_2A], priorities)
        if recipient.link.up:
            self.lines[Route.ROUTE_2B].add(recipient.places[Route.ROUTE_2B], priorities)

    def settle(self, message: OutgoingMessage, now: float, *, changed: bool = True) -> None:
        """After a change: note what to save, set the timer, let the recipient stand in line.

        Args:
            message: what has changed.
            now: the time, in seconds.
            changed: False where nothing has that must be saved.
        """
        if changed and not message.fleeting:
            self._changed[message.ref] = message
        self.stand(self.recipient(message.peer))
        if message.final:
            self.messages.pop(message.ref, None)
            message.timer = None
            return
        timer = message.next_timer(now)
        if timer != message.timer:
            message.timer = timer
            self._pushes += 1
            heapq.heappush(self._timers, (timer, self._pushes, message))
            if len(self._timers) > 64 + 4 * len(self.messages):
                self._timers = [entry for entry in self._timers if entry[2].timer == entry[0]]
                heapq.heapify(self._timers)

    def first_timer(self) -> float:
        """Return when the first timer is due; infinity where there is none."""
        while self._timers and self._timers[0][2].timer != self._timers[0][0]:
            heapq.heappop(self._timers)
        while self._fallbacks and not self._awaits_fallback(*self._fallbacks[0]):
            heapq.heappop(self._fallbacks)
        times = [heap[0][0] for heap in (self._timers, self._fallbacks) if heap]
        return min(times, default=math.inf)

    def _awaits_fallback(self, when: float, peer: bytes) -> bool:
        link = self.recipient(peer).link
        return not link.up and link.fallback_at == when

    def take_due(self, now: float) -> Iterator[OutgoingMessage]:
        """Take messages whose timers are due, one after another; settle each."""
        while self.first_timer() <= now:
            if self._fallbacks and self._fallbacks[0][0] <= now:
                # What has waited for route 2b waits no more.
                self.stand(self.recipient(heapq.heappop(self._fallbacks)[1]))
                continue
            message = heapq.heappop(self._timers)[2]
            message.timer = None
            yield message

    # Route 2b

    def route_up(self, peer: bytes, message_octets: int) -> Recipient:
        """Note that route 2b to a peer stands."""
        recipient = self.recipient(peer)
        recipient.link.message_octets = message_octets
        self._save_link(peer, recipient.link)
        self.stand(recipient)
        return recipient

    def route_down(self, peer: bytes, fallback_at: float) -> Recipient | None:
        """Note that route 2b to a peer is gone; None where it was not up."""
        recipient = self._recipients.get(peer)
        if recipient is None or not recipient.link.up:
            return None
        recipient.link.message_octets = None
        recipient.link.fallback_at = fallback_at
        heapq.heappush(self._fallbacks, (fallback_at, peer))
        self._save_link(peer, recipient.link)
        return recipient

    def _save_link(self, peer: bytes, link: Link) -> None:
        self._saves[f"{peer.hex()}/b"] = link.to_bytes()

    # What must survive a restart

    def save(self, key: str, octets: bytes) -> None:
        """Note what must be saved under a key."""
        self._saves[key] = octets

    def save_fixed(self, message: OutgoingMessage) -> None:
        """Note that a message is new or encoded anew."""
        if not message.fleeting:
            self._saves[_key(message, "m")] = export_fixed(message)

    def _save_id(self, message: OutgoingMessage) -> None:
        number = message.message_id or 0
        ids = self.recipient(message.peer).ids[message.control]
        self._saves[f"{message.peer.hex()}/i/{int(message.control)}/{number}"] = ids.export(number)

    def take_saves(self) -> dict[str, bytes | None]:
        """Take what changed since the last call: octets, or None: delete."""
        for message in self._changed.values():
            self._saves[_key(message, "s")] = None if message.final else export_moving(message)
            if message.final:
                self._saves[_key(message, "m")] = None
        self._changed = {}
        saves, self._saves = self._saves, {}
        return saves

    def restore(
        self, saved: Iterable[tuple[str, bytes]], now: float, *, fallback_at: float
    ) -> None:
        """Take over what take_saves gave, in any order.

        Args:
            saved: keys and octets.
            now: the time, in seconds.
            fallback_at: when messages that prefer route 2b go by 2a, where it was up.

        Raises:
            StateError: something else than what was saved.
        """
        rows: dict[str, dict[str, bytes]] = {"m": {}, "s": {}, "i": {}, "b": {}}
        for key, octets in saved:
            kind = key.split("/", 2)[1]
            if kind in rows:
                rows[kind][key] = octets
        for octets in rows["m"].values():
            message = restore_fixed(octets)
            self.messages[message.ref] = message
        for message in sorted(self.messages.values(), key=lambda held: held.sequence):
            self._restore_message(message, rows["s"])
        if rows["s"]:
            raise StateError(f"saved states without their messages: {', '.join(rows['s'])}")
        for key, octets in rows["i"].items():
            self._restore_id(key, octets)
        for key, octets in rows["b"].items():
            self._restore_link(key, octets, fallback_at)
        for message in self.messages.values():
            ids = self.recipient(message.peer).ids[message.control]
            if message.message_id is not None and not ids.knows(message.message_id):
                raise StateError(f"the saved id of message {message.ref} is not there")
        for message in self.messages.values():
            self.settle(message, now)
        self._changed = {}

    def _restore_message(self, message: OutgoingMessage, moving: dict[str, bytes]) -> None:
        octets = moving.pop(_key(message, "s"), None)
        if octets is None:
            raise StateError(f"the saved state of message {message.ref} is not there")
        restore_moving(message, octets)
        self._sequence = message.sequence
        recipient = self.recipient(message.peer)
        if message.message_id is not None:
            recipient.add_live(message)
        elif message.state is SendState.QUEUED and message.wake_at is None:
            self.queue(message)
        for counter, flight in message.flights.items():
            if self._by_counter.setdefault(counter, message) is not message:
                raise StateError(f"the saved counter {counter} is of two messages")
            if flight.deadline is not None:
                recipient.in_flight += 1
                self.not_handed_over += not flight.handed_over

    def _restore_link(self, key: str, octets: bytes, fallback_at: float) -> None:
        try:
            peer = bytes.fromhex(key.partition("/")[0])
        except ValueError:
            raise StateError(f"{key} is not the key of a route") from None
        link = self.recipient(peer).link = Link.restore(octets, fallback_at)
        heapq.heappush(self._fallbacks, (link.fallback_at, peer))
        if link.to_bytes() != octets:
            self._saves[key] = link.to_bytes()

    def _restore_id(self, key: str, octets: bytes) -> None:
        try:
            peer, _, control_text, number_text = key.split("/")
            control, number = bool(int(control_text)), int(number_text)
            recipient = self.recipient(bytes.fromhex(peer))
        except ValueError:
            raise StateError(f"{key} is not the key of a message id") from None
        live = any(m.control is control and m.message_id == number for m in recipient.live)
        recipient.ids[control].restore(number, octets, live=live)


def _key(message: OutgoingMessage, kind: str) -> str:
    return f"{message.peer.hex()}/{kind}/{message.ref}"
