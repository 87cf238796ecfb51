from __future__ import annotations

from dataclasses import replace

import pytest

from smtunnel.errors import LocalError, StateError
from smtunnel.receipts import ReceiptBatcher, ReceiptSettings
from smtunnel.records import (
    ControlReceipt,
    IndexRange,
    MessageName,
    Missing,
    Receipt,
    ReceiptPolicy,
)

PEER, OTHER = b"one", b"two"
BATCHED = ReceiptSettings()
RANGES = (IndexRange(1, 2),)


def batcher(settings: ReceiptSettings = BATCHED) -> ReceiptBatcher:
    return ReceiptBatcher(settings, lambda peer, number: RANGES if number != 99 else ())


def name(number: int) -> MessageName:
    return MessageName(number, 1000 + number)


def test_many_messages_are_acknowledged_together_after_a_while() -> None:
    target = batcher()
    for number in range(5):
        target.delivered(PEER, name(number), now=10.0 * number)
    target.delivered(OTHER, name(0), now=50.0)
    assert target.get_timer() == 60.0
    assert target.poll(59.0) == {}
    assert target.poll(60.0) == {PEER: [Receipt(tuple(name(n) for n in range(5)))]}
    assert target.poll(110.0) == {OTHER: [Receipt((name(0),))]}
    assert target.get_timer() is None


def test_enough_of_them_do_not_wait() -> None:
    target = batcher(replace(BATCHED, batch_entries=3))
    for number in range(3):
        assert target.poll(1.0) == {}
        target.delivered(PEER, name(number), now=1.0)
    assert target.poll(1.0) == {PEER: [Receipt((name(0), name(1), name(2)))]}


def test_each_at_once_or_never() -> None:
    each = batcher(replace(BATCHED, policy=ReceiptPolicy.EACH))
    each.delivered(PEER, name(1), now=5.0)
    assert each.poll(5.0) == {PEER: [Receipt((name(1),))]}
    off = batcher(replace(BATCHED, policy=ReceiptPolicy.OFF))
    off.delivered(PEER, name(1), now=5.0)
    off.heard(PEER, 2, 50, now=5.0)
    assert off.get_timer() is None


def test_a_message_that_comes_again_is_due_again_once() -> None:
    target = batcher()
    for now in (0.0, 1.0, 2.0):
        target.delivered(PEER, name(1), now)
    assert target.poll(60.0) == {PEER: [Receipt((name(1),))]}
    target.delivered(PEER, name(1), 300.0)
    assert target.poll(360.0) == {PEER: [Receipt((name(1),))]}


def test_control_messages_have_receipts_of_their_own() -> None:
    target = batcher()
    target.delivered(PEER, name(1), 0.0, control=True)
    target.delivered(PEER, name(1), 0.0)
    assert target.poll(60.0) == {PEER: [ControlReceipt((name(1),)), Receipt((name(1),))]}


def test_a_silent_incomplete_message_is_asked_after_and_what_is_owed_goes_along() -> None:
    target = batcher()
    target.heard(PEER, 7, 500, now=0.0)
    target.heard(PEER, 7, 500, now=100.0)
    target.delivered(PEER, name(1), now=200.0)
    missing = Missing(MessageName(7, 500), RANGES)
    assert target.poll(219.0) == {}
    assert target.poll(220.0) == {PEER: [Receipt((name(1),)), missing]}
    # Asked again ever later, and not for ever.
    times = []
    while (timer := target.get_timer()) is not None:
        assert target.poll(timer) == {PEER: [missing]}
        times.append(timer)
    assert times == [460.0, 940.0, 1900.0]
    # Whatever comes of it begins anew.
    target.heard(PEER, 7, 500, now=2000.0)
    assert target.get_timer() == 2120.0


def test_a_sender_that_repeats_a_fragment_is_told_at_once_what_is_missing() -> None:
    target = batcher()
    target.heard(PEER, 7, 500, now=0.0, again=True)
    assert target.poll(0.0) == {PEER: [Missing(MessageName(7, 500), RANGES)]}


def test_hints_of_loss_make_it_early() -> None:
    target = batcher()
    target.counter(PEER, 500, 500, now=0.0)
    target.heard(PEER, 7, 500, now=0.0)
    target.counter(PEER, 503, 503, now=1.0)
    assert target.get_timer() == 21.0
    gap = batcher()
    gap.counter(PEER, 10, 10, now=0.0)
    gap.delivered(PEER, name(1), now=0.0)
    gap.counter(PEER, 11, 11, now=1.0)
    assert gap.get_timer() == 60.0
    gap.counter(PEER, 13, 13, now=2.0)
    assert gap.get_timer() == 22.0


def test_what_has_ended_is_not_asked_after() -> None:
    target = batcher()
    target.heard(PEER, 7, 500, now=0.0)
    target.ended(PEER, 7)
    target.ended(OTHER, 7)
    target.heard(PEER, 8, 600, now=0.0)
    target.delivered(PEER, MessageName(8, 600), now=0.0)
    target.heard(PEER, 99, 700, now=0.0)
    assert target.poll(130.0) == {PEER: [Receipt((MessageName(8, 600),))]}
    assert target.poll(10_000.0) == {}


def test_what_is_owed_survives_a_restart() -> None:
    before, after = batcher(), batcher()
    before.delivered(PEER, name(1), 0.0)
    before.delivered(PEER, name(2), 0.0, control=True)
    saved = before.export(PEER)
    after.restore(PEER, saved, now=1000.0)
    assert after.export(PEER) == saved
    assert after.poll(1060.0) == before.poll(60.0)
    assert before.export(PEER) == after.export(OTHER) == b""
    with pytest.raises(StateError, match="cut short"):
        after.restore(PEER, saved[:-1], now=0.0)


def test_many_peers_leave_no_heap_of_old_timers() -> None:
    target = batcher()
    for number in range(1000):
        target.heard(PEER, 7, 500, now=float(number))
    assert len(target._timers) < 100


@pytest.mark.parametrize("fields", [{"batch_s": 0.0}, {"batch_entries": 0}, {"early_s": -1.0}])
def test_settings_that_make_no_sense_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(LocalError):
        replace(BATCHED, **fields)  # type: ignore[arg-type]
