"""The OpenADR face of a CEM: what is answered here, what crosses, what the VEN gets when.

A `Face` takes the VEN's payloads and the VTN's and says what to do, in reactions; the caller does
it, saves `Face.state`, and reports back. Time is an argument, in seconds since 1970.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Final

from cem.openadr.config import OpenAdrConfig
from cem.openadr.core.admission import refusal_of, refuse
from cem.openadr.core.arrivals import Arrivals
from cem.openadr.core.ordering import IsOver, Order, subjects_of
from cem.openadr.core.state import FaceState, Ordered, Told, Waiting
from openadr_xml import ANSWERS, Payload, building

MAX_WAITING: Final = 64
MAX_TOLD: Final = 64

_TRY_AGAIN: Final = "no answer from the VTN yet: send the same request again"


@dataclass(frozen=True, slots=True)
class Answer:
    """Answer the VEN with these octets, and say so to `Face.delivered` when they are written.

    ``queued`` is the number of the queued message that they are; ``waiting`` the key of the
    request whose kept answer they are; ``tells`` says that the VEN need not be asked again to
    register.
    """

    octets: bytes
    queued: int | None = None
    waiting: str | None = None
    tells: bool = False


@dataclass(frozen=True, slots=True)
class Forward:
    """Send the payload to the VTN, tell `Face.sent`, then give the answer or wait for it.

    ``after`` are the messages that must end before the gateway may have it: until then it is held.
    """

    payload: Payload
    key: str
    answer: bytes | None
    subjects: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Wait:
    """The same request is on its way already, in the gateway's message ``ref``: wait for it."""

    key: str
    ref: str


Reaction = Answer | Forward | Wait


