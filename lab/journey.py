"""The whole journey of one message, put together from the journals of the three daemons."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_ALERT_BODY = "DeviceAlertBody"


@dataclass(frozen=True, slots=True)
class Journey:
    """What one message cost on its way.

    ``gbcs`` and ``duis`` count messages on the wire, ``gbcs_octets`` and ``duis_octets`` their
    octets. GBCS counts what crosses the SM WAN: commands with MAC, responses, alerts.
    """

    fragments: int
    gbcs: int
    gbcs_octets: int
    duis: int
    duis_octets: int


_ON_THE_SM_WAN = {"command", "response", "alert"}


def journey_of(
    events: Iterable[dict[str, Any]], *, downlink: bool, first_counter: int, fragments: int
) -> Journey:
    """Add up what a message cost.

    Args:
        events: the journal of dcc-sim, and others.
        downlink: True from the DSRSP to the CEM.
        first_counter: Originator Counter of the first fragment.
        fragments: how many fragments, at least 1.
    """
    counters = range(first_counter, first_counter + fragments)
    gbcs: list[int] = []
    duis: list[int] = []
    for event in events:
        if event["event"] == "gbcs" and event["hop"] in _ON_THE_SM_WAN:
            if event["originator_counter"] in counters and downlink == (event["hop"] != "alert"):
                gbcs.append(len(event["octets"]) // 2)
        elif event["event"] == "duis":
            counter = _counter_of(event)
            if counter in counters and downlink == (event["kind"] != _ALERT_BODY):
                duis.append(len(event["xml"]) // 2)
    return Journey(fragments, len(gbcs), sum(gbcs), len(duis), sum(duis))


def _counter_of(event: dict[str, Any]) -> int | None:
    identifier = event.get("request_id") or event.get("response_id") or ""
    _, _, counter = str(identifier).rpartition(":")
    return int(counter) if counter.isascii() and counter.isdigit() else None
