"""What goes wrong in a simulated run: everything that the simulator knows, and more."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from dcc_sim import Fault, FaultKind, Hop
from lab.cast import device_id

_MESSAGE_FAULTS = (FaultKind.DROP, FaultKind.CORRUPT, FaultKind.DELAY, FaultKind.DUPLICATE)
_ROUNDS_AN_HOUR = 4
_DSRSP_KILLS_AN_HOUR = 6
_CEM_KILLS_AN_HOUR = 2


_AWAY_S = (0.0, 0.0, 0.0, 0.1, 3.0)
"""How long a CEM has no internet after most disconnects, in seconds."""


@dataclass(frozen=True, slots=True)
class Kill:
    """A process is killed and started again.

    Attributes:
        at_s: when, in seconds after the start; with at_write, from when on.
        cem: which CEM, by its number; None: the DSRSP.
        pause_s: how long it is away, in seconds.
        at_write: at which of its next writes to its store, from 1; None: at once.
        before: just before that write, or just after it.
    """

    at_s: float
    cem: int | None
    pause_s: float
    at_write: int | None
    before: bool


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A CEM's connection on route 2b breaks.

    Attributes:
        at_s: when, in seconds after the start.
        cem: which CEM, by its number.
        away_s: how long it has no internet then, in seconds; 0: it can dial again at once.
    """

    at_s: float
    cem: int
    away_s: float


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """All that goes wrong in one run.

    Attributes:
        scenario: what the simulator brings about by itself.
        kills: of processes.
        quarantine: whether the anomaly threshold is too low for the load, and an operator releases
            or discards at random.
        repeated_posts: whether the DCC posts responses late and several times, now and then.
        storms: the CEMs that know no pace, by number: their alerts come in storms.
        revoked: the CEM whose certificates the scenario revokes.
        disconnects: of connections on route 2b.
    """

    scenario: Sequence[Fault] = ()
    kills: Sequence[Kill] = ()
    quarantine: bool = False
    repeated_posts: bool = False
    storms: frozenset[int] = frozenset()
    revoked: int | None = None
    disconnects: Sequence[Disconnect] = ()


def every_fault(seed: int, *, duration_s: float, devices: int) -> FaultPlan:
    """Make a plan with every kind of fault on every hop, several times an hour.

    Args:
        seed: the same one gives the same plan.
        duration_s: of the time in which messages are sent, in seconds.
        devices: how many CEMs there are.
    """
    chance = random.Random(f"{seed}/faults")  # noqa: S311  # to come out the same
    hours = duration_s / 3600.0
    scenario = _message_faults(chance, duration_s, max(1, round(_ROUNDS_AN_HOUR * hours)))
    scenario += _hub_faults(chance, duration_s, devices)
    for _ in range(max(1, round(3 * hours))):
        duration = chance.choice((0.0, 5.0, 60.0, 240.0))
        at_s = chance.uniform(0.05, 0.9) * duration_s
        scenario.append(Fault(kind=FaultKind.RESTART, at_s=at_s, duration_s=duration))
    # The only device is not given up.
    revoked = devices - 1 if devices > 1 else None
    if revoked is not None:
        at_s = 0.6 * duration_s
        scenario.append(Fault(kind=FaultKind.REVOKE, at_s=at_s, entity_id=device_id(revoked)))
    return FaultPlan(
        scenario=tuple(sorted(scenario, key=lambda fault: fault.at_s)),
        kills=_kills(chance, duration_s, devices),
        quarantine=True,
        repeated_posts=True,
        storms=frozenset(range(0, devices, 3)),
        revoked=revoked,
    )


def random_disconnects(
    seed: int, *, duration_s: float, devices: int, count: int
) -> tuple[Disconnect, ...]:
    """Make a plan of broken connections on route 2b: most are short.

    Args:
        seed: the same one gives the same plan.
        duration_s: of the time in which messages are sent, in seconds.
        devices: how many CEMs there are.
        count: how many.
    """
    chance = random.Random(f"{seed}/disconnects")  # noqa: S311  # to come out the same
    found = [
        Disconnect(
            at_s=chance.uniform(0.01, 1.0) * duration_s,
            cem=chance.randrange(devices),
            # Few are long, or there would soon be no connection left to break.
            away_s=0.1 * duration_s if number < devices else chance.choice(_AWAY_S),
        )
        for number in range(count)
    ]
    return tuple(sorted(found, key=lambda one: one.at_s))


def _message_faults(chance: random.Random, duration_s: float, rounds: int) -> list[Fault]:
    return [
        Fault(
            kind=kind,
            at_s=chance.uniform(0.0, 0.95) * duration_s,
            hop=hop,
            count=chance.randint(1, 8),
            delay_s=chance.choice((2.0, 10.0, 90.0)) if kind is FaultKind.DELAY else None,
        )
        for kind in _MESSAGE_FAULTS
        for hop in Hop
        if (kind, hop) != (FaultKind.DUPLICATE, Hop.ANSWER)
        for _ in range(rounds)
    ]


def _hub_faults(chance: random.Random, duration_s: float, devices: int) -> list[Fault]:
    """Half of the hubs are off for some time, one of them until it is switched on."""
    faults: list[Fault] = []
    for number in chance.sample(range(devices), (devices + 1) // 2):
        at_s = chance.uniform(0.05, 0.7) * duration_s
        for_s = chance.uniform(0.01, 0.3) * duration_s
        hub = str(device_id(number))
        if faults:
            faults.append(Fault(kind=FaultKind.HUB_DOWN, at_s=at_s, hub=hub, duration_s=for_s))
        else:
            faults.append(Fault(kind=FaultKind.HUB_DOWN, at_s=at_s, hub=hub))
            faults.append(Fault(kind=FaultKind.HUB_UP, at_s=at_s + for_s, hub=hub))
    return faults


def _kills(chance: random.Random, duration_s: float, devices: int) -> tuple[Kill, ...]:
    hours = duration_s / 3600.0
    victims: list[int | None] = [None] * max(2, round(_DSRSP_KILLS_AN_HOUR * hours))
    for number in range(devices):
        victims += [number] * max(1, round(_CEM_KILLS_AN_HOUR * hours))
    kills = [
        Kill(
            at_s=chance.uniform(0.02, 0.95) * duration_s,
            cem=victim,
            pause_s=chance.choice((0.0, 1.0, 20.0, 120.0)),
            at_write=chance.choice((None, chance.randint(1, 12))),
            before=chance.random() < 0.5,
        )
        for victim in victims
    ]
    return tuple(sorted(kills, key=lambda kill: kill.at_s))
