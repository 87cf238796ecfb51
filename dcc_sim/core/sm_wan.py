"""The network model at work for one DCC: what is under way is durable, faults come in time."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from dcc_sim.core.command_desk import CommandDesk
from dcc_sim.core.effects import Severity
from dcc_sim.core.faults import Faults, Hop
from dcc_sim.core.network import (
    Arrived,
    Lost,
    Network,
    NetworkProfile,
    Parcel,
    Place,
    Streams,
)
from dcc_sim.core.state import State
from dcc_sim.errors import ConfigError
from dcc_sim.ports import NetworkRun, UplinkRow
from gbcs.entity_id import EntityId
from gbcs.messages import CraFlag

# Tag; CRA flag and originator counter; originator; target.
_GROUPING_HEADER = re.compile(rb"\xdf\x09(.)(.{8})\x08(.{8})\x08(.{8})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the network is like, and what is to go wrong in it.

    Attributes:
        profile: its parameters.
        streams: randomness by name.
        faults: outlive the Dcc object: a restart keeps those that are armed.
    """

    profile: NetworkProfile
    streams: Streams
    faults: Faults


class SmWan:
    """Stands between the command desk and the devices.

    A device's message that takes time is written down before anything else happens, and forgotten
    when its fate is decided; after a restart it sets out anew. Accepted commands are durable
    anyway: the command desk sends them once more. Copies that were under way of commands given
    up before a restart are lost with it: their users were told.

    Args:
        state: shared with the other parts.
        surroundings: what the network is like.
        now: seconds since 1970.

    Raises:
        ConfigError: a device's region is none of the profile's, or a hub is in two regions.
    """

    def __init__(self, state: State, surroundings: Surroundings, now: float) -> None:
        self._state = state
        self._profile = surroundings.profile
        self._faults = surroundings.faults
        self._last_uplink_id = max((row.uplink_id for row in state.stored.uplinks), default=0)
        self._sent_up: dict[int, UplinkRow] = {}
        self._stored: set[int] = set()
        _check_places(state, self._profile)
        before = state.stored.network_run
        run = NetworkRun(now, 1) if before is None else replace(before, run=before.run + 1)
        state.storage.save_network_run(run)
        self.network = Network(
            self._profile,
            surroundings.streams,
            place_of=self._place_of,
            faults=self._faults,
            journal=state.journal,
            epoch=run.epoch,
            time_scale=state.config.network_time_scale,
            run=run.run,
        )

    def resume(self, now: float) -> None:
        """Send out anew what a restart found under way."""
        for row in self._state.stored.uplinks:
            self._stored.add(row.uplink_id)
            self._send_up(row, now)

    def receive_untrusted_message(self, device: EntityId, octets: bytes, now: float) -> None:
        """Take a message that a device hands to its communications hub; `settle` follows."""
        self._last_uplink_id += 1
        self._send_up(UplinkRow(self._last_uplink_id, device, octets), now)

    def settle(self, commands: CommandDesk, now: float) -> None:
        """Tell the command desk what has become of messages; make the others durable."""
        under_way = self._sent_up
        self._sent_up = {}
        while outcomes := self.network.take_outcomes():
            for outcome in outcomes:
                self._tell(commands, outcome, now)
                token = outcome.parcel.token
                if isinstance(token, int) and not outcome.is_copy:
                    under_way.pop(token, None)
                    self._forget(token)
        for row in under_way.values():
            if row.uplink_id not in self._stored:
                self._state.storage.save_uplink(row)
                self._stored.add(row.uplink_id)

    def _tell(self, commands: CommandDesk, outcome: Arrived | Lost, now: float) -> None:
        parcel = outcome.parcel
        match outcome:
            case Arrived() if parcel.hop is Hop.COMMAND:
                commands.handle_command_arrived(outcome, now)
            case Arrived():
                commands.receive_untrusted_message(parcel.device, outcome.octets, now)
            case Lost() if parcel.hop is Hop.COMMAND:
                commands.handle_command_lost(outcome)
            case Lost():
                self._state.note(
                    Severity.INFO,
                    f"{parcel.hop.value} {parcel.reference} did not come through: {outcome.reason}",
                )

    def _send_up(self, row: UplinkRow, now: float) -> None:
        hop, reference = _outside_of(row.octets)
        self._sent_up[row.uplink_id] = row
        self.network.send(Parcel(hop, row.device, reference, row.octets, row.uplink_id), now)

    def _forget(self, uplink_id: int) -> None:
        if uplink_id in self._stored:
            self._stored.remove(uplink_id)
            self._state.storage.delete_uplink(uplink_id)

    def _place_of(self, device: EntityId) -> Place:
        settings = self._state.devices.get(device)
        region = settings.region if settings is not None else ""
        hub = settings.hub if settings is not None else ""
        return Place(region or self._profile.default_region, hub or str(device))


def _outside_of(octets: bytes) -> tuple[Hop, str]:
    """Tell from a message's first octets, unchecked, what it is and what the journal calls it.

    Returns:
        Its hop, and originator:target:counter as in a ResponseID; "unreadable" without them.

    Source: GBCS, Grouping Header.
    """
    header = _GROUPING_HEADER.match(octets)
    if header is None:
        return Hop.RESPONSE, "unreadable"
    cra, counter, originator, target = header.groups()
    hop = Hop.ALERT if cra[0] == CraFlag.ALERT else Hop.RESPONSE
    number = int.from_bytes(counter, "big")
    return hop, f"{EntityId(originator)}:{EntityId(target)}:{number}"


def _check_places(state: State, profile: NetworkProfile) -> None:
    if not profile.regions:
        return
    region_of_hub: dict[str, str] = {}
    for device in state.devices.values():
        region = device.region or profile.default_region
        if region not in profile.regions:
            raise ConfigError(
                f"device {device.entity_id}: region {region!r} is none of the network profile's: "
                f"{', '.join(profile.regions)}"
            )
        if device.hub and region_of_hub.setdefault(device.hub, region) != region:
            raise ConfigError(
                f"device {device.entity_id}: its hub {device.hub!r} is in region "
                f"{region_of_hub[device.hub]!r} already; a hub is in one region"
            )
