"""What the software itself takes: measured live in the study's own run, given to the models.

An experiment of the live engine on a line without chance measures it: whatever a message takes
longer than the line is the software's. Experiments that name it in ``own_time`` draw from these
values, each way and each repetition from its own, in their virtual and fleet cases; their live
cases are other data, on which the models can fail. What else the machine does meanwhile changes the
software's time: so each repetition is measured right before it is tested (`study_file`).

The values stand in the manifest: with them as an input a study comes out the same again.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import msgspec

from dcc_sim.core.network.distributions import Constant
from lab.study.cases import Case, OwnTime
from lab.study.errors import EngineError, StudyFileError, StudyResultError
from lab.study.tables import Tables

_DIGITS = 6


class OwnTimes:
    """Own times by what measured them.

    Args:
        known: those of an earlier run, see `read_own_times`; they go before what is measured now.
        cases: of the study: each that asks for an own time must have it among the known ones, if
            these are given at all.

    Raises:
        StudyResultError: one has not.
    """

    def __init__(self, known: dict[str, OwnTime] | None = None, cases: Iterable[Case] = ()) -> None:
        self._known = dict(known or {})
        for case in cases if known is not None else ():
            key = own_time_key(case.own_time_of, case)
            if case.own_time_of and key not in self._known:
                raise StudyResultError(
                    f"the own times given are of another study: {key!r}, which {case.title} asks "
                    "for, is not among them; give the manifest.json of a run of this study, or "
                    "leave --own-times out"
                )
        self._measured: dict[str, OwnTime] = {}

    def learn(self, case: Case, tables: Tables) -> None:
        """Take what a case tells of the software; most cases tell nothing."""
        line_s = _line_s(case)
        if line_s is None:
            return
        found: dict[str, list[float]] = {"down": [], "up": []}
        rows = zip(
            tables.messages["direction"].to_pylist(),
            tables.messages["latency_s"].to_pylist(),
            strict=True,
        )
        for way, latency_s in rows:
            if latency_s is not None:
                found[way].append(round(max(latency_s - line_s, 0.0), _DIGITS))
        own_time = OwnTime(down=tuple(found["down"]), up=tuple(found["up"]))
        self._measured[own_time_key(case.experiment, case)] = own_time

    def given(self, case: Case) -> Case:
        """Return a case with the own time that its experiment asks for; else as it is.

        Raises:
            EngineError: nothing has been measured for it.
        """
        if not case.own_time_of or case.engine == "live":
            return case
        key = own_time_key(case.own_time_of, case)
        own_time = self._known.get(key) or self._measured.get(key)
        if own_time is None or not own_time.down or not own_time.up:
            raise EngineError(
                f"{case.title}: no message tells the software's own time both ways: {key!r} has "
                "measured none; let its workload be a session, with more turns"
            )
        return msgspec.structs.replace(case, own_time=own_time)

    def values(self) -> dict[str, OwnTime]:
        """Return all that were used or measured, for the manifest."""
        return self._measured | self._known


def own_time_key(experiment: str, case: Case) -> str:
    """Return what own times are told apart by: experiment, route, how it connects, repetition."""
    return f"{experiment} / {case.route.name} / {case.route.round_trips:g} / {case.repetition}"


def check_own_times(cases: Iterable[Case], where: str) -> None:
    """Check that whatever asks for an own time has a case before it that measures it.

    Raises:
        StudyFileError: says what is missing.
    """
    measured: set[str] = set()
    for case in cases:
        if _line_s(case) is not None:
            measured.add(own_time_key(case.experiment, case))
        if not case.own_time_of:
            continue
        if case.route.kind == "2a" or case.network.live_time_scale != 1.0:
            raise StudyFileError(
                f"{where}: {case.title}: own_time is for routes 2b and stream1 on a network whose "
                "live_time_scale is 1: leave it out"
            )
        key = own_time_key(case.own_time_of, case)
        if key not in measured:
            raise StudyFileError(
                f"{where}: {case.title}: nothing before it measures its own_time {key!r} "
                "(experiment / route / round trips / repetition); expected an earlier experiment "
                f"{case.own_time_of!r} of the live engine with this route and as many repetitions, "
                "on a network whose internet has a constant round_trip and loss_probability 0"
            )


def read_own_times(path: Path) -> dict[str, OwnTime]:
    """Read own times from the manifest of an earlier run.

    Raises:
        StudyResultError: it cannot be read, or has none.
    """
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return msgspec.convert(manifest["own_times"], dict[str, OwnTime])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyResultError(
            f"{path}: no own times: {error}; expected the manifest.json of a study's results"
        ) from None


def _line_s(case: Case) -> float | None:
    """Return what the line alone takes, in seconds; None: the case does not measure software."""
    internet = case.network.internet
    round_trip = internet.round_trip.value
    if (
        case.engine != "live"
        or case.route.kind == "2a"
        or case.network.live_time_scale != 1.0
        or not isinstance(round_trip, Constant)
        or internet.loss_probability.value
    ):
        return None
    return case.route.round_trips * round_trip.value_s
