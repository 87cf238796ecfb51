"""What a study file can spell: routes, workloads, networks, experiments, each with its defaults.

Defaults and units stand in the documentation of each table; `smtunnel study parameters` prints it.
"""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias

import msgspec

from lab.study.checks import Table, above_0, at_least_0, check_name
from lab.study.networks import Network

RouteKind: TypeAlias = Literal["2a", "2b", "stream1"]
EngineName: TypeAlias = Literal["fleet", "virtual", "live"]
WorkloadKind: TypeAlias = Literal[
    "dispatch", "registration", "reports", "session", "message", "recorded", "alert-storm"
]


class Route(Table, frozen=True, kw_only=True):
    """How messages travel.

    Attributes:
        name: what tables and figures call it.
        kind: "2a": through the DCC in fragments; "2b": straight from the CEM to the DSRSP over
            the internet, each message signed as a GBCS message; "stream1": OpenADR over HTTPS,
            without the smart metering system.
        compact: whether OpenADR XML goes in its compact form. Default true. 2a and 2b.
        dictionary: whether the preset dictionary is used. Default true. 2a and 2b.
        fragments_in_flight: fragments to one CEM that may be under way at once; 1 is serial, one
            round trip after another. Default 4. 2a.
        fragments_in_flight_total: the same for all CEMs of the DSRSP together. Default 4096. 2a.
        carrier_down_chars: what one command carries, header included. Default 110: ECS46a. Other
            values mean a change of SMETS. 2a.
        carrier_up_chars: what one alert carries. Default 1062: ECS200. 2a.
        transform: whether a command needs the DCC's transform first. Default true, as for any
            critical command; false means a command of its own for tunnelling. 2a.
        fragments_per_window: the DSRSP sends at most so many commands in window_s, to stay below
            its anomaly detection threshold. Default: no limit. 2a.
        window_s: length of that window, in seconds. Default 3600.
        fragment_attempts: how often a fragment is sent before its message fails. Default 8.
        fragment_retry_first_s: wait before a fragment is sent again, in seconds; doubles.
            Default 30.
        fragment_retry_max_s: the longest such wait, in seconds. Default 3600.
        response_timeout_s: a command without an answer is given up after this, in seconds.
            Default 7200.
        receipt_timeout_s: a CEM repeats an alert without a receipt after this, in seconds;
            doubles. Default 300.
        message_lifetime_s: what has not arrived after this has failed, in seconds.
            Default 259200: three days.
        exchange_round_trips: round trips of the internet until a message is there: 0.5 on a
            connection that stands, 2.5 on one that TCP and TLS 1.3 set up for it. Default: 0.5 for
            2b, 2.5 for stream1. Each flight of them draws a round trip of its own.
        fallback_after_s: so long after a home's internet has gone down messages go over 2a, in
            seconds. Default 300. 2b.
        poll_s: CEMs ask for messages only so often (OpenADR's pull mode), in seconds; 0: messages
            are pushed. Default 0 for 2a and 2b, 10 for stream1, openleadr's default.
    """

    name: str
    kind: RouteKind
    compact: bool = True
    dictionary: bool = True
    fragments_in_flight: int = 4
    fragments_in_flight_total: int = 4096
    carrier_down_chars: int = 110
    carrier_up_chars: int = 1062
    transform: bool = True
    fragments_per_window: int | None = None
    window_s: float = 3600.0
    fragment_attempts: int = 8
    fragment_retry_first_s: float = 30.0
    fragment_retry_max_s: float = 3600.0
    response_timeout_s: float = 7200.0
    receipt_timeout_s: float = 300.0
    message_lifetime_s: float = 259_200.0
    exchange_round_trips: float | None = None
    fallback_after_s: float = 300.0
    poll_s: float | None = None

    def __post_init__(self) -> None:
        check_name("route", self.name)
        above_0(
            self,
            "fragments_in_flight",
            "fragments_in_flight_total",
            "fragments_per_window",
            "window_s",
            "fragment_attempts",
            "fragment_retry_first_s",
            "fragment_retry_max_s",
            "response_timeout_s",
            "receipt_timeout_s",
            "message_lifetime_s",
            "exchange_round_trips",
        )
        at_least_0(self, "poll_s", "fallback_after_s")
        for name in ("carrier_down_chars", "carrier_up_chars"):
            if not 5 <= getattr(self, name) <= 65536:
                raise ValueError(f"{name} must be 5 to 65536: four characters are the header")
        if self.fragments_in_flight > 255 or self.fragment_attempts > 255:
            raise ValueError("fragments_in_flight and fragment_attempts must be at most 255")

    @property
    def round_trips(self) -> float:
        """Round trips of the internet for one message."""
        if self.exchange_round_trips is not None:
            return self.exchange_round_trips
        return 0.5 if self.kind == "2b" else 2.5

    @property
    def connects_anew(self) -> bool:
        """Whether each message has a connection of its own."""
        return self.round_trips > 1

    @property
    def poll_interval_s(self) -> float:
        """How often a CEM asks, in seconds; 0: messages are pushed."""
        if self.poll_s is not None:
            return self.poll_s
        return 10.0 if self.kind == "stream1" else 0.0


