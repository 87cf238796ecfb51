"""What must be told of time across a restart: callers' deadlines, and how the wall clock stands.

A deadline is a date of its caller's, so the wall clock tells when it has passed, also after
somebody has set that; all else is measured by `gbcs.steady.SteadyClock`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from cem.errors import StoreError
from smtunnel import MessageStatus, Route

CLOCK_KEY: Final = "cem/clock"
_DEADLINE_PREFIX: Final = "cem/deadline/"
_CLOCK: Final = struct.Struct(">dd")
_DATE: Final = struct.Struct(">d")

Rows: TypeAlias = dict[str, bytes | None]
"""What is to be stored: for each key its octets, or None: delete it."""


class ClockState(NamedTuple):
    """What a process leaves of its clock to the next one.

    Attributes:
        wall_ahead_s: how far the wall clock was ahead of the times that are stored, in seconds.
        seen: the latest time that is known to have been, in seconds.
    """

    wall_ahead_s: float = 0.0
    seen: float = -math.inf

    def build(self) -> bytes:
        """Return it as octets."""
        return _CLOCK.pack(*self)


def read_clock(rows: Mapping[str, bytes]) -> ClockState:
    """Read what the process before has left in the tunnel's rows.

    Raises:
        StoreError: it is damaged.
    """
    octets = rows.get(CLOCK_KEY)
    if octets is None:
        return ClockState()
    state = ClockState(*_unpack(_CLOCK, CLOCK_KEY, octets))
    if not all(map(math.isfinite, state)):
        raise _damaged(CLOCK_KEY)
    return state


class Deadlines:
    """The dates after which messages that are on their way are of no more use."""

    def __init__(self) -> None:
        self._by_ref: dict[str, float] = {}

    def take_rows(self, rows: dict[str, bytes]) -> None:
        """Go on with those among the tunnel's rows, and take them from there.

        Raises:
            StoreError: one is damaged.
        """
        self._by_ref.clear()
        for key in [key for key in rows if key.startswith(_DEADLINE_PREFIX)]:
            (deadline,) = _unpack(_DATE, key, rows.pop(key))
            self._by_ref[key.removeprefix(_DEADLINE_PREFIX)] = deadline

    def add(self, ref: str, deadline: float) -> Rows:
        """Take the deadline of a message, in seconds since 1970; returns the row to store."""
        self._by_ref[ref] = deadline
        return {_DEADLINE_PREFIX + ref: _DATE.pack(deadline)}

    def drop(self, ref: str) -> Rows:
        """Forget the deadline of a message, if it has one; returns the rows to store."""
        return {} if self._by_ref.pop(ref, None) is None else {_DEADLINE_PREFIX + ref: None}

    def drop_ended(self, statuses: Iterable[MessageStatus]) -> Rows:
        """Forget those of messages that have ended; returns the rows to store."""
        rows: Rows = {}
        for status in statuses if self._by_ref else ():
            if status.final:
                rows |= self.drop(status.ref)
        return rows

    def first(self) -> float | None:
        """Return the earliest, in seconds since 1970; None: there is none."""
        return min(self._by_ref.values(), default=None)

    def overdue(self, wall: float) -> list[str]:
        """Return the references of messages whose deadline has passed, the earliest first."""
        due = [(deadline, ref) for ref, deadline in self._by_ref.items() if deadline <= wall]
        return [ref for _, ref in sorted(due)]


def may_have_gone(status: MessageStatus) -> bool:
    """Tell whether anything of a message may have left this end."""
    return status.first_counter is not None or Route.ROUTE_2B in status.routes


def deadline_reason(status: MessageStatus) -> str:
    """Say that a message ends because of its deadline, and what the other end may have of it."""
    if may_have_gone(status):
        return "its deadline passed: not known whether it has arrived"
    return "its deadline passed: nothing of it was sent"


def _unpack(form: struct.Struct, key: str, octets: bytes) -> tuple[float, ...]:
    if len(octets) != form.size:
        raise _damaged(key)
    return form.unpack(octets)


def _damaged(key: str) -> StoreError:
    return StoreError(
        f"the stored state of the tunnel is damaged: row {key!r}; restore the state file"
    )
