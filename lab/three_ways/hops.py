"""A journey in few lines: what is alike on its way is one hop, however many fragments there are."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lab.explain import MessageJourney
from lab.explain.journey import JourneyStep


@dataclass(frozen=True, slots=True)
class Hop:
    """Steps of one kind between the same two parties.

    Attributes:
        way: "DSRSP → DCC", or "CEM" for what happened there.
        title: what it is.
        count: how many of them.
        octets: of all together; 0 where nothing moved.
        first_s: when the first was, after the journey's beginning.
        last_s: when the last was.
        failed: whether one of them went wrong.
    """

    way: str
    title: str
    count: int
    octets: int
    first_s: float
    last_s: float
    failed: bool


def hops_of(journey: MessageJourney) -> list[Hop]:
    """Return the hops of a journey, the first to begin first."""
    hops: dict[tuple[str, str], Hop] = {}
    for step in journey.steps:
        after = step.t - journey.began
        way, title = _way(step), _title(step)
        known = hops.get((way, title))
        if known is None:
            hops[way, title] = Hop(way, title, 1, step.octets, after, after, step.failed)
        else:
            hops[way, title] = replace(
                known,
                count=known.count + 1,
                octets=known.octets + step.octets,
                last_s=after,
                failed=known.failed or step.failed,
            )
    return list(hops.values())


def _way(step: JourneyStep) -> str:
    if step.source is step.target:
        return step.source.value
    return f"{step.source.value} → {step.target.value}"


def _title(step: JourneyStep) -> str:
    if step.kind == "carrier" and step.source is step.target:
        return "fragment handed on"  # the title has its number
    return step.title
