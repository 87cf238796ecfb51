"""The DCC adaptor: takes one request through its states, with I/O where its table asks for it.

All decisions are in `dsrsp.core.request`; here are the posts, the pauses and the deadlines.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from dsrsp.brake import Brake
from dsrsp.config import DsrspConfig
from dsrsp.core.correlation import correlate
from dsrsp.core.own_identity import what_we_have
from dsrsp.core.refusals import HEALING_CODES, UNREAD_CODES, explain_code
from dsrsp.core.request import Action, Input, Request, State
from dsrsp.errors import (
    AnswerNotBelieved,
    CorrelationFailed,
    DccUnreachable,
    SignerUnavailable,
    SigningFailed,
)
from dsrsp.ports import DccClient, Service
from dsrsp.reach import Reach
from dsrsp.signing import SupplierSigner, signed
from gbcs.certificates import Role
from gbcs.duis import (
    AcknowledgementBody,
    ErrorBody,
    PreCommandBody,
    RequestId,
    SignedPreCommandBody,
    UpdateAlcDescriptions,
    XmlSigner,
    build_request,
    parse_untrusted_response,
)
from gbcs.duis import Request as DuisRequest
from gbcs.duis import Response as DuisResponse
from gbcs.errors import CertificateError, DuisError, GbcsError
from gbcs.keystore import KeyStore
from gbcs.messages import PreCommand, SignedPreCommand
from gbcs.ports import Clock, Randomness

logger = logging.getLogger("dsrsp")

T = TypeVar("T")

_TRANSFORM_VARIANT = 4
_SEND_VARIANT = 5


class Ending:
    """Whether news has ended a request; breaks off what its task waits for.

    One time limit serves the deadline and the news: a second task that waits for the news would
    cost more than the exchange with the DCC that it watches.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._limit: asyncio.Timeout | None = None

    def is_set(self) -> bool:
        """Whether the request has ended."""
        return self._is_set

    def set(self) -> None:
        """End the request: the limit that is watched expires now."""
        self._is_set = True
        limit = self._limit
        if limit is not None and not limit.expired():
            limit.reschedule(asyncio.get_running_loop().time())

    def watch(self, limit: asyncio.Timeout | None) -> None:
        """Let this limit, and no earlier one, expire when the request ends."""
        self._limit = limit


@dataclass(slots=True)
class LiveRequest:
    """A request that is being worked on.

    ``ended`` is set when news from the receive address has ended it; ``trouble`` is the last
    thing that went wrong, told when the time is up; ``unread`` counts how often the DCC could not
    read what was posted. A repeated transform has the octets of
    the first, kept in ``transform_request``; no counter is signed twice in one process, for
    ``signed_pre_command`` is kept while it is not stored. ``resumed`` is True when an earlier
    process, or an earlier try, may have had it transformed.
    """

    request: Request
    resumed: bool = False
    ended: Ending = field(default_factory=Ending)
    transform_request: bytes | None = None
    signed_pre_command: SignedPreCommand | None = None
    pre_command: bytes = b""
    failures: int = 0
    unread: int = 0
    trouble: str | None = None


class _TimeUp(Exception):
    """The deadline of a request has passed."""


class _Ended(Exception):
    """News from the receive address has ended the request."""


