"""Runs the VEN of one CEM: posts what the CEM sent, polls the VTN, sends down what came."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from dsrsp.errors import DsrspError, StorageError, UnknownMessage
from dsrsp.inbox import ReceivedMessage
from dsrsp.openadr.config import OpenAdrConfig
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Refused, Ven
from dsrsp.openadr.vtn import VtnClient, VtnError, VtnRefused, VtnUnreachable
from gbcs.entity_id import EntityId
from gbcs.ports import Clock
from openadr_xml import ANSWERS, FROM_VTN, Payload, building
from smtunnel.errors import TunnelError

logger = logging.getLogger("dsrsp.openadr")

_SEND_RETRY_MIN_S: Final = 1.0
_SEND_RETRY_MAX_S: Final = 60.0
_RESTART_S: Final = 10.0
"""After how long a task goes on that an unforeseen error has ended."""

Send = Callable[[EntityId, bytes], Awaitable[object]]
"""Takes a payload for a CEM; on return it is durable."""

Save = Callable[[EntityId, VenState], None]
"""Makes a state durable."""

_HTTP_CODES: Final = {401: building.NOT_AUTHORIZED, 403: building.NOT_AUTHORIZED}


class CemVen:
    """The VEN of one CEM.

    Args:
        device: the CEM.
        ven: its protocol logic, with its state.
        config: the settings.
        vtn: reaches the VTN.
        send: sends a payload to the CEM.
        save: makes the state durable.
        clock: the wall clock.
        spread: gives numbers of 0 to 1 that spread the polls of many CEMs over time.
    """

    def __init__(
        self,
        device: EntityId,
        ven: Ven,
        *,
        config: OpenAdrConfig,
        vtn: VtnClient,
        send: Send,
        save: Save,
        clock: Clock,
        spread: Callable[[], float] = random.random,
    ) -> None:
        self.device = device
        self.ven = ven
        self._config = config
        self._vtn = vtn
        self._send = send
        self._save = save
        self._clock = clock
        self._spread = spread
        self._received: asyncio.Queue[tuple[ReceivedMessage, Payload]] = asyncio.Queue()
        # What is worked on; stays so if an unforeseen error ends that, to be tried again.
        self._current: tuple[ReceivedMessage, Payload] | None = None
        self._tries = 0
        self._registration_changed = asyncio.Event()
        # One exchange with the VTN at a time, as a VEN of its own would have.
        self._turn = asyncio.Lock()
        self._flushing = asyncio.Lock()
        self._pushed: dict[str, asyncio.Future[Payload]] = {}
        self._holding: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to work."""
        self._tasks = [self._begin(self._work, f"ven {self.device}")]
        if self._config.push_listen is None:
            self._tasks.append(self._begin(self._poll, f"poll {self.device}"))

    def _begin(self, work: Callable[[], Awaitable[None]], name: str) -> asyncio.Task[None]:
        return asyncio.create_task(self._keep_going(work, name), name=name)

    async def _keep_going(self, work: Callable[[], Awaitable[None]], name: str) -> None:
        """Work for ever: an error that nobody foresaw must not leave a CEM without its VEN."""
        while True:
            try:
                await work()
                return
            except Exception:
                self.ven.counts["unforeseen errors"] += 1
                logger.exception(
                    "%s: an unforeseen error, which is a fault of this program: please report it; "
                    "the work goes on in %g s",
                    *(name, _RESTART_S),
                )
            await asyncio.sleep(_RESTART_S)

    async def stop(self) -> None:
        """End; what has begun is done again after a restart."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def take(self, received: ReceivedMessage, payload: Payload) -> None:
        """Take a message of the CEM; they are worked off in this order."""
        self._received.put_nowait((received, payload))

    # From the VEN

    async def _work(self) -> None:
        await self._flush()
        while True:
            if self._current is None:
                self._current, self._tries = await self._received.get(), 0
            await self._take(*self._current)
            self._current = None

    async def _take(self, received: ReceivedMessage, payload: Payload) -> None:
        """Do all that a message needs; each step is durable before the next."""
        state = self.ven.state
        if received.ref not in state.done:
            self._tries += 1
            if self._tries > self._config.vtn_attempts:
                answer = self._fail(payload, building.OTHER_ERROR, "unforeseen errors, see above")
            else:
                answer = await self._effect(payload)
            if answer:
                state.outbox.append(answer)
            state.done.append(received.ref)
            await self._save_state()
            self._registration_changed.set()
        await self._flush()
        while True:
            try:
                await received.ack()
                break
            except UnknownMessage:
                break
            except StorageError as error:
                logger.error("cannot acknowledge a message of %s: %s", self.device, error)
                await asyncio.sleep(_SEND_RETRY_MIN_S)
        self._current = None  # whatever happens now: it must not have its effect again
        state.done.remove(received.ref)
        await self._save_state()

    async def _effect(self, payload: Payload) -> bytes:
        """Have a payload answered; return what goes to the VEN, b"" if nothing."""
        plan = self.ven.plan(payload)
        if isinstance(plan, Refused):
            logger.warning("refused an %s of %s: %s", payload.kind, self.device, plan.why)
            return plan.answer
        held = self._pushed.pop(payload.answered_request_id, None)
        if held is not None and not held.done():
            held.set_result(payload)  # it answers a push that the VTN holds open
            return self.ven.answered(payload, None, self._clock())
        return await self._exchange(payload, plan.service, plan.octets)

    async def _exchange(self, payload: Payload, service: str, octets: bytes) -> bytes:
        """Post until there is an answer, or no hope of one."""
        failures = 0
        pause_s = self._config.retry_first_s
        begun = self._clock()
        while True:
            try:
                async with self._turn:
                    answer = await self._vtn.post(self.device, service, octets)
            except VtnRefused as error:
                code = _HTTP_CODES.get(error.status, building.OTHER_ERROR)
                return self._fail(payload, code, str(error))
            except VtnUnreachable as error:
                reason = str(error)
                hopeless = self._clock() - begun > self._config.give_up_s
            except VtnError as error:
                reason = str(error)
                failures += 1
                hopeless = failures >= self._config.vtn_attempts
            else:
                self.ven.counts["exchanges"] += 1
                self._tell_bounds(answer)
                logger.info(
                    "%s of %s: the VTN answered %s",
                    payload.kind,
                    self.device,
                    "nothing" if answer is None else f"{answer.kind} {answer.response_code or ''}",
                )
                if self.ven.is_of_another(answer):
                    logger.error(
                        "refused the registration of %s: the VTN gave it the venID of another CEM. "
                        "Have it give each CEM its own; where a new CEM takes the place of an old "
                        "one, first end the old one's registration, or stop this daemon and delete "
                        "the old one's row from table ven of the OpenADR state file",
                        self.device,
                    )
                return self.ven.answered(payload, answer, self._clock())
            if hopeless:
                return self._fail(payload, building.OTHER_ERROR, reason)
            logger.warning("%s of %s: next try soon: %s", payload.kind, self.device, reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, self._config.retry_max_s)

    def _tell_bounds(self, answer: Payload | None) -> None:
        wished_s = None if answer is None else answer.poll_interval_s
        shortest_s, longest_s = self._config.poll_interval_min_s, self._config.poll_interval_max_s
        if wished_s is not None and not shortest_s <= wished_s <= longest_s:
            logger.warning(
                "the VTN wants to be polled for %s every %g s; poll_interval_min_s and "
                "poll_interval_max_s allow %g s to %g s",
                *(self.device, wished_s, shortest_s, longest_s),
            )

    def _fail(self, payload: Payload, code: int, reason: str) -> bytes:
        """Give up: tell a VEN that waits; a message that was answered already is lost."""
        logger.error("%s of %s was not answered: %s", payload.kind, self.device, reason)
        self.ven.counts["given up"] += 1
        told = (
            "the VTN refused it" if code == building.NOT_AUTHORIZED else "the VTN does not answer"
        )
        if payload.kind in ANSWERS or code == building.NOT_AUTHORIZED:
            return self.ven.own_answer(payload, code, told)
        return b""

    # From the VTN

    async def _poll(self) -> None:
        failures = 0
        # After a restart, those of all CEMs would come at once, and go on to.
        part = self._spread() if self.ven.registered else 1.0
        while True:
            await self._wait_for_registration()
            pause_s, part = self.ven.poll_interval_s * part, 1.0
            if failures:
                longest_s = max(pause_s, self._config.poll_pause_max_s)
                pause_s = min(pause_s * 2.0 ** min(failures, 16), longest_s)
                pause_s *= 1.0 - 0.5 * self._spread()
            if await self._pause(pause_s):
                failures = 0  # the VTN has answered meanwhile
            async with self._turn:
                if self.ven.registered:
                    failures = 0 if await self._poll_once(failures) else failures + 1

    async def _pause(self, pause_s: float) -> bool:
        """Pause; a registration makes it end one interval, as it is from then on, later at most.

        Returns:
            Whether there was a registration.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + pause_s
        begun_with = seen = self.ven.registrations
        while (left_s := until - loop.time()) > 0:
            self._registration_changed.clear()
            # Not wait_for: that of Python 3.11 swallows a cancellation that comes with the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._registration_changed.wait()
            if self.ven.registrations != seen:
                seen = self.ven.registrations
                until = min(until, loop.time() + self.ven.poll_interval_s)
        return seen != begun_with

    async def _wait_for_registration(self) -> None:
        while not self.ven.registered:
            self._registration_changed.clear()
            await self._registration_changed.wait()

    async def _poll_once(self, failures: int) -> bool:
        """Poll; tell whether the VTN answered."""
        state = self.ven.state
        self.ven.counts["polls"] += 1
        try:
            answer = await self._vtn.post(self.device, "OadrPoll", building.poll(state.ven_id))
        except VtnError as error:
            if not failures:
                logger.warning("polls for %s fail, and go on: %s", self.device, error)
            return False
        if failures:
            logger.warning("polls for %s are answered again", self.device)
        await self.take_from_vtn(answer)
        return True

    async def take_from_vtn(self, payload: Payload | None) -> None:
        """Take what the VTN said to a poll or pushed; on return it is durable."""
        crossing = self.ven.polled(payload, self._clock())
        if not crossing or payload is None:
            return
        logger.info("%s for %s from the VTN", payload.kind, self.device)
        self.ven.state.outbox.append(crossing)
        await self._save_state()
        if payload.kind == "oadrRequestReregistration" and self._config.push_listen is None:
            # What a VEN says to that, and the VEN in the home says to its gateway.
            with contextlib.suppress(VtnError):
                thanks = building.response(200, "OK", ven_id=self.ven.state.ven_id)
                await self._vtn.post(self.device, "EiRegisterParty", thanks)
        await self._flush()

    async def take_pushed(self, payload: Payload) -> Payload | None:
        """Take what the VTN pushed; return what the VEN answers, None if it need not, or late."""
        answered_here = payload.kind not in FROM_VTN or payload.kind == "oadrDistributeEvent"
        if answered_here or not payload.request_id:
            await asyncio.shield(self._take_all(payload))
            return None
        # A VTN that tries again while the first try is held open waits for the same answer.
        held = self._pushed.get(payload.request_id)
        if held is None:
            held = asyncio.get_running_loop().create_future()
            self._pushed[payload.request_id] = held
        self._holding[payload.request_id] += 1
        try:
            # If the VTN goes meanwhile, what has begun ends; only nobody waits for an answer.
            await asyncio.shield(self._take_all(payload))
            done, _ = await asyncio.wait({held}, timeout=self._config.push_patience_s)
            return held.result() if done else None
        finally:
            self._holding[payload.request_id] -= 1
            if not self._holding[payload.request_id]:
                del self._holding[payload.request_id]
                if self._pushed.get(payload.request_id) is held:
                    del self._pushed[payload.request_id]

    def _take_all(self, payload: Payload) -> asyncio.Task[None]:
        task = asyncio.create_task(self.take_from_vtn(payload), name=f"push {self.device}")
        self._tasks.append(task)
        task.add_done_callback(self._tasks.remove)
        return task

    # Both

    async def _flush(self) -> None:
        """Give the gateway what is for the CEM, in order, however long it takes."""
        pause_s = _SEND_RETRY_MIN_S
        async with self._flushing:
            while self.ven.state.outbox:
                try:
                    await self._send(self.device, self.ven.state.outbox[0])
                except (DsrspError, TunnelError) as error:
                    logger.error("cannot send to %s, next try soon: %s", self.device, error)
                    await asyncio.sleep(pause_s)
                    pause_s = min(2 * pause_s, _SEND_RETRY_MAX_S)
                    continue
                self.ven.counts["crossed"] += 1
                self.ven.state.outbox.pop(0)
                await self._save_state()

    async def _save_state(self) -> None:
        while True:
            try:
                self._save(self.device, self.ven.state)
                return
            except StorageError as error:
                logger.error("cannot keep the state of %s, next try soon: %s", self.device, error)
                await asyncio.sleep(_SEND_RETRY_MIN_S)
