"""A line in which fluid waits, first come, first served: what it is told, and what comes out.

CEMs are ranked by the time at which they begin; a CEM's rank, 0 to 1, says what is before it. Each
stream of messages is a time for each rank of a grid. All streams of a line together, in order of
time, are through at::

    T(i) = max over j <= i of ( arrival(j) + work of j to i )

which is exact for a fluid, and needs no simulation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lab.study.fleet.draws import Floats

GRID = 1001
RANKS = np.linspace(0.0, 1.0, GRID)
_LOAD_BINS = 200


@dataclass(frozen=True, slots=True)
class Load:
    """One line's load over time, for the table of loads."""

    stage: str
    time_s: Floats
    lasts_s: float
    arriving_per_s: Floats
    delay_s: Floats
    capacity_per_s: float


def through(
    arrivals: list[Floats], volumes: list[float], rate: float, stage: str, burst: float = 0.0
) -> tuple[list[Floats], Load]:
    """Take streams through one line.

    Args:
        arrivals: of each stream, when each rank comes; at least one stream.
        volumes: of each stream, what all ranks together bring.
        rate: what the line takes in a second.
        stage: its name.
        burst: what it takes at once when it has rested.

    Returns:
        When each rank of each stream is through; and the line's load.
    """
    at = np.concatenate(arrivals)
    # Who comes at the same time goes in the order of ranks.
    order = np.lexsort((np.tile(RANKS, len(arrivals)), at))
    brought = np.zeros_like(at)
    for number, (times, volume) in enumerate(zip(arrivals, volumes, strict=True)):
        # What ranks bring between two points of the grid comes between their times, not in lumps.
        own = slice(number * GRID, (number + 1) * GRID)
        so_far = np.interp(at, times, volume * RANKS)
        so_far[own] = volume * RANKS
        brought += so_far
    brought = np.maximum.accumulate(brought[order])
    come = at[order]
    work = brought / rate
    free = np.maximum.accumulate(come - work) + work - burst / rate
    left = np.maximum(come, free)
    result = np.empty_like(at)
    result[order] = left
    parts = [np.maximum.accumulate(part) for part in np.split(result, len(arrivals))]
    return parts, _load(stage, come, left - come, np.diff(brought, prepend=0.0), rate)


def at_ranks(values: Floats, ranks: Floats) -> Floats:
    """Return values of the grid at other ranks."""
    found: Floats = np.interp(ranks, RANKS, values)
    return found


def _load(stage: str, come: Floats, wait: Floats, brings: Floats, rate: float) -> Load:
    edges = np.linspace(come[0], max(come[-1], come[0] + 1.0), _LOAD_BINS + 1)
    place = np.clip(np.searchsorted(edges, come, side="right") - 1, 0, _LOAD_BINS - 1)
    volume = np.bincount(place, weights=brings, minlength=_LOAD_BINS)
    counts = np.bincount(place, minlength=_LOAD_BINS)
    waits = np.bincount(place, weights=wait, minlength=_LOAD_BINS)
    some = counts > 0
    width = edges[1] - edges[0]
    delays = waits[some] / counts[some]
    return Load(stage, edges[:-1][some], float(width), volume[some] / width, delays, rate)
