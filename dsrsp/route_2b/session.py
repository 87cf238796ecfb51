"""One connection of route 2b from its hello to its end, whatever it runs over.

Nothing here knows of sockets: a `gbcs.route_2b_trust.Connection` is all that is asked for, time
passes by the event loop, wall clock and randomness are handed in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol

from dsrsp.errors import SignerUnavailable, SigningFailed
from dsrsp.route_2b.config import Route2bServerConfig
from dsrsp.route_2b.gate import Allowance, Complaints
from dsrsp.route_2b.links import Link, Links
from dsrsp.route_2b.revocation import Revocations
from dsrsp.signing import SupplierSigner
from gbcs.certificates import Certificate
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bClosed, Route2bRefused
from gbcs.header import CraFlag
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Randomness
from gbcs.route_2b import Route2bMessage
from gbcs.route_2b_link import MessageGuard, ServerHandshake
from gbcs.route_2b_texts import CloseCode, build_try_later, cut_reason
from gbcs.route_2b_transcript import Transcript
from gbcs.route_2b_trust import Connection, check_trusted, find_all_trusted

_LOG = logging.getLogger("dsrsp.route_2b")
_RECHECKED_AT_ONCE = 64
_AT_ONCE_S = 30.0
_CONNECTION_COST = 20.0
_SIGNER_AWAY_S = 15.0
"""Who could not be let in because the signing service was away is told to come again then."""


class Application(Protocol):
    """Whom the server serves: the gateway."""

    def check_offer(self, device: EntityId, offer: int) -> str | None:
        """Say what is wrong with the offer that a device follows: unknown, over; None: nothing."""
        ...

    def connected(self, device: EntityId, *, message_octets: int) -> None:
        """Take note that a device is there, and of the longest message that it takes."""
        ...

    async def received(self, device: EntityId, message: Route2bMessage) -> None:
        """Take a message whose form, names and signature hold. Replays are for the taker to see.

        Nothing more is read of this device before it returns.
        """
        ...

    def disconnected(self, device: EntityId, reason: str) -> None:
        """Take note that a device has gone."""
        ...


class Sessions:
    """Lets devices in that prove themselves; carries messages both ways.

    Args:
        config: limits and times.
        dsrsp: the supplier's EUI.
        keystore: certificates of devices and those above them.
        signer: has the supplier's digital-signature key.
        revocations: says which certificates are revoked.
        links: where those are who are in.
        application: whom for.
        clock: the wall clock.
        random_octets: for nonces.
    """

    def __init__(
        self,
        config: Route2bServerConfig,
        *,
        dsrsp: EntityId,
        keystore: KeyStore,
        signer: SupplierSigner,
        revocations: Revocations,
        links: Links,
        application: Application,
        clock: Clock,
        random_octets: Randomness,
    ) -> None:
        self._config = config
        self._dsrsp = dsrsp
        self._keystore = keystore
        self._signer = signer
        self._revocations = revocations
        self._links = links
        self._application = application
        self._clock = clock
        self._random_octets = random_octets
        self._complaints = Complaints(_LOG)
        # Of those only that have proven themselves once, and over all their connections.
        self._allowances: dict[EntityId, Allowance] = {}

    async def serve(
        self, connection: Connection, device: EntityId, proven: Callable[[], None]
    ) -> None:
        """Carry one connection until it ends.

        Args:
            connection: open, nothing read.
            device: whom its path names.
            proven: called once the device has proven itself.
        """
        try:
            async with asyncio.timeout(self._config.handshake_timeout_s):
                link, welcome = await self._handshake(connection, device)
                # Before it knows: its first message may follow at once, and be long.
                proven()
                await connection.send(welcome)
        except TimeoutError:
            wait_s = self._config.handshake_timeout_s
            await self.refuse(
                connection,
                device,
                Route2bRefused(CloseCode.TOO_SLOW, f"not proven within {wait_s:g} s"),
            )
        except Route2bRefused as refused:
            await self.refuse(connection, device, refused)
        except Route2bClosed as closed:
            self._complaints.tell("route 2b: %s left before it was proven: %s", device, closed)
        else:
            await self._carry(link)

    async def refuse(
        self, connection: Connection, device: EntityId, refused: Route2bRefused
    ) -> None:
        """Close a connection that is not let in, and say so in the log."""
        name = CloseCode(refused.code).name
        self._complaints.tell(
            "route 2b refused %s: %d %s: %s", device, refused.code, name, refused.reason
        )
        await connection.close(refused.code, cut_reason(refused.reason))

    async def recheck(self) -> None:
        """Check everybody who is connected once more; put out whoever is revoked or out of date."""
        for number, link in enumerate(self._links, 1):
            if not number % _RECHECKED_AT_ONCE:
                await asyncio.sleep(0)
            try:
                check_trusted(self._keystore, link.certificate, link.device, None, self._now())
                await self._revocations.check(link.certificate, fresh=True)
            except Route2bRefused as refused:
                if refused.code != CloseCode.TRY_LATER:
                    link.end(CloseCode(refused.code), refused.reason)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)

    async def _handshake(self, connection: Connection, device: EntityId) -> tuple[Link, str]:
        handshake = ServerHandshake(
            dsrsp=self._dsrsp,
            path_device=device,
            check_offer=self._application.check_offer,
            message_octets=self._config.message_octets,
            certificate_sha256=connection.certificate_sha256,
            random_octets=self._random_octets,
        )
        hello = handshake.receive_untrusted_hello(await connection.receive())
        certificate = await self._find_certificate(device)
        await connection.send(handshake.admit(certificate.public_key))
        transcript = handshake.receive_untrusted_proof(await connection.receive())
        self._count_connection(device)
        # For who has proven itself, and within its allowance: nobody else costs a signature.
        welcome = handshake.welcome(await self._sign(transcript))
        guard = MessageGuard(
            device,
            self._dsrsp,
            CraFlag.ALERT,
            certificate.public_key,
            self._config.message_octets,
        )
        link = Link(device, connection, certificate, guard, hello.message_octets, self._config)
        return link, welcome

    async def _sign(self, transcript: Transcript) -> bytes:
        try:
            return await self._signer.sign(transcript)
        except SigningFailed as error:
            text = "route 2b cannot prove itself to %s: %s"
            self._complaints.tell(text, transcript.device, error)
            # Only somebody here can mend what is refused.
            wait_s = _SIGNER_AWAY_S
            if not isinstance(error, SignerUnavailable):
                wait_s = self._config.try_later_max_s
            reason = build_try_later(wait_s, "this end cannot prove itself now")
            raise Route2bRefused(CloseCode.TRY_LATER, reason) from None

    def _count_connection(self, device: EntityId) -> None:
        """Count a connection once it is proven, so that nobody else can use up a device's."""
        allowance = self._allowances.get(device)
        if allowance is None:
            per_s = self._config.messages_per_s
            allowance = self._allowances[device] = Allowance(per_s, per_s * _AT_ONCE_S)
        now = asyncio.get_running_loop().time()
        wait_s = allowance.wait_s(now)
        if wait_s > 0:
            reason = build_try_later(wait_s, "this device comes too often")
            raise Route2bRefused(CloseCode.TRY_LATER, reason)
        allowance.take(now, _CONNECTION_COST)

    async def _find_certificate(self, device: EntityId) -> Certificate:
        """Find the newest certificate of a device that is trusted and not revoked."""
        found = find_all_trusted(self._keystore, device, None, self._now())
        for certificate in found[:-1]:
            try:
                await self._revocations.check(certificate)
            except Route2bRefused as refused:
                if refused.code != CloseCode.REVOKED:
                    raise
            else:
                return certificate
        await self._revocations.check(found[-1])
        return found[-1]

    async def _carry(self, link: Link) -> None:
        device = link.device
        if self._links.add(link) is not None:
            self._application.disconnected(device, "it connected once more")
        _LOG.info("route 2b to %s is up", device)
        self._application.connected(device, message_octets=link.message_octets)
        allowance, loop = self._allowances[device], asyncio.get_running_loop()
        reason = "unforeseen error"
        try:
            while True:
                received = await link.connection.receive()
                if link.ending:
                    continue
                wait_s = allowance.take(loop.time())
                if wait_s > 0:
                    await asyncio.sleep(wait_s)
                    if link.ending:
                        continue
                message = link.guard.check_untrusted(received)
                await self._application.received(device, message)
        except Route2bRefused as refused:
            link.end(CloseCode(refused.code), refused.reason)
            reason = link.why or str(refused)
        except Route2bClosed as closed:
            reason = link.why or str(closed)
        finally:
            if self._links.remove(link):
                _LOG.info("route 2b to %s is down: %s", device, reason)
                self._application.disconnected(device, reason)
        # Who returns closes without a reason.
        await link.closed()
