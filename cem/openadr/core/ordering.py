"""Which messages must reach the VTN in the order in which the VEN said them.

The tunnel keeps no order. Where the last word counts, a newer message is held until the older one
about the same subject has ended in the gateway: confirmed, or failed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from cem.openadr.core.state import FaceState, Ordered
from openadr_xml import Payload

MAX_HELD: Final = 16
"""So many messages are held at most: they are in the face's own state, which is written whole."""

MAX_UNCONFIRMED: Final = 256
"""So many messages whose order counts are on their way at most."""

IsOver = Callable[[str], bool]
"""Tells of a reference whether the gateway waits for nothing more of that message."""


def subjects_of(payload: Payload) -> tuple[str, ...]:
    """Return what a message of the VEN says something about that a later one can change.

    Only where the VTN cannot tell by itself which one is newer: answers to different versions of
    an event differ by modificationNumber, registrations by registrationID, and what answers a
    request of the VTN names it. Holding has its price, the time until the receipt comes.
    """
    found: list[str] = []
    if payload.kind in ("oadrCreatedEvent", "oadrCreateOpt"):
        found += [f"event {e.event_id} version {e.modification_number}" for e in payload.events]
    if payload.kind in ("oadrCreateOpt", "oadrCancelOpt"):
        found.append(f"opt {payload.opt_id}")
    if payload.kind in ("oadrCreateReport", "oadrCancelReport"):
        found += [f"report {name}" for name in payload.report_request_ids]
    if payload.kind == "oadrRegisterReport":
        found.append("reports offered")
    return tuple(dict.fromkeys(found))


class Order:
    """Keeps ``FaceState.ordered``: what is on its way, or held, and what it is about.

    Args:
        state: where it is kept; changed in place.
        is_over: asks the gateway.
    """

    def __init__(self, state: FaceState, is_over: IsOver) -> None:
        self._state = state
        self._gateway_is_done_with = is_over
        self._being_given: set[str] = set()

    def earlier(self, subjects: Iterable[str]) -> tuple[str, ...]:
        """Return the references of the messages that one about these subjects must wait for."""
        self._state.ordered = [known for known in self._state.ordered if not self._is_over(known)]
        # The newest about a subject waits for those before it.
        newest = {about: known.ref for known in self._state.ordered for about in known.subjects}
        return tuple(dict.fromkeys(newest[about] for about in subjects if about in newest))

    def has_room(self, *, held: bool) -> bool:
        """Tell whether another message can be taken, to be held or not."""
        if held and len(self.held) >= MAX_HELD:
            return False
        return len(self._state.ordered) < MAX_UNCONFIRMED

    def begin(self, message: Ordered) -> None:
        """Take note of a message that is held, or about to be given to the gateway."""
        self._state.ordered.append(message)
        if not message.octets:
            self._being_given.add(message.ref)

    def given(self, ref: str) -> None:
        """Take note that the gateway has a message."""
        self._being_given.discard(ref)
        for known in self._state.ordered:
            if known.ref == ref:
                known.octets = b""

    def dropped(self, ref: str) -> None:
        """Forget a message that does not cross."""
        self._being_given.discard(ref)
        self._state.ordered = [known for known in self._state.ordered if known.ref != ref]

    @property
    def held(self) -> dict[str, Ordered]:
        """What is held, by its reference."""
        return {known.ref: known for known in self._state.ordered if known.octets}

    def is_in_hand(self, ref: str) -> bool:
        """Tell whether the gateway does not have a message yet: it is held, or being given."""
        return ref in self._being_given or ref in self.held

    def _is_over(self, known: Ordered) -> bool:
        return not self.is_in_hand(known.ref) and self._gateway_is_done_with(known.ref)
