"""Do the engines agree? Their latencies put beside each other, with the limit that chance has.

The limit is found by permutation. If two engines drew from one distribution, it would not matter
which of them made which half of a pair, where a pair is what both made of one CEM in one
repetition; so the halves of pairs are exchanged at random, and the limit is the distance that one
exchange in twenty passes. Messages of one CEM in one repetition share much and are not independent
of each other: whole pairs are exchanged, never single messages. Too few pairs have no such limit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from lab.cast import device_id
from lab.study.findings import CaseInfo, Results
from lab.study.fit import distance

Floats = npt.NDArray[np.float64]
Pair = tuple[Floats, Floats]

LEAST_PAIRS = 6
"""Five have 16 different exchanges: a distance cannot be the largest of 20 there."""

_LEVEL = 0.05
_EXCHANGES = 2000
_MOST_EXACT_PAIRS = 11
_LONGEST_SHIFT = 4.0
_SHIFTS = 400


@dataclass(frozen=True, slots=True)
class Agreement:
    """Two engines on the same cases, one way.

    Attributes:
        experiment: whose cases these are.
        engines: both.
        what: route, workload, way and varied values.
        values: both engines' latencies in seconds, those that arrived.
        pairs: CEMs times repetitions.
        distance: Kolmogorov-Smirnov's, 0 to 1.
        limit: what chance passes once in twenty; NaN: too few pairs to say.
        chance: how often chance comes as far; NaN as above.
        seen_s: the least shift of all latencies that would have passed the limit, in seconds: what
            is much less the comparison cannot see; NaN as above.
    """

    experiment: str
    engines: tuple[str, str]
    what: str
    values: Pair
    pairs: int
    distance: float
    limit: float
    chance: float
    seen_s: float

    @property
    def counts(self) -> tuple[int, int]:
        """How many latencies each engine has."""
        return len(self.values[0]), len(self.values[1])

    @property
    def medians_s(self) -> tuple[float, float]:
        """Both medians, in seconds."""
        return float(np.median(self.values[0])), float(np.median(self.values[1]))


def agreements(results: Results, experiment: str) -> Iterator[Agreement]:
    """Yield the first engine of an experiment against each other one, case by case, way by way."""
    sets: dict[tuple[str, ...], list[list[CaseInfo]]] = defaultdict(list)
    for infos in results.groups(experiment).values():
        info = infos[0]
        sets[info.route, info.workload, info.network, info.varied].append(infos)
    for first, *others in sets.values():
        for other in others:
            for way in results.directions(first):
                pairs = _pairs(results, first, other, way)
                both = tuple(np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
                one, two = (values[np.isfinite(values)] for values in both)
                if len(one) < 2 or len(two) < 2:
                    continue
                info = first[0]
                limit, chance = permutation_limit(pairs, results.study.seed)
                yield Agreement(
                    experiment=experiment,
                    engines=(info.engine, other[0].engine),
                    what=f"{info.route}, {info.workload}, {way} {info.varied}".strip(),
                    values=(one, two),
                    pairs=len(pairs),
                    distance=distance(*both),
                    limit=limit,
                    chance=chance,
                    seen_s=seen_shift_s(one, limit),
                )


def _pairs(results: Results, first: list[CaseInfo], other: list[CaseInfo], way: str) -> list[Pair]:
    """Return what two engines made of the same CEM in the same repetition; infinity: never."""
    found: list[Pair] = []
    for one, two in zip(first, other, strict=True):
        ours, theirs = (
            {_device(cem): values for (_, cem), values in results.of_each_cem([info], way).items()}
            for info in (one, two)
        )
        # A CEM that one engine has no message of has no half there; the other's stands alone.
        for device in sorted(ours.keys() | theirs.keys()):
            found.append((ours.get(device, _EMPTY), theirs.get(device, _EMPTY)))
    return found


def _device(cem: str) -> str:
    """Return a CEM's EUI-64; the fleet model counts its CEMs."""
    return str(device_id(int(cem))) if cem.isdigit() else cem


_EMPTY: Floats = np.empty(0)


def permutation_limit(pairs: Sequence[Pair], seed: int) -> tuple[float, float]:
    """Return the distance that chance passes once in twenty, and how often it comes as far.

    Args:
        pairs: latencies of both sides.
        seed: of the exchanges, where there are too many to try all.

    Returns:
        Both NaN where there are fewer than `LEAST_PAIRS`.
    """
    if len(pairs) < LEAST_PAIRS:
        return math.nan, math.nan
    distances = _exchanged(pairs, _exchanges(len(pairs), seed))
    # The first exchanges nothing: it is what was found.
    chance = float((distances >= distances[0] - 1e-12).mean())
    return float(np.quantile(distances, 1 - _LEVEL, method="higher")), chance


