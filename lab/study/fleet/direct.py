"""Many messages over the internet at once: route 2b while it stands, and Stream 1."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lab.study.fleet.draws import Bools, Floats, Ints, draw
from lab.study.fleet.model import FleetModel
from lab.study.fleet.recorder import Recorder
from lab.study.fleet.sizes import Sizes
from lab.study.internet import MOST_RETRANSMISSIONS, PACKET_OCTETS


@dataclass(slots=True)
class Internet:
    """Messages between homes and the DSRSP's server over TCP.

    A lost packet costs its retransmission, which doubles while it is lost again. In pull mode a
    message down waits until the CEM asks.

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
        trips = draw(internet.round_trip.value, count, self.numbers) * route.round_trips
        octets = sizes.last_octets
        packets = np.maximum(np.ceil(octets / PACKET_OCTETS), 1) + 2 * math.floor(route.round_trips)
        wan = trips + self._retransmissions(packets)
        software = internet.server_s.value + route.software_s
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
            request=np.full(count, software),
            dcc=np.zeros(count),
            wan=wan,
            queue=np.zeros(count),
            octets=octets,
        )
        zeros = np.zeros(count)
        self.recorder.arrived(cems, columns, arrived, zeros, zeros, zeros)
        return arrived

    def _retransmissions(self, packets: Floats) -> Floats:
        internet = self.model.case.network.internet
        loss = internet.loss_probability.value
        cost = np.zeros(len(packets))
        lost = self.numbers.binomial(packets.astype(np.int64), loss)
        pause = internet.retransmission_s.value
        for _ in range(MOST_RETRANSMISSIONS):
            if not lost.any():
                break
            # Packets that are lost together are sent again together.
            cost += np.where(lost > 0, pause, 0.0)
            lost = self.numbers.binomial(lost, loss)
            pause *= 2
        return cost
