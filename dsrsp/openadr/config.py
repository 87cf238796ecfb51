"""What can be set about the DSRSP's OpenADR face, the table [openadr] of its file."""

from __future__ import annotations

import msgspec

from dsrsp.errors import ConfigurationError

_POSITIVE = (
    "vtn_timeout_s",
    "vtn_attempts",
    "retry_first_s",
    "retry_max_s",
    "give_up_s",
    "poll_interval_s",
    "poll_interval_min_s",
    "poll_interval_max_s",
    "poll_pause_max_s",
    "repeat_after_s",
    "push_patience_s",
    "body_timeout_s",
    "push_idle_timeout_s",
    "push_connections",
)


class OpenAdrConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The settings of the clients that are VENs to the DSRSP's VTN, one for each CEM.

    Attributes:
        vtn_url: where the VTN's services are, without the service:
            http://host:8080/OpenADR2/Simple/2.0b for instance.
        state: path of the SQLite file of this face; ":memory:" keeps nothing.
        vtn_ca: PEM file that the VTN's certificate must go back to; None: the system's.
        certificates: folder with {EUI}.pem and {EUI}.key (16 hexadecimal digits, lower case) of
            each CEM: its own client certificate, whose fingerprint the VTN knows. None: none is
            shown, and a VTN that asks for one refuses.
        vtn_timeout_s: how long the VTN may take to answer, in seconds.
        vtn_attempts: how often a request is posted to a VTN that fails (500, garbage, silence)
            before the VEN is told; a VTN that cannot be reached is tried up to give_up_s.
        retry_first_s: the pause before the second try, in seconds; doubles.
        retry_max_s: the longest such pause, in seconds.
        give_up_s: how long a VTN that cannot be reached is tried for one request, in seconds.
        poll_interval_s: between two polls for one CEM while the VTN has not told one, in seconds.
        poll_interval_min_s: the shortest interval that a VTN can have by telling it, in seconds.
        poll_interval_max_s: the longest such interval, in seconds.
        poll_pause_max_s: the longest pause between polls of a VTN that fails, in seconds.
        repeat_after_s: a message that a VTN gives to poll after poll crosses once in this time,
            in seconds.
        push_listen: host:port of the server that a VTN of the PUSH model pushes to; None: the
            VTN is polled.
        push_url: how the VTN reaches that server: https://host:port
        push_certificate: PEM file of the server's certificate chain; None: plain HTTP.
        push_key: PEM file of its private key.
        push_ca: PEM file with the certificates that the VTN's own must go back to.
        push_patience_s: how long a push that the VEN must answer is held open, in seconds.
        body_timeout_s: how long a pushed body may take, in seconds.
        push_idle_timeout_s: how long a connection to push_listen may stay open without a request,
            in seconds; its TLS handshake and a request's head are to come in that time, too.
        push_connections: how many such connections may be open. One more takes the place of that
            which has been without a whole request for longest.
        plain_http: True admits other machines to push_listen without push_ca, also without TLS:
            whoever reaches the port can then speak as the VTN.
    """

    vtn_url: str
    state: str = "dsrsp-openadr.sqlite"
    vtn_ca: str | None = None
    certificates: str | None = None
    vtn_timeout_s: float = 30.0
    vtn_attempts: int = 4
    retry_first_s: float = 1.0
    retry_max_s: float = 60.0
    give_up_s: float = 86_400.0
    poll_interval_s: float = 10.0
    poll_interval_min_s: float = 1.0
    poll_interval_max_s: float = 3600.0
    poll_pause_max_s: float = 300.0
    repeat_after_s: float = 3600.0
    push_listen: str | None = None
    push_url: str | None = None
    push_certificate: str | None = None
    push_key: str | None = None
    push_ca: str | None = None
    push_patience_s: float = 20.0
    body_timeout_s: float = 10.0
    push_idle_timeout_s: float = 75.0
    push_connections: int = 512
    plain_http: bool = False

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
        if self.poll_interval_min_s > self.poll_interval_max_s:
            raise ConfigurationError(
                f"openadr: poll_interval_min_s = {self.poll_interval_min_s:g} is above "
                f"poll_interval_max_s = {self.poll_interval_max_s:g}"
            )
        if not self.vtn_url.startswith(("http://", "https://")):
            raise ConfigurationError(
                f"openadr: vtn_url = {self.vtn_url!r}: expected http://... or https://..., ending "
                "before the service: http://127.0.0.1:8080/OpenADR2/Simple/2.0b"
            )
        if (self.push_listen is None) != (self.push_url is None):
            raise ConfigurationError("openadr: PUSH needs both push_listen and push_url")
        if (self.push_certificate is None) != (self.push_key is None):
            raise ConfigurationError("openadr: TLS needs both push_certificate and push_key")
        if self.push_ca is not None and self.push_certificate is None:
            raise ConfigurationError("openadr: push_ca needs push_certificate and push_key, too")
        if not self.state:
            raise ConfigurationError("openadr: state: give the path of the state file")
