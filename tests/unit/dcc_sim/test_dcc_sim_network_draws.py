"""Streams, distributions and weather: fixed seeds, so that statistics are the same every time."""

from __future__ import annotations

import itertools
import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dcc_sim.core.network.distributions import (
    Constant,
    Exponential,
    Lognormal,
    Mixture,
    Part,
    Trace,
    describe,
)
from dcc_sim.core.network.profile import BurstLoss, RandomOutages, ScheduledOutage
from dcc_sim.core.network.weather import LossWeather, Outages
from dcc_sim.randomness import SeededStreams

DRAWS = 20_000


def draws(distribution, count=DRAWS, name="x"):
    stream = SeededStreams(1).stream(name)
    return [distribution.draw(stream) for _ in range(count)]


def test_streams_are_uniform_repeatable_and_independent():
    streams = SeededStreams(1)
    first = streams.stream("a")
    numbers = [first.random() for _ in range(DRAWS)]
    assert all(0 <= number < 1 for number in numbers)
    assert statistics.fmean(numbers) == pytest.approx(0.5, abs=0.01)
    assert statistics.pvariance(numbers) == pytest.approx(1 / 12, rel=0.02)
    again, other = streams.stream("a"), streams.stream("b")
    assert [again.random() for _ in range(5)] == numbers[:5]
    others = [other.random() for _ in range(DRAWS)]
    assert abs(statistics.correlation(numbers, others)) < 0.02
    assert SeededStreams(2).stream("a").random() != numbers[0]


@given(st.integers(), st.text(max_size=5), st.integers(), st.text(max_size=5))
def test_no_two_names_are_one_stream(seed, name, other_seed, other_name):
    one = SeededStreams(seed).stream(name).random()
    other = SeededStreams(other_seed).stream(other_name).random()
    assert (one == other) == ((seed, name) == (other_seed, other_name))


def test_constant():
    assert draws(Constant(value_s=2.5), 3) == [2.5] * 3


def test_lognormal():
    values = draws(Lognormal(median_s=4.0, sigma=0.5, shift_s=1.0))
    logs = [math.log(value - 1.0) for value in values]
    assert statistics.fmean(logs) == pytest.approx(math.log(4.0), abs=0.02)
    assert statistics.pstdev(logs) == pytest.approx(0.5, rel=0.02)
    assert max(draws(Lognormal(median_s=4.0, sigma=2.0, max_s=9.0))) == 9.0


def test_exponential():
    values = draws(Exponential(mean_s=10.0))
    assert statistics.fmean(values) == pytest.approx(10.0, rel=0.03)
    assert statistics.median(values) == pytest.approx(10.0 * math.log(2), rel=0.03)


def test_trace_gives_its_values_alike_often():
    values = draws(Trace(values_s=(1.0, 2.0, 4.0)))
    for value in (1.0, 2.0, 4.0):
        assert values.count(value) / DRAWS == pytest.approx(1 / 3, abs=0.02)


def test_mixture_keeps_the_weights():
    parts = (
        Part(weight=3.0, of=Constant(value_s=1.0)),
        Part(weight=1.0, of=Exponential(mean_s=100.0)),
    )
    values = draws(Mixture(parts=parts))
    assert values.count(1.0) / DRAWS == pytest.approx(0.75, abs=0.01)
    assert statistics.fmean(values) == pytest.approx(0.75 + 25.0, rel=0.05)


def test_every_distribution_is_described():
    everything = Mixture(
        parts=(
            Part(weight=1.0, of=Constant(value_s=1.0)),
            Part(weight=1.0, of=Lognormal(median_s=2.0, sigma=1.0, shift_s=3.0, max_s=9.0)),
            Part(weight=1.0, of=Exponential(mean_s=4.0)),
            Part(weight=1.0, of=Trace(values_s=(5.0, 6.0))),
        )
    )
    assert describe(everything) == (
        "0.25: 1 s; 0.25: lognormal, median 2 s, sigma 1 + 3 s, at most 9 s; "
        "0.25: exponential, mean 4 s; 0.25: 2 measured values, 5 to 6 s"
    )


LOSS = BurstLoss(good_mean_s=90.0, bad_mean_s=10.0, loss_good=0.01, loss_bad=0.5)


def test_bad_times_have_their_share_and_length():
    weather = LossWeather(LOSS, SeededStreams(3), "link")
    step = 0.5
    states = [weather.is_bad(n * step) for n in range(400_000)]
    assert statistics.fmean(states) == pytest.approx(0.1, rel=0.1)
    beginnings = sum(not before and after for before, after in itertools.pairwise(states))
    assert sum(states) * step / beginnings == pytest.approx(10.0, rel=0.1)
    assert {weather.loss_probability(n * 1.0) for n in range(5000)} == {0.01, 0.5}


def test_weather_depends_on_time_alone():
    streams = SeededStreams(3)
    forward = LossWeather(LOSS, streams, "link")
    states = [forward.is_bad(float(at)) for at in range(20_000)]
    for at in (19_999, 5, 12_345):
        assert LossWeather(LOSS, streams, "link").is_bad(float(at)) == states[at]
    other = LossWeather(LOSS, streams, "other link")
    assert [other.is_bad(float(at)) for at in range(20_000)] != states


RANDOM = RandomOutages(
    mean_interval_s=1000.0, duration_s=Exponential(mean_s=100.0), max_duration_s=900.0
)


def test_random_outages_have_their_share():
    outages = Outages(RANDOM, (), SeededStreams(3), "hub")
    down = [outages.down_until(float(at)) is not None for at in range(0, 2_000_000, 10)]
    # Overlapping outages count once: 1 - exp(-100 / 1000).
    assert statistics.fmean(down) == pytest.approx(1 - math.exp(-0.1), rel=0.1)


def test_an_outage_ends_when_it_said():
    outages = Outages(RANDOM, (), SeededStreams(3), "hub")
    seen = 0
    for at in range(0, 100_000, 7):
        until = outages.down_until(float(at))
        if until is not None:
            seen += 1
            assert until > at
            assert Outages(RANDOM, (), SeededStreams(3), "hub").down_until(until) is None
            middle = (at + until) / 2
            assert outages.down_until(middle) == until
    assert seen > 100


def test_scheduled_outages():
    windows = (
        ScheduledOutage(start_s=100.0, duration_s=10.0),
        ScheduledOutage(start_s=105.0, duration_s=20.0, hubs=("H1",)),
        ScheduledOutage(start_s=1000.0, duration_s=60.0, every_s=600.0),
    )
    one = Outages(None, windows, SeededStreams(1), "H1")
    other = Outages(None, windows, SeededStreams(1), "H2")
    assert [one.down_until(at) for at in (99.0, 100.0, 124.9, 125.0)] == [None, 125.0, 125.0, None]
    assert [other.down_until(at) for at in (100.0, 110.0)] == [110.0, None]
    assert [one.down_until(at) for at in (400.0, 1000.0, 1060.0, 2259.0)] == [
        None,
        1060.0,
        None,
        2260.0,
    ]


def test_a_schedule_without_gaps_is_no_endless_loop():
    windows = tuple(
        ScheduledOutage(start_s=start, duration_s=6.0, every_s=10.0) for start in (0.0, 5.0)
    )
    until = Outages(None, windows, SeededStreams(1), "H").down_until(1.0)
    assert until is not None
    assert until > 1000.0
