"""The tables of results: their columns, with type, unit and meaning. All engines fill the same.

Nothing here depends on the machine, the time of day or the number of processes: a study that is
run again gives the same octets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa


@dataclass(frozen=True, slots=True)
class Column:
    """One column.

    Attributes:
        name: with its unit at the end.
        type: how it is stored.
        meaning: one sentence.
    """

    name: str
    type: Any
    meaning: str


_NAME = pa.dictionary(pa.int32(), pa.string())

CASES = (
    Column("case", pa.int32(), "number of the case in the study, from 0"),
    Column("experiment", pa.string(), "name of the experiment"),
    Column("engine", pa.string(), "fleet, virtual or live; of a deployment's journals: live"),
    Column("route", pa.string(), "name of the route"),
    Column("route_kind", pa.string(), "2a, 2b or stream1"),
    Column("workload", pa.string(), "name of the workload"),
    Column("network", pa.string(), "name of the network"),
    Column("varied", pa.string(), "the experiment's varied values of this case, as text"),
    Column("repetition", pa.int32(), "from 0"),
    Column("seed", pa.uint64(), "of the case's draws; the same for all routes and engines"),
    Column("cems", pa.int64(), "how many CEMs take part"),
)

MESSAGES = (
    Column("case", pa.int32(), "number of the case"),
    Column("message", pa.int64(), "number of the message in its case, from 0"),
    Column("cem", pa.string(), "who: its EUI-64, or its number in the fleet"),
    Column("region", _NAME, "of the CEM; empty where there are none"),
    Column("type", _NAME, "OpenADR message type; empty when not known"),
    Column("direction", _NAME, "down: to the CEM; up: to the DSRSP"),
    Column("message_octets", pa.int64(), "as the application gave it; 0 when not known"),
    Column("fragments", pa.int32(), "carrier messages that it needs; 1 where nothing is cut"),
    Column("transmissions", pa.int32(), "carrier messages sent for it, repetitions included"),
    Column("handed_over_s", pa.float64(), "when the sender took it, seconds from the case's start"),
    Column("latency_s", pa.float64(), "from then to the receiver having all of it; null: never"),
    Column("confirmed_s", pa.float64(), "from then to the sender knowing; null: never"),
    Column("outcome", _NAME, "delivered, failed, or unfinished when the run ended"),
    Column("reason", _NAME, "why it failed; empty otherwise"),
    Column("weight", pa.float64(), "how many messages of the fleet this row stands for; else 1"),
)

FRAGMENTS = (
    Column("case", pa.int32(), "number of the case"),
    Column("message", pa.int64(), "number of the message"),
    Column("index", pa.int32(), "of the fragment, from 0"),
    Column("attempt", pa.int32(), "of the sender, from 1"),
    Column("started_s", pa.float64(), "when the sender began with it, from the case's start"),
    Column("arrived_s", pa.float64(), "from then to the receiver having it; null: never"),
    Column("answered_s", pa.float64(), "from then to the sender having the answer; null: none"),
    Column("wait_s", pa.float64(), "from the message's hand-over to the beginning"),
    Column(
        "request_s",
        pa.float64(),
        "DUIS requests and signing, until the DCC has the command; fleet, on the internet: server "
        "and software",
    ),
    Column("dcc_s", pa.float64(), "inside the DCC, its repetitions after losses included"),
    Column(
        "wan_s",
        pa.float64(),
        "SM WAN, or the internet on 2b and stream1; virtual, live: there with server and software",
    ),
    Column("queue_s", pa.float64(), "waiting for the hub, busy or down, or for a shared capacity"),
    Column("transfer_s", pa.float64(), "transfer at the hub's rate"),
    Column("han_s", pa.float64(), "in the home area network"),
    Column("other_s", pa.float64(), "what is left to arrived_s: sockets, processors, posting"),
    Column("octets", pa.int32(), "GBCS octets of its carrier message; on the internet all octets"),
    Column("completes", pa.bool_(), "whether with it the receiver had the whole message"),
    Column("outcome", _NAME, "arrived, lost, unanswered or refused"),
    Column("reason", _NAME, "why it was lost; empty otherwise"),
    Column("weight", pa.float64(), "as in messages"),
)

COUNTERS = (
    Column("case", pa.int32(), "number of the case"),
    Column("region", _NAME, "of which; empty: all"),
    Column("direction", _NAME, "of which messages; empty: all"),
    Column("counter", _NAME, "what is counted"),
    Column("value", pa.float64(), "how many"),
)

HISTOGRAMS = (
    Column("case", pa.int32(), "number of the case"),
    Column("region", _NAME, "of the CEMs"),
    Column("direction", _NAME, "of the messages"),
    Column("bin", pa.int32(), "latency 0.001 s * 10 ** (bin / 200) is the bin's lower bound"),
    Column("count", pa.int64(), "messages with a latency in this bin"),
)

LOADS = (
    Column("case", pa.int32(), "number of the case"),
    Column("stage", _NAME, "what is shared: dsrsp, dcc, or a region's way down or up"),
    Column("time_s", pa.float64(), "from the case's start"),
    Column("lasts_s", pa.float64(), "so long is this piece of time, in seconds"),
    Column("arriving_per_s", pa.float64(), "requests or octets that arrive in a second"),
    Column("delay_s", pa.float64(), "what one that arrives now has to wait"),
    Column("capacity_per_s", pa.float64(), "what it takes in a second, beside what others use"),
)

TABLES: Mapping[str, tuple[Column, ...]] = {
    "cases": CASES,
    "messages": MESSAGES,
    "fragments": FRAGMENTS,
    "counters": COUNTERS,
    "histograms": HISTOGRAMS,
    "loads": LOADS,
}

COUNTER_MEANINGS: Mapping[str, str] = {
    "messages": "messages handed over",
    "delivered": "messages that the receiver had whole",
    "failed": "messages given up",
    "fragments": "carrier messages needed",
    "transmissions": "carrier messages sent, repetitions by sender included",
    "dcc_attempts": "copies of commands that the DCC put on the SM WAN, its repetitions included",
    "duis_requests": "DUIS requests that the DSRSP sent",
    "duis_received": "DUIS messages that the DSRSP received",
    "sm_wan_octets": "GBCS octets on the SM WAN, both ways",
    "internet_octets": "octets over the internet, both ways, with an allowance for TLS and HTTP",
    "signatures": "ECDSA signatures made by the two ends (GBCS and DUIS)",
    "quarantined": "requests that anomaly detection held back",
    "alerts_discarded": "alerts discarded by alert storm protection",
    "duplicates": "copies that came a second time",
    "met:SECONDS": "messages delivered within so many seconds, counted exactly",
    "makespan_s": "seconds from the first hand-over to the last arrival; a time, not a count",
}


@dataclass(slots=True)
class Tables:
    """What an engine returns for one case.

    Attributes:
        messages: see MESSAGES.
        fragments: see FRAGMENTS.
        counters: see COUNTERS.
        histograms: see HISTOGRAMS.
        loads: see LOADS.
    """

    messages: Any = field(default_factory=lambda: empty("messages"))
    fragments: Any = field(default_factory=lambda: empty("fragments"))
    counters: Any = field(default_factory=lambda: empty("counters"))
    histograms: Any = field(default_factory=lambda: empty("histograms"))
    loads: Any = field(default_factory=lambda: empty("loads"))


def schema(name: str) -> Any:
    """Return the Arrow schema of a table."""
    return pa.schema([(column.name, column.type) for column in TABLES[name]])


def empty(name: str) -> Any:
    """Return a table without rows."""
    return schema(name).empty_table()


def build(name: str, columns: Mapping[str, Any], rows: int) -> Any:
    """Return a table; a column that is a single value is repeated.

    Args:
        name: of the table.
        columns: by name; what is left out is 0, false or empty.
        rows: how many.
    """
    arrays = []
    for column in TABLES[name]:
        values = columns.get(column.name, _nothing(column.type))
        if isinstance(values, str | int | float | bool):
            values = pa.repeat(pa.scalar(values), rows)
        array = values if isinstance(values, pa.Array) else pa.array(values)
        if pa.types.is_dictionary(column.type):
            if not pa.types.is_dictionary(array.type):
                array = array.cast(pa.string()).dictionary_encode()
        else:
            array = array.cast(column.type)
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=schema(name))


def from_rows(name: str, rows: Sequence[Mapping[str, Any]]) -> Any:
    """Return a table of rows, each with every column."""
    columns = {column.name: [row[column.name] for row in rows] for column in TABLES[name]}
    return pa.Table.from_pydict(columns, schema=schema(name))


def _nothing(kind: Any) -> Any:
    if pa.types.is_dictionary(kind) or pa.types.is_string(kind):
        return ""
    return False if pa.types.is_boolean(kind) else 0
