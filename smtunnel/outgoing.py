"""One message on its way out: its fragments, the attempts to send each, and its saved form."""

from __future__ import annotations

import heapq
import struct
from dataclasses import dataclass, field
from typing import Final

from smtunnel.carriers import Carrier
from smtunnel.delivery import TRANSITIONS, DeliveryState, MessageStatus
from smtunnel.errors import StateError
from smtunnel.fragments import EncodedMessage, Payload
from smtunnel.header import Compression, FragmentHeader, Originator
from smtunnel.policy import TAGS, Confirmation
from smtunnel.send_states import FINAL_STATES, SendState

_VERSION: Final = 1
_FIXED: Final = struct.Struct(">BBBBiQdIIHHB")
_MOVING: Final = struct.Struct(">BBBBBhQQHddHHHB")
_BEGUN_STATES: Final = frozenset({SendState.SENDING, SendState.WAITING, SendState.DISPUTED})
_FLIGHT: Final = struct.Struct(">QHBd")
_RETRY: Final = struct.Struct(">dH")
_DELIVERY_STATES: Final = tuple(DeliveryState)

_ACCEPTED: Final = 1
_DELIVERED: Final = 2


@dataclass(slots=True)
class Flight:
    """One carrier message that was given out and whose result is not known."""

    index: int
    deadline: float | None
    """When its result counts as unknown, in seconds; None: that has happened already."""
    handed_over: bool = False


