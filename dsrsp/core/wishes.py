"""What a caller asks of a message beside that it arrives, and what is told when it is given up."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from dsrsp.errors import MessageNotSendable
from smtunnel import MessageStatus

MAX_TOPIC_CHARS: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a caller asks of one message.

    Attributes:
        deadline: when it is of no more use, in seconds since 1970; None: never.
        priority: higher goes first, to its device and to all; 32 bits with sign.
        topic: what it is about, for instance an eventID. It supersedes what is on its way to the
            same device about the same.
        supersedes: the ref of one older message to the same device that it supersedes.
    """

    deadline: float | None = None
    priority: int = 0
    topic: str | None = None
    supersedes: str | None = None

    def check(self, now: float) -> None:
        """Check them when the message is taken.

        Raises:
            MessageNotSendable: the deadline has passed, or one of them cannot be.
        """
        if self.deadline is not None:
            if not math.isfinite(self.deadline):
                raise MessageNotSendable(
                    f"the deadline is {self.deadline}: give seconds since 1970, or none"
                )
            if self.deadline <= now:
                raise MessageNotSendable(
                    f"its deadline, {time_text(self.deadline)}, has passed: it is not sent"
                )
        if self.topic is not None and not 1 <= len(self.topic) <= MAX_TOPIC_CHARS:
            raise MessageNotSendable(
                f"a topic has 1 to {MAX_TOPIC_CHARS} characters, this one {len(self.topic)}"
            )


def time_text(at: float) -> str:
    """Write a time for a person, in UTC."""
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    except (ValueError, OverflowError, OSError):
        return f"{at:g} s after 1970"


def deadline_passed(status: MessageStatus, deadline: float, *, may_have_gone: bool) -> str:
    """Say that a message ends because of its deadline, and what the CEM may have of it."""
    arrived = what_may_have_arrived(status, may_have_gone=may_have_gone)
    return f"its deadline passed, {time_text(deadline)}: {arrived}"


def superseded(status: MessageStatus, by: str, *, may_have_gone: bool) -> str:
    """Say that a message ends because of a newer one, and what the CEM may have of it."""
    arrived = what_may_have_arrived(status, may_have_gone=may_have_gone)
    return f"superseded by {by}: {arrived}"


def what_may_have_arrived(status: MessageStatus, *, may_have_gone: bool) -> str:
    """Say what the CEM may have of a message that is given up.

    Args:
        status: what is known of the message.
        may_have_gone: whether anything of it was signed, and so perhaps given to the DCC.
    """
    total, delivered = status.fragments_total, status.fragments_delivered
    if not may_have_gone:
        return "nothing of it was given to the DCC"
    if total == 1:
        return "it was given to the DCC and may still reach the CEM"
    return (
        f"of its {total} fragments the CEM has {delivered}, and what the DCC was given of the "
        "others may still reach it"
    )
