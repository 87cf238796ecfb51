"""The sending end: messages in, carrier messages out, until each is delivered or has failed.

No I/O and no clock: time is an argument, what is to be done comes back as events. Every input may
change what must survive a restart: take_saves gives it, and it must be stored before any Transmit
of the same input leaves.

Source: specs/tunnel-protocol.md, sending.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from smtunnel.carriers import ROUTE_2B, Carrier
from smtunnel.codec import inflate_untrusted
from smtunnel.course import Course
from smtunnel.delivery import DeliveryState, MessageStatus, begin_again
from smtunnel.errors import LocalError
from smtunnel.fragments import EncodedMessage
from smtunnel.giving_out import GivingOut
from smtunnel.header import Compression, Originator
from smtunnel.outbox import Outbox
from smtunnel.outgoing import OutgoingMessage
from smtunnel.pacing import PACE_KEY
from smtunnel.peer_word import PeerWord
from smtunnel.policy import Confirmation, CounterIssuer, Result, SendPolicy
from smtunnel.records import AbortCode, IndexRange, MessageName
from smtunnel.route_choice import RouteChoice
from smtunnel.send_events import (
    SenderEvent,
    StatusChanged,
    Transmit,
)
from smtunnel.send_states import SendInput, SendState

RECEIPTS_IN_FLIGHT_2B: Final = 2
"""So many messages of receipts to one peer may be given out and not handed over."""

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
        self._outbox = Outbox()
        self._course = Course(self._outbox, policy, random_fraction)
        self._peer_word = PeerWord(self._outbox, self._course, policy, random_fraction)
        self._giving_out = GivingOut(
            self._outbox, self._course, policy, originator=originator, counters=counters
        )

    @property
    def policy(self) -> SendPolicy:
        """How messages are sent."""
        return self._policy

    def status(self, ref: str) -> MessageStatus | None:
        """Return what is known of a message that has not ended, else None."""
        message = self._outbox.messages.get(ref)
        return None if message is None else message.status

    def carrier_for(self, choice: RouteChoice) -> Carrier:
        """Return the carrier that a message is to be encoded for: the smallest that it may take."""
        return ROUTE_2B if choice is RouteChoice.ONLY_2B else self._carrier

    def choice(self, ref: str) -> RouteChoice:
        """Return which routes a message that has not ended may take."""
        return self._outbox.messages[ref].choice

    def control_messages(self, peer: bytes) -> int:
        """Return how many control messages to a peer have not ended."""
        recipient = self._outbox.recipient(peer)
        return sum(map(len, recipient.queues[True].values())) + recipient.ids[True].live

    def route_is_up(self, peer: bytes) -> bool:
        """Tell whether messages may go to a peer by route 2b."""
        return self._policy.use_route_2b and self._outbox.recipient(peer).link.up

    def takes_receipts(self, peer: bytes) -> bool | None:
        """Tell whether receipts may go to a peer by route 2b now.

        Returns:
            None where the route is down; False while others are on their way: what comes
            meanwhile shares the next message.
        """
        if not self.route_is_up(peer):
            return None
        return self._outbox.recipient(peer).fleeting() < RECEIPTS_IN_FLIGHT_2B

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
        choice: RouteChoice = RouteChoice.AUTO,
        urgent: bool = False,
        fleeting: bool = False,
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
            lifetime_s: to its end at the latest, in seconds; the policy's unless given. One that is
                shorter is its caller's deadline, and told as that.
            choice: which routes it may take; one for 2b only is encoded for it.
            urgent: True to go by 2a at once where 2b is down.
            fleeting: True for what goes by route 2b once and need not be saved.

        Raises:
            LocalError: the ref is of another message, the priority is not of 32 bits, or the
                message is for route 2b only, but the policy is without it.
        """
        if ref in self._outbox.messages:
            raise LocalError(f"message {ref} is on its way already: a ref names one message")
        if not -(2**31) <= priority < 2**31:
            raise LocalError(f"priority {priority} does not fit 32 bits")
        policy = self._policy
        if choice is RouteChoice.ONLY_2B and not policy.use_route_2b:
            raise LocalError(
                f"message {ref} is for route 2b only, but the policy is route 2a only: send it "
                "with RouteChoice.AUTO"
            )
        confirmation = policy.confirmation if confirmation is None else confirmation
        longest_s = policy.control_lifetime_s if control else policy.message_lifetime_s
        dated = lifetime_s is not None and lifetime_s < longest_s
        if lifetime_s is None:
            lifetime_s = longest_s
        message = OutgoingMessage(
            ref=ref,
            peer=peer,
            control=control,
            confirmation=confirmation,
            priority=priority,
            sequence=self._outbox.next_sequence(),
            deadline=now + lifetime_s,
            stream=b"",
            printable=False,
            piece=1,
            body_compression=encoded.compression,
            message_octets=encoded.message_octets,
            status=MessageStatus(
                ref=ref,
                fragments_total=encoded.fragments,
                message_octets=encoded.message_octets,
                receipt_expected=confirmation is Confirmation.RECEIPTS,
            ),
            choice=choice,
            urgent=urgent,
            fleeting=fleeting,
            dated=dated,
        )
        message.encode(encoded, self.carrier_for(choice))
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
        message.encode(encoded, self.carrier_for(message.choice))
        self._outbox.save_fixed(message)
        self._course.tell(events, message, begin_again(message.status, message.total))
        self._outbox.queue(message)
        self._outbox.settle(message, now)
        return events

    def waits_for_2b_s(self, ref: str, now: float) -> float | None:
        """Return for how long a message waits for route 2b, as `Ways.wait_s` does."""
        message = self._outbox.messages.get(ref)
        if message is None:
            return None
        link = self._outbox.recipient(message.peer).link
        return self._giving_out.ways.wait_s(message, link, now)

    def may_be_held(self, ref: str) -> MessageName | None:
        """Return the name of a message of which the peer may hold fragments, else None.

        One fragment alone is never held; nor is what the carrier has given back.
        """
        message = self._outbox.messages.get(ref)
        if message is None or message.total == 1 or not any(message.sent):
            return None
        return MessageName.of(message.message_id or 0, message.first_counter or 0)

    def cancel(
        self, ref: str, reason: str, now: float, *, refused: int | None = None
    ) -> list[SenderEvent]:
        """Give a message up; nothing happens where none has this ref.

        Args:
            ref: which one.
            reason: why, for a person.
            now: the time, in seconds.
            refused: the counter of a carrier message that was refused for good, if that is why;
                then what is on its way by route 2b goes on there.
        """
        events: list[SenderEvent] = []
        message = self._outbox.messages.get(ref)
        if message is not None:
            if refused in message.flights:
                self._outbox.land(message, refused)
            if refused is not None and message.whole.engaged:
                # It is on its way by 2b: route 2a alone is closed to it.
                message.stay_whole()
                self._outbox.save_fixed(message)
                self._course.check_handed_over(events, message, now)
                self._outbox.settle(message, now)
                return events
            what = SendInput.CANCELLED if refused is None else SendInput.EXHAUSTED
            self._course.move(events, message, what, reason)
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
            if message.status.state is not DeliveryState.SENT:
                # Of one that is sent, this would say that it has ended: perhaps it has not, by 2b.
                status = replace(message.status, receipt_expected=False)
                self._course.tell(events, message, status)
            self._course.check_final(events, message)
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
        if message.body_compression is Compression.ZLIB:
            return inflate_untrusted(message.stream, max_octets=message.message_octets)
        return message.stream

    # Inputs from transport

    def transmitted(self, originator_counter: int, now: float) -> list[SenderEvent]:
        """Note that a carrier message was taken over: by the DCC down, by the hub up."""
        events: list[SenderEvent] = []
        message = self._outbox.sent_under(originator_counter)
        if message is None:
            return events
        if originator_counter == message.whole.counter:
            self._course.whole_handed_over(events, message, now)
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
        if message is None or originator_counter == message.whole.counter:
            # On route 2b there are no results: a receipt tells, or the end of the connection.
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

    def route_up(self, peer: bytes, now: float, *, message_octets: int) -> list[SenderEvent]:
        """Note that route 2b to a peer stands.

        Args:
            peer: which one.
            now: the time, in seconds.
            message_octets: the largest message that it takes there.
        """
        events = self.route_down(peer, now)
        recipient = self._outbox.route_up(peer, message_octets)
        for message in list(recipient.live):
            message.whole.asked = 0
            if message.choice is RouteChoice.BOTH and self._giving_out.ways.may_2b(
                message, recipient.link
            ):
                self._course.join_2b(events, message, now)
                self._outbox.settle(message, now)
        return events

    def route_down(self, peer: bytes, now: float) -> list[SenderEvent]:
        """Note that route 2b to a peer is gone, with all that was on its way there."""
        events: list[SenderEvent] = []
        recipient = self._outbox.route_down(peer, now + self._policy.fallback_after_s)
        if recipient is not None:
            for message in list(recipient.live):
                if message.whole.engaged:
                    self._course.whole_lost(events, message, now)
                    self._outbox.settle(message, now)
        return events

    # Inputs from the peer's control records

    def receipt(
        self, peer: bytes, name: MessageName, now: float, *, control: bool = False
    ) -> list[SenderEvent]:
        """Take the peer's word that it has a message."""
        return self._peer_word.receipt(peer, name, now, control=control)

    def missing(
        self, peer: bytes, name: MessageName, ranges: Iterable[IndexRange], now: float
    ) -> list[SenderEvent]:
        """Take the peer's word that fragments of a data message are missing there."""
        return self._peer_word.missing(peer, name, ranges, now)

    def aborted(
        self, peer: bytes, name: MessageName, code: AbortCode, detail: int, now: float
    ) -> list[SenderEvent]:
        """Take the peer's word that it has ended a data message without delivering it."""
        return self._peer_word.aborted(peer, name, code, detail, now)

    # Time

    def get_timer(self) -> float | None:
        """Return when handle_timer and poll should be called, in seconds, or None."""
        first = min(self._outbox.first_timer(), self._giving_out.first_timer())
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
            over = "its deadline passed" if message.dated else "its lifetime is over"
            reason = f"{over}: {message.reason or _WAITED_FOR[message.state]}"
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
        if message.whole.engaged:
            self._course.whole_unanswered(events, message, now)
            return
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
        """Give out what may go now: what has the highest priority first, and among equals to one
        peer after another in turn.

        Returns:
            Transmit events among others; all of a message's first transmissions in order.
        """
        return self._giving_out.poll(now)

    def pending(self) -> list[Transmit]:
        """List what was given out and is not known to be handed over.

        After a restart it must be handed over again, under the same counters, unless the gateway
        has its own record of it: a repetition is harmless.
        """
        return [
            self._giving_out.transmit(message, counter)
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

    def restore(self, saved: Iterable[tuple[str, bytes]], now: float) -> list[SenderEvent]:
        """Take over what take_saves gave; before any other call. Route 2b is down to every peer.

        Args:
            saved: all keys that are not deleted, with their newest octets, in any order.
            now: the time, in seconds.

        Raises:
            StateError: something else than what was saved.
        """
        rows = dict(saved)
        pace = rows.pop(PACE_KEY, None)
        if pace is not None:
            self._giving_out.pace.restore(pace)
        fallback_at = now + self._policy.fallback_after_s
        self._outbox.restore(rows.items(), now, fallback_at=fallback_at)
        events: list[SenderEvent] = []
        for message in list(self._outbox.messages.values()):
            if message.choice is RouteChoice.BOTH and message.state is SendState.SENDING:
                # Perhaps only route 2b was waited for.
                self._course.check_handed_over(events, message, now)
                self._outbox.settle(message, now, changed=message.state is not SendState.SENDING)
        return events
