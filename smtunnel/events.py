"""What a Reassembler tells: every fragment has one outcome, every message exactly one end.

A message is known by (peer, tunnel_message_id, first_counter), where first_counter is the
originator counter of its fragment 0: ids are used again, counters never.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from smtunnel.errors import RemoteError


class IgnoreReason(enum.Enum):
    """Why a fragment changed nothing."""

    NOT_A_FRAGMENT = "not a fragment"
    """Not of this protocol: somebody's real label, other text. Answer it as any other label."""
    NOT_MINE = "of the other originator"
    """Says that it comes from our own side: a label, by chance. Answer it as any other label."""
    CONTROL = "control record"
    """A control record, which this version does not act on. Answer success."""
    REPLAY = "replay"
    """Accepted before, identical; its message is alive or was reassembled. Answer success."""
    ENDED = "its message has ended"
    """Of a message that was rejected, expired or aborted. Answer failure."""
    OLDER_MESSAGE = "older use of the message id"
    """Of an older message than the id now stands for. Answer failure."""
    STALE = "below the replay window"
    """Too old to tell whether it was accepted before. Answer failure."""
    COUNTER_REUSED = "originator counter used twice"
    """The counter was accepted with other content. Answer failure."""
    TOO_MANY_PEERS = "too many peers"
    """From a peer not known yet, and no more can be held. Answer failure."""


class AbortReason(enum.Enum):
    """Why a message ended though none of its fragments was wrong."""

    SUPERSEDED = "its message id is used by a newer message"
    TOO_MANY_PARTIAL = "the peer has too many incomplete messages"
    MEMORY = "the incomplete messages of all peers need too much memory"
    BY_CALLER = "aborted by this end"


@dataclass(frozen=True, slots=True)
class FragmentAccepted:
    """A new fragment of a live message; when it completes the message, MessageReassembled follows.

    A fragment that ends its message badly is told by MessageRejected alone.
    """

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    """The originator counter of the message's fragment 0."""
    index: int
    last: bool


@dataclass(frozen=True, slots=True)
class FragmentIgnored:
    """A payload that changed nothing."""

    peer: bytes
    originator_counter: int
    reason: IgnoreReason
    detail: str
    """For a person: what exactly was found."""


@dataclass(frozen=True, slots=True)
class MessageReassembled:
    """The end of a message: whole and checked."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    last_counter: int
    message: bytes


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """The end of a message: its fragments are wrong, or do not make a message."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    error: RemoteError


@dataclass(frozen=True, slots=True)
class MessageExpired:
    """The end of a message: fragments were missing for too long."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    missing: tuple[int, ...]
    """Missing indices up to the highest that came; when last_known is False there were more."""
    last_known: bool


@dataclass(frozen=True, slots=True)
class MessageAborted:
    """The end of a message: given up though none of its fragments was wrong."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    reason: AbortReason


Event: TypeAlias = (
    FragmentAccepted
    | FragmentIgnored
    | MessageReassembled
    | MessageRejected
    | MessageExpired
    | MessageAborted
)
