"""What a command does: fragments become messages, other text becomes labels, all get an answer.

An answer of success is a promise that what the command brought is on disk. So every change
is committed to the store before the answer leaves; a store that fails is answered "temporary
failure", and the memory, which may be ahead of the disk then, is built again from the store.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cem.core.admission import Admission
from cem.errors import StoreError
from cem.ports import Answer, CommandOutcome, MessageKey, NewMessage, Store, StoredFragment
from gbcs.crypto import sign_response
from gbcs.entity_id import EntityId
from gbcs.messages import Command, DataAccessResult, Response
from gbcs.ports import Signer
from smtunnel import (
    ECS46A,
    ControlReceived,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    IgnoreReason,
    Limits,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    Originator,
    Reassembler,
    labels_to_payload,
)
from smtunnel.errors import StateError


class Outcome(enum.Enum):
    """What became of a valid command."""

    FRAGMENT = "fragment stored"
    MESSAGE = "message complete"
    LABELS = "labels stored"
    REPLAY = "answered before"
    CONTROL = "control record not acted on"
    REJECTED = "message rejected"
    REFUSED = "fragment refused"
    COUNTER_REUSED = "counter used twice"
    BUSY = "too many messages wait for the application"
    STORE_FAILED = "the store failed"


_RESULTS: Final = {
    Outcome.FRAGMENT: DataAccessResult.SUCCESS,
    Outcome.MESSAGE: DataAccessResult.SUCCESS,
    Outcome.LABELS: DataAccessResult.SUCCESS,
    Outcome.REPLAY: DataAccessResult.SUCCESS,
    Outcome.CONTROL: DataAccessResult.SUCCESS,
    Outcome.REJECTED: DataAccessResult.OTHER_REASON,
    Outcome.REFUSED: DataAccessResult.OTHER_REASON,
    Outcome.COUNTER_REUSED: DataAccessResult.OTHER_REASON,
    Outcome.BUSY: DataAccessResult.TEMPORARY_FAILURE,
    Outcome.STORE_FAILED: DataAccessResult.TEMPORARY_FAILURE,
}

_IGNORED: Final = {
    # A well-formed fragment of our own side is as little for us as any other text.
    IgnoreReason.NOT_A_FRAGMENT: Outcome.LABELS,
    IgnoreReason.NOT_MINE: Outcome.LABELS,
    IgnoreReason.REPLAY: Outcome.REPLAY,
    IgnoreReason.DUPLICATE: Outcome.REPLAY,
    IgnoreReason.DELIVERED: Outcome.REPLAY,
    IgnoreReason.COUNTER_REUSED: Outcome.COUNTER_REUSED,
    IgnoreReason.ENDED: Outcome.REFUSED,
    IgnoreReason.OLDER_MESSAGE: Outcome.REFUSED,
    IgnoreReason.STALE: Outcome.BUSY,
    IgnoreReason.TOO_MANY_PEERS: Outcome.BUSY,
    IgnoreReason.BUSY: Outcome.BUSY,
}

_REMEMBERED: Final = {Outcome.FRAGMENT, Outcome.MESSAGE, Outcome.LABELS, Outcome.CONTROL} | {
    Outcome.REJECTED
}
"""Outcomes that change something: kept with their answer. All others are judged anew each time."""


@dataclass(frozen=True, slots=True)
class Handled:
    """A valid command and its answer.

    Attributes:
        command: what came.
        outcome: what became of it.
        detail: for a person: why, where there is more to say.
        response: the signed response.
        message: the message that it completed.
        ended: messages that ended without being complete, each described for a person.
    """

    command: Command
    outcome: Outcome
    detail: str
    response: bytes
    message: NewMessage | None = None
    ended: tuple[str, ...] = ()


@dataclass(slots=True)
class _Verdict:
    """What the reassembler's events for one command come to."""

    outcome: Outcome = Outcome.REFUSED
    detail: str = ""
    accepted: MessageKey | None = None
    reassembled: MessageReassembled | None = None


