"""The settings of route 2b's server."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

import msgspec

from dsrsp.errors import ConfigurationError
from gbcs.route_2b import DEFAULT_MESSAGE_OCTETS, MAX_MESSAGE_OCTETS
from gbcs.route_2b_texts import MIN_MESSAGE_OCTETS

_PIN = re.compile(r"[0-9a-f]{64}")
_POSITIVE = (
    "offer_valid_s",
    "handshake_timeout_s",
    "half_open_connections",
    "half_open_per_address",
    "connections",
    "handshakes_at_once",
    "handshakes_waiting",
    "handshake_patience_s",
    "try_later_max_s",
    "keepalive_s",
    "keepalive_timeout_s",
    "queued_messages",
    "queued_octets",
    "send_timeout_s",
    "messages_per_s",
    "revocation_check_s",
)


class Route2bServerConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of the server that CEMs connect to over the internet."""

    listen: str
    """host:port to listen on; port 0 takes any free one."""
    certificate: str
    """Path of the TLS certificate, PEM; no CA is needed: CEMs pin it. `smtunnel pki
    route-2b-certificate` makes one."""
    private_key: str
    """Path of its private key, PEM, unencrypted, readable by its owner alone (mode 0600)."""
    addresses: list[str]
    """Where CEMs reach this server, best first: wss://host:port. They go into the offers."""
    next_pins: list[str] = []
    """SHA-256 of further certificates (DER, hexadecimal) that will take the place of this one:
    offered too, so that a change of certificate needs no new offers. At most three."""
    offer_valid_s: float = 2_592_000.0
    """How long an offer holds, in seconds: 30 days."""
    tls_1_2: bool = False
    """True also takes TLS 1.2; False only 1.3."""

    message_octets: int = DEFAULT_MESSAGE_OCTETS
    """The longest message taken from a CEM, in octets, at most 64 MiB."""
    handshake_timeout_s: float = 10.0
    """TLS, HTTP and the handshake of route 2b, each: longer takes nobody, in seconds."""
    half_open_connections: int = 8192
    """Connections that may stand without having proven their device; more are cut off at once."""
    half_open_per_address: int = 1024
    """The same for one IP address: many homes may share one."""
    connections: int = 20_000
    """CEMs connected; more are told to try later."""
    handshakes_at_once: int = 32
    """So many handshakes go on at once; the next waits. One that stalls holds its place for a
    second only."""
    handshakes_waiting: int = 4096
    """With so many before it, each address in its turn, a further one is told to try later."""
    handshake_patience_s: float = 5.0
    """The same with fewer waiting, if at the pace seen lately they would wait longer than this, in
    seconds. It should be well below what CEMs give a connection: 15 s."""
    try_later_max_s: float = 300.0
    """The longest wait that anybody is told, in seconds."""

    keepalive_s: float = 60.0
    """Time between pings on a connection, in seconds."""
    keepalive_timeout_s: float = 30.0
    """A connection without an answer to a ping for so long is given up, in seconds."""
    queued_messages: int = 64
    """Messages that may wait to be sent to one CEM; with more its connection is closed."""
    queued_octets: int = 4_194_304
    """The same in octets, 4 MiB; one message always fits."""
    send_timeout_s: float = 30.0
    """A connection that has not taken one message in so long is closed, in seconds."""
    messages_per_s: float = 200.0
    """So many messages of one CEM are read each second, and what half a minute brings at once;
    further ones wait unread. To connect counts as twenty: who does so oftener is told to try
    later."""

    revoked: str | None = None
    """Path of a list of revoked certificates: one a line, its serial number in hexadecimal digits
    or its SHA-256 (DER, 64 digits); # begins a comment. Read again when it changes."""
    smki_repository: str | None = None
    """URL of an SMKI repository to ask for the status of certificates: http(s)://host:port."""
    smki_required: bool = False
    """True lets nobody in while the repository cannot be asked."""
    revocation_check_s: float = 300.0
    """How old a certificate's status may be, and how often those connected are checked again, in
    seconds."""

    def __post_init__(self) -> None:
        """Check what types cannot say.

        Raises:
            ConfigurationError: names the setting, its value and what is expected.
        """
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError(f"{name} must be above 0, not {getattr(self, name)}")
        if not MIN_MESSAGE_OCTETS <= self.message_octets <= MAX_MESSAGE_OCTETS:
            raise ConfigurationError(
                f"message_octets = {self.message_octets}: "
                f"{MIN_MESSAGE_OCTETS} to {MAX_MESSAGE_OCTETS}"
            )
        if not self.addresses:
            raise ConfigurationError("addresses: give at least one, wss://host:port")
        for address in self.addresses:
            if not _is_address(address):
                raise ConfigurationError(f"addresses: {address!r} is not wss://host:port")
        if len(self.next_pins) > 3:
            raise ConfigurationError("next_pins: at most three")
        for pin in self.next_pins:
            if not _PIN.fullmatch(pin):
                raise ConfigurationError(
                    f"next_pins: {pin[:70]!r} is not a SHA-256: 64 lower-case hexadecimal digits"
                )
        if self.smki_repository is not None and not self.smki_repository.startswith(
            ("http://", "https://")
        ):
            raise ConfigurationError(
                f"smki_repository must be http://… or https://…, not {self.smki_repository!r}"
            )
        if self.smki_required and self.smki_repository is None:
            raise ConfigurationError("smki_required: set smki_repository, or leave it out")
        self.address()

    def address(self) -> tuple[str, int]:
        """Return host and port to listen on.

        Raises:
            ConfigurationError: ``listen`` is not host:port.
        """
        host, colon, port = self.listen.rpartition(":")
        if not colon or not host or not port.isdigit() or int(port) > 65535:
            raise ConfigurationError(f"listen = {self.listen!r}: expected host:port")
        return host.strip("[]"), int(port)


def _is_address(address: str) -> bool:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    printable = len(address) <= 255 and all("!" <= one <= "~" for one in address)
    return parts.scheme == "wss" and bool(parts.hostname) and plain and printable
