"""Receipts, and lists of what is missing, gathered so that one control message serves many.

Down each control message is a DCC request and tens of seconds, so the DSRSP tells of many messages
at once. Only messages that are durably stored may be given to a ReceiptBatcher.

Source: specs/tunnel-protocol.md, receipts.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from smtunnel.errors import LocalError, StateError
from smtunnel.records import (
    NAME_OCTETS,
    ControlReceipt,
    IndexRange,
    MessageName,
    Missing,
    Receipt,
    ReceiptPolicy,
)

ReceiptRecord: TypeAlias = Receipt | ControlReceipt | Missing

_MAX_LISTS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceiptSettings:
    """When receipts and missing lists go out.

    Attributes:
        policy: OFF: never; BATCHED: together, after a while; EACH: at once.
        batch_s: BATCHED: from the first receipt that is due to the control message, in seconds.
        batch_entries: so many receipts are enough for a control message at once.
        missing_after_s: an incomplete message that was silent for this long is asked after, in
            seconds; doubles while nothing comes, up to four lists.
        early_s: the same wait where the peer has gone on to later messages, and for receipts where
            the peer's counters have a gap, in seconds.
    """

    policy: ReceiptPolicy = ReceiptPolicy.BATCHED
    batch_s: float = 60.0
    batch_entries: int = 14
    missing_after_s: float = 120.0
    early_s: float = 20.0

    def __post_init__(self) -> None:
        if self.batch_entries < 1:
            raise LocalError(f"batch_entries is {self.batch_entries}: it must be at least 1")
        for name in ("batch_s", "missing_after_s", "early_s"):
            if not getattr(self, name) > 0:
                raise LocalError(f"{name} is {getattr(self, name)}: it must be > 0")


@dataclass(slots=True)
class _Incomplete:
    """A data message that lacks fragments."""

    key: int
    due: float
    lists: int = 0


class _Peer:
    """What is owed to one peer."""

    __slots__ = ("flush_at", "highest_counter", "incomplete", "owed", "timer")

    def __init__(self) -> None:
        # In the order of becoming due: (control, name).
        self.owed: dict[tuple[bool, MessageName], None] = {}
        self.flush_at = math.inf
        self.incomplete: dict[int, _Incomplete] = {}
        self.highest_counter = -1
        self.timer = math.inf

    def next_timer(self) -> float:
        return min([self.flush_at, *(message.due for message in self.incomplete.values())])


class ReceiptBatcher:
    """Decides when which receipts and missing lists go to which peer."""

    def __init__(
        self,
        settings: ReceiptSettings,
        missing_ranges: Callable[[bytes, int], tuple[IndexRange, ...]],
    ) -> None:
        """Begin owing nothing.

        Args:
            settings: when.
            missing_ranges: tells what a peer's incomplete message of an id lacks; empty: nothing.
        """
        self._settings = settings
        self._missing_ranges = missing_ranges
        self._peers: dict[bytes, _Peer] = {}
        self._timers: list[tuple[float, bytes]] = []

    @property
    def settings(self) -> ReceiptSettings:
        """When receipts go out."""
        return self._settings

    def _peer(self, name: bytes) -> _Peer:
        peer = self._peers.get(name)
        if peer is None:
            peer = self._peers[name] = _Peer()
        return peer

    def delivered(
        self, peer: bytes, name: MessageName, now: float, *, control: bool = False
    ) -> None:
        """Note that a message is delivered and stored, or that its sender asks for its receipt."""
        state = self._peer(peer)
        if not control:
            state.incomplete.pop(name.tunnel_message_id, None)
        settings = self._settings
        if settings.policy is not ReceiptPolicy.OFF:
            state.owed[control, name] = None
            wait_s = settings.batch_s if settings.policy is ReceiptPolicy.BATCHED else 0.0
            if len(state.owed) >= settings.batch_entries:
                wait_s = 0.0
            state.flush_at = min(state.flush_at, now + wait_s)
        self._schedule(peer, state)

    def heard(
        self, peer: bytes, tunnel_message_id: int, key: int, now: float, *, again: bool = False
    ) -> None:
        """Note that a fragment of an incomplete data message has come.

        Args:
            peer: whose.
            tunnel_message_id: its id.
            key: its key: originator counter minus index of the fragment that came first.
            now: the time, in seconds.
            again: True when the fragment is here already: its sender asks what is missing.
        """
        if self._settings.policy is ReceiptPolicy.OFF:
            return
        state = self._peer(peer)
        wait_s = 0.0 if again else self._settings.missing_after_s
        state.incomplete[tunnel_message_id] = _Incomplete(key, now + wait_s)
        self._schedule(peer, state)

    def counter(self, peer: bytes, originator_counter: int, key: int, now: float) -> None:
        """Take what a fragment's counter hints at: earlier ones may be lost.

        Args:
            peer: whose.
            originator_counter: of the fragment.
            key: of the fragment's message, or counter minus index.
            now: the time, in seconds.
        """
        state = self._peer(peer)
        soon = now + self._settings.early_s
        if originator_counter > state.highest_counter:
            if 0 <= state.highest_counter < originator_counter - 1 and state.owed:
                state.flush_at = min(state.flush_at, soon)
            state.highest_counter = originator_counter
        for message in state.incomplete.values():
            if message.key < key and not message.lists:
                message.due = min(message.due, soon)
        self._schedule(peer, state)

    def ended(self, peer: bytes, tunnel_message_id: int) -> None:
        """Note that an incomplete data message has ended without being delivered."""
        state = self._peers.get(peer)
        if state is not None:
            state.incomplete.pop(tunnel_message_id, None)
            self._schedule(peer, state)

    def _schedule(self, peer: bytes, state: _Peer) -> None:
        timer = state.next_timer()
        if timer != state.timer:
            state.timer = timer
            if timer != math.inf:
                heapq.heappush(self._timers, (timer, peer))
            if len(self._timers) > 64 + 4 * len(self._peers):
                self._timers = [
                    entry for entry in self._timers if self._peers[entry[1]].timer == entry[0]
                ]
                heapq.heapify(self._timers)

    def get_timer(self) -> float | None:
        """Return when poll should be called, in seconds, or None."""
        while self._timers and self._peers[self._timers[0][1]].timer != self._timers[0][0]:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None

    def poll(self, now: float) -> dict[bytes, list[ReceiptRecord]]:
        """Take what is to be told now, by peer."""
        found: dict[bytes, list[ReceiptRecord]] = {}
        while (timer := self.get_timer()) is not None and timer <= now:
            _, peer = heapq.heappop(self._timers)
            state = self._peers[peer]
            state.timer = math.inf
            records = self._missing_lists(peer, state, now)
            if state.flush_at <= now or records:
                # A control message goes anyway: whatever is owed goes with it.
                records = self._receipts(state) + records
            if records:
                found[peer] = records
            self._schedule(peer, state)
        return found

    def take(self, peer: bytes) -> list[ReceiptRecord]:
        """Take the receipts owed to a peer, for a control message goes there anyway."""
        state = self._peers.get(peer)
        if state is None or not state.owed:
            return []
        records = self._receipts(state)
        self._schedule(peer, state)
        return records

    def _receipts(self, state: _Peer) -> list[ReceiptRecord]:
        data = tuple(name for control, name in state.owed if not control)
        controls = tuple(name for control, name in state.owed if control)
        state.owed = {}
        state.flush_at = math.inf
        records: list[ReceiptRecord] = []
        if controls:
            records.append(ControlReceipt(controls))
        if data:
            records.append(Receipt(data))
        return records

    def _missing_lists(self, peer: bytes, state: _Peer, now: float) -> list[ReceiptRecord]:
        records: list[ReceiptRecord] = []
        for message_id, message in state.incomplete.items():
            if message.due > now:
                continue
            message.lists += 1
            message.due = math.inf
            if message.lists < _MAX_LISTS:
                message.due = now + self._settings.missing_after_s * 2.0**message.lists
            ranges = self._missing_ranges(peer, message_id)
            if ranges:
                records.append(Missing(MessageName.of(message_id, message.key), ranges))
        return records

    # What must survive a restart

    def export(self, peer: bytes) -> bytes:
        """Build what is owed to a peer: control(1) and name(5) of each receipt; empty: nothing."""
        state = self._peers.get(peer)
        owed = () if state is None else state.owed
        return b"".join([bytes([control]) + name.to_bytes() for control, name in owed])

    def restore(self, peer: bytes, saved: bytes, now: float) -> None:
        """Take over what export built; it is due as if it had come now.

        Raises:
            StateError: not what export builds.
        """
        size = 1 + NAME_OCTETS
        if len(saved) % size:
            raise StateError(f"the saved receipts of peer {peer.hex()} are cut short")
        for start in range(0, len(saved), size):
            control, number = saved[start], saved[start + 1]
            key32 = int.from_bytes(saved[start + 2 : start + size], "big")
            self.delivered(peer, MessageName(number, key32), now, control=bool(control))
