"""Dials one address of a route offer: TLS pinned by the certificate's hash, then WebSocket."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import ssl
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.typing import Subprotocol

from cem.errors import LinkError, PinMismatch, connect_reason
from cem.route_2b.config import Route2bClientConfig
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bClosed
from gbcs.route_2b_texts import MAX_TEXT_OCTETS, SUBPROTOCOL, route_2b_path
from gbcs.route_2b_trust import Connection

_CLOSE_TIMEOUT_S = 2.0
_FRAMES_WAITING = 4

Dialler: TypeAlias = Callable[
    [str, EntityId, Collection[bytes]], AbstractAsyncContextManager[Connection]
]
"""Opens a connection: address, device, pins. A simulation has one without sockets.

Raises `cem.errors.LinkError`, in it `PinMismatch`, when it does not come to that."""


def is_usable_address(address: str) -> bool:
    """Tell whether an address of an offer can be dialled: wss, a host, no more than a path."""
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        return False
    plain = not (parts.query or parts.fragment or parts.username or parts.password)
    return parts.scheme == "wss" and bool(parts.hostname) and plain


def make_client_context(*, tls_1_2: bool) -> ssl.SSLContext:
    """Return a TLS context that trusts nobody and asks for no name: the pin decides alone.

    No session is ever resumed with it: Python does so only when it is given one, and in a resumed
    session a server shows no certificate.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2 if tls_1_2 else ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class WebSocketFace:
    """A WebSocket as `gbcs.route_2b_trust.Connection`.

    Args:
        socket: open.
        certificate_sha256: of the certificate that the server has shown.
        message_octets: the longest message taken once the challenge is here.
    """

    __slots__ = ("_message_octets", "_socket", "certificate_sha256")

    def __init__(
        self, socket: ClientConnection, certificate_sha256: bytes, message_octets: int
    ) -> None:
        self._socket = socket
        self._message_octets = message_octets
        self.certificate_sha256 = certificate_sha256

    async def receive(self) -> str | bytes:
        """Return the next message."""
        try:
            received = await self._socket.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None
        # The welcome and a long message may come at once: it cannot be done later than here.
        self._socket.protocol.max_message_size = self._message_octets
        return received

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
        said = f"closed from here: {error.sent.code} {error.sent.reason}"
        return Route2bClosed(None, said.rstrip())
    if error.rcvd is None:
        return Route2bClosed(None, "")
    return Route2bClosed(error.rcvd.code, error.rcvd.reason)


class _PinnedConnection(ClientConnection):
    """Looks at the server's certificate before it says anything, even which device it is."""

    pins: Collection[bytes] = ()
    certificate_sha256 = b""

    async def handshake(self, *arguments: Any, **options: Any) -> None:
        tls = self.transport.get_extra_info("ssl_object")
        certificate = None if tls is None else tls.getpeercert(binary_form=True)
        self.certificate_sha256 = hashlib.sha256(certificate or b"").digest()
        if certificate is None or self.certificate_sha256 not in self.pins:
            raise PinMismatch(
                "the server shows another certificate than the offer names: "
                f"SHA-256 {self.certificate_sha256.hex()}"
            )
        await super().handshake(*arguments, **options)


def websocket_dialler(config: Route2bClientConfig) -> Dialler:
    """Return what dials real addresses."""
    context = make_client_context(tls_1_2=config.tls_1_2)

    @contextlib.asynccontextmanager
    async def dial(
        address: str, device: EntityId, pins: Collection[bytes]
    ) -> AsyncIterator[Connection]:
        class Pinned(_PinnedConnection):
            pass

        Pinned.pins = pins
        try:
            socket = await connect(
                address.rstrip("/") + route_2b_path(device),
                ssl=context,
                create_connection=Pinned,
                subprotocols=[Subprotocol(SUBPROTOCOL)],
                compression=None,
                proxy=None,
                user_agent_header=None,
                max_size=MAX_TEXT_OCTETS,
                max_queue=_FRAMES_WAITING,
                open_timeout=config.connect_timeout_s,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=config.keepalive_s,
                ping_timeout=config.keepalive_timeout_s,
            )
        except InvalidStatus as error:
            raise LinkError(
                f"{address} answered {error.response.status_code} in place of a WebSocket"
            ) from None
        except (OSError, TimeoutError, WebSocketException) as error:
            raise LinkError(f"cannot connect to {address}: {connect_reason(error)}") from None
        try:
            if socket.subprotocol != SUBPROTOCOL:
                raise LinkError(f"{address} does not speak {SUBPROTOCOL}")
            shown = getattr(socket, "certificate_sha256", b"")
            yield WebSocketFace(socket, shown, config.message_octets)
        finally:
            await socket.close()

    return dial
