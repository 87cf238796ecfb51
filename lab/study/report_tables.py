"""The tables of the report, as HTML; and the numbers in them, for machines."""

from __future__ import annotations

import html
import math
from typing import Any

import msgspec

from lab.study.figure_style import seconds_text
from lab.study.findings import CaseInfo, Distribution, Results
from lab.study.parameters import Route, Study
from lab.study.report_page import table

WAYS = {"down": "to the CEM", "up": "to the DSRSP"}
ENGINES = {
    "fleet": "fleet model",
    "virtual": "real software on virtual time",
    "live": "real processes",
}
_REPETITIONS = (
    "They are as wide as repetitions are apart, at least. CEMs of one share its queues and "
    "outages: a study with one repetition cannot tell how far another would be."
)
_BADGES = {"fleet": "modelled", "virtual": "software", "live": "measured"}
_COSTS = {
    "fragments": "fragments",
    "transmissions": "sent",
    "duis_requests": "DUIS requests",
    "sm_wan_octets": "octets on the SM WAN",
    "internet_octets": "octets over the internet",
    "signatures": "signatures",
    "quarantined": "quarantined",
    "alerts_discarded": "alerts discarded",
}


def plain_groups(results: Results) -> list[list[CaseInfo]]:
    """Return the cases, with their repetitions, of all experiments that vary nothing."""
    plain = {one.name for one in results.study.experiments if not one.vary}
    return [infos for infos in results.groups().values() if infos[0].experiment in plain]


def deadlines(results: Results, findings: list[dict[str, Any]]) -> str:
    """Return which route meets which deadline, and after how long messages arrive.

    Args:
        results: of the study.
        findings: gets the numbers.
    """
    study = results.study
    head = ["route", "message", "by", "messages", "arrived"]
    shares, times = [], []
    for infos in plain_groups(results):
        for way in results.directions(infos):
            one = results.distribution(infos, way)
            findings.append(_finding(study, one))
            shares.append(_who(one) + _shares(study, one))
            times.append(_who(one)[:3] + _times(study, one))
    if not shares:
        return "<p>All cases of this study vary something: see the figures.</p>"
    by_deadline = [f"within {seconds_text(one)}" for one in study.deadlines_s]
    by_share = [f"{one:g} % after" for one in study.percentiles]
    return (
        table([*head, *by_deadline], shares)
        + f"<p class=note>Intervals at {study.confidence:.0%} confidence, Wilson's, with as many "
        f"messages as depend on no other. {_REPETITIONS} They say how "
        "sure the simulation is, not how sure its assumptions are. Modelled: by the fleet model; "
        "software: the real gateways on virtual time; measured: real processes, real time.</p>"
        "<h3>After how long</h3>"
        + table([*head[:3], *by_share], times)
        + f"<p class=note>Intervals at {study.confidence:.0%} confidence: by a bootstrap over CEMs "
        "where every message has its row; by order statistics where the fleet model counts more "
        f"than it writes down. {_REPETITIONS}</p>"
    )


def _who(one: Distribution) -> list[str]:
    info = one.info
    return [
        f"<b>{html.escape(info.route)}</b>",
        f"{html.escape(info.workload)} {WAYS[one.direction]}<br>"
        f"<small>{info.cems:,} CEMs, {html.escape(info.network)}</small>",
        badge(info.engine),
        f"{one.messages:,.0f}",
        _percent(one.delivered / one.messages) if one.messages else "-",
    ]


def badge(engine: str) -> str:
    """Return the mark that tells what was modelled from what was measured."""
    return f"<span class='standing {_BADGES[engine]}'>{_BADGES[engine]}</span>"


def _shares(study: Study, one: Distribution) -> list[str]:
    cells = []
    for deadline in study.deadlines_s:
        found = one.probability(deadline, study.confidence)
        if math.isnan(found.value):
            cells.append("-")
            continue
        strength = round(found.value * 10) / 10
        cells.append(
            f"<span class=share style='--share:{strength:g}'>{_percent(found.value)}</span>"
            f"<br><small>{_percent(found.low)} to {_percent(found.high)}</small>"
        )
    return cells


def _times(study: Study, one: Distribution) -> list[str]:
    cells = []
    for per_cent in study.percentiles:
        found = one.percentiles[per_cent]
        interval = ""
        if math.isfinite(found.low) and math.isfinite(found.high):
            interval = f"<br><small>{seconds_text(found.low)} to {seconds_text(found.high)}</small>"
        cells.append(seconds_text(found.value) + interval)
    return cells


def _percent(share: float) -> str:
    # Never round what sometimes fails to certainty, or what sometimes succeeds to never.
    if 0.9995 <= share < 1:
        return "&gt;99.9 %"
    if 0 < share < 0.0005:
        return "&lt;0.1 %"
    return f"{100 * share:.1f} %" if share not in (0.0, 1.0) else f"{100 * share:.0f} %"


def _finding(study: Study, one: Distribution) -> dict[str, Any]:
    info = one.info
    probabilities = {
        f"{deadline:g}": one.probability(deadline, study.confidence)
        for deadline in study.deadlines_s
    }
    times = {f"{per_cent:g}": one.percentiles[per_cent] for per_cent in study.percentiles}
    return {
        "experiment": info.experiment,
        "engine": info.engine,
        "route": info.route,
        "workload": info.workload,
        "network": info.network,
        "direction": one.direction,
        "cems": info.cems,
        "messages": one.messages,
        "delivered": one.delivered,
        "deadlines": {key: rounded(a.value, a.low, a.high) for key, a in probabilities.items()},
        "percentiles": {key: rounded(a.value, a.low, a.high) for key, a in times.items()},
    }


