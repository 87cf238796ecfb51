"""What stands before route 2b's handshake: who may open TLS, how many at once, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Coroutine
from typing import Any, cast

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode

from dsrsp.route_2b.config import Route2bServerConfig
from dsrsp.route_2b.gate import Complaints, Gate, HalfOpen, Tally
from dsrsp.route_2b.tls import start_tls

_LOG = logging.getLogger("dsrsp.route_2b")
_TURNED_AWAY_AT_ONCE = 1
"""To turn somebody away properly costs as much as to let somebody in."""
_TURNED_AWAY_WAITING = 64
UNPROVEN_OCTETS = 16 * 1024
"""HTTP, handshake and all else of who is not proven: in what many small pieces ever it comes."""
_UNREAD_PINGS = 16
"""Pings of who does not read: each leaves an answer in memory."""


class Door:
    """Takes connections in at a pace: counts them, starts TLS when it is their turn."""

    def __init__(self, config: Route2bServerConfig, context: ssl.SSLContext) -> None:
        self._config = config
        self.context = context
        self.gate = Gate(config.handshakes_at_once)
        self.back_gate = Gate(_TURNED_AWAY_AT_ONCE)
        self.half_open = HalfOpen(config.half_open_connections, config.half_open_per_address)
        self._tasks: set[asyncio.Task[None]] = set()
        self.complaints = Complaints(_LOG)
        self.cut_off = Tally(_LOG, "route 2b cut off %d connections, the last from %s: %s")

    @property
    def timeout_s(self) -> float:
        """How long TLS may take."""
        return self._config.handshake_timeout_s

    def crowded(self, address: str) -> bool:
        """Tell whether so many wait before who comes now that it is to come back later."""
        config, before = self._config, self.gate.before(address)
        return (
            before >= config.handshakes_waiting
            or before * self.gate.pace_s > config.handshake_patience_s
        )

    def full(self, address: str) -> str | None:
        """Say why nobody more from an address can be taken, or even be told to come back."""
        why = self.half_open.full(address)
        if why is None and self.crowded(address) and self.back_gate.waiting >= _TURNED_AWAY_WAITING:
            why = f"{self.gate.waiting} wait for their handshake"
        return why

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine that `close` ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def close(self) -> None:
        """End what is not connected yet."""
        for task in self._tasks:
            task.cancel()


class DoorConnection(ServerConnection):
    """A WebSocket that takes its turn for TLS and counts as half-open until it is proven."""

    def __init__(self, *arguments: Any, door: Door, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._door = door
        self._secured = False
        self._entered = contextlib.ExitStack()
        self._address = "?"
        self._unproven_octets: int | None = 0
        self._unread_pings = 0
        self.turned_away = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: first with the plain connection, then with the encrypted one."""
        if self._secured:
            super().connection_made(transport)
            return
        plain = cast(asyncio.Transport, transport)
        self._address = address = str((plain.get_extra_info("peername") or ("?",))[0])
        why = self._door.full(address)
        if why is not None:
            self._door.cut_off.note(address, why)
            plain.abort()
            return
        self._secured = True
        plain.pause_reading()
        leave = self._entered.enter_context(self._door.half_open.counted(address))
        self._entered.callback(leave)
        self._door.run(self._secure(plain))

    async def _secure(self, plain: asyncio.Transport) -> None:
        self.turned_away = self._door.crowded(self._address)
        gate = self._door.back_gate if self.turned_away else self._door.gate
        try:
            self._entered.callback(await gate.enter(self._address))
            if plain.is_closing():
                self.left()
                return
            await start_tls(plain, self, self._door.context, self._door.timeout_s)
        except OSError as error:
            # Versions, time-outs, what is no TLS at all, and who has gone.
            reason = getattr(error, "reason", None) or str(error) or type(error).__name__
            self._door.complaints.tell("route 2b: no TLS with %s: %s", self._address, reason)
            plain.abort()
            self.left()
        except asyncio.CancelledError:
            plain.abort()
            self.left()
            raise

    def data_received(self, data: bytes) -> None:
        """Take what came; cut off who sends more than anybody needs before being proven."""
        if self._unproven_octets is not None:
            self._unproven_octets += len(data)
            if self._unproven_octets > UNPROVEN_OCTETS:
                self._cut_off(f"more than {UNPROVEN_OCTETS} octets before it was proven")
                return
        super().data_received(data)

    def process_event(self, event: Any) -> None:
        """Take a frame; cut off who sends pings and does not read their answers."""
        if isinstance(event, Frame) and event.opcode is Opcode.PING:
            self._unread_pings = self._unread_pings + 1 if self.paused else 0
            if self._unread_pings > _UNREAD_PINGS:
                self._cut_off("it sends pings and reads no answers")
        super().process_event(event)

    def _cut_off(self, why: str) -> None:
        if not self.transport.is_closing():
            self._door.cut_off.note(self._address, why)
            self.transport.abort()

    def proven(self, message_octets: int) -> None:
        """Take messages from now on, and be half-open no more."""
        self.protocol.max_message_size = message_octets
        self._unproven_octets = None
        self.left()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        self.left()
        if hasattr(self, "transport"):
            super().connection_lost(exc)

    def left(self) -> None:
        """Be half-open no more: proven or gone."""
        self._entered.close()

    async def handshake(self, *arguments: Any, **options: Any) -> None:
        """Do the HTTP part; say in the log what the library drops in silence."""
        try:
            await super().handshake(*arguments, **options)
        except asyncio.CancelledError:
            self._door.complaints.tell(
                "route 2b: no WebSocket request from %s in time", self._address
            )
            raise
        error = self.protocol.handshake_exc
        if error is not None:
            self._door.complaints.tell(
                "route 2b: no WebSocket with %s: %.200s: %.200s",
                self._address,
                repr(str(error)),
                repr(str(error.__cause__ or "")),
            )
