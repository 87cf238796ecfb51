"""What the charger did by each way, as one SVG file that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lab.three_ways.story import FULL_POWER_W, WayStory

_BEFORE_S: Final = 2.0
_AFTER_S: Final = 2.0
_TOP_W: Final = 8000.0
_TICKS_W: Final = (0.0, 2000.0, 4000.0, 6000.0)
_WIDTH, _LEFT, _RIGHT = 980, 74, 36
_TOP, _LANE, _GAP, _BOTTOM = 92, 128, 62, 74

_STYLE = """
:root { color-scheme: light dark; }
svg { font: 13px system-ui, sans-serif; }
.page { fill: #ffffff; } .text { fill: #1b2430; } .dim { fill: #556070; font-size: 12px; }
.title { font-size: 19px; font-weight: 600; } .lane { font-size: 14px; font-weight: 600; }
.event { fill: #f6e3bd; } .grid { stroke: #dde2e9; } .power { stroke: #1f5fa8; stroke-width: 2.5; }
.power, .wait { fill: none; } .wait { stroke: #a8590b; stroke-width: 1.5; } .asks { fill: #7a4a06; }
.tip { fill: #a8590b; } .report { fill: #ffffff; stroke: #1f5fa8; stroke-width: 1.5; }
.watts { fill: #1f5fa8; font-weight: 600; }
.halo { stroke: #ffffff; stroke-width: 4; paint-order: stroke; }
@media (prefers-color-scheme: dark) {
  .page { fill: #12161c; } .text { fill: #e6ebf2; } .dim { fill: #a3afbf; }
  .event { fill: #40341a; } .grid { stroke: #2b3440; } .power { stroke: #6cb0f5; }
  .wait { stroke: #f0b35c; } .tip { fill: #f0b35c; } .asks { fill: #f0c98a; }
  .report { fill: #12161c; stroke: #6cb0f5; } .watts { fill: #6cb0f5; }
  .halo { stroke: #12161c; }
}
"""


def draw(stories: Sequence[WayStory], power_w: float) -> str:
    """Return the picture: a lane for each way, power against the time since the decision.

    Args:
        stories: at least one; all of the same event.
        power_w: what the event allowed.
    """
    event_s = stories[0].moments.ends - stories[0].moments.decided
    picture = _Picture(event_s, power_w, len(stories))
    return "\n".join(picture.lines(stories)) + "\n"


class _Picture:
    def __init__(self, event_s: float, power_w: float, lanes: int) -> None:
        self._event_s = event_s
        self._power_w = power_w
        self._height = _TOP + lanes * (_LANE + _GAP) - _GAP + _BOTTOM
        self._span_s = _BEFORE_S + event_s + _AFTER_S

    def lines(self, stories: Sequence[WayStory]) -> Iterator[str]:
        """Give the file's lines."""
        title = "What the charger did"
        about = (
            f"The VTN decides at 0 s: at most {self._power_w / 1000:g} kW from now on, for "
            f"{self._event_s:g} s. The same VTN, VEN and event by each way."
        )
        yield (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {self._height}" '
            f'width="{_WIDTH}" height="{self._height}" role="img" aria-labelledby="title about">'
        )
        yield f'<title id="title">{title}</title><desc id="about">{html.escape(about)}</desc>'
        yield f"<style>{_STYLE}</style>"
        yield f'<rect class="page" width="{_WIDTH}" height="{self._height}"/>'
        yield _text(title, 24, 36, "text title")
        yield _text(about, 24, 60, "dim")
        self._first = stories[0]
        for number, story in enumerate(stories):
            yield from self._lane(story, _TOP + number * (_LANE + _GAP) + 20)
        yield from self._seconds()
        yield "</svg>"

    def _x(self, seconds: float) -> float:
        share = (seconds + _BEFORE_S) / self._span_s
        return round(_LEFT + share * (_WIDTH - _LEFT - _RIGHT), 1)

    def _lane(self, story: WayStory, top: int) -> Iterator[str]:
        def y(watts: float) -> float:
            return round(top + _LANE - watts / _TOP_W * _LANE, 1)

        began = story.moments.decided
        yield _text(story.way.value.capitalize(), _LEFT, top - 8, "text lane")
        name_px = 9 * len(story.way.value) + 12
        yield _text(story.way.words, _LEFT + name_px, top - 8, "dim")
        left, right = self._x(0), self._x(self._event_s)
        yield (
            f'<rect class="event" x="{left}" y="{top}" width="{right - left:.1f}" '
            f'height="{_LANE}"/>'
        )
        for watts in _TICKS_W:
            height = y(watts)
            yield (
                f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" '
                f'y1="{height}" y2="{height}"/>'
            )
            label = f"{watts / 1000:g} kW" if watts else "0"
            yield _text(label, _LEFT - 8, height + 4, "dim", "end")
        yield f'<path class="power" d="{self._curve(story, y)}"/>'
        for t, watts in story.heard:
            if -_BEFORE_S <= t - began <= self._event_s + _AFTER_S:
                yield f'<circle class="report" cx="{self._x(t - began)}" cy="{y(watts)}" r="3.5"/>'
        yield from self._labels(story, y, top)

    def _curve(self, story: WayStory, y: Callable[[float], float]) -> str:
        """Return the path of what was drawn, in steps."""
        began = story.moments.decided
        height = y(FULL_POWER_W)
        path = [f"M{self._x(-_BEFORE_S)} {height}"]
        for t, watts in story.power:
            if t - began > -_BEFORE_S:
                path += [f"H{self._x(min(t - began, self._event_s + _AFTER_S))}", f"V{y(watts)}"]
        return "".join((*path, f"H{self._x(self._event_s + _AFTER_S)}"))

    def _labels(self, story: WayStory, y: Callable[[float], float], top: int) -> Iterator[str]:
        moments = story.moments
        delay_s = moments.changed - moments.decided
        low, begin, end = y(self._power_w), self._x(0), self._x(delay_s)
        yield _text(
            _kilowatts(FULL_POWER_W), self._x(-_BEFORE_S) + 8, y(FULL_POWER_W) + 18, "watts"
        )
        middle = (end + self._x(self._event_s)) / 2
        yield _text(_kilowatts(self._power_w), middle, low - 8, "watts", "middle")
        # How long the decision took to become less power.
        mark = y(FULL_POWER_W * 0.62)
        yield f'<path class="wait" d="M{begin} {mark}H{end}"/>'
        yield f'<path class="wait" d="M{begin} {mark - 5}v10"/>'
        yield f'<path class="wait" d="M{end} {mark - 5}v10"/>'
        across_ms = moments.parts()["across"] * 1000
        yield _text(f"{delay_s:.2f} s from decision to charger", end + 10, mark - 4, "asks")
        rest = f"{across_ms:.0f} ms of it across, the rest: polls"
        yield _text(rest, end + 10, mark + 13, "asks")
        over_ms = (moments.returned - moments.ends) * 1000
        x = self._x(moments.returned - moments.decided)
        yield _text(f"back {over_ms:.0f} ms after the end", x + 8, y(3700.0), "dim")
        if story is self._first:
            yield _text("the event", begin + 6, top + _LANE - 8, "asks")
            yield _text("○ as reported to the VTN", middle, low + 20, "dim", "middle")

    def _seconds(self) -> Iterator[str]:
        y = self._height - _BOTTOM + 42
        for second in range(-int(_BEFORE_S), int(self._event_s + _AFTER_S) + 1):
            yield _text(f"{second} s".replace("-", "−"), self._x(second), y, "dim", "middle")
        yield _text(
            "time since the VTN's decision", self._x(self._event_s / 2), y + 20, "dim", "middle"
        )


def _kilowatts(watts: float) -> str:
    return f"{watts / 1000:.1f} kW"


def _text(text: str, x: float, y: float, name: str, anchor: str = "start") -> str:
    return f'<text class="{name}" x="{x}" y="{y}" text-anchor="{anchor}">{html.escape(text)}</text>'
