"""What all CEMs share: who waits how long for the DSRSP, the DCC and a region's capacity.

Each shared thing is a line in which fluid waits, first come, first served. CEMs are ranked by the
time at which they begin; a CEM's rank, 0 to 1, says what is before it. Each message of each turn is
a flow through the lines, with a time for each rank of a grid. All flows of a line together, in
order of time, are through at::

    T(i) = max over j <= i of ( arrival(j) + work of j to i )

which is exact for a fluid, and needs no simulation. A message goes when the one before it in its
turn has arrived, and so the flows depend on each other: they are computed again until nothing
changes. Fluctuations within a second do not count beside the hours that matter here. Repetitions
make the work larger by the part that a pilot run of some CEMs showed, and do not wait in line once
more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lab.study.fleet.draws import Floats
from lab.study.fleet.model import FleetModel, MessageModel, RegionModel

GRID = 1001
_ROUNDS = 40
_CLOSE_S = 1e-3
_LOAD_BINS = 200
_RANKS = np.linspace(0.0, 1.0, GRID)
_STEPS_A_WINDOW = 16 / 17
"""The DSRSP's window slides in sixteenths: at most so much of its limit is used for ever."""


@dataclass(frozen=True, slots=True)
class Pilot:
    """What a pilot run of some CEMs without waiting showed, for one message of the turn.

    Attributes:
        overhead: transmissions for each fragment, at least 1.
        flight_s: mean time from a fragment's beginning to its result, in seconds.
        latency_s: mean time from hand-over to arrival, of those that arrived, in seconds.
    """

    overhead: float
    flight_s: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Waits:
    """When ranks 0 to 1 are through, for one message of one turn.

    Attributes:
        begin: when each rank hands its message over, in seconds.
        release: when the DSRSP and the DCC are through with its fragments, in seconds.
        region: what it then waits for each region, in seconds.
    """

    begin: Floats
    release: Floats
    region: tuple[Floats, ...]


@dataclass(frozen=True, slots=True)
class Load:
    """One line's load over time, for the table of loads."""

    stage: str
    time_s: Floats
    arriving_per_s: Floats
    delay_s: Floats


@dataclass(slots=True)
class _Flow:
    """One message of one turn: when each rank begins, and is through with each line."""

    turn: int
    message: MessageModel
    pilot: Pilot
    begin: Floats
    release: Floats = field(default_factory=lambda: np.zeros(GRID))
    region: list[Floats] = field(default_factory=list)


