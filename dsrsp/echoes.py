"""Echoes that CEMs were asked for and that somebody waits for."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterator

from dsrsp.core.delivery import Outcome
from dsrsp.core.request import Request
from dsrsp.errors import GatewayNotRunning, NoEcho
from gbcs.entity_id import EntityId
from smtunnel.outbound import CONTROL_REF
from smtunnel.policy import Result

logger = logging.getLogger("dsrsp")


class Echoes:
    """Brings each reply to whoever waits for it."""

    def __init__(self) -> None:
        self._waiting: dict[bytes, tuple[EntityId, asyncio.Future[float]]] = {}

    @contextlib.contextmanager
    def expect(self, device: EntityId, nonce: bytes) -> Iterator[asyncio.Future[float]]:
        """Wait for the reply with a nonce: the time at which it came, in seconds.

        The future raises NoEcho when the reply cannot come any more.
        """
        reply: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self._waiting[nonce] = (device, reply)
        try:
            yield reply
        finally:
            del self._waiting[nonce]

    def take(self, device: EntityId, nonce: bytes, now: float) -> None:
        """Take a reply."""
        asked, reply = self._waiting.get(nonce, (None, None))
        if reply is None or asked != device or reply.done():
            logger.info("%s sent an echo that nobody waits for", device)
            return
        reply.set_result(now)

    def fail(self, request: Request, outcome: Outcome) -> None:
        """An echo is not repeated: what keeps one from the device ends the waiting."""
        refused = outcome.result in (None, Result.REJECTED)
        if not (refused and request.message_ref.startswith(CONTROL_REF)):
            return
        for device, reply in self._waiting.values():
            if device == request.pre_command.target_id and not reply.done():
                reply.set_exception(NoEcho(f"no echo of {device}: {outcome.detail}"))

    def close(self) -> None:
        """End all waiting."""
        for _, reply in self._waiting.values():
            if not reply.done():
                reply.set_exception(GatewayNotRunning("the gateway ended before the echo came"))
