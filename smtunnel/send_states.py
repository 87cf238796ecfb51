"""A message on its way, from the queue to its end: all states, inputs and transitions in one table.

Source: specs/tunnel-protocol.md, sending.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Final

from smtunnel.errors import LocalError


class SendState(enum.IntEnum):
    """Where a message stands."""

    QUEUED = 0
    """It waits for its turn: no id, no counters."""
    SENDING = 1
    """Fragments are to be handed over, now or when their time comes."""
    WAITING = 2
    """Every fragment is handed over; what confirms the message is to come."""
    DISPUTED = 3
    """The peer refused a fragment; its reason may come."""
    REENCODING = 4
    """The peer cannot take it as it is encoded; another encoding is to come from this end."""
    DELIVERED = 5
    """(final) The peer has it, whole and stored."""
    UNCONFIRMED = 6
    """(final) Every fragment is handed over, and nothing will tell more."""
    FAILED = 7
    """(final) Given up, with a reason."""


class SendInput(enum.Enum):
    """What can happen to a message."""

    START = "its turn has come"
    HANDED_OVER = "the last of its fragments is handed over"
    HANDED_OVER_FINALLY = "the last is handed over, and nothing will confirm it"
    AGAIN = "a fragment was lost, is missing at the peer, or is to ask for a receipt"
    CONFIRMED = "every fragment's result is 00, or a receipt names it"
    REJECTED = "a fragment's result is FA"
    NO_REASON = "no reason came within the grace time"
    ABORTED = "the peer says it has ended, for good"
    ABORTED_FOR_NOW = "the peer says it has ended, and a new attempt may mend it"
    ABORTED_ENCODING = "the peer says it has ended, and another encoding may mend it"
    ENCODED = "it is encoded anew"
    EXHAUSTED = "no attempt is left"
    EXPIRED = "its lifetime is over"
    CANCELLED = "whoever runs this end gives it up"


_S, _I = SendState, SendInput

FINAL_STATES: Final = frozenset({_S.DELIVERED, _S.UNCONFIRMED, _S.FAILED})

_GIVEN_UP: Final = {_I.EXHAUSTED: _S.FAILED, _I.EXPIRED: _S.FAILED, _I.CANCELLED: _S.FAILED}
_PEER_ENDED: Final = {
    _I.ABORTED: _S.FAILED,
    _I.ABORTED_FOR_NOW: _S.QUEUED,
    _I.ABORTED_ENCODING: _S.REENCODING,
}

TRANSITIONS: Final[Mapping[SendState, Mapping[SendInput, SendState]]] = {
    _S.QUEUED: {_I.START: _S.SENDING, **_GIVEN_UP},
    _S.SENDING: {
        _I.HANDED_OVER: _S.WAITING,
        _I.HANDED_OVER_FINALLY: _S.UNCONFIRMED,
        _I.AGAIN: _S.SENDING,
        _I.CONFIRMED: _S.DELIVERED,
        _I.REJECTED: _S.DISPUTED,
        **_PEER_ENDED,
        **_GIVEN_UP,
    },
    _S.WAITING: {
        # It was learnt only now that nothing will confirm it.
        _I.HANDED_OVER_FINALLY: _S.UNCONFIRMED,
        _I.AGAIN: _S.SENDING,
        _I.CONFIRMED: _S.DELIVERED,
        _I.REJECTED: _S.DISPUTED,
        **_PEER_ENDED,
        **_GIVEN_UP,
    },
    # The peer has ended it: no later result of any fragment can mean that it was delivered.
    _S.DISPUTED: {_I.NO_REASON: _S.FAILED, **_PEER_ENDED, **_GIVEN_UP},
    _S.REENCODING: {_I.ENCODED: _S.QUEUED, **_GIVEN_UP},
    _S.DELIVERED: {},
    _S.UNCONFIRMED: {},
    _S.FAILED: {},
}
"""Where the table has no line for an input from outside, nothing happens."""

OWN_STEPS: Final = frozenset(
    {_I.START, _I.HANDED_OVER, _I.HANDED_OVER_FINALLY, _I.NO_REASON, _I.ENCODED}
)
"""Inputs that are steps of this end: out of place they are our mistake."""


def next_state(state: SendState, what: SendInput) -> SendState | None:
    """Look up what an input does in a state; None: nothing.

    Raises:
        LocalError: one of this end's own steps is out of place.
    """
    found = TRANSITIONS[state].get(what)
    if found is None and what in OWN_STEPS:
        raise LocalError(f"a message that is {state.name} cannot meet: {what.value}")
    return found