@dataclass(slots=True, eq=False)
class OutgoingMessage:
    """All that is known of a message; MessageSender moves it.

    Attributes:
        text: the bodies of all fragments, joined.
        piece: the length of each body but the last.
        body_compression: what the headers say.
        sequence: rising in the order of enqueueing.
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
        timer: the earliest entry for it in the sender's heap of timers; None: none.
    """

    ref: str
    peer: bytes
    control: bool
    confirmation: Confirmation
    priority: int
    sequence: int
    deadline: float
    text: Payload
    piece: int
    body_compression: Compression
    message_octets: int
    status: MessageStatus
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
    timer: float | None = None

    @property
    def total(self) -> int:
        """How many fragments it has."""
        return max(1, -(-len(self.text) // self.piece))

    @property
    def final(self) -> bool:
        """True when nothing more happens to it."""
        return self.state in FINAL_STATES

    @property
    def tag(self) -> int:
        """What counter - index of each of its fragments is, modulo 65536."""
        return (self.first_counter or 0) % TAGS

    def encode(self, encoded: EncodedMessage, carrier: Carrier) -> None:
        """Take over an encoding."""
        size = carrier.header_size
        if carrier.printable:
            self.text = "".join([payload[size:] for payload in encoded.payloads])
        else:
            self.text = b"".join([payload[size:] for payload in encoded.octet_payloads])
        self.piece = carrier.body_capacity
        self.body_compression = encoded.compression

    def begin(self, message_id: int, first_counter: int) -> None:
        """Begin with nothing sent, under an id and a block of counters."""
        self.rest()
        self.begun += 1
        self.message_id = message_id
        self.first_counter = first_counter
        self.highest_counter = first_counter + self.total - 1
        self.sent, self.losses, self.flags = (bytearray(self.total) for _ in range(3))

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
        """Tell whether a fragment is to be given out now."""
        if self.state is not SendState.SENDING:
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

    @property
    def all_handed_over(self) -> bool:
        """True when nothing is left to be given out or handed over."""
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

    # Saved form

    def export_fixed(self) -> bytes:
        """Build what does not change while the message keeps its encoding."""
        printable = isinstance(self.text, str)
        text = self.text.encode("ascii") if isinstance(self.text, str) else self.text
        head = _FIXED.pack(
            _VERSION,
            self.control | printable << 1,
            self.body_compression,
            self.confirmation,
            self.priority,
            self.sequence,
            self.deadline,
            self.message_octets,
            len(text),
            self.piece,
            len(self.ref.encode()),
            len(self.peer),
        )
        return head + self.ref.encode() + self.peer + text

    @classmethod
    def restore_fixed(cls, saved: bytes) -> OutgoingMessage:
        """Make a queued message from what export_fixed built.

        Raises:
            StateError: it is something else.
        """
        try:
            version, flags, compression, confirmation, *numbers = _FIXED.unpack_from(saved)
            priority, sequence, deadline, message_octets, text_octets, piece, ref, peer = numbers
            if (
                version != _VERSION
                or len(saved) != _FIXED.size + ref + peer + text_octets
                or not piece
            ):
                raise StateError("a saved message is cut short or of another version")
            place = _FIXED.size
            name = saved[place : place + ref].decode()
            place += ref
            text = saved[place + peer :]
            message = cls(
                ref=name,
                peer=saved[place : place + peer],
                control=bool(flags & 1),
                confirmation=Confirmation(confirmation),
                priority=priority,
                sequence=sequence,
                deadline=deadline,
                text=text.decode("ascii") if flags & 2 else text,
                piece=piece,
                body_compression=Compression(compression),
                message_octets=message_octets,
                status=MessageStatus(ref=name, fragments_total=1, message_octets=message_octets),
            )
        except (struct.error, ValueError) as error:
            raise StateError(f"a saved message is not what was saved: {error}") from None
        return message

    def export_moving(self) -> bytes:
        """Build what changes as the message moves."""
        reason = self.reason.encode()[:65_535]
        status = self.status
        head = _MOVING.pack(
            _VERSION,
            self.state,
            self.begun,
            self.asked,
            _DELIVERY_STATES.index(status.state) | status.receipt_expected << 7,
            -1 if self.message_id is None else self.message_id,
            self.first_counter or 0,
            self.highest_counter,
            self.next_new,
            -1.0 if self.receipt_due is None else self.receipt_due,
            -1.0 if self.wake_at is None else self.wake_at,
            len(self.flights),
            len(self.retries),
            len(reason),
            len(self.flags) > 0,
        )
        flights = [
            _FLIGHT.pack(
                counter,
                flight.index,
                flight.handed_over,
                -1.0 if flight.deadline is None else flight.deadline,
            )
            for counter, flight in self.flights.items()
        ]
        retries = [_RETRY.pack(due, index) for due, index in self.retries]
        return b"".join([head, self.sent, self.losses, self.flags, *flights, *retries, reason])

    def restore_moving(self, saved: bytes) -> None:
        """Take over what export_moving built.

        Raises:
            StateError: it is something else.
        """
        try:
            version, state, self.begun, self.asked, delivery, *numbers = _MOVING.unpack_from(saved)
            number, first, self.highest_counter, self.next_new, receipt, wake, *counts = numbers
            flights, retries, reason, begun = counts
            total = self.total if begun else 0
            place = _MOVING.size
            expected = 3 * total + flights * _FLIGHT.size + retries * _RETRY.size + reason
            if version != _VERSION or len(saved) != place + expected:
                raise StateError(f"the saved state of message {self.ref} is cut short")
            self.state = SendState(state)
            self.message_id = None if number < 0 else number
            self.first_counter = None if number < 0 else first
            self.receipt_due = None if receipt < 0 else receipt
            self.wake_at = None if wake < 0 else wake
            parts = [
                bytearray(saved[place + i * total : place + (i + 1) * total]) for i in (0, 1, 2)
            ]
            self.sent, self.losses, self.flags = parts
            place += 3 * total
            self.flights = {}
            for counter, index, handed_over, deadline in _FLIGHT.iter_unpack(
                saved[place : place + flights * _FLIGHT.size]
            ):
                self.flights[counter] = Flight(
                    index, None if deadline < 0 else deadline, bool(handed_over)
                )
            place += flights * _FLIGHT.size
            self.retries = list(_RETRY.iter_unpack(saved[place : place + retries * _RETRY.size]))
            self.reason = saved[place + retries * _RETRY.size :].decode()
            delivery_state = _DELIVERY_STATES[delivery & 0x7F]
        except (struct.error, ValueError, IndexError) as error:
            raise StateError(
                f"the saved state of message {self.ref} is not what was saved: {error}"
            ) from None
        if DeliveryState.FAILED not in TRANSITIONS[delivery_state]:
            raise StateError(f"message {self.ref} was saved though it had ended")
        self._check_restored()
        self.status = MessageStatus(
            ref=self.ref,
            state=delivery_state,
            receipt_expected=bool(delivery & 0x80),
            fragments_total=self.total,
            fragments_accepted=self.accepted,
            fragments_delivered=self.delivered,
            message_octets=self.message_octets,
            tunnel_message_id=self.message_id,
            first_counter=self.first_counter,
        )

    def _check_restored(self) -> None:
        """Check that what was saved of the fragments is of fragments that there are.

        Raises:
            StateError: it is not.
        """
        sent = len(self.sent)
        indices = [flight.index for flight in self.flights.values()]
        indices += [index for _, index in self.retries]
        if (
            self.final
            or max(indices, default=-1) >= sent
            or self.next_new > sent
            or (self.message_id is not None and not sent)
            or (self.message_id is None and self.state in _BEGUN_STATES)
        ):
            raise StateError(f"the saved state of message {self.ref} contradicts itself")
