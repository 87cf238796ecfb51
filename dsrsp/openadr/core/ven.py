"""One CEM's VEN, as its VTN sees it: what is posted, and which answers cross to the CEM.

A `Ven` says what to do; the caller does it and saves `Ven.state`. What crosses are the octets of
the VTN; only an eiResponse without the requestID of its request is given it here, at the edge,
because the other end finds the request by it. Time is an argument, in seconds since 1970.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dsrsp.openadr.config import OpenAdrConfig
from dsrsp.openadr.core.state import Forwarded, VenState
from openadr_xml import ANSWERS, FROM_VTN, TOLD_AT_ONCE, Payload, PayloadRefused, building

_UNDONE_BY: Final = {
    "oadrCreateReport": "oadrCancelReport",
    "oadrCancelReport": "oadrCreateReport",
}


@dataclass(frozen=True, slots=True)
class Post:
    """Post these octets to the VTN's service."""

    service: str
    octets: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """Post nothing; ``answer`` goes to the VEN, nothing if it is empty."""

    answer: bytes
    why: str


class Ven:
    """The VEN of one CEM.

    Args:
        config: the settings.
        state: what was remembered; changed in place.
        owner_of: tells which CEM has a venID, by its EUI; None: none.
        registrant_of: the same for a registrationID.
        device: the EUI of this CEM.

    ``registrations`` counts those that the VTN has accepted since the start.
    """

    def __init__(
        self,
        config: OpenAdrConfig,
        state: VenState,
        *,
        device: str,
        owner_of: Callable[[str], str | None],
        registrant_of: Callable[[str], str | None],
    ) -> None:
        self.state = state
        self.counts: Counter[str] = Counter()
        self.registrations = 0
        self._config = config
        self._device = device
        self._owner_of = owner_of
        self._registrant_of = registrant_of

    @property
    def registered(self) -> bool:
        """Whether the VTN has given a venID."""
        return bool(self.state.ven_id)

    @property
    def poll_interval_s(self) -> float:
        """The time between two polls, in seconds: as the VTN wants it, within the bounds."""
        wished = self.state.poll_interval_s
        if not wished:
            return self._config.poll_interval_s
        at_least = max(wished, self._config.poll_interval_min_s)
        return min(at_least, self._config.poll_interval_max_s)

    # From the VEN

    def plan(self, payload: Payload) -> Post | Refused:
        """Decide what becomes of a payload of the VEN."""
        self.counts[f"from VEN {payload.kind}"] += 1
        if payload.kind not in ANSWERS and not _is_told_at_once(payload):
            return Refused(b"", f"{payload.kind} is nothing that a VEN's gateway sends")
        if payload.ven_id:
            if self.state.ven_id not in ("", payload.ven_id):
                return self._refuse(
                    payload, building.INVALID_ID, "this venID is not that of the VEN of this CEM"
                )
            if self._owner_of(payload.ven_id) not in (None, self._device):
                return self._refuse(payload, building.NOT_AUTHORIZED, "this venID is another CEM's")
            if not self.registered and payload.service != "EiRegisterParty":
                # After a registration that has ended, or when our state was lost.
                asked, self.state.reregistration_asked = self.state.reregistration_asked, True
                if asked and _is_told_at_once(payload):
                    return Refused(b"", "it has to register first, and was told")
                return Refused(building.request_reregistration(payload.ven_id), "not registered")
        stranger = self._refusal_of_registration(payload) or self._refusal_of_signed(payload)
        if stranger is not None:
            return stranger
        octets = payload.octets
        if payload.kind == "oadrCreatePartyRegistration":
            octets = self._with_our_transport(payload)
        return Post(payload.service, octets)

    def _refusal_of_registration(self, payload: Payload) -> Refused | None:
        if payload.kind not in ("oadrCreatePartyRegistration", "oadrCancelPartyRegistration"):
            return None
        number = payload.registration_id
        if number and self._registrant_of(number) not in (None, self._device):
            return self._refuse(
                payload, building.NOT_AUTHORIZED, "this registrationID is another CEM's"
            )
        if payload.kind == "oadrCancelPartyRegistration" and not self._is_present(number):
            return self._refuse(
                payload, building.INVALID_ID, "a newer registration has taken its place"
            )
        return None

    def _refusal_of_signed(self, payload: Payload) -> Refused | None:
        """Refuse a signed registration that the VTN could not use as it is."""
        if payload.kind != "oadrCreatePartyRegistration" or not payload.signed:
            return None
        if self._config.push_url is None and payload.pull_model:
            return None
        way = "is polled" if self._config.push_url is None else "pushes"
        return self._refuse(
            payload,
            building.COMPLIANCE_ERROR,
            f"the VTN {way}, so oadrHttpPullModel and oadrTransportAddress must be set for it on "
            "the way, which would break the XML signature: register without signature"
            + (", or with oadrHttpPullModel true" if self._config.push_url is None else ""),
        )

    def _is_present(self, registration_id: str) -> bool:
        """Tell whether this is about the registration that stands: messages can overtake."""
        return not self.registered or registration_id in ("", self.state.registration_id)

    def is_of_another(self, answer: Payload | None) -> bool:
        """Tell whether the VTN gives a CEM that registers the venID of another CEM."""
        return (
            answer is not None
            and answer.kind == "oadrCreatedPartyRegistration"
            and bool(answer.ven_id)
            and self._owner_of(answer.ven_id) not in (None, self._device)
        )

    def _with_our_transport(self, payload: Payload) -> bytes:
        """Return a registration as a VEN's that the VTN reaches here, and not in the home."""
        try:
            if self._config.push_url is not None:
                address = f"{self._config.push_url.rstrip('/')}/{self._device}"
                return building.with_transport(
                    payload.octets, pull_model=False, address=f"{address}/OpenADR2/Simple/2.0b"
                )
            if not payload.pull_model:
                return building.with_transport(payload.octets, pull_model=True, address=None)
        except PayloadRefused:
            pass  # the VTN will say what is wrong with it
        return payload.octets

    def _refuse(self, payload: Payload, code: int, why: str) -> Refused:
        self.counts["refused"] += 1
        if payload.kind == "oadrResponse":
            return Refused(b"", why)
        return Refused(self.own_answer(payload, code, why), why)

    def own_answer(self, payload: Payload, code: int, why: str) -> bytes:
        """Return an oadrResponse in the VTN's place."""
        return building.response(
            code, why, request_id=payload.correlation, ven_id=self.state.ven_id
        )

    # From the VTN

    def answered(self, request: Payload, answer: Payload | None, now: float) -> bytes:
        """Take the VTN's answer to a payload of the VEN.

        Args:
            request: the payload that was posted.
            answer: what came; None: nothing, with status 200.
            now: the time.

        Returns:
            What crosses to the VEN, b"" if nothing.
        """
        if self.is_of_another(answer):
            self.counts["refused"] += 1
            return self.own_answer(request, building.NOT_AUTHORIZED, "this venID is another CEM's")
        self._note_registration(request, answer)
        if request.kind in ANSWERS:
            if answer is None:
                return self.own_answer(request, building.OTHER_ERROR, "the VTN answered nothing")
            if answer.kind == "oadrRequestReregistration":
                self.state.reregistration_asked = True
            if answer.kind == "oadrDistributeEvent":
                self._note_forwarded(answer, now)
            return self._named(request, answer)
        if answer is None or (answer.succeeded and not answer.cancels_reports):
            self.counts["elided"] += 1
            return b""
        if answer.kind == "oadrRequestReregistration" or (
            answer.response_code == building.NOT_AUTHORIZED
        ):
            return self._ask_reregistration(answer.octets)
        return self._named(request, answer)

    def polled(self, answer: Payload | None, now: float) -> bytes:
        """Take what the VTN said to a poll, or pushed; return what crosses, b"" if nothing."""
        if answer is None or (answer.succeeded and answer.kind == "oadrResponse"):
            return b""
        self.counts[f"from VTN {answer.kind}"] += 1
        if answer.kind == "oadrRequestReregistration":
            return self._ask_reregistration(answer.octets)
        if answer.response_code == building.NOT_AUTHORIZED:
            return self._ask_reregistration(answer.octets)
        if answer.response_code == building.INVALID_ID:
            # The venID is all that a poll says.
            asks = building.request_reregistration(self.state.ven_id)
            return self._ask_reregistration(asks)
        if answer.kind not in FROM_VTN:
            self.counts["refused by VTN"] += 1
            return b""
        if self._is_repeated(answer, now):
            self.counts["dropped: again"] += 1
            return b""
        self._note_forwarded(answer, now)
        return answer.octets

    def _named(self, request: Payload, answer: Payload) -> bytes:
        """Return the answer, with the requestID of its request."""
        correlation = request.correlation
        if not answer.response_code or not correlation:
            return answer.octets
        if answer.answered_request_id == correlation:
            return answer.octets
        return building.with_answered_request_id(answer.octets, correlation)

    def _ask_reregistration(self, octets: bytes) -> bytes:
        """Pass on, once, that the VEN must register again; the VTN says it again and again."""
        if self.state.reregistration_asked:
            self.counts["dropped: again"] += 1
            return b""
        self.state.reregistration_asked = True
        return octets

    def _note_registration(self, request: Payload, answer: Payload | None) -> None:
        state = self.state
        if request.kind == "oadrCanceledPartyRegistration" and request.succeeded:
            self._unregister_from(request)
        if answer is None or not answer.succeeded:
            return
        if answer.kind == "oadrCanceledPartyRegistration":
            self._unregister_from(answer)
        if answer.kind != "oadrCreatedPartyRegistration":
            return
        if not answer.ven_id or not answer.registration_id:
            return  # so a VTN says that it does not want this VEN
        self.registrations += 1
        state.ven_id = answer.ven_id
        state.registration_id = answer.registration_id
        state.vtn_id = answer.vtn_id
        state.poll_interval_s = answer.poll_interval_s or 0.0
        state.reregistration_asked = False
        state.forwarded.clear()

    def _unregister_from(self, payload: Payload) -> None:
        if not self._is_present(payload.registration_id):
            return
        self.state.ven_id = self.state.registration_id = ""
        self.state.reregistration_asked = False
        self.state.forwarded.clear()

    def _is_repeated(self, answer: Payload, now: float) -> bool:
        last = self.state.forwarded.get(answer.kind)
        if last is None or last.digest != answer.digest:
            return False
        return 0 <= now - last.at < self._config.repeat_after_s

    def _note_forwarded(self, answer: Payload, now: float) -> None:
        # A report that was cancelled can be asked for again, and cancelled again.
        self.state.forwarded.pop(_UNDONE_BY.get(answer.kind, ""), None)
        self.state.forwarded[answer.kind] = Forwarded(digest=answer.digest, at=now)


def _is_told_at_once(payload: Payload) -> bool:
    """Tell whether the VEN was answered OK before; an oadrResponse expects no answer at all."""
    return payload.kind in TOLD_AT_ONCE or payload.kind == "oadrResponse"
