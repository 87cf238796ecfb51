"""What is known of an event's way from the VTN to the charger."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from lab.explain import MessageJourney, as_json_object
from lab.openadr_demo import Exchanges
from lab.three_ways.counts import Counts

FULL_POWER_W: Final = 7400.0
"""What the charger draws without an event."""

Told: TypeAlias = Callable[[str, str, float | None], None]
"""Is told who does what, and how long after the VTN's decision, in seconds (None: before it)."""


class Way(enum.Enum):
    """How VTN and VEN are joined; the value is what people call it."""

    ROUTE_2A = "route 2a"
    ROUTE_2B = "route 2b"
    STREAM_1 = "Stream 1"

    @property
    def tunnelled(self) -> bool:
        """Whether the gateways stand between VTN and VEN."""
        return self is not Way.STREAM_1

    @property
    def words(self) -> str:
        """What it is, in a few words."""
        return _WORDS[self]


_WORDS: Final = {
    Way.ROUTE_2A: "through the smart metering system, in fragments",
    Way.ROUTE_2B: "over the internet, each message signed as a GBCS message",
    Way.STREAM_1: "VTN and VEN directly, over HTTPS with mutual TLS",
}


@dataclass(frozen=True, slots=True)
class Moments:
    """When the event was where, in seconds since 1970.

    Attributes:
        decided: the VTN decided on it; also its start.
        fetched: the VTN gave it to the poll that asked: the DSRSP's, or the VEN's.
        crossed: the CEM's gateway had it whole; None on the direct way.
        received: the VEN had it.
        changed: the charger drew less.
        answered: the VTN had the VEN's optIn; None: not yet.
        ends: the end of its interval.
        returned: the charger drew all again.
    """

    decided: float
    fetched: float
    crossed: float | None
    received: float
    changed: float
    answered: float
    ends: float
    returned: float

    def parts(self) -> dict[str, float]:
        """Return what the time from decision to change is made of, in seconds."""
        crossed = self.received if self.crossed is None else self.crossed
        return {
            "until the VTN is polled": self.fetched - self.decided,
            "across": crossed - self.fetched,
            "until the CEM is polled": self.received - crossed,
            "until the charger changes": self.changed - self.received,
            "decision to change": self.changed - self.decided,
            "decision to optIn at the VTN": self.answered - self.decided,
        }


@dataclass(frozen=True, slots=True)
class WayStory:
    """One way, from registration to deregistration.

    Attributes:
        way: which.
        moments: of the event.
        power: what the charger drew: when it changed, in seconds since 1970, and to what, in watts.
        heard: what its reports told the VTN: when the VTN had each, and the watts in it.
        vtn: what the VTN exchanged over HTTP.
        ven: what the VEN exchanged over HTTP.
        counts: what crossed against what was exchanged.
        journey: the event's, through the tunnel; None on the direct way.
    """

    way: Way
    moments: Moments
    power: list[tuple[float, float]]
    heard: list[tuple[float, float]]
    vtn: Exchanges
    ven: Exchanges
    counts: Counts
    journey: MessageJourney | None

    def as_json_object(self) -> dict[str, Any]:
        """Return the story for json.dumps; times in seconds after the decision."""
        began = self.moments.decided
        return {
            "way": self.way.value,
            "decided": began,
            "parts_s": {name: round(value, 6) for name, value in self.moments.parts().items()},
            "event_ends_s": round(self.moments.ends - began, 6),
            "charger_returned_s": round(self.moments.returned - began, 6),
            "charger_w": [[round(t - began, 6), watts] for t, watts in self.power],
            "reported_w": [[round(t - began, 6), watts] for t, watts in self.heard],
            "counts": self.counts.as_json_object(),
            "journey": None if self.journey is None else as_json_object(self.journey),
        }
