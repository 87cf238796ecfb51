from __future__ import annotations

import random

import pytest

from smtunnel.errors import StateError
from smtunnel.pacing import Pace


def test_in_no_window_are_more_than_the_limit() -> None:
    chance = random.Random(4)
    pace, now, sent = Pace(20, 100.0), 0.0, []
    for _ in range(3000):
        now += chance.expovariate(1.0)
        free_at = pace.free_at(now)
        if free_at is None:
            pace.count(now)
            sent.append(now)
        else:
            assert now < free_at <= now + 107
            assert Pace(20, 100.0).free_at(now) is None
    for start, end in zip(sent, sent[20:], strict=False):
        assert end - start >= 100.0
    # The steps cost at most a sixteenth of what is allowed.
    assert len(sent) >= 0.9 * 20 * (now / 106.25)


def test_no_limit_counts_nothing() -> None:
    pace = Pace(None, 1.0)
    pace.count(0.0)
    assert pace.free_at(0.0) is None
    assert pace.to_bytes() == b""


def test_a_clock_that_is_set_back_loosens_nothing() -> None:
    pace = Pace(2, 16.0)
    pace.count(1000.0)
    pace.count(10.0)
    assert pace.free_at(20.0) is not None


def test_a_clock_that_is_set_back_holds_nothing_up_for_longer_than_a_window() -> None:
    pace = Pace(3, 16.0)
    for _ in range(2):
        pace.count(1e9)
    pace.count(15.0)
    free_at = pace.free_at(15.0)
    assert free_at == 32.0
    assert pace.free_at(free_at) is None


def test_saved_and_restored() -> None:
    pace, again = Pace(5, 16.0), Pace(5, 16.0)
    for second in range(5):
        pace.count(float(second))
    again.restore(pace.to_bytes())
    assert again.to_bytes() == pace.to_bytes()
    assert again.free_at(5.0) == pace.free_at(5.0) == 17.0
    with pytest.raises(StateError):
        again.restore(b"x")
