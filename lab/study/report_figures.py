"""The figures of one experiment, put on the report's page."""

from __future__ import annotations

import html
import math
import re
import textwrap
from pathlib import Path
from typing import Any

import numpy as np

from lab.study import figures
from lab.study.agreement import Agreement, agreements
from lab.study.capacity import ENOUGH_WAIT_S, limit_of
from lab.study.figure_style import save
from lab.study.figures import Pair, Point, Swing
from lab.study.findings import CaseInfo, Results
from lab.study.fit import fit_fragments
from lab.study.parameters import Experiment
from lab.study.report_page import Page, table
from lab.study.report_tables import ENGINES, WAYS

_XLABELS = {
    "workload.cems": "CEMs that take part",
    "workload.message_octets": "size of the message as the application gave it, octets",
    "workload.alerts_per_cem": "reports that each CEM sends at once",
    "workload.spread_s": "time over which the CEMs begin, seconds",
    "network.loss": "probability that the SM WAN loses a message",
    "network.latency_scale": "times as long as assumed on the SM WAN",
    "network.capacity.dcc_requests_per_s": "DUIS requests that the DCC takes in a second",
    "network.internet.offline_share": "share of homes whose internet is down",
    "route.fragments_in_flight": "fragments in flight at once",
    "route.carrier_down_chars": "what one command carries, characters",
}
_NAMES = {
    "workload.cems": "the number of CEMs",
    "workload.message_octets": "message size",
    "workload.alerts_per_cem": "reports at once",
    "workload.spread_s": "how suddenly all begin",
    "network.loss": "loss on the SM WAN",
    "network.latency_scale": "latency of the SM WAN",
    "network.capacity.dcc_requests_per_s": "requests a second of the DCC",
    "network.capacity.region_octets_per_s_down": "region's octets a second down",
    "network.capacity.region_octets_per_s_up": "region's octets a second up",
    "network.internet.offline_share": "homes without internet",
    "network.internet.loss_probability": "packet loss of the internet",
    "network.internet.retransmission_s": "retransmission on the internet",
    "network.internet.server_s": "time of the DSRSP's server",
    "route.fragments_in_flight": "fragments in flight",
    "route.carrier_down_chars": "size of a command",
}
_TITLE_CHARS = 44
_SHARES = np.linspace(0.02, 0.98, 49)
_SWING_PER_CENT = 95.0


