"""What the network carries, and what becomes of it."""

from __future__ import annotations

import enum
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TypeAlias

from dcc_sim.core.faults import Hop
from gbcs.entity_id import EntityId


class Direction(enum.Enum):
    """Seen from the DCC."""

    DOWN = "down"
    UP = "up"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a device is: the region it is in, and the communications hub that serves it."""

    region: str
    hub: str


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message that the network is to carry.

    Attributes:
        hop: COMMAND goes down; RESPONSE and ALERT come up.
        device: to or from which.
        reference: what the journal calls it.
        octets: the message.
        token: whatever the sender wants to know it by.
    """

    hop: Hop
    device: EntityId
    reference: str
    octets: bytes
    token: Hashable = None

    @property
    def direction(self) -> Direction:
        """Down or up."""
        return Direction.DOWN if self.hop is Hop.COMMAND else Direction.UP


@dataclass(frozen=True, slots=True)
class Arrived:
    """A message came to the end of the network, at the device's or at the DCC's side.

    Attributes:
        parcel: as it was sent.
        octets: as they came.
        is_copy: whether it is a duplicate.
    """

    parcel: Parcel
    octets: bytes
    is_copy: bool = False


@dataclass(frozen=True, slots=True)
class Lost:
    """A message did not come to the end of the network.

    Attributes:
        parcel: as it was sent.
        reason: what became of it.
        is_copy: whether it was a duplicate.
    """

    parcel: Parcel
    reason: str
    is_copy: bool = False


Outcome: TypeAlias = Arrived | Lost
