"""What the DSRSP's OpenADR face must remember of one CEM, over restarts too."""

from __future__ import annotations

import msgspec


class Forwarded(msgspec.Struct, kw_only=True):
    """The last message of its kind that the VTN gave: what it says, and when, since 1970."""

    digest: bytes
    at: float


class VenState(msgspec.Struct, kw_only=True):
    """The state of one CEM's VEN.

    Attributes:
        ven_id: the venID that the VTN gave; "" while it is not registered.
        registration_id: the registrationID of the same.
        vtn_id: what the VTN calls itself.
        poll_interval_s: what the VTN wants between polls; 0: not told.
        outbox: payloads for the VEN that the gateway has not taken yet, oldest first.
        done: references of received messages whose effect is in here, or further, already.
        forwarded: by the kind of payload.
        reregistration_asked: whether the VEN was told to register again, and has not yet.
    """

    ven_id: str = ""
    registration_id: str = ""
    vtn_id: str = ""
    poll_interval_s: float = 0.0
    outbox: list[bytes] = []
    done: list[str] = []
    forwarded: dict[str, Forwarded] = {}
    reregistration_asked: bool = False
