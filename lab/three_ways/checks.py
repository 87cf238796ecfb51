"""Did everything arrive as it was sent, and did the charger do what the event asked?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from lab.openadr_demo import Exchanged
from lab.three_ways.story import FULL_POWER_W, Way, WayStory
from openadr_xml import canonical

_RETURN_WITHIN_S: Final = 1.0
# What the CEM makes itself never crossed. See specs/openadr-faces.md, section 1.2.
_MADE_AT_CEM: Final = {"oadrResponse", "oadrUpdatedReport"}
_MADE_AT_DSRSP: Final = {"oadrPoll"}
_MUST_GO_DOWN: Final = {
    "oadrCreatedPartyRegistration",
    "oadrRegisteredReport",
    "oadrDistributeEvent",
}
_MUST_GO_UP: Final = {
    "oadrCreatePartyRegistration",
    "oadrRegisterReport",
    "oadrUpdateReport",
    "oadrCreatedEvent",
    "oadrCancelPartyRegistration",
}


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that must be so.

    Attributes:
        name: what must be so.
        good: whether it is.
        detail: what was seen.
    """

    name: str
    good: bool
    detail: str


def check(story: WayStory, power_w: float) -> list[Check]:
    """Hold a story against what should have happened.

    Args:
        story: of one way.
        power_w: what the event allowed.
    """
    down = [e for e in story.ven.all if not e.sent and _crosses(e, _MADE_AT_CEM, story.way)]
    up = [e for e in story.vtn.all if not e.sent and _crosses(e, _MADE_AT_DSRSP, story.way)]
    return [
        _arrived("what the VEN got is what the VTN sent", story.vtn.all, down, _MUST_GO_DOWN),
        _arrived("what the VTN got is what the VEN sent", story.ven.all, up, _MUST_GO_UP),
        *_charger(story, power_w),
        _reported(story, power_w),
        *_right_way(story),
    ]


def _crosses(exchanged: Exchanged, made_at_edge: set[str], way: Way) -> bool:
    if not way.tunnelled:
        return True
    if exchanged.name == "oadrCreatedPartyRegistration":
        # The answer to a query before the registration is the CEM's own.
        return "registrationID" in exchanged.text
    return exchanged.name not in made_at_edge


def _arrived(
    name: str, sender_has: Iterable[Exchanged], arrived: list[Exchanged], must: set[str]
) -> Check:
    sent = {e.text for e in sender_has if e.sent}
    sent_canonical = {canonical(text.encode()) for text in sent}
    seen: Counter[str] = Counter()
    for exchanged in arrived:
        if exchanged.text in sent:
            seen["byte for byte"] += 1
        elif canonical(exchanged.text.encode()) in sent_canonical:
            seen["equal as canonical XML"] += 1
        else:
            return Check(name, False, f"an {exchanged.name} arrived that was never sent")
    if missing := must - {e.name for e in arrived}:
        return Check(name, False, f"never arrived: {', '.join(sorted(missing))}")
    told = ", ".join(f"{count} {how}" for how, count in seen.items())
    return Check(name, True, f"{len(arrived)} messages: {told}")


def _charger(story: WayStory, power_w: float) -> Iterator[Check]:
    moments = story.moments
    curve = [watts for _, watts in story.power]
    yield Check(
        "the charger did what the event asked, and nothing else",
        curve == [FULL_POWER_W, power_w, FULL_POWER_W],
        "it drew " + ", then ".join(f"{watts:g} W" for watts in curve),
    )
    yield Check(
        "it did so within the event's interval",
        moments.decided <= moments.changed < moments.ends,
        f"{moments.changed - moments.decided:.3f} s after its start, "
        f"{moments.ends - moments.changed:.3f} s before its end",
    )
    late = moments.returned - moments.ends
    yield Check(
        "it returned when the event was over",
        0 <= late < _RETURN_WITHIN_S,
        f"{late * 1000:.1f} ms after its end",
    )


def _reported(story: WayStory, power_w: float) -> Check:
    heard = [watts for t, watts in story.heard if t > story.moments.changed]
    return Check(
        "the VTN heard of it in the VEN's reports",
        power_w in heard and heard[-1] == FULL_POWER_W,
        f"{len(story.heard)} reports, {heard.count(power_w)} of {power_w:g} W",
    )


def _right_way(story: WayStory) -> Iterator[Check]:
    counts = story.counts
    journey = story.journey
    if story.way is Way.STREAM_1:
        yield Check("nothing went through a tunnel", journey is None, "direct")
        return
    if journey is None:
        yield Check("the event's journey is in the journals", False, "no message of that time")
        return
    wanted = "2b" if story.way is Way.ROUTE_2B else "2a"
    routes = {delivery.route for delivery in journey.deliveries}
    yield Check(
        "the event went this way, and arrived whole",
        journey.arrived_s is not None and routes == {wanted},
        f"by {' and '.join(sorted(routes))}; of the tunnel's messages {counts.messages_2a} went "
        f"by 2a, {counts.messages_2b} by 2b",
    )
