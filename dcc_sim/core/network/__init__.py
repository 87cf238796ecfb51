"""The network between DCC and devices as a model: no I/O, no clock, no randomness of its own."""

from __future__ import annotations

from dcc_sim.core.network.parcels import Arrived, Direction, Lost, Outcome, Parcel, Place
from dcc_sim.core.network.profile import NetworkProfile, Parameter, Standing, parse_profile
from dcc_sim.core.network.storm import AlertStormProtection, Verdict
from dcc_sim.core.network.streams import Stream, Streams
from dcc_sim.core.network.transport import Network

__all__ = [
    "AlertStormProtection",
    "Arrived",
    "Direction",
    "Lost",
    "Network",
    "NetworkProfile",
    "Outcome",
    "Parameter",
    "Parcel",
    "Place",
    "Standing",
    "Stream",
    "Streams",
    "Verdict",
    "parse_profile",
]
