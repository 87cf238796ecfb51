"""The figures of a study, drawn for paper and screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lab.study.figure_style import (
    COLOURS,
    GREY,
    STYLE,
    counts_axis,
    ink_on,
    mark_deadlines,
    names_at_end,
    new_figure,
    seconds_axis,
    seconds_text,
    set_title,
    style_of,
    unit_of,
)
from lab.study.findings import Distribution
from lab.study.fit import Fit
from lab.study.histogram import upper_bounds_s

HOPS = {
    "wait_s": ("waiting at the sender", "#999999"),
    "request_s": ("DUIS requests, signing", "#0072B2"),
    "dcc_s": ("inside the DCC", "#56B4E9"),
    "wan_s": ("SM WAN or internet", "#D55E00"),
    "queue_s": ("queue: hub or capacity", "#E69F00"),
    "transfer_s": ("transfer at the hub's rate", "#009E73"),
    "han_s": ("home area network", "#CC79A7"),
    "other_s": ("software, sockets", "#000000"),
}


@dataclass(frozen=True, slots=True)
class Point:
    """One point of a curve against a varied value; times in seconds.

    Attributes:
        value: what was varied.
        median: half of the messages are quicker.
        low: lower end of the median's interval; NaN: none is known.
        high: upper end of it.
        most: 95 % of the messages are quicker.
    """

    value: float
    median: float
    low: float
    high: float
    most: float


@dataclass(frozen=True, slots=True)
class Pair:
    """Quantiles of two samples, side by side.

    Attributes:
        name: what is compared.
        first: quantiles of the one, in seconds.
        second: of the other.
        counts: values of each sample.
        distance: Kolmogorov-Smirnov, 0 to 1.
        critical: the distance that equal distributions pass once in twenty.
    """

    name: str
    first: Any
    second: Any
    counts: tuple[int, ...]
    distance: float
    critical: float


@dataclass(frozen=True, slots=True)
class Swing:
    """What one assumption's change does to a time.

    Attributes:
        name: of the parameter.
        values: lowest and highest value, as text.
        times_s: the time with each.
    """

    name: str
    values: tuple[str, str]
    times_s: tuple[float, float]


def cdf(distributions: Sequence[Distribution], title: str, deadlines_s: Sequence[float]) -> Figure:
    """Draw which share of messages has arrived after how long, a curve for each route."""
    figure, axes = new_figure(7.9, 4.4)
    axes.set_xscale("log")
    bounds = upper_bounds_s()
    curves = []
    for place, one in enumerate(distributions):
        some = np.flatnonzero(one.counts)
        if not one.messages or not len(some):
            continue
        share = 100 * np.cumsum(one.counts) / one.messages
        first, last = max(some[0] - 1, 0), min(some[-1] + 1, len(bounds) - 1)
        axes.plot(bounds[first : last + 1], share[first : last + 1], **style_of(place))
        half = bounds[min(int(np.searchsorted(share, 50)), len(bounds) - 1)]
        curves.append((float(half), one, share))
    mark_deadlines(axes, deadlines_s)
    curves.sort(key=lambda curve: curve[0])
    handles, names = [], []
    for number, (half, one, share) in enumerate(curves):
        style = style_of(distributions.index(one))
        letter = chr(ord("A") + number % 26)
        # At different heights, so that curves side by side have their letters apart.
        height = min(28 + 17 * (number % 4), float(share[-1]) - 1)
        at = bounds[min(int(np.searchsorted(share, height)), len(bounds) - 1)]
        box = {"boxstyle": "circle,pad=0.12", "fc": "white", "ec": style["color"], "lw": 0.9}
        axes.text(at, height, letter, ha="center", va="center", fontsize=7.5, bbox=box)
        handles.append(Line2D([], [], **style))
        names.append(f"{letter}  {one.info.route}: half after {seconds_text(half)}")
    axes.set_ylim(0, 101)
    axes.set_xlabel("time from hand-over to arrival (logarithmic)")
    axes.set_ylabel("messages that have arrived, %")
    set_title(axes, title, pad=20)  # the deadlines stand between
    seconds_axis(axes)
    axes.legend(
        handles,
        names,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        title="fastest first",
        alignment="left",
        handlelength=2.6,
    )
    return figure


def against(
    series: dict[str, list[Point]],
    title: str,
    xlabel: str,
    *,
    logarithmic: bool,
    deadlines_s: Sequence[float] = (),
) -> Figure:
    """Draw latency against a varied value: medians with intervals, 95 % of messages as a shade.

    Args:
        series: for each route its points.
        title: of the figure.
        xlabel: what varies, with its unit.
        logarithmic: whether the values are far apart.
        deadlines_s: drawn as lines.
    """
    figure, axes = new_figure(7.6, 4.4)
    axes.set_yscale("log")
    if logarithmic:
        axes.set_xscale("log")
    ends = []
    values: list[float] = []
    for place, (name, points) in enumerate(series.items()):
        known = [point for point in points if math.isfinite(point.median)]
        if not known:
            continue
        x = np.asarray([point.value for point in known])
        median = np.asarray([point.median for point in known])
        style = style_of(place)
        axes.plot(x, median, marker="o", markersize=4, **style)
        most = np.asarray([one.most if math.isfinite(one.most) else one.median for one in known])
        axes.fill_between(x, median, most, color=style["color"], alpha=0.13, lw=0)
        spread = np.asarray(
            [[max(one.median - one.low, 0), max(one.high - one.median, 0)] for one in known]
        ).T
        spread = np.where(np.isfinite(spread), spread, 0.0)
        axes.errorbar(x, median, yerr=spread, fmt="none", ecolor=style["color"], capsize=3, lw=1)
        ends.append((float(median[-1]), name, style["color"]))
        values += x.tolist()
    names_at_end(axes, ends)
    mark_deadlines(axes, deadlines_s, horizontal=True)
    axes.set_xlabel(xlabel + (" (logarithmic)" if logarithmic else ""))
    axes.set_ylabel("median, shade up to 95 % (logarithmic)")
    set_title(axes, title)
    seconds_axis(axes, vertical=True)
    if logarithmic:
        counts_axis(axes, values)
    return figure


def hops(rows: dict[str, dict[str, float]], title: str) -> Figure:
    """Draw where the time goes: a bar for each route, stacked by hop, of the fragment that counts.

    Args:
        rows: for each route, mean seconds of each hop.
        title: of the figure.
    """
    names = list(rows)
    figure, axes = new_figure(8.6, 1.9 + 0.42 * len(names))
    left = np.zeros(len(names))
    totals = np.asarray([sum(rows[name].values()) for name in names])
    unit, unit_name = unit_of(float(totals.max(initial=1.0)))
    totals = totals / unit
    for hop, (label, colour) in HOPS.items():
        values = np.asarray([max(rows[name].get(hop, 0.0), 0.0) / unit for name in names])
        if values.max(initial=0.0) < 0.005 * totals.max(initial=1.0):
            left += values
            continue
        bars = axes.barh(
            names, values, left=left, color=colour, label=label, height=0.62, edgecolor="white"
        )
        for bar, value in zip(bars, values, strict=True):
            if value > 0.07 * totals.max():
                axes.text(
                    bar.get_x() + value / 2,
                    bar.get_y() + bar.get_height() / 2,
                    f"{value:.1f}" if value >= 1 else f"{value:.2g}",
                    ha="center",
                    va="center",
                    color=ink_on(colour),
                    fontsize=9,
                )
        left += values
    for place, total in enumerate(left):
        axes.text(total, place, f"  {seconds_text(total * unit)}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, left.max(initial=0.0) * 1.14 or 1.0)
    axes.set_xlabel(f"mean {unit_name} of the fragment that made the message whole")
    set_title(axes, title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def stages(points: dict[str, list[tuple[float, float]]], title: str, xlabel: str) -> Figure:
    """Draw the longest wait at each shared capacity against the number of CEMs."""
    figure, axes = new_figure(7.6, 4.4)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0, linscale=0.4)
    ends = []
    for place, (stage, values) in enumerate(points.items()):
        ordered = np.asarray(sorted(values))
        axes.plot(ordered[:, 0], ordered[:, 1], marker="o", markersize=4, **style_of(place))
        ends.append((float(ordered[-1, 1]), stage, style_of(place)["color"]))
    axes.set_ylim(bottom=0)
    names_at_end(axes, ends)
    axes.set_xlabel(f"{xlabel} (logarithmic)")
    axes.set_ylabel("longest wait (linear up to 1 s, then logarithmic)")
    set_title(axes, title)
    seconds_axis(axes, vertical=True, least_s=1.0)
    counts_axis(axes, [value for values in points.values() for value, _ in values])
    return figure


def backlog(loads: dict[str, tuple[Any, Any]], title: str) -> Figure:
    """Draw the wait at each shared capacity over time."""
    figure, axes = new_figure(7.6, 4.0)
    longest = max((float(times[-1]) for times, _ in loads.values()), default=1.0)
    most = max((float(delays.max()) for _, delays in loads.values()), default=1.0)
    unit, name = unit_of(max(longest, most))
    ends = []
    for place, (stage, (times, delays)) in enumerate(loads.items()):
        # What comes all at once is one point of time.
        marker = "o" if len(times) < 3 else ""
        axes.plot(times / unit, delays / unit, marker=marker, **style_of(place))
        ends.append((float(delays[-1] / unit), stage, style_of(place)["color"]))
    axes.set_ylim(bottom=0)
    axes.set_xlim(left=0)
    names_at_end(axes, ends)
    axes.set_xlabel(f"{name} since the start")
    axes.set_ylabel(f"mean wait of what arrives then, {name}")
    set_title(axes, title)
    return figure


def quantiles(pairs: Sequence[Pair], title: str, x: str, y: str) -> Figure:
    """Draw quantiles of two samples against each other: on the diagonal they agree.

    Args:
        pairs: for each small figure.
        title: of all.
        x: what the first sample is.
        y: what the second is.
    """
    columns = min(len(pairs), 3)
    rows = math.ceil(len(pairs) / columns)
    with plt.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=(3.2 * columns, 3.4 * rows), squeeze=False, layout="constrained"
        )
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=12)
    for axes, pair in zip(grid.flat, pairs, strict=False):
        top = float(max(pair.first.max(), pair.second.max())) * 1.05
        axes.plot([0, top], [0, top], color=GREY, lw=0.8)
        axes.plot(pair.first, pair.second, ".", color=COLOURS[0], markersize=4)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.set_aspect("equal")
        counts = " and ".join(f"{count:,}" for count in dict.fromkeys(pair.counts))
        told = f"KS {pair.distance:.3f}, n {counts}"
        if math.isfinite(pair.critical):
            told += f"; 5 %: {pair.critical:.3f}"
        axes.set_title(f"{pair.name}\n{told}", fontsize=8.5, fontweight="normal")
        axes.set_xlabel(f"{x}, s", fontsize=9)
        axes.set_ylabel(f"{y}, s", fontsize=9)
    for axes in list(grid.flat)[len(pairs) :]:
        axes.set_visible(False)
    return figure


def fits(found: Sequence[Fit], title: str) -> Figure:
    """Draw how well fitted times match those they were fitted to."""
    pairs = [
        Pair(
            f"{fit.part.replace('_', ' ')} {fit.region}".strip(),
            fit.measured_s,
            fit.fitted_s,
            (fit.count,),
            fit.distance,
            math.nan,
        )
        for fit in found
    ]
    return quantiles(pairs, title, "software", "fitted")


def swings(found: Sequence[Swing], base_s: float, title: str, xlabel: str) -> Figure:
    """Draw what each assumption's change does to a time, the largest change on top.

    Args:
        found: for each assumption.
        base_s: the time with all assumptions as they are.
        title: of the figure.
        xlabel: which time.
    """
    ordered = sorted(found, key=lambda one: abs(math.log(one.times_s[1] / one.times_s[0])))
    figure, axes = new_figure(7.9, 1.4 + 0.4 * len(ordered))
    axes.set_xscale("log")
    for place, one in enumerate(ordered):
        for time_s, colour in zip(one.times_s, (COLOURS[4], COLOURS[1]), strict=True):
            axes.barh(place, time_s - base_s, left=base_s, color=colour, height=0.55)
        texts = sorted(zip(one.times_s, one.values, strict=True))
        if texts[1][0] < 1.03 * texts[0][0]:
            _beside(axes, place, max(base_s, texts[1][0]), f"{' to '.join(one.values)}: the same")
            continue
        for number, (time_s, value) in enumerate(texts):
            end = (min if number == 0 else max)(time_s, base_s)
            _beside(axes, place, end, f"{value}: {seconds_text(time_s)}", left=number == 0)
    axes.axvline(base_s, color="black", lw=1.0)
    times = [time for one in ordered for time in one.times_s] + [base_s]
    whole = max(times) / min(times)
    axes.set_xlim(min(times) / max(1.5, whole**0.3), max(times) * max(1.5, whole**0.3))
    axes.set_yticks(range(len(ordered)), [one.name for one in ordered])
    axes.grid(axis="y", visible=False)
    axes.set_xlabel(f"{xlabel} (logarithmic); line: as assumed, {seconds_text(base_s)}")
    set_title(axes, title)
    seconds_axis(axes)
    return figure


def _beside(axes: Axes, place: float, at: float, text: str, *, left: bool = False) -> None:
    """Write beside a bar's end."""
    axes.annotate(
        text,
        (at, place),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
        fontsize=8,
    )