def rounded(*values: float) -> list[float | None]:
    """Return numbers as JSON can have them: what is not finite is null."""
    return [round(value, 6) if math.isfinite(value) else None for value in values]


def changes(results: Results, findings: list[dict[str, Any]]) -> str:
    """Return what every other route gains against the first of kind 2a, as a table.

    Args:
        results: of the study.
        findings: gets the numbers.
    """
    study = results.study
    base_route = next((route for route in study.routes if route.kind == "2a"), None)
    if base_route is None:
        return ""
    known = {infos[0].key: infos for infos in plain_groups(results)}
    rows = []
    for infos in known.values():
        info = infos[0]
        key = (info.experiment, info.engine, base_route.name, *info.key[3:])
        base_infos = known.get(key)
        route = next(one for one in study.routes if one.name == info.route)
        if base_infos is None or info.route == base_route.name or info.engine != "fleet":
            continue
        for way in results.directions(infos):
            base, one = results.distribution(base_infos, way), results.distribution(infos, way)
            requests = [
                results.counter(group, "duis_requests") / results.counter(group, "messages")
                for group in (base_infos, infos)
            ]
            rows.append(_change_row(study, base_route, route, base, one, requests))
            findings.append(
                {
                    "change": _difference(base_route, route),
                    "route": route.name,
                    "workload": info.workload,
                    "network": info.network,
                    "direction": way,
                    "median_s": rounded(base.percentiles_at(50), one.percentiles_at(50)),
                    "p95_s": rounded(base.percentiles_at(95), one.percentiles_at(95)),
                    "duis_requests_per_message": rounded(*requests),
                }
            )
    if not rows:
        return ""
    head = ["change", "message", "half after", "95 % after"]
    head += [f"within {seconds_text(one)}" for one in study.deadlines_s]
    head += ["DUIS requests a message"]
    note = (
        f"<p>Each value: with route <b>{html.escape(base_route.name)}</b> &rarr; with the change, "
        "everything else as it was; fleet model.</p>"
    )
    return note + table(head, rows)


def _change_row(
    study: Study,
    base_route: Route,
    route: Route,
    base: Distribution,
    one: Distribution,
    requests: list[float],
) -> list[str]:
    row = [
        f"<b>{html.escape(route.name)}</b><br><small class=wrap>"
        f"{html.escape(_difference(base_route, route))}</small>",
        f"{html.escape(one.info.workload)} {WAYS[one.direction]}<br>"
        f"<small>{html.escape(one.info.network)}</small>",
    ]
    for per_cent in (50.0, 95.0):
        times = (base.percentiles_at(per_cent), one.percentiles_at(per_cent))
        row.append(" &rarr; ".join(map(seconds_text, times)))
    for deadline in study.deadlines_s:
        met = [each.probability(deadline, study.confidence).value for each in (base, one)]
        row.append(" &rarr; ".join(map(_percent, met)))
    return [*row, " &rarr; ".join(f"{value:.2f}" for value in requests)]


def _difference(base: Route, route: Route) -> str:
    if base.kind != route.kind:
        other = {"2b": "over the internet, signed as GBCS", "stream1": "OpenADR over HTTPS alone"}
        return other.get(route.kind, route.kind)
    before, after = msgspec.to_builtins(base), msgspec.to_builtins(route)
    return "; ".join(
        f"{name.replace('_', ' ')} {_word(after[name])}, not {_word(before[name])}"
        for name in before
        if name != "name" and before[name] != after[name]
    )


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "without limit" if value is None else f"{value:,}"


def costs(results: Results) -> str:
    """Return what a message costs on each route, as a table."""
    rows = []
    for infos in plain_groups(results):
        messages = results.counter(infos, "messages")
        if not messages:
            continue
        info = infos[0]
        row = [
            f"<b>{html.escape(info.route)}</b>",
            f"{html.escape(info.workload)}<br><small>{info.cems:,} CEMs</small>",
            badge(info.engine),
        ]
        for name in _COSTS:
            value = results.counter(infos, name) / messages
            row.append(f"{value:,.0f}" if value >= 100 else f"{value:.2f}".rstrip("0").rstrip("."))
        span = max(results.counter([one], "makespan_s") for one in infos)
        rows.append([*row, seconds_text(span)])
    head = ["route", "workload", "by", *_COSTS.values(), "all done after"]
    return "<p>Means for one message.</p>" + table(head, rows)


def manifest(results: Results) -> str:
    """Return how the results were made, as a table."""
    told = results.manifest
    machine = told["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    machine_text = (
        f"{machine['processors']} processors, {machine['system']} {machine['machine']}, "
        f"Python {machine['python']}"
    )
    rows = [
        ["study", html.escape(results.study.name)],
        ["configuration, SHA-256", f"<code>{told['configuration_sha256']}</code>"],
        ["results, SHA-256", f"<code>{told.get('results_sha256', '-')}</code>"],
        ["seed", str(results.study.seed)],
        ["cases", str(told["cases"])],
        ["took", seconds_text(told["seconds"]) if "seconds" in told else "-"],
        ["machine", html.escape(machine_text)],
        ["versions", html.escape(packages)],
        ["data", _DATA],
    ]
    return table(["", ""], rows)


_DATA = (
    "messages, fragments, counters, histograms, loads, cases: .parquet and .csv beside this page, "
    "explained in data-dictionary.md; every number of the first tables also in findings.json"
)
