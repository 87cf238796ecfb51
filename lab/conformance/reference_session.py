"""A receiver over time, as the conformance requests ask it, over smtunnel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, TypeAlias

from lab.conformance.reference import carrier_of
from smtunnel import (
    AbortReason,
    ControlReceived,
    Event,
    FragmentAccepted,
    FragmentIgnored,
    IgnoreReason,
    Limits,
    MessageAborted,
    MessageExpired,
    MessageReassembled,
    MessageRejected,
    Originator,
    Reassembler,
)

_IGNORED: Final = {
    IgnoreReason.NOT_A_FRAGMENT: "not-a-fragment",
    IgnoreReason.NOT_MINE: "not-mine",
    IgnoreReason.REPLAY: "replay",
    IgnoreReason.DUPLICATE: "duplicate",
    IgnoreReason.DELIVERED: "delivered",
    IgnoreReason.ENDED: "ended",
    IgnoreReason.OLDER_MESSAGE: "older-message",
    IgnoreReason.COUNTER_REUSED: "counter-reused",
    IgnoreReason.STALE: "stale",
    IgnoreReason.TOO_MANY_PEERS: "too-many-peers",
    IgnoreReason.BUSY: "busy",
}
_ABORTED: Final = {
    AbortReason.SUPERSEDED: "superseded",
    AbortReason.TOO_MANY_PARTIAL: "too-many-partial",
    AbortReason.MEMORY: "memory",
    AbortReason.BY_CALLER: "by-caller",
    AbortReason.BY_SENDER: "by-sender",
}
# Peer, whether it is a control message, message id.
_Live: TypeAlias = tuple[bytes, bool, int]
# What does not make a peer known.
_OF_NO_PEER: Final = (
    IgnoreReason.NOT_A_FRAGMENT,
    IgnoreReason.NOT_MINE,
    IgnoreReason.TOO_MANY_PEERS,
    IgnoreReason.BUSY,
)
_OF_A_MESSAGE: Final = (IgnoreReason.DUPLICATE, IgnoreReason.DELIVERED, IgnoreReason.ENDED)


class ReferenceSession:
    """A Reassembler, and what its caller keeps durably."""

    def __init__(self, words: Sequence[str]) -> None:
        """Begin a session: carrier, originator, limits."""
        message_octets, window_bits, partials, peers, lifetime_s, replay_window = map(
            int, words[2:]
        )
        self._carrier = carrier_of(words[0])
        self._originator = Originator(int(words[1]))
        self._limits = Limits(
            message_octets=message_octets,
            window_bits=window_bits,
            partial_messages_per_peer=partials,
            peers=peers,
            message_lifetime_s=lifetime_s,
            replay_window=replay_window,
        )
        self._reassembler = self._begin()
        # What a restart leaves: each peer's window, and the fragments of live messages.
        self._windows: dict[bytes, bytes] = {}
        self._fragments: dict[_Live, list[tuple[str, int, float]]] = {}

    def _begin(self) -> Reassembler:
        return Reassembler(originator=self._originator, carrier=self._carrier, limits=self._limits)

    def receive(self, words: Sequence[str]) -> list[str]:
        """Take one fragment: peer, counter, time, payload, perhaps busy."""
        peer, counter, now = bytes.fromhex(words[0]), int(words[1]), int(words[2])
        payload = bytes.fromhex(words[3].replace("-", "")).decode("latin-1")
        events = self._reassembler.receive_fragment(
            peer, payload, originator_counter=counter, now=now, busy=words[4:] == ["busy"]
        )
        if not any(isinstance(e, FragmentIgnored) and e.reason in _OF_NO_PEER for e in events):
            self._windows.setdefault(peer, b"")
        self._keep(events, (payload, counter, now))
        return ["ok", *map(_word, events)]

    def time(self, words: Sequence[str]) -> list[str]:
        """Let time pass."""
        events = self._reassembler.handle_timer(int(words[0]))
        self._keep(events, None)
        return ["ok", *map(_word, events)]

    def _keep(self, events: Sequence[Event], fragment: tuple[str, int, float] | None) -> None:
        for event in events:
            match event:
                case FragmentAccepted() if fragment is not None:
                    live = (event.peer, event.control, event.tunnel_message_id)
                    self._fragments.setdefault(live, []).append(fragment)
                case MessageRejected() | MessageExpired() | MessageAborted():
                    live = (event.peer, event.control, event.tunnel_message_id)
                    self._fragments.pop(live, None)
                case MessageReassembled() | ControlReceived():
                    control = isinstance(event, ControlReceived)
                    self._fragments.pop((event.peer, control, event.tunnel_message_id), None)
        for peer in self._windows:
            self._windows[peer] = self._reassembler.export_window(peer)

    def restart(self, words: Sequence[str]) -> list[str]:
        """Begin anew with what was kept."""
        self._reassembler = self._begin()
        for peer, window in self._windows.items():
            self._reassembler.restore_window(peer, window)
        for (peer, _, _), fragments in self._fragments.items():
            for payload, counter, now in fragments:
                self._reassembler.receive_fragment(
                    peer, payload, originator_counter=counter, now=now
                )
        return ["ok"]


def _word(event: Event) -> str:
    match event:
        case FragmentAccepted():
            parts = ["accepted", *_message(event), event.index, int(event.last)]
        case MessageReassembled():
            octets = event.message.hex() or "-"
            parts = ["message", event.tunnel_message_id, event.first_counter, octets]
        case ControlReceived():
            counts = [len(event.message.records), event.message.skipped]
            parts = ["control", event.tunnel_message_id, event.first_counter, *counts]
        case MessageRejected():
            parts = ["rejected", *_message(event), type(event.error).__name__]
        case MessageExpired():
            parts = ["expired", *_message(event)]
        case MessageAborted():
            parts = ["aborted", *_message(event), _ABORTED[event.reason]]
        case FragmentIgnored():
            parts = ["ignored", _IGNORED[event.reason]]
            if event.reason in _OF_A_MESSAGE:
                parts += _message(event)
            if event.reason is IgnoreReason.ENDED:
                parts += [int(event.code), event.code_detail]
    return ",".join(map(str, parts))


def _message(
    event: FragmentAccepted | FragmentIgnored | MessageRejected | MessageExpired | MessageAborted,
) -> list[str | int | None]:
    space = "c" if event.control else "d"
    return [space, event.tunnel_message_id, event.first_counter]