class ExperimentFigures:
    """Draws what one experiment gave.

    Args:
        results: of the study.
        experiment: which.
        page: gets the figures.
        folder: for their files.
        findings: gets numbers that only stand in figures.
    """

    def __init__(
        self,
        results: Results,
        experiment: Experiment,
        page: Page,
        folder: Path,
        findings: list[dict[str, Any]],
    ) -> None:
        self._results = results
        self._experiment = experiment
        self._page = page
        self._folder = folder
        self._findings = findings
        self._groups = results.groups(experiment.name)

    def draw(self) -> None:
        """Draw all figures that make sense of it."""
        if self._experiment.one_at_a_time:
            self._swings()
            return
        if self._experiment.vary:
            self._varied()
        else:
            self._compared()
        if len({infos[0].engine for infos in self._groups.values()}) > 1:
            self._engines()
            self._fits()
        self._waits()
        self._backlog()

    def _figure(self, figure: Any, name: str, caption: str) -> None:
        path = save(figure, self._folder, _file_name(f"{self._experiment.name} {name}"))
        self._page.figure(path, caption)

    def _compared(self) -> None:
        """Curves by route for each engine, workload, network and way; and where the time goes."""
        sets: dict[tuple[str, str, str], list[list[CaseInfo]]] = {}
        for infos in self._groups.values():
            info = infos[0]
            sets.setdefault((info.engine, info.workload, info.network), []).append(infos)
        for (engine, workload, network), groups in sets.items():
            ways = sorted({way for infos in groups for way in self._results.directions(infos)})
            for way in ways:
                name = f"{engine} {workload} {network} {way}"
                found = [self._results.distribution(infos, way) for infos in groups]
                messages = sorted({round(one.messages) for one in found if one.messages})
                count = f"n = {messages[0]:,}" if messages else "n = 0"
                if len(messages) > 1:
                    count = f"n = {messages[0]:,} to {messages[-1]:,}"
                where = f"{groups[0][0].cems:,} CEMs, {count}, {ENGINES[engine]}"
                title = f"{workload} {WAYS[way]}: who has it when\n{where}"
                deadlines = self._results.study.deadlines_s
                self._figure(figures.cdf(found, title, deadlines), f"cdf {name}", _CDF_CAPTION)
                rows = {
                    infos[0].route: hops for infos in groups if (hops := self._hops(infos, way))
                }
                if rows:
                    title = f"{workload} {WAYS[way]}: where the time goes\n{where}"
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

    def _varied(self) -> None:
        vary = self._experiment.vary
        for path in vary:
            others = [other for other in vary if other != path]
            series: dict[tuple[str, str], dict[str, list[Point]]] = {}
            for infos in self._groups.values():
                info = infos[0]
                value = info.value_of(path)
                if value is None:
                    continue
                for way in self._results.directions(infos):
                    name = ", ".join([info.route, *(_value_of(info, other) for other in others)])
                    if info.engine != "fleet":
                        name += f" ({info.engine})"
                    point = self._point(infos, way, value)
                    place = (f"{info.workload} {WAYS[way]}", info.network)
                    series.setdefault(place, {}).setdefault(name, []).append(point)
            for (what, network), lines in series.items():
                values = [point.value for points in lines.values() for point in points]
                figure = figures.against(
                    lines,
                    f"{what}: latency against {_name_of(path)}",
                    _XLABELS.get(path, path),
                    logarithmic=min(values) > 0 and max(values) / min(values) > 20,
                    deadlines_s=self._results.study.deadlines_s,
                )
                self._figure(figure, f"{path} {what} {network}", _AGAINST_CAPTION)

    def _point(self, infos: list[CaseInfo], way: str, value: float) -> Point:
        one = self._results.distribution(infos, way)
        median = one.percentiles.get(50.0)
        low, high = (math.nan, math.nan) if median is None else (median.low, median.high)
        middle = one.percentiles_at(50) if median is None else median.value
        info = infos[0]
        self._findings.append(
            {
                "experiment": info.experiment,
                "engine": info.engine,
                "route": info.route,
                "workload": info.workload,
                "varied": info.varied,
                "direction": way,
                "messages": one.messages,
                "delivered": one.delivered,
                "median_s": _finite(middle),
                "p95_s": _finite(one.percentiles_at(95)),
            }
        )
        return Point(value, middle, low, high, one.percentiles_at(95))

    def _swings(self) -> None:
        """Draw what each assumption, changed alone, does to the 95th percentile."""
        sets: dict[tuple[str, str, str, str], dict[str, list[CaseInfo]]] = {}
        for infos in self._groups.values():
            info = infos[0]
            for way in self._results.directions(infos):
                key = (info.route, info.workload, info.network, way)
                sets.setdefault(key, {})[info.varied] = infos
        for (route, workload, network, way), cases in sets.items():

            def time_s(varied: str, of: dict[str, list[CaseInfo]] = cases, at: str = way) -> float:
                return self._results.distribution(of[varied], at).percentiles_at(_SWING_PER_CENT)

            found = []
            for path, values in self._experiment.vary.items():
                ends = [time_s(f"{path}={value}") for value in (values[0], values[-1])]
                if all(map(math.isfinite, ends)):
                    texts = (f"{values[0]:g}", f"{values[-1]:g}")
                    found.append(Swing(_name_of(path), texts, (ends[0], ends[1])))
                self._findings.append(
                    {
                        "experiment": self._experiment.name,
                        "route": route,
                        "workload": workload,
                        "direction": way,
                        "assumption": path,
                        "values": [values[0], values[-1]],
                        "p95_s": [_finite(end) for end in ends],
                        "p95_as_assumed_s": _finite(time_s("")),
                    }
                )
            if found and math.isfinite(time_s("")):
                title = f"{route}, {workload} {WAYS[way]}: which assumption matters?"
                label = f"time within which {_SWING_PER_CENT:g} % arrive"
                figure = figures.swings(found, time_s(""), title, label)
                self._figure(figure, f"swings {route} {workload} {network} {way}", _SWINGS_CAPTION)

    def _engines(self) -> None:
        """Put the engines' latencies side by side."""
        pairs: dict[tuple[str, str], list[Pair]] = {}
        for agreement in agreements(self._results, self._experiment.name):
            pairs.setdefault(agreement.engines, []).append(self._pair(agreement))
        for (one, two), found in pairs.items():
            title = "Do the engines agree? Quantiles side by side"
            figure = figures.quantiles(found, title, ENGINES[one], ENGINES[two])
            self._figure(figure, f"{one} {two} quantiles", _QUANTILES_CAPTION)

    def _pair(self, found: Agreement) -> Pair:
        self._findings.append(
            {
                "experiment": found.experiment,
                "engines": list(found.engines),
                "what": found.what,
                "values": list(found.counts),
                "pairs": found.pairs,
                "ks_distance": round(found.distance, 4),
                "ks_limit_5_per_cent": _finite(found.limit),
                "ks_chance": _finite(found.chance),
                "shift_seen_s": _finite(found.seen_s),
                "medians_s": [round(median, 4) for median in found.medians_s],
            }
        )
        one, two = found.values
        return Pair(
            textwrap.fill(found.what, _TITLE_CHARS),
            np.quantile(one, _SHARES),
            np.quantile(two, _SHARES),
            found.counts,
            found.distance,
            found.limit,
        )

    def _fits(self) -> None:
        """Draw the fleet's distributions fitted to the first software case of route 2a."""
        for infos in self._groups.values():
            info = infos[0]
            if info.engine == "fleet" or info.route_kind != "2a":
                continue
            rows = [self._results.rows_of(name, info.case) for name in ("fragments", "messages")]
            found = fit_fragments(*rows)
            if found:
                title = f"Times fitted to {ENGINES[info.engine]}: {info.route}, {info.workload}"
                self._figure(figures.fits(found, title), f"{info.engine} fits", _FITS_CAPTION)
            return

    def _waits(self) -> None:
        """Draw the longest waits at shared capacities against the number of CEMs."""
        if "workload.cems" not in self._experiment.vary:
            return
        found: dict[str, dict[str, list[tuple[float, float]]]] = {}
        for infos in self._groups.values():
            info = infos[0]
            for stage, (_, delays) in self._loads(info).items():
                lines = found.setdefault(f"{info.route}, {info.workload}", {})
                points = lines.setdefault(stage, [])
                points.append((float(info.cems), float(delays.max(initial=0.0))))
        rows = []
        for what, lines in found.items():
            waiting = {
                stage: points
                for stage, points in lines.items()
                if max(delay for _, delay in points) >= 1.0
            }
            for stage, points in waiting.items():
                rows.append([html.escape(what), html.escape(stage), limit_of(points)])
            if waiting:
                title = f"{what}: the longest wait for what all share"
                figure = figures.stages(waiting, title, _XLABELS["workload.cems"])
                self._figure(figure, f"{what} capacity", _STAGES_CAPTION)
        if rows:
            wait = f"CEMs with which the wait passes {ENOUGH_WAIT_S:g} s"
            self._page.add(table(["route, workload", "shared", wait], rows))

    def _backlog(self) -> None:
        """Draw waits over time, of each route's case with the most CEMs."""
        largest: dict[tuple[str, str, str], CaseInfo] = {}
        for infos in self._groups.values():
            info = infos[0]
            key = (info.route, info.workload, info.network)
            if key not in largest or largest[key].cems < info.cems:
                largest[key] = info
        for (route, workload, network), info in largest.items():
            waiting = {
                stage: load
                for stage, load in self._loads(info).items()
                if load[1].max(initial=0.0) >= ENOUGH_WAIT_S
            }
            if waiting:
                title = f"{route}, {workload}: who comes when waits how long\n{info.cems:,} CEMs"
                figure = figures.backlog(waiting, title)
                self._figure(figure, f"{route} {workload} {network} backlog", _BACKLOG_CAPTION)

    def _loads(self, info: CaseInfo) -> dict[str, tuple[Any, Any]]:
        rows = self._results.rows_of("loads", info.case)
        names = np.asarray(rows["stage"].to_pylist())
        times, delays = rows["time_s"].to_numpy(), rows["delay_s"].to_numpy()
        return {
            stage: (times[names == stage], delays[names == stage])
            for stage in dict.fromkeys(names.tolist())
        }


