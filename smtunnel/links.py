"""Route 2b as a sender knows it: to whom it stands, and which messages may take which route.

Source: specs/tunnel-protocol.md, two routes.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

from smtunnel.errors import StateError
from smtunnel.outgoing import OutgoingMessage
from smtunnel.policy import SendPolicy
from smtunnel.route_choice import RouteChoice
from smtunnel.send_states import SendState

_VERSION: Final = 1
_SAVED: Final = struct.Struct(">BBd")


@dataclass(slots=True)
class Link:
    """Route 2b to one peer.

    Attributes:
        message_octets: the largest message that the peer takes there; None: the route is down.
        fallback_at: while it is down: when messages that prefer it go by 2a, in seconds.
    """

    message_octets: int | None = None
    fallback_at: float = -math.inf

    @property
    def up(self) -> bool:
        """True while the route stands."""
        return self.message_octets is not None

    def to_bytes(self) -> bytes:
        """Build the saved form: version(1), up(1), fallback time(8)."""
        return _SAVED.pack(_VERSION, self.up, 0.0 if self.up else self.fallback_at)

    @classmethod
    def restore(cls, saved: bytes, fallback_at: float) -> Link:
        """Make what was saved, after a restart: the route is down.

        Args:
            saved: what to_bytes built.
            fallback_at: the fallback time where the route was up.

        Raises:
            StateError: something else than what was saved.
        """
        if len(saved) != _SAVED.size or saved[0] != _VERSION or saved[1] > 1:
            raise StateError("what was saved of route 2b is not of this version")
        _, up, saved_at = _SAVED.unpack(saved)
        if math.isnan(saved_at):
            raise StateError("what was saved of route 2b has no time")
        return cls(None, fallback_at if up else saved_at)


class Ways:
    """Says which routes a message may take now."""

    __slots__ = ("_policy",)

    def __init__(self, policy: SendPolicy) -> None:
        self._policy = policy

    def may_2b(self, message: OutgoingMessage, link: Link) -> bool:
        """Tell whether a message may go by route 2b now."""
        if (
            link.message_octets is None
            or message.message_octets > link.message_octets
            or not self._policy.use_route_2b
            or message.choice is RouteChoice.ONLY_2A
        ):
            return False
        only = message.choice is RouteChoice.ONLY_2B
        return only or message.whole.asked < self._policy.attempts_2b

    def may_2a(self, message: OutgoingMessage, link: Link, now: float) -> bool:
        """Tell whether a message may go by route 2a now."""
        if message.choice is not RouteChoice.AUTO:
            return message.choice is not RouteChoice.ONLY_2B
        if self.may_2b(message, link):
            return False
        # Up, and yet not for this message; or down for long enough.
        return link.up or message.urgent or not self._policy.use_route_2b or now >= link.fallback_at

    def wait_s(self, message: OutgoingMessage, link: Link, now: float) -> float | None:
        """Return for how long a message waits for route 2b before it goes by 2a, in seconds.

        Infinite: by 2a it does not go at all. None: it does not wait for route 2b.
        """
        beyond = message.state not in (SendState.QUEUED, SendState.SENDING)
        if beyond or link.up or self.may_2a(message, link, now):
            return None
        return math.inf if message.choice is RouteChoice.ONLY_2B else link.fallback_at - now
