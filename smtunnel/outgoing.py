"""One message on its way out, in fragments and whole, with what was sent of it."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import Final

from smtunnel.carriers import Carrier
from smtunnel.codec import encode_base64
from smtunnel.delivery import MessageStatus
from smtunnel.fragments import EncodedMessage, Payload
from smtunnel.header import Compression, FragmentHeader, Originator
from smtunnel.limits import base64_chars
from smtunnel.policy import TAGS, Confirmation
from smtunnel.route_choice import Route, RouteChoice
from smtunnel.send_states import FINAL_STATES, SendState

_ACCEPTED: Final = 1
_DELIVERED: Final = 2


@dataclass(slots=True)
class Flight:
    """One carrier message that was given out and whose result is not known."""

    index: int
    deadline: float | None
    """When its result counts as unknown, in seconds; None: that has happened already."""
    handed_over: bool = False


@dataclass(slots=True)
class Whole:
    """How a message stands on route 2b, where it goes in one piece.

    Attributes:
        engaged: True while it is to go there, or has gone and its receipt is awaited.
        due: from when on it is to go, in seconds; None: it is on its way.
        counter: of the attempt that was given out and is not handed over; None: none.
        sent: how often it was given out.
        asked: how often no receipt came in time, though the route stood.
    """

    engaged: bool = False
    due: float | None = None
    counter: int | None = None
    sent: int = 0
    asked: int = 0


@dataclass(slots=True, eq=False)
class OutgoingMessage:
    """All that is known of a message; MessageSender moves it.

    Attributes:
        stream: what compression has made of it.
        printable: True where its fragments are text.
        piece: the length of each fragment's body but the last.
        body_compression: what the headers say.
        sequence: rising in the order of enqueueing.
        choice: which routes it may take.
        urgent: True where it does not wait for route 2b.
        fleeting: True for receipts that go by route 2b once, and are not saved.
        begun: how often it was begun with an id, restarts by the peer's wish included.
        first_counter: of fragment 0 at the first transmission; None before.
        highest_counter: the highest that any of its fragments has had.
        next_new: the lowest index that was never given out.
        sent: how often each fragment was given out since the last beginning.
        losses: how often each was lost.
        flags: of each fragment: accepted (1), delivered (2).
        flights: attempts whose result may still come, by counter.
        retries: heap of (time, index) of the fragments to send again.
        asked: how often a receipt was asked for.
        receipt_due: when to ask again, in seconds; None: not waiting.
        wake_at: DISPUTED: when to stop waiting for the peer's reason; QUEUED: when its turn may
            come; None: not waiting.
        missing_at: when a missing list was last answered; None: never, or before a restart.
        reason: what went wrong last, for a person.
        dated: True where ``deadline`` is its caller's and not the policy's.
        on_2a: True while its fragments are to go, or have gone and are waited for.
        whole: the same for route 2b.
        timer: the earliest entry for it in the sender's heap of timers; None: none.
    """

    ref: str
    peer: bytes
    control: bool
    confirmation: Confirmation
    priority: int
    sequence: int
    deadline: float
    stream: bytes
    printable: bool
    piece: int
    body_compression: Compression
    message_octets: int
    status: MessageStatus
    choice: RouteChoice = RouteChoice.AUTO
    urgent: bool = False
    fleeting: bool = False
    dated: bool = False
    state: SendState = SendState.QUEUED
    begun: int = 0
    message_id: int | None = None
    first_counter: int | None = None
    highest_counter: int = 0
    next_new: int = 0
    sent: bytearray = field(default_factory=bytearray)
    losses: bytearray = field(default_factory=bytearray)
    flags: bytearray = field(default_factory=bytearray)
    flights: dict[int, Flight] = field(default_factory=dict)
    retries: list[tuple[float, int]] = field(default_factory=list)
    asked: int = 0
    receipt_due: float | None = None
    wake_at: float | None = None
    missing_at: float | None = None
    reason: str = ""
    on_2a: bool = False
    whole: Whole = field(default_factory=Whole)
    timer: float | None = None
    _text: Payload | None = None

    @property
    def total(self) -> int:
        """How many fragments it has."""
        octets = len(self.stream)
        return max(1, -(-(base64_chars(octets) if self.printable else octets) // self.piece))

    @property
    def final(self) -> bool:
        """True when nothing more happens to it."""
        return self.state in FINAL_STATES

    @property
    def tag(self) -> int:
        """What counter - index of each of its fragments is, modulo 65536."""
        return (self.first_counter or 0) % TAGS

    @property
    def text(self) -> Payload:
        """The bodies of all fragments, joined."""
        if self._text is None:
            stream = self.stream
            self._text = encode_base64(stream).decode("ascii") if self.printable else stream
        return self._text

    @property
    def routes(self) -> frozenset[Route]:
        """By which routes it goes, or has gone under its present id."""
        found = set()
        if self.on_2a or any(self.sent):
            found.add(Route.ROUTE_2A)
        if self.whole.engaged or self.whole.sent:
            found.add(Route.ROUTE_2B)
        return frozenset(found)

    @property
    def sent_once(self) -> bool:
        """True where nothing confirms it on either route: it is sent, and that is all."""
        return self.control and self.confirmation is Confirmation.NONE

    def encode(self, encoded: EncodedMessage, carrier: Carrier) -> None:
        """Take over an encoding."""
        self.stream = encoded.stream
        self.printable = carrier.printable
        self.piece = carrier.body_capacity
        self.body_compression = encoded.compression
        self._text = None

    def begin(self, route: Route, message_id: int, first_counter: int, now: float) -> None:
        """Begin on a route with nothing sent, under an id and the counters of the first of it."""
        self.rest()
        self.begun += 1
        self.message_id = message_id
        self.first_counter = self.highest_counter = first_counter
        self.sent, self.losses, self.flags = (bytearray(self.total) for _ in range(3))
        if route is Route.ROUTE_2B:
            self.next_new = self.total
            self.engage_whole(now)
        else:
            self.highest_counter += self.total - 1
            self.on_2a = True

    def engage_whole(self, now: float) -> None:
        """Let it go by route 2b; unless it is to go by both, no more fragments are sent."""
        self.whole.engaged = True
        self.whole.due = now
        # From when the connection has taken it, its receipt is waited for there.
        self.receipt_due = None
        if self.choice is not RouteChoice.BOTH:
            self.on_2a = False
            self.next_new = self.total
            self.retries = []

    def stay_whole(self) -> None:
        """Send no more fragments of what goes by route 2b; by 2a only if that route fails."""
        self.choice = RouteChoice.AUTO if self.choice is RouteChoice.BOTH else self.choice
        self.on_2a = False
        self.next_new = self.total
        self.retries = []

    def leave_whole(self) -> None:
        """Let it go by route 2b no more."""
        self.whole.engaged = False
        self.whole.due = None

    def engage_fragments(self, now: float) -> None:
        """Let it go by route 2a: what is not known to have arrived, and is not on its way."""
        if self.choice is not RouteChoice.BOTH:
            self.leave_whole()
            self.receipt_due = None
        self.on_2a = True
        for index in range(self.next_new):
            if not self.flags[index] & _DELIVERED and not self.has_other_attempt(index):
                self.send_again(index, now)

    def whole_payload(self, originator: Originator) -> bytes:
        """Build the payload of route 2b."""
        number = self.message_id or 0
        header = FragmentHeader(originator, self.body_compression, False, True, 0, number)
        return header.to_bytes() + self.stream

    def payload(self, index: int, originator: Originator) -> Payload:
        """Build the payload of one fragment."""
        text, start = self.text, index * self.piece
        last = index == self.total - 1
        header = FragmentHeader(
            originator,
            self.body_compression,
            isinstance(text, str),
            last,
            index,
            self.message_id or 0,
        )
        if isinstance(text, str):
            return header.encode() + text[start : start + self.piece]
        return header.to_bytes() + text[start : start + self.piece]

    def names(self, key32: int) -> bool:
        """Tell whether a control record that says this means this message.

        key32 is the low 32 bits of counter - index of one of its fragments.
        """
        if self.first_counter is None:
            return False
        ahead = (key32 - self.first_counter) % (1 << 32)
        return ahead % TAGS == 0 and ahead <= self.highest_counter - self.first_counter

    def has_something_due(self, now: float) -> bool:
        """Tell whether a fragment is to be given out now, on route 2a."""
        if self.state is not SendState.SENDING or not self.on_2a:
            return False
        return self.next_new < self.total or bool(self.retries and self.retries[0][0] <= now)

    def next_due(self, now: float) -> int:
        """Return the index of the fragment to be given out now, one to send again first."""
        if self.retries and self.retries[0][0] <= now:
            return self.retries[0][1]
        return self.next_new

    def take_due(self, index: int) -> None:
        """Note that the fragment that was next is given out."""
        if index < self.next_new:
            heapq.heappop(self.retries)
        else:
            self.next_new += 1

    def send_again(self, index: int, due: float) -> None:
        """Note that a fragment is to be sent again at a time."""
        heapq.heappush(self.retries, (due, index))

    def on_its_way(self, index: int) -> bool:
        """Tell whether a fragment is about to be sent, or was just given out."""
        return (
            index >= self.next_new
            or any(index == other for _, other in self.retries)
            or any(
                flight.index == index and flight.deadline is not None and not flight.handed_over
                for flight in self.flights.values()
            )
        )

    def has_other_attempt(self, index: int) -> bool:
        """Tell whether a fragment is to be sent again already, or another attempt may succeed."""
        return any(index == other for _, other in self.retries) or any(
            flight.index == index and flight.deadline is not None
            for flight in self.flights.values()
        )

    def rest(self) -> None:
        """Give up the id, the counters and all that was sent under them."""
        self.message_id = self.first_counter = None
        self.next_new = 0
        self.sent, self.losses, self.flags = bytearray(), bytearray(), bytearray()
        self.flights, self.retries = {}, []
        self.asked = 0
        self.receipt_due = self.wake_at = self.missing_at = None
        self.on_2a, self.whole = False, Whole()

    @property
    def all_handed_over(self) -> bool:
        """True when nothing is left to be given out or handed over, on any route."""
        if self.whole.due is not None or self.whole.counter is not None:
            return False
        if self.choice is RouteChoice.BOTH and not self.on_2a:
            return False
        return (
            self.next_new == self.total
            and not self.retries
            and all(
                flight.handed_over or flight.deadline is None for flight in self.flights.values()
            )
        )

    @property
    def accepted(self) -> int:
        """How many fragments were handed over at least once."""
        return sum(flag & _ACCEPTED for flag in self.flags)

    @property
    def delivered(self) -> int:
        """How many fragments had the result 00."""
        return sum(flag & _DELIVERED for flag in self.flags) // _DELIVERED

    @property
    def may_be_there(self) -> bool:
        """True when the peer may have every fragment, for all that is known here."""
        if self.whole.sent:
            return True
        # Where results tell, what was handed over and then refused is not there.
        there = _DELIVERED if self.confirmation is Confirmation.RESULTS else _ACCEPTED
        unknown = {flight.index for flight in self.flights.values()}
        return bool(self.flags) and all(
            flag >= there or index in unknown for index, flag in enumerate(self.flags)
        )

    def set_accepted(self, index: int) -> None:
        """Note that a fragment was handed over."""
        self.flags[index] |= _ACCEPTED

    def set_delivered(self, index: int) -> None:
        """Note that a fragment had the result 00."""
        self.flags[index] |= _ACCEPTED | _DELIVERED

    def next_timer(self, now: float) -> float:
        """Return when something must be looked at next, in seconds."""
        times = [self.deadline]
        times += [f.deadline for f in self.flights.values() if f.deadline is not None]
        times += [when for when in (self.receipt_due, self.wake_at) if when is not None]
        # What is due already waits for room, not for time.
        later = [due for due, _ in self.retries if due > now]
        if later:
            times.append(min(later))
        return min(times)
