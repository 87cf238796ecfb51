"""The result tables from journals: of the live engine, the virtual one, or a real deployment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from lab.study.histogram import bins_of
from lab.study.journal_join import FAILED, PARTS, Event, JoinedJournals, Message, Transmission
from lab.study.payloads import WEBSOCKET_OCTETS
from lab.study.tables import Tables, build, from_rows

KnownMessages: TypeAlias = Mapping[tuple[str, int], tuple[str, int]]

_DIGITS = 6
_WHOLE_COUNTERS = (
    "dcc_attempts",
    "duis_requests",
    "duis_received",
    "sm_wan_octets",
    "internet_octets",
    "signatures",
    "quarantined",
    "alerts_discarded",
    "duplicates",
)


class JournalReader:
    """Makes tables of the events of one run.

    Args:
        events: of all journals, in order of time; each may name where it is from in "source",
            which tells the journals of several CEMs apart.
        time_scale: seconds of the case in one second of the journals.
        known: OpenADR type and octets of messages by direction and octets as the journal has them,
            which are those of the compact form; may be empty.
    """

    def __init__(
        self,
        events: Sequence[Event],
        *,
        time_scale: float = 1.0,
        known: KnownMessages | None = None,
    ) -> None:
        self._scale = time_scale
        self._known = known or {}
        self._joined = JoinedJournals(events, time_scale=time_scale)
        self._began = min((m.t for m in self._joined.messages), default=0.0)
        self._timed = [m for m in self._joined.messages if self._joined.hears(m)]

    @property
    def messages(self) -> int:
        """How many messages were found."""
        return len(self._joined.messages)

    @property
    def doubtful(self) -> Mapping[str, Sequence[str]]:
        """The CEMs' journals of which nobody can tell whose they are, with whose they may be."""
        return self._joined.doubtful

    @property
    def timed(self) -> int:
        """How many messages there are whose receiver's journal is there."""
        return len(self._timed)

    @property
    def routes(self) -> list[str]:
        """By which ways those have gone."""
        return sorted({message.route for message in self._timed})

    @property
    def clocks_differ_s(self) -> float:
        """By how much the clocks of the journals differ at least, in seconds; 0: it does not show.

        No message comes before it is sent, or after its sender knows that it has come.
        """
        wrong = [0.0]
        for message in self._timed:
            if message.received is not None:
                wrong.append(message.t - message.received)
                if message.known is not None:
                    wrong.append(message.received - message.known)
        return max(wrong)

    def tables(
        self, case: int, deadlines_s: Iterable[float], *, route: str | None = None
    ) -> Tables:
        """Return the tables.

        Args:
            case: under which number.
            deadlines_s: for the counters.
            route: only what went by this way and has its receiver's journal; None: everything.
        """
        chosen = self._joined.messages
        if route is not None:
            chosen = [message for message in self._timed if message.route == route]
        messages, fragments = [], []
        for number, message in enumerate(chosen):
            messages.append(self._message_row(case, number, message))
            completing = _completing(message)
            fragments += [
                self._fragment_row(case, number, one, one is completing)
                for one in sorted(message.transmissions, key=lambda one: (one.t, one.index))
            ]
        counters = self._counters(case, messages, tuple(deadlines_s), self._whole_counts(route))
        return Tables(
            messages=from_rows("messages", messages),
            fragments=from_rows("fragments", fragments),
            counters=from_rows("counters", counters),
            histograms=_histograms(case, messages),
        )

    def _message_row(self, case: int, number: int, message: Message) -> dict[str, Any]:
        direction = "down" if message.downlink else "up"
        name, octets = self._known.get((direction, message.octets), ("", message.octets))
        sent = message.transmissions
        whole = bool(sent) and all(one.route != "2a" for one in sent)
        outcome = "unfinished"
        if message.received is not None:
            outcome = "delivered"
        elif message.state in FAILED:
            outcome = "failed"
        return {
            "case": case,
            "message": number,
            "cem": message.device,
            "region": self._joined.region_of(message.device),
            "type": name,
            "direction": direction,
            "message_octets": octets,
            # Over the internet nothing is cut, whatever it would have been on 2a.
            "fragments": message.fragments if not whole else 1,
            "transmissions": len(sent),
            "handed_over_s": self._since(self._began, message.t),
            "latency_s": self._since(message.t, message.received),
            "confirmed_s": self._since(message.t, message.known),
            "outcome": outcome,
            "reason": message.reason if outcome == "failed" else "",
            "weight": 1.0,
        }

    def _fragment_row(
        self, case: int, number: int, one: Transmission, completes: bool
    ) -> dict[str, Any]:
        arrived = self._since(one.t, one.arrived)
        parts = {
            name: round(getattr(one, name), _DIGITS) for name in ("request_s", "dcc_s", *PARTS)
        }
        outcome = "arrived" if arrived is not None or one.result == "success" else "lost"
        if outcome == "lost" and one.result and one.result not in ("success", "failed", "unknown"):
            outcome = "refused"
        elif outcome == "lost" and one.answered is None and not one.reason:
            outcome = "unanswered"
        return {
            "case": case,
            "message": number,
            "index": one.index,
            "attempt": one.attempt,
            "started_s": self._since(self._began, one.t),
            "arrived_s": arrived,
            "answered_s": self._since(one.t, one.answered),
            "wait_s": self._since(one.message.t, one.t),
            "other_s": 0.0 if arrived is None else round(arrived - sum(parts.values()), _DIGITS),
            "octets": one.octets,
            "completes": completes,
            "outcome": outcome,
            "reason": one.reason if outcome != "arrived" else "",
            "weight": 1.0,
        } | parts

    def _since(self, began: float, at: float | None) -> float | None:
        return None if at is None else round((at - began) * self._scale, _DIGITS)

    def _counters(
        self,
        case: int,
        messages: Sequence[Event],
        deadlines_s: tuple[float, ...],
        whole: Mapping[str, int],
    ) -> list[dict[str, Any]]:
        counts: Counter[tuple[str, str, str]] = Counter()
        for row in messages:
            place = (row["region"], row["direction"])
            counts[*place, "messages"] += 1
            counts[*place, "delivered"] += row["outcome"] == "delivered"
            counts[*place, "failed"] += row["outcome"] == "failed"
            counts[*place, "fragments"] += row["fragments"]
            counts[*place, "transmissions"] += row["transmissions"]
            for deadline in deadlines_s:
                met = row["latency_s"] is not None and row["latency_s"] <= deadline
                counts[*place, f"met:{deadline:g}"] += met
        rows = [
            {"case": case, "region": region, "direction": way, "counter": name, "value": float(n)}
            for (region, way, name), n in sorted(counts.items())
        ]
        rows += [
            {"case": case, "region": "", "direction": "", "counter": name, "value": float(value)}
            for name, value in sorted(whole.items())
        ]
        ends = [
            row["handed_over_s"] + row["latency_s"]
            for row in messages
            if row["latency_s"] is not None
        ]
        last = max(ends, default=0.0)
        rows.append(
            {"case": case, "region": "", "direction": "", "counter": "makespan_s", "value": last}
        )
        return rows

    def _whole_counts(self, route: str | None) -> dict[str, int]:
        """Count what belongs to no message; each thing under one route."""
        counts = dict.fromkeys(_WHOLE_COUNTERS, 0)

        def belongs(way: str) -> bool:
            return route is None or route == (way if way in self.routes else self.routes[0])

        for event in self._joined.events_of("dcc-sim") if belongs("2a") else ():
            kind, hop, outcome = event["event"], event.get("hop"), event.get("outcome")
            if kind == "network" and hop in ("command", "response", "alert"):
                counts["dcc_attempts"] += hop == "command" and not event.get("copy")
                counts["sm_wan_octets"] += int(event.get("octets") or 0)
                counts["alerts_discarded"] += outcome == "discarded"
                counts["duplicates"] += bool(event.get("copy")) and outcome == "arrived"
            elif kind == "duis":
                counts["duis_requests"] += hop == "request"
                counts["duis_received"] += hop == "response"
                counts["signatures"] += hop == "request"
            elif kind == "gbcs":
                counts["signatures"] += hop in ("signed_pre_command", "response", "alert")
            elif kind == "quarantine":
                counts["quarantined"] += outcome == "held"
        for component in ("dsrsp", "cem"):
            for event in self._joined.events_of(component):
                if event["event"] != "carrier" or not belongs(str(event.get("route") or "2a")):
                    continue
                if event.get("route") == "2b":
                    # Receipts, too: each is signed and sent like a message.
                    counts["signatures"] += 1
                    counts["internet_octets"] += int(event["octets"]) + WEBSOCKET_OCTETS
                elif event.get("route") == "stream1":
                    counts["internet_octets"] += int(event["octets"])
        return counts


def _completing(message: Message) -> Transmission | None:
    first: dict[int, Transmission] = {}
    for one in message.transmissions:
        known = first.get(one.index)
        if one.arrived is not None and (
            known is None or known.arrived is None or one.arrived < known.arrived
        ):
            first[one.index] = one
    if message.received is None or not first:
        return None
    return max(first.values(), key=lambda one: (one.arrived or 0.0, one.index))


def _histograms(case: int, messages: Sequence[Event]) -> Any:
    counts: Counter[tuple[str, str, int]] = Counter()
    for row in messages:
        if row["latency_s"] is not None:
            place = int(bins_of(np.asarray([row["latency_s"]]))[0])
            counts[row["region"], row["direction"], place] += 1
    rows = sorted(counts.items())
    return build(
        "histograms",
        {
            "case": case,
            "region": [region for (region, _, _), _ in rows],
            "direction": [way for (_, way, _), _ in rows],
            "bin": [place for (_, _, place), _ in rows],
            "count": [count for _, count in rows],
        },
        len(rows),
    )
