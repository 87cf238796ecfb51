"""Figures for readers: what was measured, as ratios, and as numbers of one machine."""

from __future__ import annotations

from collections.abc import Sequence

from lab.scale.runs import Flow, Holding

_MICRO, _KILO, _MEGA = 1e6, 1e3, 1e6


def describe_holding(holding: Holding) -> str:
    """Return a table of what it takes to hold devices."""
    rows = [
        ("devices in the inventory", f"{holding.devices:,}"),
        ("start until ready", f"{holding.start_s:.1f} s"),
        ("memory then", f"{holding.start_octets / _MEGA:.0f} MB"),
        ("device connections open at once", f"{holding.connections:,}"),
        ("handshakes", f"{holding.handshakes_per_s:.0f} a second"),
        ("simulator's processor time for one", f"{holding.handshake_cpu_s * _MICRO:.0f} us"),
        ("memory for one connection", f"{holding.connection_octets / _KILO:.0f} KB"),
        ("processor while all are idle", f"{holding.idle_cpu:.1%} of one core"),
    ]
    return _table(("what", "measured"), rows)


def describe_flow(flow: Flow) -> str:
    """Return a table of what a fragment costs, by component."""
    rows = [
        (name, _us(flow.floor_s[name]), _us(cpu_s), f"{cpu_s / flow.floor_s[name]:.2f}")
        for name, cpu_s in flow.cpu_s.items()
    ]
    if len(rows) > 1:
        floor_s = sum(flow.floor_s[name] for name in flow.cpu_s)
        rows.append(("all", _us(floor_s), _us(sum(flow.cpu_s.values())), f"{flow.ratio:.2f}"))
    head = f"{flow.fragments:,} fragments, {flow.per_s:.0f} a second.\n\n"
    return head + _table(("component", "floor", "processor time", "ratio"), rows)


def _us(seconds: float) -> str:
    return f"{seconds * _MICRO:.0f} us"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
