"""Percentiles, their intervals, and probabilities of being in time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from lab.study.histogram import upper_bounds_s

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CELLS = 20_000_000


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value and the interval that it lies in.

    Attributes:
        value: the estimate; NaN when nothing was there to estimate it from.
        low: lower end of the interval.
        high: upper end.
    """

    value: float
    low: float
    high: float

    def holding(self, values: Sequence[float]) -> Estimate:
        """Return it with an interval that holds these values, too: what repetitions gave."""
        if not values:
            return self
        return Estimate(self.value, min(self.low, *values), max(self.high, *values))


NOTHING = Estimate(math.nan, math.nan, math.nan)


def percentile(ordered: Floats, per_cent: float, undelivered: int = 0) -> float:
    """Return a percentile of latencies; what was never delivered counts as infinite.

    Args:
        ordered: latencies, rising.
        per_cent: 0 to 100.
        undelivered: how many never came.
    """
    total = len(ordered) + undelivered
    if not total:
        return math.nan
    place = max(math.ceil(per_cent / 100 * total) - 1, 0)
    return float(ordered[place]) if place < len(ordered) else math.inf


def bootstrap_percentiles(
    groups: list[Floats],
    per_cents: tuple[float, ...],
    *,
    confidence: float,
    resamples: int,
    seed: int,
    undelivered: int = 0,
) -> list[Estimate]:
    """Estimate percentiles, with intervals by the percentile bootstrap over groups.

    Messages of one run share its network and are not independent of each other: so whole groups
    (a CEM in a repetition) are drawn, not single messages.

    Args:
        groups: latencies of each group; infinity: never delivered.
        per_cents: which percentiles.
        confidence: of the intervals, 0 to 1.
        resamples: how often is drawn.
        seed: of the draws.
        undelivered: more that never came and belong to no group.
    """
    values = np.concatenate(groups) if groups else np.empty(0)
    ordered = np.sort(values)
    found = [percentile(ordered, one, undelivered) for one in per_cents]
    if len(groups) < 2:
        return [Estimate(value, math.nan, math.nan) for value in found]
    numbers = np.random.Generator(np.random.PCG64(seed))
    drawn = np.empty((resamples, len(per_cents)))
    sizes = np.asarray([len(group) for group in groups])
    order = np.argsort(values, kind="stable")
    owner = np.repeat(np.arange(len(groups)), sizes)[order]
    share = np.asarray(per_cents) / 100
    step = max(_CELLS // max(len(values), 1), 1)
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        weights = numbers.multinomial(len(groups), np.full(len(groups), 1 / len(groups)), count)
        sums = np.cumsum(weights[:, owner], axis=1)
        for row in range(count):
            total = sums[row, -1]
            places = np.searchsorted(sums[row], np.maximum(np.ceil(share * total), 1))
            drawn[first + row] = ordered[np.minimum(places, len(ordered) - 1)]
    tail = (1 - confidence) / 2
    lows = np.quantile(drawn, tail, axis=0, method="lower")
    highs = np.quantile(drawn, 1 - tail, axis=0, method="higher")
    return [
        Estimate(value, float(low), float(high))
        for value, low, high in zip(found, lows, highs, strict=True)
    ]


def independent_messages(groups: Sequence[Floats], deadline_s: float) -> float:
    """Return how many messages that depend on no other say as much about a deadline as all do.

    Messages of one group have their CEM and its network in common. By how much the shares of groups
    vary more than chance has it (the design effect), the messages are fewer; never more.

    Args:
        groups: latencies of each CEM in each repetition; infinity: never delivered.
        deadline_s: to be in time, in seconds.
    """
    sizes = np.asarray([len(group) for group in groups], dtype=np.float64)
    met = np.asarray([(group <= deadline_s).sum() for group in groups], dtype=np.float64)
    total, count = float(sizes.sum()), len(groups)
    share = float(met.sum()) / total if total else 0.0
    if count < 2 or not 0 < share < 1:
        return total
    between = float(((met - sizes * share) ** 2).sum()) * count / (count - 1)
    return total / max(between / (total * share * (1 - share)), 1.0)


def wilson(met: float, total: float, confidence: float) -> Estimate:
    """Estimate a probability from counts, with Wilson's interval.

    Args:
        met: how many were in time.
        total: of how many.
        confidence: 0 to 1.
    """
    if total <= 0:
        return NOTHING
    deviate = NormalDist().inv_cdf((1 + confidence) / 2)
    share = met / total
    scale = 1 + deviate**2 / total
    middle = (share + deviate**2 / (2 * total)) / scale
    half = deviate / scale * math.sqrt(share * (1 - share) / total + deviate**2 / (4 * total**2))
    return Estimate(share, max(middle - half, 0.0), min(middle + half, 1.0))


def histogram_percentile(counts: Ints, per_cent: float, undelivered: float = 0) -> float:
    """Return a percentile from counts in bins: its bin's upper bound.

    Args:
        counts: of each bin, see `lab.study.histogram`.
        per_cent: 0 to 100.
        undelivered: how many never came.
    """
    total = float(counts.sum()) + undelivered
    if not total:
        return math.nan
    sums = np.cumsum(counts)
    place = int(np.searchsorted(sums, per_cent / 100 * total))
    return float(upper_bounds_s()[place]) if place < len(counts) else math.inf


def histogram_percentiles(
    counts: Ints,
    per_cents: tuple[float, ...],
    *,
    undelivered: float,
    independent: float,
    confidence: float,
) -> list[Estimate]:
    """Estimate percentiles from counts in bins, with intervals by order statistics.

    The number of messages below a percentile is binomial; so the percentiles at the ends of its
    interval (Wilson's) hold the true one between them, whatever the distribution is.

    Args:
        counts: of each bin, see `lab.study.histogram`.
        per_cents: which percentiles.
        undelivered: how many never came.
        independent: how many values that depend on no other these are.
        confidence: of the intervals, 0 to 1.
    """
    found = []
    for per_cent in per_cents:
        share = wilson(per_cent / 100 * independent, independent, confidence)
        ends = [
            histogram_percentile(counts, 100 * end, undelivered) for end in (share.low, share.high)
        ]
        found.append(Estimate(histogram_percentile(counts, per_cent, undelivered), *ends))
    return found
