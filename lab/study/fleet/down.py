"""Many messages down route 2a at once: every fragment, repetition and queue of every CEM.

All CEMs are taken through their own events in step: in each round every CEM has its own next
event. Events of a fragment: it begins (the DSRSP has a place in flight), it reaches the hub, its
result reaches the DSRSP. What the hub is busy with is known, because a CEM's events come in order.

Simplified (and told in the report): the DCC's repetitions of one command meet the hub's queue as
its first copy did; a copy that came twice keeps no hub busy; no hub's buffer overflows.
"""

from __future__ import annotations

import numpy as np

from lab.study.fleet.draws import Floats, Ints, draw
from lab.study.fleet.hub import Hubs
from lab.study.fleet.model import FleetModel
from lab.study.fleet.recorder import Recorder
from lab.study.fleet.sizes import Sizes

_WAITS, _COMES, _RESULT, _OVER = range(4)


class Downlink:
    """One message down to each of many CEMs.

    Args:
        model: of the case.
        hubs: the CEMs' hubs, with what they are busy with.
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
        self.dcc_attempts = 0
        self.duplicates = 0
        self.down_octets = 0
        self.up_octets = 0
        self.flight_s = 0.0

    def carry(
        self, cems: Ints, begin: Floats, release: Floats, region_wait: Floats, sizes: Sizes
    ) -> tuple[Floats, Floats, Ints]:
        """Carry the messages.

        Args:
            cems: which; numbers of hubs.
            begin: when each message was handed over, in seconds.
            release: when the DSRSP and the DCC let its first fragment go, in seconds.
            region_wait: what its fragments wait for the region's capacity, in seconds.
            sizes: of the messages, in the same order.

        Returns:
            When the CEM had all of it and when the DSRSP knew, in seconds, infinity: never; and
            how many carrier messages were sent for each.
        """
        self._cems, self._sizes, self._begin = cems, sizes, begin
        self._region_wait = region_wait
        count, most = len(cems), int(sizes.fragments.max())
        columns = np.arange(most)
        exists = columns[None, :] < sizes.fragments[:, None]
        # Fragments of one message leave the shared line together.
        self._time = np.where(exists, release[:, None], np.inf)
        self._kind = np.where(exists, _WAITS, _OVER).astype(np.int8)
        self._attempt = np.zeros((count, most), dtype=np.int64)
        self._succeeds = np.zeros((count, most), dtype=np.bool_)
        self._started = np.zeros((count, most))
        self._result_s = np.zeros((count, most))
        self._gives_up = np.zeros((count, most))
        self._has = np.where(exists, np.inf, -np.inf)
        self._in_flight = np.zeros(count, dtype=np.int32)
        self._now = np.full(count, -np.inf)
        self._sent = np.zeros(count, dtype=np.int64)
        self._known = np.full(count, -np.inf)
        self._fails = np.zeros(count, dtype=np.bool_)
        active: Ints = np.arange(count)
        while len(active):
            active = self._round(active)
        arrived = np.where(self._has.max(axis=1) < np.inf, self._has.max(axis=1), np.inf)
        lifetime = begin + self._model.case.route.message_lifetime_s
        arrived = np.where(arrived <= lifetime, arrived, np.inf)
        known = np.where(self._fails | np.isinf(arrived), np.inf, self._known)
        return arrived, known, self._sent

    def _round(self, active: Ints) -> Ints:
        """Let every CEM's next event happen; returns the CEMs that still have one."""
        time, kind = self._time[active], self._kind[active]
        full = self._in_flight[active] >= self._model.case.route.fragments_in_flight
        time = np.where((kind == _WAITS) & full[:, None], np.inf, time)
        column = time.argmin(axis=1)
        rows = np.arange(len(active))
        what = kind[rows, column]
        # What waited for a place in flight begins now, not when it could have.
        at = np.maximum(time[rows, column], self._now[active])
        alive = at < np.inf
        self._now[active[alive]] = at[alive]
        for event, handle in (
            (_WAITS, self._begin_fragments),
            (_COMES, self._reach_hub),
            (_RESULT, self._take_results),
        ):
            chosen = alive & (what == event)
            if chosen.any():
                handle(active[chosen], column[chosen], at[chosen])
        return active if alive.all() else active[alive]

    def _begin_fragments(self, rows: Ints, columns: Ints, at: Floats) -> None:
        model, numbers, count = self._model, self._numbers, len(rows)
        self._in_flight[rows] += 1
        self._attempt[rows, columns] += 1
        self._started[rows, columns] = at
        self._sent[rows] += 1
        self.transmissions += count
        request = draw(model.request, count, numbers)
        dispatch = draw(model.dispatch, count, numbers)
        sent = at + request + dispatch
        arrives, back, wan = self._copies(rows, sent)
        octets, _ = self._sizes.octets(rows, columns)
        self.down_octets += int(octets.sum())
        reached = arrives < np.inf
        answered = back < np.inf
        self._succeeds[rows, columns] = answered
        # What the answer takes beside the hub's own time.
        response = draw(model.response, count, numbers)
        self._result_s[rows, columns] = np.where(answered, back, 0.0) + response
        gives_up = sent + model.contact_timeout_s
        self._gives_up[rows, columns] = gives_up
        comes = arrives + self._region_wait[rows]
        self._time[rows, columns] = np.where(reached, comes, gives_up + response)
        self._kind[rows, columns] = np.where(reached, _COMES, _RESULT)
        self._recorder.began(
            self._cems[rows],
            columns,
            self._attempt[rows, columns],
            started=at,
            wait=at - self._begin[rows],
            request=request,
            dcc=dispatch + np.where(reached, arrives - sent - wan, 0.0),
            wan=wan,
            queue=self._region_wait[rows],
            octets=octets,
        )

    def _copies(self, rows: Ints, sent: Floats) -> tuple[Floats, Floats, Floats]:
        """Draw how the DCC's copies of a command and their answers fare.

        Returns:
            When the first copy reaches the hub, in seconds, infinity: none does; what the SM WAN
            takes of the answer's way, infinity: none comes; and of the first copy's way.
        """
        model, count = self._model, len(rows)
        arrives = np.full(count, np.inf)
        back = np.full(count, np.inf)
        wan = np.zeros(count)
        open_: Ints = np.arange(count)
        for copy in range(model.attempts):
            delay = copy * model.interval_s
            cems = self._cems[rows[open_]]
            leaves = sent[open_] + delay
            self.dcc_attempts += len(open_)
            lost, latency = self._hubs.down(cems, leaves)
            comes = np.where(lost, np.inf, leaves + latency)
            sooner = comes < arrives[open_]
            wan[open_[sooner]] = latency[sooner]
            arrives[open_] = np.minimum(arrives[open_], comes)
            lost_up, latency_up = self._hubs.up(cems, comes)
            answer = np.where(lost | lost_up, np.inf, delay + latency_up)
            back[open_] = np.minimum(back[open_], answer)
            # The next copy goes when no answer has come by then.
            due = sent[open_] + (copy + 1) * model.interval_s
            waiting = np.isinf(back[open_]) | (arrives[open_] + latency_up > due)
            self.duplicates += int((waiting & ~np.isinf(arrives[open_])).sum())
            open_ = open_[waiting]
            if not len(open_):
                break
        return arrives, np.where(np.isinf(arrives), np.inf, back), wan

    def _reach_hub(self, rows: Ints, columns: Ints, at: Floats) -> None:
        octets, answer_octets = self._sizes.octets(rows, columns)
        cems = self._cems[rows]
        has, queue, transfer, han = self._hubs.serve_down(cems, at, octets)
        self._has[rows, columns] = np.minimum(self._has[rows, columns], has)
        self._recorder.arrived(cems, columns, has, queue, transfer, han)
        left = self._hubs.serve_up(cems, has, answer_octets)[0]
        self.up_octets += int(answer_octets.sum())
        result = self._result_s[rows, columns]
        # The DCC waits for the contact, then for the answer; what comes after is too late for it.
        contact = self._gives_up[rows, columns] + self._region_wait[rows]
        in_time = has <= contact
        answered = self._succeeds[rows, columns] & in_time
        self._succeeds[rows, columns] = answered
        gives_up = np.where(in_time, has + self._model.response_timeout_s, contact)
        self._time[rows, columns] = np.where(answered, left, gives_up) + result
        self._kind[rows, columns] = _RESULT

    def _take_results(self, rows: Ints, columns: Ints, at: Floats) -> None:
        route = self._model.case.route
        self._in_flight[rows] -= 1
        self.flight_s += float((at - self._started[rows, columns]).sum())
        good = self._succeeds[rows, columns]
        self._recorder.answered(self._cems[rows[good]], columns[good], at[good])
        self._known[rows[good]] = np.maximum(self._known[rows[good]], at[good])
        self._finish(rows[good], columns[good])
        bad, bad_columns, when = rows[~good], columns[~good], at[~good]
        if not len(bad):
            return
        tried = self._attempt[bad, bad_columns]
        over = (tried >= route.fragment_attempts) | (
            when - self._begin[bad] > route.message_lifetime_s
        )
        self._fails[bad[over]] = True
        self._finish(bad[over], bad_columns[over])
        again, again_columns = bad[~over], bad_columns[~over]
        wait = np.minimum(
            route.fragment_retry_first_s * 2.0 ** (tried[~over] - 1), route.fragment_retry_max_s
        )
        wait *= 1 - 0.5 * self._numbers.random(len(again))
        self._kind[again, again_columns] = _WAITS
        self._time[again, again_columns] = when[~over] + wait

    def _finish(self, rows: Ints, columns: Ints) -> None:
        self._kind[rows, columns] = _OVER
        self._time[rows, columns] = np.inf
