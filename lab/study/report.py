"""The report: one HTML page that needs nothing else, and the figures as files."""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np

from lab.study import figures
from lab.study.assumptions import assumptions_of
from lab.study.figures import seconds_text
from lab.study.findings import CaseInfo, Distribution, Results
from lab.study.fit import distance
from lab.study.parameters import Experiment
from lab.study.report_page import Page, table

_ENOUGH_WAIT_S = 10.0
_XLABELS = {
    "workload.cems": "CEMs that take part",
    "workload.message_octets": "size of the message as the application gave it, octets",
    "network.loss": "probability that the SM WAN loses a message",
    "route.fragments_in_flight": "fragments in flight at once",
    "route.carrier_down_chars": "what one command carries, characters",
    "workload.spread_s": "time over which the CEMs begin, seconds",
}
_NAMES = {
    "workload.cems": "the number of CEMs",
    "workload.message_octets": "message size",
    "network.loss": "loss",
    "route.fragments_in_flight": "fragments in flight",
    "route.carrier_down_chars": "size of a command",
    "workload.spread_s": "how suddenly all begin",
}
_WAYS = {"down": "to the CEM", "up": "to the DSRSP"}
_ENGINES = {
    "fleet": "fleet model",
    "virtual": "real software on virtual time",
    "live": "real processes",
}


def write_report(folder: Path) -> Path:
    """Draw the figures of results and write the page; returns its path.

    Args:
        folder: of the results.

    Raises:
        StudyResultError: it holds none.
    """
    results = Results(folder)
    report = _Report(results, folder / "figures")
    page = report.build()
    path = folder / "report.html"
    path.write_text(page.html(), encoding="utf-8")
    findings = json.dumps(report.findings, indent=1, sort_keys=True) + "\n"
    (folder / "findings.json").write_text(findings, encoding="utf-8")
    return path


