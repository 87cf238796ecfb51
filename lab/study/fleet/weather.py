"""Bad times and outages of many hubs at once."""

from __future__ import annotations

import numpy as np

from dcc_sim.core.network.profile import BurstLoss
from lab.study.fleet.draws import Bools, Floats, Ints, draw
from lab.study.fleet.model import RegionModel

_OUTAGES_AHEAD = 3
_ROUNDS = 8


class LossWeather:
    """Good and bad times of one way of many hubs, after Gilbert and Elliott.

    The state is known at the last time that was asked for; at another time it is drawn from the
    chain's transition probability over the time between, which is exact for times that rise.

    Args:
        losses: of each region; None: it loses nothing.
        region: of each hub.
        at: when it begins, of each hub, in seconds.
        numbers: randomness.
    """

    def __init__(
        self,
        losses: list[BurstLoss | None],
        region: Ints,
        at: Floats,
        numbers: np.random.Generator,
    ) -> None:
        def of_regions(value_of: object) -> Floats:
            values = [0.0 if loss is None else value_of(loss) for loss in losses]  # type: ignore[operator]
            return np.asarray(values, dtype=np.float64)

        self.active = any(loss is not None for loss in losses)
        self._region = region
        self._good = of_regions(lambda loss: loss.loss_good)
        self._bad = of_regions(lambda loss: loss.loss_bad)
        self._share = of_regions(lambda one: one.bad_mean_s / (one.good_mean_s + one.bad_mean_s))
        self._rate = of_regions(lambda loss: 1 / loss.good_mean_s + 1 / loss.bad_mean_s)
        self._numbers = numbers
        self._at = at.copy()
        self._is_bad = numbers.random(len(at)) < self._share[region]

    def lost(self, hubs: Ints, at: Floats) -> Bools:
        """Say which messages are lost, one for each hub named; each hub at most once.

        Args:
            hubs: numbers of hubs.
            at: when each message is sent, in seconds.
        """
        if not self.active:
            return np.zeros(len(hubs), dtype=np.bool_)
        region = self._region[hubs]
        share = self._share[region]
        faded = np.exp(-self._rate[region] * np.abs(at - self._at[hubs]))
        bad = self._numbers.random(len(hubs)) < share + (self._is_bad[hubs] - share) * faded
        self._is_bad[hubs] = bad
        self._at[hubs] = at
        chance = np.where(bad, self._bad[region], self._good[region])
        lost: Bools = self._numbers.random(len(hubs)) < chance
        return lost


class Outages:
    """When hubs are down: the outage they may begin in, and the next three.

    Args:
        regions: with their outages.
        region: of each hub.
        at: when it begins, of each hub, in seconds.
        numbers: randomness.
    """

    def __init__(
        self,
        regions: tuple[RegionModel, ...],
        region: Ints,
        at: Floats,
        numbers: np.random.Generator,
    ) -> None:
        count = len(at)
        self._regions = regions
        self._region = region
        self._starts = np.full((count, _OUTAGES_AHEAD + 1), np.inf)
        self._ends = np.full((count, _OUTAGES_AHEAD + 1), -np.inf)
        self.active = False
        for number, one in enumerate(regions):
            if one.outages is not None:
                self.active = True
                self._draw(number, one, at, numbers)
            self.active = self.active or bool(one.scheduled)

    def _draw(
        self, number: int, region: RegionModel, at: Floats, numbers: np.random.Generator
    ) -> None:
        outages = region.outages
        if outages is None:
            return
        mine = np.flatnonzero(self._region == number)

        def durations(count: int) -> Floats:
            return np.minimum(draw(outages.duration_s, count, numbers), outages.max_duration_s)

        # Those that last longer are the likelier to be met: drawn in proportion to their length.
        pool = durations(20_000)
        down = mine[numbers.random(len(mine)) < min(pool.mean() / outages.mean_interval_s, 1.0)]
        sums = np.cumsum(pool)
        met = pool[np.searchsorted(sums, numbers.random(len(down)) * sums[-1])]
        self._starts[down, 0] = -np.inf
        self._ends[down, 0] = at[down] + met * numbers.random(len(down))
        start = at[mine]
        for column in range(1, _OUTAGES_AHEAD + 1):
            start = start + numbers.exponential(outages.mean_interval_s, len(mine))
            self._starts[mine, column] = start
            self._ends[mine, column] = start + durations(len(mine))

    def up_at(self, hubs: Ints, at: Floats) -> Floats:
        """Return when each hub is up, at the time asked for or the first time after, in seconds."""
        if not self.active:
            return at
        until = at
        starts, ends = self._starts[hubs], self._ends[hubs]
        for _ in range(_ROUNDS):
            covering = (starts <= until[:, None]) & (until[:, None] < ends)
            later = np.where(covering, ends, until[:, None]).max(axis=1)
            later = self._after_scheduled(hubs, later)
            if np.array_equal(later, until):
                break
            until = later
        return until

    def _after_scheduled(self, hubs: Ints, at: Floats) -> Floats:
        region = self._region[hubs]
        for number, one in enumerate(self._regions):
            for window in one.scheduled:
                if window.hubs:
                    continue  # hubs of a fleet have no names
                since = at - window.start_s
                if window.every_s is not None:
                    since = np.where(since >= 0, since % window.every_s, since)
                covered = (region == number) & (since >= 0) & (since < window.duration_s)
                at = np.where(covered, at - since + window.duration_s, at)
        return at
