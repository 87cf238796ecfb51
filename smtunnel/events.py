"""What a Reassembler tells: every fragment has one outcome, every message exactly one end.

A message is known by (peer, control, tunnel_message_id, first_counter). first_counter is the key of
the fragment that came first: originator counter minus index. That is the originator counter of
fragment 0, but for a message of which nothing came before it was sent again: then it is higher by a
multiple of 65536. Ids are used again, counters never.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TypeAlias

from smtunnel.control import ControlMessage
from smtunnel.errors import RemoteError
from smtunnel.records import AbortCode


class IgnoreReason(enum.Enum):
    """Why a fragment changed nothing."""

    NOT_A_FRAGMENT = "not a fragment"
    """Not of this protocol: somebody's real label, other text. Answer it as any other label."""
    NOT_MINE = "of the other originator"
    """A well-formed fragment that claims to come from our own side: a label like any other."""
    REPLAY = "replay"
    """The counter was accepted before, with the same content. Answer success."""
    DUPLICATE = "here already"
    """Sent again, of a live message that has this fragment already. Answer success."""
    DELIVERED = "of a delivered message"
    """Sent again, of a message that was delivered. Answer success, give its receipt again."""
    ENDED = "of an ended message"
    """Of a message that has ended without being delivered. Answer failure."""
    OLDER_MESSAGE = "of an older message"
    """Of an older message than the id now stands for. Answer failure."""
    COUNTER_REUSED = "originator counter used twice"
    """The counter was accepted with other content. Answer failure."""
    STALE = "below the replay window"
    """Too old to tell whether it was accepted before. Answer temporary failure."""
    TOO_MANY_PEERS = "too many peers"
    """From a peer not known yet, and no more can be held. Answer temporary failure."""
    BUSY = "no room"
    """The caller takes nothing new at the moment. Answer temporary failure."""


class AbortReason(enum.Enum):
    """Why a message ended though none of its fragments was wrong."""

    SUPERSEDED = "its message id is used by a newer message"
    TOO_MANY_PARTIAL = "the peer has too many incomplete messages"
    MEMORY = "the incomplete messages of all peers need too much memory"
    BY_CALLER = "aborted by this end"
    BY_SENDER = "given up by its sender"


@dataclass(frozen=True, slots=True)
class FragmentAccepted:
    """A new fragment of a live message; when it completes the message, its end follows.

    A fragment that ends its message badly is told by MessageRejected alone.
    """

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    index: int
    last: bool
    control: bool = False


@dataclass(frozen=True, slots=True)
class FragmentIgnored:
    """A payload that changed nothing."""

    peer: bytes
    originator_counter: int
    reason: IgnoreReason
    detail: str
    """For a person: what exactly was found."""
    tunnel_message_id: int | None = None
    """Of DUPLICATE, DELIVERED and ENDED: the message that it is of."""
    first_counter: int | None = None
    control: bool = False
    fresh: bool = False
    """True when the counter was never seen: its sender has sent it, nobody has repeated it."""
    code: AbortCode = AbortCode.OTHER
    """Of ENDED: why the message ended."""
    code_detail: int = 0


@dataclass(frozen=True, slots=True)
class MessageReassembled:
    """The end of a data message: whole and checked."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    last_counter: int
    """first_counter plus the highest index."""
    message: bytes


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """The end of a control message: whole and checked."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    message: ControlMessage


@dataclass(frozen=True, slots=True)
class MessageRejected:
    """The end of a message: its fragments are wrong, or do not make a message."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    error: RemoteError
    control: bool = False


@dataclass(frozen=True, slots=True)
class MessageExpired:
    """The end of a message: fragments were missing for too long."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    missing: tuple[int, ...]
    """Missing indices up to the highest that came; when last_known is False there were more."""
    last_known: bool
    control: bool = False


@dataclass(frozen=True, slots=True)
class MessageAborted:
    """The end of a message: given up though none of its fragments was wrong."""

    peer: bytes
    tunnel_message_id: int
    first_counter: int
    reason: AbortReason
    control: bool = False


Event: TypeAlias = (
    FragmentAccepted
    | FragmentIgnored
    | MessageReassembled
    | ControlReceived
    | MessageRejected
    | MessageExpired
    | MessageAborted
)
