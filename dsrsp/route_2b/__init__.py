"""Route 2b's server: CEMs connect to it over the internet, by WebSocket over TLS."""

from __future__ import annotations

from dsrsp.route_2b.config import Route2bServerConfig
from dsrsp.route_2b.links import Broadcast
from dsrsp.route_2b.server import Route2bServer
from dsrsp.route_2b.session import Application

__all__ = ["Application", "Broadcast", "Route2bServer", "Route2bServerConfig"]
