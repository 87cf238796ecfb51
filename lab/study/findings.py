"""What the results say: the numbers that stand in the report, and in findings.json beside it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from lab.study.errors import StudyResultError
from lab.study.histogram import BINS
from lab.study.parameters import Study
from lab.study.statistics import (
    NOTHING,
    Estimate,
    bootstrap_percentiles,
    histogram_percentile,
    histogram_percentiles,
    independent_messages,
    wilson,
)
from lab.study.store import read_manifest, read_table

Key = tuple[str, ...]
_MOST_GROUPS = 4000


@dataclass(frozen=True, slots=True)
class CaseInfo:
    """A row of the table of cases."""

    case: int
    experiment: str
    engine: str
    route: str
    route_kind: str
    workload: str
    network: str
    varied: str
    repetition: int
    cems: int

    @property
    def key(self) -> Key:
        """What repetitions have in common."""
        return (
            self.experiment,
            self.engine,
            self.route,
            self.workload,
            self.network,
            self.varied,
        )

    def value_of(self, path: str) -> float | None:
        """Return a varied value as a number; None: it is none, or not varied."""
        for part in self.varied.split(", "):
            name, _, value = part.partition("=")
            if name == path:
                try:
                    return float(value)
                except ValueError:
                    return None
        return None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Latencies of one case and direction, all repetitions together.

    Attributes:
        info: of the first repetition.
        direction: "down" or "up".
        counts: of messages in bins, all of the fleet.
        messages: how many were handed over.
        delivered: how many arrived.
        met: for each deadline, how many were in time.
        percentiles: for each percentile, with an interval where rows allow one.
        independent: for each deadline, how many messages that depend on no other say as much.
        apart: for each deadline, each repetition's share in time; empty: CEMs share no network.
    """

    info: CaseInfo
    direction: str
    counts: npt.NDArray[np.int64]
    messages: float
    delivered: float
    met: dict[float, float]
    percentiles: dict[float, Estimate]
    independent: dict[float, float]
    apart: dict[float, tuple[float, ...]]

    def percentiles_at(self, per_cent: float) -> float:
        """Return a percentile of the fleet's counts, in seconds; infinity: not so many arrived."""
        return histogram_percentile(self.counts, per_cent, self.messages - self.delivered)

    def probability(self, deadline_s: float, confidence: float) -> Estimate:
        """Return the probability that a message is in time."""
        if not self.messages:
            return NOTHING
        independent = self.independent[deadline_s]
        found = wilson(self.met[deadline_s] / self.messages * independent, independent, confidence)
        return found.holding(self.apart.get(deadline_s, ()))