class Downlink:
    """Obeys the commands of one device.

    Args:
        admission: checks each command first.
        signer: the device's digital-signature key.
        store: keeps what was accepted.
        limits: bounds on incomplete messages.
        unacknowledged_messages: how many whole messages may wait for the application.

    Raises:
        StoreError: the store cannot be read, or does not make sense.
    """

    def __init__(
        self,
        admission: Admission,
        signer: Signer,
        store: Store,
        *,
        limits: Limits,
        unacknowledged_messages: int,
    ) -> None:
        self._admission = admission
        self._signer = signer
        self._store = store
        self._limits = limits
        self._unacknowledged_messages = unacknowledged_messages
        self._reassembler = self._restored()
        self._memory_is_ahead = False

    def _restored(self) -> Reassembler:
        """Return a reassembler that knows what the store knows."""
        reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A, limits=self._limits)
        ended: list[MessageKey] = []
        try:
            for peer, window in self._store.replay_windows().items():
                reassembler.restore_window(peer, window)
        except StateError as error:
            raise StoreError(
                f"the stored replay window is damaged: {error}; restore the state file"
            ) from None
        for fragment in self._store.fragments():
            events = reassembler.receive_fragment(
                fragment.key.peer,
                fragment.payload,
                originator_counter=fragment.originator_counter,
                now=fragment.received_at,
            )
            # None, but where the limits were lowered since.
            ended += [_key(event) for event in events if _is_end(event)]
        if ended:
            self._store.end_messages(ended)
        return reassembler

    def receive_untrusted(self, octets: bytes, now: float) -> Handled:
        """Check and obey one message from the communications hub.

        Args:
            octets: one WebSocket message.
            now: seconds since 1970.

        Returns:
            What became of it, with the response to send.

        Raises:
            CommandRefused: it is no valid command; nothing changed, and it gets no answer.
        """
        command = self._admission.admit_untrusted(octets)
        try:
            if self._memory_is_ahead:
                self._reassembler = self._restored()
                self._memory_is_ahead = False
            return self._obey(command, now)
        except StoreError as error:
            self._memory_is_ahead = True
            return self._handled(command, Outcome.STORE_FAILED, str(error))

    def _obey(self, command: Command, now: float) -> Handled:
        names = command.pre_command
        peer, counter = names.originator_id.octets, names.originator_counter
        digest = sha256(names.to_bytes()).digest()
        known = self._store.answer(peer, counter)
        if known is not None:
            if known.content_digest == digest:
                return Handled(command, Outcome.REPLAY, "", known.response)
            return self._handled(
                command,
                Outcome.COUNTER_REUSED,
                f"counter {counter} came before with other content",
            )
        payload = labels_to_payload([(label.index, label.text) for label in names.labels])
        if payload is None:
            return self._finish(command, digest, _Verdict(Outcome.LABELS), [], now)
        if self._store.count_received() >= self._unacknowledged_messages:
            return self._handled(
                command,
                Outcome.BUSY,
                f"{self._unacknowledged_messages} received messages wait for an ack",
            )
        events = self._reassembler.receive_fragment(
            peer, payload, originator_counter=counter, now=now
        )
        ends = [event for event in events if _is_end(event)]
        return self._finish(command, digest, _verdict(events), ends, now, payload)

    def _finish(
        self,
        command: Command,
        digest: bytes,
        verdict: _Verdict,
        ends: Sequence[Event],
        now: float,
        payload: str = "",
    ) -> Handled:
        """Store what the command changed, as one, and answer."""
        names = command.pre_command
        peer, counter = names.originator_id.octets, names.originator_counter
        handled = self._handled(
            command,
            verdict.outcome,
            verdict.detail,
            message=_new_message(verdict.reassembled, now),
            ended=tuple(describe_end(event) for event in ends),
        )
        ended = tuple(_key(event) for event in ends)
        if verdict.outcome is Outcome.CONTROL and verdict.accepted is not None:
            ended += (verdict.accepted,)
        if verdict.reassembled is not None:
            ended += (_key(verdict.reassembled),)
        if verdict.outcome not in _REMEMBERED:
            if ended:
                self._store.end_messages(ended)
            return handled
        fragment = None
        if verdict.outcome is Outcome.FRAGMENT and verdict.accepted is not None:
            fragment = StoredFragment(verdict.accepted, counter, payload, now)
        labels = names.labels if verdict.outcome is Outcome.LABELS else ()
        self._store.commit_command(
            CommandOutcome(
                peer=peer,
                originator_counter=counter,
                answer=Answer(digest, handled.response),
                window=self._reassembler.export_window(peer),
                fragment=fragment,
                ended=ended,
                message=handled.message,
                labels=tuple((label.index, label.text) for label in labels),
            )
        )
        return handled

    def _handled(
        self,
        command: Command,
        outcome: Outcome,
        detail: str,
        *,
        message: NewMessage | None = None,
        ended: tuple[str, ...] = (),
    ) -> Handled:
        results = (int(_RESULTS[outcome]),) * len(command.pre_command.labels)
        response = sign_response(Response.answering(command, results), self._signer)
        return Handled(command, outcome, detail, response.to_bytes(), message, ended)

    def get_timer(self) -> float | None:
        """Return when `handle_timer` should be called, in seconds since 1970; None: not at all."""
        return self._reassembler.get_timer()

    def handle_timer(self, now: float) -> tuple[str, ...]:
        """End the messages whose time is over; each is described for a person.

        Raises:
            StoreError: the store fails; they end at a later call.
        """
        ends = self._reassembler.handle_timer(now)
        if ends:
            self._memory_is_ahead = True
            self._store.end_messages([_key(event) for event in ends])
            self._memory_is_ahead = False
        return tuple(describe_end(event) for event in ends)


