"""Many messages over the internet at once: route 2b while it stands, and Stream 1."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dcc_sim.core.network.distributions import Trace
from lab.study.fleet.draws import Bools, Floats, Ints, draw
from lab.study.fleet.model import FleetModel
from lab.study.fleet.recorder import Recorder
from lab.study.fleet.sizes import Sizes
from lab.study.internet import (
    CERTIFICATE_PACKETS,
    CONNECTING_PACKETS,
    MOST_RETRANSMISSIONS,
    flights_of,
    packets_of,
    window_rounds,
)
from lab.study.payloads import TCP_TLS_OCTETS


@dataclass(slots=True)
class Internet:
    """Messages between homes and the DSRSP's server over TCP.

    What a message waits for one after another (a connection's parts, its own way) has a round trip
    of its own each. A lost packet costs its retransmission, which doubles while it is lost again.
    In pull mode a message down waits until the CEM asks.

    Args:
        model: of the case.
        numbers: randomness.
        recorder: writes down some CEMs' messages.
    """

    model: FleetModel
    numbers: np.random.Generator
    recorder: Recorder
    transmissions: int = 0
    octets: int = 0

    def offline(self, count: int) -> Bools:
        """Draw whose internet is down."""
        share = self.model.case.network.internet.offline_share.value
        offline: Bools = self.numbers.random(count) < share
        return offline

    def offline_for(self, count: int) -> Floats:
        """Draw since when those without internet have none, in seconds."""
        return self.numbers.exponential(
            self.model.case.network.internet.offline_mean_s.value, count
        )

    def carry(
        self, cems: Ints, begin: Floats, release: Floats, sizes: Sizes, *, downlink: bool
    ) -> Floats:
        """Carry one message of each CEM; returns when it arrives, in seconds.

        Args:
            cems: which.
            begin: when it was handed over.
            release: when the server's line was through with it.
            sizes: of the messages.
            downlink: their direction.
        """
        internet, route, count = self.model.case.network.internet, self.model.case.route, len(cems)
        poll = np.zeros(count)
        if downlink and route.poll_interval_s:
            poll = self.numbers.random(count) * route.poll_interval_s
        octets = sizes.last_octets
        wan = self._flights(octets)
        software = internet.server_s.value + self._own_time("down" if downlink else "up", count)
        arrived = release + poll + wan + software
        self.transmissions += count
        self.octets += int(octets.sum())
        columns = np.zeros(count, dtype=np.int64)
        self.recorder.began(
            cems,
            columns,
            columns + 1,
            started=release + poll,
            wait=release + poll - begin,
            request=software,
            dcc=np.zeros(count),
            wan=wan,
            queue=np.zeros(count),
            octets=octets,
        )
        zeros = np.zeros(count)
        self.recorder.arrived(cems, columns, arrived, zeros, zeros, zeros)
        return arrived

    def _flights(self, octets: Ints) -> Floats:
        """Draw what messages of so many octets take on the line, in seconds."""
        route, count = self.model.case.route, len(octets)
        *before, last = flights_of(route.round_trips)
        wan = np.zeros(count)
        for share in before:
            packets = CONNECTING_PACKETS if share == 1.0 else 1
            wan += share * self._round_trips(count)
            wan += self._retransmissions(np.full(count, packets))
        # Few sizes, many messages.
        sizes, of_size = np.unique(octets, return_inverse=True)
        if route.connects_anew:
            sizes = sizes - TCP_TLS_OCTETS
        ahead = CERTIFICATE_PACKETS if route.connects_anew else 0
        packets_each = np.asarray([packets_of(int(size)) + ahead for size in sizes])
        rounds = np.asarray([window_rounds(int(packets)) for packets in packets_each])
        wan += (last + rounds[of_size]) * self._round_trips(count)
        return wan + self._retransmissions(packets_each[of_size])

    def _round_trips(self, count: int) -> Floats:
        return draw(self.model.case.network.internet.round_trip.value, count, self.numbers)

    def _own_time(self, way: str, count: int) -> Floats:
        values_s = self.model.case.own_time.of(way)
        return draw(Trace(values_s=values_s) if values_s else None, count, self.numbers)

    def _retransmissions(self, packets: Ints) -> Floats:
        internet = self.model.case.network.internet
        loss = internet.loss_probability.value
        cost = np.zeros(len(packets))
        lost = self.numbers.binomial(packets, loss)
        pause = internet.retransmission_s.value
        for _ in range(MOST_RETRANSMISSIONS):
            if not lost.any():
                break
            # Packets that are lost together are sent again together.
            cost += np.where(lost > 0, pause, 0.0)
            lost = self.numbers.binomial(lost, loss)
            pause *= 2
        return cost
