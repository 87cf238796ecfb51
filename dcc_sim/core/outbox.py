"""What waits to be posted to the users: retried with backoff, then held, dropped at last."""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass

from dcc_sim.core.effects import Post, Severity
from dcc_sim.core.state import State
from dcc_sim.ports import PostingRow
from gbcs.entity_id import EntityId


@dataclass(slots=True)
class _Waiting:
    row: PostingRow
    # Counted from the first attempt of this run: what a restart interrupted gets its full time.
    retry_until: float
    failures: int = 0
    paused: bool = False


class Outbox:
    """Posts each message until a user takes it (2xx).

    A user that answers gets all that was held for it at once. Order is that of creation, but
    several POSTs are under way at a time and a failed one does not hold up the others.

    Source: retries for 300 s, then held for two days, as DCC does with device alerts.
    """

    def __init__(self, state: State, now: float) -> None:
        self._state = state
        self._waiting: dict[int, _Waiting] = {}
        self._ready: dict[EntityId, deque[int]] = {}
        self._in_flight: dict[EntityId, set[int]] = {}
        # When to try again, what, after which failure: an entry of an earlier failure is void.
        self._pauses: list[tuple[float, int, int]] = []
        self._unreached: dict[EntityId, dict[int, None]] = {}
        self._counts: Counter[EntityId] = Counter()
        self._take(state.stored_postings, now, 0.0)

    def __len__(self) -> int:
        return len(self._waiting)

    def has_room(self, user: EntityId) -> bool:
        """Say whether fewer messages wait for a user than are allowed.

        What must not be lost, as responses to accepted commands, is taken all the same.
        """
        return self._counts[user] < self._state.config.postings_per_user

    def enqueue(self, rows: Sequence[PostingRow], now: float, *, delay_s: float = 0.0) -> None:
        """Take over messages that are already saved.

        Args:
            rows: the messages.
            now: seconds since 1970.
            delay_s: how long the DCC takes before the first attempt, in seconds, beside what
                State.behaviour says; a restart cuts it short.
        """
        self._take(rows, now, delay_s + self._state.behaviour.delay_s)

    def _take(self, rows: Sequence[PostingRow], now: float, delay_s: float) -> None:
        for row in rows:
            if row.user not in self._state.users:
                # It stays in the storage: the settings may name the user again.
                self._state.note(
                    Severity.WARNING,
                    f"{row.kind} {row.reference} waits for {row.user}, no user of this DCC",
                )
                continue
            retry_until = now + delay_s + self._state.config.post_limit_s
            waiting = self._waiting[row.posting_id] = _Waiting(row, retry_until)
            self._counts[row.user] += 1
            ready = self._ready.setdefault(row.user, deque())
            if delay_s > 0:
                waiting.paused = True
                heapq.heappush(self._pauses, (now + delay_s, row.posting_id, waiting.failures))
            else:
                ready.append(row.posting_id)
                self._fill(row.user)

    def handle_posted(self, posting_id: int) -> None:
        """The user took a message."""
        waiting = self._waiting.pop(posting_id, None)
        if waiting is None:
            return
        self._counts[waiting.row.user] -= 1
        self._state.storage.delete_posting(posting_id)
        user = waiting.row.user
        self._in_flight[user].discard(posting_id)
        self._tell("taken", waiting.row)
        self._state.note(
            Severity.INFO, f"posted {waiting.row.kind} {waiting.row.reference} to {user}"
        )
        self._release(user)
        self._fill(user)

    def handle_post_failed(
        self, posting_id: int, reason: str, now: float, *, reached: bool
    ) -> None:
        """A POST came to nothing; try again later.

        Args:
            posting_id: which.
            reason: for the log.
            now: seconds since 1970.
            reached: whether the user answered at all; what did not reach it is tried again as
                soon as something else does.
        """
        waiting = self._waiting.get(posting_id)
        if waiting is None:
            return
        config = self._state.config
        row = waiting.row
        self._in_flight[row.user].discard(posting_id)
        if now >= row.created + config.hold_limit_s:
            del self._waiting[posting_id]
            self._counts[row.user] -= 1
            self._state.storage.delete_posting(posting_id)
            self._tell("dropped", row, reason)
            self._state.note(
                Severity.ERROR,
                f"dropped {row.kind} {row.reference}: {row.user} did not take it for "
                f"{config.hold_limit_s:g} s: {reason}",
            )
        else:
            self._tell("failed", row, reason)
            pause = self._pause(waiting, reason, now)
            waiting.failures += 1
            waiting.paused = True
            heapq.heappush(self._pauses, (now + pause, posting_id, waiting.failures))
            if not reached:
                self._unreached.setdefault(row.user, {})[posting_id] = None
        self._fill(row.user)

    def handle_timer(self, now: float) -> None:
        """Try again what has waited long enough."""
        while self._pauses and self._pauses[0][0] <= now:
            _, posting_id, failures = heapq.heappop(self._pauses)
            self._resume(posting_id, failures)

    def get_timer(self) -> float | None:
        """Return when handle_timer is to be called, in seconds since 1970."""
        return self._pauses[0][0] if self._pauses else None

    def _tell(self, outcome: str, row: PostingRow, reason: str | None = None) -> None:
        self._state.journal.record(
            "post",
            reference=row.reference,
            user=str(row.user),
            kind=row.kind,
            outcome=outcome,
            reason=reason,
            octets=len(row.xml),
        )

    def _pause(self, waiting: _Waiting, reason: str, now: float) -> float:
        config = self._state.config
        row = waiting.row
        what = f"{row.kind} {row.reference} was not taken by {row.user}: {reason}"
        if now >= waiting.retry_until:
            self._state.note(Severity.ERROR, f"{what}; held, next try in {config.held_retry_s:g} s")
            return config.held_retry_s
        # The power is bounded, or it would overflow after a thousand failures.
        pause = config.post_backoff_s * 2.0 ** min(waiting.failures, 30)
        pause = min(pause, config.post_backoff_max_s)
        self._state.note(Severity.WARNING, f"{what}; next try in {pause:g} s")
        return pause

    def _release(self, user: EntityId) -> None:
        """A user that answers again gets at once what could not reach it."""
        for posting_id in sorted(self._unreached.pop(user, ())):
            waiting = self._waiting.get(posting_id)
            if waiting is not None:
                self._resume(posting_id, waiting.failures)

    def _resume(self, posting_id: int, failures: int) -> None:
        waiting = self._waiting.get(posting_id)
        if waiting is None or not waiting.paused or waiting.failures != failures:
            return
        waiting.paused = False
        self._unreached.get(waiting.row.user, {}).pop(posting_id, None)
        self._ready[waiting.row.user].append(posting_id)
        self._fill(waiting.row.user)

    def _fill(self, user: EntityId) -> None:
        ready = self._ready.get(user, deque())
        in_flight = self._in_flight.setdefault(user, set())
        url = self._state.users[user].receive_url
        while ready and len(in_flight) < self._state.config.posts_in_flight:
            posting_id = ready.popleft()
            in_flight.add(posting_id)
            row = self._waiting[posting_id].row
            self._state.effects.append(Post(posting_id, user, url, row.xml))
