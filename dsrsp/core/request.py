"""One request to the DCC, from its reserved counter to its end, as one table.

A request carries one tunnel fragment in one ECS46a and costs two exchanges with the
DCC (transform, then send) and one response that comes by itself, later, twice or never.
The table below is the whole of its behaviour; `Request.handle` only looks it up.

Source: DUIS (command variants 4 and 5), and ``specs/tunnel-protocol.md`` for delivery.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dsrsp.errors import InvalidTransition
from gbcs.messages import PreCommand


class State(enum.Enum):
    """Where a request stands. Those marked (kept) are what the store holds."""

    RESERVED = "reserved"
    """(kept) It has a counter; nothing has gone out."""
    TRANSFORMING = "transforming"
    """Its transform request is at the DCC."""
    CORRELATING = "correlating"
    """The DCC's pre-command is compared with what was asked, then signed."""
    SIGNED = "signed"
    """(kept) Signed and being stored; it may have been posted when we come from a restart."""
    SENDING = "sending"
    """The signed pre-command is at the DCC, its acknowledgement is not here yet."""
    ACCEPTED = "accepted"
    """(kept) The DCC said I99; the device's answer is to come."""
    UNCONFIRMED = "unconfirmed"
    """(kept) The DCC knows the request, but we never saw its I99; the device's answer may come."""
    ANSWERED = "answered"
    """(kept, final) The device has answered; the results say whether it took the fragment."""
    REFUSED = "refused"
    """(kept, final) The DCC refused it, or we refused to sign what the DCC made."""
    TIMED_OUT = "timed out"
    """(kept, final) No answer in time; what became of it is not known."""
    WITHDRAWN = "withdrawn"
    """(kept, final) Given up, because its message had already ended. If it was signed, the DCC may
    have it all the same: it is not posted again."""


class Input(enum.Enum):
    """What can happen to a request."""

    BEGIN = "its turn has come"
    PRE_COMMAND = "transform answered with a pre-command, signed by the DCC"
    SIGNATURE = "the pre-command says what was asked and is signed"
    MISMATCH = "the pre-command does not say what was asked, or cannot be signed"
    KEPT = "the signed request is stored"
    ACKNOWLEDGED = "the DCC answered I99"
    NO_ANSWER = "no answer from the DCC, or one that cannot be believed"
    REFUSAL = "the DCC refused"
    REPEAT_REFUSAL = "the DCC refused a repeated request because it has seen it before"
    RESPONSE = "the device's response is here and verified"
    TIMER = "the time is up"
    WITHDRAW = "its message has ended"
    QUARANTINED = "the DCC holds it back until somebody releases or discards it there"
    RESUME = "this process has restarted"


class Action(enum.Enum):
    """What the runner must do now."""

    TRANSFORM = "post the transform request"
    CORRELATE = "compare, and sign if equal"
    KEEP = "store the signed request, durably"
    SEND = "post the signed pre-command"
    AWAIT = "store the new state, wait for the device's response until the deadline"
    FINISH = "store the new state, tell the message"
    NOTE = "store what is known now"
    NOTE_LATE = "write down that the device answered after we gave up"
    IGNORE = "nothing: a duplicate, or out of place"


FINAL_STATES: Final = frozenset({State.ANSWERED, State.REFUSED, State.TIMED_OUT, State.WITHDRAWN})
POSTED_STATES: Final = frozenset({State.SENDING, State.ACCEPTED, State.UNCONFIRMED})

_S, _I, _A = State, Input, Action

