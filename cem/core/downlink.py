"""What a command does: fragments become messages, other text becomes labels, all get an answer.

An answer of success is a promise that what the command brought is on disk: it is stored together
with it, before it leaves. A store that fails is answered "temporary failure".
"""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from cem.core.admission import Admission
from cem.core.tunnel import TunnelEnd
from cem.errors import AlertError, StoreError
from cem.ports import Changes, CommandAnswer, Store
from gbcs.crypto import sign_response
from gbcs.messages import Command, Response
from gbcs.ports import Signer
from smtunnel import (
    ControlReceived,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    IgnoreReason,
    MessageAborted,
    MessageReassembled,
    MessageRejected,
    labels_to_payload,
)
from smtunnel.effects import Answer, Effects
from smtunnel.endpoint import Endpoint


class Outcome(enum.Enum):
    """What became of a valid command."""

    FRAGMENT = "fragment stored"
    MESSAGE = "message complete"
    LABELS = "labels stored"
    REPLAY = "answered before"
    CONTROL = "control message obeyed"
    REJECTED = "message rejected"
    REFUSED = "fragment refused"
    COUNTER_REUSED = "counter used twice"
    BUSY = "no room at the moment"
    STORE_FAILED = "the store failed"


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


@dataclass(frozen=True, slots=True)
class Handled:
    """A valid command and its answer.

    Attributes:
        command: what came.
        outcome: what became of it.
        detail: for a person: why, where there is more to say.
        response: the signed response.
    """

    command: Command
    outcome: Outcome
    detail: str
    response: bytes


class Downlink:
    """Obeys the commands of one device.

    Args:
        admission: checks each command first.
        signer: the device's digital-signature key.
        store: keeps what was answered.
        tunnel: takes the fragments.
        unacknowledged_messages: how many whole messages may wait for the application.
    """

    def __init__(
        self,
        admission: Admission,
        signer: Signer,
        store: Store,
        tunnel: TunnelEnd,
        *,
        unacknowledged_messages: int,
    ) -> None:
        self._admission = admission
        self._signer = signer
        self._store = store
        self._tunnel = tunnel
        self._unacknowledged_messages = unacknowledged_messages

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
            return self._obey(command, now)
        except (StoreError, AlertError) as error:
            return self._handled(
                command, Outcome.STORE_FAILED, str(error), Answer.TEMPORARY_FAILURE
            )

    def _obey(self, command: Command, now: float) -> Handled:
        names = command.pre_command
        peer, counter = names.originator_id.octets, names.originator_counter
        digest = sha256(names.to_bytes()).digest()
        known = self._store.answer(peer, counter)
        if known is not None:
            if known.content_digest == digest:
                return Handled(command, Outcome.REPLAY, "", known.response)
            detail = f"counter {counter} came before with other content"
            return self._handled(command, Outcome.COUNTER_REUSED, detail, Answer.OTHER_REASON)
        labels = tuple((label.index, label.text) for label in names.labels)
        payload = labels_to_payload(labels)
        if payload is None:
            handled = self._handled(command, Outcome.LABELS, "", Answer.SUCCESS)
            answer = CommandAnswer(peer, counter, digest, handled.response)
            self._store.commit(Changes(answer=answer, labels=labels))
            return handled
        return self._take_fragment(command, digest, payload, labels, now)

    def _take_fragment(
        self,
        command: Command,
        digest: bytes,
        payload: str,
        labels: tuple[tuple[int, str], ...],
        now: float,
    ) -> Handled:
        names = command.pre_command
        peer, counter = names.originator_id.octets, names.originator_counter
        busy = self._store.count_received() >= self._unacknowledged_messages
        judged: list[Handled] = []

        def work(endpoint: Endpoint) -> Effects:
            return endpoint.on_fragment(
                peer, payload, originator_counter=counter, now=now, busy=busy
            )

        def judge(effects: Effects) -> Changes:
            result = Answer.SUCCESS if effects.answer is None else effects.answer
            outcome, detail = _verdict(effects.events, result)
            handled = self._handled(command, outcome, detail, result)
            judged.append(handled)
            if result is Answer.TEMPORARY_FAILURE or outcome is Outcome.COUNTER_REUSED:
                # Nothing of it is remembered: another attempt is judged anew.
                return Changes()
            return Changes(
                answer=CommandAnswer(peer, counter, digest, handled.response),
                labels=labels if outcome is Outcome.LABELS else (),
            )

        self._tunnel.work(work, now, judge)
        return judged[0]

    def _handled(self, command: Command, outcome: Outcome, detail: str, result: Answer) -> Handled:
        results = (int(result),) * len(command.pre_command.labels)
        response = sign_response(Response.answering(command, results), self._signer)
        return Handled(command, outcome, detail, response.to_bytes())


def _verdict(events: Iterable[Event], result: Answer) -> tuple[Outcome, str]:
    """Say what the events of one fragment come to, and why."""
    outcome, detail = Outcome.REFUSED, ""
    for event in events:
        match event:
            case FragmentIgnored():
                return _IGNORED[event.reason], f"{event.reason.value}: {event.detail}"
            case FragmentAccepted():
                outcome = Outcome.FRAGMENT
            case MessageReassembled():
                outcome = Outcome.MESSAGE
            case ControlReceived():
                outcome = Outcome.CONTROL
            case MessageRejected():
                outcome, detail = Outcome.REJECTED, str(event.error)
            case MessageAborted() if result is Answer.OTHER_REASON:
                # Accepted, and given up in the same breath: it must not be called a success.
                outcome, detail = Outcome.REJECTED, event.reason.value
            case _:
                pass
    return outcome, detail
