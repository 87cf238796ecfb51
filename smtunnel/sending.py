"""The sending end: messages in, carrier messages out, until each is delivered or has failed.

No I/O and no clock: time is an argument, what is to be done comes back as events. Every input may
change what must survive a restart: take_saves gives it, and it must be stored before any Transmit
of the same input leaves.

Source: specs/tunnel-protocol.md, sending.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import Final

from smtunnel.carriers import Carrier
from smtunnel.codec import decode_base64_untrusted, inflate_untrusted
from smtunnel.course import MOST, Course
from smtunnel.delivery import MessageStatus, advance, begin_again
from smtunnel.errors import LocalError
from smtunnel.fragments import EncodedMessage
from smtunnel.header import Compression, Originator
from smtunnel.outbox import Outbox, Recipient
from smtunnel.outgoing import OutgoingMessage
from smtunnel.pacing import Pace
from smtunnel.policy import Confirmation, CounterIssuer, Result, SendPolicy
from smtunnel.records import AbortCode, IndexRange, MessageName
from smtunnel.send_events import (
    ReencodeNeeded,
    SenderEvent,
    StatusChanged,
    Transmit,
)
from smtunnel.send_states import SendInput, SendState, next_state

PACE_KEY: Final = "-/pace"
CONTROL_MESSAGES_IN_FLIGHT: Final = 8
MAX_LIVE_IDS: Final = 255
"""So many ids may be of messages on their way, those included that were overtaken."""

_ABORT_INPUTS: Final = {
    AbortCode.UNKNOWN_DICTIONARY: SendInput.ABORTED_ENCODING,
    AbortCode.WINDOW_TOO_LARGE: SendInput.ABORTED_ENCODING,
    AbortCode.EXPIRED: SendInput.ABORTED_FOR_NOW,
    AbortCode.TOO_MANY_PARTIAL: SendInput.ABORTED_FOR_NOW,
    AbortCode.MEMORY: SendInput.ABORTED_FOR_NOW,
}
_WAITED_FOR: Final = {
    SendState.QUEUED: "its turn did not come",
    SendState.SENDING: "not all of it is known to be handed over",
    SendState.WAITING: "nothing confirmed that it has arrived",
    SendState.DISPUTED: "the peer has rejected it",
    SendState.REENCODING: "it was to be encoded anew",
}
_DEVICE_RESULTS: Final = frozenset({Result.SUCCESS, Result.BUSY, Result.REJECTED})


class MessageSender:
    """Sends messages to many peers and sees each to its end."""

    def __init__(
        self,
        *,
        originator: Originator,
        carrier: Carrier,
        policy: SendPolicy,
        counters: CounterIssuer,
        random_fraction: Callable[[], float],
    ) -> None:
        """Begin with nothing to send.

        Args:
            originator: which end this is.
            carrier: what carries the fragments.
            policy: how to send.
            counters: gives out originator counters; what it raises passes through.
            random_fraction: returns a random number from 0 to 1, for the waits.
        """
        self._originator = originator
        self._carrier = carrier
        self._policy = policy
        self._counters = counters
        self._random_fraction = random_fraction
        self._outbox = Outbox()
        self._course = Course(self._outbox, policy, random_fraction)
        self._pace = Pace(policy.fragments_per_window, policy.window_s)
        self._pace_free_at: float | None = None

    @property
    def policy(self) -> SendPolicy:
        """How messages are sent."""
        return self._policy

    def status(self, ref: str) -> MessageStatus | None:
        """Return what is known of a message that has not ended, else None."""
        message = self._outbox.messages.get(ref)
        return None if message is None else message.status

    def control_messages(self, peer: bytes) -> int:
        """Return how many control messages to a peer have not ended."""
        recipient = self._outbox.recipient(peer)
        return len(recipient.queues[True]) + recipient.ids[True].live

    def limit_messages(self, peer: bytes, partial_messages: int) -> None:
        """Begin no message of several fragments while a peer may hold so many incomplete ones."""
        self._outbox.recipient(peer).holds = partial_messages

    # Inputs from this end

    def enqueue(
        self,
        ref: str,
        peer: bytes,
        encoded: EncodedMessage,
        *,
        now: float,
        control: bool = False,
        confirmation: Confirmation | None = None,
        priority: int = 0,
        lifetime_s: float | None = None,
    ) -> list[SenderEvent]:
        """Take a message for sending; its id is chosen when its turn comes.

        Args:
            ref: this end's name for it, of no other message that has not ended.
            peer: who it is for.
            encoded: its fragments; the id in them is replaced.
            now: the time, in seconds on the clock of all calls.
            control: True for a control message: it goes before data, and has ids of its own.
            confirmation: what confirms it; the policy's unless given.
            priority: higher goes first; among equals the order of enqueueing holds.
            lifetime_s: to its end at the latest, in seconds; the policy's unless given.

        Raises:
            LocalError: the ref is of another message, or the priority is not of 32 bits.
        """
        if ref in self._outbox.messages:
            raise LocalError(f"message {ref} is on its way already: a ref names one message")
        if not -(2**31) <= priority < 2**31:
            raise LocalError(f"priority {priority} does not fit 32 bits")
        policy = self._policy
        confirmation = policy.confirmation if confirmation is None else confirmation
        if lifetime_s is None:
            lifetime_s = policy.control_lifetime_s if control else policy.message_lifetime_s
        message = OutgoingMessage(
            ref=ref,
            peer=peer,
            control=control,
            confirmation=confirmation,
            priority=priority,
            sequence=self._outbox.next_sequence(),
            deadline=now + lifetime_s,
            text="",
            piece=self._carrier.body_capacity,
            body_compression=encoded.compression,
            message_octets=encoded.message_octets,
            status=MessageStatus(
                ref=ref,
                fragments_total=encoded.fragments,
                message_octets=encoded.message_octets,
                receipt_expected=confirmation is Confirmation.RECEIPTS,
            ),
        )
        message.encode(encoded, self._carrier)
        self._outbox.add(message)
        self._outbox.settle(message, now)
        return [] if control else [StatusChanged(peer, message.status)]

    def reencoded(self, ref: str, encoded: EncodedMessage, now: float) -> list[SenderEvent]:
        """Take another encoding of a message, after ReencodeNeeded; it begins again.

        Raises:
            LocalError: no message of this ref waits for one.
        """
        message = self._outbox.messages.get(ref)
        if message is None:
            raise LocalError(f"no message {ref} waits for another encoding")
        events: list[SenderEvent] = []
        self._course.move(events, message, SendInput.ENCODED)
        message.encode(encoded, self._carrier)
        self._outbox.save_fixed(message)
        self._course.tell(events, message, begin_again(message.status, message.total))
        self._outbox.queue(message)
        self._outbox.settle(message, now)
        return events

    def may_be_held(self, ref: str) -> MessageName | None:
        """Return the name of a message of which the peer may hold fragments, else None.

        One fragment alone is never held; nor is what the carrier has given back.
        """
        message = self._outbox.messages.get(ref)
        if message is None or message.total == 1 or not any(message.sent):
            return None
        return MessageName.of(message.message_id or 0, message.first_counter or 0)

    def cancel(self, ref: str, reason: str, now: float) -> list[SenderEvent]:
        """Give a message up; nothing happens where none has this ref.

        Args:
            ref: which one.
            reason: why, for a person.
            now: the time, in seconds.
        """
        events: list[SenderEvent] = []
        message = self._outbox.messages.get(ref)
        if message is not None:
            self._course.move(events, message, SendInput.CANCELLED, reason)
            self._outbox.settle(message, now)
        return events

    def answered(self, ref: str, now: float) -> list[SenderEvent]:
        """Note that the application at the other end has answered a message: it has arrived."""
        events: list[SenderEvent] = []
        message = self._outbox.messages.get(ref)
        if message is not None and message.message_id is not None:
            self._course.move(events, message, SendInput.CONFIRMED)
            self._outbox.settle(message, now)
        return events

    def expect_no_receipts(self, peer: bytes, now: float) -> list[SenderEvent]:
        """Note that a peer gives no receipts: what waits for one waits for nothing."""
        events: list[SenderEvent] = []
        for message in list(self._outbox.messages.values()):
            if message.peer != peer or message.confirmation is not Confirmation.RECEIPTS:
                continue
            message.confirmation = Confirmation.NONE
            self._outbox.save_fixed(message)
            self._course.tell(events, message, replace(message.status, receipt_expected=False))
            if message.state is SendState.WAITING:
                self._course.move(events, message, SendInput.HANDED_OVER_FINALLY)
            self._outbox.settle(message, now)
        return events

    def content(self, ref: str) -> bytes:
        """Return the octets of a data message that has not ended.

        Raises:
            LocalError: there is none of this ref.
        """
        message = self._outbox.messages.get(ref)
        if message is None or message.control:
            raise LocalError(f"no message {ref} is on its way")
        text = message.text
        octets = decode_base64_untrusted(text.encode()) if isinstance(text, str) else text
        if message.body_compression is Compression.ZLIB:
            return inflate_untrusted(octets, max_octets=message.message_octets)
        return octets

    # Inputs from transport

    def transmitted(self, originator_counter: int, now: float) -> list[SenderEvent]:
        """Note that a carrier message was taken over: by the DCC down, by the hub up."""
        events: list[SenderEvent] = []
        message = self._outbox.sent_under(originator_counter)
        if message is None:
            return events
        flight = message.flights[originator_counter]
        message.set_accepted(flight.index)
        if message.confirmation is not Confirmation.RESULTS:
            self._outbox.land(message, originator_counter)
        else:
            self._outbox.hand_over(flight, now + self._policy.result_timeout_s)
        self._course.count(events, message)
        self._course.check_handed_over(events, message, now)
        self._outbox.settle(message, now)
        return events

    def result(
        self, originator_counter: int, result: Result, now: float, detail: str = ""
    ) -> list[SenderEvent]:
        """Take what became of a carrier message; late, twice or of an ended message is fine.

        Args:
            originator_counter: of the carrier message.
            result: what became of it.
            now: the time, in seconds.
            detail: for a person, in words.
        """
        events: list[SenderEvent] = []
        message = self._outbox.sent_under(originator_counter)
        if message is None:
            return events
        if message.confirmation is not Confirmation.RESULTS and result in _DEVICE_RESULTS:
            # Nobody answers an alert: all that this can mean is that it was handed over.
            return self.transmitted(originator_counter, now)
        if result is Result.SUCCESS:
            self._course.fragment_delivered(
                events, message, message.flights[originator_counter].index
            )
        elif result is Result.REJECTED:
            self._outbox.land(message, originator_counter)
            if self._course.move(
                events, message, SendInput.REJECTED, detail or "rejected by the peer"
            ):
                message.wake_at = now + self._policy.reason_grace_s
        else:
            self._course.lost(events, message, originator_counter, result, now, detail)
        self._course.check_handed_over(events, message, now)
        self._outbox.settle(message, now)
        return events

    # Inputs from the peer's control records

    def receipt(
        self, peer: bytes, name: MessageName, now: float, *, control: bool = False
    ) -> list[SenderEvent]:
        """Take the peer's word that it has a message."""
        events: list[SenderEvent] = []
        message = self._outbox.find(peer, name, control)
        if message is not None:
            self._hurry_older(message, now)
            self._course.move(events, message, SendInput.CONFIRMED)
            self._outbox.settle(message, now)
        return events

    def _hurry_older(self, newer: OutgoingMessage, now: float) -> None:
        """A receipt for a newer message, and none for an older one: ask for that one soon."""
        soon = now + self._policy.retry_first_s
        for message in self._outbox.recipient(newer.peer).live:
            if (
                message.receipt_due is not None
                and message.control is newer.control
                and message.highest_counter < (newer.first_counter or 0)
                and soon < message.receipt_due
            ):
                message.receipt_due = soon
                self._outbox.settle(message, now)

    def missing(
        self, peer: bytes, name: MessageName, ranges: Iterable[IndexRange], now: float
    ) -> list[SenderEvent]:
        """Take the peer's word that fragments of a data message are missing there."""
        events: list[SenderEvent] = []
        message = self._outbox.find(peer, name, False)
        if message is None or message.confirmation is not Confirmation.RECEIPTS:
            return events
        self._outbox.seen(message)
        if message.missing_at is not None and now < message.missing_at + self._policy.retry_first_s:
            # The same list over again, held up on its way: it is answered already.
            return events
        asked = _indices(ranges, message.total)
        wanted = [index for index in asked if not message.on_its_way(index)]
        if wanted and next_state(message.state, SendInput.AGAIN) is not None:
            message.missing_at = now
            message.asked = 0
            message.receipt_due = None
            most = max(message.sent[index] for index in wanted)
            if most >= self._policy.attempts_per_fragment:
                reason = f"fragments are missing at the peer after {most} attempts"
                self._course.move(events, message, SendInput.EXHAUSTED, reason)
            else:
                for index in wanted:
                    message.send_again(index, now)
                self._course.move(events, message, SendInput.AGAIN)
        self._outbox.settle(message, now)
        return events

    def aborted(
        self, peer: bytes, name: MessageName, code: AbortCode, detail: int, now: float
    ) -> list[SenderEvent]:
        """Take the peer's word that it has ended a data message without delivering it."""
        events: list[SenderEvent] = []
        message = self._outbox.find(peer, name, False)
        if message is None:
            return events
        self._outbox.seen(message)
        what = abort_input(code)
        if message.begun >= self._policy.message_attempts:
            what = SendInput.ABORTED
        if self._course.move(events, message, what, _abort_reason(code, detail)):
            if not message.final:
                self._course.tell(events, message, begin_again(message.status, message.total))
            if message.state is SendState.REENCODING:
                events.append(ReencodeNeeded(message.ref, peer, code, detail))
            elif message.state is SendState.QUEUED:
                wait_s = self._policy.retry_wait_s(message.begun, self._random_fraction())
                message.wake_at = now + wait_s
        self._outbox.settle(message, now)
        return events

    # Time

    def get_timer(self) -> float | None:
        """Return when handle_timer and poll should be called, in seconds, or None."""
        first = self._outbox.first_timer()
        if self._outbox.line and self._pace_free_at is not None:
            first = min(first, self._pace_free_at)
        return None if first == math.inf else first

    def handle_timer(self, now: float) -> list[SenderEvent]:
        """Do what time brings: attempts without result, receipts that are due, the end of lives.

        Args:
            now: the time, in seconds.
        """
        events: list[SenderEvent] = []
        for message in self._outbox.take_due(now):
            self._wake(events, message, now)
            self._outbox.settle(message, now)
        return events

    def _wake(self, events: list[SenderEvent], message: OutgoingMessage, now: float) -> None:
        if message.deadline <= now:
            reason = f"its lifetime is over: {message.reason or _WAITED_FOR[message.state]}"
            self._course.move(events, message, SendInput.EXPIRED, reason)
            return
        if message.wake_at is not None and message.wake_at <= now:
            message.wake_at = None
            if message.state is SendState.DISPUTED:
                reason = f"{message.reason}; no reason came"
                self._course.move(events, message, SendInput.NO_REASON, reason)
                return
            self._outbox.queue(message)
        for counter, flight in list(message.flights.items()):
            if flight.deadline is not None and flight.deadline <= now and not message.final:
                self._course.lost(
                    events, message, counter, Result.UNKNOWN, now, "no result in time"
                )
        if message.receipt_due is not None and message.receipt_due <= now:
            self._ask_for_receipt(events, message, now)
        self._course.check_handed_over(events, message, now)

    def _ask_for_receipt(
        self, events: list[SenderEvent], message: OutgoingMessage, now: float
    ) -> None:
        message.receipt_due = None
        message.asked += 1
        if message.asked >= self._course.attempts(message):
            reason = f"no receipt came, though sent and asked for {message.asked} times"
            self._course.move(events, message, SendInput.EXHAUSTED, reason)
            return
        # One fragment is enough to make the peer say what it has.
        message.send_again(message.total - 1, now)
        self._course.move(events, message, SendInput.AGAIN)

    # Giving out

    def poll(self, now: float) -> list[SenderEvent]:
        """Give out the fragments that may go now: what has the highest priority first, and among
        equals to one peer after another in turn.

        Returns:
            Transmit events among others; all of a message's first transmissions in order.
        """
        events: list[SenderEvent] = []
        line = self._outbox.line
        while line and self._outbox.not_handed_over < self._policy.fragments_in_flight_total:
            self._pace_free_at = self._pace.free_at(now)
            if self._pace_free_at is not None:
                break
            recipient, priority = line.first()
            if self._give_out(events, recipient, priority, now):
                line.next_turn(priority)
            else:
                line.leave(priority)
        return events

    def _give_out(
        self, events: list[SenderEvent], recipient: Recipient, priority: int, now: float
    ) -> bool:
        if recipient.in_flight >= self._policy.fragments_in_flight:
            return False
        message = recipient.next_live(priority, now)
        queued = recipient.next_queued(False)
        if message is None or (
            queued is not None and not message.control and queued.priority > message.priority
        ):
            message = self._start_next(events, recipient, priority) or message
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
        self._pace.count(now)
        if self._policy.fragments_per_window is not None:
            self._outbox.save(PACE_KEY, self._pace.to_bytes())
        events.append(self._transmit(message, counter))
        self._outbox.settle(message, now)
        return True

    def _start_next(
        self, events: list[SenderEvent], recipient: Recipient, priority: int
    ) -> OutgoingMessage | None:
        limits = (self._policy.messages_in_flight, CONTROL_MESSAGES_IN_FLIGHT)
        for control in (True, False):
            ids = recipient.ids[control]
            message = recipient.next_queued(control)
            if message is None or ids.live >= MAX_LIVE_IDS:
                continue
            if not control and message.priority < priority:
                continue
            if recipient.in_the_way(message) >= limits[control]:
                continue
            if message.total > 1 and not control and not recipient.has_room():
                continue
            message_id, avoid_tags = ids.take()
            first = self._counters.issue_block(message.total, avoid_tags=avoid_tags)
            self._course.move(events, message, SendInput.START)
            self._outbox.begin(message, message_id, first)
            status = advance(message.status, tunnel_message_id=message_id, first_counter=first)
            self._course.tell(events, message, status)
            return message
        return None

    def _transmit(self, message: OutgoingMessage, counter: int) -> Transmit:
        index = message.flights[counter].index
        payload = message.payload(index, self._originator)
        attempt = message.sent[index]
        return Transmit(message.ref, message.peer, index, payload, counter, attempt)

    def pending(self) -> list[Transmit]:
        """List what was given out and is not known to be handed over.

        After a restart it must be handed over again, under the same counters, unless the gateway
        has its own record of it: a repetition is harmless.
        """
        return [
            self._transmit(message, counter)
            for message in self._outbox.messages.values()
            for counter, flight in message.flights.items()
            if not flight.handed_over and flight.deadline is not None
        ]

    # What must survive a restart

    def take_saves(self) -> dict[str, bytes | None]:
        """Take what changed since the last call and must survive a restart.

        Returns:
            For each key its octets, or None: delete it. To be stored in one transaction.
        """
        return self._outbox.take_saves()

    def restore(self, saved: Iterable[tuple[str, bytes]], now: float) -> None:
        """Take over what take_saves gave; before any other call.

        Args:
            saved: all keys that are not deleted, with their newest octets, in any order.
            now: the time, in seconds.

        Raises:
            StateError: something else than what was saved.
        """
        rows = dict(saved)
        pace = rows.pop(PACE_KEY, None)
        if pace is not None:
            self._pace.restore(pace)
        self._outbox.restore(rows.items(), now)


def abort_input(code: AbortCode) -> SendInput:
    """Return what an abort with this code means to its message."""
    return _ABORT_INPUTS.get(code, SendInput.ABORTED)


def _abort_reason(code: AbortCode, detail: int) -> str:
    reason = f"the peer ended it: {code.name.lower().replace('_', ' ')}"
    if not detail:
        return reason
    return (
        f"{reason} ({detail:08X})"
        if code is AbortCode.UNKNOWN_DICTIONARY
        else f"{reason} ({detail})"
    )


def _indices(ranges: Iterable[IndexRange], total: int) -> Iterator[int]:
    return chain.from_iterable(
        range(r.start, min(r.start + r.count, total) if r.count else total) for r in ranges
    )
