"""Route 2b's client: connects to the DSRSP over the internet, as its route offers say."""

from __future__ import annotations

from cem.route_2b.client import Phase, Route2bClient, RouteState
from cem.route_2b.config import Route2bClientConfig
from cem.route_2b.offers import judge_offer
from cem.route_2b.session import Application

__all__ = [
    "Application",
    "Phase",
    "Route2bClient",
    "Route2bClientConfig",
    "RouteState",
    "judge_offer",
]
