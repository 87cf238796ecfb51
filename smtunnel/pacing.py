"""At most so many carrier messages in any window of time: the DCC's anomaly thresholds.

The window slides in steps of a sixteenth, so that what must be remembered is seventeen numbers,
however many messages it allows.
"""

from __future__ import annotations

import struct
from collections import deque
from typing import Final

from smtunnel.errors import StateError

PACE_KEY: Final = "-/pace"
"""Under this it is saved."""

STEPS: Final = 16
_STEP: Final = struct.Struct(">qI")


class Pace:
    """Counts carrier messages against a limit."""

    __slots__ = ("_limit", "_step_s", "_steps", "_sum")

    def __init__(self, limit: int | None, window_s: float) -> None:
        """Begin with nothing sent.

        Args:
            limit: the most in any window; None: any number.
            window_s: length of the window, in seconds.
        """
        self._limit = limit
        self._step_s = window_s / STEPS
        # (number of the step, how many in it), oldest first.
        self._steps: deque[tuple[int, int]] = deque()
        self._sum = 0

    def _forget(self, now: float) -> int:
        current = int(now // self._step_s)
        # A clock that was set back leaves steps in the future. They count as now: that loosens
        # nothing, and holds up for no longer than a window.
        ahead = 0
        while self._steps and self._steps[-1][0] > current:
            ahead += self._steps.pop()[1]
        if ahead:
            if self._steps and self._steps[-1][0] == current:
                ahead += self._steps.pop()[1]
            self._steps.append((current, ahead))
        # A step leaves when the window no longer covers any of it.
        while self._steps and self._steps[0][0] < current - STEPS:
            self._sum -= self._steps.popleft()[1]
        return current

    def free_at(self, now: float) -> float | None:
        """Return when the next message may go: None: now; else the time, in seconds."""
        if self._limit is None:
            return None
        self._forget(now)
        if self._sum < self._limit:
            return None
        return (self._steps[0][0] + STEPS + 1) * self._step_s

    def count(self, now: float) -> None:
        """Count one message."""
        if self._limit is None:
            return
        current = self._forget(now)
        if self._steps and self._steps[-1][0] == current:
            step, sent = self._steps.pop()
            self._steps.append((step, sent + 1))
        else:
            self._steps.append((current, 1))
        self._sum += 1

    def to_bytes(self) -> bytes:
        """Build the saved form: step number(8) and count(4) of each step."""
        return b"".join([_STEP.pack(step, sent) for step, sent in self._steps])

    def restore(self, saved: bytes) -> None:
        """Take over a saved form; it must be of the same window.

        Raises:
            StateError: not what to_bytes builds.
        """
        if len(saved) % _STEP.size or len(saved) > (STEPS + 2) * _STEP.size:
            raise StateError(f"the saved pace of {len(saved)} octets is not whole")
        self._steps = deque(_STEP.iter_unpack(saved))
        self._sum = sum(sent for _, sent in self._steps)
