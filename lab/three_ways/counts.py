"""What crossed, from the journals, against what VTN and VEN exchanged over HTTP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from lab.explain.join import Event
from lab.openadr_demo import Exchanges


@dataclass(frozen=True, slots=True)
class Counts:
    """Messages over HTTP are requests and answers. What crossed includes the tunnel's own.

    Attributes:
        ven_http: messages between the VEN and whom it takes for its VTN.
        vtn_http: messages between the VTN and whom it takes for its VEN.
        messages: OpenADR messages that crossed the tunnel.
        messages_2a: transmissions of whole messages on route 2a, the tunnel's own with them.
        messages_2b: the same on route 2b.
        fragments: that crossed on route 2a, repetitions with them.
        duis_requests: that the DSRSP made of the DCC.
        duis_posts: that the DCC made of the DSRSP.
    """

    ven_http: int
    vtn_http: int
    messages: int = 0
    messages_2a: int = 0
    messages_2b: int = 0
    fragments: int = 0
    duis_requests: int = 0
    duis_posts: int = 0

    def as_json_object(self) -> dict[str, Any]:
        """Return the counts by name."""
        return asdict(self)


def count(vtn: Exchanges, ven: Exchanges, events: Sequence[Event]) -> Counts:
    """Count.

    Args:
        vtn: what the VTN exchanged.
        ven: what the VEN exchanged.
        events: of the journals; none on the direct way.
    """
    carried = [event for event in events if event["event"] == "carrier"]
    by_2b = [event for event in carried if event.get("route") == "2b"]
    by_2a = [event for event in carried if event.get("route") != "2b"]
    return Counts(
        ven_http=len(ven.all),
        vtn_http=len(vtn.all),
        messages=len({_ref(event) for event in carried if not event["control"]}),
        messages_2a=len({_ref(event) for event in by_2a}),
        messages_2b=len({_ref(event) for event in by_2b}),
        fragments=len(by_2a),
        duis_requests=sum(e["event"] == "duis" and e["hop"] == "request" for e in events),
        duis_posts=sum(e["event"] == "post" and e["outcome"] == "taken" for e in events),
    )


def _ref(event: Event) -> tuple[str, str]:
    return str(event["component"]), str(event["message_ref"])
