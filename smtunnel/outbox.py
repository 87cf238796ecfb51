"""The books of a MessageSender: messages, peers, attempts, timers, and what must be saved.

Nothing is decided here.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Iterator

from smtunnel.errors import StateError
from smtunnel.line import Line
from smtunnel.message_ids import MessageIds
from smtunnel.outgoing import Flight, OutgoingMessage
from smtunnel.records import MessageName
from smtunnel.send_states import SendState


class Recipient:
    """The messages to one peer.

    Attributes:
        ids: of data messages and of control messages.
        queues: of data messages and of control messages: heaps in the order of sending.
        live: messages that have an id, in the order of sending.
        in_flight: attempts whose result is awaited.
        levels: the priorities at which it stands in the outbox's line.
        holds: how many incomplete messages it holds; None: not known.
    """

    __slots__ = ("holds", "ids", "in_flight", "levels", "live", "queues")

    def __init__(self) -> None:
        self.ids = (MessageIds(), MessageIds())
        self.queues: tuple[list[tuple[int, int, OutgoingMessage]], ...] = ([], [])
        self.live: list[OutgoingMessage] = []
        self.in_flight = 0
        self.levels: set[int] = set()
        self.holds: int | None = None

    def add_live(self, message: OutgoingMessage) -> None:
        """Add a message that has got its id."""
        self.live.append(message)
        self.live.sort(key=lambda held: (not held.control, -held.priority, held.sequence))

    def priorities(self) -> set[int]:
        """Return the priorities of what may have something to be given out."""
        found = {held.priority for held in self.live}
        for control in (True, False):
            head = self.next_queued(control)
            if head is not None:
                found.add(head.priority)
        return found

    def in_the_way(self, message: OutgoingMessage) -> int:
        """Count the live messages of its kind that a message does not overtake."""
        return sum(
            held.control is message.control and held.priority >= message.priority
            for held in self.live
        )

    def has_room(self) -> bool:
        """Tell whether the peer holds one more message that comes in several fragments."""
        if self.holds is None:
            return True
        return sum(m.total > 1 and not m.control for m in self.live) < self.holds

    def next_live(self, priority: int, now: float) -> OutgoingMessage | None:
        """Return the live message whose fragment goes next: control, or of such a priority."""
        for message in self.live:
            if not message.control and message.priority < priority:
                break
            if message.has_something_due(now):
                return message
        return None

    def next_queued(self, control: bool) -> OutgoingMessage | None:
        """Return the message whose turn is next."""
        queue = self.queues[control]
        while queue and queue[0][2].state is not SendState.QUEUED:
            heapq.heappop(queue)
        return queue[0][2] if queue else None


class Outbox:
    """Keeps messages until they have ended."""

    def __init__(self) -> None:
        """Begin empty."""
        self.messages: dict[str, OutgoingMessage] = {}
        self.line: Line[Recipient] = Line()
        """Recipients that may have something to be given out."""
        self.not_handed_over = 0
        """Attempts of all peers that were given out, and are not known to be handed over."""
        self._by_counter: dict[int, OutgoingMessage] = {}
        self._recipients: dict[bytes, Recipient] = {}
        self._timers: list[tuple[float, int, OutgoingMessage]] = []
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
        heapq.heappush(self.recipient(message.peer).queues[message.control], entry)

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

    def begin(self, message: OutgoingMessage, message_id: int, first_counter: int) -> None:
        """Give the message whose turn it is an id and counters."""
        recipient = self.recipient(message.peer)
        heapq.heappop(recipient.queues[message.control])
        message.begin(message_id, first_counter)
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
        recipient = self.recipient(message.peer)
        recipient.ids[message.control].end(message.message_id, delivered=delivered)
        recipient.live.remove(message)
        self._save_id(message)
        message.rest()

    # Attempts

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

    def settle(self, message: OutgoingMessage, now: float) -> None:
        """After a change: note what to save, set the timer, let the recipient stand in line."""
        self._changed[message.ref] = message
        recipient = self.recipient(message.peer)
        self.line.add(recipient, recipient.priorities())
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
        return self._timers[0][0] if self._timers else math.inf

    def take_due(self, now: float) -> Iterator[OutgoingMessage]:
        """Take messages whose timers are due, one after another; settle each."""
        while self.first_timer() <= now:
            message = heapq.heappop(self._timers)[2]
            message.timer = None
            yield message

    # What must survive a restart

    def save(self, key: str, octets: bytes) -> None:
        """Note what must be saved under a key."""
        self._saves[key] = octets

    def save_fixed(self, message: OutgoingMessage) -> None:
        """Note that a message is new or encoded anew."""
        self._saves[_key(message, "m")] = message.export_fixed()

    def _save_id(self, message: OutgoingMessage) -> None:
        number = message.message_id or 0
        ids = self.recipient(message.peer).ids[message.control]
        self._saves[f"{message.peer.hex()}/i/{int(message.control)}/{number}"] = ids.export(number)

    def take_saves(self) -> dict[str, bytes | None]:
        """Take what changed since the last call: octets, or None: delete."""
        for message in self._changed.values():
            self._saves[_key(message, "s")] = None if message.final else message.export_moving()
            if message.final:
                self._saves[_key(message, "m")] = None
        self._changed = {}
        saves, self._saves = self._saves, {}
        return saves

    def restore(self, saved: Iterable[tuple[str, bytes]], now: float) -> None:
        """Take over what take_saves gave, in any order.

        Raises:
            StateError: something else than what was saved.
        """
        rows: dict[str, dict[str, bytes]] = {"m": {}, "s": {}, "i": {}}
        for key, octets in saved:
            kind = key.split("/", 2)[1]
            if kind in rows:
                rows[kind][key] = octets
        for octets in rows["m"].values():
            message = OutgoingMessage.restore_fixed(octets)
            self.messages[message.ref] = message
        for message in sorted(self.messages.values(), key=lambda held: held.sequence):
            self._restore_message(message, rows["s"])
        if rows["s"]:
            raise StateError(f"saved states without their messages: {', '.join(rows['s'])}")
        for key, octets in rows["i"].items():
            self._restore_id(key, octets)
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
        message.restore_moving(octets)
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
