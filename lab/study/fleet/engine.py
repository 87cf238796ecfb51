"""All chunks of a case, one after another or on many cores, into one set of tables."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lab.study.cases import Case
from lab.study.engine import Surroundings
from lab.study.fit import FittedTimes
from lab.study.fleet.chunk import CHUNK, Chunk, ChunkResult
from lab.study.fleet.fluid import Load
from lab.study.fleet.lines import Lines, Pilot, Waits
from lab.study.fleet.model import FleetModel, fallback_of, model_of
from lab.study.tables import Tables, build

_PILOT_CEMS = 2000
_PILOT_CHUNK = 1 << 32
"""Number of the pilot's chunk: its draws are those of no other."""


@dataclass(frozen=True, slots=True)
class _Task:
    model: FleetModel
    waits: list[list[Waits]]
    number: int
    first: int
    count: int
    rows: int


def _run(task: _Task) -> ChunkResult:
    return Chunk(
        task.model,
        task.waits,
        task.number,
        task.first,
        task.count,
        task.rows,
        task.model.case.seed,
    ).run()


class FleetEngine:
    """Simulates fleets of up to 30 million CEMs and more.

    Args:
        fitted: times that replace the profile's, see `lab.study.fit`; None: the profile's.
    """

    is_parallel = True
    is_exact = True

    def __init__(self, fitted: FittedTimes | None = None) -> None:
        self._fitted = fitted

    def run(self, case: Case, surroundings: Surroundings) -> Tables:
        """Carry a case out, see `lab.study.engine.Engine`."""
        model = model_of(case, self._fitted)
        fallback = fallback_of(model)
        lines = Lines(model, _pilots(model), () if fallback is None else _pilots(fallback))
        waits = lines.waits()
        cems = case.workload.cems
        chunks = math.ceil(cems / CHUNK)
        merged = _Merged(model)
        tasks = _tasks(model, waits, chunks)
        for done, result in enumerate(surroundings.map(_run, tasks), start=1):
            merged.add(result)
            surroundings.progress(done, chunks)
        return merged.tables(lines.loads)


def _tasks(model: FleetModel, waits: list[list[Waits]], chunks: int) -> Iterator[_Task]:
    cems, rows = model.case.workload.cems, model.case.rows
    for number in range(chunks):
        first = number * CHUNK
        count = min(CHUNK, cems - first)
        # The rows written down are spread evenly over all CEMs, at least one for each chunk.
        share = max(math.ceil(rows * count / cems), 1)
        yield _Task(model, waits, number, first, count, share)


def _pilots(model: FleetModel) -> tuple[Pilot, ...]:
    """Let some CEMs go without waiting, to know what each message takes on average."""
    count = min(_PILOT_CEMS, model.case.workload.cems)
    result = Chunk(model, None, _PILOT_CHUNK, 0, count, 1, model.case.seed).run()
    pilots = []
    flight, transmissions = result.flight_s
    places = len(model.messages)
    for place in range(places):
        sent, needed = _sum(result.overheads[place::places])
        latency, arrived = _sum(result.latency_sums[place::places])
        pilots.append(
            Pilot(
                overhead=max(sent / needed, 1.0) if needed else 1.0,
                flight_s=flight / transmissions if transmissions else 0.0,
                latency_s=latency / arrived if arrived else 0.0,
            )
        )
    return tuple(pilots)


def _sum(pairs: list[tuple[float, int]] | list[tuple[int, int]]) -> tuple[float, float]:
    return float(sum(one for one, _ in pairs)), float(sum(other for _, other in pairs))


