"""Profiles of the network: every parameter with its value, its standing and its source."""

from __future__ import annotations

import enum
import math
import tomllib
from collections.abc import Callable, Iterator
from typing import Any, Generic, Literal, TypeVar

import msgspec

from dcc_sim.core.network.distributions import Distribution, Mixture, Part, Trace
from dcc_sim.errors import ConfigError
from gbcs.duis.codes import DCC_ALERT_CODES

T = TypeVar("T")

_MAX_OUTAGE_SHARE = 4


def _check(table: msgspec.Struct, name: str, check: Callable[[str, float], None]) -> None:
    parameter = getattr(table, name)
    if parameter is not None:
        check(name, parameter.value)


def _together(table: msgspec.Struct, one: str, other: str) -> None:
    if (getattr(table, one) is None) != (getattr(table, other) is None):
        raise ValueError(f"{one} and {other} belong together: give both or none")


def _above_0(name: str, value: float) -> None:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be a number above 0, not {value}")


def _probability(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ValueError(f"{name} is a probability: 0 to 1, not {value}")


class Standing(enum.Enum):
    """How well a parameter is founded."""

    PUBLISHED = "published"
    DERIVED = "derived"
    ASSUMED = "assumed"


class Parameter(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """One parameter of a profile.

    Attributes:
        value: what the model works with.
        standing: how well it is founded.
        source: where it comes from: a document, a derivation, or why it was assumed so.
    """

    value: T
    standing: Standing
    source: str

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ValueError("source is empty: say where the value comes from, or why it is so")


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a profile."""


class BurstLoss(_Table, frozen=True):
    """Losses after Gilbert and Elliott, in continuous time.

    Attributes:
        good_mean_s: mean length of good times, in seconds.
        bad_mean_s: mean length of bad times, in seconds.
        loss_good: probability that a message is lost in a good time.
        loss_bad: the same in a bad time.
    """

    good_mean_s: float
    bad_mean_s: float
    loss_good: float
    loss_bad: float

    def __post_init__(self) -> None:
        _above_0("good_mean_s", self.good_mean_s)
        _above_0("bad_mean_s", self.bad_mean_s)
        _probability("loss_good", self.loss_good)
        _probability("loss_bad", self.loss_bad)


class RandomOutages(_Table, frozen=True):
    """Times in which a communications hub has no connection to the SM WAN.

    Attributes:
        mean_interval_s: mean time from one outage's beginning to the next one's, in seconds.
        duration_s: how long one lasts.
        max_duration_s: none lasts longer, in seconds.
    """

    mean_interval_s: float
    duration_s: Distribution
    max_duration_s: float

    def __post_init__(self) -> None:
        _above_0("mean_interval_s", self.mean_interval_s)
        _above_0("max_duration_s", self.max_duration_s)
        if self.max_duration_s > _MAX_OUTAGE_SHARE * self.mean_interval_s:
            raise ValueError(
                f"max_duration_s must be at most {_MAX_OUTAGE_SHARE} times mean_interval_s, or "
                "one outage would follow on another without end"
            )


class ScheduledOutage(_Table, frozen=True):
    """A window in which hubs are down.

    Attributes:
        start_s: seconds after the network's start.
        duration_s: how long it lasts.
        every_s: it comes again after this time; None: it comes once.
        hubs: which hubs; empty: all of the region.
    """

    start_s: float
    duration_s: float
    every_s: float | None = None
    hubs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _above_0("duration_s", self.duration_s)
        if self.every_s is not None and self.every_s <= self.duration_s:
            raise ValueError("every_s must be more than duration_s, or the hub would never be up")


class Region(_Table, frozen=True):
    """The SM WAN and home area networks of one region. What is left out has no effect.

    Attributes:
        latency_down: from the DCC to the communications hub.
        latency_up: from the communications hub to the DCC.
        bandwidth_down_bits_s: of one hub, towards it, in bits a second.
        bandwidth_up_bits_s: of one hub, from it, in bits a second.
        loss: on the SM WAN, on each hub's way down and up for itself.
        duplicate_probability: that the SM WAN delivers a message twice.
        reorder_probability: that a message is held up, so that later ones overtake it.
        reorder_delay: how long it is then held up.
        random_outages: of each hub for itself.
        scheduled_outages: at known times.
        in_outage: "hold": messages wait until the hub is back; "drop": they are lost.
        buffer_messages: how many messages wait at a hub, each way; more are lost.
        han_fragment_octets: how much one Zigbee fragment carries.
        han_fragment_s: how long one fragment takes, in seconds.
    """

    latency_down: Parameter[Distribution] | None = None
    latency_up: Parameter[Distribution] | None = None
    bandwidth_down_bits_s: Parameter[float] | None = None
    bandwidth_up_bits_s: Parameter[float] | None = None
    loss: Parameter[BurstLoss] | None = None
    duplicate_probability: Parameter[float] | None = None
    reorder_probability: Parameter[float] | None = None
    reorder_delay: Parameter[Distribution] | None = None
    random_outages: Parameter[RandomOutages] | None = None
    scheduled_outages: Parameter[tuple[ScheduledOutage, ...]] | None = None
    in_outage: Parameter[Literal["hold", "drop"]] | None = None
    buffer_messages: Parameter[int] | None = None
    han_fragment_octets: Parameter[int] | None = None
    han_fragment_s: Parameter[float] | None = None

    def __post_init__(self) -> None:
        for name in ("bandwidth_down_bits_s", "bandwidth_up_bits_s", "buffer_messages"):
            _check(self, name, _above_0)
        for name in ("duplicate_probability", "reorder_probability"):
            _check(self, name, _probability)
        for name in ("han_fragment_octets", "han_fragment_s"):
            _check(self, name, _above_0)
        _together(self, "reorder_probability", "reorder_delay")
        _together(self, "han_fragment_octets", "han_fragment_s")


class DccTimes(_Table, frozen=True):
    """How long the DCC itself takes.

    Attributes:
        transform: to answer a transform request.
        send_command: to acknowledge a signed pre-command.
        non_device: to answer a request that no device is needed for.
        dispatch: from the acknowledgement to the SM WAN.
        response: from the SM WAN to the user's receive address, for a response.
        alert: the same for an alert.
    """

    transform: Parameter[Distribution] | None = None
    send_command: Parameter[Distribution] | None = None
    non_device: Parameter[Distribution] | None = None
    dispatch: Parameter[Distribution] | None = None
    response: Parameter[Distribution] | None = None
    alert: Parameter[Distribution] | None = None


class Retries(_Table, frozen=True):
    """How often the DCC tries, and how it tells that it gave up.

    Attributes:
        attempts: how often a command is sent until there is a response.
        interval_s: time between two of them, in seconds.
        contact_timeout_s: a command that did not reach its device is given up after this time
            (E20, N12), in seconds; without it device_connect_timeout_s of the configuration
            counts.
        response_timeout_s: one that did is given up this long after (E21, N13), in seconds;
            without it device_response_timeout_s of the configuration counts.
        tell: "response": an error response to the request; "alert": a DCC alert; "both".
        not_delivered_alert: the alert's code for a command that did not reach its device.
        not_answered_alert: the alert's code for one that did.
    """

    attempts: Parameter[int] | None = None
    interval_s: Parameter[float] | None = None
    contact_timeout_s: Parameter[float] | None = None
    response_timeout_s: Parameter[float] | None = None
    tell: Parameter[Literal["response", "alert", "both"]] | None = None
    not_delivered_alert: Parameter[str] | None = None
    not_answered_alert: Parameter[str] | None = None

    def __post_init__(self) -> None:
        for name in ("attempts", "interval_s", "contact_timeout_s", "response_timeout_s"):
            _check(self, name, _above_0)
        for parameter in (self.not_delivered_alert, self.not_answered_alert):
            if parameter is not None and parameter.value not in DCC_ALERT_CODES:
                raise ValueError(f"{parameter.value!r} is no DCC alert code of the DUIS schema")
        if self.attempts is not None and self.attempts.value > 1 and self.interval_s is None:
            raise ValueError("attempts above 1 need interval_s")


class AlertStorm(_Table, frozen=True):
    """Alert storm protection.

    Attributes:
        enabled: the switch.
        codes: alert codes it minds, four hexadecimal digits each; empty: all.
        threshold: up to so many alerts of one code of one device pass in a window.
        window_s: length of the window, in seconds.
        period_s: above the threshold one copy passes in this time, in seconds.
    """

    enabled: Parameter[bool]
    codes: Parameter[tuple[str, ...]]
    threshold: Parameter[int]
    window_s: Parameter[float]
    period_s: Parameter[float]

    def __post_init__(self) -> None:
        for name in ("threshold", "window_s", "period_s"):
            _check(self, name, _above_0)
        for code in self.codes.value:
            if len(code) != 4 or set(code.upper()) - set("0123456789ABCDEF"):
                raise ValueError(f"alert code {code!r}: expected four hexadecimal digits: '8F88'")


class NetworkProfile(_Table, frozen=True):
    """One network.

    Attributes:
        summary: one sentence.
        default_region: of devices that name none; empty when there are no regions.
        regions: by name; without any, messages pass at once.
        dcc: the DCC's own times.
        retries: what the DCC does when nothing comes back.
        alert_storm: None: no protection.
    """

    summary: str
    default_region: str = ""
    regions: dict[str, Region] = {}
    dcc: DccTimes = DccTimes()
    retries: Retries = Retries()
    alert_storm: AlertStorm | None = None

    def __post_init__(self) -> None:
        if self.regions and self.default_region not in self.regions:
            raise ValueError(
                f"default_region {self.default_region!r} is not one of the regions "
                f"{', '.join(self.regions)}"
            )

    def parameters(self) -> Iterator[tuple[str, Parameter[Any]]]:
        """Yield every parameter that is given, with its dotted name."""
        for region_name, region in self.regions.items():
            yield from _parameters(f"regions.{region_name}", region)
        yield from _parameters("dcc", self.dcc)
        yield from _parameters("retries", self.retries)
        if self.alert_storm is not None:
            yield from _parameters("alert_storm", self.alert_storm)


def parse_profile(
    text: str, *, where: str, read_trace: Callable[[str], str] | None = None
) -> NetworkProfile:
    """Read a profile.

    Args:
        text: TOML.
        where: what to call the text in errors, a path for instance.
        read_trace: returns the text of a trace's file; None: traces must give their values.

    Raises:
        ConfigError: not TOML, a parameter is missing, unknown, of the wrong kind or impossible.
    """
    try:
        tree = tomllib.loads(text)
        profile = msgspec.convert(tree, NetworkProfile)
    except msgspec.ValidationError as error:
        raise ConfigError(
            f"{where}: {error} ($ is the whole file); each parameter is a table with value, "
            "standing (published, derived or assumed) and source; "
            "see `smtunnel dcc-sim profiles gb-assumed` for an example"
        ) from None
    except (ValueError, RecursionError) as error:
        # tomllib also lets numbers of too many digits and too deep nesting pass as they are.
        raise ConfigError(f"{where}: not valid TOML: {error}") from None
    return _with_traces(profile, where, read_trace)


def _with_traces(
    profile: NetworkProfile, where: str, read_trace: Callable[[str], str] | None
) -> NetworkProfile:
    """Fill in the values of traces that stand in files."""

    def fill(value: Any) -> Any:
        match value:
            case Trace(file=str(name), values_s=()):
                if read_trace is None:
                    raise ConfigError(f"{where}: the trace {name!r} is in a file of its own")
                values = _trace_values(read_trace(name), f"{where}: trace {name}")
                return msgspec.structs.replace(value, values_s=values)
            case Mixture() | Part() | Parameter() | RandomOutages() | Region() | DccTimes():
                changes = {name: fill(getattr(value, name)) for name in value.__struct_fields__}
                return msgspec.structs.replace(value, **changes)
            case tuple():
                return tuple(fill(item) for item in value)
            case _:
                return value

    return msgspec.structs.replace(
        profile,
        regions={name: fill(region) for name, region in profile.regions.items()},
        dcc=fill(profile.dcc),
    )


def _trace_values(text: str, where: str) -> tuple[float, ...]:
    values = []
    for number, line in enumerate(text.splitlines(), start=1):
        content = line.partition("#")[0].strip()
        if not content:
            continue
        try:
            value = float(content)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            raise ConfigError(f"{where}, line {number}: {content!r} is no number of seconds")
        values.append(value)
    if not values:
        raise ConfigError(f"{where}: no values; expected one number of seconds a line")
    return tuple(values)


def _parameters(prefix: str, table: msgspec.Struct) -> Iterator[tuple[str, Parameter[Any]]]:
    for name in table.__struct_fields__:
        value = getattr(table, name)
        if isinstance(value, Parameter):
            yield f"{prefix}.{name}", value
