"""The networks that a study file can spell: the internet, what is shared, and the profile."""

from __future__ import annotations

from typing import Any

import msgspec

from dcc_sim.core.network.distributions import Distribution, Lognormal
from dcc_sim.core.network.profile import Parameter, Standing
from lab.study.checks import Table, above_0, check_name


def _assumed(value: Any, source: str) -> Parameter[Any]:
    return Parameter(value=value, standing=Standing.ASSUMED, source=source)


class Internet(Table, frozen=True, kw_only=True):
    """The plain internet between a home and the DSRSP, for routes 2b and stream1.

    Attributes:
        round_trip: time there and back. Default: lognormal, median 30 ms, sigma 0.5.
        loss_probability: that a packet is lost. Default 0.002.
        retransmission_s: what a lost packet costs, in seconds; doubles. Default 0.3.
        offline_share: share of homes whose internet is down at a time. Default 0.01.
        offline_mean_s: how long such a home has had no internet then, on average, in seconds.
            Default 14400: four hours.
        server_s: what the DSRSP's server takes for one message, in seconds. Default 0.02.
        server_messages_per_s: how many messages the servers take a second for each million CEMs,
            at least so many in all; what polls cost not counted. Default 2000.
    """

    round_trip: Parameter[Distribution] = Parameter(
        value=Lognormal(median_s=0.030, sigma=0.5, max_s=5.0),
        standing=Standing.DERIVED,
        source="home internet takes about 30 ms (OpenDSR feasibility study); its spread is assumed",
    )
    loss_probability: Parameter[float] = _assumed(
        0.002, "wireless links in homes; fixed lines less"
    )
    retransmission_s: Parameter[float] = _assumed(
        0.3, "TCP's first retransmission, RTT and reserve"
    )
    offline_share: Parameter[float] = _assumed(
        0.01, "routers switched off, faults, moved houses: no figure is public"
    )
    offline_mean_s: Parameter[float] = _assumed(
        14_400.0, "an outage that is repaired the same day: no figure is public"
    )
    server_s: Parameter[float] = _assumed(0.02, "parsing, checking and storing one message")
    server_messages_per_s: Parameter[float] = _assumed(
        2000.0, "what one small machine was seen to take; one more for each million CEMs"
    )


class Capacity(Table, frozen=True, kw_only=True):
    """What is shared by many CEMs. No limit of the real system is public.

    Attributes:
        hubs: communications hubs in Great Britain, spread over the regions like the CEMs.
        dcc_requests_per_s: DUIS requests that the DCC takes in a second from all its users.
        dcc_background_per_s: those of them that others use already.
        region_octets_per_s_down: what one region's SM WAN carries down, in octets a second, for a
            million communications hubs.
        region_octets_per_s_up: the same up.
        background_octets_per_s: what others use of each already, a million hubs.
    """

    hubs: Parameter[float] = Parameter(
        value=30_000_000.0,
        standing=Standing.PUBLISHED,
        source="more than 30 million SMETS2 meters by the mid-2020s; taken as one hub each",
    )
    dcc_requests_per_s: Parameter[float] = Parameter(
        value=2000.0,
        standing=Standing.DERIVED,
        source="about 12 billion messages in 2022 (published) are 380 a second on average; five "
        "times the average is taken as the peak that the system was built for",
    )
    dcc_background_per_s: Parameter[float] = Parameter(
        value=380.0,
        standing=Standing.DERIVED,
        source="about 33 million messages a day (published)",
    )
    region_octets_per_s_down: Parameter[float] = _assumed(
        60_000.0, "a million hubs, a hundred or more a cell; no figure is public"
    )
    region_octets_per_s_up: Parameter[float] = _assumed(30_000.0, "half of down, as for one hub")
    background_octets_per_s: Parameter[float] = Parameter(
        value=4_000.0,
        standing=Standing.DERIVED,
        source="1.7 messages a meter and day (published) of about 200 octets are 3,900 a second "
        "for a million meters",
    )


class Network(Table, frozen=True, kw_only=True):
    """What lies between.

    Attributes:
        name: what tables and figures call it.
        profile: a network profile of the DCC simulator, or a profile's .toml file, relative to the
            study file. Default "gb-assumed".
        regions: share of the CEMs in each region of the profile. Default: 0.3 north, 0.7
            central-south where the profile has these, else all in its default region.
        loss: replaces the profile's losses by this probability at all times. Default: the
            profile's own.
        latency_scale: multiplies the profile's SM WAN latencies. Default 1.
        live_time_scale: the live engine lets so many seconds of network pass in one second; what
            the software itself takes then counts as so many times longer. Default 1.
        alert_storm_protection: switches it on or off. Default: as the profile says.
        internet: see Internet.
        capacity: see Capacity.
    """

    name: str
    profile: str = "gb-assumed"
    regions: dict[str, float] = msgspec.field(default_factory=dict)
    loss: float | None = None
    latency_scale: float = 1.0
    live_time_scale: float = 1.0
    alert_storm_protection: bool | None = None
    internet: Internet = Internet()
    capacity: Capacity = Capacity()

    def __post_init__(self) -> None:
        check_name("network", self.name)
        above_0(self, "latency_scale", "live_time_scale")
        if self.loss is not None and not 0 <= self.loss <= 1:
            raise ValueError(f"loss is a probability: 0 to 1, not {self.loss}")
        if any(share < 0 for share in self.regions.values()):
            raise ValueError("regions: no share can be below 0")
        if self.regions and not sum(self.regions.values()) > 0:
            raise ValueError("regions: at least one share must be above 0")
