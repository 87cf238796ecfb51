"""The server that CEMs connect to over the internet: TLS and WebSocket around `Sessions`."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import http
import logging
import os
import socket
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from dsrsp.errors import GatewayNotRunning
from dsrsp.route_2b.config import Route2bServerConfig
from dsrsp.route_2b.door import Door, DoorConnection
from dsrsp.route_2b.gate import CallBack, Tally
from dsrsp.route_2b.links import Broadcast, Links
from dsrsp.route_2b.revocation import Revocations, SmkiRepository, StatusSource
from dsrsp.route_2b.session import Application, Sessions
from dsrsp.route_2b.tls import make_server_context, read_certificate_sha256
from dsrsp.signing import LocalSigner, SupplierSigner
from gbcs.certificates import Role
from gbcs.entity_id import EntityId
from gbcs.errors import FormatError, Route2bClosed
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Randomness
from gbcs.route_2b_texts import (
    MAX_TEXT_OCTETS,
    SUBPROTOCOL,
    VERSION,
    CloseCode,
    build_try_later,
    parse_untrusted_route_2b_path,
)
from smtunnel.routes import RouteOffer

_LOG = logging.getLogger("dsrsp.route_2b")
_CLOSE_TIMEOUT_S = 2.0
_INTERNAL_ERROR = 1011
_BACKLOG = 4096
_WRITE_LIMIT_OCTETS = 16 * 1024
_FRAMES_WAITING = 2


class Route2bServer:
    """Route 2b's server. Use it with `start` and `close`, or ``async with``.

    Args:
        config: its settings; relative paths in it are below ``base``.
        keystore: certificates of devices, and the supplier's certificate.
        dsrsp: the supplier's EUI.
        application: whom it serves.
        signer: has the supplier's digital-signature key; None: it is in the key store.
        status_source: asked for revocations in place of the configured repository.
        base: what relative paths are below.
        clock: the wall clock.
        random_octets: for nonces.

    Raises:
        ConfigurationError: certificate, key or list of revoked certificates cannot be used.
        gbcs.errors.CertificateError: the supplier's key is asked of the store, and not in it.
    """

    def __init__(
        self,
        config: Route2bServerConfig,
        keystore: KeyStore,
        dsrsp: EntityId,
        application: Application,
        *,
        signer: SupplierSigner | None = None,
        status_source: StatusSource | None = None,
        base: Path = Path(),
        clock: Clock = time.time,
        random_octets: Randomness = os.urandom,
    ) -> None:
        self._config = config
        certificate, key = base / config.certificate, base / config.private_key
        self._context = make_server_context(certificate, key, tls_1_2=config.tls_1_2)
        self._certificate_sha256 = read_certificate_sha256(certificate)
        self._clock = clock
        self._repository: SmkiRepository | None = None
        if status_source is None and config.smki_repository is not None:
            status_source = self._repository = SmkiRepository(config.smki_repository)
        revocations = Revocations(
            None if config.revoked is None else base / config.revoked,
            status_source,
            required=config.smki_required,
            fresh_s=config.revocation_check_s,
        )
        self._links = Links()
        self._sessions = Sessions(
            config,
            dsrsp=dsrsp,
            keystore=keystore,
            signer=signer or LocalSigner(keystore.signer(dsrsp, role=Role.SUPPLIER)),
            revocations=revocations,
            links=self._links,
            application=application,
            clock=clock,
            random_octets=random_octets,
        )
        self._door = Door(config, self._context)
        self._call_back = CallBack(config.try_later_max_s)
        self._later = Tally(_LOG, "route 2b: %d told 4429 TRY_LATER, the last %s: %s")
        self._server: Server | None = None
        self._stack = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Route2bServer:
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def start(self, listener: socket.socket | None = None) -> None:
        """Begin to take connections.

        Args:
            listener: a listening socket; None: one is opened at the configured address.
        """
        config = self._config
        if self._repository is not None:
            await self._stack.enter_async_context(self._repository)
        host, port = config.address()
        place: dict[str, Any] = (
            {"host": host, "port": port} if listener is None else {"sock": listener}
        )
        self._server = await serve(
            self._handle,
            **place,
            backlog=_BACKLOG,
            process_request=self._check_path,
            # A subclass is asked for; any callable does.
            create_connection=cast(Any, functools.partial(DoorConnection, door=self._door)),
            subprotocols=[Subprotocol(SUBPROTOCOL)],
            compression=None,
            server_header=None,
            max_size=MAX_TEXT_OCTETS,
            max_queue=_FRAMES_WAITING,
            write_limit=_WRITE_LIMIT_OCTETS,
            open_timeout=config.handshake_timeout_s,
            close_timeout=_CLOSE_TIMEOUT_S,
            ping_interval=config.keepalive_s,
            ping_timeout=config.keepalive_timeout_s,
            logger=_library_logger(),
        )
        watch = asyncio.get_running_loop().create_task(self._watch())
        self._stack.callback(watch.cancel)

    async def close(self) -> None:
        """Close all connections and stop."""
        if self._server is not None:
            self._door.close()
            self._server.close()
            await self._server.wait_closed()
        await self._stack.aclose()

    @property
    def port(self) -> int:
        """The port that it listens on.

        Raises:
            GatewayNotRunning: it was not started.
        """
        if self._server is None:
            raise GatewayNotRunning("route 2b's server was not started")
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def pins(self) -> tuple[bytes, ...]:
        """What offers name: SHA-256 of the certificate shown now, and of those to come."""
        return (self._certificate_sha256, *map(bytes.fromhex, self._config.next_pins))

    def offer(self, number: int) -> RouteOffer:
        """Return an offer of this server that holds from now on.

        Args:
            number: above that of every offer before, 32 bits.
        """
        now = int(self._clock())
        return RouteOffer(
            offer=number,
            addresses=tuple(self._config.addresses),
            pins=self.pins,
            not_before=now,
            not_after=now + max(1, int(self._config.offer_valid_s)),
            versions=(VERSION,),
            message_octets=self._config.message_octets,
        )

    def devices(self) -> list[EntityId]:
        """Return who is connected."""
        return [link.device for link in self._links]

    def send(
        self, device: EntityId, message: bytes, written: Callable[[], None] | None = None
    ) -> bool:
        """Queue a signed message for a device.

        Args:
            device: whom to.
            message: whole and signed.
            written: called when the connection has taken it.

        Returns:
            False when it will not be sent: the device is not connected, has too much waiting, or
            takes only shorter ones. True is no promise that it arrives.
        """
        link = self._links.get(device)
        return link is not None and link.send(message, written)

    async def broadcast(
        self,
        make: Callable[[EntityId], bytes | None],
        devices: Iterable[EntityId] | None = None,
    ) -> Broadcast:
        """Send each of many devices a message of its own; see `Links.broadcast`."""
        return await self._links.broadcast(make, devices)

    def put_out(self, device: EntityId, code: CloseCode, reason: str) -> None:
        """Close a device's connection, with OFFER_OVER when its offer is withdrawn."""
        link = self._links.get(device)
        if link is not None:
            link.end(code, reason)

    async def recheck(self) -> None:
        """Check the certificates of all who are connected now; done regularly by itself."""
        await self._sessions.recheck()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._config.revocation_check_s)
            try:
                await self._sessions.recheck()
            except Exception:
                _LOG.exception("unforeseen error while certificates were checked again")

    def _check_path(self, connection: ServerConnection, request: Request) -> Response | None:
        try:
            parse_untrusted_route_2b_path(request.path)
        except FormatError as error:
            self._door.complaints.tell(
                "route 2b refused a connection from %s: %s", connection.remote_address, error
            )
            return connection.respond(http.HTTPStatus.NOT_FOUND, f"{error}\n")
        return None

    async def _handle(self, socket_: ServerConnection) -> None:
        connection = cast(DoorConnection, socket_)
        device = parse_untrusted_route_2b_path(
            connection.request.path if connection.request else ""
        )
        face = WebSocketFace(connection, self._certificate_sha256)
        if connection.turned_away or len(self._links) >= self._config.connections:
            now = asyncio.get_running_loop().time()
            wait_s = self._call_back.wait_s(now, self._door.gate)
            reason = build_try_later(wait_s, "too many at once")
            self._later.note(device, reason)
            await face.close(CloseCode.TRY_LATER, reason)
            return

        def proven() -> None:
            connection.proven(self._config.message_octets)

        try:
            await self._sessions.serve(face, device, proven)
        except Exception:
            # A fault of ours ends this connection and no other.
            _LOG.exception("unforeseen error on route 2b with %s", device)
            await face.close(_INTERNAL_ERROR, "unforeseen error")


