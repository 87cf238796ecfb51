"""The DSRSP's OpenADR face: for each CEM a VEN, to any unmodified VTN."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final

from dsrsp.errors import DsrspError
from dsrsp.gateway import Gateway
from dsrsp.handles import Handle
from dsrsp.inbox import ReceivedMessage
from dsrsp.openadr.cem_ven import CemVen
from dsrsp.openadr.config import OpenAdrConfig
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Ven
from dsrsp.openadr.push_server import PushServer
from dsrsp.openadr.store import VenStore
from dsrsp.openadr.vtn import VtnClient
from gbcs.entity_id import EntityId
from gbcs.ports import Clock
from openadr_xml import PayloadRefused, parse_untrusted_payload

logger = logging.getLogger("dsrsp.openadr")

_RETRY_S: Final = 1.0


class OpenAdrVens:
    """VENs to the DSRSP's VTN, behind a gateway. Use it with ``async with``.

    It takes what the gateway received; what is no OpenADR 2.0b is given on by `received`.

    Args:
        config: the settings; the paths in it are used as they are.
        gateway: a running gateway.
        clock: the wall clock.
        push_listener: a bound and listening socket, instead of ``config.push_listen``.
    """

    def __init__(
        self,
        config: OpenAdrConfig,
        gateway: Gateway,
        *,
        clock: Clock = time.time,
        push_listener: socket.socket | None = None,
    ) -> None:
        self._config = config
        self._gateway = gateway
        self._clock = clock
        self._push_listener = push_listener
        self._vens: dict[EntityId, CemVen] = {}
        self._owners = _Owners()
        self._registrants = _Owners()
        self._others: asyncio.Queue[ReceivedMessage | None] = asyncio.Queue()
        self._stack = AsyncExitStack()
        self._task: asyncio.Task[None] | None = None
        self.push_port = 0

    async def __aenter__(self) -> OpenAdrVens:
        async with AsyncExitStack() as stack:
            self._vtn = await stack.enter_async_context(VtnClient(self._config))
            self._store = VenStore(self._config.state)
            stack.callback(self._store.close)
            stack.push_async_callback(self._stop)
            for device, state in self._store.load():
                self._add(device, state)
            if self._config.push_listen is not None:
                server = PushServer(self._config, self.ven, listener=self._push_listener)
                self.push_port = (await stack.enter_async_context(server)).port
            self._task = asyncio.create_task(self._take_received(), name="dsrsp openadr")
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(ven.stop() for ven in self._vens.values()))
        self._others.put_nowait(None)

    def status(self) -> dict[str, Any]:
        """Return what stands, as plain JSON values."""
        return {
            "vtn_url": self._vtn.shown,
            "vens": {
                str(device): {
                    "ven_id": ven.ven.state.ven_id,
                    "vtn_id": ven.ven.state.vtn_id,
                    "poll_interval_s": ven.ven.poll_interval_s,
                    "asked_to_register_again": ven.ven.state.reregistration_asked,
                    "counts": dict(sorted(ven.ven.counts.items())),
                }
                for device, ven in sorted(self._vens.items())
            },
        }

    def ven(self, device: EntityId) -> CemVen | None:
        """Return the VEN of a CEM that has sent something before."""
        return self._vens.get(device)

    # What is not OpenADR 2.0b

    async def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield the messages from CEMs that are no OpenADR 2.0b; ends with the face."""
        while (received := await self._others.get()) is not None:
            yield received

    def handle(self, ref: str) -> Handle:
        """Return the handle of a message that was sent; see `Gateway.handle`."""
        return self._gateway.handle(ref)

    # Inside

    async def _take_received(self) -> None:
        while True:
            try:
                async for received in self._gateway.received():
                    self._take_from(received)
                return  # the gateway has ended
            except DsrspError as error:
                logger.error("received messages cannot be taken, next try soon: %s", error)
                await asyncio.sleep(_RETRY_S)

    def _take_from(self, received: ReceivedMessage) -> None:
        try:
            self._take(received)
        except DsrspError:
            raise
        except Exception:
            # What one CEM sends must not end the work for all others.
            logger.exception(
                "%s: message %s cannot be taken, which is a fault of this program: please report "
                "it; the message comes again at the next start",
                received.peer,
                received.ref,
            )

    def _take(self, received: ReceivedMessage) -> None:
        try:
            payload = parse_untrusted_payload(received.message)
        except PayloadRefused:
            self._others.put_nowait(received)
            return
        ven = self._vens.get(received.peer) or self._add(received.peer, VenState())
        ven.take(received, payload)

    def _add(self, device: EntityId, state: VenState) -> CemVen:
        ven = CemVen(
            device,
            Ven(
                self._config,
                state,
                device=str(device),
                owner_of=self._owner_of,
                registrant_of=self._registrant_of,
            ),
            config=self._config,
            vtn=self._vtn,
            send=self._gateway.send,
            save=self._save,
            clock=self._clock,
        )
        self._vens[device] = ven
        self._note_owner(device, state)
        ven.start()
        return ven

    def _save(self, device: EntityId, state: VenState) -> None:
        self._note_owner(device, state)
        self._store.save(device, state)

    def _note_owner(self, device: EntityId, state: VenState) -> None:
        self._owners.note(device, state.ven_id)
        self._registrants.note(device, state.registration_id)

    def _owner_of(self, ven_id: str) -> str | None:
        return self._owners.find(ven_id)

    def _registrant_of(self, registration_id: str) -> str | None:
        return self._registrants.find(registration_id)


class _Owners:
    """Which CEM has which name, one each."""

    def __init__(self) -> None:
        self._owners: dict[str, EntityId] = {}
        self._names: dict[EntityId, str] = {}

    def note(self, device: EntityId, name: str) -> None:
        before = self._names.get(device, "")
        if before == name:
            return
        if self._owners.get(before) == device:
            del self._owners[before]
        self._names[device] = name
        if name:
            self._owners[name] = device

    def find(self, name: str) -> str | None:
        owner = self._owners.get(name)
        return None if owner is None else str(owner)
