"""Alert storm protection: what is held back when a device repeats itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from dcc_sim.core.network.profile import AlertStorm
from gbcs.duis import Throttled
from gbcs.entity_id import EntityId

_MAX_COUNT = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of one alert.

    Attributes:
        passes: whether it goes on to the users.
        throttled: what was held back before it; None: nothing.
    """

    passes: bool
    throttled: Throttled | None = None


@dataclass(slots=True)
class _History:
    times: deque[float] = field(default_factory=deque)
    passed_at: float = 0.0
    held_back: int = 0
    sequence_id: int = 0


class AlertStormProtection:
    """Counts the alerts of each device and code.

    A sliding window holds the last alerts, those held back included, so a storm is over when
    the device itself falls silent. What passes after something was held back tells how much:
    ThrottledAlertSequenceId numbers these tellings for each device and code from 1
    (assumed), ThrottledAlertCount is the number held back since the last one that passed.

    Args:
        settings: None switches it off.
    """

    def __init__(self, settings: AlertStorm | None) -> None:
        self._settings = settings if settings is not None and settings.enabled.value else None
        self._codes = (
            frozenset()
            if settings is None
            else frozenset(int(code, 16) for code in settings.codes.value)
        )
        self._histories: dict[tuple[EntityId, int], _History] = {}

    def receive(self, device: EntityId, alert_code: int, at: float) -> Verdict:
        """Decide about one alert.

        Args:
            device: who sent it.
            alert_code: two octets as a number.
            at: network time, in seconds.
        """
        settings = self._settings
        if settings is None or (self._codes and alert_code not in self._codes):
            return Verdict(passes=True)
        history = self._histories.setdefault((device, alert_code), _History())
        times = history.times
        while times and times[0] <= at - settings.window_s.value:
            times.popleft()
        is_storm = len(times) >= settings.threshold.value
        times.append(at)
        if len(times) > settings.threshold.value:
            # More are not needed to know that it is a storm.
            times.popleft()
        if is_storm and at < history.passed_at + settings.period_s.value:
            history.held_back = min(history.held_back + 1, _MAX_COUNT)
            return Verdict(passes=False)
        history.passed_at = at
        if not history.held_back:
            return Verdict(passes=True)
        history.sequence_id = min(history.sequence_id + 1, _MAX_COUNT)
        told = Throttled(history.sequence_id, history.held_back)
        history.held_back = 0
        return Verdict(passes=True, throttled=told)
