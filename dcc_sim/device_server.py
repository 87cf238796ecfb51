"""The WebSocket server that devices connect to; stands for communications hub and SM WAN."""

from __future__ import annotations

import asyncio
import http
import logging
from dataclasses import dataclass, field
from typing import Any

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from dcc_sim.core.effects import Deliver
from dcc_sim.engine import Engine
from dcc_sim.errors import DeviceMessageRefused
from dcc_sim.logs import quiet_logger
from gbcs.device_link import (
    CLOSE_REFUSED,
    CLOSE_REPLACED,
    NONCE_OCTETS,
    Challenge,
    build_welcome,
    parse_untrusted_path,
)
from gbcs.entity_id import EntityId
from gbcs.errors import FormatError
from gbcs.messages import MAX_MESSAGE_OCTETS
from gbcs.ports import Randomness

_LOG = logging.getLogger("dcc_sim.device")

CLOSE_UNSUPPORTED_DATA = 1003
_MAX_REASON_CHARS = 100


@dataclass(slots=True, eq=False)
class _Link:
    connection: ServerConnection
    outgoing: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)


class DeviceServer:
    """Lets devices in that prove their key; carries GBCS messages both ways.

    Args:
        random_octets: makes the challenges' nonces.
        proof_timeout_s: how long a device may take to answer its challenge, in seconds.
    """

    def __init__(self, *, random_octets: Randomness, proof_timeout_s: float) -> None:
        self._random_octets = random_octets
        self._proof_timeout_s = proof_timeout_s
        self._links: dict[EntityId, _Link] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._engine: Engine | None = None
        self._server: Server | None = None

    def devices(self) -> list[EntityId]:
        """Return who is connected."""
        return list(self._links)

    def deliver(self, delivery: Deliver) -> None:
        """Send octets to a device; what cannot be sent now waits in the logic."""
        link = self._links.get(delivery.device)
        if link is not None:
            link.outgoing.put_nowait(delivery.octets)
            _LOG.info("delivering %s to %s", delivery.request_id, delivery.device)

    async def start(self, engine: Engine, listener: object) -> None:
        """Begin to take connections on a listening socket."""
        self._engine = engine
        self._server = await serve(
            self._handle,
            sock=listener,
            process_request=_check_path,
            create_connection=_Connection,
            compression=None,
            # A challenge's answer is shorter than a GBCS message.
            max_size=MAX_MESSAGE_OCTETS,
            open_timeout=self._proof_timeout_s,
            server_header=None,
            logger=quiet_logger("dcc_sim.device"),
        )

    async def close(self) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
        await asyncio.gather(*self._closing, return_exceptions=True)

    async def _handle(self, connection: ServerConnection) -> None:
        device = parse_untrusted_path(connection.request.path if connection.request else "")
        try:
            async with asyncio.timeout(self._proof_timeout_s):
                await self._check_proof(connection, device)
                await connection.send(build_welcome())
        except TimeoutError:
            await self._refuse(connection, device, "no proof in time")
        except DeviceMessageRefused as error:
            await self._refuse(connection, device, str(error))
        except ConnectionClosed as closed:
            _LOG.warning("device %s left before its proof: %s", device, closed)
        else:
            await self._serve(connection, device)

    async def _check_proof(self, connection: ServerConnection, device: EntityId) -> None:
        challenge = Challenge(self._random_octets(NONCE_OCTETS))
        await connection.send(challenge.build())
        answer = await connection.recv()
        if not isinstance(answer, str):
            raise DeviceMessageRefused("a binary message before the proof")
        self._running().check_untrusted_proof(device, challenge, answer)

    async def _serve(self, connection: ServerConnection, device: EntityId) -> None:
        link = _Link(connection)
        before = self._links.get(device)
        self._links[device] = link
        if before is not None:
            self._replace(before, device)
        self._running().connected(device)
        writer = asyncio.get_running_loop().create_task(_write(link))
        try:
            await self._read(connection, device)
        except ConnectionClosed as closed:
            _LOG.info("device %s: %s", device, closed)
        finally:
            writer.cancel()
            if self._links.get(device) is link:
                del self._links[device]
                self._running().disconnected(device)

    async def _read(self, connection: ServerConnection, device: EntityId) -> None:
        async for message in connection:
            if isinstance(message, str):
                _LOG.warning("device %s sent text where GBCS messages are due: closed", device)
                await connection.close(CLOSE_UNSUPPORTED_DATA, "expected binary messages")
                return
            self._running().message(device, message)
            # Messages that wait already come without a pause: others have their turn, too.
            await asyncio.sleep(0)

    def _replace(self, link: _Link, device: EntityId) -> None:
        _LOG.warning("device %s connected once more: the older connection is closed", device)
        closing = link.connection.close(CLOSE_REPLACED, "replaced by a newer connection")
        task = asyncio.get_running_loop().create_task(closing)
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _refuse(self, connection: ServerConnection, device: EntityId, why: str) -> None:
        _LOG.warning("refused device %s: %s", device, why)
        await connection.close(CLOSE_REFUSED, why[:_MAX_REASON_CHARS])

    def _running(self) -> Engine:
        if self._engine is None:
            raise RuntimeError("the device server was not started")
        return self._engine


async def _write(link: _Link) -> None:
    try:
        while True:
            await link.connection.send(await link.outgoing.get())
    except ConnectionClosed:
        # The reader sees it too, and tells the logic.
        return


class _Connection(ServerConnection):
    """Says in the log what the library drops in silence: who does not speak WebSocket."""

    async def handshake(self, *arguments: Any, **options: Any) -> None:
        await super().handshake(*arguments, **options)
        error = self.protocol.handshake_exc
        if error is not None and self.request is None:
            _LOG.warning(
                "refused a connection from %s: %s: %.200s",
                self.remote_address,
                error,
                repr(str(error.__cause__ or "")),
            )


def _check_path(connection: ServerConnection, request: Request) -> Response | None:
    try:
        parse_untrusted_path(request.path)
    except FormatError as error:
        _LOG.warning("refused a connection from %s: %s", connection.remote_address, error)
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"{error}\n")
    return None
