"""What route 2b in the gateway works with: a server that CEMs connect to, the tunnel's end."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Protocol

from dsrsp.core.offers import RouteRecord
from dsrsp.route_2b.session import Application
from gbcs.entity_id import EntityId
from gbcs.route_2b_texts import CloseCode
from smtunnel.delivery import MessageStatus
from smtunnel.routes import RouteOffer, RouteWithdrawn


class RouteServer(Protocol):
    """What CEMs connect to; `dsrsp.route_2b.Route2bServer`, or one of a simulation."""

    async def start(self, listener: socket.socket | None = None) -> None:
        """Begin to take connections."""
        ...

    async def close(self) -> None:
        """Close all connections and stop."""
        ...

    @property
    def port(self) -> int:
        """The port that it listens on; 0 where there is none."""
        ...

    def offer(self, number: int) -> RouteOffer:
        """Return an offer of this server that holds from now on."""
        ...

    def devices(self) -> list[EntityId]:
        """Return who is connected."""
        ...

    def send(
        self, device: EntityId, message: bytes, written: Callable[[], None] | None = None
    ) -> bool:
        """Queue a signed message; ``written`` is called when the connection has taken it."""
        ...

    def put_out(self, device: EntityId, code: CloseCode, reason: str) -> None:
        """Close a device's connection."""
        ...


MakeServer = Callable[[Application], RouteServer]
"""Makes the server for whom it is to serve."""


class RouteTunnel(Protocol):
    """What the tunnel's end does for route 2b. All may raise `dsrsp.errors.StorageError`."""

    def receive_message(
        self, device: EntityId, payload: bytes, originator_counter: int
    ) -> str | None:
        """Take a whole message that a device has signed."""
        ...

    def written(self, originator_counter: int) -> None:
        """Note that the connection has taken a message."""
        ...

    def route_up(self, device: EntityId, message_octets: int) -> None:
        """Note that a device is connected, and how long a message it takes."""
        ...

    def route_down(self, device: EntityId) -> None:
        """Note that a device is connected no more."""
        ...

    def tell_route(self, record: RouteRecord, told: RouteOffer | RouteWithdrawn) -> None:
        """Tell a device about an offer, and store the offer's record with it."""
        ...

    def status(self, ref: str) -> MessageStatus | None:
        """Return what is known of a message; None: nothing."""
        ...

    def known_devices(self) -> list[EntityId]:
        """Return the devices that have said what they understand."""
        ...
