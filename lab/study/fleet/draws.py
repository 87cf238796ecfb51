"""Numbers from the network profiles' distributions, many at once."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from dcc_sim.core.network.distributions import (
    Constant,
    Distribution,
    Exponential,
    Lognormal,
    Mixture,
    Trace,
)

Floats: TypeAlias = npt.NDArray[np.float64]
Ints: TypeAlias = npt.NDArray[np.int64]
Bools: TypeAlias = npt.NDArray[np.bool_]


def generator(seed: int, *path: int) -> np.random.Generator:
    """Return a source of random numbers of its own for every path."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, *path])))


def draw(distribution: Distribution | None, count: int, numbers: np.random.Generator) -> Floats:
    """Return times in seconds; None: all 0."""
    match distribution:
        case None:
            return np.zeros(count)
        case Constant(value_s=value):
            return np.full(count, value)
        case Lognormal(median_s=median, sigma=sigma, shift_s=shift, max_s=most):
            return _bounded(shift + median * np.exp(sigma * numbers.standard_normal(count)), most)
        case Exponential(mean_s=mean, max_s=most):
            return _bounded(numbers.exponential(mean, count), most)
        case Trace(values_s=values):
            return np.asarray(values)[numbers.integers(0, len(values), count)]
        case Mixture(parts=parts):
            weights = np.cumsum([part.weight for part in parts])
            chosen = np.searchsorted(weights / weights[-1], numbers.random(count), side="right")
            chosen = np.minimum(chosen, len(parts) - 1)
            times = np.zeros(count)
            for number, part in enumerate(parts):
                mine = chosen == number
                times[mine] = draw(part.of, int(mine.sum()), numbers)
            return times


def _bounded(values: Floats, most: float | None) -> Floats:
    return values if most is None else np.minimum(values, most)


def mean_of(distribution: Distribution | None, seed: int = 0) -> float:
    """Return the mean of a distribution, estimated from 20,000 draws that are always the same."""
    return float(draw(distribution, 20_000, generator(seed)).mean())