class Lines:
    """All lines of one case, with all flows.

    Args:
        model: of the case.
        pilots: for each message of the turn.
    """

    def __init__(self, model: FleetModel, pilots: tuple[Pilot, ...]) -> None:
        self._model = model
        workload = model.case.workload
        self._flows = [
            _Flow(turn, message, pilot, turn * workload.interval_s + _RANKS * workload.spread_s)
            for turn in range(workload.times)
            for message, pilot in zip(model.messages, pilots, strict=True)
        ]
        self.loads: list[Load] = []

    def waits(self) -> list[list[Waits]]:
        """Return the waits, for each turn and each message of it."""
        for _ in range(_ROUNDS):
            before = [flow.begin for flow in self._flows]
            self._settle()
            if all(
                np.abs(flow.begin - old).max() < _CLOSE_S
                for flow, old in zip(self._flows, before, strict=True)
            ):
                break
        places = len(self._model.messages)
        waits = [
            Waits(flow.begin, flow.release, tuple(one - flow.release for one in flow.region))
            for flow in self._flows
        ]
        return [waits[first : first + places] for first in range(0, len(waits), places)]

    def _settle(self) -> None:
        """Take all flows through all lines once, from when they now begin."""
        self.loads = []
        if self._model.case.route.kind == "2a":
            self._through_smart_metering()
        else:
            self._over_internet()
        for before, flow in zip(self._flows, self._flows[1:], strict=False):
            if flow.turn == before.turn:
                wait = sum(
                    (
                        region.share * one
                        for region, one in zip(self._model.regions, before.region, strict=True)
                    ),
                    np.zeros(GRID),
                )
                flow.begin = np.maximum.accumulate(wait + before.pilot.latency_s)

    def _through_smart_metering(self) -> None:
        route = self._model.case.route
        down = [flow for flow in self._flows if flow.message.downlink]
        up = [flow for flow in self._flows if not flow.message.downlink]
        times = [flow.begin for flow in down]
        fragments = [self._fragments(flow) for flow in down]
        if route.fragments_per_window is not None:
            rate = route.fragments_per_window * _STEPS_A_WINDOW / route.window_s
            times = self._line("dsrsp pacing", times, fragments, rate, route.fragments_per_window)
        flight_s = max((flow.pilot.flight_s for flow in down), default=0.0)
        if flight_s > 0:
            rate = route.fragments_in_flight_total / flight_s
            times = self._line("dsrsp in flight", times, fragments, rate)
        requests = [one * (2 if route.transform else 1) for one in fragments]
        times = self._line("dcc", times, requests, _dcc_rate(self._model))
        for flow, time in zip(down, times, strict=True):
            flow.release, flow.region = time, []
        for flow in up:
            flow.release, flow.region = flow.begin, []
        for region in self._model.regions:
            self._through_region(region, down, "down")
            self._through_region(region, up, "up")
        # Alerts meet the DCC behind their region; they count as one request each.
        behind = [np.maximum.reduce(flow.region) for flow in up]
        alerts = self._line(
            "dcc alerts", behind, [self._fragments(flow) for flow in up], _dcc_rate(self._model)
        )
        for flow, at, after in zip(up, behind, alerts, strict=True):
            flow.region = [one + after - at for one in flow.region]

    def _through_region(self, region: RegionModel, flows: list[_Flow], way: str) -> None:
        capacity = self._model.case.network.capacity
        of_way = (
            capacity.region_octets_per_s_down if way == "down" else capacity.region_octets_per_s_up
        )
        millions = capacity.hubs.value / 1e6 * region.share
        rate = (of_way.value - capacity.background_octets_per_s.value) * millions
        cems = self._model.case.workload.cems * self._model.copies * region.share
        octets = [cems * flow.message.mean_octets * flow.pilot.overhead for flow in flows]
        stage = f"{region.name or 'all'} {way}"
        times = self._line(stage, [flow.release for flow in flows], octets, max(rate, 1e-9))
        for flow, time in zip(flows, times, strict=True):
            flow.region.append(time)

    def _over_internet(self) -> None:
        internet = self._model.case.network.internet
        cems = self._model.case.workload.cems * self._model.copies
        rate = internet.server_messages_per_s.value * max(self._model.case.workload.cems / 1e6, 1.0)
        begins = [flow.begin for flow in self._flows]
        times = self._line("server", begins, [float(cems)] * len(begins), rate)
        for flow, time in zip(self._flows, times, strict=True):
            flow.release, flow.region = time, [time] * len(self._model.regions)

    def _fragments(self, flow: _Flow) -> float:
        cems = self._model.case.workload.cems * self._model.copies
        return cems * flow.message.mean_fragments * flow.pilot.overhead

    def _line(
        self,
        stage: str,
        arrivals: list[Floats],
        volumes: list[float],
        rate: float,
        burst: float = 0.0,
    ) -> list[Floats]:
        """Take flows through one line.

        Args:
            stage: its name.
            arrivals: of each flow, when each rank comes.
            volumes: of each flow, what all ranks together bring.
            rate: what the line takes in a second.
            burst: what it takes at once when it has rested.

        Returns:
            When each rank of each flow is through.
        """
        if not arrivals:
            return []
        at = np.concatenate(arrivals)
        # Who comes at the same time goes in the order of ranks.
        order = np.lexsort((np.tile(_RANKS, len(arrivals)), at))
        brings = np.repeat(np.asarray(volumes) / GRID, GRID)[order]
        work = np.cumsum(brings) / rate
        come = at[order]
        free = np.maximum.accumulate(come - (work - brings / rate)) + work - burst / rate
        # The middle of what a rank brings is through, not its end.
        through = np.maximum(come, free - brings / rate / 2)
        result = np.empty_like(at)
        result[order] = through
        self.loads.append(_load(stage, come, through - come, brings))
        return [np.maximum.accumulate(part) for part in np.split(result, len(arrivals))]


def _load(stage: str, come: Floats, wait: Floats, brings: Floats) -> Load:
    edges = np.linspace(come[0], max(come[-1], come[0] + 1.0), _LOAD_BINS + 1)
    place = np.clip(np.searchsorted(edges, come, side="right") - 1, 0, _LOAD_BINS - 1)
    volume = np.bincount(place, weights=brings, minlength=_LOAD_BINS)
    counts = np.bincount(place, minlength=_LOAD_BINS)
    waits = np.bincount(place, weights=wait, minlength=_LOAD_BINS)
    some = counts > 0
    width = edges[1] - edges[0]
    return Load(stage, edges[:-1][some], volume[some] / width, waits[some] / counts[some])


def _dcc_rate(model: FleetModel) -> float:
    capacity = model.case.network.capacity
    return max(capacity.dcc_requests_per_s.value - capacity.dcc_background_per_s.value, 1e-9)


def at_ranks(values: Floats, ranks: Floats) -> Floats:
    """Return values of the grid at other ranks."""
    found: Floats = np.interp(ranks, _RANKS, values)
    return found
