"""The same VTN, VEN and event by three ways: route 2a, route 2b and directly over HTTPS.

`run_way` takes one way, `check` holds what happened against what should have, `draw` makes a
picture of what the charger did by each.
"""

from lab.three_ways.checks import Check, check
from lab.three_ways.counts import Counts
from lab.three_ways.picture import draw
from lab.three_ways.run import EVENT_POWER_W, EVENT_S, run_way
from lab.three_ways.story import FULL_POWER_W, Moments, Told, Way, WayStory

__all__ = [
    "EVENT_POWER_W",
    "EVENT_S",
    "FULL_POWER_W",
    "Check",
    "Counts",
    "Moments",
    "Told",
    "Way",
    "WayStory",
    "check",
    "draw",
    "run_way",
]