def _verdict(events: Sequence[Event]) -> _Verdict:
    verdict = _Verdict()
    for event in events:
        match event:
            case FragmentAccepted():
                verdict.outcome, verdict.accepted = Outcome.FRAGMENT, _key(event)
            case MessageReassembled():
                verdict.outcome, verdict.reassembled = Outcome.MESSAGE, event
            case ControlReceived():
                verdict.outcome = Outcome.CONTROL
            case MessageRejected():
                verdict.outcome, verdict.detail = Outcome.REJECTED, str(event.error)
            case FragmentIgnored():
                verdict.outcome = _IGNORED[event.reason]
                verdict.detail = f"{event.reason.value}: {event.detail}"
            case MessageAborted() if _key(event) == verdict.accepted:
                # Accepted, and given up in the same breath: it must not be called a success.
                verdict.outcome, verdict.detail = Outcome.REJECTED, event.reason.value
            case _:
                pass
    return verdict


def _is_end(event: Event) -> bool:
    return isinstance(event, (MessageRejected, MessageExpired, MessageAborted))


def _key(event: Event) -> MessageKey:
    if isinstance(event, FragmentIgnored):
        raise TypeError("an ignored fragment is of no message")
    return MessageKey(event.peer, event.tunnel_message_id, event.first_counter)


def _new_message(event: MessageReassembled | None, now: float) -> NewMessage | None:
    if event is None:
        return None
    peer = EntityId(event.peer)
    ref = f"{peer.hex}-{event.tunnel_message_id}-{event.first_counter}"
    return NewMessage(ref, peer, event.message, now)


def describe_end(event: Event) -> str:
    """Say for a person why a message ended without being complete."""
    match event:
        case MessageRejected():
            why = f"rejected: {event.error}"
        case MessageExpired():
            more = "" if event.last_known else " and what follows"
            why = f"expired: fragments {list(event.missing)}{more} never came"
        case MessageAborted():
            why = f"aborted: {event.reason.value}"
        case _:
            why = "not ended"
    key = _key(event)
    return f"message {key.tunnel_message_id} from counter {key.first_counter} {why}"
