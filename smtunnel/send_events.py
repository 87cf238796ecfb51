"""What a MessageSender asks for and tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from smtunnel.delivery import MessageStatus
from smtunnel.fragments import Payload
from smtunnel.records import AbortCode
from smtunnel.route_choice import Route


@dataclass(frozen=True, slots=True)
class Transmit:
    """Hand one fragment over for transport, and tell by transmitted() and result() how it went.

    On route 2b it is a whole message, for the connection of the peer: transmitted() when the
    connection has taken it, and no result; where there is no connection, nothing is to be done.
    """

    ref: str
    peer: bytes
    index: int
    payload: Payload
    """Text on route 2a; on route 2b octets: the fragment header (3), then the body."""
    originator_counter: int
    attempt: int
    """1 at the first transmission of this fragment."""
    route: Route = Route.ROUTE_2A

    @property
    def octets(self) -> bytes:
        """The payload as octets, as route 2b has it."""
        return self.payload.encode("ascii") if isinstance(self.payload, str) else self.payload


@dataclass(frozen=True, slots=True)
class StatusChanged:
    """News of a data message."""

    peer: bytes
    status: MessageStatus


@dataclass(frozen=True, slots=True)
class ReencodeNeeded:
    """The peer cannot take a message as it is encoded: call reencoded() with another encoding."""

    ref: str
    peer: bytes
    code: AbortCode
    """UNKNOWN_DICTIONARY or WINDOW_TOO_LARGE."""
    detail: int
    """The DICTID that is not known, or the largest window bits taken."""


@dataclass(frozen=True, slots=True)
class ControlEnded:
    """A control message has come to its end."""

    ref: str
    peer: bytes
    delivered: bool


SenderEvent: TypeAlias = Transmit | StatusChanged | ReencodeNeeded | ControlEnded
