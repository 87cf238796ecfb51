"""How the figures look: colours that colour-blind readers can tell apart, and axes with units.

Every curve has its name or its letter beside it and dashes of its own: nothing depends on colour
alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

# Okabe and Ito's colours, the yellow left out: too light on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_LINES = ("-", "--", "-.", ":")
GREY = "#666666"
_MARKS_S: tuple[float, ...] = (
    *(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 2, 5, 10, 30, 60, 120, 300, 900, 1800, 3600),
    *(7200, 21_600, 43_200, 86_400, 172_800, 432_000, 864_000),
)
_MOST_MARKS = 9

STYLE: Any = {
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
        "linestyle": _LINES[place % len(_LINES)],
    }


def save(figure: Figure, folder: Path, name: str) -> Path:
    """Write a figure as SVG and PNG; returns the SVG's path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    figure.savefig(folder / f"{name}.png", bbox_inches="tight", metadata={"Software": None})
    plt.close(figure)
    return path


def unit_of(seconds: float) -> tuple[float, str]:
    """Return the unit that an axis with such times has, in seconds, and its name."""
    for unit, name in ((3600.0, "hours"), (60.0, "minutes")):
        if seconds > 2 * unit:
            return unit, name
    return 1.0, "seconds"


def seconds_text(seconds: float) -> str:
    """Return a time in the unit that people would take."""
    if not math.isfinite(seconds):
        return "never"
    for limit, unit, name in ((86_400 * 2, 86_400, "d"), (7200, 3600, "h"), (120, 60, "min")):
        if seconds >= limit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def new_figure(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure, its size in inches."""
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(width, height), layout="constrained")
    return figure, axes


def set_title(axes: Axes, title: str, pad: float = 10.0) -> None:
    """Write a figure's title."""
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold", pad=pad)


def names_at_end(axes: Axes, ends: Sequence[tuple[float, str, str]]) -> None:
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


def mark_deadlines(axes: Axes, deadlines_s: Sequence[float], *, horizontal: bool = False) -> None:
    """Draw deadlines as lines, where they lie within the axis."""
    low, high = axes.get_ylim() if horizontal else axes.get_xlim()
    for deadline in deadlines_s:
        if not low < deadline < high:
            continue
        if horizontal:
            axes.axhline(deadline, color=GREY, lw=0.8, ls=(0, (4, 3)))
        else:
            axes.axvline(deadline, color=GREY, lw=0.8, ls=(0, (4, 3)))
            axes.annotate(
                seconds_text(deadline),
                (deadline, 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                color=GREY,
            )


def seconds_axis(axes: Axes, *, vertical: bool = False, least_s: float = 0.0) -> None:
    """Mark times that people count in, where the axis is logarithmic.

    Args:
        axes: whose.
        vertical: whether the vertical axis has the times.
        least_s: below this the axis is linear and has no marks but 0.
    """
    axis = axes.yaxis if vertical else axes.xaxis
    low, high = axes.get_ylim() if vertical else axes.get_xlim()
    marks = [mark for mark in _MARKS_S if max(low, least_s) <= mark <= high]
    if marks and not vertical:
        marks = _apart(marks, math.log(high / max(low, marks[0] / 2)))
    elif len(marks) > _MOST_MARKS:
        marks = marks[:: math.ceil(len(marks) / _MOST_MARKS)]
    axis.set_major_locator(FixedLocator([0.0, *marks] if low <= 0 else marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: seconds_text(value) if value > 0 else "0")


def _apart(marks: list[float], whole: float) -> list[float]:
    """Return marks of a logarithmic axis with room between them for their texts."""
    kept = marks[:1]
    for mark in marks[1:]:
        if math.log(mark / kept[-1]) > 0.11 * whole:
            kept.append(mark)
    return kept


def counts_axis(axes: Axes, values: Sequence[float]) -> None:
    """Mark the values that were computed on a logarithmic axis of counts, those with room."""
    axis = axes.xaxis
    marks: list[float] = []
    for value in sorted(set(values)):
        if not marks or value >= 2.4 * marks[-1]:
            marks.append(value)
    axis.set_major_locator(FixedLocator(marks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(lambda value, _: count_text(value))


def count_text(value: float) -> str:
    """Return a count as people write it."""
    if value >= 1e6:
        return f"{value / 1e6:g} million"
    return f"{value:,.0f}" if value >= 10 else f"{value:g}"


def ink_on(colour: str) -> str:
    """Return the colour of writing that can be read on a colour."""
    red, green, blue = (int(colour[place : place + 2], 16) for place in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue > 130 else "white"
