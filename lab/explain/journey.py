"""What a message's journey is made of."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Any


class Party(enum.Enum):
    """Who takes part; the value is what people call it."""

    DSRSP = "DSRSP"
    DCC = "DCC"
    CEM = "CEM"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One attempt to deliver one fragment, or by route 2b the whole message.

    Attributes:
        index: of the fragment.
        attempt: 1 for the first.
        originator_counter: of the GBCS message that carries it.
        t: when it was handed on, in seconds since 1970.
        chars: length of the carrier payload; by route 2b octets of the signed message.
        route: "2a" or "2b".
    """

    index: int
    attempt: int
    originator_counter: int
    t: float
    chars: int
    route: str = "2a"


@dataclass(frozen=True, slots=True)
class JourneyStep:
    """One thing that happened.

    Attributes:
        t: when, in seconds since 1970, by the clock of who told it.
        source: where it began.
        target: where it ended; the same as source: nothing moved.
        title: what, in a few words.
        facts: more of it, as pairs of name and value.
        octets: length of what moved or was made, 0 when nothing did.
        failed: whether something went wrong.
        delivery: the attempt it belongs to; None: the whole message.
        kind: "duis", "gbcs", "network", "post", ... as in the journal.
    """

    t: float
    source: Party
    target: Party
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    octets: int = 0
    failed: bool = False
    delivery: Delivery | None = None
    kind: str = ""

    @property
    def details(self) -> str:
        """The facts in one line."""
        return ", ".join(f"{name} {value}" for name, value in self.facts)


@dataclass(frozen=True, slots=True)
class MessageJourney:
    """All that is known of one message.

    Attributes:
        ref: its name at its sender.
        downlink: True from the DSRSP to the CEM.
        device: the CEM's EUI-64; empty when no journal tells.
        tunnel_message_id: None while it had none.
        message_octets: of the whole message as the tunnel got it; None when no journal tells.
        fragments_total: None when no journal tells.
        state: the last that its sender said of it.
        reason: why it failed; empty otherwise.
        deliveries: each attempt of each fragment, in order of time.
        steps: all that happened, in order of time.
    """

    ref: str
    downlink: bool
    device: str
    tunnel_message_id: int | None
    message_octets: int | None
    fragments_total: int | None
    state: str
    reason: str
    deliveries: tuple[Delivery, ...]
    steps: tuple[JourneyStep, ...]

    @property
    def began(self) -> float:
        """When the first thing happened, in seconds since 1970."""
        return self.steps[0].t

    @property
    def arrived_s(self) -> float | None:
        """How long until the receiving gateway had it whole, in seconds; None: it had not."""
        receiver = Party.CEM if self.downlink else Party.DSRSP
        for step in self.steps:
            if step.kind == "message" and step.source is receiver and step.title == "reassembled":
                return step.t - self.began
        return None

    def octets_of(self, kind: str) -> tuple[int, int]:
        """Return how many messages of a kind moved, and their octets together.

        Args:
            kind: "duis" (requests and answers; posts are "post"), "network" (GBCS through the
                DCC) or "carrier" (signed messages by route 2b).
        """
        moved = [
            step for step in self.steps if step.kind == kind and step.source is not step.target
        ]
        return len(moved), sum(step.octets for step in moved)


def as_json_object(journey: MessageJourney) -> dict[str, Any]:
    """Return a journey for json.dumps."""
    return {
        "ref": journey.ref,
        "direction": "down" if journey.downlink else "up",
        "device": journey.device,
        "tunnel_message_id": journey.tunnel_message_id,
        "message_octets": journey.message_octets,
        "fragments_total": journey.fragments_total,
        "state": journey.state,
        "reason": journey.reason,
        "began": journey.began,
        "arrived_s": journey.arrived_s,
        "steps": [_step(step, journey.began) for step in journey.steps],
    }


def _step(step: JourneyStep, began: float) -> dict[str, Any]:
    delivery = step.delivery
    return {
        "t": step.t,
        "after_s": round(step.t - began, 6),
        "kind": step.kind,
        "from": step.source.value,
        "to": step.target.value,
        "title": step.title,
        "facts": dict(step.facts),
        "octets": step.octets,
        "failed": step.failed,
        "fragment": None if delivery is None else delivery.index,
        "attempt": None if delivery is None else delivery.attempt,
        "route": None if delivery is None else delivery.route,
        "originator_counter": None if delivery is None else delivery.originator_counter,
    }
