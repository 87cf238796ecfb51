"""What a receiver remembers of a tunnel message id: its newest use, and how that stands.

Ids come round, so a fragment's id does not say which message it is of. Its key does: originator
counter minus index. All fragments of a message, sent for the first time or again, have keys that
are equal modulo 65536: the message's tag. All keys of a message are above all counters of earlier
ones. And a sender gives no message the tag of an earlier one that the receiver could have in mind.

Source: specs/tunnel-protocol.md, which message a fragment is of.
"""

from __future__ import annotations

import enum
import struct
from typing import Final

from smtunnel.assembly import MessageAssembly
from smtunnel.errors import StateError
from smtunnel.events import IgnoreReason
from smtunnel.records import AbortCode
from smtunnel.window import Verdict

TAG_MASK: Final = 0xFFFF
CONTROL_SLOT: Final = 0x100
"""Control messages have ids of their own: a slot is the id, with this bit for control."""

_SAVED: Final = struct.Struct(">HBBIQQd")


class Standing(enum.IntEnum):
    """How a use stands."""

    PARTIAL = 0
    DELIVERED = 1
    ENDED = 2
    """Ended without being delivered."""


class Use:
    """One use of an id by one peer.

    Attributes:
        peer: whose.
        slot: the id, with CONTROL_SLOT for a control message.
        message_id: the tunnel message id.
        control: True for a control message.
        key: of the fragment that came first.
        lowest: no smaller key is of this use: the key of the use before, plus one.
        standing: how it stands.
        code: why it ended; OTHER unless ENDED.
        detail: what the code says it is.
        assembly: what has come of a message that is PARTIAL; else None.
        registered: True while it is counted among the incomplete messages.
        started_at: when its first fragment was accepted, in seconds.
        heard_at: when the last was, in seconds.
    """

    __slots__ = (
        "assembly",
        "code",
        "control",
        "detail",
        "heard_at",
        "key",
        "lowest",
        "message_id",
        "peer",
        "registered",
        "slot",
        "standing",
        "started_at",
    )

    def __init__(self, peer: bytes, slot: int, key: int, now: float) -> None:
        """Begin a use of an id that was not used before."""
        self.peer = peer
        self.slot = slot
        self.message_id = slot & 0xFF
        self.control = slot >= CONTROL_SLOT
        self.key = key
        self.lowest = 0
        self.standing = Standing.PARTIAL
        self.code = AbortCode.OTHER
        self.detail = 0
        self.assembly: MessageAssembly | None = None
        self.registered = False
        self.started_at = self.heard_at = now

    def has(self, key: int) -> bool:
        """Tell whether a fragment with this key is of this use."""
        return (key - self.key) & TAG_MASK == 0 and key >= self.lowest

    def to_bytes(self) -> bytes:
        """Build the saved form.

        Returns:
            slot(2), standing(1), code(1), detail(4), key(8), lowest(8), start time(8).
        """
        return _SAVED.pack(
            self.slot,
            self.standing,
            self.code,
            self.detail,
            self.key,
            self.lowest,
            self.started_at,
        )


def refusal(use: Use | None, key: int, verdict: Verdict) -> IgnoreReason | None:
    """Say why a fragment is taken into no message; None: it joins the use, or begins a new one.

    Args:
        use: the newest use of the fragment's slot; None where there was none.
        key: the fragment's.
        verdict: what the replay window says of its counter.
    """
    if verdict is Verdict.REUSED:
        return IgnoreReason.COUNTER_REUSED
    if use is None:
        return None if verdict is Verdict.NEW else IgnoreReason.STALE
    if use.has(key):
        if use.standing is Standing.PARTIAL:
            # It knows itself what it has: a late fragment may well be below the window's floor.
            return None
        if use.standing is Standing.ENDED:
            return IgnoreReason.ENDED
        return IgnoreReason.DELIVERED if verdict is Verdict.NEW else IgnoreReason.REPLAY
    if key > use.key:
        # Above all counters ever accepted under this id: nothing can hide there.
        return None
    return IgnoreReason.REPLAY if verdict is Verdict.REPLAY else IgnoreReason.OLDER_MESSAGE


def restore_uses(peer: bytes, saved: bytes) -> list[Use]:
    """Make uses from their saved forms, one after another.

    Raises:
        StateError: not what to_bytes builds.
    """
    if len(saved) % _SAVED.size:
        raise StateError(f"the saved uses of peer {peer.hex()} are cut short")
    uses = []
    for slot, standing, code, detail, key, lowest, started_at in _SAVED.iter_unpack(saved):
        use = Use(peer, slot, key, started_at)
        use.lowest = lowest
        try:
            use.standing, use.code = Standing(standing), AbortCode(code)
        except ValueError as error:
            raise StateError(f"a saved use of peer {peer.hex()} is damaged: {error}") from None
        use.detail = detail
        uses.append(use)
    return uses
