"""How far a sent message has come, told honestly: states, their order, and who may follow whom."""

from __future__ import annotations

import enum
from dataclasses import dataclass, replace
from typing import Final

from smtunnel.errors import LocalError
from smtunnel.route_choice import Route


class DeliveryState(enum.Enum):
    """What is known of a message that an application gave to a gateway."""

    QUEUED = "queued"
    """Stored on this side's disk; survives a crash."""
    ACCEPTED = "accepted"
    """Down: every fragment was accepted by the DCC for delivery. Not yet delivered."""
    DELIVERED = "delivered"
    """Down: every fragment was answered by the device with success."""
    SENT = "sent"
    """Up: every fragment was handed to the communications hub; nothing confirms an alert."""
    REASSEMBLED = "reassembled"
    """The other end has the whole message, decoded and stored."""
    ANSWERED = "answered"
    """The application at the other end answered with a message of its own."""
    FAILED = "failed"
    """Given up; the status says why."""


_D = DeliveryState

TRANSITIONS: Final[dict[DeliveryState, frozenset[DeliveryState]]] = {
    # News overtakes news: the device's answer may come before the DCC's acknowledgement is read.
    _D.QUEUED: frozenset(
        {_D.ACCEPTED, _D.DELIVERED, _D.SENT, _D.REASSEMBLED, _D.ANSWERED, _D.FAILED}
    ),
    _D.ACCEPTED: frozenset({_D.DELIVERED, _D.REASSEMBLED, _D.ANSWERED, _D.FAILED}),
    _D.DELIVERED: frozenset({_D.REASSEMBLED, _D.ANSWERED, _D.FAILED}),
    _D.SENT: frozenset({_D.REASSEMBLED, _D.ANSWERED, _D.FAILED}),
    _D.REASSEMBLED: frozenset({_D.ANSWERED}),
    _D.ANSWERED: frozenset(),
    _D.FAILED: frozenset(),
}
"""Which states may follow which; a state may also follow itself, with news of fragments."""

FINAL_STATES: Final = frozenset({_D.SENT, _D.REASSEMBLED, _D.ANSWERED, _D.FAILED})
"""States in which the gateway waits for nothing more. SENT is final unless a receipt is expected;
ANSWERED may still follow SENT and REASSEMBLED."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageStatus:
    """One moment in the life of a sent message.

    Attributes:
        ref: the gateway's own name of the message, unique and lasting.
        state: how far it has come.
        reason: why it failed, for a person; None unless FAILED.
        fragments_total: how many fragments it has.
        fragments_accepted: how many the DCC (down) or the communications hub (up) took.
        fragments_delivered: how many the device answered with success (down).
        message_octets: its size before compression.
        tunnel_message_id: its id in the fragments' headers, None while it has none.
        first_counter: the originator counter of its fragment 0, None while it has none.
        receipt_expected: True when the other end confirms messages by receipts: SENT is not final.
        routes: by which it goes or has gone since it began; none while it is queued.
    """

    ref: str
    state: DeliveryState = DeliveryState.QUEUED
    reason: str | None = None
    fragments_total: int
    fragments_accepted: int = 0
    fragments_delivered: int = 0
    message_octets: int
    tunnel_message_id: int | None = None
    first_counter: int | None = None
    receipt_expected: bool = False
    routes: frozenset[Route] = frozenset()

    def __post_init__(self) -> None:
        for name in ("fragments_accepted", "fragments_delivered"):
            count = getattr(self, name)
            if not 0 <= count <= self.fragments_total:
                raise LocalError(f"{name} is {count}, but there are {self.fragments_total}")
        if (self.state is DeliveryState.FAILED) != (self.reason is not None):
            raise LocalError(
                f"state {self.state.value} with reason {self.reason!r}: "
                "a failed message has a reason, any other has none"
            )

    @property
    def final(self) -> bool:
        """True when the gateway waits for nothing more of this message."""
        if self.state is DeliveryState.SENT and self.receipt_expected:
            return False
        return self.state in FINAL_STATES


def begin_again(status: MessageStatus, fragments_total: int) -> MessageStatus:
    """Return the status of a message that is sent once more from the start, as a new message.

    Args:
        status: what was known.
        fragments_total: how many fragments it has now.

    Raises:
        LocalError: the message has ended.
    """
    if status.final:
        raise LocalError(f"message {status.ref} is {status.state.value}: it cannot begin again")
    return replace(
        status,
        state=DeliveryState.QUEUED,
        fragments_total=fragments_total,
        fragments_accepted=0,
        fragments_delivered=0,
        tunnel_message_id=None,
        first_counter=None,
        routes=frozenset(),
    )


def advance(
    status: MessageStatus,
    state: DeliveryState | None = None,
    *,
    reason: str | None = None,
    fragments_accepted: int | None = None,
    fragments_delivered: int | None = None,
    tunnel_message_id: int | None = None,
    first_counter: int | None = None,
    routes: frozenset[Route] | None = None,
) -> MessageStatus:
    """Return the status after some news; what is not given stays.

    Args:
        status: what was known.
        state: the new state.
        reason: why, if the new state is FAILED.
        fragments_accepted: how many are accepted now.
        fragments_delivered: how many are delivered now.
        tunnel_message_id: the id the message got.
        first_counter: the originator counter of its fragment 0.
        routes: by which it goes or has gone.

    Raises:
        LocalError: the news would take the message backwards, or contradict what is known.
    """
    new_state = status.state if state is None else state
    if new_state is not status.state and new_state not in TRANSITIONS[status.state]:
        raise LocalError(
            f"message {status.ref} is {status.state.value}: it cannot become {new_state.value}"
        )
    accepted = status.fragments_accepted if fragments_accepted is None else fragments_accepted
    delivered = status.fragments_delivered if fragments_delivered is None else fragments_delivered
    if accepted < status.fragments_accepted or delivered < status.fragments_delivered:
        raise LocalError(f"message {status.ref}: counts of fragments do not fall")
    return replace(
        status,
        state=new_state,
        reason=status.reason if reason is None else reason,
        fragments_accepted=accepted,
        fragments_delivered=delivered,
        tunnel_message_id=(
            status.tunnel_message_id if tunnel_message_id is None else tunnel_message_id
        ),
        first_counter=status.first_counter if first_counter is None else first_counter,
        routes=status.routes if routes is None else routes,
    )
