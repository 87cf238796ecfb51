"""The messages on their way down, as the application knows them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

from dsrsp.ports import SentMessage
from gbcs.entity_id import EntityId
from smtunnel import DeliveryState, LocalError, MessageStatus, advance
from smtunnel.effects import Effects

logger = logging.getLogger("dsrsp")


class SentMessages:
    """Messages that have not ended, and how many of them wait for each device.

    Args:
        unfinished: those in the store, in the order in which they were taken.
    """

    def __init__(self, unfinished: Iterable[SentMessage]) -> None:
        self._sent = {sent.status.ref: sent for sent in unfinished}
        self._waiting = Counter(sent.device for sent in self._sent.values())
        self.taking: str | None = None
        """The ref of the message that is just being taken."""

    def get(self, ref: str) -> SentMessage | None:
        """Find one that has not ended."""
        return self._sent.get(ref)

    def status(self, ref: str) -> MessageStatus:
        """Return the status of one that has not ended."""
        return self._sent[ref].status

    def waiting(self, device: EntityId) -> int:
        """Return how many have not ended."""
        return self._waiting[device]

    def changed(self, effects: Effects, answered: SentMessage | None) -> list[SentMessage]:
        """List the new states that an input brings, oldest first.

        Args:
            effects: what the tunnel's end said.
            answered: a message that the other application has answered.
        """
        sent = [SentMessage(EntityId(c.peer), c.status) for c in effects.statuses]
        # Of what has ended for the application, answered, nothing more is told.
        sent = [s for s in sent if s.status.ref in self._sent or s.status.ref == self.taking]
        if answered is not None:
            ref = answered.status.ref
            last = next((s.status for s in reversed(sent) if s.status.ref == ref), answered.status)
            try:
                status = advance(last, DeliveryState.ANSWERED)
                sent.append(SentMessage(answered.device, status))
            except LocalError as error:
                # It failed as far as we knew, and was answered all the same: both are true.
                logger.warning("an answer to message %s: %s", ref, error)
        return sent

    def remember(self, sent: SentMessage) -> None:
        """Take over a new state that is stored."""
        known = self._sent.pop(sent.status.ref, None)
        if known is not None:
            self._waiting[known.device] -= 1
        if not sent.status.final:
            self._sent[sent.status.ref] = sent
            self._waiting[sent.device] += 1
        elif not self._waiting[sent.device]:
            del self._waiting[sent.device]
