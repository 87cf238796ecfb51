"""The messages on their way down, as the application knows them."""

from __future__ import annotations

import contextlib
import heapq
import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from dsrsp.core.wishes import Wishes
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
        self._taking: tuple[str, Wishes] | None = None
        self._deadlines: list[tuple[float, str]] = []
        self._by_topic: dict[tuple[EntityId, str], dict[str, None]] = {}
        for sent in self._sent.values():
            self._index(sent)

    @contextlib.contextmanager
    def taking(self, ref: str, wishes: Wishes) -> Iterator[None]:
        """Expect the first status of a message that is just being taken."""
        self._taking = (ref, wishes)
        try:
            yield
        finally:
            self._taking = None

    def get(self, ref: str) -> SentMessage | None:
        """Find one that has not ended."""
        return self._sent.get(ref)

    def status(self, ref: str) -> MessageStatus:
        """Return the status of one that has not ended."""
        return self._sent[ref].status

    def waiting(self, device: EntityId) -> int:
        """Return how many have not ended."""
        return self._waiting[device]

    def about(self, device: EntityId, topic: str) -> list[SentMessage]:
        """List those to a device about a topic that have not ended, oldest first."""
        return [self._sent[ref] for ref in self._by_topic.get((device, topic), ())]

    @property
    def next_deadline(self) -> float | None:
        """When the next of them is of no more use, in seconds since 1970; None: never."""
        while self._deadlines and self._deadlines[0][1] not in self._sent:
            heapq.heappop(self._deadlines)
        return self._deadlines[0][0] if self._deadlines else None

    def take_overdue(self, now: float) -> SentMessage | None:
        """Take one that is of no more use, the one with the earliest deadline first."""
        due = self.next_deadline
        if due is None or due > now:
            return None
        return self._sent[heapq.heappop(self._deadlines)[1]]

    def remind(self, sent: SentMessage) -> None:
        """Let an overdue one be taken again: it could not be ended."""
        if sent.deadline is not None:
            heapq.heappush(self._deadlines, (sent.deadline, sent.status.ref))

    def changed(self, effects: Effects, answered: SentMessage | None) -> list[SentMessage]:
        """List the new states that an input brings, oldest first.

        Args:
            effects: what the tunnel's end said.
            answered: a message that the other application has answered.
        """
        sent = []
        for change in effects.statuses:
            ref, device = change.status.ref, EntityId(change.peer)
            if self._taking is not None and ref == self._taking[0]:
                wishes = self._taking[1]
                sent.append(SentMessage(device, change.status, wishes.deadline, wishes.topic))
            elif (known := self._sent.get(ref)) is not None:
                # Of what has ended for the application, answered, nothing more is told.
                sent.append(replace(known, status=change.status))
        if answered is not None:
            ref = answered.status.ref
            last = next((s.status for s in reversed(sent) if s.status.ref == ref), answered.status)
            try:
                status = advance(last, DeliveryState.ANSWERED)
                sent.append(replace(answered, status=status))
            except LocalError as error:
                # It failed as far as we knew, and was answered all the same: both are true.
                logger.warning("an answer to message %s: %s", ref, error)
        return sent

    def remember(self, sent: SentMessage) -> None:
        """Take over a new state that is stored."""
        ref = sent.status.ref
        known = self._sent.get(ref)
        if not sent.status.final:
            self._sent[ref] = sent
            if known is None:
                self._waiting[sent.device] += 1
                self._index(sent)
        elif known is not None:
            del self._sent[ref]
            self._waiting[known.device] -= 1
            if not self._waiting[known.device]:
                del self._waiting[known.device]
            if known.topic is not None:
                about = self._by_topic[(known.device, known.topic)]
                del about[ref]
                if not about:
                    del self._by_topic[(known.device, known.topic)]

    def _index(self, sent: SentMessage) -> None:
        if sent.deadline is not None:
            heapq.heappush(self._deadlines, (sent.deadline, sent.status.ref))
        if sent.topic is not None:
            self._by_topic.setdefault((sent.device, sent.topic), {})[sent.status.ref] = None


def joined(first: Effects, *others: Effects) -> Effects:
    """Return what several inputs, one after another, have brought, as one."""
    for other in others:
        first = Effects(
            saves={**first.saves, **other.saves},
            received=(*first.received, *other.received),
            statuses=(*first.statuses, *other.statuses),
            transmits=(*first.transmits, *other.transmits),
            news=(*first.news, *other.news),
            events=(*first.events, *other.events),
        )
    return first
