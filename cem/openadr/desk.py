"""Stands between the VEN and the gateway, whichever way the VEN comes: what HTTP is not needed for.

What the VEN says is taken with `Desk.ask`, what the VTN says comes from the gateway.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from typing import Final

from cem.errors import CemError, GatewayClosed, StoreError, UnknownMessage
from cem.gateway import Gateway
from cem.handles import ReceivedMessage
from cem.openadr.config import OpenAdrConfig
from cem.openadr.core.face import Answer, Face, Forward, Wait
from cem.openadr.core.requests import priority
from cem.openadr.store import FaceStore
from gbcs.ports import Clock
from openadr_xml import Payload, PayloadRefused, parse_untrusted_payload
from smtunnel import DeliveryState
from smtunnel.errors import TunnelError

logger = logging.getLogger("cem.openadr")

_RETRY_S: Final = 1.0
_RETRY_MAX_S: Final = 60.0


class Desk:
    """Takes what both sides say, keeps it, and wakes who waits.

    Args:
        config: the settings.
        gateway: an open gateway.
        store: keeps the state.
        vtn_id: the vtnID to tell until the VTN's own is known.
        clock: the wall clock.
    """

    def __init__(
        self,
        config: OpenAdrConfig,
        gateway: Gateway,
        store: FaceStore,
        *,
        vtn_id: str,
        clock: Clock,
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._store = store
        self._clock = clock
        self.face = Face(config, store.load(), vtn_id=vtn_id, is_over=self._is_over)
        self.face.recover()
        self._changed = asyncio.Condition()
        self._others: asyncio.Queue[ReceivedMessage | None] = asyncio.Queue()
        self._without_room: asyncio.Queue[tuple[ReceivedMessage, Payload]] = asyncio.Queue()
        self._held_back = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Begin to work."""
        self._begin(self._take_received())
        self._begin(self._take_held_back())
        for ref in self.face.order.held:
            self._begin(self._release(ref))

    async def stop(self) -> None:
        """End; what has begun goes on after a restart."""
        for task in self._tasks:
            task.cancel()
        try:
            await asyncio.gather(*self._tasks, return_exceptions=True)
        finally:
            self._others.put_nowait(None)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="cem openadr")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield the messages from the DSRSP that are no OpenADR 2.0b; ends with the desk."""
        while (received := await self._others.get()) is not None:
            yield received

    # From the VTN

    async def _take_received(self) -> None:
        while True:
            try:
                async for received in self._gateway.received():
                    await self._take(received)
                return  # the gateway has ended
            except CemError as error:
                logger.error("received messages cannot be taken, next try soon: %s", error)
                await asyncio.sleep(_RETRY_S)

    async def _take(self, received: ReceivedMessage) -> None:
        try:
            payload = parse_untrusted_payload(received.message)
        except PayloadRefused:
            self._others.put_nowait(received)
            return
        # A VEN that was away for long registers before it polls: its answer must not stand behind
        # what has no room. That stays unacknowledged, in the gateway.
        full = self._held_back or not self.face.has_room()
        if full and self.face.is_for_polls(payload):
            self._held_back += 1
            self._without_room.put_nowait((received, payload))
        else:
            await self._take_payload(received, payload)

    async def _take_held_back(self) -> None:
        while True:
            received, payload = await self._without_room.get()
            async with self._changed:
                await self._changed.wait_for(self.face.has_room)
            await self._take_payload(received, payload)
            self._held_back -= 1

    async def _take_payload(self, received: ReceivedMessage, payload: Payload) -> None:
        answers = self.face.receive(payload, self._clock())
        logger.info("from the VTN: %s", payload.kind)
        while True:
            # First the effect, then the ack: both have to be on the disk, and a crash between
            # them brings the message again, which changes nothing.
            try:
                self._store.save(self.face.state)
                await self._acknowledge(received, answers)
                break
            except StoreError as error:
                logger.error("cannot keep what came, next try soon: %s", error)
                await asyncio.sleep(_RETRY_S)
        await self.tell_change()

    async def _acknowledge(self, received: ReceivedMessage, answers: str) -> None:
        try:
            await received.ack(answers or None)
        except UnknownMessage:
            await received.ack()

    async def tell_change(self) -> None:
        """Wake all who wait for another state."""
        async with self._changed:
            self._changed.notify_all()

    # From the VEN

    async def written(self, answer: Answer) -> None:
        """Take note that the VEN has an answer."""
        self.face.delivered(answer)
        self._save_if_possible()
        if answer.queued is not None:
            await self.tell_change()

    async def ask(self, payload: Payload, service: str, certificate: str) -> Answer:
        """Take what a VEN says, and return what to answer.

        Raises:
            StoreError: what must be kept cannot be.
        """
        reaction = self.face.request(payload, service, certificate, self._clock())
        if isinstance(reaction, Wait) and self._is_lost(reaction.ref):
            self.face.forget(reaction.key)
            reaction = self.face.request(payload, service, certificate, self._clock())
        if isinstance(reaction, Answer):
            self._store.save(self.face.state)
            return reaction
        if isinstance(reaction, Forward):
            refusal = await self._send(reaction, certificate)
            if refusal is not None:
                return refusal
            if reaction.answer is not None:
                return Answer(reaction.answer)
        return await self._wait(reaction.key, payload.request_id)

    async def _send(self, forward: Forward, certificate: str) -> Answer | None:
        ref = self._gateway.new_ref()
        self.face.begun(forward, ref, certificate, self._clock())
        kind = forward.payload.kind
        try:
            if forward.subjects:
                # What comes after it must wait for it, also if a crash comes now.
                self._store.save(self.face.state)
            if not forward.after:
                await self._gateway.send(forward.payload.octets, priority=priority(kind), ref=ref)
        except (CemError, TunnelError) as error:
            logger.warning("cannot send an %s of the VEN: %s", kind, error)
            refusal = self.face.not_sent(forward, ref)
            await self.tell_change()  # others may hold a connection open for the same
            return refusal
        except BaseException:
            self.face.not_sent(forward, ref)
            raise
        self.face.sent(forward, ref)
        self._save_if_possible()
        await self.tell_change()
        if forward.after:
            self._begin(self._release(ref))
        logger.info("%s: %s", "held for its turn" if forward.after else "to the VTN", kind)
        return None

    def _save_if_possible(self) -> None:
        # What is lost with it is done again: a request crosses twice, a message is given twice.
        try:
            self._store.save(self.face.state)
        except StoreError as error:
            logger.error("what was done may be done again after a restart: %s", error)

    def _is_lost(self, ref: str) -> bool:
        if not ref:
            return False  # it is being sent at this moment
        try:
            return self._gateway.handle(ref).status.state is DeliveryState.FAILED
        except UnknownMessage:
            return False  # it has ended so long ago that it was confirmed or is forgotten

    async def _wait(self, key: str, request_id: str) -> Answer:
        self.face.watch(key, +1)
        try:
            async with asyncio.timeout(self._config.patience_s), self._changed:
                await self._changed.wait_for(lambda: self.face.has_answer(key))
        except TimeoutError:
            pass
        finally:
            self.face.watch(key, -1)
        return self.face.answer_of(key, request_id)

    # What must not overtake what the VEN has said before

    def _is_over(self, ref: str) -> bool:
        try:
            return self._gateway.handle(ref).status.final
        except UnknownMessage:
            return True  # it has ended long ago, or a crash came before the gateway had it

    async def _release(self, ref: str) -> None:
        """Give the gateway a message that is held, when those before it have ended."""
        held = self.face.order.held.get(ref)
        try:
            for earlier in () if held is None else held.after:
                await self._wait_for_end(earlier)
            await self._give(ref)
        except GatewayClosed:
            return  # it goes on after a restart
        self._save_if_possible()
        await self.tell_change()

    async def _wait_for_end(self, ref: str) -> None:
        async with self._changed:
            await self._changed.wait_for(lambda: not self.face.order.is_in_hand(ref))
        while True:
            try:
                await self._gateway.handle(ref).wait()
                return
            except UnknownMessage:
                return
            except StoreError as error:
                logger.error("cannot tell whether %s has ended, next look soon: %s", ref, error)
                await asyncio.sleep(_RETRY_S)

    async def _give(self, ref: str) -> None:
        pause_s = _RETRY_S
        # It is held no more where the registration that it belongs to has ended.
        while (held := self.face.order.held.get(ref)) is not None:
            try:
                # After a crash the gateway may have it already, and then knows it by its reference.
                await self._gateway.send(held.octets, priority=priority(held.kind), ref=ref)
            except GatewayClosed:
                raise
            except TunnelError as error:
                logger.error("a held %s cannot be sent, it is dropped: %s", held.kind, error)
                self.face.order.dropped(ref)
                self.face.forget(held.key)
            except CemError as error:
                logger.warning("cannot send a held %s, next try soon: %s", held.kind, error)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _RETRY_MAX_S)
            else:
                self.face.given(ref, held.kind)
                logger.info("to the VTN, in its turn: %s", held.kind)

    # For a VEN of the PUSH model

    async def wait_for_push(self) -> tuple[str, Answer, str]:
        """Return the next push: base address, what to send, its kind."""
        async with self._changed:
            while (push := self.face.next_push(self._clock())) is None:
                # Without a change only the grace of a refusal can pass.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._changed.wait(), timeout=self._config.refusal_grace_s
                    )
            return push
