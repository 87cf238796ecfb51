"""What the peer's control records say of messages that were sent, and what comes of it.

Source: specs/tunnel-protocol.md, control messages and sending.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Final

from smtunnel.course import Course
from smtunnel.delivery import begin_again
from smtunnel.outbox import Outbox
from smtunnel.outgoing import OutgoingMessage
from smtunnel.policy import Confirmation, SendPolicy
from smtunnel.records import AbortCode, IndexRange, MessageName
from smtunnel.send_events import ReencodeNeeded, SenderEvent
from smtunnel.send_states import SendInput, SendState, next_state

_ABORT_INPUTS: Final = {
    AbortCode.UNKNOWN_DICTIONARY: SendInput.ABORTED_ENCODING,
    AbortCode.WINDOW_TOO_LARGE: SendInput.ABORTED_ENCODING,
    AbortCode.EXPIRED: SendInput.ABORTED_FOR_NOW,
    AbortCode.TOO_MANY_PARTIAL: SendInput.ABORTED_FOR_NOW,
    AbortCode.MEMORY: SendInput.ABORTED_FOR_NOW,
}


class PeerWord:
    """Takes the peer's word: receipts, missing lists, aborts."""

    def __init__(
        self,
        outbox: Outbox,
        course: Course,
        policy: SendPolicy,
        random_fraction: Callable[[], float],
    ) -> None:
        """Begin.

        Args:
            outbox: the books.
            course: moves messages.
            policy: how to send.
            random_fraction: returns a random number from 0 to 1, for the waits.
        """
        self._outbox = outbox
        self._course = course
        self._policy = policy
        self._random_fraction = random_fraction

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
        else:
            self._outbox.confirm_ended(peer, name, control)
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
        if not message.on_2a:
            # It goes by route 2b, whole.
            return events
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