class _Report:
    def __init__(self, results: Results, folder: Path) -> None:
        self._results = results
        self._folder = folder
        study = results.study
        self._page = Page(study.title or f"Latency study: {study.name}", study.question)
        self.findings: list[dict[str, Any]] = []

    def build(self) -> Page:
        """Put the page together."""
        results, page = self._results, self._page
        page.section("What the times stand on")
        page.add(
            "<p>No measured times of the real network are public. A time below is no better than "
            "what it is made from.</p>"
        )
        page.add(assumptions_of(results.study))
        page.section("Which route meets which deadline")
        page.add(self._deadlines())
        for experiment in results.study.experiments:
            if results.groups(experiment.name):
                self._experiment(experiment)
        page.section("What it costs")
        page.add(self._costs())
        page.section("How this was made")
        page.add(self._manifest())
        return page

    # Tables

    def _deadlines(self) -> str:
        study = self._results.study
        head = ["route", "workload", "way", "CEMs", "by", "messages", "arrived"]
        head += [f"within {seconds_text(one)}" for one in study.deadlines_s]
        head += [f"{one:g} % after" for one in study.percentiles]
        rows = []
        for infos in self._results.groups().values():
            if infos[0].varied:
                continue
            for way in self._results.directions(infos):
                one = self._results.distribution(infos, way)
                rows.append(self._deadline_row(one))
        if not rows:
            return "<p>All cases of this study vary something: see the figures.</p>"
        note = (
            f"<p class=note>Intervals at {study.confidence:.0%} confidence: of probabilities "
            "Wilson's, of times by a bootstrap over CEMs. They say how sure the simulation is, not "
            "how sure its assumptions are.</p>"
        )
        return table(head, rows) + note

    def _deadline_row(self, one: Distribution) -> list[str]:
        study, info = self._results.study, one.info
        row = [
            f"<b>{html.escape(info.route)}</b>",
            html.escape(info.workload),
            _WAYS[one.direction],
            f"{info.cems:,}",
            _ENGINES[info.engine],
            f"{one.messages:,.0f}",
            f"{one.delivered / one.messages:.2%}" if one.messages else "-",
        ]
        finding: dict[str, Any] = {
            "experiment": info.experiment,
            "engine": info.engine,
            "route": info.route,
            "workload": info.workload,
            "network": info.network,
            "direction": one.direction,
            "cems": info.cems,
            "messages": one.messages,
            "delivered": one.delivered,
            "deadlines": {},
            "percentiles": {},
        }
        for deadline in study.deadlines_s:
            found = one.probability(deadline, study.confidence)
            row.append(_share_cell(found.value, found.low, found.high))
            finding["deadlines"][f"{deadline:g}"] = _rounded(found.value, found.low, found.high)
        for per_cent in study.percentiles:
            found = one.percentiles[per_cent]
            interval = ""
            if math.isfinite(found.low) and math.isfinite(found.high):
                interval = (
                    f"<br><small>{seconds_text(found.low)} to {seconds_text(found.high)}</small>"
                )
            row.append(seconds_text(found.value) + interval)
            finding["percentiles"][f"{per_cent:g}"] = _rounded(found.value, found.low, found.high)
        self.findings.append(finding)
        return row

    def _costs(self) -> str:
        names = {
            "fragments": "fragments",
            "transmissions": "sent",
            "duis_requests": "DUIS requests",
            "sm_wan_octets": "octets on the SM WAN",
            "internet_octets": "octets over the internet",
            "signatures": "signatures",
            "quarantined": "quarantined",
            "alerts_discarded": "alerts discarded",
        }
        rows = []
        for infos in self._results.groups().values():
            messages = self._results.counter(infos, "messages")
            if infos[0].varied or not messages:
                continue
            row = [f"<b>{html.escape(infos[0].route)}</b>", html.escape(infos[0].workload)]
            row += [f"{infos[0].cems:,}", _ENGINES[infos[0].engine]]
            for name in names:
                value = self._results.counter(infos, name) / messages
                row.append(
                    f"{value:,.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip(".")
                )
            span = max(self._results.counter([info], "makespan_s") for info in infos)
            rows.append([*row, seconds_text(span)])
        head = ["route", "workload", "CEMs", "by", *names.values(), "all done after"]
        return "<p>Means for one message.</p>" + table(head, rows)

    def _manifest(self) -> str:
        manifest = self._results.manifest
        machine = manifest["machine"]
        packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
        rows = [
            ["study", html.escape(self._results.study.name)],
            ["configuration, SHA-256", f"<code>{manifest['configuration_sha256']}</code>"],
            ["seed", str(self._results.study.seed)],
            ["cases", str(manifest["cases"])],
            ["took", seconds_text(manifest["seconds"]) if "seconds" in manifest else "-"],
            ["machine", html.escape(_machine_text(machine))],
            ["versions", html.escape(packages)],
            ["data", _DATA],
        ]
        return table(["", ""], rows)

    # Figures

    def _experiment(self, experiment: Experiment) -> None:
        self._page.section(experiment.title or experiment.name)
        groups = self._results.groups(experiment.name)
        if experiment.vary:
            self._varied(experiment)
        else:
            self._compared(experiment)
        if len({infos[0].engine for infos in groups.values()}) > 1:
            self._engines(experiment)
        self._loads(experiment)

    def _figure(self, figure: Any, name: str, caption: str) -> None:
        path = figures.save(figure, self._folder, _file_name(name))
        self._page.figure(path, caption)

    def _compared(self, experiment: Experiment) -> None:
        """Curves by route for each engine, workload, network and way; and where the time goes."""
        sets: dict[tuple[str, str, str], list[list[CaseInfo]]] = {}
        for infos in self._results.groups(experiment.name).values():
            info = infos[0]
            sets.setdefault((info.engine, info.workload, info.network), []).append(infos)
        for (engine, workload, network), groups in sets.items():
            ways = sorted({way for infos in groups for way in self._results.directions(infos)})
            where = f"{groups[0][0].cems:,} CEMs, {_ENGINES[engine]}"
            for way in ways:
                name = f"{experiment.name} {engine} {workload} {network} {way}"
                found = [self._results.distribution(infos, way) for infos in groups]
                title = f"{workload}, {_WAYS[way]}: who has it when ({where})"
                deadlines = self._results.study.deadlines_s
                self._figure(figures.cdf(found, title, deadlines), f"cdf {name}", _CDF_CAPTION)
                rows = {
                    infos[0].route: hops for infos in groups if (hops := self._hops(infos, way))
                }
                if rows:
                    title = f"{workload}, {_WAYS[way]}: where the time goes ({where})"
                    self._figure(figures.hops(rows, title), f"hops {name}", _HOPS_CAPTION)

    def _hops(self, infos: list[CaseInfo], way: str) -> dict[str, float]:
        sums = dict.fromkeys(figures.HOPS, 0.0)
        total = 0.0
        for info in infos:
            messages = self._results.rows_of("messages", info.case)
            fragments = self._results.rows_of("fragments", info.case)
            wanted = np.asarray(messages["direction"].to_pylist()) == way
            numbers = messages["message"].to_numpy()[wanted]
            chosen = np.isin(fragments["message"].to_numpy(), numbers)
            chosen &= np.asarray(fragments["completes"].to_pylist(), dtype=bool)
            weights = fragments["weight"].to_numpy()[chosen]
            total += float(weights.sum())
            for hop in sums:
                sums[hop] += float((fragments[hop].to_numpy()[chosen] * weights).sum())
        return {hop: value / total for hop, value in sums.items()} if total else {}

    def _varied(self, experiment: Experiment) -> None:
        for path in experiment.vary:
            others = [other for other in experiment.vary if other != path]
            series: dict[tuple[str, str], dict[str, list[tuple[float, float, float, float]]]] = {}
            for infos in self._results.groups(experiment.name).values():
                info = infos[0]
                value = info.value_of(path)
                if value is None:
                    continue
                for way in self._results.directions(infos):
                    one = self._results.distribution(infos, way)
                    name = ", ".join([info.route, *(_value_of(info, other) for other in others)])
                    if info.engine != "fleet":
                        name += f" ({info.engine})"
                    key = (f"{info.workload}, {_WAYS[way]}", info.network)
                    point = (value, one.percentiles_at(50), one.percentiles_at(95), 0.0)
                    series.setdefault(key, {}).setdefault(name, []).append(point)
            label = _XLABELS.get(path, path)
            for (what, network), lines in series.items():
                values = [point[0] for points in lines.values() for point in points]
                figure = figures.against(
                    lines,
                    f"{what}: latency against {_NAMES.get(path, path)}",
                    label,
                    logarithmic=min(values) > 0 and max(values) / min(values) > 20,
                    deadlines_s=self._results.study.deadlines_s,
                )
                name = f"{experiment.name} {path} {what} {network}"
                self._figure(figure, name, _AGAINST_CAPTION)

    def _engines(self, experiment: Experiment) -> None:
        """Put the engines' latencies side by side."""
        sets: dict[tuple[str, ...], list[list[CaseInfo]]] = {}
        for infos in self._results.groups(experiment.name).values():
            info = infos[0]
            key = (info.route, info.workload, info.network, info.varied)
            sets.setdefault(key, []).append(infos)
        share = np.linspace(0.02, 0.98, 49)
        pairs: dict[tuple[str, str], list[Any]] = {}
        for (route, workload, _, varied), groups in sets.items():
            first = groups[0]
            for other in groups[1:]:
                for way in self._results.directions(first):
                    one = self._results.latencies(first, way)
                    two = self._results.latencies(other, way)
                    one, two = one[np.isfinite(one)], two[np.isfinite(two)]
                    if len(one) < 2 or len(two) < 2:
                        continue
                    name = f"{route}, {workload}, {way} {varied}".strip()
                    gap = distance(one, two)
                    quantiles = (np.quantile(one, share), np.quantile(two, share))
                    engines = (first[0].engine, other[0].engine)
                    pairs.setdefault(engines, []).append((name, *quantiles, gap))
                    self.findings.append(
                        {
                            "experiment": experiment.name,
                            "engines": list(engines),
                            "what": name,
                            "ks_distance": round(gap, 4),
                        }
                    )
        for (one_name, two_name), found in pairs.items():
            title = "Do the engines agree? Quantiles side by side"
            figure = figures.quantiles(found, title, one_name, two_name)
            name = f"{experiment.name} {one_name} {two_name} quantiles"
            self._figure(figure, name, _QUANTILES_CAPTION)

    def _loads(self, experiment: Experiment) -> None:
        """Draw waits at shared capacities: against the number of CEMs, or over time."""
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for infos in self._results.groups(experiment.name).values():
            info = infos[0]
            rows = self._results.rows_of("loads", info.case)
            delays = rows["delay_s"].to_numpy()
            names = np.asarray(rows["stage"].to_pylist())
            for stage in dict.fromkeys(names.tolist()):
                longest = float(delays[names == stage].max(initial=0.0))
                lines = found.setdefault(f"{info.route}, {info.workload}", {})
                lines.setdefault(stage, []).append((float(info.cems), longest))
        if "workload.cems" not in experiment.vary:
            return
        rows = []
        for what, lines in found.items():
            waiting = {
                stage: points
                for stage, points in lines.items()
                if max(delay for _, delay in points) >= 1.0
            }
            for stage, points in waiting.items():
                rows.append([html.escape(what), html.escape(stage), _limit(points)])
            if waiting:
                title = f"{what}: the longest wait for what all share"
                figure = figures.stages(waiting, title, _XLABELS["workload.cems"])
                self._figure(figure, f"{experiment.name} {what} capacity", _STAGES_CAPTION)
        if rows:
            wait = f"CEMs with which the wait passes {_ENOUGH_WAIT_S:g} s"
            self._page.add(table(["route, workload", "shared", wait], rows))


