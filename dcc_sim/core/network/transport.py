"""The SM WAN and the home area networks: what happens to messages between DCC and devices."""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from dcc_sim.core.faults import Faults, corrupted
from dcc_sim.core.network.distributions import Distribution
from dcc_sim.core.network.parcels import Arrived, Direction, Lost, Outcome, Parcel, Place
from dcc_sim.core.network.profile import NetworkProfile, Parameter, Region
from dcc_sim.core.network.streams import Stream, Streams
from dcc_sim.core.network.weather import LossWeather, Outages
from gbcs.entity_id import EntityId
from gbcs.ports import Journal

DccTime: TypeAlias = Literal[
    "transform", "send_command", "non_device", "dispatch", "response", "alert"
]

MAX_IN_FLIGHT = 4096
"""How many messages may be on one way of one hub at once; more are lost. Bounds the memory that
a device which sends without pause can take."""

# A timer that comes this much too early by rounding is on time; in seconds.
_TIMER_SLACK_S = 1e-6
_BITS = 8


@dataclass(slots=True, eq=False)
class _Link:
    """One way of one hub: one message at a time, the others wait."""

    name: str
    hub: str
    region: Region
    direction: Direction
    weather: LossWeather | None
    outages: Outages
    streams: dict[str, Stream] = field(default_factory=dict)
    waiting: deque[_Flight] = field(default_factory=deque)
    in_flight: int = 0
    is_busy: bool = False
    wakes_at: float | None = None
    was_down_at: float = -math.inf


@dataclass(slots=True, eq=False)
class _Flight:
    """One copy of a message on its way, and the times its way took so far."""

    parcel: Parcel
    link: _Link
    octets: bytes
    copy: int
    entered: float
    reasons: list[str]
    dcc_s: float = 0.0
    fault_s: float = 0.0
    wan_s: float = 0.0
    queue_s: float = 0.0
    transfer_s: float = 0.0
    han_s: float = 0.0
    queued_at: float = 0.0


_NOWHERE = Region()


