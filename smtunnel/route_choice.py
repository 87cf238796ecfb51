"""The two routes between the ends, and which of them a message may take."""

from __future__ import annotations

import enum


class Route(enum.IntEnum):
    """A way from one end to the other."""

    ROUTE_2A = 0
    """Through the smart metering system: fragments, each in a carrier message of its own."""
    ROUTE_2B = 1
    """Over the internet: whole messages, each signed, on a connection that stands or does not."""


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
