"""How messages are sent: what confirms them, how often and how fast, with the defaults and why."""

from __future__ import annotations

import enum
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from smtunnel.errors import LocalError
from smtunnel.limits import DEFAULT_MESSAGE_LIFETIME_S

TAGS: Final = 65_536
"""How many tags there are: a fragment's tag is (originator counter - index) modulo this."""


class CounterIssuer(Protocol):
    """Gives out the originator counters of this end: rising, never twice, also after a crash.

    Messages to all peers, and what else the originator sends, draw on the same counters.
    """

    def issue_block(self, count: int, *, avoid_tags: Collection[int] = ()) -> int:
        """Return the first of count numbers without a gap, its tag none of avoid_tags."""
        ...

    def issue_for_tag(self, tag: int, index: int) -> int:
        """Return the smallest number c above all before with (c - index) modulo 65536 = tag."""
        ...


class Confirmation(enum.IntEnum):
    """What tells the sender that a message has arrived."""

    NONE = 0
    """Nothing: it is sent once, and what becomes of it is not known."""
    RESULTS = 1
    """The results of the carrier messages, down: 00 for every fragment."""
    RECEIPTS = 2
    """A receipt in a control message, up."""


class Result(enum.Enum):
    """What became of one carrier message with a fragment."""

    SUCCESS = "success"
    """Down: the device answered 00 for every label."""
    BUSY = "busy"
    """The device answered 02, temporary failure: not taken, try again later."""
    REJECTED = "rejected"
    """The device answered FA, other reason: the message has ended there without being delivered."""
    FAILED = "failed"
    """It did not reach the device."""
    NOT_HANDED_OVER = "not handed over"
    """It did not leave this end: the way out is closed."""
    UNKNOWN = "unknown"
    """Nothing will tell what became of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPolicy:
    """How one end sends.

    Attributes:
        confirmation: what confirms a data message.
        fragments_in_flight: carrier messages to one peer that may wait for their result (with
            RESULTS), or for being handed over (else), at once.
        fragments_in_flight_total: carrier messages to all peers together that may wait for being
            handed over. What is handed over does not count: peers that never answer would keep
            those that do from being served.
        messages_in_flight: data messages to one peer that have begun and not ended, by route 2a, at
            most 255.
        fragments_per_window: carrier messages to all peers in any window_s; None: any number.
        window_s: length of that window, in seconds.
        attempts_per_fragment: how often one fragment is sent, at most 255. With RECEIPTS also how
            often a message is asked after.
        message_attempts: how often a whole message is begun when the peer has ended it for a
            reason that a new attempt may mend, at most 255.
        retry_first_s: wait before a fragment is sent the second time, in seconds; doubles.
        retry_max_s: the longest such wait, in seconds.
        retry_jitter: which part of a wait is random, 0 to 1, so that not all retry at once.
        result_timeout_s: a result that does not come within this counts as UNKNOWN, in seconds.
        receipt_timeout_s: wait for a receipt before it is asked for, in seconds; doubles.
        receipt_timeout_max_s: the longest such wait, in seconds.
        reason_grace_s: after a rejection: wait for the peer's reason, in seconds.
        message_lifetime_s: from enqueue to the end at the latest, in seconds.
        control_attempts: attempts_per_fragment for control messages.
        control_lifetime_s: message_lifetime_s for control messages.
        use_route_2b: True to prefer route 2b where it stands; False: 2a only.
        fallback_after_s: from when route 2b goes down to when messages that prefer it go by 2a, in
            seconds.
        messages_in_flight_2b: messages to one peer, data and control each, that may be on their way
            on route 2b, at most 255.
        receipt_timeout_2b_s: wait for a receipt on route 2b before the message goes again, in
            seconds; doubles, up to fallback_after_s.
        attempts_2b: how often a message goes by route 2b without a receipt though the route
            stands, at most 255; then by 2a.
    """

    confirmation: Confirmation
    fragments_in_flight: int = 8
    fragments_in_flight_total: int = 4096
    messages_in_flight: int = 4
    fragments_per_window: int | None = None
    window_s: float = 3600.0
    attempts_per_fragment: int = 12
    message_attempts: int = 3
    retry_first_s: float = 30.0
    retry_max_s: float = 14_400.0
    retry_jitter: float = 0.5
    result_timeout_s: float = 600.0
    receipt_timeout_s: float = 300.0
    receipt_timeout_max_s: float = 21_600.0
    reason_grace_s: float = 300.0
    message_lifetime_s: float = DEFAULT_MESSAGE_LIFETIME_S
    control_attempts: int = 4
    control_lifetime_s: float = 14_400.0
    use_route_2b: bool = True
    fallback_after_s: float = 300.0
    messages_in_flight_2b: int = 32
    receipt_timeout_2b_s: float = 10.0
    attempts_2b: int = 5

    def __post_init__(self) -> None:
        for name in (
            "fragments_in_flight",
            "fragments_in_flight_total",
            "messages_in_flight",
            "attempts_per_fragment",
            "message_attempts",
            "control_attempts",
            "messages_in_flight_2b",
            "attempts_2b",
        ):
            if getattr(self, name) < 1:
                raise LocalError(f"{name} is {getattr(self, name)}: it must be at least 1")
        for name in (
            "messages_in_flight",
            "attempts_per_fragment",
            "message_attempts",
            "control_attempts",
            "messages_in_flight_2b",
            "attempts_2b",
        ):
            if getattr(self, name) > 255:
                raise LocalError(f"{name} is {getattr(self, name)}: it must be at most 255")
        if self.fragments_per_window is not None and self.fragments_per_window < 1:
            raise LocalError("fragments_per_window must be at least 1, or None for no limit")
        for name in (
            "window_s",
            "retry_first_s",
            "retry_max_s",
            "result_timeout_s",
            "receipt_timeout_s",
            "receipt_timeout_max_s",
            "reason_grace_s",
            "message_lifetime_s",
            "control_lifetime_s",
            "fallback_after_s",
            "receipt_timeout_2b_s",
        ):
            if not getattr(self, name) > 0:
                raise LocalError(f"{name} is {getattr(self, name)}: it must be > 0")
        if not 0 <= self.retry_jitter <= 1:
            raise LocalError(f"retry_jitter is {self.retry_jitter}: it must be 0 to 1")

    def retry_wait_s(self, losses: int, fraction: float) -> float:
        """Return the wait before a fragment is sent again, in seconds.

        Args:
            losses: how often it was lost so far, at least 1.
            fraction: random, 0 to 1.
        """
        wait_s = _doubled(self.retry_first_s, losses, self.retry_max_s)
        return wait_s * (1 - self.retry_jitter * fraction)

    def receipt_wait_s(self, asked: int) -> float:
        """Return the wait for a receipt, in seconds, after it was asked for that many times."""
        return _doubled(self.receipt_timeout_s, asked + 1, self.receipt_timeout_max_s)

    def receipt_wait_2b_s(self, attempts: int) -> float:
        """Return the wait for a receipt on route 2b, in seconds, after so many attempts."""
        most_s = max(self.receipt_timeout_2b_s, self.fallback_after_s)
        return _doubled(self.receipt_timeout_2b_s, attempts, most_s)


def _doubled(first_s: float, times: int, most_s: float) -> float:
    # Beyond 2**30 there is no wait that most_s does not cut.
    return min(first_s * 2.0 ** min(times - 1, 30), most_s)
