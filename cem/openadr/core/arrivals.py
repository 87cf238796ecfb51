"""What comes from the VTN: answers to those who wait, messages for polls, late refusals."""

from __future__ import annotations

from collections import Counter
from typing import Final

from cem.openadr.config import OpenAdrConfig
from cem.openadr.core.state import Binding, FaceState, Queued, Told, Waiting
from openadr_xml import ANSWERS, FROM_VTN, Payload, building

MAX_EVENTS: Final = 256

_RESYNC_PAUSE_S: Final = 3600.0
"""An hour at least between two re-registrations for a refused oadrCreatedEvent: the VTN may refuse
the next one as well."""


class Arrivals:
    """The half of a `Face` that takes the VTN's payloads."""

    state: FaceState
    counts: Counter[str]
    _config: OpenAdrConfig
    _watched: Counter[str]

    def is_for_polls(self, payload: Payload) -> bool:
        """Tell whether a message needs room: it answers nobody who waits."""
        return payload.kind in FROM_VTN and self._answered(payload) is None

    def has_room(self) -> bool:
        """Tell whether another message may come for the VEN."""
        return len(self.state.queue) < self._config.queued_messages

    def receive(self, payload: Payload, now: float) -> str:
        """Take a payload from the VTN.

        Returns:
            The gateway's reference of the request that it answers, "" if that is not known.
        """
        self.counts[f"came {payload.kind}"] += 1
        if payload.kind == "oadrDistributeEvent":
            self.state.resync_at = 0.0
        key = self._answered(payload)
        if key is not None:
            return self._answer(key, payload, now)
        if payload.kind == "oadrRequestReregistration":
            self._reregister(payload, now)
        elif payload.kind in FROM_VTN:
            self._enqueue(payload)
        else:
            self._late_answer(payload, now)
        return ""

    def _answered(self, payload: Payload) -> str | None:
        """Find the request that a payload answers: by requestID, else the oldest that fits."""
        unanswered = {k: w for k, w in self.state.waiting.items() if not w.answer}
        fitting = [
            key
            for key, waiting in unanswered.items()
            if payload.kind == "oadrResponse" or payload.kind in ANSWERS[waiting.kind]
        ]
        for key in fitting:
            if payload.answered_request_id == unanswered[key].request_id:
                return key
        if payload.kind == "oadrResponse" or not fitting:
            return None
        # Events are the same in whichever answer they come; the rest comes in order. But an
        # answer that names its request is not for another one.
        nameless = not payload.answered_request_id
        return fitting[0] if nameless or payload.kind == "oadrDistributeEvent" else None

    def _answer(self, key: str, payload: Payload, now: float) -> str:
        waiting = self.state.waiting[key]
        waiting.answer = payload.octets
        waiting.answered_at = now
        self._note_events(payload)
        if payload.kind == "oadrCreatedPartyRegistration" and payload.succeeded:
            if self._is_of_another(waiting):
                waiting.answer = building.response(
                    building.NOT_AUTHORIZED,
                    "a VEN with another certificate has registered meanwhile",
                    request_id=waiting.request_id,
                )
            else:
                self._bind(payload, waiting, fetched=bool(self._watched[key]))
        elif payload.kind == "oadrCanceledPartyRegistration" and payload.succeeded:
            self._unbind_from(payload)
        return waiting.ref

    def _is_of_another(self, waiting: Waiting) -> bool:
        """Tell whether who registers is not the VEN that registered first."""
        binding = self.state.binding
        return binding is not None and binding.fingerprint not in ("", waiting.fingerprint)

    def _bind(self, payload: Payload, waiting: Waiting, *, fetched: bool) -> None:
        state = self.state
        state.vtn_id = payload.vtn_id or state.vtn_id
        state.poll_interval_s = payload.poll_interval_s or state.poll_interval_s
        if not payload.ven_id or not payload.registration_id:
            return  # so a VTN says that it does not want this VEN
        if state.binding is not None and state.binding.ven_id != payload.ven_id:
            self._unbind()
        state.binding = Binding(
            ven_id=payload.ven_id,
            registration_id=payload.registration_id,
            fingerprint=waiting.fingerprint,
            push_url=waiting.push_url,
        )
        state.resync_at = 0.0
        # A registration that came too late the VEN fetches when it is asked to register.
        waiting.ends_asking = True
        state.reregister = not fetched

    def _unbind_from(self, payload: Payload) -> None:
        """End a registration, unless a newer one has overtaken its end."""
        binding = self.state.binding
        if binding is not None and payload.registration_id in ("", binding.registration_id):
            self._unbind()

    def _unbind(self) -> None:
        state = self.state
        state.binding = None
        state.reregister = False
        state.resync_at = 0.0
        state.queue.clear()
        state.told.clear()
        # Nobody waits for what is held with an answer given already, and the VTN wants none of it.
        state.ordered = [known for known in state.ordered if not known.octets or known.key]
        state.event_versions.clear()

    def _reregister(self, payload: Payload, now: float) -> None:
        """Have the VEN register again; also answer who waits: nothing else will come."""
        self._ask_reregistration()
        for waiting in self.state.waiting.values():
            if not waiting.answer and waiting.kind != "oadrCreatePartyRegistration":
                waiting.answer = payload.octets
                waiting.answered_at = now

    def _ask_reregistration(self) -> None:
        self.state.reregister = self.state.binding is not None
        for waiting in self.state.waiting.values():
            waiting.ends_asking = False

    def _enqueue(self, payload: Payload, octets: bytes | None = None, kind: str = "") -> None:
        state = self.state
        content = payload.octets if octets is None else octets
        if any(queued.octets == content for queued in state.queue):
            self.counts["dropped: again"] += 1
            return
        if self._is_overtaken(payload):
            self.counts["dropped: overtaken"] += 1
            return
        self._note_events(payload)
        number, state.next_number = state.next_number, state.next_number + 1
        state.queue.append(Queued(number=number, kind=kind or payload.kind, octets=content))

    def _is_overtaken(self, payload: Payload) -> bool:
        """Tell whether newer versions of all its events have come: the tunnel keeps no order."""
        versions = self.state.event_versions
        return (
            payload.kind == "oadrDistributeEvent"
            and bool(payload.events)
            and all(e.modification_number < versions.get(e.event_id, 0) for e in payload.events)
        )

    def _note_events(self, payload: Payload) -> None:
        if payload.kind != "oadrDistributeEvent":
            return
        versions = self.state.event_versions
        for event in payload.events:
            newest = max(event.modification_number, versions.pop(event.event_id, 0))
            versions[event.event_id] = newest
        for event_id in list(versions)[:-MAX_EVENTS]:
            del versions[event_id]

    # What the VTN says to a message that was answered here already

    def _late_answer(self, payload: Payload, now: float) -> None:
        told = self._told_of(payload)
        if payload.kind == "oadrUpdatedReport" and payload.cancels_reports:
            ven_id = payload.ven_id or (self.state.binding.ven_id if self.state.binding else "")
            cancel = building.unwrap_cancel_report(payload.octets, ven_id=ven_id)
            self._enqueue(payload, cancel, "oadrCancelReport")
        elif payload.response_code == building.NOT_AUTHORIZED:
            self._ask_reregistration()
        elif payload.response_code >= 300 and told is not None:
            self._refused(payload, told, now)
        else:
            self.counts["dropped: answers nothing"] += 1

    def _told_of(self, payload: Payload) -> Told | None:
        # An oadrUpdatedReport answers no event, even where one id was used for both.
        for told in reversed(self.state.told):
            reports_only = payload.kind == "oadrUpdatedReport" and told.kind != "oadrUpdateReport"
            if told.request_id == payload.answered_request_id and not reports_only:
                return told
        return None

    def _refused(self, payload: Payload, told: Told, now: float) -> None:
        self.counts[f"refused late {told.kind}"] += 1
        ven_id = self.state.binding.ven_id if self.state.binding else ""
        if told.kind in ("oadrUpdateReport", "oadrCreatedReport") and told.report_request_ids:
            cancel = building.cancel_report(
                f"refused-{told.request_id}", told.report_request_ids, ven_id=ven_id
            )
            self._enqueue(payload, cancel, "oadrCancelReport")
        elif told.kind == "oadrUpdateReport":
            self.state.reregister = True
        elif told.kind == "oadrCreatedEvent" and not self._is_answer_to_old_version(told):
            self.state.resync_at = now + self._config.refusal_grace_s

    def _is_answer_to_old_version(self, told: Told) -> bool:
        versions = self.state.event_versions
        return any(versions.get(event, -1) > number for event, number in told.events.items())

    def _begin_resync_if_due(self, now: float) -> None:
        """Have the VEN register again, and so ask for all events, when the grace has passed."""
        state = self.state
        if not state.resync_at or now < state.resync_at:
            return
        state.resync_at = 0.0
        if not state.resynced_at or not 0 <= now - state.resynced_at < _RESYNC_PAUSE_S:
            state.resynced_at = now
            state.reregister = True