class WebSocketFace:
    """A WebSocket as `gbcs.route_2b_trust.Connection`.

    Args:
        socket_: open.
        certificate_sha256: of the server's certificate.
    """

    __slots__ = ("_socket", "certificate_sha256")

    def __init__(self, socket_: ServerConnection, certificate_sha256: bytes) -> None:
        self._socket = socket_
        self.certificate_sha256 = certificate_sha256

    async def receive(self) -> str | bytes:
        """Return the next message."""
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        try:
            await self._socket.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def close(self, code: int, reason: str) -> None:
        """Close, and say why; cut off who does not even read that."""
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await self._socket.close(code, reason)
        except TimeoutError:
            self._socket.transport.abort()


def _closed(error: ConnectionClosed) -> Route2bClosed:
    if error.sent is not None and not error.rcvd_then_sent:
        # The library itself ended it: a message too long, or no WebSocket frames.
        said = f"closed from here: {error.sent.code} {error.sent.reason}"
        return Route2bClosed(None, said.rstrip())
    if error.rcvd is None:
        return Route2bClosed(None, "")
    return Route2bClosed(error.rcvd.code, error.rcvd.reason)


def _library_logger() -> logging.Logger:
    # What the library tells of single connections is told above, with who it is about.
    logger = logging.getLogger("dsrsp.route_2b.library")
    logger.setLevel(logging.CRITICAL)
    return logger
