from __future__ import annotations

import pytest

from smtunnel import LocalError, StateError
from smtunnel.window import ReplayWindow, Verdict


def test_what_was_accepted_is_a_replay_only_with_the_same_content() -> None:
    window = ReplayWindow(4)
    assert window.judge(10, 1) is Verdict.NEW
    window.accept(10, 1)
    assert window.judge(10, 1) is Verdict.REPLAY
    assert window.judge(10, 2) is Verdict.REUSED
    assert window.judge(9, 1) is Verdict.NEW


def test_the_floor_rises_when_the_window_is_full() -> None:
    window = ReplayWindow(3)
    for counter in (1000, 5, 70_000, 2**64 - 1):
        window.accept(counter, 0)
    assert window.counters == (1000, 70_000, 2**64 - 1)
    assert window.floor == 6
    assert window.judge(5, 0) is Verdict.STALE
    assert window.judge(6, 0) is Verdict.NEW
    window.accept(6, 0)
    assert window.floor == 7
    assert window.judge(6, 0) is Verdict.STALE


def test_accepting_again_or_below_the_floor_changes_nothing() -> None:
    window = ReplayWindow(2)
    for counter in (10, 20, 30):
        window.accept(counter, counter)
    before = window.to_bytes()
    window.accept(20, 99)
    window.accept(3, 99)
    assert window.to_bytes() == before


def test_the_saved_form_gives_the_same_window() -> None:
    window = ReplayWindow(100)
    for counter in (9, 3, 2**40):
        window.accept(counter, counter % 1000)
    copy = ReplayWindow(100)
    assert copy.merge(window.to_bytes() + b"more") == len(window.to_bytes())
    assert copy.to_bytes() == window.to_bytes()
    # A smaller window keeps the newest and refuses the rest.
    small = ReplayWindow(1)
    small.merge(window.to_bytes())
    assert (small.counters, small.floor) == ((2**40,), 10)


def test_merging_takes_the_higher_floor() -> None:
    old, new = ReplayWindow(2), ReplayWindow(2)
    for counter in (1, 2):
        old.accept(counter, 0)
    for counter in (10, 11, 12):
        new.accept(counter, 0)
    old.merge(new.to_bytes())
    assert (old.counters, old.floor) == ((11, 12), 11)


@pytest.mark.parametrize("saved", [b"", bytes(9), bytes(9) + b"\x01" + bytes(11)])
def test_a_saved_form_cut_short_is_refused(saved: bytes) -> None:
    with pytest.raises(StateError, match="cut short"):
        ReplayWindow(4).merge(saved)


def test_a_counter_has_64_bits() -> None:
    with pytest.raises(LocalError, match="not of 64 bits"):
        ReplayWindow(4).accept(2**64, 0)
