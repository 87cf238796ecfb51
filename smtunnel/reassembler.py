"""The receiving end: fragments of many peers in, whole messages out, each at most once.

No I/O and no clock: time is an argument, what happened comes back as events. Peers must have been
authenticated and their fragments verified before they come here.
"""

from __future__ import annotations

import heapq
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Final

from smtunnel.assembly import MessageAssembly
from smtunnel.carriers import Carrier
from smtunnel.errors import LocalError, NotAFragment, RemoteError, StateError
from smtunnel.events import (
    AbortReason,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    IgnoreReason,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
)
from smtunnel.fragments import Fragment, Payload, parse_untrusted_fragment
from smtunnel.header import LAST_FLAG, MAX_INDEX, MAX_MESSAGE_ID, Compression, Originator
from smtunnel.limits import FRAGMENT_OVERHEAD_OCTETS, Limits
from smtunnel.window import MAX_COUNTER, ReplayWindow, Verdict

_STATE_VERSION: Final = 1
_USE: Final = struct.Struct(">BBQd")
_USE_REASSEMBLED: Final = 1
_USE_LIVE: Final = 2

_IGNORED: Final = {
    Verdict.REPLAY: (IgnoreReason.REPLAY, "accepted before with the same content"),
    Verdict.REUSED: (
        IgnoreReason.COUNTER_REUSED,
        "accepted before with other content: an originator must never use a counter twice",
    ),
    Verdict.STALE: (IgnoreReason.STALE, "below the floor of the replay window"),
}


class _Partial:
    """One live message that lacks fragments."""

    __slots__ = (
        "assembly",
        "deadline",
        "first_counter",
        "message_id",
        "peer",
        "registered",
        "started_at",
    )

    def __init__(
        self,
        peer: bytes,
        message_id: int,
        first_counter: int,
        started_at: float,
        limits: Limits,
    ) -> None:
        self.peer = peer
        self.message_id = message_id
        self.first_counter = first_counter
        self.started_at = started_at
        self.deadline = started_at + limits.message_lifetime_s
        self.assembly = MessageAssembly(max_message_octets=limits.message_octets)
        # Known to its peer and to the deadlines: false before and after, or if one fragment is all.
        self.registered = False

    @property
    def held_octets(self) -> int:
        return self.assembly.body_octets + self.assembly.fragments * FRAGMENT_OVERHEAD_OCTETS


class _Peer:
    """What is known of one peer."""

    __slots__ = ("newest", "partials", "reassembled", "window")

    def __init__(self, window_size: int) -> None:
        self.window = ReplayWindow(window_size)
        # Of each message id: the first counter of its newest use, alive or ended.
        self.newest: dict[int, int] = {}
        # The ids whose newest use was reassembled.
        self.reassembled: set[int] = set()
        self.partials: dict[int, _Partial] = {}