class _Merged:
    """Adds chunks up, always in the same order."""

    def __init__(self, model: FleetModel) -> None:
        self._model = model
        self._names = [region.name for region in model.regions]
        self._counters: dict[tuple[int, str, str], float] = {}
        self._histograms: dict[tuple[int, str], Any] = {}
        self._messages: list[Any] = []
        self._fragments: list[Any] = []
        self._written = 0
        self._last_s = 0.0

    def add(self, result: ChunkResult) -> None:
        """Add the next chunk."""
        for key, value in result.counters.items():
            self._counters[key] = self._counters.get(key, 0.0) + value
        for place, counts in result.histograms.items():
            self._histograms[place] = self._histograms.get(place, 0) + counts
        self._last_s = max(self._last_s, result.last_s)
        number = self._model.case.number
        turn = len(self._model.messages) * self._model.copies * self._model.case.workload.times
        slots = 0
        for message in result.messages:
            self._messages.append(self._message_rows(message, turn, number))
            slots = max(slots, int(message["slot"].max(initial=-1)) + 1)
        self._written += slots
        if result.fragments is not None and len(result.fragments):
            cem_of = _cems_of(result)
            self._fragments.append(self._fragment_rows(result.fragments, cem_of, turn, number))

    def tables(self, loads: list[Load]) -> Tables:
        """Return everything."""
        number = self._model.case.number
        counters = [
            ("" if region < 0 else self._names[region], direction, name, value)
            for (region, direction, name), value in sorted(self._counters.items())
        ]
        counters.append(("", "", "makespan_s", self._last_s))
        bins = [
            (self._names[region], direction, int(place), int(counts[place]))
            for (region, direction), counts in sorted(self._histograms.items())
            for place in np.flatnonzero(counts)
        ]
        weight = self._model.case.workload.cems / max(self._written, 1)
        return Tables(
            messages=_weighted(_together("messages", self._messages), weight),
            fragments=_weighted(_together("fragments", self._fragments), weight),
            counters=build(
                "counters",
                {"case": number} | _columns(("region", "direction", "counter", "value"), counters),
                len(counters),
            ),
            histograms=build(
                "histograms",
                {"case": number} | _columns(("region", "direction", "bin", "count"), bins),
                len(bins),
            ),
            loads=_together("loads", [_load_rows(load, number) for load in loads]),
        )

    def _message_rows(self, message: dict[str, Any], turn: int, number: int) -> Any:
        latency = message["latency_s"]
        delivered = latency < np.inf
        count = len(latency)
        return build(
            "messages",
            {
                "case": number,
                "message": message["cem"] * turn + message["number"],
                "cem": pa.array([str(one) for one in message["cem"].tolist()], pa.string()),
                "region": pa.array([self._names[one] for one in message["region"]], pa.string()),
                "type": message["type"],
                "direction": message["direction"],
                "message_octets": message["message_octets"],
                "fragments": message["fragments"],
                "transmissions": message["transmissions"],
                "handed_over_s": _tidy(message["handed_over_s"]),
                "latency_s": _or_null(latency),
                "confirmed_s": _or_null(message["confirmed_s"]),
                "outcome": pa.array(np.where(delivered, "delivered", "failed").tolist()),
                "reason": pa.array(np.where(delivered, "", "not in its lifetime").tolist()),
                "weight": 1.0,
            },
            count,
        )

    def _fragment_rows(self, rows: Any, cem_of: Any, turn: int, number: int) -> Any:
        arrived = ~np.isnan(rows["arrived_s"])
        answered = ~np.isnan(rows["answered_s"])
        direct = self._model.case.route.kind != "2a"
        parts = ("request_s", "dcc_s", "wan_s", "queue_s", "transfer_s", "han_s")
        known = sum(rows[name] for name in parts)
        outcome = np.where(arrived, "arrived", "lost")
        times = {name: _tidy(np.where(arrived, rows[name], 0.0)) for name in parts}
        times["request_s"] = _tidy(rows["request_s"])
        times["wait_s"] = _tidy(rows["wait_s"])
        return build(
            "fragments",
            {
                "case": number,
                "message": cem_of[rows["slot"]] * turn + rows["message"],
                "index": rows["index"],
                "attempt": rows["attempt"],
                "started_s": _tidy(rows["started_s"]),
                "arrived_s": _or_null(np.where(arrived, rows["arrived_s"], np.inf)),
                "answered_s": _or_null(np.where(answered, rows["answered_s"], np.inf)),
                "other_s": _tidy(np.where(arrived, np.maximum(rows["arrived_s"] - known, 0), 0)),
                "octets": rows["octets"],
                "completes": _completing(rows, direct),
                "outcome": pa.array(outcome.tolist()),
                "reason": "",
                "weight": 1.0,
            }
            | times,
            len(rows),
        )


def _cems_of(result: ChunkResult) -> Any:
    """Return the number of the CEM that each slot is."""
    first = result.messages[0]
    cems = np.zeros(int(first["slot"].max()) + 1, dtype=np.int64)
    cems[first["slot"]] = first["cem"]
    return cems


def _completing(rows: Any, direct: bool) -> Any:
    """Say which transmissions made a message whole: the last to arrive of its fragments' first."""
    if direct:
        return ~np.isnan(rows["arrived_s"])
    completes = np.zeros(len(rows), dtype=np.bool_)
    ends = rows["started_s"] + rows["arrived_s"]
    keys = rows["slot"] * (1 << 20) + rows["message"]
    first: dict[tuple[int, int], int] = {}
    for row in np.flatnonzero(~np.isnan(ends)).tolist():
        key = (int(keys[row]), int(rows["index"][row]))
        if key not in first or ends[row] < ends[first[key]]:
            first[key] = row
    last: dict[int, int] = {}
    for (message, _), row in first.items():
        if message not in last or ends[row] > ends[last[message]]:
            last[message] = row
    completes[list(last.values())] = True
    return completes


def _load_rows(load: Load, number: int) -> Any:
    return build(
        "loads",
        {
            "case": number,
            "stage": load.stage,
            "time_s": _tidy(load.time_s),
            "lasts_s": load.lasts_s,
            "arriving_per_s": load.arriving_per_s,
            "delay_s": _tidy(load.delay_s),
            "capacity_per_s": load.capacity_per_s,
        },
        len(load.time_s),
    )


def _columns(names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> dict[str, Any]:
    return {name: [row[place] for row in rows] for place, name in enumerate(names)}


def _together(name: str, parts: list[Any]) -> Any:
    if not parts:
        return build(name, {}, 0)
    return pa.concat_tables(parts).unify_dictionaries().combine_chunks()


def _weighted(table: Any, weight: float) -> Any:
    place = table.schema.get_field_index("weight")
    return table.set_column(
        place, table.schema.field(place), pa.repeat(pa.scalar(weight), len(table))
    )


def _tidy(values: Any) -> Any:
    """Round to microseconds: what is below is the arithmetic's."""
    return np.round(values, 6)


def _or_null(values: Any) -> Any:
    missing = ~np.isfinite(values)
    return pa.array(np.where(missing, 0.0, np.round(values, 6)), mask=missing)