TRANSITIONS: Final[Mapping[State, Mapping[Input, tuple[State, Action]]]] = {
    _S.RESERVED: {
        _I.BEGIN: (_S.TRANSFORMING, _A.TRANSFORM),
        _I.RESUME: (_S.TRANSFORMING, _A.TRANSFORM),
        _I.WITHDRAW: (_S.WITHDRAWN, _A.FINISH),
    },
    _S.TRANSFORMING: {
        _I.PRE_COMMAND: (_S.CORRELATING, _A.CORRELATE),
        _I.NO_ANSWER: (_S.TRANSFORMING, _A.TRANSFORM),
        _I.REFUSAL: (_S.REFUSED, _A.FINISH),
        # Nothing was signed: the first transform made nothing that could still arrive.
        _I.REPEAT_REFUSAL: (_S.REFUSED, _A.FINISH),
        _I.TIMER: (_S.TIMED_OUT, _A.FINISH),
        _I.WITHDRAW: (_S.WITHDRAWN, _A.FINISH),
    },
    _S.CORRELATING: {
        _I.SIGNATURE: (_S.SIGNED, _A.KEEP),
        _I.MISMATCH: (_S.REFUSED, _A.FINISH),
        _I.TIMER: (_S.TIMED_OUT, _A.FINISH),
        _I.WITHDRAW: (_S.WITHDRAWN, _A.FINISH),
    },
    _S.SIGNED: {
        _I.KEPT: (_S.SENDING, _A.SEND),
        _I.RESUME: (_S.SENDING, _A.SEND),
        _I.WITHDRAW: (_S.WITHDRAWN, _A.FINISH),
        # The four below only after a restart: it may have been posted before.
        _I.RESPONSE: (_S.ANSWERED, _A.FINISH),
        _I.REFUSAL: (_S.REFUSED, _A.FINISH),
        _I.TIMER: (_S.TIMED_OUT, _A.FINISH),
        _I.QUARANTINED: (_S.SIGNED, _A.NOTE),
    },
    _S.SENDING: {
        _I.ACKNOWLEDGED: (_S.ACCEPTED, _A.AWAIT),
        _I.NO_ANSWER: (_S.SENDING, _A.SEND),
        _I.REFUSAL: (_S.REFUSED, _A.FINISH),
        # The DCC has it from an earlier attempt whose answer was lost: that is no failure.
        _I.REPEAT_REFUSAL: (_S.UNCONFIRMED, _A.AWAIT),
        # The device can be faster than the DCC's acknowledgement.
        _I.RESPONSE: (_S.ANSWERED, _A.FINISH),
        _I.TIMER: (_S.TIMED_OUT, _A.FINISH),
        # The DCC may have it, but where it has not, it must not get it now.
        _I.WITHDRAW: (_S.WITHDRAWN, _A.FINISH),
        # An alert, too, can be faster than the acknowledgement.
        _I.QUARANTINED: (_S.SENDING, _A.NOTE),
    },
    _S.ACCEPTED: {
        _I.REFUSAL: (_S.REFUSED, _A.FINISH),
        _I.RESPONSE: (_S.ANSWERED, _A.FINISH),
        _I.TIMER: (_S.TIMED_OUT, _A.FINISH),
        _I.RESUME: (_S.ACCEPTED, _A.AWAIT),
        _I.QUARANTINED: (_S.ACCEPTED, _A.NOTE),
    },
    _S.UNCONFIRMED: {
        _I.ACKNOWLEDGED: (_S.ACCEPTED, _A.AWAIT),
        _I.REFUSAL: (_S.REFUSED, _A.FINISH),
        _I.RESPONSE: (_S.ANSWERED, _A.FINISH),
        _I.TIMER: (_S.TIMED_OUT, _A.FINISH),
        _I.RESUME: (_S.UNCONFIRMED, _A.AWAIT),
        _I.QUARANTINED: (_S.UNCONFIRMED, _A.NOTE),
    },
    _S.ANSWERED: {},
    _S.REFUSED: {_I.RESPONSE: (_S.REFUSED, _A.NOTE_LATE)},
    _S.TIMED_OUT: {_I.RESPONSE: (_S.TIMED_OUT, _A.NOTE_LATE)},
    _S.WITHDRAWN: {_I.RESPONSE: (_S.WITHDRAWN, _A.NOTE_LATE)},
}

OUTSIDE_INPUTS: Final = frozenset(
    {
        Input.PRE_COMMAND,
        Input.ACKNOWLEDGED,
        Input.NO_ANSWER,
        Input.REFUSAL,
        Input.REPEAT_REFUSAL,
        Input.RESPONSE,
        Input.TIMER,
        Input.WITHDRAW,
        Input.QUARANTINED,
    }
)
"""Inputs that can come at any time: where the table has no line for one, nothing happens.

The others are our own steps: out of place they are our mistake and raise InvalidTransition.
"""


def transition(state: State, what: Input) -> tuple[State, Action]:
    """Look up what an input does in a state.

    Raises:
        InvalidTransition: one of our own steps is out of place.
    """
    found = TRANSITIONS[state].get(what)
    if found is not None:
        return found
    if what in OUTSIDE_INPUTS:
        return state, Action.IGNORE
    raise InvalidTransition(f"a request that is {state.value} cannot meet: {what.value}")


@dataclass(slots=True)
class Request:
    """One request and what is known of it.

    ``pre_command`` is what is asked for, the measure of correlation. ``attempt`` counts the
    requests for the same fragment. ``posts`` counts the attempts to post the signed pre-command,
    those of earlier processes as one. ``deadline`` and ``signed_at`` are in the seconds of
    `gbcs.steady`. ``results`` are the device's, one for each label. ``heals`` says of a refusal
    that another request for the same fragment may do better. ``held``: the DCC has it in
    quarantine.
    """

    message_ref: str
    index: int
    pre_command: PreCommand
    state: State = State.RESERVED
    deadline: float | None = None
    signed_request: bytes | None = None
    posts: int = 0
    results: tuple[int, ...] | None = None
    reason: str | None = None
    heals: bool = False
    attempt: int = 1
    signed_at: float | None = None
    held: bool = False

    @property
    def originator_counter(self) -> int:
        """The Originator Counter: it names the request, for no other ever has the same."""
        return self.pre_command.originator_counter

    @property
    def final(self) -> bool:
        """True when nothing more can change the state."""
        return self.state in FINAL_STATES

    def handle(
        self,
        what: Input,
        *,
        deadline: float | None = None,
        signed_request: bytes | None = None,
        signed_at: float | None = None,
        results: tuple[int, ...] | None = None,
        reason: str | None = None,
        heals: bool = False,
    ) -> Action:
        """Take an input in and return what to do.

        Args:
            what: the input.
            deadline: the new deadline, if this input sets one.
            signed_request: with SIGNATURE, the octets to post.
            signed_at: with SIGNATURE, when, in seconds.
            results: with RESPONSE, the device's results.
            reason: why, in words for a person; kept where it explains the end of the request.
            heals: with a refusal: whether another request may do better.

        Raises:
            InvalidTransition: one of our own steps is out of place.
        """
        before = self.state
        self.state, action = transition(before, what)
        if action is Action.IGNORE:
            return action
        if what is Input.RESUME and before is State.SIGNED:
            self.posts += 1  # the earlier process may have posted it
        if deadline is not None:
            self.deadline = deadline
        if signed_request is not None:
            self.signed_request = signed_request
            self.signed_at = signed_at
        if results is not None:
            self.results = results
        if reason is not None and action is not Action.NOTE_LATE:
            self.reason = reason
            self.heals = heals
        if action is Action.SEND:
            self.posts += 1
        self.held = not self.final and (self.held or what is Input.QUARANTINED)
        return action
