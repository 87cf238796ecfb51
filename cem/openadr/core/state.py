"""All that the CEM's OpenADR face must remember, over restarts too."""

from __future__ import annotations

import msgspec


class Binding(msgspec.Struct, kw_only=True):
    """The VEN that is registered. ``fingerprint`` is SHA-256 of its certificate, "" without TLS.

    ``push_url`` is where it wants its messages, "" when it polls.
    """

    ven_id: str
    registration_id: str
    fingerprint: str = ""
    push_url: str = ""


class Waiting(msgspec.Struct, kw_only=True):
    """A request that crossed and whose answer the VEN waits for, or has not fetched yet.

    ``since`` and ``answered_at`` are seconds since 1970; ``ref`` names it in the gateway;
    ``ends_asking``: it is the registration after which the VEN need not be asked for another.
    """

    kind: str
    request_id: str
    since: float
    fingerprint: str = ""
    push_url: str = ""
    ref: str = ""
    answer: bytes = b""
    answered_at: float = 0.0
    ends_asking: bool = False


class Told(msgspec.Struct, kw_only=True):
    """A message that crossed and was answered here with OK, before the VTN knew of it."""

    kind: str
    request_id: str
    digest: bytes
    report_request_ids: tuple[str, ...] = ()
    events: dict[str, int] = {}


class Ordered(msgspec.Struct, kw_only=True):
    """A message of the VEN that must not overtake others, nor be overtaken by them.

    ``ref`` is its reference in the gateway, known before the gateway has it; ``subjects`` what it
    is about; ``after`` the messages that must end before it is given to the gateway. ``octets``
    are there while it is held; ``key`` is that of the request in `FaceState.waiting`, if it is one.
    """

    ref: str
    kind: str
    subjects: tuple[str, ...]
    after: tuple[str, ...] = ()
    octets: bytes = b""
    key: str = ""


class Queued(msgspec.Struct, kw_only=True):
    """A message of the VTN that waits until the VEN polls."""

    number: int
    kind: str
    octets: bytes


class FaceState(msgspec.Struct, kw_only=True):
    """The whole state.

    Attributes:
        vtn_id: what the VTN calls itself; "" until it has told.
        poll_interval_s: what the VTN wants of a VEN that polls; 0: not told.
        binding: the registered VEN.
        waiting: requests by the digest of what they say, and who says it.
        told: the last messages that were answered here.
        ordered: messages on their way, or held, whose order counts, oldest first.
        queue: what waits for polls, oldest first.
        next_number: of the next queued message.
        event_versions: newest modification number that came, by eventID.
        reregister: whether polls are answered with oadrRequestReregistration.
        resync_at: when that begins if no newer event comes, in seconds since 1970; 0: not.
        resynced_at: when it last began for that reason.
    """

    vtn_id: str = ""
    poll_interval_s: float = 0.0
    binding: Binding | None = None
    waiting: dict[str, Waiting] = {}
    told: list[Told] = []
    ordered: list[Ordered] = []
    queue: list[Queued] = []
    next_number: int = 1
    event_versions: dict[str, int] = {}
    reregister: bool = False
    resync_at: float = 0.0
    resynced_at: float = 0.0
