"""The line between a home and the DSRSP: what each flight takes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dcc_sim.core.network.distributions import Constant, Lognormal
from dcc_sim.core.network.profile import Parameter, Standing
from lab.study.internet import InternetTimes, flights_of, precise_loop, window_rounds
from lab.study.networks import Internet


def _assumed(value: Any) -> Parameter[Any]:
    return Parameter(value=value, standing=Standing.ASSUMED, source="test")


def _times(round_trip: Any, loss: float = 0.0) -> InternetTimes:
    internet = Internet(round_trip=_assumed(round_trip), loss_probability=_assumed(loss))
    return InternetTimes(internet, "test")


@pytest.mark.parametrize(
    ("round_trips", "flights"),
    [
        (0.5, (0.5,)),
        (1.0, (0.5, 0.5)),
        (1.5, (1.0, 0.5)),
        (2.5, (1.0, 0.5, 0.5, 0.5)),
        (0.25, (0.25,)),
    ],
)
def test_tcp_goes_there_and_back_and_the_rest_one_way_after_another(
    round_trips: float, flights: tuple[float, ...]
) -> None:
    assert flights_of(round_trips) == flights


def test_slow_start_doubles_its_window_each_round_trip() -> None:
    rounds = [window_rounds(packets) for packets in (1, 10, 11, 30, 31, 70, 71, 150)]
    assert rounds == [0, 0, 1, 1, 2, 2, 3, 3]


def test_a_message_larger_than_the_first_window_takes_more_round_trips() -> None:
    takes_s = _times(Constant(value_s=0.1)).line(lambda: 0.0)
    assert takes_s(1000) == pytest.approx(0.05)
    # The same flight: what was sent before counts, too.
    assert takes_s(14_000) == pytest.approx(0.15)


def test_each_message_on_an_empty_line_has_a_round_trip_of_its_own() -> None:
    now = 0.0
    takes_s = _times(Lognormal(median_s=0.03, sigma=0.5)).line(lambda: now)
    ways = []
    for _ in range(2000):
        ways.append(takes_s(500))
        now += ways[-1]  # the next is sent when it has arrived, as in a session
    assert len(set(ways)) == len(ways)
    # Nothing is drawn more often because it was short: half of the ways take half the median.
    assert sum(way < 0.015 for way in ways) == pytest.approx(1000, abs=70)


def test_what_follows_while_the_line_is_not_empty_has_the_same_round_trip() -> None:
    now = 0.0
    takes_s = _times(Lognormal(median_s=0.03, sigma=0.5)).line(lambda: now)
    first = takes_s(500)
    now = min(first / 2, 0.009)
    assert takes_s(200) == first
    now = 1.6 * first
    assert takes_s(200) != first


def test_nothing_is_drawn_more_often_because_it_is_still_on_its_way() -> None:
    now = 0.0
    takes_s = _times(Lognormal(median_s=0.03, sigma=0.5)).line(lambda: now)
    ways = []
    for _ in range(2000):
        now += 1.0
        takes_s(150)  # a receipt; 15 ms later about half of them are still under way
        now += 0.015
        ways.append(takes_s(500))
    assert len(set(ways)) == len(ways)
    assert sum(way < 0.015 for way in ways) == pytest.approx(1000, abs=70)


def test_the_software_s_own_time_is_drawn_once_for_each_flight() -> None:
    now = 0.0
    times = _times(Constant(value_s=0.1))
    takes_s = times.line(lambda: now, lambda: times.own_time_s((0.001, 0.002, 0.004)))
    seen = set()
    for flight in range(50):
        now = float(flight)
        first = takes_s(500)
        assert takes_s(100) == first
        seen.add(round(first - 0.05, 6))
    assert seen == {0.001, 0.002, 0.004}
    assert times.own_time_s(()) == 0.0


def test_the_proxy_s_timers_are_not_late_by_a_millisecond() -> None:
    async def late_s() -> float:
        loop = asyncio.get_running_loop()
        before = loop.time()
        await asyncio.sleep(0.0002)
        return loop.time() - before - 0.0002

    async def least_s() -> float:
        return min([await late_s() for _ in range(20)])

    with asyncio.Runner(loop_factory=precise_loop) as runner:
        # An event loop's usual selector rounds such a pause up to a whole millisecond.
        assert runner.run(least_s()) < 0.0006