class Results:
    """A folder of results, read.

    Args:
        folder: which.

    Raises:
        StudyResultError: it holds none.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = read_manifest(folder)
        try:
            self.study = msgspec.convert(self.manifest["study"], Study)
        except (msgspec.ValidationError, KeyError) as error:
            raise StudyResultError(
                f"{folder}: the manifest's study is unreadable: {error}"
            ) from None
        names = ("cases", "messages", "fragments", "counters", "histograms", "loads")
        self._tables = {name: read_table(folder, name) for name in names}
        columns = self._tables["cases"].to_pydict()
        fields = tuple(CaseInfo.__dataclass_fields__)
        self.cases = [
            CaseInfo(**{name: columns[name][row] for name in fields})
            for row in range(len(columns["case"]))
        ]
        self._distributions: dict[tuple[int, str], Distribution] = {}
        self._counters = self._read_counters()
        self._histograms = self._read_histograms()

    def table(self, name: str) -> Any:
        """Return a table, see `lab.study.tables`."""
        return self._tables[name]

    def groups(self, experiment: str | None = None) -> dict[Key, list[CaseInfo]]:
        """Return cases that differ in their repetition alone, in the study's order."""
        found: dict[Key, list[CaseInfo]] = {}
        for info in self.cases:
            if experiment in (None, info.experiment):
                found.setdefault(info.key, []).append(info)
        return found

    def counter(self, infos: list[CaseInfo], name: str, direction: str | None = None) -> float:
        """Return a counter, summed over repetitions, regions and, with None, directions."""
        return sum(
            value
            for info in infos
            for (way, counter), value in self._counters[info.case].items()
            if counter == name and direction in (None, way)
        )

    def directions(self, infos: list[CaseInfo]) -> list[str]:
        """Return the directions in which messages go."""
        ways = {way for info in infos for way, name in self._counters[info.case] if way}
        return sorted(ways)

    def distribution(self, infos: list[CaseInfo], direction: str) -> Distribution:
        """Return the latencies of one case in all its repetitions."""
        place = (infos[0].case, direction)
        if place not in self._distributions:
            self._distributions[place] = self._distribution(infos, direction)
        return self._distributions[place]

    def _distribution(self, infos: list[CaseInfo], direction: str) -> Distribution:
        study = self.study
        counts = self._counts(infos, direction)
        messages = self.counter(infos, "messages", direction)
        delivered = self.counter(infos, "delivered", direction)
        met = {
            deadline: self.counter(infos, f"met:{deadline:g}", direction)
            for deadline in study.deadlines_s
        }
        groups = self.latency_groups(infos, direction)
        if sum(len(group) for group in groups) < messages:
            # The fleet writes down the rows of some CEMs; the counts are of all. Whatever the
            # messages of a CEM have in common, they count as one.
            cems = min(float(sum(info.cems for info in infos)), messages)
            independent = dict.fromkeys(met, cems)
            estimates = histogram_percentiles(
                counts,
                study.percentiles,
                undelivered=messages - delivered,
                independent=cems,
                confidence=study.confidence,
            )
        else:
            independent = {deadline: independent_messages(groups, deadline) for deadline in met}
            estimates = bootstrap_percentiles(
                groups,
                study.percentiles,
                confidence=study.confidence,
                resamples=study.bootstrap_resamples,
                seed=study.seed,
            )
        percentiles = dict(zip(study.percentiles, estimates, strict=True))
        found = Distribution(
            infos[0], direction, counts, messages, delivered, met, percentiles, independent, {}
        )
        return self._as_far_apart(found, infos)

    def _as_far_apart(self, found: Distribution, infos: list[CaseInfo]) -> Distribution:
        """Return a distribution whose intervals hold what each repetition gave by itself.

        CEMs of one repetition share its queues and outages: however many they are, they do not say
        how far another repetition may lie from this one.
        """
        if len(infos) < 2 or infos[0].cems < 2:
            return found
        ones = [self._distribution([info], found.direction) for info in infos]
        percentiles = {
            per_cent: estimate.holding([one.percentiles[per_cent].value for one in ones])
            for per_cent, estimate in found.percentiles.items()
        }
        apart = {
            deadline: tuple(one.met[deadline] / one.messages for one in ones if one.messages)
            for deadline in found.met
        }
        return replace(found, percentiles=percentiles, apart=apart)

    def _counts(self, infos: list[CaseInfo], direction: str) -> npt.NDArray[np.int64]:
        counts = np.zeros(BINS, dtype=np.int64)
        for info in infos:
            counts += self._histograms.get((info.case, direction), 0)
        return counts

    def latencies(self, infos: list[CaseInfo], direction: str) -> npt.NDArray[np.float64]:
        """Return the latencies that are written down, infinity: never delivered."""
        groups = self.latency_groups(infos, direction)
        return np.concatenate(groups) if groups else np.empty(0)

    def latency_groups(
        self, infos: list[CaseInfo], direction: str
    ) -> list[npt.NDArray[np.float64]]:
        """Return the latencies of each CEM in each repetition; infinity: never delivered."""
        # So many groups give an interval narrower than can be drawn.
        return list(self.of_each_cem(infos, direction).values())[:_MOST_GROUPS]

    def of_each_cem(
        self, infos: list[CaseInfo], direction: str
    ) -> dict[tuple[int, str], npt.NDArray[np.float64]]:
        """Return latencies by case and CEM; infinity: never delivered."""
        groups: dict[tuple[int, str], list[float]] = defaultdict(list)
        for info in infos:
            rows = self.rows_of("messages", info.case)
            for cem, way, latency, outcome in zip(
                rows["cem"].to_pylist(),
                rows["direction"].to_pylist(),
                rows["latency_s"].to_pylist(),
                rows["outcome"].to_pylist(),
                strict=True,
            ):
                if way == direction:
                    late = math.inf if latency is None or outcome != "delivered" else latency
                    groups[info.case, cem].append(late)
        return {key: np.asarray(values) for key, values in groups.items()}

    def rows_of(self, name: str, case: int) -> Any:
        """Return the rows of one case; cases stand in their order, each in one piece."""
        table = self._tables[name]
        numbers = table["case"].to_numpy()
        first, last = np.searchsorted(numbers, [case, case + 1])
        return table.slice(int(first), int(last - first))

    def _read_counters(self) -> dict[int, dict[tuple[str, str], float]]:
        found: dict[int, dict[tuple[str, str], float]] = defaultdict(lambda: defaultdict(float))
        rows = self._tables["counters"].to_pydict()
        for case, way, name, value in zip(
            rows["case"], rows["direction"], rows["counter"], rows["value"], strict=True
        ):
            found[case][way, name] += value
        return found

    def _read_histograms(self) -> dict[tuple[int, str], npt.NDArray[np.int64]]:
        found: dict[tuple[int, str], npt.NDArray[np.int64]] = {}
        rows = self._tables["histograms"].to_pydict()
        for case, way, place, count in zip(
            rows["case"], rows["direction"], rows["bin"], rows["count"], strict=True
        ):
            counts = found.setdefault((case, way), np.zeros(BINS, dtype=np.int64))
            counts[place] += count
        return found