class Adaptor:
    """Runs requests against the DCC.

    Args:
        config: the gateway's settings.
        keystore: has the DCC's XML-signing certificate.
        dcc: posts to the DCC.
        signer: the supplier's digital-signature key.
        xml_signer: the supplier's XML-signing key.
        wall: the wall clock: certificates are valid, or not, by it.
        clock: what deadlines are measured by; see `gbcs.steady`.
        random_octets: for the jitter of pauses.
        apply: gives a request an input; stores what must be stored and tells the message.
            ``apply(request, input, **news) -> Action``; raises StorageError with nothing changed.
        brake: is waited for before each signature.
    """

    def __init__(
        self,
        config: DsrspConfig,
        *,
        keystore: KeyStore,
        dcc: DccClient,
        signer: SupplierSigner,
        xml_signer: XmlSigner,
        wall: Clock,
        clock: Clock,
        random_octets: Randomness,
        apply: Callable[..., Action],
        brake: Brake,
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._dcc = dcc
        self._signer = signer
        self._xml_signer = xml_signer
        self._wall = wall
        self._clock = clock
        self._random_octets = random_octets
        self._apply = apply
        self._brake = brake
        self._reach = Reach(clock)

    async def run(self, live: LiveRequest) -> None:
        """Take a request from where it stands to its end.

        Raises:
            StorageError: its state could not be stored; begin again from the stored state.
        """
        request = live.request
        if request.final:
            return
        if request.state is State.RESERVED:
            deadline = self._clock() + self._config.transform_timeout_s
            action = self._apply(request, Input.BEGIN, deadline=deadline)
        else:
            # The DCC may be about to post what it could not while we were away.
            grace = self._clock() + self._config.resume_grace_s
            deadline = grace if request.deadline is None else max(request.deadline, grace)
            action = self._apply(request, Input.RESUME, deadline=deadline)
        while not request.final:
            try:
                action = await self._do(live, action)
            except _TimeUp:
                action = self._apply(request, Input.TIMER, reason=self._time_up_reason(live))
            except _Ended:
                return

    async def _do(self, live: LiveRequest, action: Action) -> Action:
        if action is Action.TRANSFORM:
            return await self._transform(live)
        if action is Action.CORRELATE:
            return await self._correlate_and_sign(live)
        if action is Action.KEEP:  # stored by now
            return self._apply(live.request, Input.KEPT)
        if action is Action.SEND:
            return await self._send(live)
        await self._within(live, _for_ever)
        raise _Ended

    # The two exchanges

    async def _transform(self, live: LiveRequest) -> Action:
        request = live.request
        asked = request.pre_command
        if live.transform_request is None:
            body = UpdateAlcDescriptions(asked.labels)
            live.transform_request = self._build(request, _TRANSFORM_VARIANT, body)
        answer = await self._exchange(live, Service.TRANSFORM, live.transform_request)
        if answer is None:
            return self._apply(request, Input.NO_ANSWER)
        if isinstance(answer.body, PreCommandBody):
            live.failures = 0
            live.pre_command = answer.body.gbcs_payload
            return self._apply(request, Input.PRE_COMMAND)
        if isinstance(answer.body, ErrorBody):
            repeated = live.resumed or live.failures > 0
            return self._refused(live, answer.response_code, repeated=repeated)
        return self._no_answer(live, f"a {type(answer.body).__name__} instead of a pre-command")

    async def _send(self, live: LiveRequest) -> Action:
        request = live.request
        if request.signed_request is None:
            raise SigningFailed(f"request {request.originator_counter} has nothing to send")
        answer = await self._exchange(live, Service.SEND, request.signed_request)
        if answer is None:
            return self._apply(request, Input.NO_ANSWER)
        if isinstance(answer.body, AcknowledgementBody):
            return self._apply(request, Input.ACKNOWLEDGED)
        if isinstance(answer.body, ErrorBody):
            return self._refused(live, answer.response_code, repeated=request.posts > 1)
        return self._no_answer(
            live, f"a {type(answer.body).__name__} instead of an acknowledgement"
        )

    async def _exchange(
        self, live: LiveRequest, service: Service, octets: bytes
    ) -> DuisResponse | None:
        """Post once, after a pause if it failed before; None: no answer that can be believed."""
        if live.failures:
            pause_s = self._pause_s(live.failures)
            await self._within(live, lambda: asyncio.sleep(pause_s))
        began = self._clock()
        try:
            answer = await self._within(live, lambda: self._dcc.post(service, octets))
            self._reach.answered()
            return self._believe(live.request, answer)
        except DccUnreachable as error:
            counter = live.request.originator_counter
            told = self._reach.lost(counter, began, str(error))
            self._note_trouble(live, str(error), logging.DEBUG if told else logging.WARNING)
        except AnswerNotBelieved as error:
            self._note_trouble(live, str(error))
        return None

    def _no_answer(self, live: LiveRequest, trouble: str) -> Action:
        self._note_trouble(live, f"the DCC answered with {trouble}")
        return self._apply(live.request, Input.NO_ANSWER)

    def _note_trouble(self, live: LiveRequest, trouble: str, level: int = logging.WARNING) -> None:
        live.failures += 1
        live.trouble = trouble
        logger.log(
            level,
            "request %d to %s is still %s, attempt %d failed: %s",
            live.request.originator_counter,
            live.request.pre_command.target_id,
            live.request.state.value,
            live.failures,
            trouble,
        )

    def _believe(self, request: Request, octets: bytes) -> DuisResponse:
        try:
            parsed = parse_untrusted_response(octets)
            may_be_unsigned = isinstance(parsed.message.body, ErrorBody | AcknowledgementBody)
            if parsed.signed or not may_be_unsigned:
                parsed.verify(
                    self._keystore,
                    role=Role.XML_SIGNING_DCC,
                    at=datetime.fromtimestamp(self._wall(), UTC),
                )
        except (DuisError, CertificateError) as error:
            raise AnswerNotBelieved(f"the DCC's answer cannot be believed: {error}") from None
        answer = parsed.message
        # What could not be read has no RequestID that an error could name.
        unnamed_error = answer.request_id is None and isinstance(answer.body, ErrorBody)
        if not unnamed_error and answer.request_id != duis_request_id(request):
            raise AnswerNotBelieved(
                f"the DCC answered request {answer.request_id}, "
                f"asked was {duis_request_id(request)}"
            )
        return answer

    def _refused(self, live: LiveRequest, code: str, *, repeated: bool) -> Action:
        request = live.request
        reason = self.explain(request, code)
        if repeated and code in self._config.repeat_codes:
            logger.info(
                "request %d: the DCC has it from an earlier attempt (%s)",
                request.originator_counter,
                code,
            )
            # Where that ends the request, one under a new counter will do.
            return self._apply(request, Input.REPEAT_REFUSAL, reason=reason, heals=True)
        if code in UNREAD_CODES and live.unread < self._config.unread_repeats:
            # Perhaps it was bent on its way. What was not read has used no counter.
            live.unread += 1
            self._note_trouble(live, reason)
            return self._apply(request, Input.NO_ANSWER)
        heals = code in HEALING_CODES
        return self._apply(request, Input.REFUSAL, reason=reason, heals=heals)

    def explain(self, request: Request, code: str) -> str:
        """Say what a response code means for a request and what to do."""
        asked = request.pre_command
        now = datetime.fromtimestamp(self._wall(), UTC)
        return explain_code(
            code,
            supplier=asked.originator_id,
            device=asked.target_id,
            have=what_we_have(code, self._keystore, asked.originator_id, now),
        )

    # Correlation and signature

    async def _correlate_and_sign(self, live: LiveRequest) -> Action:
        request = live.request
        try:
            pre_command = correlate(request.pre_command, live.pre_command)
            if live.signed_pre_command is None:
                await self._within(live, self._brake.wait)
                live.signed_pre_command = await self._sign(live, pre_command)
            body = SignedPreCommandBody(live.signed_pre_command.to_bytes())
            octets = self._build(request, _SEND_VARIANT, body)
        except (CorrelationFailed, SigningFailed, GbcsError) as error:
            logger.error("request %d is not signed: %s", request.originator_counter, error)
            return self._apply(request, Input.MISMATCH, reason=f"not signed: {error}")
        live.trouble = None
        live.failures = 0
        return self._apply(
            request,
            Input.SIGNATURE,
            signed_request=octets,
            signed_at=self._clock(),
            deadline=self._clock() + self._config.response_timeout_s,
        )

    async def _sign(self, live: LiveRequest, pre_command: PreCommand) -> SignedPreCommand:
        """Ask for the signature until it is there, is refused, or the time is up."""
        live.failures = 0
        while True:
            try:
                return await self._within(live, lambda: signed(pre_command, self._signer))
            except SignerUnavailable as error:
                self._note_trouble(live, str(error))
            await self._within(live, functools.partial(asyncio.sleep, self._pause_s(live.failures)))

    def _build(
        self, request: Request, variant: int, body: UpdateAlcDescriptions | SignedPreCommandBody
    ) -> bytes:
        asked = request.pre_command
        return build_request(
            DuisRequest(
                originator_id=asked.originator_id,
                target_id=asked.target_id,
                originator_counter=asked.originator_counter,
                command_variant=variant,
                body=body,
                schema_version=self._config.schema_version,
            ),
            self._xml_signer,
        )

    # Time

    async def _within(self, live: LiveRequest, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Do work, but not past the deadline, nor when news has ended the request."""
        deadline = live.request.deadline
        remaining = None if deadline is None else deadline - self._clock()
        if remaining is not None and remaining <= 0:
            raise _TimeUp
        if live.ended.is_set():
            raise _Ended
        try:
            async with asyncio.timeout(remaining) as limit:
                live.ended.watch(limit)
                return await work()
        except TimeoutError:
            if not limit.expired():
                raise
            raise (_Ended if live.ended.is_set() else _TimeUp) from None
        finally:
            live.ended.watch(None)

    def _pause_s(self, failures: int) -> float:
        longest = min(
            self._config.retry_max_s, self._config.retry_first_s * 2.0 ** min(failures - 1, 32)
        )
        # Between a half and the whole, so that many requests do not come back at once.
        jitter = int.from_bytes(self._random_octets(2), "big") / 0xFFFF
        return longest * (0.5 + jitter / 2)

    def _time_up_reason(self, live: LiveRequest) -> str:
        state = live.request.state
        if state is State.CORRELATING:
            what = f"not signed in {self._config.transform_timeout_s:g} s"
        elif state is State.TRANSFORMING:
            what = f"no pre-command from the DCC in {self._config.transform_timeout_s:g} s"
        elif state in (State.SIGNED, State.SENDING):
            what = (
                f"the DCC did not confirm the request in {self._config.response_timeout_s:g} s; "
                "whether the device has the fragment is not known"
            )
        else:
            what = (
                f"no answer from the device in {self._config.response_timeout_s:g} s; whether it "
                "has the fragment is not known"
            )
        return what if live.trouble is None else f"{what} (last trouble: {live.trouble})"


def duis_request_id(request: Request) -> RequestId:
    """Return the RequestID under which the DCC knows a request."""
    asked = request.pre_command
    return RequestId(asked.originator_id, asked.target_id, asked.originator_counter)


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()
