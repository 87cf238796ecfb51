"""The receiving end: fragments of many peers in, whole messages out, each at most once.

No I/O and no clock: time is an argument, what happened comes back as events. Peers must have been
authenticated and their fragments verified before they come here.

Source: specs/tunnel-protocol.md, receiving.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Final

from smtunnel.aborts import abort_of_error, abort_of_reason
from smtunnel.assembly import MessageAssembly
from smtunnel.carriers import ROUTE_2B, Carrier
from smtunnel.control import MAX_CONTROL_OCTETS, parse_untrusted_control
from smtunnel.errors import LocalError, NotAFragment, RemoteError, StateError
from smtunnel.events import (
    AbortReason,
    ControlReceived,
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
from smtunnel.limits import Limits
from smtunnel.partials import Partials
from smtunnel.records import AbortCode, IndexRange, MessageName
from smtunnel.route_choice import Route
from smtunnel.uses import CONTROL_SLOT, TAG_MASK, Standing, Use, refusal, restore_uses
from smtunnel.window import MAX_COUNTER, ReplayWindow, Verdict

_STATE_VERSION: Final = 2

# Looked up once: reading an enum's member costs more than a comparison.
_CONTROL: Final = int(Compression.CONTROL)
_NEW: Final = Verdict.NEW

_OF_ENDED: Final = frozenset({IgnoreReason.DELIVERED, IgnoreReason.ENDED})
_DETAILS: Final = {
    IgnoreReason.COUNTER_REUSED: (
        "accepted before with other content: an originator never uses a counter twice"
    ),
    IgnoreReason.REPLAY: "accepted before with the same content",
    IgnoreReason.DELIVERED: "its message was delivered",
    IgnoreReason.ENDED: "its message has ended without being delivered",
    IgnoreReason.OLDER_MESSAGE: "its message id now stands for a newer message",
    IgnoreReason.STALE: "below the floor of the replay window",
    IgnoreReason.BUSY: "nothing new is taken at the moment",
}


class _Peer:
    """What is known of one peer."""

    __slots__ = ("partials", "uses", "window")

    def __init__(self, window_size: int) -> None:
        self.window = ReplayWindow(window_size)
        # The newest use of each slot.
        self.uses: dict[int, Use] = {}
        self.partials = 0


class Reassembler:
    """Puts messages together from fragments that come in any order, repeatedly, late or never.

    A message becomes a MessageReassembled or ControlReceived exactly once, or ends in exactly one
    MessageRejected, MessageExpired or MessageAborted. Persistence is the caller's: after a
    restart, give each peer's saved window to restore_window, then every stored fragment of its
    unfinished messages to receive_fragment again, with the time at which it first came.
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
        self._partials = Partials(self._limits.message_lifetime_s)
        self._ignored: Counter[IgnoreReason] = Counter()
        self._skipped_records = 0

    @property
    def limits(self) -> Limits:
        """The bounds on what is held."""
        return self._limits

    @property
    def ignored(self) -> Mapping[IgnoreReason, int]:
        """How many fragments were ignored, by reason."""
        return dict(self._ignored)

    @property
    def skipped_records(self) -> int:
        """How many control records were of a kind that is not known here."""
        return self._skipped_records

    @property
    def partial_messages(self) -> int:
        """How many messages are incomplete now, of all peers."""
        return self._partials.live

    @property
    def held_octets(self) -> int:
        """What they hold, in octets, as limited by Limits.total_octets."""
        return self._partials.held_octets

    def receive_fragment(
        self,
        peer: bytes,
        payload: Payload,
        *,
        originator_counter: int,
        now: float,
        busy: bool = False,
        route: Route = Route.ROUTE_2A,
    ) -> list[Event]:
        """Take one payload of an authenticated peer.

        Args:
            peer: who sent it, as the authentication says.
            payload: what the carrier held; octets where it came by route 2b.
            originator_counter: the counter of the message that carried it, as signed, 64 bits.
            now: the time, in seconds on any clock that does not matter, but always the same.
            busy: True to take nothing new of data messages at the moment.
            route: what it came by. By route 2b a message comes whole, and completes what has come
                of it in fragments; all else is the same, and so are the windows and uses.

        Returns:
            What happened, in order. Exactly one event tells the fragment's own outcome:
            FragmentAccepted, FragmentIgnored or MessageRejected.

        Raises:
            LocalError: the counter is not of 64 bits, or the payload's type is not the carrier's.
        """
        if not 0 <= originator_counter <= MAX_COUNTER:
            raise LocalError(f"originator counter {originator_counter} is not of 64 bits")
        events = self.handle_timer(now) if self._partials.due(now) else []
        try:
            carrier = self._carrier if route is Route.ROUTE_2A else ROUTE_2B
            fragment = parse_untrusted_fragment(payload, carrier)
            bits = fragment.header_bits
            key = originator_counter - (bits >> 8 & MAX_INDEX)
            if key < 0:
                raise NotAFragment(
                    f"index {bits >> 8 & MAX_INDEX} is above the originator counter "
                    f"{originator_counter}"
                )
        except NotAFragment as error:
            self._ignore(events, peer, originator_counter, IgnoreReason.NOT_A_FRAGMENT, str(error))
            return events
        if bits >> 23 != self._originator:
            detail = f"the header says it comes from the {fragment.header.originator.name}"
            self._ignore(events, peer, originator_counter, IgnoreReason.NOT_MINE, detail)
            return events
        state = self._peers.get(peer)
        if state is None:
            if len(self._peers) >= self._limits.peers:
                detail = f"{self._limits.peers} peers are known already, the most allowed"
                self._ignore(events, peer, originator_counter, IgnoreReason.TOO_MANY_PEERS, detail)
                return events
            state = _Peer(self._limits.replay_window)
        slot = bits & MAX_MESSAGE_ID
        if bits >> 21 & 3 == _CONTROL:
            slot |= CONTROL_SLOT
        check = zlib.crc32(fragment.body, bits)
        verdict = state.window.judge(originator_counter, check)
        use = state.uses.get(slot)
        if use is None or use.assembly is None or verdict is not _NEW or not use.has(key):
            reason = refusal(use, key, verdict)
            if reason is not None:
                of = use if reason in _OF_ENDED else None
                fresh = verdict is _NEW
                if fresh and of is not None:
                    # So that whoever repeats it is not taken for the sender.
                    state.window.accept(originator_counter, check)
                detail = _DETAILS[reason]
                self._ignore(events, peer, originator_counter, reason, detail, of, fresh)
                return events
            begins = use is None or not use.has(key)
        else:
            begins = False
        whole = route is Route.ROUTE_2B
        if busy and slot < CONTROL_SLOT and (begins or whole or not _holds(use, bits)):
            reason = IgnoreReason.BUSY
            self._ignore(events, peer, originator_counter, reason, _DETAILS[reason])
            return events
        if use is None or begins:
            # Known from now on: what is not taken leaves no trace.
            self._peers[peer] = state
            use = self._begin(events, state, Use(peer, slot, key, now), use)
        state.window.accept(originator_counter, check)
        if whole:
            self._add_whole(events, use, fragment)
        else:
            self._add(events, state, use, fragment, verdict is _NEW, originator_counter, now)
        return events

    def _begin(self, events: list[Event], state: _Peer, use: Use, older: Use | None) -> Use:
        """Begin a message under an id that perhaps was used before."""
        if older is not None:
            use.lowest = older.key + 1
            if older.assembly is not None:
                self._abort(events, older, AbortReason.SUPERSEDED)
        use.assembly = self._new_assembly(use.control)
        state.uses[use.slot] = use
        return use

    def _new_assembly(self, control: bool) -> MessageAssembly:
        limits = self._limits
        return MessageAssembly(
            max_message_octets=MAX_CONTROL_OCTETS if control else limits.message_octets,
            window_bits=limits.window_bits,
            stream_from_chars=limits.stream_from_chars,
            control=control,
        )

    def _add(
        self,
        events: list[Event],
        state: _Peer,
        use: Use,
        fragment: Fragment,
        fresh: bool,
        counter: int,
        now: float,
    ) -> None:
        assembly = use.assembly
        if assembly is None:
            return
        bits = fragment.header_bits
        index = bits >> 8 & MAX_INDEX
        held = assembly.held_octets
        whole: Event | None = None
        try:
            if not assembly.add(fragment):
                reason = IgnoreReason.DUPLICATE if fresh else IgnoreReason.REPLAY
                detail = f"fragment {index} is here already"
                self._ignore(events, use.peer, counter, reason, detail, use, fresh)
                return
            if assembly.complete:
                whole = self._decode(use, assembly)
        except RemoteError as error:
            # What it held before it failed is what was counted.
            self._end(use, held, *abort_of_error(error, self._limits))
            events.append(_rejected(use, error))
            return
        use.heard_at = now
        last = bits & LAST_FLAG != 0
        events.append(FragmentAccepted(use.peer, use.message_id, use.key, index, last, use.control))
        if whole is not None:
            self._end(use, held)
            events.append(whole)
            return
        if use.registered:
            self._partials.held_octets += assembly.held_octets - held
        else:
            self._register(events, state, use, assembly)
        while self._partials.held_octets > self._limits.total_octets:
            silent = self._partials.take_silent()
            if silent is None:
                break
            self._abort(events, silent, AbortReason.MEMORY)

    def _add_whole(self, events: list[Event], use: Use, fragment: Fragment) -> None:
        """Take a whole message; what has come of it in fragments is of use no more."""
        held = 0 if use.assembly is None else use.assembly.held_octets
        assembly = self._new_assembly(use.control)
        try:
            assembly.add(fragment)
            end = self._decode(use, assembly)
        except RemoteError as error:
            self._end(use, held, *abort_of_error(error, self._limits))
            events.append(_rejected(use, error))
            return
        self._end(use, held)
        events.append(FragmentAccepted(use.peer, use.message_id, use.key, 0, True, use.control))
        events.append(end)

    def _decode(self, use: Use, assembly: MessageAssembly) -> Event:
        octets = assembly.decode()
        if not use.control:
            last_counter = use.key + assembly.highest_index
            return MessageReassembled(use.peer, use.message_id, use.key, last_counter, octets)
        control = parse_untrusted_control(octets)
        self._skipped_records += control.skipped
        return ControlReceived(use.peer, use.message_id, use.key, control)

    def _register(
        self, events: list[Event], state: _Peer, use: Use, assembly: MessageAssembly
    ) -> None:
        if state.partials >= self._limits.partial_messages_per_peer:
            others = [held for held in state.uses.values() if held.registered]
            silent = min(others, key=lambda held: held.heard_at)
            self._abort(events, silent, AbortReason.TOO_MANY_PARTIAL)
        state.partials += 1
        self._partials.add(use, assembly.held_octets)

    def _abort(self, events: list[Event], use: Use, reason: AbortReason) -> None:
        held = 0 if use.assembly is None else use.assembly.held_octets
        self._end(use, held, abort_of_reason(reason))
        events.append(MessageAborted(use.peer, use.message_id, use.key, reason, use.control))

    def _end(
        self, use: Use, held_octets: int, code: AbortCode | None = None, detail: int = 0
    ) -> None:
        """Forget what a message holds; how it ended stays known until its id is used again."""
        use.standing = Standing.DELIVERED if code is None else Standing.ENDED
        use.code = AbortCode.OTHER if code is None else code
        use.detail = detail
        use.assembly = None
        if not use.registered:
            return
        self._peers[use.peer].partials -= 1
        self._partials.remove(use, held_octets)

    def _ignore(
        self,
        events: list[Event],
        peer: bytes,
        counter: int,
        reason: IgnoreReason,
        detail: str,
        use: Use | None = None,
        fresh: bool = False,
    ) -> None:
        self._ignored[reason] += 1
        if use is None:
            events.append(FragmentIgnored(peer, counter, reason, detail))
            return
        events.append(
            FragmentIgnored(
                peer,
                counter,
                reason,
                detail,
                use.message_id,
                use.key,
                use.control,
                fresh,
                use.code,
                use.detail,
            )
        )

    # Time

    def get_timer(self) -> float | None:
        """Return the time at which handle_timer should be called, in seconds, or None."""
        due = self._partials.first_deadline()
        return None if due is None else due[0]

    def handle_timer(self, now: float) -> list[Event]:
        """End the messages whose time is over.

        Args:
            now: the time, in seconds, on the clock of receive_fragment.
        """
        events: list[Event] = []
        while (due := self._partials.first_deadline()) is not None and due[0] <= now:
            use = due[1]
            assembly = use.assembly
            if assembly is None:
                continue
            event = MessageExpired(
                use.peer,
                use.message_id,
                use.key,
                assembly.missing(),
                assembly.fragments_total is not None,
                use.control,
            )
            self._end(use, assembly.held_octets, AbortCode.EXPIRED)
            events.append(event)
        return events

    # Questions and orders

    def _live_use(self, peer: bytes, tunnel_message_id: int) -> Use | None:
        state = self._peers.get(peer)
        use = None if state is None else state.uses.get(tunnel_message_id)
        return None if use is None or use.assembly is None else use

    def missing(self, peer: bytes, tunnel_message_id: int) -> tuple[int, ...] | None:
        """List the missing indices of a live data message up to the highest that came, or None."""
        use = self._live_use(peer, tunnel_message_id)
        return None if use is None or use.assembly is None else use.assembly.missing()

    def missing_ranges(self, peer: bytes, tunnel_message_id: int) -> tuple[IndexRange, ...]:
        """List what a live data message lacks as ranges; empty where none is live.

        The last range is open where it is not known which fragment is the last.
        """
        use = self._live_use(peer, tunnel_message_id)
        return () if use is None or use.assembly is None else use.assembly.missing_ranges()

    def abort_message(self, peer: bytes, tunnel_message_id: int) -> list[Event]:
        """End a live data message of this id, if there is one; what comes of it is ignored."""
        events: list[Event] = []
        use = self._live_use(peer, tunnel_message_id)
        if use is not None:
            self._abort(events, use, AbortReason.BY_CALLER)
        return events

    def cancelled(self, peer: bytes, name: MessageName) -> list[Event]:
        """End a live data message that its sender has given up, if this is it."""
        events: list[Event] = []
        use = self._live_use(peer, name.tunnel_message_id)
        if use is not None and (use.key - name.key32) & TAG_MASK == 0:
            self._abort(events, use, AbortReason.BY_SENDER)
        return events

    def forget_peer(self, peer: bytes) -> None:
        """Forget all of a peer, its replay window too: only for one that is gone for good."""
        state = self._peers.get(peer)
        if state is not None:
            for use in state.uses.values():
                if use.assembly is not None:
                    self._end(use, use.assembly.held_octets, AbortCode.OTHER)
            del self._peers[peer]

    # What must survive a restart

    def export_window(self, peer: bytes) -> bytes:
        """Build what must survive a restart to keep a peer's replays out.

        Save it together with the fragment or message that the last events were about, in one
        transaction. It has no bodies: those of unfinished messages are stored by the caller.

        Returns:
            version(1), the window (see ReplayWindow.to_bytes), the uses (see Use.to_bytes).
        """
        state = self._peers.get(peer) or _Peer(self._limits.replay_window)
        parts = [bytes([_STATE_VERSION]), state.window.to_bytes()]
        parts += [use.to_bytes() for use in state.uses.values()]
        return b"".join(parts)

    def restore_window(self, peer: bytes, saved: bytes) -> list[Event]:
        """Take over what export_window built, before the peer's stored fragments are given again.

        Returns:
            The ends of messages for which there is no room any more: none while the limits stay.

        Raises:
            StateError: not what export_window builds.
        """
        if saved[:1] != bytes([_STATE_VERSION]):
            raise StateError(
                f"the saved window of peer {peer.hex()} is not of version {_STATE_VERSION}"
            )
        state = _Peer(self._limits.replay_window)
        start = 1 + state.window.merge(saved[1:])
        uses = restore_uses(peer, saved[start:])
        if len({use.slot for use in uses}) < len(uses):
            raise StateError(f"the saved window of peer {peer.hex()} has a message id twice")
        self.forget_peer(peer)
        self._peers[peer] = state
        events: list[Event] = []
        for use in uses:
            state.uses[use.slot] = use
            if use.standing is Standing.PARTIAL:
                # Empty until its stored fragments are given again; if none is, it expires.
                use.assembly = self._new_assembly(use.control)
                self._register(events, state, use, use.assembly)
        return events


def _rejected(use: Use, error: RemoteError) -> MessageRejected:
    # Where it was raised is of no interest, and would keep what was decoded for as long as the
    # event is kept.
    error.__context__ = None
    bare = error.with_traceback(None)
    return MessageRejected(use.peer, use.message_id, use.key, bare, use.control)


def _holds(use: Use | None, bits: int) -> bool:
    assembly = None if use is None else use.assembly
    return assembly is not None and assembly.holds(bits >> 8 & MAX_INDEX)
