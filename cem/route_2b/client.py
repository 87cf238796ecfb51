"""Follows the DSRSP's newest route offer: dials, proves, carries, dials again."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from cem.errors import LinkError
from cem.route_2b.config import Route2bClientConfig
from cem.route_2b.dialling import Dialler, websocket_dialler
from cem.route_2b.offers import common_version, usable_addresses
from cem.route_2b.session import Application, Session, prove
from gbcs.entity_id import EntityId
from gbcs.errors import Route2bClosed, Route2bRefused
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Randomness
from gbcs.route_2b_texts import FINAL_CODES, CloseCode, parse_untrusted_try_later
from smtunnel.routes import RouteOffer

_LOG = logging.getLogger("cem.route_2b")
_MAX_DOUBLINGS = 32
_CLOCK_CHECK_S = 60.0
"""A wall clock may be set while an offer is waited for or followed: it is looked at so often."""


class Phase(enum.Enum):
    """Where route 2b stands."""

    NO_OFFER = "no offer"
    CONNECTING = "connecting"
    UP = "up"
    DOWN = "down"
    """It is tried again after a pause."""
    REFUSED = "refused"
    """The DSRSP will not have us under this offer: a newer one is waited for, or a long pause."""


@dataclass(frozen=True, slots=True)
class RouteState:
    """Where route 2b stands, and why.

    Attributes:
        phase: where.
        reason: for people: the address, or why it is down or refused.
        retry_in_s: when DOWN or REFUSED, the pause until the next try, in seconds; None: there
            is none before a newer offer.
    """

    phase: Phase
    reason: str = ""
    retry_in_s: float | None = None


class Route2bClient:
    """Route 2b's client: run it in a task, give it offers.

    Args:
        config: its settings.
        keystore: this device's key, the DSRSP's certificate and those above it.
        device: this device.
        dsrsp: whose offers are followed: the supplier's EUI.
        application: whom it serves.
        changed: told of every change of state.
        dialler: opens connections; None: WebSockets over TLS.
        clock: the wall clock.
        random_octets: for nonces and jitter.

    Raises:
        gbcs.errors.CertificateError: the device's certificate or key is not in the store.
    """

    def __init__(
        self,
        config: Route2bClientConfig,
        keystore: KeyStore,
        device: EntityId,
        dsrsp: EntityId,
        application: Application,
        *,
        changed: Callable[[RouteState], None] | None = None,
        dialler: Dialler | None = None,
        clock: Clock = time.time,
        random_octets: Randomness = os.urandom,
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._device = device
        self._dsrsp = dsrsp
        self._application = application
        self._tell = changed
        self._signer = keystore.signer(device)
        self._dial = dialler or websocket_dialler(config)
        self._clock = clock
        self._random_octets = random_octets
        self._offer: RouteOffer | None = None
        self._new_offer = asyncio.Event()
        self._validity: asyncio.Timeout | None = None
        self._session: Session | None = None
        self._stood_s: float | None = None
        self._state = RouteState(Phase.NO_OFFER)
        self._trouble = ""

    @property
    def state(self) -> RouteState:
        """Where the route stands."""
        return self._state

    def send(self, message: bytes, written: Callable[[], None] | None = None) -> bool:
        """Queue a signed message.

        Args:
            message: whole and signed.
            written: called when the connection has taken it.

        Returns:
            False when it will not be sent: the route is down, too much waits, or the DSRSP takes
            only shorter ones. True is no promise that it arrives.
        """
        return self._session is not None and self._session.send(message, written)

    def use(self, offer: RouteOffer) -> None:
        """Follow this offer from now on, in place of any other.

        A connection that fits the new offer too (its certificate, its version) stays.
        """
        before, self._offer = self._offer, offer
        fits = (
            self._session is not None
            and before is not None
            and self._session.certificate_sha256 in offer.pins
            and common_version(offer) == common_version(before)
            and offer.not_before <= self._clock()
        )
        if fits and self._validity is not None:
            self._validity.reschedule(self._end_of(offer))
            return
        self._new_offer.set()

    def withdraw(self, number: int) -> None:
        """Follow an offer no longer; another than that is followed still."""
        if self._offer is not None and self._offer.offer == number:
            self._offer = None
            self._new_offer.set()

    def rest(self) -> None:
        """Follow no offer until another comes."""
        if self._offer is not None:
            self.withdraw(self._offer.offer)

    async def drain(self) -> None:
        """Return when the connection that stands, if any, has taken all that is queued."""
        if self._session is not None:
            await self._session.drain()

    async def run(self) -> None:
        """Keep the route up, until cancelled."""
        while True:
            self._new_offer.clear()
            offer = self._offer
            if offer is None:
                self._say(Phase.NO_OFFER)
                await self._new_offer.wait()
                continue
            following = asyncio.get_running_loop().create_task(self._follow_while_valid(offer))
            waiting = asyncio.get_running_loop().create_task(self._new_offer.wait())
            try:
                await asyncio.wait({following, waiting}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    await waiting
            finally:
                for task in (following, waiting):
                    task.cancel()
                    with contextlib.suppress(asyncio.CancelledError):
                        await task

    def _end_of(self, offer: RouteOffer) -> float:
        return asyncio.get_running_loop().time() + max(0.0, offer.not_after - self._clock())

    async def _follow_while_valid(self, offer: RouteOffer) -> None:
        """Follow an offer while it holds by the wall clock, also when that is set meanwhile."""
        while True:
            begin_s = offer.not_before - self._clock()
            if begin_s > 0:
                self._say(Phase.DOWN, f"offer {offer.offer} has not begun", begin_s)
            while begin_s > 0:
                await asyncio.sleep(min(begin_s, _CLOCK_CHECK_S))
                begin_s = offer.not_before - self._clock()
            try:
                async with asyncio.timeout_at(self._end_of(offer)) as self._validity:
                    ticking = asyncio.get_running_loop().create_task(
                        self._keep_time(self._validity)
                    )
                    try:
                        await self._follow()
                        return
                    finally:
                        ticking.cancel()
            except TimeoutError:
                self._say(Phase.REFUSED, "the offer is over: waiting for a newer one")
            finally:
                self._validity = None
            over = True
            while over:
                # Or for a clock that is set right.
                await asyncio.sleep(_CLOCK_CHECK_S)
                offer = self._offer or offer
                over = self._clock() >= offer.not_after

    async def _keep_time(self, validity: asyncio.Timeout) -> None:
        while True:
            await asyncio.sleep(_CLOCK_CHECK_S)
            if self._offer is not None and not validity.expired():
                validity.reschedule(self._end_of(self._offer))

    async def _follow(self) -> None:
        """Connect, over and over; return when only a newer offer can help."""
        failures = 0
        while (offer := self._offer) is not None:
            if common_version(offer) is None or not usable_addresses(offer):
                self._say(Phase.REFUSED, "nothing in the offer that this client can use")
                return
            ended, stood_s = await self._try_addresses(offer)
            code = ended.code if isinstance(ended, Route2bClosed) else None
            if code in FINAL_CODES:
                # Who says so has not proven itself, and may have been mistaken.
                pause_s = self._config.refused_retry_s * (1 - self._jitter() / 2)
                self._say(Phase.REFUSED, str(ended), pause_s)
                await asyncio.sleep(pause_s)
                continue
            asked_s = 0
            if code == CloseCode.TRY_LATER and isinstance(ended, Route2bClosed):
                asked_s = parse_untrusted_try_later(ended.reason) or 0
            if stood_s >= self._config.reconnect_max_s:
                failures = 0
            pause_s = self._pause_s(failures, min(asked_s, self._config.try_later_max_s))
            failures += 1
            self._say(Phase.DOWN, str(ended), pause_s)
            await asyncio.sleep(pause_s)

    async def _try_addresses(self, offer: RouteOffer) -> tuple[Exception, float]:
        """Try one address after the other, until a server has spoken or a connection stood.

        Returns:
            Why the last one ended, and for how long it stood, in seconds.
        """
        ended: Exception = LinkError("no usable address")
        for address in usable_addresses(offer):
            self._stood_s = None
            ended = await self._try(address, offer)
            spoke = isinstance(ended, Route2bClosed) and ended.code is not None
            if spoke or self._stood_s is not None:
                break
        return ended, self._stood_s or 0.0

    def _jitter(self) -> float:
        return int.from_bytes(self._random_octets(4), "big") / 2**32

    def _pause_s(self, failures: int, at_least_s: float) -> float:
        jitter = self._jitter()
        if at_least_s:
            # The server has spread those whom it told; a little more keeps clocks apart.
            return at_least_s * (1 + jitter / 10)
        longest = self._config.reconnect_min_s * 2.0 ** min(failures, _MAX_DOUBLINGS)
        return min(longest, self._config.reconnect_max_s) * (1 - jitter / 2)

    async def _try(self, address: str, offer: RouteOffer) -> Exception:
        """Connect to one address and stay; return why it ended."""
        self._say(Phase.CONNECTING, address)
        try:
            async with self._dial(address, self._device, offer.pins) as connection:
                session = await prove(
                    connection,
                    offer,
                    self._config,
                    device=self._device,
                    dsrsp=self._dsrsp,
                    keystore=self._keystore,
                    signer=self._signer,
                    now=datetime.fromtimestamp(self._clock(), UTC),
                    random_octets=self._random_octets,
                )
                await self._stay(address, session)
        except (LinkError, Route2bClosed, Route2bRefused) as error:
            return error
        except Exception as error:
            # A fault of ours must not take the route away for good.
            _LOG.exception("unforeseen error on route 2b")
            return error

    async def _stay(self, address: str, session: Session) -> NoReturn:
        self._session = session
        self._say(Phase.UP, address)
        self._application.connected(message_octets=session.message_octets)
        reason = "this end closed it"
        began = asyncio.get_running_loop().time()
        try:
            await session.carry(self._application)
        except (LinkError, Route2bClosed, Route2bRefused) as error:
            reason = str(error)
            raise
        finally:
            self._stood_s = asyncio.get_running_loop().time() - began
            self._session = None
            self._application.disconnected(reason)

    def _level(self, phase: Phase, reason: str) -> int:
        """Return how loud to say it: a server that is away for a day is worth one line."""
        if phase is Phase.CONNECTING:
            return logging.DEBUG if self._trouble else logging.INFO
        before = self._trouble
        self._trouble = reason if phase in (Phase.DOWN, Phase.REFUSED) else ""
        if not self._trouble:
            return logging.INFO
        return logging.DEBUG if self._trouble == before else logging.WARNING

    def _say(self, phase: Phase, reason: str = "", retry_in_s: float | None = None) -> None:
        self._state = RouteState(phase, reason, retry_in_s)
        _LOG.log(
            self._level(phase, reason),
            "route 2b: %s%s%s",
            phase.value,
            f": {reason}" if reason else "",
            "" if retry_in_s is None else f"; next try in {retry_in_s:.2f} s",
        )
        if self._tell is not None:
            self._tell(self._state)
