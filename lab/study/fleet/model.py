"""What a case means for one CEM: times, losses and sizes as plain numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import msgspec

from dcc_sim.core.network.distributions import Distribution
from dcc_sim.core.network.profile import (
    AlertStorm,
    BurstLoss,
    NetworkProfile,
    Parameter,
    RandomOutages,
    Region,
    ScheduledOutage,
)
from lab.study.cases import Case, profile_of, shares_of
from lab.study.errors import EngineError
from lab.study.fit import FittedTimes
from lab.study.parameters import Route
from lab.study.payloads import Cost, cost_of, messages_of

T = TypeVar("T")

_SAMPLES = 16
_BITS = 8


@dataclass(frozen=True, slots=True)
class Way:
    """One way of one region's SM WAN.

    Attributes:
        latency: of the SM WAN.
        bits_s: rate of one hub; None: no time is needed.
        han_octets: what one Zigbee fragment carries; None: no time is needed.
        han_s: what it takes, in seconds.
        loss: None: nothing is lost.
        reorder_probability: that a message is held up.
        reorder_delay: how long then.
    """

    latency: Distribution | None
    bits_s: float | None
    han_octets: int | None
    han_s: float
    loss: BurstLoss | None
    reorder_probability: float
    reorder_delay: Distribution | None

    def service_s(self, octets: int) -> tuple[float, float]:
        """Return the times that a hub needs for a message: transfer and home area network."""
        transfer_s = 0.0 if self.bits_s is None else octets * _BITS / self.bits_s
        if self.han_octets is None:
            return transfer_s, 0.0
        return transfer_s, math.ceil(octets / self.han_octets) * self.han_s


@dataclass(frozen=True, slots=True)
class RegionModel:
    """One region.

    Attributes:
        name: of the region.
        share: of the CEMs, 0 to 1.
        down: towards the hub.
        up: from it.
        outages: of each hub by chance.
        scheduled: outages of all hubs.
        drops: whether what comes in an outage is lost; else it waits.
        duplicate_probability: that a message comes twice.
    """

    name: str
    share: float
    down: Way
    up: Way
    outages: RandomOutages | None
    scheduled: tuple[ScheduledOutage, ...]
    drops: bool
    duplicate_probability: float


@dataclass(frozen=True, slots=True)
class MessageModel:
    """One message of the workload.

    Attributes:
        type: its OpenADR type.
        downlink: its direction.
        costs: what it costs, for some examples of it; each as likely as the others.
        fallback_costs: the same on route 2a, for homes without internet; else empty.
    """

    type: str
    downlink: bool
    costs: tuple[Cost, ...]
    fallback_costs: tuple[Cost, ...]

    @property
    def mean_fragments(self) -> float:
        """Return how many fragments it has on average."""
        return sum(cost.fragments for cost in self.costs) / len(self.costs)

    @property
    def mean_octets(self) -> float:
        """Return how many octets its carrier messages have together, on average."""
        return sum(octets_of(cost) for cost in self.costs) / len(self.costs)

    @property
    def mean_answer_octets(self) -> float:
        """Return how many octets the answers to them have together, on average."""
        total = sum(
            (cost.fragments - 1) * cost.answer_octets + cost.last_answer_octets
            for cost in self.costs
        )
        return total / len(self.costs)

    def as_fallback(self) -> MessageModel:
        """Return the same message on route 2a."""
        return replace(self, costs=self.fallback_costs, fallback_costs=())


def octets_of(cost: Cost) -> int:
    """Return the octets of all carrier messages of one message."""
    return (cost.fragments - 1) * cost.full_octets + cost.last_octets


@dataclass(frozen=True, slots=True)
class FleetModel:
    """A case, ready to be computed.

    Attributes:
        case: what it is made of.
        messages: of one turn, in order.
        regions: at least one.
        request: the DCC's time for the transform of one fragment.
        dispatch: from there to the SM WAN.
        response: from the SM WAN to the DSRSP.
        alert: the same for an alert.
        attempts: how often the DCC sends a command until there is an answer.
        interval_s: time between two of them, in seconds.
        contact_timeout_s: then the DCC gives up a command that did not arrive, in seconds.
        response_timeout_s: or one that was not answered.
        storm: alert storm protection, None: off.
    """

    case: Case
    messages: tuple[MessageModel, ...]
    regions: tuple[RegionModel, ...]
    request: Distribution | None
    dispatch: Distribution | None
    response: Distribution | None
    alert: Distribution | None
    attempts: int
    interval_s: float
    contact_timeout_s: float
    response_timeout_s: float
    storm: AlertStorm | None

    @property
    def copies(self) -> int:
        """How often each message goes at once: more than once in an alert storm."""
        workload = self.case.workload
        return workload.alerts_per_cem if workload.kind == "alert-storm" else 1


def model_of(case: Case, fitted: FittedTimes | None = None) -> FleetModel:
    """Return what a case means.

    Args:
        case: which.
        fitted: replaces the profile's times by what was measured; None: the profile's.

    Raises:
        EngineError: the engine cannot model it.
    """
    profile = profile_of(case.network)
    dcc, retries = profile.dcc, profile.retries
    storm = profile.alert_storm
    model = FleetModel(
        case=case,
        messages=_messages(case),
        regions=_regions(case, profile),
        # What the acknowledgement takes delays nobody: the command is on its way meanwhile.
        request=_value(dcc.transform) if case.route.transform else None,
        dispatch=_value(dcc.dispatch),
        response=_value(dcc.response),
        alert=_value(dcc.alert),
        attempts=1 if retries.attempts is None else retries.attempts.value,
        interval_s=30.0 if retries.interval_s is None else retries.interval_s.value,
        contact_timeout_s=_seconds(retries.contact_timeout_s),
        response_timeout_s=_seconds(retries.response_timeout_s),
        storm=storm if storm is not None and storm.enabled.value else None,
    )
    return model if fitted is None else fitted.applied_to(model)


def _messages(case: Case) -> tuple[MessageModel, ...]:
    examples = [messages_of(case.workload, seed) for seed in range(_SAMPLES)]
    fallback = case.route.kind == "2b"
    storms = case.workload.kind == "alert-storm"
    models = []
    for turn in list(zip(*examples, strict=True))[: 1 if storms else None]:
        models.append(
            MessageModel(
                type=turn[0].name,
                downlink=turn[0].downlink,
                costs=tuple(cost_of(one, case.route) for one in turn),
                fallback_costs=tuple(cost_of(one, _as_2a(case)) for one in turn)
                if fallback
                else (),
            )
        )
    if not models:
        raise EngineError(f"workload {case.workload.name!r} has no messages")
    return tuple(models)


def _as_2a(case: Case) -> Route:
    return msgspec.structs.replace(case.route, kind="2a")


def fallback_of(model: FleetModel) -> FleetModel | None:
    """Return the model of the same messages on route 2a; None: the route never falls back."""
    if not all(message.fallback_costs for message in model.messages):
        return None
    return replace(
        model,
        case=msgspec.structs.replace(model.case, route=_as_2a(model.case)),
        messages=tuple(message.as_fallback() for message in model.messages),
    )


def _regions(case: Case, profile: NetworkProfile) -> tuple[RegionModel, ...]:
    regions = []
    for name, share in shares_of(case.network, profile).items():
        region = profile.regions.get(name, Region())
        regions.append(
            RegionModel(
                name=name,
                share=share,
                down=_way(region, region.latency_down, region.bandwidth_down_bits_s),
                up=_way(region, region.latency_up, region.bandwidth_up_bits_s),
                outages=_value(region.random_outages),
                scheduled=_value(region.scheduled_outages) or (),
                drops=region.in_outage is not None and region.in_outage.value == "drop",
                duplicate_probability=_value(region.duplicate_probability) or 0.0,
            )
        )
    return tuple(regions)


def _way(
    region: Region,
    latency: Parameter[Distribution] | None,
    bits_s: Parameter[float] | None,
) -> Way:
    return Way(
        latency=_value(latency),
        bits_s=_value(bits_s),
        han_octets=_value(region.han_fragment_octets),
        han_s=_value(region.han_fragment_s) or 0.0,
        loss=_value(region.loss),
        reorder_probability=_value(region.reorder_probability) or 0.0,
        reorder_delay=_value(region.reorder_delay),
    )


def _value(parameter: Parameter[T] | None) -> T | None:
    return None if parameter is None else parameter.value


def _seconds(parameter: Parameter[float] | None) -> float:
    # The simulator's own default: device_connect_timeout_s and device_response_timeout_s.
    return 30.0 if parameter is None else parameter.value
