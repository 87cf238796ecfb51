"""A journey as a sequence diagram: for Mermaid, and as SVG that needs nothing else."""

from __future__ import annotations

import html
from collections.abc import Iterator

from lab.explain.journey import JourneyStep, MessageJourney, Party

_PARTIES = (Party.DSRSP, Party.DCC, Party.CEM)
_MAX_DETAIL_CHARS = 90


def since(step: JourneyStep, journey: MessageJourney) -> str:
    """Return a step's time after the beginning, as text."""
    seconds = step.t - journey.began
    return f"{seconds * 1000:.1f} ms" if abs(seconds) < 10 else f"{seconds:.2f} s"


def printable(text: str) -> str:
    """Return text without what could move a terminal's cursor or break a drawing."""
    return "".join(char if char.isprintable() else "�" for char in text)


def headline(journey: MessageJourney) -> str:
    """Return what the message is, in one line."""
    way = "DSRSP to CEM" if journey.downlink else "CEM to DSRSP"
    octets = "" if journey.message_octets is None else f", {journey.message_octets} octets"
    reason = f" ({journey.reason})" if journey.reason else ""
    return printable(f"Message {journey.ref}, {way}{octets}: {journey.state or '-'}{reason}")


def words_of(step: JourneyStep) -> tuple[str, str]:
    """Return what stands above a step's arrow, and below it."""
    delivery = step.delivery
    which = "" if delivery is None or step.kind == "carrier" else f"[{delivery.index}] "
    size = f"{step.octets} octets" if step.octets else ""
    details = ", ".join(part for part in (size, step.details) if part)
    return printable(which + step.title), printable(_cut(details))


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_DETAIL_CHARS else text[: _MAX_DETAIL_CHARS - 1] + "…"


def as_mermaid(journey: MessageJourney) -> str:
    """Return the journey as the text of a Mermaid sequence diagram."""
    lines = ["---", f'title: "{_mermaid_text(headline(journey))}"', "---", "sequenceDiagram"]
    lines += [f"    participant {party.value}" for party in _PARTIES]
    for step in journey.steps:
        title, details = words_of(step)
        text = _mermaid_text(f"{since(step, journey)}: {title}")
        if details:
            text += f"<br/>{_mermaid_text(details)}"
        if step.source is step.target:
            lines.append(f"    Note over {step.source.value}: {text}")
        else:
            arrow = "-x" if step.failed else "->>"
            lines.append(f"    {step.source.value}{arrow}{step.target.value}: {text}")
    return "\n".join(lines) + "\n"


def _mermaid_text(text: str) -> str:
    """Write what means something to Mermaid as entities."""
    return "".join(f"#{ord(char)};" if char in '#;<>&"%{}\\' else char for char in text)


_LEFT, _GAP, _ROW, _TOP = 110, 330, 44, 84
_STYLE = """
:root { color-scheme: light dark; }
svg { font: 13px system-ui, sans-serif; }
.page { fill: #ffffff; } .text { fill: #1b2430; } .dim { fill: #556070; font-size: 11px; }
.lane { stroke: #cfd6df; stroke-width: 2; } .arrow { stroke: #1f5fa8; stroke-width: 2; }
.tip { fill: #1f5fa8; } .bad .arrow { stroke: #b3261e; } .bad .tip, .bad .text { fill: #b3261e; }
.head { font-weight: 600; }
@media (prefers-color-scheme: dark) {
  .page { fill: #12161c; } .text { fill: #e6ebf2; } .dim { fill: #a3afbf; }
  .lane { stroke: #37424f; } .arrow { stroke: #6cb0f5; } .tip { fill: #6cb0f5; }
  .bad .arrow { stroke: #ff8a80; } .bad .tip, .bad .text { fill: #ff8a80; }
}
"""


def as_svg(journey: MessageJourney) -> str:
    """Return the journey as one SVG file, for light and dark."""
    width = _LEFT + _GAP * len(_PARTIES)
    height = _TOP + _ROW * len(journey.steps) + 20
    title = html.escape(headline(journey))
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img" aria-labelledby="title">',
        f'<title id="title">{title}</title><style>{_STYLE}</style>',
        f'<rect class="page" width="{width}" height="{height}"/>',
        f'<text class="text head" x="16" y="26">{title}</text>',
    ]
    for party in _PARTIES:
        x = _x(party)
        lines.append(_svg_text(party.value, x, 56, "text head"))
        lines.append(f'<line class="lane" x1="{x}" x2="{x}" y1="64" y2="{height - 10}"/>')
    for row, step in enumerate(journey.steps):
        lines += _svg_step(step, journey, _TOP + _ROW * row + 12)
    return "\n".join((*lines, "</svg>", ""))


def _svg_step(step: JourneyStep, journey: MessageJourney, y: int) -> Iterator[str]:
    title, details = words_of(step)
    begin, end = _x(step.source), _x(step.target)
    middle = (begin + end) // 2
    inside = begin == end
    yield '<g class="bad">' if step.failed else "<g>"
    yield (
        f'<text class="dim" x="{_LEFT - 14}" y="{y + 4}" text-anchor="end">'
        f"{html.escape(since(step, journey))}</text>"
    )
    # A strip keeps the life line from striking the words through.
    strip = int(max(len(title) * 6.9, len(details) * 5.9 if inside else 0)) + 10
    yield (
        f'<rect class="page" x="{middle - strip // 2}" y="{y - 18}" width="{strip}" '
        f'height="{34 if inside else 15}"/>'
    )
    if not inside:
        way = 1 if end > begin else -1
        lost = step.failed and step.kind in ("network", "post")
        tip = begin + (end - begin) * 4 // 5 if lost else end
        yield f'<line class="arrow" x1="{begin}" x2="{tip - way * 6}" y1="{y}" y2="{y}"/>'
        if lost:
            yield f'<path class="arrow" d="M{tip - 5} {y - 5}l10 10m0 -10l-10 10"/>'
        else:
            yield f'<path class="tip" d="M{tip} {y}l{-way * 9} -5v10z"/>'
    yield _svg_text(title, middle, y if inside else y - 6, "text")
    yield _svg_text(details, middle, y + 14, "dim")
    yield "</g>"


def _svg_text(text: str, x: int, y: int, name: str) -> str:
    return f'<text class="{name}" x="{x}" y="{y}" text-anchor="middle">{html.escape(text)}</text>'


def _x(party: Party) -> int:
    return _LEFT + _GAP * _PARTIES.index(party) + _GAP // 2
