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
        _row(name, cpu_s, flow.floor_s[name], flow.service_floor_s[name])
        for name, cpu_s in flow.cpu_s.items()
    ]
    if len(rows) > 1:
        floors = (flow.floor_s, flow.service_floor_s)
        rows.append(_row("all", *(sum(one.values()) for one in (flow.cpu_s, *floors))))
    head = f"{flow.fragments:,} fragments, {flow.per_s:.0f} a second.\n\n"
    return head + _table(
        ("component", "processor time", "floor", "ratio", "floor of a service", "ratio"), rows
    )


def _row(name: str, cpu_s: float, floor_s: float, service_floor_s: float) -> tuple[str, ...]:
    ratios = (f"{cpu_s / one:.2f}" for one in (floor_s, service_floor_s))
    return (name, _us(cpu_s), _us(floor_s), next(ratios), _us(service_floor_s), next(ratios))


def _us(seconds: float) -> str:
    return f"{seconds * _MICRO:.0f} us"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
