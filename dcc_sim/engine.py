"""Drives the logic on an event loop: commits first, then carries out what was asked."""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import NoReturn, TypeVar

from dcc_sim.core.dcc import Dcc
from dcc_sim.core.effects import Deliver, Note, Post, Reply, Restart
from dcc_sim.core.faults import Hop, corrupted
from dcc_sim.core.services import Service
from dcc_sim.errors import DccSimError, MessageDropped, StoreError
from dcc_sim.ports import Storage
from gbcs.device_link import Challenge
from gbcs.entity_id import EntityId
from gbcs.errors import GbcsError
from gbcs.ports import Clock

_LOG = logging.getLogger("dcc_sim")

T = TypeVar("T")

LATE_COMMIT_S = 0.05
"""How long that a user took a message may stay in memory alone, in seconds, so that one commit
serves it and what comes next. A crash in that time has the message posted once more, as one
just before the commit does."""


class Engine:
    """Calls the logic, makes its state durable, carries out its effects, wakes it in time.

    What comes in during one turn of the event loop shares one commit; that a user took a message
    shares that of what comes next. When a commit fails, or
    anything else goes wrong inside, the logic is made anew from what is durable: nothing that
    was said to a user is lost, because nothing is said before it is durable.

    Args:
        make_dcc: makes the logic from the storage, given the time.
        storage: what make_dcc uses.
        clock: seconds since 1970.
        deliver: sends octets to a connected device, without waiting.
        post: begins a POST, without waiting.
        connected_devices: who is connected now.
        restart: begins to stop this engine and to start another, without waiting.

    Raises:
        StoreError: the state cannot be read.
    """

    def __init__(
        self,
        make_dcc: Callable[[float], Dcc],
        storage: Storage,
        *,
        clock: Clock,
        deliver: Callable[[Deliver], None],
        post: Callable[[Post], None],
        connected_devices: Callable[[], list[EntityId]],
        restart: Callable[[Restart], None],
    ) -> None:
        self._make_dcc = make_dcc
        self._storage = storage
        self._clock = clock
        self._deliver = deliver
        self._post = post
        self._connected_devices = connected_devices
        self._restart = restart
        self._dcc = make_dcc(clock())
        self._waiters: list[asyncio.Future[None]] = []
        self._flush_handle: asyncio.Handle | None = None
        self._flush_is_late = False
        self._timer_handle: asyncio.TimerHandle | None = None
        self._held_posts: set[asyncio.TimerHandle] = set()
        self._closed = False

    def start(self) -> None:
        """Carry out what a restart found waiting; needs a running event loop."""
        self._call(lambda _dcc, _now: None)

    def close(self) -> None:
        """Stop, after what came in so far is durable."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush()
        self._closed = True
        for handle in (self._flush_handle, self._timer_handle, *self._held_posts):
            if handle is not None:
                handle.cancel()
        self._fail_waiters(StoreError("the simulator is stopping"))

    async def request(self, service: Service, octets: bytes) -> Reply:
        """Answer a request; returns when what the answer says is durable, and its time has come.

        Raises:
            StoreError: the state cannot be written; nothing was done.
            MessageDropped: a fault on order lost the request or the answer.
        """
        hit = self._dcc.hit(Hop.REQUEST, None)
        if hit.drop:
            raise MessageDropped(f"the request was lost: {hit.reason}")
        if hit.delay_s:
            await asyncio.sleep(hit.delay_s)
        body = corrupted(octets) if hit.corrupt else octets
        replies = [
            self._call(lambda dcc, now: dcc.receive_untrusted_request(service, body, now))
            for _ in range(1 + hit.copies)
        ]
        if replies[0] is None:
            raise StoreError("the simulator cannot keep its state at the moment")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
        return await self._answer(replies[0])

    async def _answer(self, reply: Reply) -> Reply:
        """Let an answer take its time, and meet its faults."""
        hit = self._dcc.hit(Hop.ANSWER, None)
        if hit.drop:
            raise MessageDropped(f"the answer was lost: {hit.reason}")
        if reply.delay_s + hit.delay_s > 0:
            await asyncio.sleep(reply.delay_s + hit.delay_s)
        return replace(reply, xml=corrupted(reply.xml)) if hit.corrupt else reply

    async def perform(self, action: Callable[[Dcc, float], T]) -> T:
        """Call the logic; returns when what it did is durable.

        Args:
            action: gets the logic and the time; what it raises of dcc_sim's and gbcs's errors is
                raised here.

        Raises:
            StoreError: the state cannot be written; nothing was done.
        """
        outcome = self._call(lambda dcc, now: _attempt(action, dcc, now))
        if outcome is None:
            raise StoreError("the simulator cannot keep its state at the moment")
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        await waiter
        return outcome()

    def check_untrusted_proof(self, device: EntityId, challenge: Challenge, text: str) -> None:
        """See Dcc.check_untrusted_proof."""
        self._dcc.check_untrusted_proof(device, challenge, text, self._clock())

    def connected(self, device: EntityId) -> None:
        """A device can be sent to."""
        self._call(lambda dcc, now: dcc.handle_connected(device, now))

    def disconnected(self, device: EntityId) -> None:
        """A device cannot be sent to any more."""
        self._call(lambda dcc, _now: dcc.handle_disconnected(device))

    def message(self, device: EntityId, octets: bytes) -> None:
        """A connected device sent something."""
        self._call(lambda dcc, now: dcc.receive_untrusted_message(device, octets, now))

    def posted(self, posting_id: int) -> None:
        """A POST was taken."""
        self._call(lambda dcc, _now: dcc.handle_posted(posting_id), may_be_late=True)

    def post_failed(self, posting_id: int, reason: str, *, reached: bool) -> None:
        """A POST came to nothing."""
        self._call(
            lambda dcc, now: dcc.handle_post_failed(posting_id, reason, now, reached=reached)
        )

    def _call(self, action: Callable[[Dcc, float], T], *, may_be_late: bool = False) -> T | None:
        if self._closed:
            return None
        try:
            result = action(self._dcc, self._clock())
        except Exception as error:
            self._begin_anew(error)
            return None
        self._plan_flush(late=may_be_late and not self._dcc.has_work_to_hand_out)
        return result

    def _plan_flush(self, *, late: bool) -> None:
        """Let what was done become durable: at the end of this turn, or together with the next."""
        loop = asyncio.get_running_loop()
        if self._flush_handle is not None:
            if late or not self._flush_is_late:
                return
            self._flush_handle.cancel()
        self._flush_is_late = late
        if late:
            self._flush_handle = loop.call_later(LATE_COMMIT_S, self._flush)
        else:
            self._flush_handle = loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_handle = None
        try:
            self._storage.commit()
        except StoreError as error:
            self._begin_anew(error)
            return
        waiters, self._waiters = self._waiters, []
        self._carry_out()
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._arm()

    def _carry_out(self) -> None:
        for effect in self._dcc.take_effects():
            match effect:
                case Note():
                    _LOG.log(effect.severity.value, "%s", effect.text)
                case Deliver():
                    self._deliver(effect)
                case Post():
                    self._begin_post(effect)
                case Restart():
                    self._restart(effect)

    def _begin_post(self, post: Post) -> None:
        """Let a POST begin, unless it meets a fault: then the user gets it late, twice, bent."""
        loop = asyncio.get_running_loop()
        hit = self._dcc.hit(Hop.POST, post.user)
        if hit.drop:
            lost = functools.partial(
                self.post_failed, post.posting_id, f"lost: {hit.reason}", reached=False
            )
            loop.call_soon(lost)
            return
        if hit.corrupt:
            post = replace(post, xml=corrupted(post.xml))
        for _ in range(1 + hit.copies):
            if hit.delay_s > 0:
                self._held_posts.add(loop.call_later(hit.delay_s, self._post_held, post))
            else:
                self._post(post)

    def _post_held(self, post: Post) -> None:
        now = asyncio.get_running_loop().time()
        self._held_posts = {handle for handle in self._held_posts if handle.when() > now}
        self._post(post)

    def _arm(self) -> None:
        if self._timer_handle is not None:
            self._timer_handle.cancel()
            self._timer_handle = None
        when = self._dcc.get_timer()
        if when is not None:
            delay = max(0.0, when - self._clock())
            self._timer_handle = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer_handle = None
        self._call(lambda dcc, now: dcc.handle_timer(now))

    def _begin_anew(self, error: Exception) -> None:
        _LOG.error("%s: %s; taking up the state as it is on the disk", type(error).__name__, error)
        _LOG.debug("where it happened", exc_info=error)
        self._fail_waiters(StoreError(f"nothing was done: {error}"))
        # What they hold is durable: the new logic posts it.
        for handle in self._held_posts:
            handle.cancel()
        self._held_posts.clear()
        try:
            self._dcc = self._make_dcc(self._clock())
            for device in self._connected_devices():
                self._dcc.handle_connected(device, self._clock())
        except StoreError as still:
            # The old logic stays; what it does next fails and leads here again.
            _LOG.error("%s", still)
            return
        self._plan_flush(late=False)

    def _fail_waiters(self, error: StoreError) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(error)


def _attempt(action: Callable[[Dcc, float], T], dcc: Dcc, now: float) -> Callable[[], T]:
    """Call the logic; what it refuses to do is no fault of the logic, and told to the caller."""
    try:
        result = action(dcc, now)
    except StoreError:
        raise
    except (DccSimError, GbcsError) as error:
        return functools.partial(_raise, error)
    return lambda: result


def _raise(error: Exception) -> NoReturn:
    raise error
