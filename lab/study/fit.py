"""Fits the fleet's times to what another engine, or a real system, showed; and tells how well.

For each part of a fragment's way a lognormal distribution is fitted by the median and the middle 68
per cent of the logarithms. How well it fits is told by the Kolmogorov-Smirnov distance, the largest
difference between the two distribution functions, and by quantiles side by side (Q-Q).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import numpy.typing as npt

from dcc_sim.core.network.distributions import Constant, Distribution, Lognormal
from lab.study.errors import StudyResultError

if TYPE_CHECKING:
    from lab.study.fleet.model import FleetModel

_LEAST_ROWS = 8
_LEAST_S = 1e-6
_QUANTILES = np.linspace(0.01, 0.99, 99)

Floats = npt.NDArray[np.float64]


class FittedTimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Times that replace a profile's; what is None stays the profile's.

    Attributes:
        request: from a fragment's beginning to the DCC having its command.
        dispatch: in the DCC before the SM WAN.
        alert: in the DCC behind it, for alerts.
        latency_down: of the SM WAN, by region.
        latency_up: the same up.
    """

    request: Distribution | None = None
    dispatch: Distribution | None = None
    alert: Distribution | None = None
    latency_down: dict[str, Distribution] = {}
    latency_up: dict[str, Distribution] = {}

    def applied_to(self, model: FleetModel) -> FleetModel:
        """Return a model with these times."""
        regions = tuple(
            replace(
                region,
                down=replace(
                    region.down, latency=self.latency_down.get(region.name, region.down.latency)
                ),
                up=replace(region.up, latency=self.latency_up.get(region.name, region.up.latency)),
            )
            for region in model.regions
        )
        return replace(
            model,
            regions=regions,
            request=self.request or model.request,
            dispatch=self.dispatch or model.dispatch,
            alert=self.alert or model.alert,
        )


@dataclass(frozen=True, slots=True)
class Fit:
    """One part of the way.

    Attributes:
        part: "request", "dispatch", "alert", "latency_down" or "latency_up".
        region: of the SM WAN; empty: all.
        count: values it was fitted to.
        distribution: what came out.
        distance: Kolmogorov-Smirnov, 0 to 1.
        measured_s: quantiles 1 to 99 per cent of the values.
        fitted_s: the same of the distribution.
    """

    part: str
    region: str
    count: int
    distribution: Distribution
    distance: float
    measured_s: Floats
    fitted_s: Floats


def distance(one: Floats, other: Floats) -> float:
    """Return the Kolmogorov-Smirnov distance of two samples, 0 to 1.

    Raises:
        StudyResultError: one has no values.
    """
    if not len(one) or not len(other):
        raise StudyResultError("no values: two samples can only be compared when both have some")
    first, second = np.sort(one), np.sort(other)
    both = np.concatenate([first, second])
    below = np.searchsorted(first, both, side="right") / len(first)
    below_other = np.searchsorted(second, both, side="right") / len(second)
    return float(np.abs(below - below_other).max())


def fit_fragments(fragments: Any, messages: Any) -> list[Fit]:
    """Fit all parts of the way for which there are values.

    Args:
        fragments: rows of one route 2a case, see tables.FRAGMENTS.
        messages: of the same case.
    """
    rows = fragments.to_pydict()
    of_message = {
        number: (region, direction)
        for number, region, direction in zip(
            messages["message"].to_pylist(),
            messages["region"].to_pylist(),
            messages["direction"].to_pylist(),
            strict=True,
        )
    }
    values: dict[tuple[str, str], list[float]] = {}
    for number, message in enumerate(rows["message"]):
        region, direction = of_message.get(message, ("", ""))
        if rows["outcome"][number] != "arrived" or not direction:
            continue
        down = direction == "down"
        parts = {
            (f"latency_{direction}", region): rows["wan_s"][number],
            ("dispatch" if down else "alert", ""): rows["dcc_s"][number],
        }
        if down:
            parts[("request", "")] = rows["request_s"][number]
        for key, value in parts.items():
            if value is not None and value > 0:
                values.setdefault(key, []).append(value)
    return [
        fit_values(part, region, np.asarray(found))
        for (part, region), found in sorted(values.items())
        if len(found) >= _LEAST_ROWS
    ]


def fit_values(part: str, region: str, values_s: Floats) -> Fit:
    """Fit one part of the way."""
    logarithms = np.log(np.maximum(values_s, _LEAST_S))
    # The median and the middle 68 per cent: a few that were held up do not widen all others.
    median = float(np.exp(np.median(logarithms)))
    low, high = np.quantile(logarithms, [0.1587, 0.8413])
    sigma = float(high - low) / 2
    distribution: Distribution = (
        Lognormal(median_s=median, sigma=sigma) if sigma > 0 else Constant(value_s=median)
    )
    deviates = np.asarray([NormalDist().inv_cdf(one) for one in _QUANTILES])
    ordered = np.sort(values_s)
    above = np.arange(1, len(ordered) + 1) / len(ordered)
    if sigma > 0:
        fitted = median * np.exp(sigma * deviates)
        model = np.asarray(
            [
                _normal_share((math.log(max(v, _LEAST_S)) - math.log(median)) / sigma)
                for v in ordered
            ]
        )
    else:
        fitted = np.full(len(_QUANTILES), median)
        model = (ordered >= median).astype(np.float64)
    gap = np.maximum(np.abs(above - model), np.abs(above - 1 / len(ordered) - model))
    return Fit(
        part=part,
        region=region,
        count=len(values_s),
        distribution=distribution,
        distance=float(gap.max()) if sigma > 0 else 0.0,
        measured_s=np.quantile(values_s, _QUANTILES),
        fitted_s=fitted,
    )


def fitted_times(fits: list[Fit]) -> FittedTimes:
    """Return the times that the fleet engine takes."""
    of_part = {fit.part: fit.distribution for fit in fits if not fit.region}
    return FittedTimes(
        request=of_part.get("request"),
        dispatch=of_part.get("dispatch"),
        alert=of_part.get("alert"),
        latency_down={f.region: f.distribution for f in fits if f.part == "latency_down"},
        latency_up={f.region: f.distribution for f in fits if f.part == "latency_up"},
    )


def write_fitted(path: Path, times: FittedTimes) -> None:
    """Write fitted times as JSON."""
    path.write_bytes(msgspec.json.format(msgspec.json.encode(times), indent=2) + b"\n")


def read_fitted(path: Path) -> FittedTimes:
    """Read fitted times.

    Raises:
        StudyResultError: the file cannot be read, or holds something else.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=FittedTimes)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise StudyResultError(
            f"{path}: no fitted times: {error}; `smtunnel study fit` writes them"
        ) from None


def _normal_share(deviate: float) -> float:
    return 0.5 * math.erfc(-deviate / math.sqrt(2))