class Workload(Table, frozen=True, kw_only=True):
    """What is sent.

    Attributes:
        name: what tables and figures call it.
        kind: "dispatch": an event down and the CEM's answer up; "registration": a CEM registers
            and offers its reports; "reports": a report up; "session": registration, event, report
            and the answers, one after another; "message": one message of about message_octets;
            "recorded": the messages of a folder; "alert-storm": alerts_per_cem reports at once.
        cems: how many CEMs take part. Default 10. The live engine has one.
        spread_s: the CEMs begin at random within this time, in seconds. Default 0: all at once.
        times: how often each CEM does it. Default 1.
        interval_s: time between two of them, in seconds. Default 1800.
        message_octets: size of the message of kind "message", in octets. Default 2000.
        direction: of kind "message": "down" or "up". Default "down".
        folder: of kind "recorded": files NUMBER-TYPE.xml or .json as `smtunnel demo --trace`
            leaves them in openadr/; relative to the study file.
        alerts_per_cem: of kind "alert-storm". Default 30.
    """

    name: str
    kind: WorkloadKind
    cems: int = 10
    spread_s: float = 0.0
    times: int = 1
    interval_s: float = 1800.0
    message_octets: int = 2000
    direction: Literal["down", "up"] = "down"
    folder: str | None = None
    alerts_per_cem: int = 30

    def __post_init__(self) -> None:
        check_name("workload", self.name)
        above_0(self, "cems", "times", "interval_s", "message_octets", "alerts_per_cem")
        at_least_0(self, "spread_s")
        if self.cems > 100_000_000:
            raise ValueError("cems must be at most 100 million: there are 30 million meters")
        if self.message_octets > 65536:
            raise ValueError("message_octets must be at most 65536, the tunnel's limit")
        if (self.kind == "recorded") != (self.folder is not None):
            raise ValueError('folder belongs to kind = "recorded": give both or none')


