"""Route offers: what each CEM was offered, what it said, and what it is to be told next.

Every offer has a number of its own for each CEM, rising also over restarts and over a lost state:
it is at least the time of offering, in this century. When the last number is used, numbers begin
again after its withdrawal. Older offers stay good until they end, for a CEM that has not
seen the newest yet; a withdrawal ends all of them.
"""

from __future__ import annotations

import enum
import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from dsrsp.errors import RouteNotOffered
from gbcs.entity_id import EntityId
from smtunnel.routes import LAST_OFFER, RouteAnswer, RouteOffer, RouteStatus

AGAIN_AFTER_S: Final = 21_600.0
"""An offer without an answer is made again after so long, in seconds: longer than the tunnel tries
to deliver one."""

RENEWED_BEFORE_END: Final = 0.25
"""The last part of an offer's time in which it is renewed."""

_LAST_BY_DATE: Final = LAST_OFFER - 2**24
"""A clock that says more, in July 2105, gives no numbers: set wrong once, it would use them up."""


class OfferState(enum.Enum):
    """Where an offer stands."""

    OFFERED = "offered"
    """No answer yet."""
    ACCEPTED = "accepted"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRecord:
    """One offer to one CEM.

    Attributes:
        device: to whom.
        number: the offer's.
        terms: what it says beside number and times, as SHA-256.
        offered_at: when it was made, in seconds since 1970.
        not_after: when it ends, the same.
        state: where it stands.
        status: what the CEM answered; None: nothing yet.
        answered_at: when, in seconds since 1970.
        by_hand: withdrawn by an operator: only an operator offers again.
    """

    device: EntityId
    number: int
    terms: bytes
    offered_at: float
    not_after: float
    state: OfferState = OfferState.OFFERED
    status: RouteStatus | None = None
    answered_at: float | None = None
    by_hand: bool = False


def _ends_numbers(record: RouteRecord) -> bool:
    """Tell whether numbers begin again after this one."""
    return record.number == LAST_OFFER and record.state is OfferState.WITHDRAWN


def _age(record: RouteRecord) -> tuple[bool, int]:
    """Sort older offers before newer ones."""
    return not _ends_numbers(record), record.number


def terms_of(offer: RouteOffer) -> bytes:
    """Return what is equal for offers that say the same at different times."""
    return sha256(replace(offer, offer=0, not_before=0, not_after=1).build_body()).digest()


class Offers:
    """The offers to all CEMs.

    Args:
        records: those in the store.
    """

    def __init__(self, records: Iterable[RouteRecord]) -> None:
        self._records: dict[EntityId, list[RouteRecord]] = {}
        self._due: list[tuple[float, bytes]] = []
        for record in sorted(records, key=_age):
            self.remember(record)

    def devices(self) -> list[EntityId]:
        """Return to whom an offer was ever made that is not forgotten."""
        return list(self._records)

    def newest(self, device: EntityId) -> RouteRecord | None:
        """Return a CEM's newest offer; None: it never had one."""
        records = self._records.get(device)
        return records[-1] if records else None

    def next_number(self, device: EntityId, now: float) -> int:
        """Return the number of a CEM's next offer.

        Raises:
            RouteNotOffered: the last number is used, and that offer is not withdrawn.
        """
        newest = self.newest(device)
        dated = int(now) if 1 <= now <= _LAST_BY_DATE else 1
        if newest is None or _ends_numbers(newest):
            return dated
        if newest.number < LAST_OFFER:
            return max(newest.number + 1, dated)
        raise RouteNotOffered(
            f"the numbers of route offers to {device} are used up: its last is {LAST_OFFER}, made "
            "when the clock here said 2106 or later. Withdraw that one and offer again, then they "
            f"begin anew: smtunnel dsrsp route withdraw --to {device}"
        )

    def remember(self, record: RouteRecord) -> None:
        """Take over a record that is stored: a new offer, or an offer's new state."""
        records = self._records.setdefault(record.device, [])
        if records and records[-1].number == record.number:
            records[-1] = record
        else:
            # Of what has ended by the time of a newer one nobody asks any more.
            kept = [
                old
                for old in records
                if old.not_after > record.offered_at and not _ends_numbers(old)
            ]
            self._records[record.device] = [*kept, record]
        due = self._due_at(record)
        if due < math.inf:
            heapq.heappush(self._due, (due, record.device.octets))

    def answered(self, device: EntityId, answer: RouteAnswer, now: float) -> RouteRecord | None:
        """Take a CEM's answer; returns the record as it is now, None: of no use."""
        newest = self.newest(device)
        if newest is None or newest.number != answer.offer:
            return None
        if newest.state is OfferState.WITHDRAWN or newest.status is answer.status:
            return None
        accepted = answer.status is RouteStatus.ACCEPTED
        state = OfferState.ACCEPTED if accepted else OfferState.REFUSED
        return replace(newest, state=state, status=answer.status, answered_at=now)

    def check(self, device: EntityId, number: int, now: float) -> str | None:
        """Say what is wrong with the offer that a CEM follows; None: nothing.

        Args:
            device: which CEM.
            number: the offer's.
            now: the time, in seconds since 1970.
        """
        records = self._records.get(device, [])
        if records and records[-1].state is OfferState.WITHDRAWN:
            return f"offer {number} was withdrawn"
        found = next((record for record in records if record.number == number), None)
        if found is None:
            return f"offer {number} was never made, or ended long ago"
        if now >= found.not_after:
            return f"offer {number} has ended"
        return None

    def wants_offer(self, device: EntityId, terms: bytes, now: float) -> bool:
        """Tell whether a CEM is to be made an offer now, without an operator's asking."""
        newest = self.newest(device)
        if newest is None:
            return True
        if newest.state is OfferState.WITHDRAWN:
            return not newest.by_hand
        if newest.offered_at > now + AGAIN_AFTER_S:
            # The clock was far ahead then: the CEM waits for a day that does not come.
            return True
        return newest.terms != terms or now >= self._due_at(newest)

    def wants_withdrawal(self, device: EntityId, now: float) -> bool:
        """Tell whether a CEM may still follow an offer, which is to hold no longer."""
        newest = self.newest(device)
        return (
            newest is not None
            and newest.state is not OfferState.WITHDRAWN
            and newest.status is not RouteStatus.NOT_WANTED
            and now < newest.not_after
        )

    def next_due(self) -> float | None:
        """Return when the next offer is to be renewed or repeated, in seconds since 1970."""
        while self._due:
            due, device = self._due[0]
            newest = self.newest(EntityId(device))
            if newest is not None and self._due_at(newest) == due:
                return due
            heapq.heappop(self._due)
        return None

    def take_due(self, now: float) -> list[EntityId]:
        """Take the CEMs whose offers are to be renewed or repeated by now, each once."""
        devices: dict[EntityId, None] = {}
        while (due := self.next_due()) is not None and due <= now:
            devices[EntityId(heapq.heappop(self._due)[1])] = None
        return list(devices)

    @staticmethod
    def _due_at(record: RouteRecord) -> float:
        lasts_s = record.not_after - record.offered_at
        renewal = record.not_after - RENEWED_BEFORE_END * lasts_s
        if record.state is OfferState.OFFERED:
            return min(renewal, record.offered_at + AGAIN_AFTER_S)
        if record.status is RouteStatus.OUT_OF_DATE:
            # A clock was wrong, there or here: it may be set by now.
            return (record.answered_at or record.offered_at) + AGAIN_AFTER_S
        # Who has refused otherwise is asked again when the terms change.
        return renewal if record.state is OfferState.ACCEPTED else math.inf
