"""Carriers: what takes one fragment through the smart metering system, and how much it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from smtunnel.errors import LocalError

HEADER_OCTETS: Final = 3
HEADER_CHARS: Final = 4
"""The header as base64 of its three octets: no padding, so it can stand before any text."""


@dataclass(frozen=True, slots=True)
class Carrier:
    """One kind of message that carries one fragment.

    Attributes:
        name: what people and the command line call it.
        capacity: the most it holds, in characters when printable, else in octets.
        printable: True when only the characters ``[ -~]`` pass, so that header and body are
            base64; False when any octet passes, so that both are raw.
    """

    name: str
    capacity: int
    printable: bool

    def __post_init__(self) -> None:
        if self.capacity <= self.header_size:
            raise LocalError(
                f"carrier {self.name!r} holds {self.capacity}, but the header alone takes "
                f"{self.header_size}: a carrier must hold at least one more"
            )

    @property
    def header_size(self) -> int:
        """The size of the header on this carrier, in characters or octets."""
        return HEADER_CHARS if self.printable else HEADER_OCTETS

    @property
    def body_capacity(self) -> int:
        """What is left for the body of one fragment, in characters or octets."""
        return self.capacity - self.header_size

    @property
    def unit(self) -> str:
        """The unit of all sizes on this carrier: "characters" or "octets"."""
        return "characters" if self.printable else "octets"


ECS46A: Final = Carrier("ecs46a", 110, printable=True)
"""Down, DSRSP to CEM: five labels of 22 characters. Source: GBCS ECS46a; DUIS SRV 6.14.1."""

ECS200: Final = Carrier("ecs200", 1062, printable=True)
"""Up, CEM to DSRSP: the text of an alert of 1200 octets. Source: GBCS ECS200."""

ROUTE_2B: Final = Carrier("route-2b", 2**31 - 1, printable=False)
"""Both ways, over the internet: a message whole, its octets as they are, never cut. Its capacity is
no bound: what a message may have is said by the limits of its receiver."""

CARRIERS: Final = {carrier.name: carrier for carrier in (ECS46A, ECS200)}
"""The carriers of the smart metering system by name."""
