"""Many messages up route 2a at once: alerts, alert storm protection, repetitions by the CEM.

Simplified (and told in the report): a CEM repeats what did not come after receipt_timeout_s, then
twice that, and so on; which of the two ends notices first is not told apart.
"""

from __future__ import annotations

import numpy as np

from dcc_sim.core.network.profile import AlertStorm
from lab.study.fleet.draws import Bools, Floats, Ints, draw
from lab.study.fleet.hub import Hubs
from lab.study.fleet.model import FleetModel
from lab.study.fleet.recorder import Recorder
from lab.study.fleet.sizes import Sizes

_CODE = "8F88"


class Uplink:
    """One message up from each of many CEMs, or many messages at once.

    Args:
        model: of the case.
        hubs: the CEMs' hubs.
        numbers: randomness.
        recorder: writes down some CEMs' fragments.
    """

    def __init__(
        self, model: FleetModel, hubs: Hubs, numbers: np.random.Generator, recorder: Recorder
    ) -> None:
        self._model = model
        self._hubs = hubs
        self._numbers = numbers
        self._recorder = recorder
        self.transmissions = 0
        self.up_octets = 0
        self.discarded = 0

    def carry(
        self, cems: Ints, begin: Floats, shared_wait: Floats, sizes: Sizes, copies: int = 1
    ) -> tuple[Floats, Ints]:
        """Carry the messages.

        Args:
            cems: which; numbers of hubs.
            begin: when each message was handed over, in seconds.
            shared_wait: what each waits for the region and the DCC, in seconds.
            sizes: of the messages.
            copies: so many messages of each CEM at once.

        Returns:
            When the DSRSP had each message, in seconds, infinity: never, as an array of CEMs and
            copies; and how many alerts each CEM sent.
        """
        self._cems, self._begin, self._wait = cems, begin, shared_wait
        count, most = len(cems), int(sizes.fragments.max())
        exists = np.arange(most)[None, :] < sizes.fragments[:, None]
        exists = np.tile(exists, (1, copies))
        self._sizes, self._most = sizes, most
        has = np.where(exists, np.inf, -np.inf)
        due = np.where(exists, begin[:, None], np.inf)
        sent = np.zeros(count, dtype=np.int64)
        route = self._model.case.route
        for attempt in range(1, route.fragment_attempts + 1):
            missing = np.isinf(has) & (has > 0) & (due <= begin[:, None] + route.message_lifetime_s)
            if not missing.any():
                break
            comes = self._send(missing, due, attempt, sent)
            passed = self._after_storm(missing, comes)
            rows, columns = np.nonzero(missing)
            comes[rows, columns] += draw(self._model.alert, len(rows), self._numbers)
            has = np.where(missing & passed, comes, has)
            self._write_down(missing & passed, comes)
            wait = min(route.receipt_timeout_s * 2.0 ** (attempt - 1), 21_600.0)
            due = np.where(missing, due + wait, due)
        grouped = has.reshape(count, copies, most).max(axis=2)
        return np.where(grouped <= begin[:, None] + route.message_lifetime_s, grouped, np.inf), sent

    def _send(self, missing: Bools, due: Floats, attempt: int, sent: Ints) -> Floats:
        """Let CEMs send what is missing; returns when each alert reaches the DCC."""
        comes = np.full(missing.shape, np.inf)
        for column in range(missing.shape[1]):
            rows = np.flatnonzero(missing[:, column])
            if not len(rows):
                continue
            cems, at = self._cems[rows], due[rows, column]
            octets, _ = self._sizes.octets(rows, np.full(len(rows), column % self._most))
            left, queue, transfer, han = self._hubs.serve_up(cems, at, octets)
            lost, latency = self._hubs.up(cems, left)
            wait = self._wait[rows]
            comes[rows, column] = np.where(lost, np.inf, left + latency + wait)
            sent[rows] += 1
            self.transmissions += len(rows)
            self.up_octets += int(octets.sum())
            zeros = np.zeros(len(rows))
            self._recorder.began(
                cems,
                np.full(len(rows), column),
                np.full(len(rows), attempt),
                started=at,
                wait=at - self._begin[rows],
                request=zeros,
                dcc=zeros,
                wan=latency,
                queue=wait,
                octets=octets,
            )
            self._recorder.passed_hub(cems, np.full(len(rows), column), queue, transfer, han)
        return comes

    def _after_storm(self, missing: Bools, comes: Floats) -> Bools:
        passes = comes < np.inf
        storm = self._model.storm
        if storm is None or (storm.codes.value and _CODE not in storm.codes.value):
            return passes
        kept = storm_passes(np.where(missing, comes, np.inf), storm)
        self.discarded += int((passes & ~kept).sum())
        return passes & kept

    def _write_down(self, arrived: Bools, at: Floats) -> None:
        for column in range(arrived.shape[1]):
            rows = np.flatnonzero(arrived[:, column])
            if len(rows):
                self._recorder.came(self._cems[rows], np.full(len(rows), column), at[rows, column])


def storm_passes(times: Floats, storm: AlertStorm) -> Bools:
    """Say which alerts pass alert storm protection.

    Args:
        times: when each comes, one device a row, infinity: never; in any order.
        storm: the protection.
    """
    threshold, window = storm.threshold.value, storm.window_s.value
    order = np.argsort(times, axis=1, kind="stable")
    ranked = np.take_along_axis(times, order, axis=1)
    passes = np.zeros(times.shape, dtype=np.bool_)
    passed_at = np.full(len(times), -np.inf)
    for number in range(times.shape[1]):
        at = ranked[:, number]
        storms = np.zeros(len(times), dtype=np.bool_)
        if number >= threshold:
            with np.errstate(invalid="ignore"):
                storms = ranked[:, number - threshold] > at - window
        good = (at < np.inf) & (~storms | (at >= passed_at + storm.period_s.value))
        passed_at = np.where(good, at, passed_at)
        passes[np.arange(len(times)), order[:, number]] = good
    return passes
