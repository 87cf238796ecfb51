"""A real deployment's journals as results, so that they stand beside the simulations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from lab.errors import LabError
from lab.journal import read_journal
from lab.study.cases import Case
from lab.study.errors import StudyResultError
from lab.study.journal_tables import JournalReader
from lab.study.networks import Network
from lab.study.parameters import Experiment, Route, Study, Workload
from lab.study.store import FORMAT, ResultWriter, machine
from lab.study.study_file import configuration_hash


def tables_from_journals(journals: Sequence[Path], folder: Path, name: str) -> int:
    """Write results of what journals tell; returns how many messages they are.

    Args:
        journals: of the DSRSP, of CEMs, of the DCC simulator if there was one.
        folder: for the results; must hold none.
        name: what the report calls it.

    Raises:
        StudyResultError: a file is no journal, or they tell of no message.
    """
    events = []
    for path in journals:
        try:
            events += [{**event, "source": str(path)} for event in read_journal(path)]
        except LabError as error:
            raise StudyResultError(str(error)) from None
    events.sort(key=lambda event: float(event["t"]))
    reader = JournalReader(events)
    if not reader.messages:
        raise StudyResultError(
            "the journals tell of no message that was sent: give those of `smtunnel dsrsp` and "
            '`smtunnel cem` (journal = "FILE" in their configurations)'
        )
    study = _study(name)
    case = Case(
        experiment=name,
        engine="live",
        route=study.routes[0],
        workload=study.workloads[0],
        network=study.networks[0],
        deadlines_s=study.deadlines_s,
    )
    tables = reader.tables(0, study.deadlines_s)
    cems = len(set(tables.messages["cem"].to_pylist()))
    case = msgspec.structs.replace(
        case, workload=msgspec.structs.replace(case.workload, cems=max(cems, 1))
    )
    with ResultWriter(folder) as writer:
        writer.add(case, tables)
        writer.finish(
            {
                "format": FORMAT,
                "study": msgspec.to_builtins(study),
                "configuration_sha256": configuration_hash(study),
                "cases": 1,
                "journals": [path.name for path in journals],
                "machine": machine(),
            }
        )
    return len(tables.messages)


def _study(name: str) -> Study:
    return Study(
        name=name,
        title=f"Measured: {name}",
        question="How long did messages take, by the journals of a live deployment?",
        routes=(Route(name="2a", kind="2a"),),
        workloads=(Workload(name="as it came", kind="session"),),
        networks=(Network(name="as it was", profile="none"),),
        experiments=(Experiment(name=name, engines=("live",)),),
    )