class Reassembler:
    """Puts messages together from fragments that come in any order, repeatedly, late or never.

    A message becomes a MessageReassembled exactly once, or ends in exactly one MessageRejected,
    MessageExpired or MessageAborted. Persistence is the caller's: after a restart, give each
    peer's saved window to restore_window, then every stored fragment of its unfinished messages
    to receive_fragment again, with the time at which it first came.
    """

    def __init__(
        self, *, originator: Originator, carrier: Carrier, limits: Limits | None = None
    ) -> None:
        """Begin knowing no peer.

        Args:
            originator: whose fragments are taken: the other end's.
            carrier: what carries them.
            limits: bounds on what is held.
        """
        self._originator = originator
        self._carrier = carrier
        self._limits = limits or Limits()
        self._peers: dict[bytes, _Peer] = {}
        # Deadlines of live messages; ended ones stay until they reach the top or are swept out.
        self._deadlines: list[tuple[float, int, _Partial]] = []
        self._sequence = 0
        self._live = 0
        self._held_octets = 0
        self._ignored: Counter[IgnoreReason] = Counter()

    @property
    def limits(self) -> Limits:
        """The bounds on what is held."""
        return self._limits

    @property
    def ignored(self) -> Mapping[IgnoreReason, int]:
        """How many fragments were ignored, by reason."""
        return dict(self._ignored)

    @property
    def partial_messages(self) -> int:
        """How many messages are incomplete now, of all peers."""
        return self._live

    @property
    def held_octets(self) -> int:
        """What their fragments need, in octets, as limited by Limits.total_octets."""
        return self._held_octets

    def receive_fragment(
        self, peer: bytes, payload: Payload, *, originator_counter: int, now: float
    ) -> list[Event]:
        """Take one payload of an authenticated peer.

        Args:
            peer: who sent it, as the authentication says.
            payload: what the carrier held.
            originator_counter: the counter of the message that carried it, as signed, 64 bits.
            now: the time, in seconds on any clock that does not matter, but always the same.

        Returns:
            What happened, in order. Exactly one event tells the fragment's own outcome:
            FragmentAccepted, FragmentIgnored or MessageRejected.

        Raises:
            LocalError: the counter is not of 64 bits, or the payload's type is not the carrier's.
        """
        if not 0 <= originator_counter <= MAX_COUNTER:
            raise LocalError(f"originator counter {originator_counter} is not of 64 bits")
        deadlines = self._deadlines
        events = self.handle_timer(now) if deadlines and deadlines[0][0] <= now else []
        try:
            fragment = parse_untrusted_fragment(payload, self._carrier)
            bits = fragment.header_bits
            first_counter = originator_counter - (bits >> 8 & MAX_INDEX)
            if first_counter < 0:
                raise NotAFragment(
                    f"index {bits >> 8 & MAX_INDEX} is above the originator counter "
                    f"{originator_counter}"
                )
        except NotAFragment as error:
            reason = IgnoreReason.NOT_A_FRAGMENT
            events.append(self._ignore(peer, originator_counter, reason, str(error)))
            return events
        if bits >> 23 != self._originator:
            detail = f"the header says it comes from the {fragment.header.originator.name}"
            events.append(self._ignore(peer, originator_counter, IgnoreReason.NOT_MINE, detail))
            return events
        state = self._peers.get(peer)
        partial = None if state is None else state.partials.get(bits & MAX_MESSAGE_ID)
        if state is None or partial is None or partial.first_counter != first_counter:
            begun = self._begin(events, peer, fragment, originator_counter, now)
            if begun is None:
                return events
            state, partial = begun
        # A live message knows itself what it has: its late fragments may be below the floor.
        state.window.accept(originator_counter, zlib.crc32(fragment.body, bits))
        self._add(events, state, partial, fragment, originator_counter)
        return events

    def _begin(
        self, events: list[Event], peer: bytes, fragment: Fragment, counter: int, now: float
    ) -> tuple[_Peer, _Partial] | None:
        """Begin a message with a fragment that belongs to no live one, or tell why not."""
        state = self._peers.get(peer)
        if state is None:
            if len(self._peers) >= self._limits.peers:
                detail = f"{self._limits.peers} peers are known already, the most allowed"
                events.append(self._ignore(peer, counter, IgnoreReason.TOO_MANY_PEERS, detail))
                return None
            state = self._peers[peer] = _Peer(self._limits.replay_window)
        refusal = self._refusal(state, fragment, counter)
        if refusal is not None:
            events.append(self._ignore(peer, counter, *refusal))
            return None
        message_id = fragment.header_bits & MAX_MESSAGE_ID
        older = state.partials.get(message_id)
        if older is not None:
            self._abort(events, older, AbortReason.SUPERSEDED)
        first_counter = counter - (fragment.header_bits >> 8 & MAX_INDEX)
        state.newest[message_id] = first_counter
        state.reassembled.discard(message_id)
        return state, _Partial(peer, message_id, first_counter, now, self._limits)

    def _refusal(
        self, state: _Peer, fragment: Fragment, counter: int
    ) -> tuple[IgnoreReason, str] | None:
        """Say why a fragment that belongs to no live message cannot begin one."""
        bits = fragment.header_bits
        message_id = bits & MAX_MESSAGE_ID
        newest = state.newest.get(message_id)
        first_counter = counter - (bits >> 8 & MAX_INDEX)
        if newest == first_counter and message_id not in state.reassembled:
            return IgnoreReason.ENDED, f"message {message_id} has ended already"
        check = zlib.crc32(fragment.body, bits)
        verdict = state.window.judge(counter, check)
        if verdict is not Verdict.NEW:
            return _IGNORED[verdict]
        if bits >> 21 & 3 == Compression.CONTROL:
            # Remembered, so that it is a replay when it comes again.
            state.window.accept(counter, check)
            return IgnoreReason.CONTROL, "control records are not acted on in this version"
        if newest is not None and first_counter <= newest:
            return (
                IgnoreReason.OLDER_MESSAGE,
                f"message id {message_id} now stands for the message from counter {newest}, "
                f"this one began at {first_counter}",
            )
        return None

    def _add(
        self,
        events: list[Event],
        state: _Peer,
        partial: _Partial,
        fragment: Fragment,
        counter: int,
    ) -> None:
        assembly = partial.assembly
        peer, message_id, first_counter = partial.peer, partial.message_id, partial.first_counter
        index = counter - first_counter
        message = None
        try:
            if not assembly.add(fragment):
                detail = f"fragment {index} is here already"
                events.append(self._ignore(peer, counter, IgnoreReason.REPLAY, detail))
                return
            if partial.registered:
                self._held_octets += len(fragment.body) + FRAGMENT_OVERHEAD_OCTETS
            if assembly.complete:
                message = assembly.decode()
        except RemoteError as error:
            self._end(partial)
            events.append(MessageRejected(peer, message_id, first_counter, error))
            return
        last = fragment.header_bits & LAST_FLAG != 0
        events.append(FragmentAccepted(peer, message_id, first_counter, index, last))
        if message is not None:
            self._end(partial)
            state.reassembled.add(message_id)
            last_counter = first_counter + assembly.highest_index
            events.append(
                MessageReassembled(peer, message_id, first_counter, last_counter, message)
            )
            return
        if not partial.registered:
            self._register(events, state, partial)
        if self._held_octets > self._limits.total_octets:
            self._make_room(events)

    def _register(self, events: list[Event], state: _Peer, partial: _Partial) -> None:
        if len(state.partials) >= self._limits.partial_messages_per_peer:
            oldest = min(state.partials.values(), key=lambda held: held.started_at)
            self._abort(events, oldest, AbortReason.TOO_MANY_PARTIAL)
        partial.registered = True
        state.partials[partial.message_id] = partial
        self._live += 1
        self._held_octets += partial.held_octets
        self._sequence += 1
        heapq.heappush(self._deadlines, (partial.deadline, self._sequence, partial))

    def _make_room(self, events: list[Event]) -> None:
        while self._held_octets > self._limits.total_octets:
            oldest = self._next_partial()
            if oldest is None:
                return
            self._abort(events, oldest, AbortReason.MEMORY)

    def _abort(self, events: list[Event], partial: _Partial, reason: AbortReason) -> None:
        self._end(partial)
        events.append(
            MessageAborted(partial.peer, partial.message_id, partial.first_counter, reason)
        )

    def _end(self, partial: _Partial) -> None:
        """Forget what a message holds; that it ended stays known by its id and first counter."""
        if not partial.registered:
            return
        partial.registered = False
        del self._peers[partial.peer].partials[partial.message_id]
        self._live -= 1
        self._held_octets -= partial.held_octets
        # Ended messages must not fill the memory until their deadlines.
        if len(self._deadlines) > 2 * self._live + 64:
            self._deadlines = [entry for entry in self._deadlines if entry[2].registered]
            heapq.heapify(self._deadlines)

    def _ignore(self, peer: bytes, counter: int, reason: IgnoreReason, detail: str) -> Event:
        self._ignored[reason] += 1
        return FragmentIgnored(peer, counter, reason, detail)

    def _next_partial(self) -> _Partial | None:
        while self._deadlines:
            partial = self._deadlines[0][2]
            if partial.registered:
                return partial
            heapq.heappop(self._deadlines)
        return None

    def get_timer(self) -> float | None:
        """Return the time at which handle_timer should be called, in seconds, or None."""
        partial = self._next_partial()
        return None if partial is None else partial.deadline

    def handle_timer(self, now: float) -> list[Event]:
        """End the messages whose time is over.

        Args:
            now: the time, in seconds, on the clock of receive_fragment.
        """
        events: list[Event] = []
        while (partial := self._next_partial()) is not None and partial.deadline <= now:
            self._end(partial)
            assembly = partial.assembly
            events.append(
                MessageExpired(
                    partial.peer,
                    partial.message_id,
                    partial.first_counter,
                    assembly.missing(),
                    assembly.fragments_total is not None,
                )
            )
        return events

    def missing(self, peer: bytes, tunnel_message_id: int) -> tuple[int, ...] | None:
        """List the missing indices of a live message up to the highest that came, or None."""
        state = self._peers.get(peer)
        partial = None if state is None else state.partials.get(tunnel_message_id)
        return None if partial is None else partial.assembly.missing()

    def abort_message(self, peer: bytes, tunnel_message_id: int) -> list[Event]:
        """End a live message of this id, if there is one; its further fragments are ignored."""
        state = self._peers.get(peer)
        partial = None if state is None else state.partials.get(tunnel_message_id)
        events: list[Event] = []
        if partial is not None:
            self._abort(events, partial, AbortReason.BY_CALLER)
        return events

    def forget_peer(self, peer: bytes) -> None:
        """Forget all of a peer, its replay window too: only for one that is gone for good."""
        state = self._peers.get(peer)
        if state is not None:
            for partial in list(state.partials.values()):
                self._end(partial)
            del self._peers[peer]

    def export_window(self, peer: bytes) -> bytes:
        """Build what must survive a restart to keep a peer's replays out.

        Save it together with the fragment or message that the last events were about, in one
        transaction. It has no bodies: those of unfinished messages are stored by the caller.

        Returns:
            version(1), the window (see ReplayWindow.to_bytes), then count(2) and for each message
            id in use: id(1), flags(1: 1 reassembled, 2 alive), first counter(8), start time(8).
        """
        state = self._peers.get(peer) or _Peer(self._limits.replay_window)
        parts = [bytes([_STATE_VERSION]), state.window.to_bytes()]
        parts.append(len(state.newest).to_bytes(2, "big"))
        for message_id, first_counter in state.newest.items():
            partial = state.partials.get(message_id)
            flags = _USE_REASSEMBLED if message_id in state.reassembled else 0
            if partial is not None:
                flags |= _USE_LIVE
            started_at = 0.0 if partial is None else partial.started_at
            parts.append(_USE.pack(message_id, flags, first_counter, started_at))
        return b"".join(parts)

    def restore_window(self, peer: bytes, saved: bytes) -> None:
        """Take over what export_window built, before the peer's stored fragments are given again.

        Raises:
            StateError: not what export_window builds.
        """
        if saved[:1] != bytes([_STATE_VERSION]):
            raise StateError(
                f"the saved window of peer {peer.hex()} is not of version {_STATE_VERSION}"
            )
        state = _Peer(self._limits.replay_window)
        start = 1 + state.window.merge(saved[1:])
        uses = saved[start + 2 :]
        if len(uses) != int.from_bytes(saved[start : start + 2], "big") * _USE.size:
            raise StateError(f"the saved window of peer {peer.hex()} is cut short or too long")
        self.forget_peer(peer)
        self._peers[peer] = state
        for message_id, flags, first_counter, started_at in _USE.iter_unpack(uses):
            state.newest[message_id] = first_counter
            if flags & _USE_REASSEMBLED:
                state.reassembled.add(message_id)
            if flags & _USE_LIVE:
                # Empty until its stored fragments are given again; if none is, it expires.
                partial = _Partial(peer, message_id, first_counter, started_at, self._limits)
                self._register([], state, partial)
