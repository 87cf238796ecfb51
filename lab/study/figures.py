"""The figures: drawn for paper and screen, in colours that colour-blind readers can tell apart.

Every curve has its name beside it, every axis its unit; nothing depends on colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from lab.study.findings import Distribution
from lab.study.fit import Fit
from lab.study.histogram import upper_bounds_s

# Okabe and Ito's colours, the yellow left out: too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", "-.", ":")
_GREY = "#666666"
_MARKS_S: tuple[float, ...] = (
    *(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 20, 60, 120, 300, 900, 1800, 3600),
    *(7200, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000),
)
_MOST_MARKS = 9

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

_STYLE: Any = {
    "figure.dpi": 100,
    "savefig.dpi": 144,
    "font.size": 10,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    # Without it every run would name the parts of the drawing anew.
    "svg.hashsalt": "smtunnel",
}


def style_of(place: int) -> dict[str, Any]:
    """Return colour and dashes of the curve with this place among its fellows."""
    return {
        "color": COLOURS[place % len(COLOURS)],
        "linestyle": _LINES[place // len(COLOURS) % len(_LINES)],
    }


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure as SVG and PNG; returns the SVG's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(folder / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return path


def cdf(distributions: Sequence[Distribution], title: str, deadlines_s: Sequence[float]) -> Figure:
    """Draw which share of messages has arrived after how long, a curve for each route."""
    figure, axes = _figure(7.6, 4.4)
    axes.set_xscale("log")
    bounds = upper_bounds_s()
    ends = []
    for place, one in enumerate(distributions):
        if not one.messages:
            continue
        share = 100 * np.cumsum(one.counts) / one.messages
        some = np.flatnonzero(one.counts)
        if not len(some):
            continue
        first, last = max(some[0] - 1, 0), min(some[-1] + 1, len(bounds) - 1)
        axes.plot(bounds[first : last + 1], share[first : last + 1], **style_of(place))
        middle = int(np.searchsorted(share, 50))
        ends.append((bounds[min(middle, len(bounds) - 1)], one.info.route, style_of(place)))
    _deadlines(axes, deadlines_s)
    axes.set_ylim(0, 101)
    axes.set_xlabel("time from hand-over to arrival, seconds (logarithmic)")
    axes.set_ylabel("messages that have arrived, %")
    _title(axes, title, pad=20)  # the deadlines stand between
    _seconds_axis(axes)
    axes.legend(
        [Line2D([], [], **style) for _, _, style in sorted(ends, key=lambda end: end[0])],
        [
            f"{name}: half after {seconds_text(at)}"
            for at, name, _ in sorted(ends, key=lambda e: e[0])
        ],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        title="fastest first",
        alignment="left",
    )
    return figure


def against(
    series: dict[str, list[tuple[float, float, float, float]]],
    title: str,
    xlabel: str,
    *,
    logarithmic: bool,
    deadlines_s: Sequence[float] = (),
) -> Figure:
    """Draw latency against a varied value: the median as a line, 95 % of messages as its shade.

    Args:
        series: for each route: value, median, 95th percentile, share delivered.
        title: of the figure.
        xlabel: what varies, with its unit.
        logarithmic: whether the values are far apart.
        deadlines_s: drawn as lines.
    """
    figure, axes = _figure(7.6, 4.4)
    axes.set_yscale("log")
    if logarithmic:
        axes.set_xscale("log")
    ends = []
    for place, (name, points) in enumerate(series.items()):
        points = [point for point in points if math.isfinite(point[1])]
        if not points:
            continue
        values = np.asarray([point[:3] for point in points])
        style = style_of(place)
        axes.plot(values[:, 0], values[:, 1], marker="o", markersize=4, **style)
        top = np.where(np.isfinite(values[:, 2]), values[:, 2], values[:, 1])
        axes.fill_between(values[:, 0], values[:, 1], top, color=style["color"], alpha=0.13, lw=0)
        ends.append((float(values[-1, 1]), name, style["color"]))
    _names_at_end(axes, ends)
    _deadlines(axes, deadlines_s, horizontal=True)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("seconds: median; shade up to 95 %")
    _title(axes, title)
    _seconds_axis(axes, vertical=True)
    return figure


def hops(rows: dict[str, dict[str, float]], title: str) -> Figure:
    """Draw where the time goes: a bar for each route, stacked by hop, of the fragment that counts.

    Args:
        rows: for each route, mean seconds of each hop.
        title: of the figure.
    """
    names = list(rows)
    figure, axes = _figure(8.6, 1.9 + 0.42 * len(names))
    left = np.zeros(len(names))
    totals = np.asarray([sum(rows[name].values()) for name in names])
    for hop, (label, colour) in HOPS.items():
        values = np.asarray([max(rows[name].get(hop, 0.0), 0.0) for name in names])
        if values.max(initial=0.0) < 0.005 * totals.max(initial=1.0):
            left += values
            continue
        bars = axes.barh(names, values, left=left, color=colour, label=label, height=0.62)
        for bar, value in zip(bars, values, strict=True):
            if value > 0.07 * totals.max():
                axes.text(
                    bar.get_x() + value / 2,
                    bar.get_y() + bar.get_height() / 2,
                    f"{value:.1f}",
                    ha="center",
                    va="center",
                    color=_ink_on(colour),
                    fontsize=9,
                )
        left += values
    for place, total in enumerate(left):
        axes.text(total, place, f"  {seconds_text(total)}", va="center", fontsize=9)
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.set_xlim(0, left.max(initial=1.0) * 1.14)
    axes.set_xlabel("mean seconds of the fragment that made the message whole")
    _title(axes, title)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=3)
    return figure


def stages(points: dict[str, list[tuple[float, float]]], title: str, xlabel: str) -> Figure:
    """Draw the longest wait at each shared capacity against the number of CEMs."""
    figure, axes = _figure(7.6, 4.4)
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1.0)
    ends = []
    for place, (stage, values) in enumerate(points.items()):
        ordered = np.asarray(sorted(values))
        axes.plot(ordered[:, 0], ordered[:, 1], marker="o", markersize=4, **style_of(place))
        ends.append((float(ordered[-1, 1]), stage, style_of(place)["color"]))
    _names_at_end(axes, ends)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(xlabel)
    axes.set_ylabel("longest wait, seconds")
    _title(axes, title)
    _seconds_axis(axes, vertical=True)
    return figure


def backlog(loads: dict[str, tuple[Any, Any]], title: str) -> Figure:
    """Draw the wait at each shared capacity over time."""
    figure, axes = _figure(7.6, 4.0)
    longest = max((float(times[-1]) for times, _ in loads.values()), default=1.0)
    unit, name = (3600.0, "hours") if longest > 7200 else (60.0, "minutes")
    ends = []
    for place, (stage, (times, delays)) in enumerate(loads.items()):
        axes.plot(times / unit, delays / unit, **style_of(place))
        ends.append((float(delays[-1] / unit), stage, style_of(place)["color"]))
    _names_at_end(axes, ends)
    axes.set_xlabel(f"{name} since the start")
    axes.set_ylabel(f"wait of what arrives then, {name}")
    _title(axes, title)
    return figure


def quantiles(pairs: Sequence[tuple[str, Any, Any, float]], title: str, x: str, y: str) -> Figure:
    """Draw quantiles of two samples against each other: on the diagonal they agree.

    Args:
        pairs: for each small figure: its name, quantiles of both, the KS distance.
        title: of all.
        x: what the first sample is.
        y: what the second is.
    """
    columns = min(len(pairs), 3)
    rows = math.ceil(len(pairs) / columns)
    with plt.rc_context(_STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=(3.1 * columns, 3.1 * rows), squeeze=False, layout="constrained"
        )
    figure.suptitle(title, fontweight="bold", x=0.01, ha="left", fontsize=12)
    for axes, pair in zip(grid.flat, pairs, strict=False):
        name, first, second, gap = pair
        top = float(max(first.max(), second.max())) * 1.05
        axes.plot([0, top], [0, top], color=_GREY, lw=0.8)
        axes.plot(first, second, ".", color=COLOURS[0], markersize=4)
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.set_aspect("equal")
        axes.set_title(f"{name}\nKS distance {gap:.3f}", fontsize=9)
        axes.set_xlabel(f"{x}, s", fontsize=9)
        axes.set_ylabel(f"{y}, s", fontsize=9)
    for axes in list(grid.flat)[len(pairs) :]:
        axes.set_visible(False)
    return figure


def fits(found: Sequence[Fit], title: str) -> Figure:
    """Draw how well fitted times match those they were fitted to."""
    pairs = [
        (f"{fit.part} {fit.region}".strip(), fit.measured_s, fit.fitted_s, fit.distance)
        for fit in found
    ]
    return quantiles(pairs, title, "measured", "fitted")


def seconds_text(seconds: float) -> str:
    """Return a time in the unit that people would take."""
    if not math.isfinite(seconds):
        return "never"
    for limit, unit, name in ((86_400 * 2, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min")):
        if seconds >= limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    with plt.rc_context(_STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    return figure, axes


def _title(axes: Axes, title: str, pad: float = 10.0) -> None:
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=pad)


def _names_at_end(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
    """Write each curve's name at its right end, moved apart where they would meet."""
    figure = axes.figure
    figure.canvas.draw()
    height = axes.get_window_extent().height
    placed: list[float] = []
    to_axes: Callable[[float], float] = lambda value: float(  # noqa: E731  # used once, here
        axes.transAxes.inverted().transform(axes.transData.transform((axes.get_xlim()[1], value)))[
            1
        ]
    )
    gap = 13 / height * 1.1
    for value, name, colour in sorted(ends, key=lambda end: end[0]):
        at = to_axes(value)
        if placed and at < placed[-1] + gap:
            at = placed[-1] + gap
        placed.append(at)
        axes.annotate(
            name,
            (1.015, at),
            xycoords="axes fraction",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


def _deadlines(axes: Axes, deadlines_s: Sequence[float], *, horizontal: bool = False) -> None:
    low, high = axes.get_ylim() if horizontal else axes.get_xlim()
    for deadline in deadlines_s:
        if not low < deadline < high:
            continue
        if horizontal:
            axes.axhline(deadline, color=_GREY, lw=0.8, ls=(0, (4, 3)))
        else:
            axes.axvline(deadline, color=_GREY, lw=0.8, ls=(0, (4, 3)))
            axes.annotate(
                seconds_text(deadline),
                (deadline, 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                color=_GREY,
            )


def _seconds_axis(axes: Axes, *, vertical: bool = False) -> None:
    """Mark times that people count in, where the axis is logarithmic."""
    axis = axes.yaxis if vertical else axes.xaxis
    low, high = axes.get_ylim() if vertical else axes.get_xlim()
    marks = [mark for mark in _MARKS_S if low <= mark <= high]
    if len(marks) > _MOST_MARKS:
        marks = marks[:: math.ceil(len(marks) / _MOST_MARKS)]
    axis.set_major_locator(FixedLocator([0.0, *marks] if low <= 0 else marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: seconds_text(value) if value > 0 else "0")


def _ink_on(colour: str) -> str:
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "white"
