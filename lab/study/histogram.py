"""Latencies as counts in bins of equal width on a logarithmic scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

BINS = 2001
BINS_A_DECADE = 200
FIRST_S = 0.001


def bins_of(latencies_s: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
    """Return the bins of latencies; what is below the first or above the last is in these."""
    scaled = np.maximum(latencies_s, FIRST_S) / FIRST_S
    bins = np.floor(np.log10(scaled) * BINS_A_DECADE).astype(np.int64)
    bounded: npt.NDArray[np.int64] = np.minimum(bins, BINS - 1)
    return bounded


def upper_bounds_s() -> npt.NDArray[np.float64]:
    """Return the upper bounds of all bins, in seconds."""
    bounds: npt.NDArray[np.float64] = FIRST_S * 10.0 ** (np.arange(1, BINS + 1) / BINS_A_DECADE)
    return bounds
