"""Joins the journals of one run: who sent what, when did which part of it arrive, by which way.

What belongs together is found by what the journals say of each other: a carrier message's
originator counter is in the DCC's journal; a message's tunnel id and key (counter minus index) are
in the receiver's name for it. Without the DCC's journal (there is none of the real DCC) nobody
knows how long a fragment was in each part of the way; without the receiver's, when a message came.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

Event: TypeAlias = Mapping[str, Any]

FAILED = ("failed", "rejected", "expired", "aborted")
PARTS = ("wan_s", "queue_s", "transfer_s", "han_s")
_KNOWN = ("reassembled", "answered")
_CERTAIN, _HEARD = 1_000_000, 1000


@dataclass(slots=True)
class Transmission:
    """One carrier message: when it was sent, and what its way took, in seconds."""

    message: Message
    index: int
    attempt: int
    counter: int
    t: float
    route: str = "2a"
    octets: int = 0
    arrived: float | None = None
    answered: float | None = None
    result: str = ""
    reason: str = ""
    request_s: float = 0.0
    dcc_s: float = 0.0
    wan_s: float = 0.0
    queue_s: float = 0.0
    transfer_s: float = 0.0
    han_s: float = 0.0


@dataclass(slots=True)
class Message:
    """One message of an application."""

    component: str
    source: str
    ref: str
    device: str
    t: float
    octets: int = 0
    fragments: int = 0
    number: int | None = None
    received: float | None = None
    known: float | None = None
    state: str = ""
    reason: str = ""
    transmissions: list[Transmission] = field(default_factory=list)

    @property
    def downlink(self) -> bool:
        """Whether it goes to a CEM."""
        return self.component == "dsrsp"

    @property
    def route(self) -> str:
        """By which way it has gone: "2a", "2b", "stream1", or several with + between."""
        return "+".join(sorted({one.route for one in self.transmissions})) or "2a"


@dataclass(slots=True)
class _Network:
    """What the DCC's journal says of one carrier message's copies."""

    reference: str
    t: float | None = None
    octets: int = 0
    lost_reason: str = ""
    parts: dict[str, float] = field(default_factory=dict)
    dcc_s: float = 0.0
    entered: float = 0.0


class JoinedJournals:
    """The messages of one run, with their transmissions.

    Args:
        events: of all journals, in order of time; each may name where it is from in "source",
            which tells the journals of several CEMs apart.
        time_scale: seconds of the case in one second of the journals.
    """

    def __init__(self, events: Sequence[Event], *, time_scale: float = 1.0) -> None:
        self._scale = time_scale
        self._by_component: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            self._by_component[str(event["component"])].append(event)
        self._messages: dict[tuple[str, str, str], Message] = {}
        self._regions: dict[str, str] = {}
        self._read_senders()
        self._name_devices()
        self._read_receivers()
        self._read_network()
        self._read_direct()
        self._read_results()

    @property
    def messages(self) -> list[Message]:
        """All messages that were sent, in order of time."""
        return sorted(self._messages.values(), key=lambda m: (m.t, m.component, m.device, m.ref))

    def events_of(self, component: str) -> Sequence[Event]:
        """Return the events of one component."""
        return self._by_component[component]

    def region_of(self, device: str) -> str:
        """Return the region of a device; empty: not known."""
        return self._regions.get(device, "")

    @property
    def doubtful(self) -> dict[str, list[str]]:
        """The CEMs' journals of which nobody can tell whose they are, with whose they may be."""
        return self._doubtful

    def hears(self, message: Message) -> bool:
        """Whether the journal of a message's receiver is there."""
        if message.downlink:
            return message.device in self._device_of.values()
        return bool(self._by_component["dsrsp"])

    # Who sent what

    def _read_senders(self) -> None:
        for component in ("dsrsp", "cem"):
            for event in self._by_component[component]:
                if event["event"] == "message":
                    self._read_state(component, event)
                elif event["event"] == "carrier" and event.get("control") is not True:
                    self._read_carrier(component, event)

    def _read_state(self, component: str, event: Event) -> None:
        ref, state = str(event.get("message_ref", "")), str(event.get("state", ""))
        source = str(event.get("source", component))
        key = (component, source, ref)
        message = self._messages.get(key)
        if message is None:
            if state != "queued":
                return  # what a receiver says of a message
            device = str(event.get("peer") or "") if component == "dsrsp" else ""
            message = Message(component, source, ref, device, float(event["t"]))
            self._messages[key] = message
        message.octets = int(event.get("message_octets") or message.octets)
        message.fragments = int(event.get("fragments_total") or message.fragments)
        if event.get("tunnel_message_id") is not None:
            message.number = int(event["tunnel_message_id"])
        if state != message.state:
            message.state = state
            message.reason = str(event.get("reason") or "") if state in FAILED else ""
            if state in _KNOWN and message.known is None:
                message.known = float(event["t"])

    def _read_carrier(self, component: str, event: Event) -> None:
        source = str(event.get("source", component))
        message = self._messages.get((component, source, str(event.get("message_ref", ""))))
        if message is None:
            return
        message.number = int(event["tunnel_message_id"])
        message.transmissions.append(
            Transmission(
                message,
                int(event["index"]),
                int(event.get("attempt") or 1),
                int(event["originator_counter"]),
                float(event["t"]),
                str(event.get("route") or "2a"),
                int(event.get("octets") or 0),
            )
        )

    # Which CEM's journal is which

    def _name_devices(self) -> None:
        """Find the EUI of each CEM's journal: where it does not say it, others may."""
        of_counter = {
            one.counter: message.device
            for message in self._messages.values()
            if message.downlink
            for one in message.transmissions
        }
        heard: dict[tuple[int, int], list[str]] = defaultdict(list)
        for event in self._by_component["dsrsp"]:
            name = _received_name(event)
            if name is not None:
                heard[int(name[1]), int(name[2])].append(_with_hyphens(name[0]))
        sources = sorted({str(one.get("source", "cem")) for one in self._by_component["cem"]})
        votes: dict[str, Counter[str]] = {source: Counter() for source in sources}
        for event in self._by_component["cem"]:
            name = _received_name(event)
            source = str(event.get("source", "cem"))
            if event.get("device"):
                votes[source][str(event["device"])] += _CERTAIN
            elif name is not None and int(name[2]) in of_counter:
                votes[source][of_counter[int(name[2])]] += _HEARD
        for message in self._messages.values():
            if not message.downlink:
                for place in _keys(message):
                    for device in heard.get(place, ()):
                        votes[message.source][device] += 1
        self._device_of = {
            source: max(sorted(found), key=lambda one: found[one])
            for source, found in votes.items()
            if found
        }
        taken = Counter(self._device_of.values())
        self._doubtful = {
            source: sorted(found)
            for source, found in votes.items()
            if (most := max(found.values(), default=0))
            and (
                # Every CEM's counters begin with the same: by them alone all look like one.
                (most < _HEARD and len({one for many in heard.values() for one in many}) > 1)
                or list(found.values()).count(most) > 1
                or (taken[self._device_of[source]] > 1 and most < _CERTAIN)
            )
        }
        for message in self._messages.values():
            if not message.downlink:
                message.device = self._device_of.get(message.source, "")

    def _read_receivers(self) -> None:
        arrived: dict[tuple[str, str, int, int], float] = {}
        for component in ("dsrsp", "cem"):
            for event in self._by_component[component]:
                name = _received_name(event)
                if name is None:
                    continue
                if component == "dsrsp":
                    place = ("up", _with_hyphens(name[0]), int(name[1]), int(name[2]))
                else:
                    device = self._device_of.get(str(event.get("source", "cem")), "")
                    place = ("down", device, int(name[2]), int(name[1]))
                arrived.setdefault(place, float(event["t"]))
        for message in self._messages.values():
            way = "down" if message.downlink else "up"
            times = [
                arrived[way, message.device, key, number]
                for key, number in _keys(message)
                if (way, message.device, key, number) in arrived
            ]
            message.received = min(times, default=None)

    # What the DCC knows

    def _read_network(self) -> None:
        networks: dict[tuple[bool, str, int], _Network] = {}
        accepted: dict[str, float] = {}
        posted: dict[str, float] = {}
        for event in self._by_component["dcc-sim"]:
            kind = event["event"]
            if kind == "network" and event.get("hop") in ("command", "alert"):
                counter = str(event["reference"]).rpartition(":")[2]
                place = (event["hop"] == "command", str(event["device"]), int(counter))
                self._read_copy(
                    networks.setdefault(place, _Network(str(event["reference"]))), event
                )
            elif kind == "duis" and event.get("code") == "I99":
                accepted.setdefault(str(event.get("request_id")), float(event["t"]))
            elif kind == "post" and event.get("outcome") == "taken":
                posted.setdefault(str(event.get("reference")), float(event["t"]))
        for message in self._messages.values():
            for one in message.transmissions:
                if one.route != "2a":
                    continue
                network = networks.get((message.downlink, message.device, one.counter))
                if network is not None:
                    name = network.reference
                    self._apply(one, network, accepted.get(name), posted.get(name))

    def _read_copy(self, network: _Network, event: Event) -> None:
        link = str(event.get("link") or "")
        if link.count("/") == 2:
            self._regions[str(event["device"])] = link.partition("/")[0]
        network.octets = int(event.get("octets") or 0)
        if event.get("outcome") != "arrived":
            network.lost_reason = str(event.get("reason") or event.get("outcome"))
            return
        if network.t is not None:
            return
        network.t = float(event["t"])
        network.parts = {name: float(event.get(name) or 0.0) for name in PARTS}
        network.dcc_s = float(event.get("dcc_s") or 0.0) + float(event.get("fault_s") or 0.0)
        network.entered = network.t - float(event.get("total_s") or 0.0) / self._scale

    def _apply(
        self, one: Transmission, network: _Network, accepted: float | None, posted: float | None
    ) -> None:
        one.octets = network.octets
        downlink = one.message.downlink
        if downlink and accepted is not None:
            one.request_s = (accepted - one.t) * self._scale
        if network.t is None:
            one.reason = network.lost_reason
            return
        for name, value in network.parts.items():
            setattr(one, name, value)
        one.dcc_s = network.dcc_s
        if downlink:
            one.arrived = network.t
            if accepted is not None:
                # The DCC's repetitions: the copy that came entered the SM WAN later.
                one.dcc_s += max(network.entered - accepted, 0.0) * self._scale
        elif posted is not None:
            one.arrived = posted
            one.dcc_s += (posted - network.t) * self._scale

    def _read_direct(self) -> None:
        """Route 2b and Stream 1: a message is whole with the first transmission that comes."""
        for message in self._messages.values():
            direct = [one for one in message.transmissions if one.route != "2a"]
            if message.received is None or not direct:
                continue
            if any(one.arrived is not None for one in message.transmissions):
                continue  # fragments made it whole on 2a
            sent = [one for one in direct if one.t <= message.received]
            if sent:
                last = max(sent, key=lambda one: one.t)
                last.arrived = message.received
                last.wan_s = (message.received - last.t) * self._scale

    def _read_results(self) -> None:
        found = {
            (
                str(event["message_ref"]),
                int(event["index"]),
                int(event["originator_counter"]),
            ): event
            for event in self._by_component["dsrsp"]
            if event["event"] == "result"
        }
        for message in self._messages.values():
            for one in message.transmissions:
                event = found.get((message.ref, one.index, one.counter))
                if message.downlink and event is not None:
                    one.answered = float(event["t"])
                    one.result = str(event["result"])
                    one.reason = one.reason or str(event.get("reason") or "")


def _received_name(event: Event) -> tuple[str, str, str] | None:
    """Return the three parts of a receiver's name for a message that it has whole."""
    if event["event"] != "message" or event.get("state") != "reassembled":
        return None
    parts = str(event.get("message_ref", "")).rsplit("-", 2)
    if len(parts) != 3 or not (parts[1].isdigit() and parts[2].isdigit()):
        return None  # the sender's own name: it knows that the peer has it
    return parts[0], parts[1], parts[2]


def _keys(message: Message) -> set[tuple[int, int]]:
    if message.number is None:
        return set()
    return {(one.counter - one.index, message.number) for one in message.transmissions}


def _with_hyphens(device: str) -> str:
    return "-".join(device[place : place + 2] for place in range(0, len(device), 2)).upper()
