"""Which tunnel message id and tag a new message gets: never those of another that could be meant.

The receiver knows the newest use of each id that it has seen. So a new message must have another
tag than every use since, and including, the last that the receiver is known to have seen.
"""

from __future__ import annotations

import struct
from array import array
from dataclasses import dataclass
from typing import Final

from smtunnel.errors import LocalError, StateError
from smtunnel.header import MAX_MESSAGE_ID

MAX_REMEMBERED_TAGS: Final = 256
_ROW: Final = struct.Struct(">QB")
_SETTLED: Final = 1


@dataclass(slots=True)
class _Use:
    """What is remembered of an id."""

    last_first: int
    """First counter of the newest message: larger is later."""
    settled: bool
    """True when that message was delivered: the receiver can have no other in mind."""
    tags: array[int]
    """Oldest first: the last use that the receiver has seen, then all since. Two octets each: of a
    peer that never gives a sign there are 256 times 256."""


class MessageIds:
    """The ids of one peer, of either data or control messages."""

    __slots__ = ("_live", "_uses")

    def __init__(self) -> None:
        self._uses: dict[int, _Use] = {}
        self._live: set[int] = set()

    @property
    def live(self) -> int:
        """How many ids are of messages on their way."""
        return len(self._live)

    def knows(self, number: int) -> bool:
        """Tell whether the id was ever used."""
        return number in self._uses

    def take(self) -> tuple[int, tuple[int, ...]]:
        """Choose the id of a new message: the smallest whose last message is known to be
        delivered, else one that was never used, else the one that was used longest ago.

        Returns:
            The id, and the tags that the message must not have.

        Raises:
            LocalError: all 256 ids are of messages on their way.
        """
        settled = [n for n, use in self._uses.items() if use.settled and n not in self._live]
        if settled:
            chosen = min(settled)
        elif len(self._uses) <= MAX_MESSAGE_ID:
            chosen = next(n for n in range(MAX_MESSAGE_ID + 1) if n not in self._uses)
        else:
            free = [n for n in self._uses if n not in self._live]
            if not free:
                raise LocalError("all 256 tunnel message ids of this peer are in use")
            chosen = min(free, key=self._preference)
        use = self._uses.get(chosen)
        return chosen, () if use is None else tuple(use.tags)

    def _preference(self, number: int) -> tuple[bool, int]:
        use = self._uses[number]
        # Only after all 256 ids went unanswered that often is a tag ever forgotten.
        return len(use.tags) >= MAX_REMEMBERED_TAGS, use.last_first

    def begin(self, number: int, first_counter: int, tag: int) -> None:
        """Note that a message has begun."""
        use = self._uses.setdefault(number, _Use(first_counter, False, array("H")))
        if len(use.tags) >= MAX_REMEMBERED_TAGS:
            # The first was seen; what went out longest ago without a sign goes.
            del use.tags[1]
        use.tags.append(tag)
        use.last_first = first_counter
        use.settled = False
        self._live.add(number)

    def seen(self, number: int) -> bool:
        """Note that the receiver has shown a sign of the id's newest message.

        Returns:
            True when that changed what must be saved.
        """
        use = self._uses[number]
        changed = len(use.tags) > 1
        del use.tags[:-1]
        return changed

    def confirm(self, number: int, key32: int) -> bool:
        """Note that the id's newest message, which has ended and was sent once, has arrived.

        Args:
            number: the id.
            key32: the low 32 bits of the message's key, by which the receiver knows it.

        Returns:
            True when it is that message, and that was news.
        """
        use = self._uses.get(number)
        if use is None or use.settled or number in self._live:
            return False
        if use.last_first & 0xFFFF_FFFF != key32:
            return False
        self.seen(number)
        use.settled = True
        return True

    def end(self, number: int, *, delivered: bool) -> None:
        """Note that the id's message has ended."""
        self._live.discard(number)
        if delivered:
            self.seen(number)
            self._uses[number].settled = True

    def export(self, number: int) -> bytes:
        """Build what must be saved of an id: first counter(8), flags(1), tags(2 each)."""
        use = self._uses[number]
        tags = b"".join([tag.to_bytes(2, "big") for tag in use.tags])
        return _ROW.pack(use.last_first, _SETTLED if use.settled else 0) + tags

    def restore(self, number: int, saved: bytes, *, live: bool) -> None:
        """Take over what was saved of an id.

        Raises:
            StateError: not what export builds.
        """
        if len(saved) < _ROW.size + 2 or (len(saved) - _ROW.size) % 2:
            raise StateError(f"the saved tags of message id {number} are cut short")
        last_first, flags = _ROW.unpack_from(saved)
        tags = array(
            "H",
            [int.from_bytes(saved[i : i + 2], "big") for i in range(_ROW.size, len(saved), 2)],
        )
        self._uses[number] = _Use(last_first, bool(flags & _SETTLED), tags)
        if live:
            self._live.add(number)
