from __future__ import annotations

import itertools

import pytest

from smtunnel import (
    FINAL_STATES,
    TRANSITIONS,
    DeliveryState,
    LocalError,
    MessageStatus,
    advance,
)
from smtunnel.delivery import begin_again

ORDER = list(DeliveryState)


def status(state: DeliveryState, **fields: object) -> MessageStatus:
    reason = "gave up" if state is DeliveryState.FAILED else None
    arguments: dict[str, object] = {"fragments_total": 3, "message_octets": 200}
    return MessageStatus(ref="m1", state=state, reason=reason, **(arguments | fields))  # type: ignore[arg-type]


@pytest.mark.parametrize(("before", "after"), list(itertools.product(ORDER, ORDER)))
def test_every_state_against_every_state(before: DeliveryState, after: DeliveryState) -> None:
    reason = "gave up" if after is DeliveryState.FAILED else None
    if before is after or after in TRANSITIONS[before]:
        assert advance(status(before), after, reason=reason).state is after
    else:
        with pytest.raises(LocalError, match=f"it cannot become {after.value}"):
            advance(status(before), after, reason=reason)


def test_no_way_leads_back() -> None:
    for before, afters in TRANSITIONS.items():
        assert all(before not in TRANSITIONS[after] for after in afters)
    assert not TRANSITIONS[DeliveryState.FAILED]
    assert not TRANSITIONS[DeliveryState.ANSWERED]


def test_final_says_whether_anything_is_awaited() -> None:
    assert {state for state in ORDER if status(state).final} == set(FINAL_STATES)
    assert not status(DeliveryState.ACCEPTED).final


def test_counts_and_names_are_kept_and_do_not_fall() -> None:
    now = advance(status(DeliveryState.QUEUED), tunnel_message_id=4, first_counter=100)
    now = advance(now, fragments_accepted=2, fragments_delivered=1)
    assert (now.tunnel_message_id, now.first_counter) == (4, 100)
    assert (now.fragments_accepted, now.fragments_delivered) == (2, 1)
    with pytest.raises(LocalError, match="do not fall"):
        advance(now, fragments_delivered=0)
    with pytest.raises(LocalError, match="there are 3"):
        advance(now, fragments_delivered=4)


def test_a_failure_has_a_reason_and_nothing_else_has() -> None:
    with pytest.raises(LocalError, match="has a reason"):
        advance(status(DeliveryState.QUEUED), DeliveryState.FAILED)
    with pytest.raises(LocalError, match="has a reason"):
        advance(status(DeliveryState.QUEUED), DeliveryState.ACCEPTED, reason="because")


def test_with_a_receipt_to_come_sent_is_not_final() -> None:
    assert status(DeliveryState.SENT).final
    assert not status(DeliveryState.SENT, receipt_expected=True).final


def test_a_message_begins_again_from_nothing_but_not_after_its_end() -> None:
    now = status(DeliveryState.ACCEPTED, fragments_accepted=3, tunnel_message_id=4, first_counter=9)
    again = begin_again(now, 5)
    assert again == MessageStatus(ref="m1", fragments_total=5, message_octets=200)
    with pytest.raises(LocalError, match="cannot begin again"):
        begin_again(status(DeliveryState.FAILED), 5)