class Face(Arrivals):
    """A VTN's side of one VEN, as far as it can be had without the VTN.

    Args:
        config: the settings.
        state: what was remembered; changed in place.
        vtn_id: the vtnID to tell while the VTN's own is not known.
        is_over: tells of a reference whether the gateway waits for nothing more of that message.

    ``order`` is what keeps the order of messages where that counts.
    """

    def __init__(
        self, config: OpenAdrConfig, state: FaceState, *, vtn_id: str, is_over: IsOver
    ) -> None:
        self.state = state
        self.order = Order(state, is_over)
        self.counts: Counter[str] = Counter()
        self._config = config
        self._vtn_id = config.vtn_id or vtn_id
        self._watched: Counter[str] = Counter()
        self._sending: set[str] = set()

    # The VEN asks

    def request(self, payload: Payload, service: str, fingerprint: str, now: float) -> Reaction:
        """Take a payload that a VEN posted.

        Args:
            payload: it.
            service: the address at which it was posted, EiEvent for instance.
            fingerprint: SHA-256 of the VEN's certificate in hexadecimal, "" without.
            now: the time.
        """
        self.counts[f"asked {payload.kind}"] += 1
        self._forget_old(now)
        key = f"{payload.digest.hex()} {fingerprint}".strip()
        # Who asked before may ask again, also where the answer changes who it is.
        refusal = None
        if key not in self.state.waiting or service != payload.service:
            refusal = refusal_of(
                payload,
                service,
                fingerprint,
                binding=self.state.binding,
                config=self._config,
            )
        if refusal is not None:
            self.counts["refused"] += 1
            return Answer(refusal)
        if payload.kind == "oadrPoll":
            return self._poll(now)
        if payload.kind == "oadrQueryRegistration":
            return Answer(self._query(payload))
        if payload.kind == "oadrResponse" and payload.succeeded:
            # A VTN has nothing to say to that, not even in OpenADR.
            return Answer(b"")
        if payload.kind in ANSWERS:
            return self._wait_or_forward(payload, key)
        return self._tell_and_forward(payload)

    def _query(self, payload: Payload) -> bytes:
        state = self.state
        binding = state.binding
        return building.created_party_registration(
            request_id=payload.request_id,
            vtn_id=state.vtn_id or self._vtn_id,
            poll_interval_s=state.poll_interval_s or self._config.poll_interval_s,
            registration_id="" if binding is None else binding.registration_id,
            ven_id="" if binding is None else binding.ven_id,
        )

    def _poll(self, now: float) -> Answer:
        state = self.state
        ven_id = "" if state.binding is None else state.binding.ven_id
        self._begin_resync_if_due(now)
        if state.reregister and not self._is_registering():
            return Answer(building.request_reregistration(ven_id))
        if state.queue:
            return Answer(state.queue[0].octets, queued=state.queue[0].number)
        late = self._late_events()
        if late is not None:
            return Answer(state.waiting[late].answer, waiting=late)
        return Answer(building.response(200, "OK", ven_id=ven_id))

    def _is_registering(self) -> bool:
        return any(
            waiting.kind == "oadrCreatePartyRegistration" and not waiting.answer
            for waiting in self.state.waiting.values()
        )

    def _late_events(self) -> str | None:
        """Find events that the VEN asked for and gave up waiting for."""
        for key, waiting in self.state.waiting.items():
            has_events = b"eventDescriptor" in waiting.answer
            if waiting.kind == "oadrRequestEvent" and has_events and not self._watched[key]:
                return key
        return None

    def _wait_or_forward(self, payload: Payload, key: str) -> Reaction:
        waiting = self.state.waiting.get(key)
        if waiting is None:
            if len(self.state.waiting) >= MAX_WAITING:
                return Answer(refuse(payload, building.OTHER_ERROR, _TRY_AGAIN))
            return self._forward(payload, key, None)
        if not waiting.answer:
            self.counts["joined"] += 1
            return Wait(key, waiting.ref)
        self.counts["answered late"] += 1
        return self.answer_of(key, payload.request_id)

    def _tell_and_forward(self, payload: Payload) -> Reaction:
        answer = self._ok(payload)
        key = f"{payload.digest.hex()} {payload.correlation}"
        if key in self._sending:
            return Answer(refuse(payload, building.OTHER_ERROR, _TRY_AGAIN))
        if self._is_repeated(payload):
            self.counts["repeated"] += 1
            return Answer(answer)
        return self._forward(payload, key, answer)

    def _forward(self, payload: Payload, key: str, answer: bytes | None) -> Reaction:
        subjects = subjects_of(payload)
        if not subjects:
            return Forward(payload, key, answer)
        after = self.order.earlier(subjects)
        if not self.order.has_room(held=bool(after)):
            return Answer(
                refuse(
                    payload,
                    building.OTHER_ERROR,
                    "too many of these are not confirmed yet: send the same request again",
                )
            )
        return Forward(payload, key, answer, subjects, after)

    def _is_repeated(self, payload: Payload) -> bool:
        """Tell whether this is the last that the VEN said to a thing: it may change its mind."""
        for told in reversed(self.state.told):
            same_request = (told.kind, told.request_id) == (payload.kind, payload.correlation)
            if same_request and set(told.events) == {e.event_id for e in payload.events}:
                if told.digest == payload.digest:
                    return True
                if told.events:
                    return False
        return False

    def _ok(self, payload: Payload) -> bytes:
        ven_id = payload.ven_id or (self.state.binding.ven_id if self.state.binding else "")
        if payload.kind == "oadrUpdateReport":
            return building.updated_report(request_id=payload.request_id, ven_id=ven_id)
        if payload.kind == "oadrResponse":
            return b""
        return building.response(200, "OK", request_id=payload.correlation, ven_id=ven_id)

    # The caller reports

    def begun(self, forward: Forward, ref: str, fingerprint: str, now: float) -> None:
        """Take note that a request is about to be sent: the same one must not go twice.

        Args:
            forward: it.
            ref: the reference that it will have in the gateway.
            fingerprint: SHA-256 of the VEN's certificate in hexadecimal, "" without.
            now: the time.
        """
        if forward.subjects:
            self.order.begin(
                Ordered(
                    ref=ref,
                    kind=forward.payload.kind,
                    subjects=forward.subjects,
                    after=forward.after,
                    octets=forward.payload.octets if forward.after else b"",
                    key="" if forward.answer is not None else forward.key,
                )
            )
        if forward.answer is not None:
            self._sending.add(forward.key)
        else:
            payload = forward.payload
            self.state.waiting[forward.key] = Waiting(
                kind=payload.kind,
                request_id=payload.request_id,
                since=now,
                fingerprint=fingerprint,
                push_url="" if payload.pull_model else payload.transport_address,
            )

    def not_sent(self, forward: Forward, ref: str) -> Answer:
        """Take note that it could not be sent; return what to tell the VEN."""
        self.order.dropped(ref)
        self._sending.discard(forward.key)
        self.state.waiting.pop(forward.key, None)
        self.counts["not sent"] += 1
        return Answer(
            refuse(
                forward.payload,
                building.OTHER_ERROR,
                "it cannot be sent just now: send the same request again",
            )
        )

    def sent(self, forward: Forward, ref: str) -> None:
        """Take note that a payload is in the gateway, or held, for good as message ``ref``."""
        payload = forward.payload
        self._sending.discard(forward.key)
        if forward.after:
            self.counts["held"] += 1
        else:
            self.given(ref, payload.kind)
        waiting = self.state.waiting.get(forward.key)
        if forward.answer is None:
            if waiting is not None:
                waiting.ref = ref
            return
        self.state.told.append(
            Told(
                kind=payload.kind,
                request_id=payload.correlation,
                digest=payload.digest,
                report_request_ids=payload.report_request_ids,
                events={e.event_id: e.modification_number for e in payload.events},
            )
        )
        del self.state.told[:-MAX_TOLD]
        if payload.kind == "oadrCanceledPartyRegistration" and payload.succeeded:
            self._unbind_from(payload)

    def given(self, ref: str, kind: str) -> None:
        """Take note that the gateway has a message."""
        self.order.given(ref)
        self.counts[f"crossed {kind}"] += 1

    def forget(self, key: str) -> None:
        """Forget a request that is lost on its way: the next try crosses again."""
        self.state.waiting.pop(key, None)

    def watch(self, key: str, change: int) -> None:
        """Count those who hold a connection open for an answer: +1 when one begins, -1 after."""
        self._watched[key] += change
        if not self._watched[key]:
            del self._watched[key]

    def answer_of(self, key: str, request_id: str) -> Answer:
        """Return the answer to a request that has come, or that none has come yet."""
        waiting = self.state.waiting.get(key)
        if waiting is None or not waiting.answer:
            self.counts["out of patience"] += 1
            return Answer(
                building.response(building.OTHER_ERROR, _TRY_AGAIN, request_id=request_id)
            )
        octets = waiting.answer
        if waiting.request_id != request_id:
            octets = building.with_answered_request_id(octets, request_id)
        return Answer(octets, waiting=key)

    def delivered(self, answer: Answer) -> None:
        """Take note that an answer was written to the VEN."""
        if answer.queued is not None:
            self.state.queue = [q for q in self.state.queue if q.number != answer.queued]
        if answer.tells:
            self.state.reregister = False
        # Another who asked the same, and holds a connection open, gets it as well.
        if answer.waiting is not None and not self._watched[answer.waiting]:
            waiting = self.state.waiting.pop(answer.waiting, None)
            if waiting is not None and waiting.ends_asking:
                self.state.reregister = False

    def has_answer(self, key: str) -> bool:
        """Tell whether the answer to a request has come, or none will come any more."""
        waiting = self.state.waiting.get(key)
        return waiting is None or bool(waiting.answer)

    def next_push(self, now: float) -> tuple[str, Answer, str] | None:
        """Return what a VEN of the PUSH model is to be sent: base address, what, its kind."""
        state = self.state
        binding = state.binding
        if binding is None or not binding.push_url:
            return None
        self._begin_resync_if_due(now)
        if state.reregister and not self._is_registering():
            asks = Answer(building.request_reregistration(binding.ven_id), tells=True)
            return binding.push_url, asks, "oadrRequestReregistration"
        if state.queue:
            head = state.queue[0]
            return binding.push_url, Answer(head.octets, queued=head.number), head.kind
        late = self._late_events()
        if late is not None:
            events = Answer(state.waiting[late].answer, waiting=late)
            return binding.push_url, events, "oadrDistributeEvent"
        return None

    @property
    def bound_fingerprint(self) -> str:
        """The certificate of the registered VEN, "" without."""
        return "" if self.state.binding is None else self.state.binding.fingerprint

    def recover(self) -> None:
        """After a restart, forget requests of which it is not known whether they were sent."""
        for key, waiting in list(self.state.waiting.items()):
            if not waiting.ref:
                del self.state.waiting[key]

    def status(self) -> dict[str, Any]:
        """Return what stands, as plain JSON values, without secrets."""
        state = self.state
        binding = state.binding
        return {
            "registered": binding is not None,
            "ven_id": "" if binding is None else binding.ven_id,
            "vtn_id": state.vtn_id,
            "poll_interval_s": state.poll_interval_s,
            "asked_to_register_again": state.reregister,
            "requests_without_answer": [w.kind for w in state.waiting.values() if not w.answer],
            "answers_not_fetched": [w.kind for w in state.waiting.values() if w.answer],
            "held_for_order": [held.kind for held in self.order.held.values()],
            "queued_for_polls": [queued.kind for queued in state.queue],
            "counts": dict(sorted(self.counts.items())),
        }

    def _forget_old(self, now: float) -> None:
        config = self._config
        for key, waiting in list(self.state.waiting.items()):
            kept_since = waiting.answered_at if waiting.answer else waiting.since
            limit = config.keep_answers_s if waiting.answer else config.unanswered_s
            # A clock that was set back keeps nothing for ever.
            if not 0 <= now - kept_since < limit and not self._watched[key]:
                del self.state.waiting[key]
