"""The two routes between the ends, and which of them a message may take."""

from __future__ import annotations

import enum
from collections.abc import Iterable


class Route(enum.IntEnum):
    """A way from one end to the other."""

    ROUTE_2A = 0
    """Through the smart metering system: fragments, each in a carrier message of its own."""
    ROUTE_2B = 1
    """Over the internet: whole messages, each signed, on a connection that stands or does not."""


def routes_to_number(routes: Iterable[Route]) -> int:
    """Return a set of routes as a number, to be stored: bit 0 for 2a, bit 1 for 2b."""
    return sum(1 << route for route in set(routes))


def number_to_routes(number: int) -> frozenset[Route]:
    """Return the routes that routes_to_number made a number of."""
    return frozenset(route for route in Route if number >> route & 1)


def routes_text(routes: Iterable[Route]) -> str | None:
    """Return a set of routes for people and journals: "2a", "2b", "2a+2b"; None: none."""
    names = {Route.ROUTE_2A: "2a", Route.ROUTE_2B: "2b"}
    return "+".join(names[route] for route in sorted(set(routes))) or None


class RouteChoice(enum.IntEnum):
    """Which routes one message may take."""

    AUTO = 0
    """2b while it stands. Without it, 2a: at once when urgent or when the peer has never come by
    2b, else when 2b has been away for long enough."""
    ONLY_2A = 1
    ONLY_2B = 2
    """Waits for 2b, to the end of its lifetime if need be."""
    BOTH = 3
    """2a and, when it stands, 2b at once; the peer drops what comes second."""