class Experiment(Table, frozen=True, kw_only=True):
    """Some routes, workloads and networks, each with each, by one or more engines.

    Attributes:
        name: what tables and figures call it.
        title: of its figures. Default: the name.
        engines: who carries it out: "fleet", "virtual", "live". Default: fleet.
        routes: names of routes. Default: all.
        workloads: names of workloads. Default: all.
        networks: names of networks. Default: all.
        vary: values to go through, for example {"workload.cems" = [1000, 10000]}; each with each.
            Before the dot: route, workload or network; network.internet.NAME and
            network.capacity.NAME reach what is in these.
        one_at_a_time: whether each of them is varied while the others stay as they are, after a
            case with nothing varied: which assumption matters? Default: each with each.
        repetitions: with other random draws each. Default: the study's.
        own_time: name of an earlier experiment of the live engine on a line without chance: what
            its messages take longer than the line is the software's own time, and is drawn from
            for each message of the fleet and the virtual engine here, repetition by repetition:
            right behind it, each is measured right before it is tested. Default: software takes
            no time there beside the network's server_s. 2b and stream1.
    """

    name: str
    title: str = ""
    engines: tuple[EngineName, ...] = ("fleet",)
    routes: tuple[str, ...] = ()
    workloads: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    vary: dict[str, tuple[Any, ...]] = msgspec.field(default_factory=dict)
    one_at_a_time: bool = False
    repetitions: int | None = None
    own_time: str = ""

    def __post_init__(self) -> None:
        check_name("experiment", self.name)
        above_0(self, "repetitions")
        if not self.engines:
            raise ValueError("engines is empty: name at least one of fleet, virtual, live")
        for path, values in self.vary.items():
            table, _, field = path.partition(".")
            if table not in ("route", "workload", "network") or not field:
                raise ValueError(
                    f"vary: {path!r}: expected route.NAME, workload.NAME or network.NAME, "
                    'for example "workload.cems"'
                )
            if not values:
                raise ValueError(f"vary: {path!r} has no values")


class Study(Table, frozen=True, kw_only=True):
    """A whole study.

    Attributes:
        name: what the report calls it.
        title: the report's heading.
        question: what it is to answer, one or two sentences.
        seed: of all randomness. The same seed, the same results. Default 1.
        repetitions: of each case, with other draws. Default 1.
        percentiles: which the tables show, in per cent. Default 50, 90, 95, 99.
        deadlines_s: in seconds. Default 2, 10, 30, 300.
        confidence: of all intervals. Default 0.95.
        bootstrap_resamples: how often a bootstrap draws. Default 1000.
        rows_per_case: the fleet engine writes the rows of about so many CEMs of each case; its
            counters and histograms count all. Default 2000.
        routes: see Route.
        workloads: see Workload.
        networks: see Network.
        experiments: see Experiment.
    """

    name: str
    title: str = ""
    question: str = ""
    seed: int = 1
    repetitions: int = 1
    percentiles: tuple[float, ...] = (50.0, 90.0, 95.0, 99.0)
    deadlines_s: tuple[float, ...] = (2.0, 10.0, 30.0, 300.0)
    confidence: float = 0.95
    bootstrap_resamples: int = 1000
    rows_per_case: int = 2000
    routes: tuple[Route, ...]
    workloads: tuple[Workload, ...]
    networks: tuple[Network, ...]
    experiments: tuple[Experiment, ...]

    def __post_init__(self) -> None:
        check_name("study", self.name)
        above_0(self, "repetitions", "bootstrap_resamples", "rows_per_case")
        at_least_0(self, "seed")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence must lie between 0 and 1, not {self.confidence}")
        if not self.percentiles or any(not 0 < one < 100 for one in self.percentiles):
            raise ValueError("percentiles must lie between 0 and 100, at least one")
        if not self.deadlines_s or any(not 0 < one < math.inf for one in self.deadlines_s):
            raise ValueError("deadlines_s must be numbers above 0, at least one")
        for what in ("routes", "workloads", "networks", "experiments"):
            _check_names(what, [one.name for one in getattr(self, what)])
        for experiment in self.experiments:
            for what in ("routes", "workloads", "networks"):
                known = {one.name for one in getattr(self, what)}
                for name in getattr(experiment, what):
                    if name not in known:
                        raise ValueError(
                            f"experiment {experiment.name!r}: there is no {what[:-1]} {name!r}; "
                            f"there are {', '.join(sorted(known))}"
                        )


def _check_names(what: str, names: list[str]) -> None:
    if not names:
        raise ValueError(f"there are no {what}: give at least one [[{what}]]")
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ValueError(f"two {what} are called {doubles[0]!r}: names must differ")
