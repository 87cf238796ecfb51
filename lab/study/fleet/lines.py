"""What all CEMs share: who waits how long for the DSRSP, the DCC and a region's capacity.

Each shared thing is a line of fluid (`fluid`). A message goes when the one before it in its turn
has arrived, and a receipt when its message has, so the streams depend on each other: they are
computed again until nothing changes. Fluctuations within a second do not count beside the hours
that matter here. Repetitions make the work larger by the part that a pilot run of some CEMs
showed, and do not wait in line once more.

What takes capacity on route 2a: commands, the responses to them, alerts, and for each message up a
receipt, which is a command. On route 2b all of these for homes whose internet is down.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field

import numpy as np

from lab.study.fleet.draws import Floats
from lab.study.fleet.fluid import GRID, RANKS, Load, through
from lab.study.fleet.model import FleetModel, MessageModel, RegionModel

RECEIPT_OCTETS = (213, 105)
"""A command with a receipt, and its response; a receipt's text has about 36 characters."""

_ROUNDS = 60
_CLOSE_S = 1e-3
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
        fallback: the same on route 2a for homes without internet; None: there are none.
    """

    begin: Floats
    release: Floats
    region: tuple[Floats, ...]
    fallback: Waits | None = None


@dataclass(slots=True)
class _Stream:
    """Messages of all CEMs of one kind: when each rank begins, and is through with each line."""

    downlink: bool
    count: float
    fragments: float
    octets: float
    answers: float
    pilot: Pilot
    begin: Floats
    release: Floats = field(default_factory=lambda: np.zeros(GRID))
    region: list[Floats] = field(default_factory=list)

    def ends(self, shares: list[float]) -> Floats:
        """Return when each rank's message arrives, in the mean of regions."""
        wait = np.zeros(GRID)
        for share, one in zip(shares, self.region, strict=True):
            wait = wait + share * one
        return np.maximum.accumulate(wait + self.pilot.latency_s)

    def waits(self, fallback: Waits | None = None) -> Waits:
        return Waits(
            self.begin, self.release, tuple(one - self.release for one in self.region), fallback
        )


@dataclass(slots=True)
class _Flow:
    """One message of one turn: what of it goes over the internet, what over the meters' system."""

    turn: int
    server: _Stream | None
    metering: _Stream | None
    receipts: _Stream | None

    @property
    def streams(self) -> list[_Stream]:
        return [one for one in (self.server, self.metering) if one is not None]


