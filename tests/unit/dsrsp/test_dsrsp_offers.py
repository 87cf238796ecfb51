"""Route offers: numbers rise, older ones hold until a withdrawal, renewal in time."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dsrsp.core.offers import AGAIN_AFTER_S, Offers, OfferState, RouteRecord, terms_of
from dsrsp.errors import RouteNotOffered
from gbcs import EntityId
from smtunnel.routes import LAST_OFFER, RouteAnswer, RouteOffer, RouteStatus

DEVICE = EntityId(bytes(7) + b"\x01")
OTHER = EntityId(bytes(7) + b"\x02")
NOW = 1_800_000_000.0
LASTS_S = 1_000_000.0


def record(number: int = 1, at: float = NOW, **changes) -> RouteRecord:
    fields = {"device": DEVICE, "terms": b"terms", "offered_at": at, "not_after": at + LASTS_S}
    return RouteRecord(number=number, **(fields | changes))


def answered(offers: Offers, number: int, status: RouteStatus) -> RouteRecord | None:
    found = offers.answered(DEVICE, RouteAnswer(number, status), NOW + 1)
    if found is not None:
        offers.remember(found)
    return found


def test_numbers_rise_also_over_a_lost_state() -> None:
    offers = Offers([])
    assert offers.next_number(DEVICE, NOW) == int(NOW)
    offers.remember(record(int(NOW) + 5))
    assert offers.next_number(DEVICE, NOW) == int(NOW) + 6
    assert offers.next_number(DEVICE, NOW + 100) == int(NOW) + 100
    assert offers.next_number(OTHER, NOW) == int(NOW)


def test_answers() -> None:
    offers = Offers([record(1)])
    assert offers.answered(OTHER, RouteAnswer(1, RouteStatus.ACCEPTED), NOW) is None
    assert answered(offers, 9, RouteStatus.ACCEPTED) is None
    accepted = answered(offers, 1, RouteStatus.ACCEPTED)
    assert accepted is not None
    assert (accepted.state, accepted.answered_at) == (OfferState.ACCEPTED, NOW + 1)
    assert answered(offers, 1, RouteStatus.ACCEPTED) is None  # said before
    refused = answered(offers, 1, RouteStatus.NOT_WANTED)
    assert refused is not None
    assert refused.state is OfferState.REFUSED


def test_an_older_offer_holds_until_it_ends_or_all_are_withdrawn() -> None:
    offers = Offers([record(1), record(2, NOW + 10)])
    assert offers.check(DEVICE, 1, NOW + 20) is None
    assert offers.check(DEVICE, 2, NOW + 20) is None
    assert "never made" in (offers.check(DEVICE, 3, NOW) or "")
    assert "never made" in (offers.check(OTHER, 1, NOW) or "")
    assert "has ended" in (offers.check(DEVICE, 1, NOW + LASTS_S) or "")
    offers.remember(record(2, NOW + 10, state=OfferState.WITHDRAWN))
    for number in (1, 2):
        assert "withdrawn" in (offers.check(DEVICE, number, NOW + 20) or "")


def test_who_found_an_offer_out_of_date_is_asked_again() -> None:
    offers = Offers([record(1)])
    answered(offers, 1, RouteStatus.OUT_OF_DATE)
    assert offers.next_due() == NOW + 1 + AGAIN_AFTER_S
    assert not offers.wants_offer(DEVICE, b"terms", NOW + AGAIN_AFTER_S)
    assert offers.wants_offer(DEVICE, b"terms", NOW + 1 + AGAIN_AFTER_S)
    assert offers.next_number(DEVICE, NOW) > 1


def test_what_has_ended_is_forgotten() -> None:
    offers = Offers([record(1), record(2, NOW + LASTS_S + 1)])
    assert "never made" in (offers.check(DEVICE, 1, NOW) or "")


def test_when_an_offer_is_made_by_itself() -> None:
    offers = Offers([])
    assert offers.wants_offer(DEVICE, b"terms", NOW)
    offers.remember(record(1))
    assert not offers.wants_offer(DEVICE, b"terms", NOW + 1)
    assert offers.wants_offer(DEVICE, b"terms", NOW + AGAIN_AFTER_S)  # no answer
    answered(offers, 1, RouteStatus.ACCEPTED)
    assert not offers.wants_offer(DEVICE, b"terms", NOW + AGAIN_AFTER_S)
    assert offers.wants_offer(DEVICE, b"terms", NOW + 0.75 * LASTS_S)  # renewed
    assert offers.wants_offer(DEVICE, b"others", NOW + 1)  # other terms
    answered(offers, 1, RouteStatus.NOT_WANTED)
    assert not offers.wants_offer(DEVICE, b"terms", NOW + LASTS_S)
    assert offers.wants_offer(DEVICE, b"others", NOW + 1)


def test_who_withdraws_decides_who_offers_again() -> None:
    for by_hand in (True, False):
        offers = Offers([record(1, state=OfferState.WITHDRAWN, by_hand=by_hand)])
        assert offers.wants_offer(DEVICE, b"others", NOW) is not by_hand
        assert not offers.wants_withdrawal(DEVICE, NOW)
    offers = Offers([record(1)])
    assert offers.wants_withdrawal(DEVICE, NOW)
    assert not offers.wants_withdrawal(DEVICE, NOW + LASTS_S)
    assert not offers.wants_withdrawal(OTHER, NOW)
    answered(offers, 1, RouteStatus.NOT_WANTED)
    assert not offers.wants_withdrawal(DEVICE, NOW)


def test_what_is_due_is_told_once_and_in_time() -> None:
    offers = Offers([record(1), record(1, device=OTHER)])
    assert offers.next_due() == NOW + AGAIN_AFTER_S
    answered(offers, 1, RouteStatus.ACCEPTED)
    assert offers.take_due(NOW + AGAIN_AFTER_S) == [OTHER]
    assert offers.next_due() == NOW + 0.75 * LASTS_S
    assert offers.take_due(NOW + LASTS_S) == [DEVICE]
    assert offers.next_due() is None


def test_terms_are_what_an_offer_says_beside_number_and_times() -> None:
    offer = RouteOffer(
        offer=1, addresses=("wss://a:1",), pins=(bytes(32),), not_before=1, not_after=2,
        message_octets=65536,
    )  # fmt: skip
    later = replace(offer, offer=9, not_before=100, not_after=200)
    assert terms_of(offer) == terms_of(later)
    for change in (
        {"addresses": ("wss://b:1",)}, {"pins": (bytes(31) + b"1",)}, {"message_octets": 65537},
        {"versions": (1, 2)},
    ):  # fmt: skip
        assert terms_of(replace(offer, **change)) != terms_of(offer)


@pytest.mark.parametrize("wrong", [2.0**32, 2.0**40, 2.0**32 - 2, -5.0])
def test_a_clock_that_was_wrong_once_uses_no_numbers_up(wrong: float) -> None:
    offers = Offers([record(int(NOW))])
    number = offers.next_number(DEVICE, wrong)
    assert number == int(NOW) + 1
    offers.remember(record(number, wrong))
    assert offers.next_number(DEVICE, NOW) == number + 1
    assert offers.wants_offer(DEVICE, b"terms", NOW)
    assert offers.next_number(OTHER, wrong) == 1


def test_when_the_last_number_is_used_they_begin_again_after_its_withdrawal() -> None:
    offers = Offers([record(LAST_OFFER - 1)])
    assert offers.next_number(DEVICE, NOW) == LAST_OFFER
    offers.remember(record(LAST_OFFER))
    with pytest.raises(RouteNotOffered, match=f"route withdraw --to {DEVICE}"):
        offers.next_number(DEVICE, NOW)
    last = record(LAST_OFFER, state=OfferState.WITHDRAWN, by_hand=True)
    offers.remember(last)
    number = offers.next_number(DEVICE, NOW)
    assert number == int(NOW)
    offers.remember(record(number))
    # Also in a process that has it from the store.
    for known in (offers, Offers([record(number), last]), Offers([last, record(number)])):
        assert known.newest(DEVICE) == record(number)
        assert known.check(DEVICE, number, NOW) is None
        assert known.next_number(DEVICE, NOW) == number + 1
