"""Anomaly detection: counts what each user sends, by kind of request, against its thresholds."""

from __future__ import annotations

from dataclasses import replace

from dcc_sim.config import ThresholdConfig
from dcc_sim.core.state import State
from dcc_sim.ports import AnomalyRow
from gbcs.entity_id import EntityId


class AnomalyDetector:
    """Remembers one count for each user and kind of request that has a threshold.

    Periods follow each other without overlap, from 1970 on (assumed).

    Args:
        state: has the users with their thresholds; keeps the counts.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._thresholds: dict[tuple[EntityId, str], ThresholdConfig] = {
            (user.entity_id, threshold.service_reference_variant): threshold
            for user in state.users.values()
            for threshold in user.thresholds
        }
        self._counts = {
            (row.user, row.service_reference_variant): row for row in state.stored.anomaly_counts
        }

    def broken(self, user: EntityId, variant: str, now: float) -> ThresholdConfig | None:
        """Return the threshold that one more request would break, or None; changes nothing.

        Args:
            user: who sends it.
            variant: its service reference variant.
            now: seconds since 1970.
        """
        threshold = self._thresholds.get((user, variant))
        if threshold is None:
            return None
        return threshold if self._next(user, threshold, now).count > threshold.limit else None

    def count(self, user: EntityId, variant: str, now: float) -> None:
        """Count one more request; see broken."""
        threshold = self._thresholds.get((user, variant))
        if threshold is not None:
            row = self._next(user, threshold, now)
            self._state.storage.save_anomaly_count(row)
            self._counts[(user, variant)] = row

    def _next(self, user: EntityId, threshold: ThresholdConfig, now: float) -> AnomalyRow:
        variant = threshold.service_reference_variant
        period_start = now - now % threshold.period_s
        before = self._counts.get((user, variant))
        # A clock that is set back must not open the period once more.
        if before is not None and before.period_start >= period_start:
            return replace(before, count=before.count + 1)
        return AnomalyRow(user, variant, period_start, 1)
