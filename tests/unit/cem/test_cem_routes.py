"""What a CEM makes of route offers: the newest counts, whatever was answered to it."""

from __future__ import annotations

from cem.core.routes import KnownOffer, Offers
from cem.route_2b.offers import judge_offer
from smtunnel.records import CapabilitiesWanted
from smtunnel.routes import LAST_OFFER, RouteAnswer, RouteOffer, RouteStatus, RouteWithdrawn

NOW = 1_800_000_000.0


def offer(number: int = 5, **changes) -> RouteOffer:
    fields = {
        "addresses": ("wss://dsrsp.example:8443",), "pins": (bytes(32),), "not_before": 0,
        "not_after": int(NOW) + 1000, "message_octets": 1 << 20,
    }  # fmt: skip
    return RouteOffer(offer=number, **(fields | changes))


def offers(known: KnownOffer | None = None, *, wanted: bool = True) -> Offers:
    return Offers(known, judge_offer, wanted=wanted)


def test_an_offer_is_judged_and_kept() -> None:
    for changes, wanted, status in (
        ({}, True, RouteStatus.ACCEPTED),
        ({}, False, RouteStatus.NOT_WANTED),
        ({"versions": (9,)}, True, RouteStatus.NO_COMMON_VERSION),
        ({"addresses": ("https://x",)}, True, RouteStatus.UNUSABLE_ADDRESS),
        ({"not_after": int(NOW)}, True, RouteStatus.OUT_OF_DATE),
        ({"message_octets": 511}, True, RouteStatus.OTHER),
        ({"message_octets": 512}, True, RouteStatus.ACCEPTED),
    ):
        book = offers(wanted=wanted)
        kept, answers = book.hear([CapabilitiesWanted(), offer(**changes)], NOW)
        assert kept == KnownOffer(offer(**changes), status)
        assert answers == [RouteAnswer(5, status)]
        assert kept.followed is (status is RouteStatus.ACCEPTED)
        assert book.known is None  # nothing counts before it is stored


def test_only_the_newest_counts() -> None:
    book = offers(KnownOffer(offer(5), RouteStatus.ACCEPTED))
    assert book.hear([offer(4)], NOW) == (None, [RouteAnswer(4, RouteStatus.OUT_OF_DATE)])
    assert book.hear([offer(5)], NOW) == (None, [RouteAnswer(5, RouteStatus.ACCEPTED)])
    newer = offer(6, versions=(9,))
    kept, _ = book.hear([newer], NOW)
    assert kept == KnownOffer(newer, RouteStatus.NO_COMMON_VERSION)
    kept, answers = book.hear([offer(7), offer(6), RouteWithdrawn(7)], NOW)
    assert kept == KnownOffer(offer(7), RouteStatus.ACCEPTED, withdrawn=True)
    assert [answer.status for answer in answers] == [RouteStatus.ACCEPTED, RouteStatus.OUT_OF_DATE]


def test_a_withdrawal_is_of_the_offer_that_it_names() -> None:
    book = offers(KnownOffer(offer(5), RouteStatus.ACCEPTED))
    assert book.followed == offer(5)
    assert book.hear([RouteWithdrawn(4)], NOW) == (None, [])
    book.known, _ = book.hear([RouteWithdrawn(5)], NOW)
    assert book.followed is None
    assert book.hear([RouteWithdrawn(5)], NOW) == (None, [])
    assert book.hear([offer(5)], NOW) == (None, [RouteAnswer(5, RouteStatus.OUT_OF_DATE)])


def test_after_the_withdrawal_of_the_last_number_any_is_newer() -> None:
    book = offers(KnownOffer(offer(LAST_OFFER), RouteStatus.ACCEPTED))
    assert book.hear([offer(4)], NOW) == (None, [RouteAnswer(4, RouteStatus.OUT_OF_DATE)])
    kept, answers = book.hear([RouteWithdrawn(LAST_OFFER), offer(4)], NOW)
    assert kept == KnownOffer(offer(4), RouteStatus.ACCEPTED)
    assert answers == [RouteAnswer(4, RouteStatus.ACCEPTED)]


def test_other_settings_are_another_answer() -> None:
    known = KnownOffer(offer(5), RouteStatus.NOT_WANTED)
    assert offers(known).reconsider(NOW) == (
        KnownOffer(offer(5), RouteStatus.ACCEPTED), RouteAnswer(5, RouteStatus.ACCEPTED),
    )  # fmt: skip
    assert offers(known, wanted=False).reconsider(NOW) is None
    assert offers(known).reconsider(NOW + 1000) is None  # it has ended
    assert offers().reconsider(NOW) is None
    withdrawn = KnownOffer(offer(5), RouteStatus.NOT_WANTED, withdrawn=True)
    assert offers(withdrawn).reconsider(NOW) is None
