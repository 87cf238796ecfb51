"""The settings of a DSRSP gateway, each with its default and where that comes from."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from dsrsp.errors import ConfigurationError
from dsrsp.route_2b.config import Route2bServerConfig
from gbcs.entity_id import EntityId
from gbcs.route_2b import message_octets_for
from smtunnel.carriers import HEADER_OCTETS
from smtunnel.limits import compressed_bound


class SigningServiceConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An external service that has the supplier's key; see ``specs/signing-service.md``.

    Paths are relative to the configuration's folder. The certificate of the key must be among
    ``keys`` all the same: every signature is checked with it before it is used.
    """

    url: str
    """https://host[:port], or http:// on this machine alone."""
    token_file: str | None = None
    """Holds the bearer token that it wants to see."""
    ca_file: str | None = None
    """PEM: who issued the service's TLS certificate; unset: whom the system trusts."""
    certificate_file: str | None = None
    """PEM: our own TLS certificate, where the service asks for one."""
    key_file: str | None = None
    """PEM: the key of certificate_file, if it is not in the same file."""
    timeout_s: float = 5.0
    """How long one signature may take, in seconds; then it is asked for again."""

    def check(self) -> None:
        """Check what types cannot say.

        Raises:
            ConfigurationError: names the setting.
        """
        host = urlsplit(self.url).hostname
        local = host in ("127.0.0.1", "::1", "localhost")
        if not host or not self.url.startswith(("https://", "http://")):
            raise ConfigurationError(f"signing.url must be https://host[:port], not {self.url!r}")
        if self.url.startswith("http://") and not local:
            raise ConfigurationError(
                f"signing.url is {self.url!r}: the token would cross the network in the clear; "
                "use https://"
            )
        if not self.timeout_s > 0:
            raise ConfigurationError(f"signing.timeout_s must be above 0, not {self.timeout_s}")


class DsrspConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Settings of one gateway.

    A DSRSP holds two organisation identities, for only an electricity import supplier may
    send service request 6.14.1, and an operational update names a load controller.
    """

    supplier_id: EntityId
    """EUI-64 of the import supplier: sends the commands, receives the alerts."""
    load_controller_id: EntityId
    """EUI-64 of the load controller: the supplementary party of the alerts."""
    state: str
    """Path of the SQLite file that holds counters and messages; ":memory:" only for simulations."""
    keys: list[str] = []
    """Folders of certificates and keys; read by the caller, not by the gateway."""
    test_mode: bool = False
    """True admits publicly known test keys."""

    signing: SigningServiceConfig | None = None
    """Who signs as the supplier, if not the key among ``keys``; read by the caller."""

    dcc_url: str = "http://127.0.0.1:8079"
    """Where the DCC's services are; /api/v1/serviceT and /api/v1/serviceS are appended."""
    receive_listen: str = "127.0.0.1:1880"
    """host:port to listen on for responses and alerts; port 0 takes any free one."""
    receive_path: str = "/smartdcc/duis"
    """The path of the receive address."""
    schema_version: str = "5.4"
    """DUIS schema version told in each request."""

    attempt_timeout_s: float = 3.0
    """One HTTP exchange with the DCC, in seconds: 3 is what the DCC emulator's client waits."""
    retry_first_s: float = 0.5
    """The pause before the first repeated attempt, in seconds; each next one is twice as long."""
    retry_max_s: float = 30.0
    """The longest pause between two attempts, in seconds."""
    transform_timeout_s: float = 3600.0
    """How long to try to get a pre-command, in seconds: rides out an hour without the DCC."""
    response_timeout_s: float = 7200.0
    """From signing to the device's response, in seconds; then the fragment is sent again. Assumed:
    the 2 h class of the DCC's published round-trip targets; set it to what you have agreed."""
    resume_grace_s: float = 90.0
    """After a restart, the least time that a request still gets, in seconds: the DCC repeats
    what it could not post to us."""
    counter_floor: int = 0
    """Originator counters begin above this: for a supplier that used some before."""

    compact: bool = True
    """Whether OpenADR XML goes in its compact form, which is equal as canonical XML: white space,
    declaration and prefixes go. What has an XML signature, or is no XML, goes untouched always."""
    fragments_in_flight: int = 4
    """Fragments to one device that may be on their way at once; other devices do not wait."""
    fragments_in_flight_total: int = 4096
    """The same for all devices together."""
    messages_in_flight: int = 4
    """Messages to one device that may be on their way at once, at most 255."""
    fragments_per_window: int | None = None
    """Not more fragments than so many, to all devices together, in any window_s seconds: below the
    anomaly detection threshold that you have agreed with the DCC. Unset: no limit."""
    window_s: float = 3600.0
    """The window of fragments_per_window, in seconds."""
    stop_on_quarantine: bool = True
    """Whether no command is signed while the DCC holds one of ours in quarantine, for at most
    window_s after the last that it held: each would only
    join it there. It goes on when that one is released, discarded, or its time is up."""
    fragment_attempts: int = 8
    """How often one fragment is sent before its message fails, at most 255. That a CEM is busy, or
    that there is no way to the DCC, does not count."""
    fragment_retry_first_s: float = 30.0
    """Wait before a fragment is sent again, in seconds; doubles. A part of it is random."""
    fragment_retry_max_s: float = 3600.0
    """The longest such wait, in seconds."""
    message_lifetime_s: float = 259_200.0
    """From taking a message to its end at the latest, in seconds: three days. Also how long a
    CEM's message may lack fragments."""
    reason_grace_s: float = 300.0
    """After a CEM has refused a message: wait for the reason, which comes by itself, in seconds."""

    receipts: Literal["each", "batched", "off"] = "batched"
    """How messages from CEMs are confirmed: each at once, many at a time, or not at all. A receipt
    is an ECS46a, which costs as much as a fragment."""
    receipt_batch_s: float = 60.0
    """With "batched": from the first message that is to be confirmed to the receipt, in seconds."""
    receipt_early_s: float = 20.0
    """The same two waits where the CEM has gone on to later messages, or repeats itself because a
    receipt did not come, in seconds."""
    missing_after_s: float = 120.0
    """A CEM's message that lacks fragments is asked after when nothing came for so long, in
    seconds; doubles. Not with receipts = "off"."""

    repeat_codes: tuple[str, ...] = ("E40", "E47", "E48")
    """DUIS codes that mean "this counter was used before" and, in answer to a repeated request,
    are no failure. Assumed: their meaning is not public."""
    unread_repeats: int = 2
    """How often a request goes again, octet for octet, of which the DCC says that it cannot read it
    or that its signature does not hold: it may have been bent on its way."""
    believe_unsigned_errors: bool = False
    """Whether an unsigned error at the receive address may fail a message. False only notes it as
    the likely reason and waits for the time-out, for anybody who reaches the address could post it;
    errors after which a fragment is only sent again (E20, E21, E100) are believed all the same."""

    max_message_octets: int = 65536
    """The largest message to send or to reassemble, in octets."""
    max_queued_messages_per_device: int = 1000
    """More than so many unfinished messages for one device are not taken."""
    replay_window: int = 1024
    """How many of a device's latest counters are remembered; older alerts are ignored."""
    keep_finished_s: float = 2_592_000.0
    """How long the status of an ended message can be asked for, in seconds: 30 days."""
    keep_requests_s: float = 259_200.0
    """How long an ended request is kept, in seconds: three days. It is there to know a late answer
    by, which a message_lifetime_s later is of no use any more; one takes some 372 octets."""
    max_unacknowledged_messages: int = 100_000
    """With so many received messages waiting for an ack, alerts are refused with 503."""
    max_unacknowledged_octets: int = 268_435_456
    """The same for so many octets of them, 256 MiB: they are in memory, and an alert of a thousand
    octets can become a message of max_message_octets."""

    max_unacknowledged_share: float = 0.1
    """The part of both bounds that one device's messages may fill, above 0 and at most 1: no CEM
    can shut out the others."""

    route_2b: Route2bServerConfig | None = None
    """Route 2b's server, where CEMs connect over the internet; unset: there is none, and offers
    that were made are withdrawn. The supplier's private key must be among ``keys``, or ``signing``
    be set."""
    offer_route_2b: bool = True
    """Whether route 2b is offered to each CEM that has made itself known, and offered anew in time
    and when the server's terms change; False: only by command."""
    use_route_2b: bool = True
    """False sends no messages by route 2b; what comes that way is taken all the same."""
    fallback_after_s: float = 300.0
    """From when a CEM's route 2b goes down to when messages that prefer it go through the smart
    metering system, in seconds."""
    receipt_timeout_2b_s: float = 10.0
    """Wait for a receipt on route 2b before a message goes again, in seconds; doubles."""
    attempts_2b: int = 5
    """How often a message goes by route 2b without a receipt though it stands; then through the
    smart metering system."""
    messages_in_flight_2b: int = 32
    """Messages to one device that may be on their way by route 2b at once, at most 255."""
    signatures_in_flight: int = 16
    """With ``signing``: so many signatures for messages by route 2b are asked for at once."""
    messages_to_sign: int = 20_000
    """Messages by route 2b, to all devices, that may wait for their signatures; the connection of a
    device for which one more would wait is closed, and they come again when it is back."""
    octets_to_sign: int = 67_108_864
    """The same in octets, 64 MiB; one message always may wait."""

    def check(self) -> None:
        """Check what types cannot say.

        Raises:
            ConfigurationError: names the setting, its value and what is expected.
        """
        if self.supplier_id == self.load_controller_id:
            raise ConfigurationError(
                f"supplier_id and load_controller_id are both {self.supplier_id}: the DSRSP needs "
                "two identities, an import supplier's and a load controller's"
            )
        if self.signing is not None:
            self.signing.check()
        for name in (
            "attempt_timeout_s",
            "retry_first_s",
            "retry_max_s",
            "transform_timeout_s",
            "response_timeout_s",
            "resume_grace_s",
            "fragments_in_flight",
            "fragments_in_flight_total",
            "messages_in_flight",
            "window_s",
            "fragment_attempts",
            "fragment_retry_first_s",
            "fragment_retry_max_s",
            "message_lifetime_s",
            "reason_grace_s",
            "receipt_batch_s",
            "missing_after_s",
            "receipt_early_s",
            "max_message_octets",
            "max_queued_messages_per_device",
            "replay_window",
            "keep_finished_s",
            "keep_requests_s",
            "max_unacknowledged_share",
            "max_unacknowledged_messages",
            "max_unacknowledged_octets",
            "fallback_after_s",
            "receipt_timeout_2b_s",
            "attempts_2b",
            "messages_in_flight_2b",
            "signatures_in_flight",
            "messages_to_sign",
            "octets_to_sign",
        ):
            if getattr(self, name) <= 0:
                raise ConfigurationError(f"{name} must be above 0, not {getattr(self, name)}")
        if self.unread_repeats < 0:
            raise ConfigurationError(f"unread_repeats must not be below 0: {self.unread_repeats}")
        if self.max_unacknowledged_share > 1:
            raise ConfigurationError(
                f"max_unacknowledged_share must be at most 1, not {self.max_unacknowledged_share}"
            )
        for name in (
            "messages_in_flight",
            "fragment_attempts",
            "messages_in_flight_2b",
            "attempts_2b",
        ):
            if getattr(self, name) > 255:
                raise ConfigurationError(f"{name} must be at most 255, not {getattr(self, name)}")
        if self.fragments_per_window is not None and self.fragments_per_window < 1:
            raise ConfigurationError(
                f"fragments_per_window must be above 0, not {self.fragments_per_window}; "
                "leave it out for no limit"
            )
        if self.fragments_per_window is not None and self.keep_requests_s < self.window_s:
            raise ConfigurationError(
                f"keep_requests_s is {self.keep_requests_s:g} s: with fragments_per_window it must "
                f"be at least window_s, {self.window_s:g} s, for what was signed is counted again "
                "after a restart"
            )
        self._check_route_2b()
        if not self.dcc_url.startswith(("http://", "https://")):
            raise ConfigurationError(f"dcc_url must be http://… or https://…, not {self.dcc_url!r}")
        if not self.receive_path.startswith("/"):
            raise ConfigurationError(f"receive_path must begin with /, not {self.receive_path!r}")

    def _check_route_2b(self) -> None:
        if self.route_2b is None:
            return
        # What the tunnel gives out must fit the queue, or a connection would be closed for it.
        octets = self.messages_in_flight_2b * message_octets_for(
            HEADER_OCTETS + compressed_bound(self.max_message_octets)
        )
        room = self.route_2b.queued_octets
        if octets > room or self.messages_in_flight_2b + 16 > self.route_2b.queued_messages:
            raise ConfigurationError(
                f"messages_in_flight_2b = {self.messages_in_flight_2b} of max_message_octets = "
                f"{self.max_message_octets} may not fit the queue of a connection: set "
                f"route_2b.queued_octets to {octets} at least and route_2b.queued_messages to "
                f"{self.messages_in_flight_2b + 16}, or the others lower"
            )
