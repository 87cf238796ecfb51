"""What can be set about a CEM's gateway."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec

from cem.errors import ConfigurationError
from cem.route_2b.config import Route2bClientConfig
from gbcs.entity_id import EntityId
from smtunnel.limits import DEFAULT_MESSAGE_LIFETIME_S
from smtunnel.policy import Confirmation, SendPolicy

_AT_LEAST_ONE = (
    "counter_reserve",
    "message_octets",
    "unacknowledged_messages",
    "queued_messages",
    "finished_messages",
    "replay_window",
    "messages_in_flight",
    "fragment_attempts",
    "messages_in_flight_2b",
    "attempts_2b",
)
_POSITIVE = (
    "reconnect_min_s",
    "reconnect_max_s",
    "link_timeout_s",
    "keepalive_s",
    "alert_window_s",
    "receipt_timeout_s",
    "receipt_timeout_max_s",
    "message_lifetime_s",
    "fallback_after_s",
    "receipt_timeout_2b_s",
)
_ONE_OCTET = ("messages_in_flight", "fragment_attempts", "messages_in_flight_2b", "attempts_2b")


class CemConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of one CEM's gateway.

    Attributes:
        device_id: this device.
        supplier_id: the Import Supplier whose commands are obeyed, recipient of alerts.
        load_controller_id: supplementary remote party of alerts.
        state: path of the SQLite file with all that must survive; ":memory:" keeps nothing.
        keys: folders with certificates and keys, for the caller to read; the gateway takes
            a key store.
        test_mode: True admits publicly known test keys; for the caller, as keys.
        hub_url: where the communications hub listens, ws:// or wss://.
        reconnect_min_s: first pause after a lost connection, in seconds; doubled up to
            reconnect_max_s, each time with up to half of it taken off at random.
        reconnect_max_s: longest such pause, in seconds.
        link_timeout_s: how long the hub may take for each step of the link, in seconds.
        keepalive_s: time between pings on an idle link, in seconds.
        counter_reserve: Originator Counters reserved by one write; the most a crash skips.
        counter_floor: every Originator Counter is above this: set it when the state file was
            lost, above every number that this device ever used.
        message_octets: longest message taken or sent, in octets.
        unacknowledged_messages: how many received messages may wait for the application;
            above it commands are answered "temporary failure".
        queued_messages: how many sent messages may be on their way, up to their receipt.
        finished_messages: of how many sent messages the end state is remembered.
        replay_window: how many of the supplier's Originator Counters are remembered, 1 to 65535.
        compact: True to send XML without a signature in its compact form, unless `send` says
            otherwise.
        alerts_per_window: the most alerts in any window, 0 for no limit. The thresholds of the
            DCC's alert storm protection are not public: 16 a minute keeps below the 20 that the
            simulator assumes, with room for alerts that a broken link makes go out twice.
        alert_window_s: length of that window, in seconds.
        messages_in_flight: how many messages may wait for their receipt before the next is
            begun, 1 to 255.
        fragment_attempts: how often a fragment is sent, and a receipt waited for, 1 to 255.
        receipt_timeout_s: wait for a receipt before it is asked for, in seconds; doubles. It
            should cover the time in which the DSRSP gathers receipts, and one command's way.
        receipt_timeout_max_s: the longest such wait, in seconds.
        message_lifetime_s: a message that is not confirmed in this time fails, in seconds. Also
            how long a message from the DSRSP may lack fragments.
        use_route_2b: False to follow no route offer: all goes through the smart metering system.
        fallback_after_s: from when route 2b goes down to when messages that prefer it go through
            the smart metering system, in seconds.
        receipt_timeout_2b_s: wait for a receipt on route 2b before a message goes again, in
            seconds; doubles.
        attempts_2b: how often a message goes by route 2b without a receipt though it stands; then
            through the smart metering system.
        messages_in_flight_2b: how many messages may be on their way on route 2b, 1 to 255.
        route_2b: limits of the client that follows the DSRSP's offers; addresses and all that
            matters come with them.
    """

    device_id: EntityId
    supplier_id: EntityId
    load_controller_id: EntityId
    state: str
    keys: list[str] = []
    test_mode: bool = False
    hub_url: str = "ws://127.0.0.1:8090"
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 60.0
    link_timeout_s: float = 10.0
    keepalive_s: float = 20.0
    counter_reserve: int = 64
    counter_floor: int = 0
    message_octets: int = 65536
    unacknowledged_messages: int = 1000
    queued_messages: int = 1000
    finished_messages: int = 1000
    replay_window: int = 1024
    compact: bool = True
    alerts_per_window: int = 16
    alert_window_s: float = 60.0
    messages_in_flight: int = 16
    fragment_attempts: int = 8
    receipt_timeout_s: float = 300.0
    receipt_timeout_max_s: float = 21_600.0
    message_lifetime_s: float = DEFAULT_MESSAGE_LIFETIME_S
    use_route_2b: bool = True
    fallback_after_s: float = 300.0
    receipt_timeout_2b_s: float = 10.0
    attempts_2b: int = 5
    messages_in_flight_2b: int = 32
    route_2b: Route2bClientConfig = msgspec.field(default_factory=Route2bClientConfig)

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigurationError: which value, and what it must be.
        """
        if not _is_websocket_url(self.hub_url):
            raise ConfigurationError(
                f"hub_url = {self.hub_url!r}: expected ws://host:port or wss://host:port"
            )
        for name in _AT_LEAST_ONE:
            if getattr(self, name) < 1:
                raise ConfigurationError(f"{name} = {getattr(self, name)}: must be at least 1")
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name} = {getattr(self, name)}: must be above 0")
        if self.reconnect_max_s < self.reconnect_min_s:
            raise ConfigurationError("reconnect_max_s must not be below reconnect_min_s")
        if not 0 <= self.counter_floor < 2**64:
            raise ConfigurationError("counter_floor must be 0 to 2**64-1")
        if self.alerts_per_window < 0:
            raise ConfigurationError("alerts_per_window must be at least 1, or 0 for no limit")
        for name in _ONE_OCTET:
            if getattr(self, name) > 255:
                raise ConfigurationError(f"{name} = {getattr(self, name)}: must be at most 255")
        if self.receipt_timeout_max_s < self.receipt_timeout_s:
            raise ConfigurationError("receipt_timeout_max_s must not be below receipt_timeout_s")
        if self.replay_window > 65535:
            raise ConfigurationError("replay_window must be at most 65535")
        if not self.state:
            raise ConfigurationError("state: give the path of the state file")
        parties = {self.device_id, self.supplier_id, self.load_controller_id}
        if len(parties) != 3:
            raise ConfigurationError(
                "device_id, supplier_id and load_controller_id must be three different EUIs"
            )

    def send_policy(self) -> SendPolicy:
        """Return how messages are sent."""
        return SendPolicy(
            confirmation=Confirmation.RECEIPTS,
            messages_in_flight=self.messages_in_flight,
            fragments_per_window=self.alerts_per_window or None,
            window_s=self.alert_window_s,
            attempts_per_fragment=self.fragment_attempts,
            receipt_timeout_s=self.receipt_timeout_s,
            receipt_timeout_max_s=self.receipt_timeout_max_s,
            message_lifetime_s=self.message_lifetime_s,
            use_route_2b=self.use_route_2b,
            fallback_after_s=self.fallback_after_s,
            receipt_timeout_2b_s=self.receipt_timeout_2b_s,
            attempts_2b=self.attempts_2b,
            messages_in_flight_2b=self.messages_in_flight_2b,
        )


def _is_websocket_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme in ("ws", "wss") and bool(parts.hostname) and plain
