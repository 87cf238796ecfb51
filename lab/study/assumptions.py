"""What a study's results stand on: every parameter with its standing, in HTML."""

from __future__ import annotations

import html
from collections import Counter
from typing import Any

import msgspec

from dcc_sim.core.network.distributions import Distribution, describe
from dcc_sim.core.network.profile import Parameter
from lab.study.cases import profile_of, shares_of
from lab.study.networks import Network
from lab.study.parameters import Study
from lab.study.report_page import table

_SIMPLIFIED = (
    "In the fleet model, what all CEMs share is a fluid that waits in line, first come, first "
    "served; fluctuations within seconds do not count. Repetitions do not wait in that line again.",
    "In the fleet model, the DCC's repetitions of one command meet the hub's queue as its first "
    "copy did, a copy that came twice keeps no hub busy, and no hub's buffer overflows.",
    "In the fleet model, a CEM repeats an alert that did not come after receipt_timeout_s, then "
    "twice that, and so on; missing lists from the DSRSP are not told apart.",
    "Processors are infinitely fast, except in the live engine.",
    "A larger carrier, or a command without a transform, is taken to change nothing else.",
    "In the fleet model, a receipt that comes late because of a queue makes no CEM repeat its "
    "alert: what stands here for an overloaded system is better than what would happen.",
    "Only the fleet model knows Stream 1, larger carriers, and commands without a transform. "
    "Routes 2a and 2b are also carried out by the real software, on virtual time and live.",
    "The internet is a round trip, lost packets, homes offline and the DSRSP's server; no real "
    "home's line was measured. In the live engine a proxy with the same times stands for it.",
    "Longer OpenADR messages are events with more intervals, which compress well.",
)


def assumptions_of(study: Study) -> str:
    """Return all assumptions as HTML: how many of which standing, then each in a table."""
    parts = []
    for network in study.networks:
        rows = _rows(network)
        counts = Counter(standing for _, _, standing, _ in rows)
        told = ", ".join(
            f"{counts[one]} <span class='standing {one}'>{one}</span>"
            for one in ("published", "derived", "assumed")
        )
        body = table(
            ["parameter", "value", "standing", "source"],
            [
                [
                    f"<code>{html.escape(name)}</code>",
                    html.escape(value),
                    f"<span class='standing {standing}'>{standing}</span>",
                    html.escape(source),
                ]
                for name, value, standing, source in rows
            ],
        )
        parts.append(
            f"<p>Network <b>{html.escape(network.name)}</b> has {len(rows)} parameters: {told}.</p>"
            f"<details><summary>All of them</summary>{body}</details>"
        )
    simple = "".join(f"<li>{html.escape(one)}</li>" for one in _SIMPLIFIED)
    parts.append(f"<details><summary>What is simplified</summary><ul>{simple}</ul></details>")
    return "".join(parts)


def _rows(network: Network) -> list[tuple[str, str, str, str]]:
    profile = profile_of(network)
    rows = [
        (name, _text(parameter.value), parameter.standing.value, parameter.source)
        for name, parameter in profile.parameters()
    ]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in shares_of(network, profile).items())
    rows.append(("regions", shares, "assumed", "shares of the CEMs; set by the study"))
    for prefix in ("internet", "capacity"):
        values: msgspec.Struct = getattr(network, prefix)
        for name in values.__struct_fields__:
            parameter: Parameter[Any] = getattr(values, name)
            text = _text(parameter.value)
            rows.append((f"{prefix}.{name}", text, parameter.standing.value, parameter.source))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, Distribution):
        return describe(value)
    if isinstance(value, msgspec.Struct):
        parts = [(field, getattr(value, field)) for field in value.__struct_fields__]
        return "; ".join(f"{field} {_text(part)}" for field, part in parts if part)
    if isinstance(value, tuple):
        return ", ".join(map(_text, value)) or "none"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)
