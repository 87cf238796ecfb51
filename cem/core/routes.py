"""What a CEM makes of the DSRSP's route offers: which it follows, and what it answers.

Only the newest offer counts, also one that is refused. It is kept, so that an offer that this CEM
did not want can be taken up later, when its settings have changed; then the DSRSP is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeAlias

from smtunnel.control import Record
from smtunnel.routes import LAST_OFFER, RouteAnswer, RouteOffer, RouteStatus, RouteWithdrawn

Judge: TypeAlias = Callable[[RouteOffer, float], RouteStatus]
"""Says whether an offer can be followed at a time, in seconds since 1970, or why not."""


@dataclass(frozen=True, slots=True)
class KnownOffer:
    """The newest offer that came.

    Attributes:
        offer: the offer.
        status: what was answered to it.
        withdrawn: whether the DSRSP has taken it back.
    """

    offer: RouteOffer
    status: RouteStatus
    withdrawn: bool = False

    @property
    def followed(self) -> bool:
        """Whether it is the one to follow."""
        return self.status is RouteStatus.ACCEPTED and not self.withdrawn


def _ends_numbers(known: KnownOffer) -> bool:
    return known.withdrawn and known.offer.offer == LAST_OFFER


class Offers:
    """Judges offers and remembers the newest.

    Args:
        known: what was kept; None: no offer has come yet.
        judge: says whether an offer can be followed.
        wanted: whether this CEM uses route 2b at all.
    """

    def __init__(self, known: KnownOffer | None, judge: Judge, *, wanted: bool) -> None:
        self.known = known
        self._judge = judge
        self._wanted = wanted

    @property
    def followed(self) -> RouteOffer | None:
        """The offer to follow, if there is one."""
        return self.known.offer if self.known is not None and self.known.followed else None

    def hear(
        self, records: Iterable[Record], now: float
    ) -> tuple[KnownOffer | None, list[RouteAnswer]]:
        """Judge what has come: offers, and words that one no longer holds.

        Args:
            records: what came; what is about something else is passed over.
            now: the time, in seconds since 1970.

        Returns:
            What is to be kept from now on (None: nothing has changed), and the answers.
        """
        known, answers = self.known, []
        for record in records:
            if isinstance(record, RouteOffer):
                known, answer = self._receive(known, record, now)
                answers.append(answer)
            elif isinstance(record, RouteWithdrawn) and known is not None:
                is_meant = known.offer.offer == record.offer and not known.withdrawn
                known = replace(known, withdrawn=True) if is_meant else known
        return None if known is self.known else known, answers

    def _receive(
        self, known: KnownOffer | None, offer: RouteOffer, now: float
    ) -> tuple[KnownOffer, RouteAnswer]:
        if known is not None and offer.offer < known.offer.offer and not _ends_numbers(known):
            return known, RouteAnswer(offer.offer, RouteStatus.OUT_OF_DATE)
        if known is not None and offer.offer == known.offer.offer:
            # It came again: its answer was lost.
            status = RouteStatus.OUT_OF_DATE if known.withdrawn else known.status
            return known, RouteAnswer(offer.offer, status)
        status = self._status(offer, now)
        return KnownOffer(offer, status), RouteAnswer(offer.offer, status)

    def reconsider(self, now: float) -> tuple[KnownOffer, RouteAnswer] | None:
        """Judge the newest offer anew, at a start: the settings may be others.

        Returns:
            What is to be kept and told; None: it is as it was.
        """
        known = self.known
        if known is None or known.withdrawn or now >= known.offer.not_after:
            return None
        status = self._status(known.offer, now)
        if status is known.status:
            return None
        return KnownOffer(known.offer, status), RouteAnswer(known.offer.offer, status)

    def _status(self, offer: RouteOffer, now: float) -> RouteStatus:
        return self._judge(offer, now) if self._wanted else RouteStatus.NOT_WANTED