def _machine_text(machine: dict[str, Any]) -> str:
    return (
        f"{machine['processors']} processors, {machine['system']} {machine['machine']}, "
        f"Python {machine['python']}"
    )


def _limit(points: list[tuple[float, float]]) -> str:
    """Return with how many CEMs the wait becomes too long."""
    ordered = sorted(points)
    before: tuple[float, float] | None = None
    for cems, wait in ordered:
        if wait > _ENOUGH_WAIT_S:
            if before is None:
                return f"fewer than {cems:,.0f}"
            share = (_ENOUGH_WAIT_S - before[1]) / (wait - before[1])
            return f"about {float(f'{before[0] + share * (cems - before[0]):.2g}'):,.0f}"
        before = (cems, wait)
    return f"more than {ordered[-1][0]:,.0f}"


def _value_of(info: CaseInfo, path: str) -> str:
    for part in info.varied.split(", "):
        name, _, value = part.partition("=")
        if name == path:
            return f"{path.partition('.')[2]} {value}"
    return ""


def _share_cell(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "-"
    strength = round(value * 10) / 10
    return (
        f"<span class=share style='--share:{strength:g}'>{value:.1%}</span>"
        f"<br><small>{low:.1%} to {high:.1%}</small>"
    )


def _rounded(*values: float) -> list[float | None]:
    return [round(value, 6) if math.isfinite(value) else None for value in values]


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


_DATA = (
    "messages, fragments, counters, histograms, loads, cases: .parquet and .csv beside this page, "
    "explained in data-dictionary.md; every number of the first table also in findings.json"
)
_CDF_CAPTION = (
    "Which share of all messages has arrived after how long. A curve that ends below 100 % has "
    "messages that never arrived. Dashed: deadlines."
)
_HOPS_CAPTION = (
    "Mean parts of the time of the fragment whose arrival made the message whole, from the "
    "message's hand-over on."
)
_AGAINST_CAPTION = (
    "Line: half of the messages are quicker. Shade: up to the time within which 95 % arrive."
)
_QUANTILES_CAPTION = (
    "Each point is the same quantile (2 to 98 %) of both. On the diagonal both engines say the "
    "same. KS distance: the largest difference between the two distribution functions."
)
_STAGES_CAPTION = (
    "The longest wait in line for what all CEMs share: the DSRSP's commands in flight, the DCC's "
    "requests, a region's SM WAN. Where a line leaves zero, the capacity is reached."
)
