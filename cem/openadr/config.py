"""What can be set about the CEM's OpenADR face, the table [openadr] of its file."""

from __future__ import annotations

import msgspec

from cem.errors import ConfigurationError

_POSITIVE = (
    "poll_interval_s",
    "patience_s",
    "keep_answers_s",
    "unanswered_s",
    "refusal_grace_s",
    "body_timeout_s",
    "idle_timeout_s",
    "queued_messages",
    "connections",
)


class OpenAdrConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the HTTP face that is a VTN to the CEM's VEN.

    Attributes:
        listen: host:port; port 0 takes any free one.
        state: path of the SQLite file of the face; ":memory:" keeps nothing.
        vtn_id: the vtnID told before the first registration; "": the supplier's EUI. From then on
            the VTN's own is told.
        ven_id: the venID that the VEN must have; "": whichever the VTN gives it.
        poll_interval_s: how often the VEN is told to poll before the VTN has told it, in seconds.
        patience_s: how long a request that only the VTN can answer is held open, in seconds;
            below the VEN's own time-out, which is 10 s in openleadr.
        keep_answers_s: how long an answer that came after that is kept for the VEN's next try,
            in seconds; a little longer than the time between two tries.
        unanswered_s: after so long without an answer the same request crosses again, in seconds.
        refusal_grace_s: how long to wait, after the VTN has refused an oadrCreatedEvent, for
            the newer version of the event that mostly is the cause, in seconds.
        body_timeout_s: how long a request's body may take, in seconds.
        idle_timeout_s: how long a connection may stay open without a request, in seconds; its TLS
            handshake and a request's head are to come in that time, too.
        queued_messages: how many messages may wait for the VEN to poll; those after them stay in
            the gateway.
        connections: how many connections may be open. One more takes the place of that which has
            been without a whole request for longest.
        certificate: PEM file of the server's certificate chain; None: plain HTTP.
        key: PEM file of its private key.
        ven_ca: PEM file with the certificates that a VEN's own must go back to; then it has to
            show one, and stays bound to it. None: none is asked for.
        plain_http: True admits other machines without ven_ca, also without TLS: whoever reaches the
            port can then speak as the VEN.
        push: True lets a VEN of the PUSH model have its messages at its own address.
    """

    listen: str = "127.0.0.1:8703"
    state: str = "cem-openadr.sqlite"
    vtn_id: str = ""
    ven_id: str = ""
    poll_interval_s: float = 10.0
    patience_s: float = 8.0
    keep_answers_s: float = 900.0
    unanswered_s: float = 7200.0
    refusal_grace_s: float = 60.0
    body_timeout_s: float = 10.0
    idle_timeout_s: float = 75.0
    queued_messages: int = 1000
    connections: int = 64
    certificate: str | None = None
    key: str | None = None
    ven_ca: str | None = None
    plain_http: bool = False
    push: bool = False

    def __post_init__(self) -> None:
        """Refuse impossible values.

        Raises:
            ConfigurationError: which value, and what it must be.
        """
        for name in _POSITIVE:
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigurationError(
                    f"openadr: {name} = {getattr(self, name)}: must be above 0"
                )
        if (self.certificate is None) != (self.key is None):
            raise ConfigurationError("openadr: TLS needs both certificate and key")
        if self.ven_ca is not None and self.certificate is None:
            raise ConfigurationError(
                "openadr: ven_ca asks VENs for a certificate, which only TLS can: "
                "give certificate and key, too"
            )
        if not self.state:
            raise ConfigurationError("openadr: state: give the path of the state file")
