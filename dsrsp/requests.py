"""The requests that are under way at the DCC, each in a task of its own until its end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import fields
from operator import attrgetter
from typing import Any

from dsrsp.adaptor import Adaptor, LiveRequest
from dsrsp.brake import Brake
from dsrsp.config import DsrspConfig
from dsrsp.core.delivery import Outcome, outcome_of, outcome_of_results
from dsrsp.core.matching import DccError, DeviceResponse
from dsrsp.core.refusals import HEALING_CODES, explain_results
from dsrsp.core.request import Action, Input, Request
from dsrsp.errors import DsrspError, ReceivedRefused, StorageError
from dsrsp.ports import Storage
from gbcs.entity_id import EntityId
from gbcs.ports import Journal
from smtunnel.policy import Result

logger = logging.getLogger("dsrsp")

_STORED = frozenset({Action.KEEP, Action.AWAIT, Action.FINISH, Action.NOTE, Action.NOTE_LATE})

_NAMES = tuple(field.name for field in fields(Request))
_values = attrgetter(*_NAMES)

Keep = Callable[[Request, bool, Outcome | None], None]
"""Stores a request and what follows from it for its message: (request, accepted, outcome).
Raises StorageError with nothing changed."""


class Requests:
    """Runs requests and takes what comes in for them.

    Args:
        config: the gateway's settings.
        storage: has the requests of earlier processes.
        journal: writes down results.
        keep: stores a request's state and tells its message.
        brake: hears of quarantines.
    """

    def __init__(
        self,
        config: DsrspConfig,
        *,
        storage: Storage,
        journal: Journal,
        keep: Keep,
        brake: Brake,
    ) -> None:
        self._brake = brake
        self._config = config
        self._storage = storage
        self._journal = journal
        self._keep = keep
        self._live: dict[int, LiveRequest] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._adaptor: Adaptor | None = None

    def start(self, adaptor: Adaptor) -> None:
        """Take up what an earlier process left unfinished."""
        self._adaptor = adaptor
        for request in self._storage.unfinished_requests():
            if request.held:
                self._brake.hold(request.originator_counter)
            self._run(LiveRequest(request, resumed=True))

    def withdraw_ended(self) -> None:
        """End what an earlier process had no time to end: requests of messages that have ended."""
        for ref in {live.request.message_ref for live in self._live.values()}:
            message = self._storage.message(ref)
            if message is not None and message.status.final:
                self.withdraw(ref, index=None, reason="its message has ended")

    async def stop(self) -> None:
        """Leave everything as it is in the store."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def run(self, request: Request) -> None:
        """Begin a request that is stored."""
        self._run(LiveRequest(request))

    def _run(self, live: LiveRequest) -> None:
        counter = live.request.originator_counter
        self._live[counter] = live
        task = asyncio.create_task(self._work(live), name=f"dsrsp request {counter}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _work(self, live: LiveRequest) -> None:
        if self._adaptor is None:
            raise DsrspError("the requests are not started")
        counter = live.request.originator_counter
        failures = 0
        while not live.request.final:
            try:
                await self._adaptor.run(live)
                return
            except Exception as error:
                # Whatever went wrong, the stored state is whole: go back to it and try again.
                failures += 1
                unexpected = not isinstance(error, StorageError)
                logger.error("request %d waits: %s", counter, error, exc_info=unexpected)
            await asyncio.sleep(min(self._config.retry_max_s, 2.0 ** min(failures, 16)))
            live = self._reload(live)

    def _reload(self, live: LiveRequest) -> LiveRequest:
        """Go back to what the store knows, after a write that failed."""
        counter = live.request.originator_counter
        try:
            stored = self._storage.request(counter)
        except StorageError:
            stored = None
        if stored is None or self._live.get(counter) is not live:
            return live
        again = self._live[counter] = LiveRequest(
            stored,
            resumed=True,
            transform_request=live.transform_request,
            signed_pre_command=live.signed_pre_command,
        )
        return again

    def withdraw(self, ref: str, *, index: int | None, reason: str) -> None:
        """End the requests of a message, or of one of its fragments, that the DCC has not taken."""
        for live in list(self._live.values()):
            request = live.request
            if request.message_ref == ref and index in (None, request.index):
                try:
                    self.apply(request, Input.WITHDRAW, reason=reason)
                except StorageError as error:
                    # It goes out for nothing, which does no harm.
                    logger.warning(
                        "request %d is not withdrawn: %s", request.originator_counter, error
                    )

    # What happens to requests

    def apply(self, request: Request, what: Input, **news: Any) -> Action:
        """Give a request an input; store what must be stored and tell its message.

        Raises:
            StorageError: nothing was changed.
            InvalidTransition: one of our own steps is out of place.
        """
        before = _values(request)
        action = request.handle(what, **news)
        if action not in _STORED:
            return action
        outcome = self._outcome(request, action)
        try:
            self._keep(request, what is Input.ACKNOWLEDGED, outcome)
        except BaseException:
            for name, value in zip(_NAMES, before, strict=True):
                setattr(request, name, value)
            raise
        if outcome is not None:
            self._record(request, outcome)
        if request.final:
            live = self._live.pop(request.originator_counter, None)
            if live is not None:
                live.ended.set()
            self._brake.ended(request.originator_counter)
        if outcome is not None and outcome.result is Result.SUCCESS:
            reason = "its fragment is delivered by another request"
            self.withdraw(request.message_ref, index=request.index, reason=reason)
        return action

    def _outcome(self, request: Request, action: Action) -> Outcome | None:
        if action is Action.NOTE_LATE:
            return outcome_of_results(request.results or (), len(request.pre_command.labels))
        return outcome_of(request) if action is Action.FINISH else None

    def _record(self, request: Request, outcome: Outcome) -> None:
        self._journal.record(
            "result",
            peer=str(request.pre_command.target_id),
            message_ref=request.message_ref,
            index=request.index,
            attempt=request.attempt,
            originator_counter=request.originator_counter,
            result="failed for good" if outcome.result is None else outcome.result.value,
            reason=outcome.detail or None,
        )

    # News from the receive address

    def receive_response(self, response: DeviceResponse) -> None:
        """Take a device's verified response.

        Raises:
            ReceivedRefused: its counter belongs to a request to another device.
            StorageError: it could not be stored and must come again.
        """
        request = self._find(response.originator_counter, response.device)
        if request is None:
            return
        reason = None
        if any(response.results) or len(response.results) != len(request.pre_command.labels):
            reason = explain_results(response.results, len(request.pre_command.labels))
        was = request.state
        action = self.apply(request, Input.RESPONSE, results=response.results, reason=reason)
        if action is Action.IGNORE:
            logger.info(
                "ignored a repeated response of %s to request %d, which is %s",
                *(response.device, response.originator_counter, was.value),
            )
        elif action is Action.NOTE_LATE:
            logger.warning(
                "%s answered request %d after it had %s: %s",
                *(response.device, response.originator_counter, was.value),
                reason or "success",
            )
            self._journal.record(
                "late_response",
                peer=str(response.device),
                message_ref=request.message_ref,
                originator_counter=request.originator_counter,
                results=bytes(response.results),
            )

    def receive_error(self, error: DccError) -> None:
        """Take the DCC's word that a request has failed after it was accepted.

        Raises:
            ReceivedRefused: its counter belongs to a request to another device.
            StorageError: it could not be stored and must come again.
        """
        request = self._find(error.originator_counter, error.device)
        if request is None or self._adaptor is None:
            return
        reason = self._adaptor.explain(request, error.code)
        live = self._live.get(error.originator_counter)
        heals = error.code in HEALING_CODES
        # The DCC does not sign its errors. One that only makes a fragment go again is taken at its
        # word: whoever forges it gains a repetition, and the device's answer still counts.
        believed = error.signed or heals or self._config.believe_unsigned_errors
        if error.quarantined or not believed:
            held = f"the DCC holds it in quarantine ({error.code}): release or discard it there"
            note = held if error.quarantined else f"told without a signature, not proven: {reason}"
            logger.warning("request %d: %s", error.originator_counter, note)
            if live is not None:
                live.trouble = note
            if error.quarantined and self.apply(request, Input.QUARANTINED) is Action.NOTE:
                self._brake.hold(error.originator_counter)
            return
        repeated = error.code in self._config.repeat_codes and request.posts > 1
        what = Input.REPEAT_REFUSAL if repeated else Input.REFUSAL
        if self.apply(request, what, reason=reason, heals=heals) is Action.IGNORE:
            logger.info(
                "ignored error %s for request %d, which is %s",
                *(error.code, error.originator_counter, request.state.value),
            )

    def _find(self, originator_counter: int, device: EntityId) -> Request | None:
        live = self._live.get(originator_counter)
        request = self._storage.request(originator_counter) if live is None else live.request
        if request is None:
            logger.warning(
                "a message of %s names request %d, which is not known here",
                device,
                originator_counter,
            )
            return None
        if request.pre_command.target_id != device:
            raise ReceivedRefused(
                f"response refused: request {originator_counter} went to "
                f"{request.pre_command.target_id}, not to {device}"
            )
        return request
