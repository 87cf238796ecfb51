"""Keeps the last journeys in memory, for whoever looks at the running simulator."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from dcc_sim.core.steps import COUNTERS, Step, step_of, text
from gbcs.ports import Clock, Journal, JournalValue

_MAX_FACT_CHARS = 300
_MAX_OTHERS = 100


@dataclass(frozen=True, slots=True)
class KeptStep:
    """A step with its number, which rises over all journeys, and its time.

    Attributes:
        number: from 1 on.
        t: seconds since 1970.
        event: the journal's name for it.
        step: what happened.
    """

    number: int
    t: float
    event: str
    step: Step


@dataclass(slots=True)
class KeptJourney:
    """What is known of one request or alert.

    Attributes:
        reference: names it.
        is_alert: whether a device began it.
        state: what it is at, in words.
        failed: whether the step that said so went wrong.
        steps: the last steps.
        omitted: how many steps before these are no longer kept.
        changed: number of the last step.
        octets: how many octets of content are kept.
    """

    reference: str
    is_alert: bool
    steps: deque[KeptStep]
    state: str = ""
    failed: bool = False
    omitted: int = 0
    changed: int = 0
    octets: int = 0
    _ends: bool = False
    _to_post: int = 0

    @property
    def finished(self) -> bool:
        """Whether nothing of it is under way."""
        return self._ends and self._to_post <= 0

    def add(self, kept: KeptStep) -> None:
        """Take one more step, the oldest may go."""
        step = kept.step
        if len(self.steps) == self.steps.maxlen:
            self.omitted += 1
            self.octets -= len(self.steps[0].step.content)
        self.steps.append(kept)
        self.octets += len(step.content)
        self.changed = kept.number
        self._to_post = max(0, self._to_post + step.postings)
        if step.state is not None:
            self.state, self._ends, self.failed = step.state, step.ends, step.failed


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """An event that belongs to no journey: a fault, or a message that met one.

    Attributes:
        number: as of KeptStep.
        t: seconds since 1970.
        event: its name.
        facts: its fields.
    """

    number: int
    t: float
    event: str
    facts: dict[str, str] = field(default_factory=dict)


class Journeys:
    """A journal that keeps the last journeys, and passes all on to another journal.

    Memory is bounded by the number of journeys, of steps of each, and by the octets of all.

    Args:
        journal: gets every event.
        clock: seconds since 1970.
        limit: how many journeys are kept.
        steps: how many steps of each.
        octets: how many octets of messages, of all journeys together.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        *,
        limit: int = 500,
        steps: int = 100,
        octets: int = 8 * 1024 * 1024,
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._limit = limit
        self._steps = steps
        self._max_octets = octets
        self._octets = 0
        self._journeys: OrderedDict[str, KeptJourney] = OrderedDict()
        self._others: deque[OtherEvent] = deque(maxlen=_MAX_OTHERS)
        self._counters = dict.fromkeys(COUNTERS, 0)
        self.number = 0
        self.began = clock()

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Keep one event and pass it on."""
        self._journal.record(event, **fields)
        step = step_of(event, fields)
        self.number += 1
        if step is None:
            facts = {name: _short(text(fields, name)) for name in fields if text(fields, name)}
            self._others.append(OtherEvent(self.number, self._clock(), event, facts))
            return
        if step.counter in self._counters:
            self._counters[step.counter] += 1
        self._keep(KeptStep(self.number, self._clock(), event, _bounded(step)))

    def changed_since(self, number: int) -> Iterator[KeptJourney]:
        """Yield the journeys with steps after this number, the last changed first."""
        for journey in reversed(self._journeys.values()):
            if journey.changed <= number:
                return
            yield journey

    def others_since(self, number: int) -> list[OtherEvent]:
        """Return the events after this number that belong to no journey, the oldest first."""
        return [other for other in self._others if other.number > number]

    def find(self, reference: str) -> KeptJourney | None:
        """Return a journey, None when it is not (or no longer) kept."""
        return self._journeys.get(reference)

    @property
    def counters(self) -> dict[str, int]:
        """How often each kind of step was seen since the start, by its name."""
        return dict(self._counters)

    @property
    def under_way(self) -> int:
        """How many of the journeys kept are not finished."""
        return sum(not journey.finished for journey in self._journeys.values())

    def __len__(self) -> int:
        return len(self._journeys)

    def _keep(self, kept: KeptStep) -> None:
        step = kept.step
        journey = self._journeys.get(step.reference)
        if journey is None:
            is_alert = step.reference.count(":") == 1
            journey = KeptJourney(step.reference, is_alert, deque(maxlen=self._steps))
            self._journeys[step.reference] = journey
        before = journey.octets
        journey.add(kept)
        self._octets += journey.octets - before
        self._journeys.move_to_end(step.reference)
        while len(self._journeys) > 1 and (
            len(self._journeys) > self._limit or self._octets > self._max_octets
        ):
            self._octets -= self._journeys.popitem(last=False)[1].octets


def _bounded(step: Step) -> Step:
    """Cut what a stranger may have made long."""
    if all(len(value) <= _MAX_FACT_CHARS for _, value in step.facts):
        return step
    return replace(step, facts=tuple((name, _short(value)) for name, value in step.facts))


def _short(value: str) -> str:
    return value if len(value) <= _MAX_FACT_CHARS else value[: _MAX_FACT_CHARS - 1] + "…"
