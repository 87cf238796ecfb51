"""The window of a user's counters."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.core.counters import CounterStanding, CounterWindow

counters = st.lists(st.integers(0, 40) | st.integers(2**64 - 5, 2**64 - 1), max_size=60)


@given(counters, st.integers(1, 6))
def test_no_counter_is_new_twice(offered, capacity):
    window = CounterWindow(capacity)
    accepted = []
    for counter in offered:
        standing = window.standing(counter)
        if counter in accepted:
            assert standing is not CounterStanding.NEW
        if standing is CounterStanding.NEW:
            window.accept(counter)
            accepted.append(counter)
    # The latest are known by name, whatever is older is below the floor.
    for counter in accepted:
        expected = CounterStanding.STALE if counter <= window.floor else CounterStanding.USED
        assert window.standing(counter) is expected


@given(counters, st.integers(1, 6))
def test_what_the_store_keeps_makes_the_same_window(offered, capacity):
    window = CounterWindow(capacity)
    floor, kept = -1, set()
    for counter in offered:
        if window.standing(counter) is CounterStanding.NEW:
            displaced = window.displaced()
            window.accept(counter)
            kept.add(counter)
            if displaced is not None:
                floor = displaced
                kept = {one for one in kept if one > floor}
    again = CounterWindow(capacity, floor=floor, used=kept)
    assert again.floor == window.floor
    assert all(again.standing(one) is window.standing(one) for one in range(45))


def test_smaller_window_after_a_restart_forgets_the_lowest():
    window = CounterWindow(2, floor=3, used=[5, 9, 7, 2])
    assert window.floor == 5
    assert window.standing(5) is CounterStanding.STALE
    assert window.standing(7) is CounterStanding.USED
    assert window.standing(6) is CounterStanding.STALE
    assert window.standing(8) is CounterStanding.NEW
