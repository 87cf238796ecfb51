"""What the shared parts carry: from the loads of the fleet engine."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

import numpy as np

from lab.study.cases import profile_of, shares_of
from lab.study.figure_style import count_text, seconds_text
from lab.study.findings import CaseInfo, Results
from lab.study.report_page import table

ENOUGH_WAIT_S = 10.0
"""A queue that makes people wait longer than this counts as grown."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One shared thing under one workload.

    Attributes:
        name: of the thing, as in the table of loads.
        per_s: what it takes in a second, beside what others use.
        work: what one CEM's turn brings to it.
        share: of all CEMs that meet it.
        longest_s: the longest wait in the case.
        every_s: time between two turns of a CEM.
        cems: of the case, all regions together.
    """

    name: str
    per_s: float
    work: float
    share: float
    longest_s: float
    every_s: float
    cems: int

    @property
    def carries(self) -> float:
        """CEMs, of those that meet it, whose turns keep it just busy."""
        return self.per_s * self.every_s / self.work

    def clears_s(self, cems: float) -> float:
        """Return the time for one turn of so many CEMs in all regions, in seconds."""
        return cems * self.share * self.work / self.per_s


def stages_of(results: Results, info: CaseInfo) -> list[Stage]:
    """Return the shared parts that a case met."""
    study = results.study
    network = next(one for one in study.networks if one.name == info.network)
    workload = next(one for one in study.workloads if one.name == info.workload)
    shares = shares_of(network, profile_of(network))
    rows = results.rows_of("loads", info.case)
    names = np.asarray(rows["stage"].to_pylist())
    volume = rows["arriving_per_s"].to_numpy() * rows["lasts_s"].to_numpy()
    found = []
    for name in dict.fromkeys(names.tolist()):
        mine = names == name
        share = shares.get(name.rpartition(" ")[0], 1.0)
        work = float(volume[mine].sum()) / (info.cems * workload.times * share)
        if work <= 0:
            continue
        found.append(
            Stage(
                name=name,
                per_s=float(rows["capacity_per_s"].to_numpy()[mine][0]),
                work=work,
                share=share,
                longest_s=float(rows["delay_s"].to_numpy()[mine].max(initial=0.0)),
                every_s=workload.interval_s,
                cems=info.cems,
            )
        )
    return found


def carried(results: Results, findings: list[dict[str, Any]]) -> str:
    """Return what each shared part carries of each workload, as a table; empty: nothing is shared.

    Args:
        results: of the study.
        findings: gets the numbers.
    """
    largest: dict[tuple[str, str, str], CaseInfo] = {}
    for info in results.cases:
        key = (info.route, info.workload, info.network)
        if "network." not in info.varied and "route." not in info.varied:
            before = largest.get(key)
            largest[key] = info if before is None or info.cems > before.cems else before
    rows = []
    for info in largest.values():
        for stage in stages_of(results, info):
            rows.append(
                [
                    f"<b>{html.escape(info.route)}</b>",
                    html.escape(info.workload),
                    html.escape(stage.name),
                    f"{stage.per_s:,.0f} {_unit(stage.name)}",
                    f"{stage.work:,.3g}",
                    f"{_two_digits(stage.carries)}<br><small>every "
                    f"{seconds_text(stage.every_s)}</small>",
                    seconds_text(stage.clears_s(1e6)),
                ]
            )
            findings.append(
                {
                    "capacity": stage.name,
                    "route": info.route,
                    "workload": info.workload,
                    "network": info.network,
                    "per_s": round(stage.per_s, 3),
                    "work_per_cem": round(stage.work, 6),
                    "carries_cems": round(stage.carries),
                    "every_s": stage.every_s,
                    "million_cems_take_s": round(stage.clears_s(1e6), 3),
                }
            )
    if not rows:
        return ""
    head = ["route", "workload", "shared", "takes a second", "a CEM's turn brings"]
    head += ["carries so many CEMs", "one turn of a million CEMs takes"]
    return (
        "<p>CEMs of a region where the shared part is a region's. Above the number in the last "
        "column but one, the queue grows for ever; a burst needs at least the time in the last."
        "</p>" + table(head, rows)
    )


def limit_of(points: list[tuple[float, float]]) -> str:
    """Return with how many CEMs the wait becomes too long.

    Args:
        points: number of CEMs, longest wait in seconds.
    """
    ordered = sorted(points)
    before: tuple[float, float] | None = None
    for cems, wait in ordered:
        if wait > ENOUGH_WAIT_S:
            if before is None:
                return f"fewer than {cems:,.0f}"
            share = (ENOUGH_WAIT_S - before[1]) / (wait - before[1])
            return f"about {_two_digits(before[0] + share * (cems - before[0]))}"
        before = (cems, wait)
    return f"more than {ordered[-1][0]:,.0f}"


def _unit(stage: str) -> str:
    if stage.startswith("dcc"):
        return "requests" if stage == "dcc" else "alerts"
    if stage.startswith("dsrsp"):
        return "commands"
    return "messages" if stage == "server" else "octets"


def _two_digits(value: float) -> str:
    return count_text(float(f"{value:.2g}"))
