"""One connection of route 2b from its hello to its end, whatever it runs over."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import NoReturn, Protocol

from cem.errors import LinkError
from cem.route_2b.config import Route2bClientConfig
from cem.route_2b.offers import common_version
from gbcs.certificates import Role
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bClosed, Route2bRefused
from gbcs.header import CraFlag
from gbcs.keystore import KeyStore
from gbcs.ports import Randomness, Signer
from gbcs.route_2b import Route2bMessage
from gbcs.route_2b_link import ClientHandshake, MessageGuard
from gbcs.route_2b_texts import CloseCode, cut_reason
from gbcs.route_2b_trust import Connection, find_trusted
from smtunnel.routes import RouteOffer

_LOG = logging.getLogger("cem.route_2b")


class Application(Protocol):
    """Whom the client serves: the gateway."""

    def connected(self, *, message_octets: int) -> None:
        """Take note that the route is up, and of the longest message that the DSRSP takes."""
        ...

    async def received(self, message: Route2bMessage) -> None:
        """Take a message whose form, names and signature hold. Replays are for the taker to see.

        Nothing more is read before it returns.
        """
        ...

    def disconnected(self, reason: str) -> None:
        """Take note that the route, which was up, is down."""
        ...


class Session:
    """An open and proven connection: a bounded queue out, checked messages in.

    Args:
        connection: proven.
        guard: checks what comes.
        message_octets: the longest message that the DSRSP takes.
        config: limits of the queue.
    """

    def __init__(
        self,
        connection: Connection,
        guard: MessageGuard,
        message_octets: int,
        config: Route2bClientConfig,
    ) -> None:
        self._connection = connection
        self._guard = guard
        self.message_octets = message_octets
        self._config = config
        self._queue: deque[tuple[bytes, Callable[[], None] | None]] = deque()
        self._queued_octets = 0
        self._writer: asyncio.Task[None] | None = None
        self._failed: str | None = None

    @property
    def certificate_sha256(self) -> bytes:
        """SHA-256 of the certificate that the server has shown."""
        return self._connection.certificate_sha256

    def send(self, message: bytes, written: Callable[[], None] | None = None) -> bool:
        """Queue a message; False when it is too long for the DSRSP or too much waits already."""
        octets = self._queued_octets + len(message)
        if (
            self._failed is not None
            or len(message) > self.message_octets
            or len(self._queue) >= self._config.queued_messages
            or (self._queue and octets > self._config.queued_octets)
        ):
            return False
        self._queue.append((message, written))
        self._queued_octets = octets
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write())
        return True

    async def _write(self) -> None:
        try:
            while self._queue:
                message, written = self._queue.popleft()
                self._queued_octets -= len(message)
                async with asyncio.timeout(self._config.send_timeout_s):
                    await self._connection.send(message)
                if written is not None:
                    written()
        except TimeoutError:
            self._failed = f"the DSRSP did not take a message in {self._config.send_timeout_s:g} s"
            await self._connection.close(CloseCode.SLOW_READER, self._failed)
        except Route2bClosed:
            # The reader sees it too.
            return
        finally:
            self._writer = None

    async def drain(self) -> None:
        """Return when the connection has taken all that is queued, or has ended."""
        while self._writer is not None:
            await asyncio.wait({self._writer})

    async def carry(self, application: Application) -> NoReturn:
        """Hand messages over until the connection ends.

        Raises:
            Route2bClosed: it has ended.
            Route2bRefused: the DSRSP sent what it must not; it was told.
            LinkError: it did not take what was sent.
        """
        try:
            while True:
                message = self._guard.check_untrusted(await self._connection.receive())
                await application.received(message)
        except Route2bRefused as refused:
            await self._connection.close(refused.code, cut_reason(refused.reason))
            raise
        except Route2bClosed:
            if self._failed is not None:
                raise LinkError(self._failed) from None
            raise
        finally:
            self._queue.clear()
            if self._writer is not None:
                self._writer.cancel()


async def prove(
    connection: Connection,
    offer: RouteOffer,
    config: Route2bClientConfig,
    *,
    device: EntityId,
    dsrsp: EntityId,
    keystore: KeyStore,
    signer: Signer,
    now: datetime,
    random_octets: Randomness,
) -> Session:
    """Do the handshake: prove this device, have the DSRSP prove itself.

    Raises:
        Route2bRefused: the DSRSP is not to be trusted, or broke the rules; it was told.
        Route2bClosed: the connection has ended, with a refusal for instance.
        LinkError: it took too long, or there is no common version.
    """
    version = common_version(offer)
    if version is None:
        raise LinkError(f"offer {offer.offer}: no common version of route 2b")
    try:
        async with asyncio.timeout(config.handshake_timeout_s):
            certificate = find_trusted(keystore, dsrsp, Role.SUPPLIER, now)
            handshake = ClientHandshake(
                device=device,
                dsrsp=dsrsp,
                offer=offer.offer,
                version=version,
                message_octets=config.message_octets,
                certificate_sha256=connection.certificate_sha256,
                signer=signer,
                dsrsp_key=certificate.public_key,
                random_octets=random_octets,
            )
            await connection.send(handshake.begin())
            proof = handshake.receive_untrusted_challenge(await connection.receive())
            await connection.send(proof)
            welcome = handshake.receive_untrusted_welcome(await connection.receive())
    except TimeoutError:
        wait_s = config.handshake_timeout_s
        await connection.close(CloseCode.TOO_SLOW, f"not let in within {wait_s:g} s")
        raise LinkError(f"the DSRSP did not let us in within {wait_s:g} s") from None
    except Route2bRefused as refused:
        await connection.close(refused.code, cut_reason(refused.reason))
        raise
    guard = MessageGuard(
        dsrsp, device, CraFlag.COMMAND, certificate.public_key, config.message_octets
    )
    return Session(connection, guard, welcome.message_octets, config)
