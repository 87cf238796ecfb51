"""What an end is willing to hold, with the defaults and where they come from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from smtunnel.carriers import HEADER_OCTETS
from smtunnel.errors import LocalError
from smtunnel.header import MAX_FRAGMENTS

DEFAULT_MESSAGE_OCTETS: Final = 65_536
"""The largest message by default: the largest OpenADR report seen in tests has 49,099 octets."""

DEFAULT_MESSAGE_LIFETIME_S: Final = 259_200.0
"""Three days: the DCC holds an undelivered alert for two, its slowest service takes 22 hours."""

DEFAULT_STREAM_FROM_CHARS: Final = 32_768
"""Decoding begins before a message is whole when this much of its text is here in order: about what
an inflater holds."""

FRAGMENT_OVERHEAD_OCTETS: Final = 100
"""What a held fragment costs beside its body, in octets, so that many tiny fragments count too."""


MESSAGE_OVERHEAD_OCTETS: Final = 1000
"""What an incomplete message costs beside its fragments, in octets."""

INFLATER_OCTETS: Final = 40_960
"""What an open inflater holds: a window of 32 KiB and zlib's own 7, rounded up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what one Reassembler holds.

    Attributes:
        message_octets: the largest message after inflating, in octets.
        partial_messages_per_peer: incomplete messages held for one peer; one more ends the one that
            has been silent for longest.
        peers: how many peers are known at once; fragments of further ones are put off.
        total_octets: all incomplete messages together, in octets, each message and each fragment
            counted with MESSAGE_OVERHEAD_OCTETS and FRAGMENT_OVERHEAD_OCTETS; when exceeded, the
            message that has been silent for longest ends.
        message_lifetime_s: from a message's first accepted fragment to its expiry, in seconds.
        replay_window: how many accepted counters are remembered for each peer.
        window_bits: base-two logarithm of the largest zlib window that is taken, 9 to 15.
        stream_from_chars: text in order that begins a message's decoding before it is whole.
    """

    message_octets: int = DEFAULT_MESSAGE_OCTETS
    partial_messages_per_peer: int = 8
    peers: int = 100_000
    total_octets: int = 67_108_864
    message_lifetime_s: float = DEFAULT_MESSAGE_LIFETIME_S
    replay_window: int = 64
    window_bits: int = 15
    stream_from_chars: int = DEFAULT_STREAM_FROM_CHARS

    def __post_init__(self) -> None:
        for name in ("message_octets", "partial_messages_per_peer", "peers", "total_octets"):
            if getattr(self, name) < 1:
                raise LocalError(f"limit {name} is {getattr(self, name)}: it must be at least 1")
        if not self.message_lifetime_s > 0:
            raise LocalError(
                f"limit message_lifetime_s is {self.message_lifetime_s}: it must be > 0"
            )
        if not 1 <= self.replay_window <= 65_535:
            raise LocalError(f"limit replay_window is {self.replay_window}: it must be 1 to 65535")
        if not 9 <= self.window_bits <= 15:
            raise LocalError(f"limit window_bits is {self.window_bits}: it must be 9 to 15")
        if self.stream_from_chars < 0:
            raise LocalError(
                f"limit stream_from_chars is {self.stream_from_chars}: it must be at least 0"
            )

    @property
    def octets_per_partial_message(self) -> int:
        """The most that one incomplete message can hold, in octets."""
        return (
            MESSAGE_OVERHEAD_OCTETS
            + MAX_FRAGMENTS * FRAGMENT_OVERHEAD_OCTETS
            + body_bound(self.message_octets)
            + self.message_octets
            + INFLATER_OCTETS
        )

    @property
    def octets_per_peer(self) -> int:
        """The most that the incomplete messages of one peer can hold, in octets."""
        return self.partial_messages_per_peer * self.octets_per_partial_message


def compressed_bound(message_octets: int) -> int:
    """Return the longest zlib stream that a sender may make of that many octets, in octets.

    zlib's own bound for any window, level and memory setting (its function deflateBound); a
    stream of stored blocks of at least 64 octets keeps it too.
    """
    n = message_octets
    return n + (n + 7 >> 3) + (n + 63 >> 6) + 11


def message_octets_within(payload_octets: int) -> int:
    """Return the largest message, in octets, that surely fits a payload of route 2b of a length.

    The payload is the fragment header and what compression makes of the message; 0 where not even
    an empty message is sure to fit.
    """
    room = payload_octets - HEADER_OCTETS
    # compressed_bound(n) is between n * 73/64 + 11 and 2 more than that.
    found = max(0, (room - 11) * 64 // 73)
    while found and compressed_bound(found) > room:
        found -= 1
    return found


@lru_cache(maxsize=8)
def body_bound(message_octets: int) -> int:
    """Return the most that all bodies of one message may hold, in characters or octets."""
    return base64_chars(compressed_bound(message_octets))


def base64_chars(octets: int) -> int:
    """Return the characters of the base64 text of that many octets, padding included."""
    return (octets + 2) // 3 * 4
