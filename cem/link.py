"""The link to the communications hub: connects, proves the device's key, connects again.

The hub is not trusted with anything but transport: whatever it sends is checked by the
core, and whatever it does wrong ends in another connection, later.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from cem.config import CemConfig
from cem.errors import AlertError, LinkError, LinkRefused, StoreError, connect_reason
from cem.ports import Connector, HubConnection
from gbcs.device_link import (
    CLOSE_REFUSED,
    NONCE_OCTETS,
    device_path,
    make_proof,
    parse_untrusted_challenge,
    parse_untrusted_welcome,
)
from gbcs.errors import FormatError
from gbcs.messages import MAX_MESSAGE_OCTETS
from gbcs.ports import Randomness, Signer

logger = logging.getLogger("cem")

_MAX_FRAME_OCTETS: Final = 4 * MAX_MESSAGE_OCTETS
"""A message a little too long is refused by the core; beyond this the connection ends."""

_CLOSE_TIMEOUT_S: Final = 1.0
_MAX_DOUBLINGS: Final = 32


class WebSocketHub:
    """A WebSocket to the hub; implements `cem.ports.HubConnection`."""

    def __init__(self, socket: ClientConnection, timeout_s: float) -> None:
        self._socket = socket
        self._timeout_s = timeout_s

    async def receive(self) -> str | bytes:
        """Return the next message."""
        try:
            return await self._socket.recv()
        except ConnectionClosed as error:
            raise _closed(error) from None

    async def send(self, message: str | bytes) -> None:
        """Send one message."""
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._socket.send(message)
        except ConnectionClosed as error:
            raise _closed(error) from None
        except TimeoutError:
            raise LinkError(f"the hub took no message within {self._timeout_s} s") from None

    async def confirm(self) -> None:
        """Return when the hub has received all that was sent.

        Source: RFC 6455 section 5.5.3: a pong follows the ping, and frames keep their order.
        """
        try:
            async with asyncio.timeout(self._timeout_s):
                await (await self._socket.ping())
        except ConnectionClosed as error:
            raise _closed(error) from None
        except TimeoutError:
            raise LinkError(f"the hub answered no ping within {self._timeout_s} s") from None


def _closed(error: ConnectionClosed) -> LinkError:
    if error.rcvd is None:
        return LinkError("the connection to the hub broke")
    told = f"{error.rcvd.code} {error.rcvd.reason!r}"
    if error.rcvd.code == CLOSE_REFUSED:
        return LinkRefused(
            f"the hub refused this device: {told}; is the device registered there, with this key?"
        )
    return LinkError(f"the hub closed the connection: {told}")


def websocket_connector(config: CemConfig) -> Connector:
    """Return what opens real WebSockets, with the timeouts of a configuration."""

    @contextlib.asynccontextmanager
    async def connector(url: str) -> AsyncIterator[HubConnection]:
        try:
            socket = await connect(
                url,
                compression=None,
                proxy=None,
                user_agent_header=None,
                max_size=_MAX_FRAME_OCTETS,
                open_timeout=config.link_timeout_s,
                close_timeout=_CLOSE_TIMEOUT_S,
                ping_interval=config.keepalive_s,
                ping_timeout=config.link_timeout_s,
            )
        except (OSError, TimeoutError, WebSocketException) as error:
            raise LinkError(
                f"cannot connect to the hub at {url}: {connect_reason(error)}"
            ) from None
        try:
            yield WebSocketHub(socket, config.link_timeout_s)
        finally:
            await socket.close()

    return connector


class HubLink:
    """Keeps one device connected to its communications hub.

    Args:
        config: whose link, where to, how patient.
        signer: the device's digital-signature key.
        connector: opens connections.
        random_octets: for nonces and jitter.
        session: what to do with a connection that the hub let us into; returns or raises when
            it is of no more use.
    """

    def __init__(
        self,
        config: CemConfig,
        signer: Signer,
        connector: Connector,
        random_octets: Randomness,
        session: Callable[[HubConnection], Awaitable[None]],
    ) -> None:
        self._config = config
        self._signer = signer
        self._connector = connector
        self._random_octets = random_octets
        self._session = session
        self._url = config.hub_url.rstrip("/") + device_path(config.device_id)
        self._up = asyncio.Event()
        self._said = ""

    @property
    def connected(self) -> bool:
        """Whether the hub has let us in, and the connection still stands."""
        return self._up.is_set()

    async def wait_connected(self) -> None:
        """Return when the hub has let us in."""
        await self._up.wait()

    async def run(self) -> None:
        """Connect, over and over, until cancelled."""
        failures = 0
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            try:
                await self._connect_once()
            except (LinkError, StoreError, AlertError) as error:
                reason = str(error)
            except Exception:
                # A fault of ours must not take the device off the air for good.
                logger.exception("unforeseen error on the link to the hub")
                reason = "unforeseen error"
            else:
                reason = "the session ended"
            if loop.time() - began >= self._config.reconnect_max_s:
                failures = 0
            pause_s = self._pause_s(failures)
            failures += 1
            # A hub that is away for a day is worth one line.
            level = logging.DEBUG if reason == self._said else logging.WARNING
            self._said = reason
            logger.log(level, "no link to the hub: %s; next try in %.2f s", reason, pause_s)
            await asyncio.sleep(pause_s)

    def _pause_s(self, failures: int) -> float:
        longest = self._config.reconnect_min_s * 2.0 ** min(failures, _MAX_DOUBLINGS)
        jitter = int.from_bytes(self._random_octets(4), "big") / 2**32
        return min(longest, self._config.reconnect_max_s) * (1 - jitter / 2)

    async def _connect_once(self) -> None:
        async with self._connector(self._url) as connection:
            try:
                async with asyncio.timeout(self._config.link_timeout_s):
                    await self._prove(connection)
            except TimeoutError:
                raise LinkError(
                    f"the hub did not let us in within {self._config.link_timeout_s} s"
                ) from None
            except FormatError as error:
                raise LinkError(f"the hub broke the rules of the device link: {error}") from None
            logger.info("connected to the hub at %s", self._url)
            self._said = ""
            self._up.set()
            try:
                await self._session(connection)
            finally:
                self._up.clear()

    async def _prove(self, connection: HubConnection) -> None:
        challenge = parse_untrusted_challenge(await connection.receive())
        nonce = self._random_octets(NONCE_OCTETS)
        proof = make_proof(challenge, self._config.device_id, self._signer, nonce)
        await connection.send(proof.build())
        parse_untrusted_welcome(await connection.receive())