def _value_of(info: CaseInfo, path: str) -> str:
    for part in info.varied.split(", "):
        name, _, value = part.partition("=")
        if name == path:
            return f"{_name_of(path)} {value}"
    return ""


def _name_of(path: str) -> str:
    return _NAMES.get(path, path.rpartition(".")[2].replace("_", " "))


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None


def _file_name(name: str) -> str:
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")


_CDF_CAPTION = (
    "Which share of all messages has arrived after how long. A curve that ends below 100 % has "
    "messages that never arrived. Dashed verticals: deadlines."
)
_HOPS_CAPTION = (
    "Mean parts of the time of the fragment whose arrival made the message whole, from the "
    "message's hand-over on. A mean counts the few that come very late; medians stand above."
)
_AGAINST_CAPTION = (
    "Line: half of the messages are quicker; bars: the median's interval. Shade: up to the time "
    "within which 95 % arrive. Dashed: deadlines."
)
_QUANTILES_CAPTION = (
    "Each point is the same quantile (2 to 98 %) of both. On the diagonal both engines say the "
    "same. KS: the largest difference between the two distribution functions. Chance passes the "
    "5 % value once in twenty, by exchanging what the engines made of each CEM in each repetition; "
    "with fewer than six of these there is none."
)
_FITS_CAPTION = (
    "Quantiles of each part of a fragment's way against those of the lognormal distribution that "
    "`smtunnel study fit` gives the fleet model for it. KS as above."
)
_STAGES_CAPTION = (
    "The longest wait in line for what all CEMs share: the DSRSP's commands in flight, the DCC's "
    "requests, a region's SM WAN. Where a line leaves zero, the capacity is reached."
)
_BACKLOG_CAPTION = (
    "What arrives at a shared capacity at this time waits so long. Only those with waits of "
    f"{ENOUGH_WAIT_S:g} s and more."
)
_SWINGS_CAPTION = (
    "Each assumption is changed alone to the values named, lower first (light), higher second "
    "(dark). A long bar is an assumption that the answer hangs on."
)