class Network:
    """Carries messages as a profile says, without I/O. Times are seconds since 1970 outside,
    seconds of network time since the epoch inside.

    A command's way: the DCC's own time, the SM WAN (loss, latency, duplicates, hold-ups), the
    wait at the communications hub while it is down or busy, the transfer at the hub's bandwidth
    and the Zigbee fragments of the home area network. A response or an alert goes the other
    way round. The hub is busy with a message until its last fragment (assumed).

    Args:
        profile: what the network is like.
        streams: randomness by name.
        place_of: where a device is.
        faults: what is to go wrong on order.
        journal: gets an event "network" for every copy's end.
        epoch: when the network's time began, in seconds since 1970.
        time_scale: seconds of network time in one second.
        run: tells this run's draws from those of the runs before a restart.
    """

    def __init__(
        self,
        profile: NetworkProfile,
        streams: Streams,
        *,
        place_of: Callable[[EntityId], Place],
        faults: Faults,
        journal: Journal,
        epoch: float = 0.0,
        time_scale: float = 1.0,
        run: int = 0,
    ) -> None:
        self._profile = profile
        self._streams = streams
        self._place_of = place_of
        self._faults = faults
        self._journal = journal
        self._epoch = epoch
        self._time_scale = time_scale
        self._run = run
        self._links: dict[tuple[str, Direction], _Link] = {}
        self._dcc_streams: dict[str, Stream] = {}
        self._events: list[tuple[float, int, Callable[[Any, float], None], Any]] = []
        self._event_count = 0
        self._outcomes: list[Outcome] = []

    def time(self, now: float) -> float:
        """Return the network's time, in seconds since its beginning."""
        return (now - self._epoch) * self._time_scale

    def clock(self, at: float) -> float:
        """Return when a network time is, in seconds since 1970."""
        return self._epoch + at / self._time_scale

    def real_s(self, duration_s: float) -> float:
        """Return how long a duration of network time takes, in seconds."""
        return duration_s / self._time_scale

    def dcc_time_s(self, what: DccTime, device: EntityId | None = None) -> float:
        """Draw how long the DCC takes over something.

        Args:
            what: a time of the profile's table [dcc].
            device: draws from the stream of its hub; None: from a common one.

        Returns:
            Seconds by the clock, not of network time.
        """
        parameter: Parameter[Distribution] | None = getattr(self._profile.dcc, what)
        if parameter is None:
            return 0.0
        hub = "" if device is None else self._place_of(device).hub
        name = f"{hub}/dcc/{what}/{self._run}"
        stream = self._dcc_streams.get(name)
        if stream is None:
            stream = self._dcc_streams[name] = self._streams.stream(name)
        return self.real_s(parameter.value.draw(stream))

    def send(self, parcel: Parcel, now: float) -> None:
        """Take a message over; how it fares is told by `take_outcomes`, perhaps at once."""
        if not self._profile.regions and not self._faults.active:
            self._outcomes.append(Arrived(parcel, parcel.octets))
            self._journal.record(
                "network",
                hop=parcel.hop.value,
                device=str(parcel.device),
                reference=parcel.reference,
                octets=len(parcel.octets),
                outcome="arrived",
            )
            return
        at = self.time(now)
        link = self._link(parcel)
        hit = self._faults.hit(parcel.hop, parcel.device)
        octets = corrupted(parcel.octets) if hit.corrupt else parcel.octets
        copies = hit.copies
        if self._happens(link, "duplicate", link.region.duplicate_probability):
            copies += 1
        dcc_s = 0.0
        if link.direction is Direction.DOWN:
            dcc_s = self.dcc_time_s("dispatch", parcel.device) * self._time_scale
        for copy in range(1 + copies):
            flight = _Flight(parcel, link, octets, copy, at, [hit.reason] if hit.reason else [])
            flight.dcc_s, flight.fault_s = dcc_s, hit.delay_s
            link.in_flight += 1
            if hit.drop:
                self._lose(flight, at, "dropped")
            elif link.in_flight > MAX_IN_FLIGHT:
                self._lose(flight, at, f"{MAX_IN_FLIGHT} messages under way already")
            else:
                first = self._enter_wan if link.direction is Direction.DOWN else self._enter_hub
                self._schedule(at + dcc_s + hit.delay_s, first, flight)
        self.handle_timer(now)

    def handle_timer(self, now: float) -> None:
        """Let happen what is due."""
        until = self.time(now + _TIMER_SLACK_S)
        while self._events and self._events[0][0] <= until:
            at, _, action, subject = heapq.heappop(self._events)
            action(subject, at)

    def get_timer(self) -> float | None:
        """Return when handle_timer is to be called, in seconds since 1970, or None."""
        return self.clock(self._events[0][0]) if self._events else None

    def hub_changed(self, hub: str, now: float) -> None:
        """A fault has taken a hub down or let it up again."""
        for direction in Direction:
            link = self._links.get((hub, direction))
            if link is not None:
                self._pump(link, self.time(now))
        self.handle_timer(now)

    def take_outcomes(self) -> list[Outcome]:
        """Return what has become of messages, in order; each outcome is returned once."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    @property
    def in_flight(self) -> int:
        """How many copies are under way."""
        return sum(link.in_flight for link in self._links.values())

    def _enter_wan(self, flight: _Flight, at: float) -> None:
        link = flight.link
        region = link.region
        if link.weather is not None:
            probability = link.weather.loss_probability(at)
            if self._stream(link, "loss").random() < probability:
                weather = "a bad time" if link.weather.is_bad(at) else "a good time"
                self._lose(flight, at, f"lost on the SM WAN in {weather}")
                return
        down = link.direction is Direction.DOWN
        latency = region.latency_down if down else region.latency_up
        if latency is not None:
            flight.wan_s = latency.value.draw(self._stream(link, "latency"))
        if region.reorder_delay is not None and self._happens(
            link, "reorder", region.reorder_probability
        ):
            flight.wan_s += region.reorder_delay.value.draw(self._stream(link, "reorder-delay"))
            flight.reasons.append("held up")
        self._schedule(at + flight.wan_s, self._enter_hub if down else self._arrive, flight)

    def _enter_hub(self, flight: _Flight, at: float) -> None:
        link = flight.link
        limit = link.region.buffer_messages
        if limit is not None and len(link.waiting) >= limit.value:
            self._lose(flight, at, f"{limit.value} messages wait at the hub already")
            return
        flight.queued_at = at
        link.waiting.append(flight)
        self._pump(link, at)

    def _pump(self, link: _Link, at: float) -> None:
        """Begin with the next message if the hub is up and idle."""
        while link.waiting and not link.is_busy:
            until = self._down_until(link, at)
            if until is not None:
                self._wait_for_hub(link, at, until)
                return
            flight = link.waiting.popleft()
            flight.queue_s = at - flight.queued_at
            if link.was_down_at >= flight.queued_at:
                flight.reasons.append("hub down")
            flight.transfer_s, flight.han_s = _service_times(link, len(flight.octets))
            link.is_busy = True
            self._schedule(at + flight.transfer_s + flight.han_s, self._leave_hub, flight)

    def _wait_for_hub(self, link: _Link, at: float, until: float) -> None:
        behaviour = link.region.in_outage
        if behaviour is not None and behaviour.value == "drop":
            while link.waiting:
                flight = link.waiting.popleft()
                flight.queue_s = at - flight.queued_at
                self._lose(flight, at, "the hub is down")
            return
        link.was_down_at = at
        if until < math.inf and link.wakes_at != until:
            link.wakes_at = until
            self._schedule(until, self._pump, link)

    def _leave_hub(self, flight: _Flight, at: float) -> None:
        link = flight.link
        link.is_busy = False
        if link.direction is Direction.DOWN:
            self._arrive(flight, at)
        else:
            self._enter_wan(flight, at)
        self._pump(link, at)

    def _arrive(self, flight: _Flight, at: float) -> None:
        flight.link.in_flight -= 1
        self._outcomes.append(Arrived(flight.parcel, flight.octets, flight.copy > 0))
        self._record(flight, at, "arrived")

    def _lose(self, flight: _Flight, at: float, reason: str) -> None:
        flight.link.in_flight -= 1
        flight.reasons.append(reason)
        self._outcomes.append(Lost(flight.parcel, ", ".join(flight.reasons), flight.copy > 0))
        self._record(flight, at, "lost")

    def _record(self, flight: _Flight, at: float, outcome: str) -> None:
        self._journal.record(
            "network",
            hop=flight.parcel.hop.value,
            link=flight.link.name,
            device=str(flight.parcel.device),
            reference=flight.parcel.reference,
            copy=flight.copy,
            octets=len(flight.octets),
            outcome=outcome,
            reason=", ".join(flight.reasons),
            entered_s=round(flight.entered, 6),
            total_s=round(at - flight.entered, 6),
            dcc_s=round(flight.dcc_s, 6),
            fault_s=round(flight.fault_s, 6),
            wan_s=round(flight.wan_s, 6),
            queue_s=round(flight.queue_s, 6),
            transfer_s=round(flight.transfer_s, 6),
            han_s=round(flight.han_s, 6),
        )

    def _down_until(self, link: _Link, at: float) -> float | None:
        if self._faults.is_hub_down(link.hub):
            return math.inf
        return link.outages.down_until(at)

    def _happens(self, link: _Link, what: str, probability: Parameter[float] | None) -> bool:
        return probability is not None and self._stream(link, what).random() < probability.value

    def _schedule(
        self, at: float, action: Callable[[Any, float], None], subject: _Flight | _Link
    ) -> None:
        self._event_count += 1
        heapq.heappush(self._events, (at, self._event_count, action, subject))

    def _stream(self, link: _Link, purpose: str) -> Stream:
        stream = link.streams.get(purpose)
        if stream is None:
            stream = self._streams.stream(f"{link.name}/{purpose}/{self._run}")
            link.streams[purpose] = stream
        return stream

    def _link(self, parcel: Parcel) -> _Link:
        place = self._place_of(parcel.device)
        key = (place.hub, parcel.direction)
        link = self._links.get(key)
        if link is None:
            link = self._links[key] = self._make_link(place, parcel.direction)
        return link

    def _make_link(self, place: Place, direction: Direction) -> _Link:
        region = self._profile.regions.get(place.region, _NOWHERE)
        name = f"{place.region}/{place.hub}/{direction.value}"
        return _Link(
            name=name,
            hub=place.hub,
            region=region,
            direction=direction,
            weather=None
            if region.loss is None
            else LossWeather(region.loss.value, self._streams, name),
            outages=self._outages_of(place.hub, region),
        )

    def _outages_of(self, hub: str, region: Region) -> Outages:
        """Return the outages of a hub: both its ways are down at the same times."""
        for direction in Direction:
            other = self._links.get((hub, direction))
            if other is not None:
                return other.outages
        return Outages(
            None if region.random_outages is None else region.random_outages.value,
            () if region.scheduled_outages is None else region.scheduled_outages.value,
            self._streams,
            hub,
        )


def _service_times(link: _Link, octets: int) -> tuple[float, float]:
    """Return how long a hub is busy with a message: on the SM WAN and in the home."""
    region = link.region
    bandwidth = (
        region.bandwidth_down_bits_s
        if link.direction is Direction.DOWN
        else region.bandwidth_up_bits_s
    )
    transfer_s = 0.0 if bandwidth is None else octets * _BITS / bandwidth.value
    if region.han_fragment_octets is None or region.han_fragment_s is None:
        return transfer_s, 0.0
    fragments = math.ceil(octets / region.han_fragment_octets.value)
    return transfer_s, fragments * region.han_fragment_s.value
