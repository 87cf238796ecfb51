"""A real deployment's journals as results, so that they stand beside the simulations."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.journal import read_journal
from lab.study.cases import Case
from lab.study.errors import StudyResultError
from lab.study.journal_tables import JournalReader
from lab.study.networks import Network
from lab.study.parameters import Experiment, Route, RouteKind, Study, Workload
from lab.study.store import FORMAT, ResultWriter, machine
from lab.study.study_file import configuration_hash


@dataclass(frozen=True, slots=True)
class Measured:
    """What journals told.

    Attributes:
        messages: how many stand in the results.
        untimed: how many more were sent to somebody whose journal was not given.
        clocks_differ_s: by how much the clocks differ at least, in seconds; 0: it does not show.
    """

    messages: int
    untimed: int
    clocks_differ_s: float


def tables_from_journals(
    journals: Sequence[Path], folder: Path, name: str, whose: Mapping[Path, str] | None = None
) -> Measured:
    """Write results of what journals tell: one case for each way that messages have gone.

    Args:
        journals: of the DSRSP, of CEMs, of the DCC simulator if there was one.
        folder: for the results; must hold none.
        name: what the report calls it.
        whose: EUIs of CEMs, by their journals that do not tell them.

    Raises:
        StudyResultError: a file is no journal, nobody can tell whose it is, or they tell of no
            message from its beginning to its end.
    """
    reader = _read(journals, whose or {})
    for source, candidates in reader.doubtful.items():
        raise StudyResultError(
            f"{source}: whose journal is this? Its lines do not say it (device), and by what the "
            f"others say it may be that of {' or '.join(candidates[:3])}"
            f"{' or others' * (len(candidates) > 3)}: add "
            f"--whose {source}={candidates[0]} if it is the first"
        )
    if not reader.timed:
        raise StudyResultError(
            f"{reader.messages} messages were sent, by these journals, but to nobody whose journal "
            "is among them: when a message came stands in the journal of its receiver. Give that "
            "of `smtunnel dsrsp` and those of the CEMs"
        )
    routes = reader.routes
    study = _study(name, routes)
    with ResultWriter(folder) as writer:
        for number, route in enumerate(study.routes):
            tables = reader.tables(number, study.deadlines_s, route=route.name)
            cems = len(set(tables.messages["cem"].to_pylist()))
            workload = msgspec.structs.replace(study.workloads[0], cems=cems)
            case = Case(
                number=number,
                experiment=name,
                engine="live",
                route=route,
                workload=workload,
                network=study.networks[0],
                deadlines_s=study.deadlines_s,
            )
            writer.add(case, tables)
        writer.finish(
            {
                "format": FORMAT,
                "study": msgspec.to_builtins(study),
                "configuration_sha256": configuration_hash(study),
                "cases": len(routes),
                "journals": [path.name for path in journals],
                "clocks_differ_s": reader.clocks_differ_s,
                "machine": machine(),
            }
        )
    return Measured(reader.timed, reader.messages - reader.timed, reader.clocks_differ_s)


def _read(journals: Sequence[Path], whose: Mapping[Path, str]) -> JournalReader:
    for path in whose:
        if path not in journals:
            raise StudyResultError(f"--whose {path}=...: this journal is not among those given")
    events = []
    for path in journals:
        try:
            for number, event in enumerate(read_journal(path), start=1):
                if not math.isfinite(event["t"]):
                    raise StudyResultError(f"{path}, line {number}: t is no time")
                device = event.get("device") or whose.get(path)
                # A file may hold what several CEMs wrote.
                source = f"{path} {event['device']}" if event.get("device") else str(path)
                of_cem = event["component"] == "cem" and device
                events.append({**event, "source": source} | ({"device": device} if of_cem else {}))
        except LabError as error:
            raise StudyResultError(str(error)) from None
    events.sort(key=lambda event: float(event["t"]))
    try:
        reader = JournalReader(events)
    except (KeyError, TypeError, ValueError) as error:
        raise StudyResultError(
            "the journals have events without what they must say, or with something else in its "
            f"place: {type(error).__name__}: {error}; specs/journal.md has the fields of each event"
        ) from None
    if not reader.messages:
        raise StudyResultError(
            "the journals tell of no message that was sent: give those of `smtunnel dsrsp` and "
            '`smtunnel cem` (journal = "FILE" in their configurations)'
        )
    return reader


def _study(name: str, routes: Sequence[str]) -> Study:
    kinds: dict[str, RouteKind] = {"2b": "2b", "stream1": "stream1"}
    return Study(
        name=name,
        title=f"Measured: {name}",
        question="How long did messages take, by the journals of a live deployment?",
        routes=tuple(Route(name=route, kind=kinds.get(route, "2a")) for route in routes),
        workloads=(Workload(name="as it came", kind="session"),),
        networks=(Network(name="as it was", profile="none"),),
        experiments=(Experiment(name=name, engines=("live",)),),
    )
