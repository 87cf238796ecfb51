from __future__ import annotations

import math

import numpy as np
import pytest

from lab.study.errors import StudyResultError
from lab.study.fit import distance, fit_values
from lab.study.histogram import bins_of, upper_bounds_s
from lab.study.statistics import (
    bootstrap_percentiles,
    histogram_percentile,
    histogram_percentiles,
    independent_messages,
    percentile,
    wilson,
)


def test_wilson_is_the_known_interval() -> None:
    # Wilson's own example figures: 1 of 10 at 95 %.
    found = wilson(1, 10, 0.95)
    assert found.value == pytest.approx(0.1)
    assert found.low == pytest.approx(0.01787, abs=1e-5)
    assert found.high == pytest.approx(0.40415, abs=1e-5)
    assert wilson(0, 50, 0.95).low == 0
    assert 0.92 < wilson(50, 50, 0.95).low < wilson(50, 50, 0.95).high == 1
    assert math.isnan(wilson(0, 0, 0.95).value)


def test_what_never_came_is_in_the_percentiles() -> None:
    ordered = np.arange(1.0, 101.0)
    assert percentile(ordered, 50) == 50
    assert percentile(ordered, 50, undelivered=100) == 100
    assert percentile(ordered, 51, undelivered=100) == math.inf


def test_the_bootstrap_covers_the_truth_about_as_often_as_it_says() -> None:
    numbers = np.random.Generator(np.random.PCG64(5))
    hits = 0
    for trial in range(200):
        groups = list(numbers.exponential(10.0, (60, 1)))
        (found,) = bootstrap_percentiles(groups, (50.0,), confidence=0.9, resamples=200, seed=trial)
        hits += found.low <= 10.0 * math.log(2) <= found.high
    assert 0.82 <= hits / 200 <= 0.97


def test_messages_of_one_cem_are_drawn_together() -> None:
    # Ten equal messages of a CEM say no more than one of them.
    values = np.random.Generator(np.random.PCG64(1)).exponential(1.0, 40)
    single = [np.asarray([value]) for value in values]
    tenfold = [np.repeat(value, 10) for value in values]
    one, ten = (
        bootstrap_percentiles(groups, (50.0,), confidence=0.95, resamples=400, seed=3)[0]
        for groups in (single, tenfold)
    )
    assert (ten.low, ten.high) == (one.low, one.high)


def test_messages_of_one_cem_say_no_more_of_a_deadline_than_it_does() -> None:
    values = np.random.Generator(np.random.PCG64(1)).exponential(1.0, 400)
    single = [np.asarray([value]) for value in values]
    tenfold = [np.repeat(value, 10) for value in values]
    apart = list(np.random.Generator(np.random.PCG64(2)).exponential(1.0, (400, 10)))
    assert independent_messages(single, 1.0) == pytest.approx(400, rel=0.01)
    assert independent_messages(tenfold, 1.0) == pytest.approx(400, rel=0.01)
    assert 3500 < independent_messages(apart, 1.0) <= 4000
    # Where nothing varies, or all are of one group, nothing can be told.
    assert independent_messages(tenfold, 1e9) == 4000
    assert independent_messages([], 1.0) == 0


def test_a_histogram_gives_percentiles_to_one_bin() -> None:
    values = np.random.Generator(np.random.PCG64(2)).lognormal(1.0, 1.0, 20_000)
    counts = np.bincount(bins_of(values), minlength=len(upper_bounds_s()))
    for per_cent in (1, 50, 99):
        exact = np.quantile(values, per_cent / 100, method="inverted_cdf")
        assert exact <= histogram_percentile(counts, per_cent) <= exact * 1.0117
    assert histogram_percentile(counts, 99, undelivered=20_000) == math.inf


def test_the_distance_is_that_of_kolmogorov_and_smirnov() -> None:
    one = np.asarray([1.0, 2.0, 3.0, 4.0])
    assert distance(one, one) == 0
    assert distance(one, one + 10) == 1
    assert distance(one, np.asarray([1.0, 2.0, 3.5, 4.5])) == 0.25
    with pytest.raises(StudyResultError):
        distance(one, np.empty(0))


def test_a_fit_finds_what_values_were_drawn_from_and_sees_what_is_something_else() -> None:
    numbers = np.random.Generator(np.random.PCG64(3))
    good = fit_values("latency_down", "", 5.0 * np.exp(0.6 * numbers.standard_normal(5000)))
    assert good.distribution.median_s == pytest.approx(5.0, rel=0.05)
    assert good.distribution.sigma == pytest.approx(0.6, rel=0.05)
    assert good.distance < 0.03
    two_humps = np.concatenate([numbers.normal(1.0, 0.01, 500), numbers.normal(9.0, 0.01, 500)])
    assert fit_values("latency_down", "", np.abs(two_humps)).distance > 0.2


def test_intervals_from_counts_cover_the_truth_about_as_often_as_they_say() -> None:
    numbers = np.random.Generator(np.random.PCG64(6))
    truth = math.log(10) * 5  # the 90th percentile of an exponential with mean 5
    bounds = upper_bounds_s()
    hits = 0
    for _ in range(300):
        counts = np.bincount(bins_of(numbers.exponential(5.0, 400)), minlength=len(bounds))
        found = histogram_percentiles(
            counts, (90.0,), undelivered=0.0, independent=400.0, confidence=0.95
        )[0]
        assert found.low <= found.value <= found.high
        hits += found.low <= truth <= found.high
    assert 0.90 <= hits / 300 <= 0.99