class Lines:
    """All lines of one case, with all flows.

    Args:
        model: of the case.
        pilots: for each message of the turn.
        fallback_pilots: the same on route 2a, for a route that falls back to it; else empty.
    """

    def __init__(
        self,
        model: FleetModel,
        pilots: tuple[Pilot, ...],
        fallback_pilots: tuple[Pilot, ...] = (),
    ) -> None:
        self._model = model
        self._shares = [region.share for region in model.regions]
        workload = model.case.workload
        self._flows = [
            self._flow(turn, message, pilot, fallback)
            for turn in range(workload.times)
            for message, pilot, fallback in zip(
                model.messages, pilots, fallback_pilots or [None] * len(pilots), strict=True
            )
        ]
        self.loads: list[Load] = []

    def _flow(
        self, turn: int, message: MessageModel, pilot: Pilot, fallback: Pilot | None
    ) -> _Flow:
        workload, route = self._model.case.workload, self._model.case.route
        begin = turn * workload.interval_s + RANKS * workload.spread_s
        cems = float(workload.cems * self._model.copies)
        if route.kind == "2a":
            return self._with_receipts(turn, None, _stream(message, pilot, cems, begin))
        server = _stream(message, pilot, cems, begin)
        if fallback is None:
            return _Flow(turn, server, None, None)
        cems *= self._model.case.network.internet.offline_share.value
        later = begin + self._until_fallback_s()
        return self._with_receipts(
            turn, server, _stream(message, fallback, cems, later, fallback=True)
        )

    @staticmethod
    def _with_receipts(turn: int, server: _Stream | None, metering: _Stream) -> _Flow:
        receipts = None
        if not metering.downlink:
            begin = metering.begin + metering.pilot.latency_s
            receipts = _Stream(True, metering.count, 1.0, *RECEIPT_OCTETS, metering.pilot, begin)
        return _Flow(turn, server, metering, receipts)

    def waits(self) -> list[list[Waits]]:
        """Return the waits, for each turn and each message of it."""
        for _ in range(_ROUNDS):
            before = [one.begin for flow in self._flows for one in flow.streams]
            self._settle()
            after = [one.begin for flow in self._flows for one in flow.streams]
            if all(
                np.abs(new - old).max() < _CLOSE_S for new, old in zip(after, before, strict=True)
            ):
                break
        places = len(self._model.messages)
        waits = []
        for flow in self._flows:
            fallback = None if flow.metering is None else flow.metering.waits()
            if flow.server is not None:
                waits.append(flow.server.waits(fallback))
            elif fallback is not None:
                waits.append(fallback)
        return [waits[first : first + places] for first in range(0, len(waits), places)]

    def _settle(self) -> None:
        """Take all streams through all lines once, from when they now begin."""
        self.loads = []
        flows = self._flows
        metering = [flow.metering for flow in flows if flow.metering is not None]
        metering += [flow.receipts for flow in flows if flow.receipts is not None]
        if metering:
            self._through_smart_metering(metering)
        server = [flow.server for flow in flows if flow.server is not None]
        if server:
            self._through_server(server)
        for flow in flows:
            if flow.receipts is not None and flow.metering is not None:
                flow.receipts.begin = flow.metering.ends(self._shares)
        for before, flow in itertools.pairwise(flows):
            if flow.turn == before.turn:
                self._follow(before, flow)

    def _follow(self, before: _Flow, flow: _Flow) -> None:
        """A message begins when the one before it has arrived."""
        for one, other in ((flow.server, before.server), (flow.metering, before.metering)):
            if one is not None and other is not None:
                one.begin = other.ends(self._shares)

    def _until_fallback_s(self) -> float:
        """Return how long a message waits for 2a: most homes have been offline for long."""
        mean_s = self._model.case.network.internet.offline_mean_s.value
        after_s = self._model.case.route.fallback_after_s
        return after_s - mean_s * (1 - math.exp(-after_s / mean_s))

    def _through_smart_metering(self, streams: list[_Stream]) -> None:
        route = self._model.case.route
        down = [one for one in streams if one.downlink]
        up = [one for one in streams if not one.downlink]
        times = [one.begin for one in down]
        fragments = [one.count * one.fragments for one in down]
        if route.fragments_per_window is not None:
            rate = route.fragments_per_window * _STEPS_A_WINDOW / route.window_s
            times = self._line("dsrsp pacing", times, fragments, rate, route.fragments_per_window)
        flight_s = max((one.pilot.flight_s for one in down), default=0.0)
        if flight_s > 0:
            rate = route.fragments_in_flight_total / flight_s
            times = self._line("dsrsp in flight", times, fragments, rate)
        requests = [one * (2 if route.transform else 1) for one in fragments]
        times = self._line("dcc", times, requests, _dcc_rate(self._model))
        for one, time in zip(down, times, strict=True):
            one.release, one.region = time, []
        for one in up:
            one.release, one.region = one.begin, []
        for place, region in enumerate(self._model.regions):
            self._through_region(place, region, down, up)
        # Alerts meet the DCC behind their region; they count as one request each.
        behind = [np.maximum.reduce(one.region) for one in up]
        alerts = self._line(
            "dcc alerts",
            behind,
            [one.count * one.fragments for one in up],
            _dcc_rate(self._model),
        )
        for one, at, after in zip(up, behind, alerts, strict=True):
            one.region = [region_at + after - at for region_at in one.region]

    def _through_region(
        self, place: int, region: RegionModel, down: list[_Stream], up: list[_Stream]
    ) -> None:
        capacity = self._model.case.network.capacity
        millions = capacity.hubs.value / 1e6 * region.share
        background = capacity.background_octets_per_s.value
        name = region.name or "all"
        rate = max((capacity.region_octets_per_s_down.value - background) * millions, 1e-9)
        octets = [one.count * one.octets * region.share for one in down]
        times = self._line(f"{name} down", [one.release for one in down], octets, rate)
        for one, time in zip(down, times, strict=True):
            one.region.append(time)
        # Responses to commands take what alerts do; nobody waits for them to have the message.
        rate = max((capacity.region_octets_per_s_up.value - background) * millions, 1e-9)
        octets = [one.count * one.octets * region.share for one in up]
        octets += [one.count * one.answers * region.share for one in down]
        comes = [one.release for one in up] + [one.region[place] for one in down]
        times = self._line(f"{name} up", comes, octets, rate)
        for one, time in zip(up, times, strict=False):
            one.region.append(time)

    def _through_server(self, streams: list[_Stream]) -> None:
        internet = self._model.case.network.internet
        millions = max(self._model.case.workload.cems / 1e6, 1.0)
        rate = internet.server_messages_per_s.value * millions
        times = self._line(
            "server", [one.begin for one in streams], [one.count for one in streams], rate
        )
        for one, time in zip(streams, times, strict=True):
            one.release, one.region = time, [time] * len(self._shares)

    def _line(
        self,
        stage: str,
        arrivals: list[Floats],
        volumes: list[float],
        rate: float,
        burst: float = 0.0,
    ) -> list[Floats]:
        if not arrivals:
            return []
        times, load = through(arrivals, volumes, rate, stage, burst)
        self.loads.append(load)
        return times


def _stream(
    message: MessageModel, pilot: Pilot, count: float, begin: Floats, *, fallback: bool = False
) -> _Stream:
    sizes = message.as_fallback() if fallback else message
    return _Stream(
        downlink=message.downlink,
        count=count,
        fragments=sizes.mean_fragments * pilot.overhead,
        octets=sizes.mean_octets * pilot.overhead,
        answers=sizes.mean_answer_octets * pilot.overhead,
        pilot=pilot,
        begin=begin,
    )


def _dcc_rate(model: FleetModel) -> float:
    capacity = model.case.network.capacity
    return max(capacity.dcc_requests_per_s.value - capacity.dcc_background_per_s.value, 1e-9)
