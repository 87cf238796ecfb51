"""Tells that the DCC cannot be reached, and that it can again: once each, however many wait."""

from __future__ import annotations

import logging
import math

from gbcs.ports import Clock

logger = logging.getLogger("dsrsp")


class Reach:
    """Whether the DCC answers.

    Args:
        clock: seconds, which pass evenly.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._answered_at = -math.inf
        self._away_since: float | None = None
        self._waited: set[int] = set()

    def lost(self, originator_counter: int, began: float, trouble: str) -> bool:
        """Note that a post had no answer.

        Args:
            originator_counter: of the request.
            began: when it was posted, on the clock.
            trouble: what happened, for a person.

        Returns:
            True where that is told herewith; False where the DCC has answered another request
            meanwhile, so that this one has a trouble of its own.
        """
        if self._away_since is None:
            if self._answered_at > began:
                return False
            self._away_since = self._clock()
            logger.warning(
                "the DCC cannot be reached: %s; requests wait, each is tried again until its time "
                "is over",
                trouble,
            )
        self._waited.add(originator_counter)
        return True

    def answered(self) -> None:
        """Note that the DCC has answered a post."""
        now = self._answered_at = self._clock()
        if self._away_since is None:
            return
        count = len(self._waited)
        logger.warning(
            "the DCC answers again after %.0f s; %d %s waited",
            now - self._away_since,
            count,
            "request" if count == 1 else "requests",
        )
        self._away_since = None
        self._waited.clear()
