"""Bad times on the way to a hub: burst losses and outages.

Both depend on the seed, the hub's name and the time alone, never on the traffic: time is cut
into blocks, each drawn from a stream of its own. So a restart finds the same weather, and the
state at any time is found without going through all the time before.
"""

from __future__ import annotations

import bisect
import math
from array import array

from dcc_sim.core.network.distributions import draw_exponential
from dcc_sim.core.network.profile import BurstLoss, RandomOutages, ScheduledOutage
from dcc_sim.core.network.streams import Streams

# Small blocks: a hundred thousand hubs each remember one or two of them.
_CYCLES_A_BLOCK = 8
_OUTAGES_A_BLOCK = 2
_MAX_WINDOWS = 1000


class LossWeather:
    """Good and bad times of one way of one hub, after Gilbert and Elliott.

    Both are exponentially distributed, which has no memory: drawing the state anew from its
    long-run share at the beginning of each block (8 cycles) changes nothing but that a bad
    time may end there, or begin, by chance.
    """

    def __init__(self, loss: BurstLoss, streams: Streams, name: str) -> None:
        self._loss = loss
        self._streams = streams
        self._name = name
        self._block_s = _CYCLES_A_BLOCK * (loss.good_mean_s + loss.bad_mean_s)
        self._block: int | None = None
        self._begins_bad = False
        self._changes = array("d")

    def is_bad(self, at: float) -> bool:
        """Say whether it is a bad time.

        Args:
            at: network time, in seconds.
        """
        block = math.floor(at / self._block_s)
        if block != self._block:
            self._fill(block)
        return self._begins_bad ^ bool(bisect.bisect_right(self._changes, at) % 2)

    def loss_probability(self, at: float) -> float:
        """Return the probability that a message sent at this time is lost."""
        return self._loss.loss_bad if self.is_bad(at) else self._loss.loss_good

    def _fill(self, block: int) -> None:
        loss = self._loss
        stream = self._streams.stream(f"{self._name}/loss-weather/{block}")
        bad = stream.random() * (loss.good_mean_s + loss.bad_mean_s) < loss.bad_mean_s
        self._begins_bad = bad
        changes = array("d")
        at, end = block * self._block_s, (block + 1) * self._block_s
        while at < end:
            at += draw_exponential(loss.bad_mean_s if bad else loss.good_mean_s, stream)
            changes.append(at)
            bad = not bad
        # Made anew, because growing leaves room to spare.
        self._changes = changes[:]
        self._block = block


class Outages:
    """When one hub is down, by schedule and by chance.

    Args:
        random: outages by chance; they begin like the ticks of a Geiger counter.
        scheduled: outages at known times.
        streams: randomness.
        hub: the hub's name.
    """

    def __init__(
        self,
        random: RandomOutages | None,
        scheduled: tuple[ScheduledOutage, ...],
        streams: Streams,
        hub: str,
    ) -> None:
        self._random = random
        self._scheduled = [one for one in scheduled if not one.hubs or hub in one.hubs]
        self._streams = streams
        self._name = f"{hub}/outages"
        # No outage is longer than a block, so one that lasts began in this block or the last.
        self._block_s = (
            0.0
            if random is None
            else max(random.max_duration_s, _OUTAGES_A_BLOCK * random.mean_interval_s)
        )
        self._blocks: dict[int, list[tuple[float, float]]] = {}

    def down_until(self, at: float) -> float | None:
        """Return when the hub comes back, or None when it is up.

        Args:
            at: network time, in seconds.
        """
        until = at
        # Windows of a careless schedule can follow on each other without end.
        for _ in range(_MAX_WINDOWS):
            later = self._end_of_cover(until)
            if later is None:
                break
            until = later
        return until if until > at else None

    def _end_of_cover(self, at: float) -> float | None:
        """Return the end of an outage that covers this time."""
        for window in self._scheduled:
            since = at - window.start_s
            if window.every_s is not None and since >= 0:
                since %= window.every_s
            end = at - since + window.duration_s
            # By rounding the end can be where we are: then it is over.
            if 0 <= since < window.duration_s and end > at:
                return end
        if self._random is not None:
            block = math.floor(at / self._block_s)
            ends = [
                end
                for number in (block - 1, block)
                for start, end in self._outages(number, self._random)
                if start <= at < end
            ]
            return max(ends, default=None)
        return None

    def _outages(self, block: int, random: RandomOutages) -> list[tuple[float, float]]:
        known = self._blocks.get(block)
        if known is not None:
            return known
        stream = self._streams.stream(f"{self._name}/{block}")
        windows: list[tuple[float, float]] = []
        at, end = block * self._block_s, (block + 1) * self._block_s
        while (at := at + draw_exponential(random.mean_interval_s, stream)) < end:
            duration_s = min(random.duration_s.draw(stream), random.max_duration_s)
            windows.append((at, at + duration_s))
        self._blocks = {n: w for n, w in self._blocks.items() if n >= block - 1}
        self._blocks[block] = windows
        return windows
