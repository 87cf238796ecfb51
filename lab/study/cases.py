"""One case of a study: one route, one workload, one network, one engine, one repetition."""

from __future__ import annotations

import hashlib
from typing import Any, TypeVar

import msgspec

from dcc_sim.core.network.distributions import (
    Constant,
    Distribution,
    Exponential,
    Lognormal,
    Mixture,
    Trace,
)
from dcc_sim.core.network.profile import BurstLoss, NetworkProfile, Parameter, Standing
from dcc_sim.profile_files import load_profile
from lab.study.networks import Network
from lab.study.parameters import EngineName, Route, Workload

T = TypeVar("T")

_SHARES = {"north": 0.3, "central-south": 0.7}


class OwnTime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the software of both ends takes for a message, as it was measured, in seconds.

    Attributes:
        down: values of messages to the CEM; none: no time.
        up: the same to the DSRSP.
    """

    down: tuple[float, ...] = ()
    up: tuple[float, ...] = ()

    def of(self, way: str) -> tuple[float, ...]:
        """Return the values of one way, "down" or "up"."""
        return self.down if way == "down" else self.up


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine carries out.

    Attributes:
        number: in the study, from 0.
        experiment: whose it is.
        engine: who carries it out.
        route: with the experiment's values.
        workload: the same.
        network: the same.
        varied: which values these are.
        repetition: from 0.
        study_seed: the study's.
        deadlines_s: to be counted exactly.
        rows: of how many CEMs a fleet writes down rows.
        own_time_of: the experiment that measures the software's own time for it; empty: none.
        own_time: what it measured, see `lab.study.own_time`.
    """

    number: int = 0
    experiment: str
    engine: EngineName
    route: Route
    workload: Workload
    network: Network
    varied: dict[str, str] = {}
    repetition: int = 0
    study_seed: int = 1
    deadlines_s: tuple[float, ...] = ()
    rows: int = 2000
    own_time_of: str = ""
    own_time: OwnTime = OwnTime()

    @property
    def varied_text(self) -> str:
        """Return the experiment's values in one line."""
        return ", ".join(f"{path}={value}" for path, value in self.varied.items())

    @property
    def seed(self) -> int:
        """The seed of the case's draws: the same for every route and engine.

        Values that the route varies do not change it either, so that routes are compared on the
        same draws as far as they make the same ones.
        """
        own = {path: value for path, value in self.varied.items() if not path.startswith("route.")}
        text = msgspec.json.encode(
            [self.study_seed, self.workload.name, self.network.name, own, self.repetition],
            order="sorted",
        )
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "big")

    @property
    def title(self) -> str:
        """A line for people."""
        parts = [self.experiment, self.engine, self.route.name, self.workload.name]
        parts += [self.network.name, *([self.varied_text] if self.varied else [])]
        return " / ".join(parts)


def profile_of(network: Network) -> NetworkProfile:
    """Return the profile of a study's network, with what the study changes in it."""
    profile = load_profile(network.profile)
    regions = dict(profile.regions)
    for name, region in regions.items():
        if network.loss is not None:
            region = msgspec.structs.replace(
                region,
                loss=_by_study(
                    BurstLoss(
                        good_mean_s=86_400.0,
                        bad_mean_s=1.0,
                        loss_good=network.loss,
                        loss_bad=network.loss,
                    )
                ),
            )
        if network.latency_scale != 1.0:
            region = msgspec.structs.replace(
                region,
                latency_down=_scaled(region.latency_down, network.latency_scale),
                latency_up=_scaled(region.latency_up, network.latency_scale),
            )
        regions[name] = region
    storm = profile.alert_storm
    if storm is not None and network.alert_storm_protection is not None:
        storm = msgspec.structs.replace(storm, enabled=_by_study(network.alert_storm_protection))
    return msgspec.structs.replace(profile, regions=regions, alert_storm=storm)


def _scaled(parameter: Parameter[Distribution] | None, scale: float) -> Any:
    return None if parameter is None else _by_study(scaled(parameter.value, scale))


def scaled(distribution: Distribution, scale: float) -> Distribution:
    """Return a distribution of times that are so many times as long."""
    match distribution:
        case Constant(value_s=value):
            return Constant(value_s=value * scale)
        case Lognormal(median_s=median, sigma=sigma, shift_s=shift, max_s=most):
            return Lognormal(
                median_s=median * scale,
                sigma=sigma,
                shift_s=shift * scale,
                max_s=None if most is None else most * scale,
            )
        case Exponential(mean_s=mean, max_s=most):
            return Exponential(mean_s=mean * scale, max_s=None if most is None else most * scale)
        case Trace(values_s=values):
            return Trace(values_s=tuple(value * scale for value in values))
        case Mixture(parts=parts):
            return Mixture(
                parts=tuple(
                    msgspec.structs.replace(part, of=scaled(part.of, scale)) for part in parts
                )
            )


def _by_study(value: T) -> Parameter[T]:
    return Parameter(value=value, standing=Standing.ASSUMED, source="set by the study")


def shares_of(network: Network, profile: NetworkProfile) -> dict[str, float]:
    """Return the share of the CEMs in each region, summing to 1; {"": 1} without regions."""
    if not profile.regions:
        return {"": 1.0}
    shares = network.regions
    if not shares:
        named = {name: share for name, share in _SHARES.items() if name in profile.regions}
        shares = named if len(named) == len(_SHARES) else {profile.default_region: 1.0}
    total = sum(shares.values())
    return {name: share / total for name, share in shares.items() if share > 0}
