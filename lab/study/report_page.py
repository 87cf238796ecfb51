"""The report's page: HTML with everything inside, for screen and paper."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

_CSS = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
       max-width: 76rem; margin: 2rem auto; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.2rem; margin-top: 2.4rem; border-bottom: 1px solid #ccc; }
.question { font-size: 1.05rem; color: #444; margin-top: 0; max-width: 50rem; }
nav { font-size: .9rem; } nav a { margin-right: 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .2rem .5rem;
  border-bottom: 1px solid #e2e2e2; }
th { background: #f3f3f3; } small { color: #666; font-size: .88em; white-space: nowrap; }
.share { display: inline-block; min-width: 3.6em; padding: 0 .3em; border-radius: 3px;
  background: color-mix(in srgb, #56B4E9 calc(var(--share) * 75%), #fff); }
.standing { display: inline-block; padding: 0 .4em; border-radius: 3px; font-weight: 600; }
.published { background: #cfe8dd; } .derived { background: #d6e9f8; }
.assumed, .modelled { background: #fbe3c3; } .software { background: #d6e9f8; }
.measured { background: #cfe8dd; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; } .wrap { white-space: normal; }
figure { margin: 1.2rem 0; } .drawing { overflow-x: auto; }
figure svg { max-width: 100%; min-width: 34rem; height: auto; }
figcaption, .note { color: #555; font-size: .88rem; max-width: 50rem; }
details summary { cursor: pointer; color: #0072B2; }
@media print { nav { display: none; } figure, tr { break-inside: avoid; } }
"""


class Page:
    """A page that grows from top to bottom.

    Args:
        title: its heading.
        question: what it answers; may be empty.
    """

    def __init__(self, title: str, question: str) -> None:
        self._title = title
        self._question = question
        self._sections: list[str] = []
        self._parts: list[str] = []

    def section(self, heading: str) -> None:
        """Begin a section."""
        self._sections.append(heading)
        number = len(self._sections)
        self._parts.append(f'<h2 id="s{number}">{html.escape(heading)}</h2>')

    def add(self, markup: str) -> None:
        """Add HTML."""
        self._parts.append(markup)

    def figure(self, svg: Path, caption: str) -> None:
        """Add a drawing, inside the page."""
        text = svg.read_text(encoding="utf-8")
        # Names inside one drawing must not meet those of another on the same page.
        drawing = text[text.index("<svg") :]
        name = svg.stem
        for mark in ('id="', "url(#", 'xlink:href="#'):
            drawing = drawing.replace(mark, f"{mark}{name}-")
        self._parts.append(
            f"<figure><div class=drawing>{drawing}</div><figcaption>{html.escape(caption)} "
            f'(<a href="figures/{name}.svg">SVG</a>, <a href="figures/{name}.png">PNG</a>)'
            "</figcaption></figure>"
        )

    def html(self) -> str:
        """Return the whole page."""
        links = "".join(
            f'<a href="#s{number}">{html.escape(heading)}</a>'
            for number, heading in enumerate(self._sections, start=1)
        )
        title = html.escape(self._title)
        return (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{title}</title><style>{_CSS}</style></head><body>"
            f"<h1>{title}</h1><p class=question>{html.escape(self._question)}</p>"
            f"<nav>{links}</nav>" + "\n".join(self._parts) + "</body></html>\n"
        )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table; cells are HTML, headings are text."""
    heading = "".join(f"<th>{html.escape(one)}</th>" for one in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    heads = f"<thead><tr>{heading}</tr></thead>" if any(head) else ""
    return f'<div class="wide"><table>{heads}<tbody>{body}</tbody></table></div>'
