"""One chunk of CEMs through a whole workload."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lab.study.fleet.direct import Internet
from lab.study.fleet.down import Downlink
from lab.study.fleet.draws import Bools, Floats, Ints, generator
from lab.study.fleet.fluid import at_ranks
from lab.study.fleet.hub import Hubs
from lab.study.fleet.lines import RECEIPT_OCTETS, Waits
from lab.study.fleet.model import FleetModel, MessageModel
from lab.study.fleet.recorder import Recorder
from lab.study.fleet.sizes import Sizes
from lab.study.fleet.up import Uplink
from lab.study.histogram import BINS, bins_of

CHUNK = 50_000
"""CEMs of a chunk. Part of what results depend on: a chunk has a seed of its own."""

_PLACES, _NETWORK, _SIZES, _HUBS = range(4)

Counters = dict[tuple[int, str, str], float]


@dataclass(slots=True)
class ChunkResult:
    """What a chunk has counted and written down.

    Attributes:
        counters: (number of the region, or -1 for all; direction, or "" for both; name): value.
        histograms: (number of the region, direction): counts of BINS bins.
        messages: columns of the messages that are written down.
        fragments: rows of their transmissions, see Recorder.
        last_s: when the last message arrived, in seconds.
        flight_s: sum of fragments' times in flight, in seconds, and how many they were.
        latency_sums: for each message of the turn: sum of latencies, and how many arrived.
        overheads: for each message of the turn: transmissions and fragments.
    """

    counters: Counters = field(default_factory=dict)
    histograms: dict[tuple[int, str], Ints] = field(default_factory=dict)
    messages: list[dict[str, Any]] = field(default_factory=list)
    fragments: Any = None
    last_s: float = 0.0
    flight_s: tuple[float, int] = (0.0, 0)
    latency_sums: list[tuple[float, int]] = field(default_factory=list)
    overheads: list[tuple[int, int]] = field(default_factory=list)

    def count(self, region: int, direction: str, name: str, value: float) -> None:
        """Add to a counter."""
        key = (region, direction, name)
        self.counters[key] = self.counters.get(key, 0.0) + value


class Chunk:
    """CEMs `first` to `first + count` of a case.

    Args:
        model: of the case.
        waits: for each turn and message, or None: nobody waits (a pilot run).
        number: of the chunk.
        first: number of its first CEM.
        count: how many.
        rows: of how many CEMs rows are written down.
        seed: of the case, or another for a pilot.
    """

    def __init__(
        self,
        model: FleetModel,
        waits: list[list[Waits]] | None,
        number: int,
        first: int,
        count: int,
        rows: int,
        seed: int,
    ) -> None:
        self._model, self._waits, self._count, self._first = model, waits, count, first
        total = model.case.workload.cems
        self._ranks = np.minimum((first + np.arange(count) + 0.5) / total, 1.0)
        shares = np.cumsum([region.share for region in model.regions])
        places = generator(seed, number, _PLACES).random(count)
        region = np.minimum(np.searchsorted(shares, places, side="right"), len(shares) - 1)
        self._written = np.unique(np.linspace(0, count - 1, min(rows, count)).astype(np.int64))
        slots = np.full(count, -1, dtype=np.int64)
        slots[self._written] = np.arange(len(self._written))
        self._recorder = Recorder(slots)
        begin = self._ranks * model.case.workload.spread_s
        self._hubs = Hubs(model.regions, region, begin, generator(seed, number, _HUBS))
        self._numbers = generator(seed, number, _NETWORK)
        self._size_numbers = generator(seed, number, _SIZES)
        self._down = Downlink(model, self._hubs, self._numbers, self._recorder)
        self._up = Uplink(model, self._hubs, self._numbers, self._recorder)
        self._internet = Internet(model, self._numbers, self._recorder)
        self._offline = (
            np.zeros(count, dtype=np.bool_)
            if model.case.route.kind == "2a"
            else self._internet.offline(count)
        )
        self._down_since = begin - self._internet.offline_for(count)
        self._result = ChunkResult()

    def run(self) -> ChunkResult:
        """Carry the workload out."""
        workload = self._model.case.workload
        number = 0
        for turn in range(workload.times):
            at = turn * workload.interval_s + self._ranks * workload.spread_s
            cems: Ints = np.arange(self._count)
            copies = self._model.copies
            for place, message in enumerate(self._model.messages):
                waits = None if self._waits is None else self._waits[turn][place]
                self._recorder.message(number)
                arrived = self._message(cems, at[cems], message, waits, number, copies)
                number += copies
                # What did not arrive has no answer; the others go on at once.
                good = arrived < np.inf
                cems = cems[good]
                at[cems] = arrived[good]
                if not len(cems):
                    break
        self._count_all()
        self._result.fragments = self._recorder.rows()
        return self._result

    def _message(
        self,
        cems: Ints,
        begin: Floats,
        message: MessageModel,
        waits: Waits | None,
        number: int,
        copies: int,
    ) -> Floats:
        """Carry one message of each CEM (or copies of it); returns when the last one arrived."""
        chosen = self._size_numbers.integers(0, len(message.costs), self._count)[cems]
        sizes = Sizes(message.costs, chosen)
        release, wait = self._in_line(cems, begin, waits)
        before = self._down.transmissions + self._up.transmissions + self._internet.transmissions
        confirmed = np.full(len(cems), np.inf)
        if self._model.case.route.kind != "2a":
            fallback = None if waits is None else waits.fallback
            arrived, sent = self._over_internet(cems, begin, release, message, sizes, fallback)
            arrived = arrived[:, None]
        elif message.downlink:
            came, confirmed, sent = self._down.carry(cems, begin, release, wait, sizes)
            arrived = came[:, None]
        else:
            arrived, sent = self._up.carry(cems, begin, release - begin + wait, sizes, copies)
        after = self._down.transmissions + self._up.transmissions + self._internet.transmissions
        self._tell(cems, begin, arrived, confirmed, sent, message, sizes, number)
        needed = int(sizes.fragments.sum()) * copies
        self._result.overheads.append((after - before, needed))
        last: Floats = arrived.max(axis=1)
        return last

    def _in_line(self, cems: Ints, begin: Floats, waits: Waits | None) -> tuple[Floats, Floats]:
        """Return when messages are released, and what they wait for their region after that."""
        wait = np.zeros(len(cems))
        if waits is None:
            return begin, wait
        ranks = self._ranks[cems]
        regions = self._hubs.region[cems]
        for region, values in enumerate(waits.region):
            mine = regions == region
            wait[mine] = at_ranks(values, ranks[mine])
        # The wait is the line's; when this CEM really began is its own.
        return begin + at_ranks(waits.release - waits.begin, ranks), wait

    def _over_internet(
        self,
        cems: Ints,
        begin: Floats,
        release: Floats,
        message: MessageModel,
        sizes: Sizes,
        waits: Waits | None,
    ) -> tuple[Floats, Ints]:
        offline: Bools = self._offline[cems]
        arrived = np.full(len(cems), np.inf)
        sent = np.ones(len(cems), dtype=np.int64)
        on = np.flatnonzero(~offline)
        if len(on):
            arrived[on] = self._internet.carry(
                cems[on], begin[on], release[on], sizes.only(on), downlink=message.downlink
            )
        off = np.flatnonzero(offline)
        if not message.fallback_costs or not len(off):
            sent[off] = 0
            return arrived, sent
        # Without internet, 2b falls back to 2a, some time after it went down.
        fallback = Sizes(
            message.fallback_costs, self._size_numbers.integers(0, len(message.costs), len(off))
        )
        since = self._down_since[cems[off]]
        later = np.maximum(begin[off], since + self._model.case.route.fallback_after_s)
        free, wait = self._in_line(cems[off], later, waits)
        if message.downlink:
            came, _, sent[off] = self._down.carry(cems[off], later, free, wait, fallback)
        else:
            ups, sent[off] = self._up.carry(cems[off], later, free - later + wait, fallback)
            came = ups[:, 0]
        arrived[off] = came
        return arrived, sent

    def _tell(
        self,
        cems: Ints,
        begin: Floats,
        arrived: Floats,
        confirmed: Floats,
        sent: Ints,
        message: MessageModel,
        sizes: Sizes,
        number: int,
    ) -> None:
        direction = "down" if message.downlink else "up"
        latency = arrived - begin[:, None]
        regions = self._hubs.region[cems]
        delivered = latency < np.inf
        copies = latency.shape[1]
        result = self._result
        for region in range(len(self._model.regions)):
            mine = regions == region
            times = latency[mine][delivered[mine]]
            counts = np.bincount(bins_of(times), minlength=BINS)
            key = (region, direction)
            result.histograms[key] = result.histograms.get(key, 0) + counts
            result.count(region, direction, "messages", float(mine.sum() * copies))
            result.count(region, direction, "delivered", float(len(times)))
            result.count(region, direction, "failed", float(mine.sum() * copies - len(times)))
            fragments = float(sizes.fragments[mine].sum() * copies)
            result.count(region, direction, "fragments", fragments)
            result.count(region, direction, "transmissions", float(sent[mine].sum()))
            for deadline in self._model.case.deadlines_s:
                met = float((times <= deadline).sum())
                result.count(region, direction, f"met:{deadline:g}", met)
        result.latency_sums.append((float(latency[delivered].sum()), int(delivered.sum())))
        if delivered.any():
            result.last_s = max(result.last_s, float(arrived[delivered].max()))
        written = np.flatnonzero(np.isin(cems, self._written))
        slots = np.searchsorted(self._written, cems[written])
        for copy in range(copies):
            result.messages.append(
                {
                    "slot": slots,
                    "cem": self._first + cems[written],
                    "number": number + copy,
                    "region": regions[written],
                    "type": message.type,
                    "direction": direction,
                    "message_octets": sizes.message_octets[written],
                    "fragments": sizes.fragments[written],
                    "transmissions": sent[written] // copies,
                    "handed_over_s": begin[written],
                    "latency_s": latency[written, copy],
                    "confirmed_s": confirmed[written] - begin[written],
                }
            )

    def _count_all(self) -> None:
        down, up, net = self._down, self._up, self._internet
        self._result.flight_s = down.flight_s, down.transmissions
        count = self._result.count
        route = self._model.case.route
        requests = down.transmissions * (2 if route.transform else 1)
        # Each message up is told of in a receipt, which is a command.
        key_up = [key for key in self._result.counters if key[1] == "up" and key[2] == "delivered"]
        told = sum(self._result.counters[key] for key in key_up) if route.kind == "2a" else 0.0
        receipt_requests = told * (2 if route.transform else 1)
        count(-1, "", "dcc_attempts", down.dcc_attempts + told)
        count(-1, "", "duis_requests", requests + receipt_requests)
        answers = down.transmissions * (3 if route.transform else 2)
        count(-1, "", "duis_received", answers + 2 * up.transmissions + told * 3)
        octets = down.down_octets + down.up_octets + up.up_octets + told * sum(RECEIPT_OCTETS)
        count(-1, "", "sm_wan_octets", octets)
        count(-1, "", "internet_octets", net.octets)
        # Down: the DSRSP's on each request and on the command, the device's on the response.
        signatures = requests + 2 * down.transmissions + up.transmissions + told * 4
        signatures += net.transmissions if route.kind == "2b" else 0
        count(-1, "", "signatures", signatures)
        count(-1, "", "quarantined", 0.0)
        count(-1, "", "alerts_discarded", up.discarded)
        count(-1, "", "duplicates", down.duplicates)