def _exchanges(pairs: int, seed: int) -> npt.NDArray[np.bool_]:
    """Return which pairs are exchanged: all different ways where they are few, else some."""
    if pairs <= _MOST_EXACT_PAIRS:
        # The last pair stays: to exchange all pairs is to exchange none.
        ways = np.arange(1 << (pairs - 1))[:, None]
        return ((ways >> np.arange(pairs)) & 1).astype(np.bool_)
    numbers = np.random.Generator(np.random.PCG64(seed))
    exchanged: npt.NDArray[np.bool_] = numbers.random((_EXCHANGES, pairs)) < 0.5
    exchanged[0] = False
    return exchanged


def _exchanged(pairs: Sequence[Pair], exchanges: npt.NDArray[np.bool_]) -> Floats:
    """Return the Kolmogorov-Smirnov distance after each way to exchange."""
    halves = [half for pair in pairs for half in pair]
    values: Floats = np.concatenate(halves)
    owner = np.repeat(np.arange(len(halves)), [len(half) for half in halves])
    order = np.argsort(values, kind="stable")
    values, owner = values[order], owner[order]
    last = np.append(values[1:] != values[:-1], True)
    found: Floats = np.empty(len(exchanges))
    for number, exchanged in enumerate(exchanges):
        second = (owner % 2).astype(np.bool_) ^ exchanged[owner // 2]
        ours, theirs = np.cumsum(~second), np.cumsum(second)
        gaps = np.abs(ours / max(ours[-1], 1) - theirs / max(theirs[-1], 1))
        found[number] = gaps[last].max()
    return found


def seen_shift_s(values: Floats, limit: float) -> float:
    """Return the least shift of all values that passes a limit, in seconds: the power of a test.

    A shift as large is seen at least every second time, mostly more often: what chance adds to a
    distance makes it larger. Half of it is seen now and then.
    """
    if not math.isfinite(limit):
        return math.nan
    spread = float(np.quantile(values, 0.84) - np.quantile(values, 0.16)) or float(values[0])
    shifts = np.linspace(0.0, _LONGEST_SHIFT * spread, _SHIFTS)[1:]
    for shift in shifts:
        if distance(values, values + shift) > limit:
            return float(shift)
    return math.nan


def agreement_table(results: Results) -> str:
    """Return all agreements of a study as a table in Markdown."""
    lines = [
        "| experiment | engines | what | values | pairs | medians | distance | limit, 5 % | chance "
        "| a shift that would be seen |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in results.study.experiments:
        if len(experiment.engines) < 2:
            continue
        for one in agreements(results, experiment.name):
            far = one.distance > one.limit
            told = f"**{one.distance:.3f}**" if far else f"{one.distance:.3f}"
            cells = [
                one.experiment,
                " / ".join(one.engines),
                one.what,
                " / ".join(f"{count:,}" for count in one.counts),
                f"{one.pairs:,}",
                " / ".join(_time(value) for value in one.medians_s),
                told,
                *(_number(one.limit, one.pairs), _number(one.chance, one.pairs)),
                _time(one.seen_s) if math.isfinite(one.seen_s) else "none",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def own_time_table(results: Results) -> str:
    """Return what the software itself took, as a table in Markdown; empty: nothing measured it."""
    found: dict[tuple[str, str], list[Floats]] = defaultdict(list)
    for key, ways in results.manifest.get("own_times", {}).items():
        name, _, _ = key.rpartition(" / ")
        for way in ("down", "up"):
            found[name, way].append(np.asarray(ways[way]))
    if not found:
        return ""
    lines = [
        "| measured by / route / round trips | way | values | half within | 95 % within "
        "| half within, quickest and slowest repetition |",
        "|---|---|---|---|---|---|",
    ]
    for (name, way), repetitions in found.items():
        values = np.concatenate(repetitions)
        half, most = (_time(float(one)) for one in np.quantile(values, [0.5, 0.95]))
        medians = [float(np.median(one)) for one in repetitions]
        ends = f"{_time(min(medians))} to {_time(max(medians))}"
        lines.append(f"| {name} | {way} | {len(values):,} | {half} | {most} | {ends} |")
    return "\n".join(lines)


def measured_table(results: Results) -> str:
    """Return what the live engine measured, as a table in Markdown; empty: it had no part."""
    lines = []
    for infos in results.groups().values():
        info = infos[0]
        if info.engine != "live":
            continue
        cells = [info.experiment, ", ".join(filter(None, (info.route, info.varied)))]
        found = [results.latencies(infos, way) for way in ("down", "up")]
        cells.append(" / ".join(f"{len(values):,}" for values in found))
        for share in (0.5, 0.95):
            quantiles = [
                _time(float(np.quantile(values, share, method="higher"))) if len(values) else "none"
                for values in found
            ]
            cells.append(" / ".join(quantiles))
        lines.append(f"| {' | '.join(cells)} |")
    head = [
        "| measured live | route | messages down / up | half within | 95 % within |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*head, *lines]) if lines else ""


def _number(value: float, pairs: int) -> str:
    return f"{value:.3f}" if math.isfinite(value) else f"none: {pairs} of {LEAST_PAIRS} pairs"


def _time(seconds: float) -> str:
    if not math.isfinite(seconds):
        return "never"
    return f"{seconds * 1000:.1f} ms" if seconds < 1 else f"{seconds:.1f} s"
