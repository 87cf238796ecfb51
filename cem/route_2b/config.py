"""The settings of route 2b's client: little, for everything that matters is in the offer."""

from __future__ import annotations

import msgspec

from cem.errors import ConfigurationError
from gbcs.route_2b import DEFAULT_MESSAGE_OCTETS, MAX_MESSAGE_OCTETS
from gbcs.route_2b_texts import MIN_MESSAGE_OCTETS

_POSITIVE = (
    "connect_timeout_s",
    "handshake_timeout_s",
    "reconnect_min_s",
    "reconnect_max_s",
    "try_later_max_s",
    "refused_retry_s",
    "keepalive_s",
    "keepalive_timeout_s",
    "queued_messages",
    "queued_octets",
    "send_timeout_s",
)


class Route2bClientConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the client that follows the DSRSP's route offers."""

    tls_1_2: bool = False
    """True also speaks TLS 1.2; False only 1.3."""
    message_octets: int = DEFAULT_MESSAGE_OCTETS
    """The longest message taken from the DSRSP, in octets, at most 64 MiB."""
    connect_timeout_s: float = 15.0
    """TCP, TLS and HTTP with one address, in seconds."""
    handshake_timeout_s: float = 15.0
    """The handshake of route 2b, in seconds."""
    reconnect_min_s: float = 1.0
    """First pause after a lost connection, in seconds; doubled up to reconnect_max_s, each time
    with up to half of it taken off at random."""
    reconnect_max_s: float = 60.0
    """The longest such pause, in seconds."""
    try_later_max_s: float = 3600.0
    """A server that says "try later" is believed up to this, in seconds."""
    refused_retry_s: float = 21_600.0
    """A server that refuses this device for good, before it has proven itself, is tried again
    after so long, six hours, with up to half of it taken off at random."""
    keepalive_s: float = 30.0
    """Time between pings, in seconds: below what home routers forget connections after."""
    keepalive_timeout_s: float = 20.0
    """A connection without an answer to a ping for so long is given up, in seconds."""
    queued_messages: int = 256
    """Messages that may wait to be sent; more are not taken."""
    queued_octets: int = 4_194_304
    """The same in octets, 4 MiB; one message always fits."""
    send_timeout_s: float = 30.0
    """A connection that has not taken one message in so long is given up, in seconds."""

    def __post_init__(self) -> None:
        """Check what types cannot say.

        Raises:
            ConfigurationError: names the setting, its value and what is expected.
        """
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ConfigurationError("reconnect_max_s must not be below reconnect_min_s")
        if not MIN_MESSAGE_OCTETS <= self.message_octets <= MAX_MESSAGE_OCTETS:
            raise ConfigurationError(
                f"message_octets = {self.message_octets}: "
                f"{MIN_MESSAGE_OCTETS} to {MAX_MESSAGE_OCTETS}"
            )
