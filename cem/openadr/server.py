"""Serves the CEM's OpenADR face: an HTTP server that is a VTN to any unmodified VEN."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import AsyncIterator
from types import TracebackType
from typing import Any, Final

from aiohttp import web

from cem.errors import CemError, ConfigurationError, StoreError, UnknownMessage
from cem.gateway import Gateway
from cem.handles import MessageHandle, ReceivedMessage
from cem.logs import quiet_logger
from cem.openadr.config import OpenAdrConfig
from cem.openadr.core.face import Answer, Face, Forward, Wait
from cem.openadr.core.requests import priority
from cem.openadr.pushing import VenPusher
from cem.openadr.store import FaceStore
from cem.openadr.tls import fingerprint, server_context, split_listen
from gbcs.ports import Clock
from openadr_xml import (
    MAX_PAYLOAD_OCTETS,
    SERVICES,
    Payload,
    PayloadRefused,
    parse_untrusted_payload,
)
from smtunnel import DeliveryState
from smtunnel.errors import TunnelError

logger = logging.getLogger("cem.openadr")

PATH: Final = "/OpenADR2/Simple/2.0b"
"""Where the services of OpenADR 2.0b are, each below it by its name."""

_RETRY_S: Final = 1.0
_XML_TYPES: Final = ("application/xml", "text/xml")


class OpenAdrVtn:
    """A VTN to the CEM's VEN, in front of a gateway. Use it with ``async with``.

    It takes what the gateway received; what is no OpenADR 2.0b is given on by `received`.

    Args:
        config: the settings; the paths in it are used as they are.
        gateway: an open gateway.
        device: the CEM's EUI, whose state this is.
        vtn_id: the vtnID to tell until the VTN's own is known.
        clock: the wall clock.
        listener: a bound and listening socket, instead of ``config.listen``.
    """

    def __init__(
        self,
        config: OpenAdrConfig,
        gateway: Gateway,
        *,
        device: str,
        vtn_id: str,
        clock: Clock = time.time,
        listener: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._clock = clock
        self._listener = listener
        self._context = server_context(config)
        self._address = ("", 0) if listener is not None else split_listen(config)
        self._store = FaceStore(config.state, device)
        try:
            self._face = Face(config, self._store.load(), vtn_id=vtn_id)
        except BaseException:
            self._store.close()
            raise
        self._face.recover()
        self._changed = asyncio.Condition()
        self._others: asyncio.Queue[ReceivedMessage | None] = asyncio.Queue()
        self._without_room: asyncio.Queue[tuple[ReceivedMessage, Payload]] = asyncio.Queue()
        self._held_back = 0
        self._serving = 0
        self._tasks: list[asyncio.Task[None]] = []
        app = web.Application(client_max_size=MAX_PAYLOAD_OCTETS, middlewares=[_log_refusals])
        for service in sorted(set(SERVICES.values())):
            app.router.add_post(f"{PATH}/{service}", self._post, name=service)
        self._runner = web.AppRunner(
            app, access_log=None, logger=quiet_logger("cem.openadr"), shutdown_timeout=1.0
        )
        self.port = 0

    async def __aenter__(self) -> OpenAdrVtn:
        await self._runner.setup()
        try:
            site: web.BaseSite
            if self._listener is not None:
                site = web.SockSite(self._runner, self._listener, ssl_context=self._context)
            else:
                site = web.TCPSite(self._runner, *self._address, ssl_context=self._context)
            await site.start()
        except OSError as error:
            await self._runner.cleanup()
            self._store.close()
            raise ConfigurationError(
                f"openadr: cannot listen on {self._config.listen}: {error}"
            ) from None
        self.port = int(self._runner.addresses[0][1])
        self._tasks = [
            asyncio.create_task(self._take_received(), name="cem openadr"),
            asyncio.create_task(self._take_held_back(), name="cem openadr held back"),
        ]
        if self._config.push:
            pusher = VenPusher(self)
            self._tasks.append(asyncio.create_task(pusher.run(), name="cem openadr push"))
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._runner.cleanup()
        self._others.put_nowait(None)
        self._store.close()

    @property
    def url(self) -> str:
        """The address to give to a VEN."""
        host, port = self._runner.addresses[0][:2]
        return f"{'http' if self._context is None else 'https'}://{host}:{port}{PATH}"

    def status(self) -> dict[str, Any]:
        """Return what stands, as plain JSON values."""
        return {"url": self.url, **self._face.status()}

    # What is not OpenADR 2.0b

    async def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield the messages from the DSRSP that are no OpenADR 2.0b; ends with the face."""
        while (received := await self._others.get()) is not None:
            yield received

    def handle(self, ref: str) -> MessageHandle:
        """Return the handle of a message that was sent; see `Gateway.handle`."""
        return self._gateway.handle(ref)

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
        full = self._held_back or not self._face.has_room()
        if full and self._face.is_for_polls(payload):
            self._held_back += 1
            self._without_room.put_nowait((received, payload))
        else:
            await self._take_payload(received, payload)

    async def _take_held_back(self) -> None:
        while True:
            received, payload = await self._without_room.get()
            async with self._changed:
                await self._changed.wait_for(self._face.has_room)
            await self._take_payload(received, payload)
            self._held_back -= 1

    async def _take_payload(self, received: ReceivedMessage, payload: Payload) -> None:
        answers = self._face.receive(payload, self._clock())
        logger.info("from the VTN: %s", payload.kind)
        while True:
            # First the effect, then the ack: both have to be on the disk, and a crash between
            # them brings the message again, which changes nothing.
            try:
                self._store.save(self._face.state)
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

    async def _post(self, request: web.Request) -> web.StreamResponse:
        if self._serving >= self._config.connections:
            raise web.HTTPServiceUnavailable(text="too many requests at once\n")
        self._serving += 1
        try:
            return await self._serve(request)
        finally:
            self._serving -= 1

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        if request.content_type not in _XML_TYPES:
            raise web.HTTPUnsupportedMediaType(
                text="OpenADR 2.0b is posted as Content-Type: application/xml\n"
            )
        try:
            async with asyncio.timeout(self._config.body_timeout_s):
                body = await request.read()
            payload = parse_untrusted_payload(body)
        except TimeoutError:
            raise web.HTTPRequestTimeout(
                text=f"the body did not come in {self._config.body_timeout_s:g} s\n"
            ) from None
        except PayloadRefused as error:
            raise web.HTTPBadRequest(text=f"no OpenADR 2.0b payload: {error}\n") from None
        service = str(request.match_info.route.name)
        try:
            answer = await self.ask(payload, service, fingerprint(request))
        except StoreError as error:
            logger.error("cannot keep a request: %s", error)
            raise web.HTTPServiceUnavailable(text="cannot be kept now; try again\n") from None
        return await self._write(request, answer)

    async def _write(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        response = web.Response(body=answer.octets, content_type="application/xml")
        if request.transport is None or request.transport.is_closing():
            return response  # the VEN has gone: what was for it stays
        try:
            await response.prepare(request)
            await response.write_eof()
        except ConnectionError:
            return response
        await self.written(answer)
        return response

    async def written(self, answer: Answer) -> None:
        """Take note that the VEN has an answer."""
        self._face.delivered(answer)
        self._save_if_possible()
        if answer.queued is not None:
            await self.tell_change()

    async def ask(self, payload: Payload, service: str, certificate: str) -> Answer:
        """Take what a VEN says, and return what to answer.

        Raises:
            StoreError: what must be kept cannot be.
        """
        reaction = self._face.request(payload, service, certificate, self._clock())
        if isinstance(reaction, Wait) and self._is_lost(reaction.ref):
            self._face.forget(reaction.key)
            reaction = self._face.request(payload, service, certificate, self._clock())
        if isinstance(reaction, Answer):
            self._store.save(self._face.state)
            return reaction
        if isinstance(reaction, Forward):
            refusal = await self._send(reaction, certificate)
            if refusal is not None:
                return refusal
            if reaction.answer is not None:
                return Answer(reaction.answer)
        return await self._wait(reaction.key, payload.request_id)

    async def _send(self, forward: Forward, certificate: str) -> Answer | None:
        self._face.begun(forward, certificate, self._clock())
        try:
            handle = await self._gateway.send(
                forward.payload.octets, priority=priority(forward.payload.kind)
            )
        except (CemError, TunnelError) as error:
            logger.warning("cannot send an %s of the VEN: %s", forward.payload.kind, error)
            refusal = self._face.not_sent(forward)
            await self.tell_change()  # others may hold a connection open for the same
            return refusal
        except BaseException:
            self._face.not_sent(forward)
            raise
        self._face.sent(forward, handle.ref)
        self._save_if_possible()
        logger.info("to the VTN: %s", forward.payload.kind)
        return None

    def _save_if_possible(self) -> None:
        # What is lost with it is done again: a request crosses twice, a message is given twice.
        try:
            self._store.save(self._face.state)
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
        self._face.watch(key, +1)
        try:
            async with asyncio.timeout(self._config.patience_s), self._changed:
                await self._changed.wait_for(lambda: self._face.has_answer(key))
        except TimeoutError:
            pass
        finally:
            self._face.watch(key, -1)
        return self._face.answer_of(key, request_id)

    # For a VEN of the PUSH model

    @property
    def face(self) -> Face:
        """The protocol logic, for `VenPusher`."""
        return self._face

    async def wait_for_push(self) -> tuple[str, Answer, str]:
        """Return the next push: base address, what to send, its kind."""
        async with self._changed:
            while (push := self._face.next_push(self._clock())) is None:
                # Without a change only the grace of a refusal can pass.
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(
                        self._changed.wait(), timeout=self._config.refusal_grace_s
                    )
            return push


@web.middleware
async def _log_refusals(request: web.Request, handler: Any) -> web.StreamResponse:
    try:
        response: web.StreamResponse = await handler(request)
    except web.HTTPException as refusal:
        # The path is foreign text: shown as a literal, so that it cannot forge log lines.
        logger.warning(
            "refused %s %.200r from %s: HTTP %d: %s",
            request.method,
            request.path,
            request.remote,
            refusal.status,
            (refusal.text or refusal.reason).strip(),
        )
        raise
    return response
