"""Distributions of times, as values that a profile can spell and a stream can draw from."""

from __future__ import annotations

import bisect
import itertools
import math
from statistics import NormalDist
from typing import TypeAlias

import msgspec

from dcc_sim.core.network.streams import Stream

_STANDARD_NORMAL = NormalDist()


class _Distribution(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="kind"
):
    """What the distributions share: ``kind`` names them in a profile."""


class Constant(_Distribution, frozen=True, tag="constant"):
    """Always the same.

    Attributes:
        value_s: seconds, at least 0.
    """

    value_s: float

    def __post_init__(self) -> None:
        _at_least_0("value_s", self.value_s)

    def draw(self, stream: Stream) -> float:
        """Return a time in seconds."""
        return self.value_s


class Lognormal(_Distribution, frozen=True, tag="lognormal"):
    """Its logarithm is normal: most are quick, a few take very long.

    Attributes:
        median_s: half of the values lie below, in seconds, more than 0.
        sigma: standard deviation of the natural logarithm, at least 0.
        shift_s: added to every value, in seconds, at least 0.
        max_s: no value is above, in seconds; None: no bound.
    """

    median_s: float
    sigma: float
    shift_s: float = 0.0
    max_s: float | None = None

    def __post_init__(self) -> None:
        _above_0("median_s", self.median_s)
        _at_least_0("sigma", self.sigma)
        _at_least_0("shift_s", self.shift_s)
        if self.max_s is not None:
            _above_0("max_s", self.max_s)

    def draw(self, stream: Stream) -> float:
        """Return a time in seconds."""
        deviate = _STANDARD_NORMAL.inv_cdf(max(stream.random(), 2.0**-54))
        return _bounded(self.shift_s + self.median_s * math.exp(self.sigma * deviate), self.max_s)


class Exponential(_Distribution, frozen=True, tag="exponential"):
    """Times between, or lengths of, things that know no past.

    Attributes:
        mean_s: seconds, more than 0.
        max_s: no value is above, in seconds; None: no bound.
    """

    mean_s: float
    max_s: float | None = None

    def __post_init__(self) -> None:
        _above_0("mean_s", self.mean_s)
        if self.max_s is not None:
            _above_0("max_s", self.max_s)

    def draw(self, stream: Stream) -> float:
        """Return a time in seconds."""
        return _bounded(draw_exponential(self.mean_s, stream), self.max_s)


class Trace(_Distribution, frozen=True, tag="trace"):
    """Values as they were measured, each as likely as the next.

    Attributes:
        values_s: seconds, at least 0; one or more.
        file: where the values come from: a text file beside the profile, one number a line.
            Whoever reads the profile puts its values into values_s.
    """

    values_s: tuple[float, ...] = ()
    file: str | None = None

    def __post_init__(self) -> None:
        if not self.values_s and self.file is None:
            raise ValueError("a trace needs values_s = [...] or file = 'NAME'")
        for value in self.values_s:
            _at_least_0("values_s", value)

    def draw(self, stream: Stream) -> float:
        """Return a time in seconds."""
        return self.values_s[int(stream.random() * len(self.values_s))]


Simple: TypeAlias = Constant | Lognormal | Exponential | Trace


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One part of a mixture.

    Attributes:
        weight: its share, relative to the others', more than 0.
        of: its distribution.
    """

    weight: float
    of: Simple

    def __post_init__(self) -> None:
        _above_0("weight", self.weight)


class Mixture(_Distribution, frozen=True, tag="mixture"):
    """Each value comes from one of several distributions.

    Attributes:
        parts: one or more.
    """

    parts: tuple[Part, ...]

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("a mixture needs at least one part")

    def draw(self, stream: Stream) -> float:
        """Return a time in seconds."""
        sums = list(itertools.accumulate(part.weight for part in self.parts))
        chosen = bisect.bisect_right(sums, stream.random() * sums[-1])
        return self.parts[min(chosen, len(self.parts) - 1)].of.draw(stream)


Distribution: TypeAlias = Constant | Lognormal | Exponential | Trace | Mixture


def draw_exponential(mean_s: float, stream: Stream) -> float:
    """Return an exponentially distributed time.

    Args:
        mean_s: seconds, more than 0.
        stream: gives one number.
    """
    return -mean_s * math.log1p(-stream.random())


def describe(distribution: Distribution) -> str:
    """Return a distribution in a few words."""
    match distribution:
        case Constant(value_s=value):
            return f"{value:g} s"
        case Lognormal(median_s=median, sigma=sigma, shift_s=shift, max_s=most):
            moved = f" + {shift:g} s" if shift else ""
            return f"lognormal, median {median:g} s, sigma {sigma:g}{moved}{_at_most(most)}"
        case Exponential(mean_s=mean, max_s=most):
            return f"exponential, mean {mean:g} s{_at_most(most)}"
        case Trace(values_s=values):
            return f"{len(values)} measured values, {min(values):g} to {max(values):g} s"
        case Mixture(parts=parts):
            total = sum(part.weight for part in parts)
            return "; ".join(f"{part.weight / total:.3g}: {describe(part.of)}" for part in parts)


def _at_most(most: float | None) -> str:
    return "" if most is None else f", at most {most:g} s"


def _bounded(value: float, most: float | None) -> float:
    return value if most is None else min(value, most)


def _above_0(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, not {value}")


def _at_least_0(name: str, value: float) -> None:
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of at least 0, not {value}")
