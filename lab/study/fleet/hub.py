"""The communications hubs of a chunk of CEMs: their SM WAN, and what they are busy with."""

from __future__ import annotations

import numpy as np

from lab.study.fleet.draws import Bools, Floats, Ints, draw
from lab.study.fleet.model import RegionModel, Way
from lab.study.fleet.weather import LossWeather, Outages


class Hubs:
    """One hub for each CEM; it is busy with one message of each way at a time.

    Args:
        regions: of the case.
        region: number of each CEM's region.
        at: when each CEM begins, in seconds.
        numbers: randomness.
    """

    def __init__(
        self,
        regions: tuple[RegionModel, ...],
        region: Ints,
        at: Floats,
        numbers: np.random.Generator,
    ) -> None:
        self._regions = regions
        self._region = region
        self._numbers = numbers
        self._down_free = np.full(len(region), -np.inf)
        self._up_free = np.full(len(region), -np.inf)
        self._down_weather = LossWeather([one.down.loss for one in regions], region, at, numbers)
        self._up_weather = LossWeather([one.up.loss for one in regions], region, at, numbers)
        self._outages = Outages(regions, region, at, numbers)
        self._drops = np.asarray([one.drops for one in regions])
        self.duplicates = 0

    @property
    def region(self) -> Ints:
        """Number of each CEM's region."""
        return self._region

    def down(self, cems: Ints, at: Floats) -> tuple[Bools, Floats]:
        """Return which messages the SM WAN loses on the way down, and what it takes of time."""
        lost = self._down_weather.lost(cems, at)
        latency = self._latency(cems, [one.down for one in self._regions])
        if self._drops.any() and self._outages.active:
            comes = at + latency
            in_outage = self._outages.up_at(cems, comes) > comes
            lost = lost | (in_outage & self._drops[self._region[cems]])
        return lost, latency

    def up(self, cems: Ints, at: Floats) -> tuple[Bools, Floats]:
        """Return the same for the way up; a time of infinity: there is nothing to send."""
        when = np.where(np.isinf(at), 0.0, at)
        lost = self._up_weather.lost(cems, when)
        return lost, self._latency(cems, [one.up for one in self._regions])

    def serve_down(
        self, cems: Ints, at: Floats, octets: Ints
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Let hubs take messages to devices.

        Args:
            cems: whose hubs, each once.
            at: when the message comes to the hub, in seconds; never before the last one.
            octets: how long it is.

        Returns:
            When the device has it; how long it waited, was transferred, was in the home, all in
            seconds.
        """
        ways = [one.down for one in self._regions]
        return self._serve(self._down_free, ways, cems, at, octets)

    def serve_up(
        self, cems: Ints, at: Floats, octets: Ints
    ) -> tuple[Floats, Floats, Floats, Floats]:
        """Let hubs take messages from devices; as serve_down, until they leave the hub."""
        ways = [one.up for one in self._regions]
        return self._serve(self._up_free, ways, cems, at, octets)

    def _serve(
        self, free: Floats, ways: list[Way], cems: Ints, at: Floats, octets: Ints
    ) -> tuple[Floats, Floats, Floats, Floats]:
        begins = self._outages.up_at(cems, np.maximum(at, free[cems]))
        transfer, han = np.zeros(len(cems)), np.zeros(len(cems))
        region = self._region[cems]
        # Few sizes occur: each is computed once.
        for number, way in enumerate(ways):
            mine = np.flatnonzero(region == number)
            for size in np.unique(octets[mine]):
                chosen = mine[octets[mine] == size]
                transfer[chosen], han[chosen] = way.service_s(int(size))
        ends = begins + transfer + han
        free[cems] = ends
        return ends, begins - at, transfer, han

    def _latency(self, cems: Ints, ways: list[Way]) -> Floats:
        latency = np.zeros(len(cems))
        region = self._region[cems]
        for number, way in enumerate(ways):
            mine = np.flatnonzero(region == number)
            times = draw(way.latency, len(mine), self._numbers)
            if way.reorder_probability:
                held_up = self._numbers.random(len(mine)) < way.reorder_probability
                times[held_up] += draw(way.reorder_delay, int(held_up.sum()), self._numbers)
            latency[mine] = times
        return latency
