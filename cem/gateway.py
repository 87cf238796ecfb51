"""The CEM's gateway: what an application embeds to talk to its DSRSP, by both routes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Final, Self

from cem.config import CemConfig
from cem.core.deadlines import read_clock
from cem.core.downlink import Downlink
from cem.core.routes import KnownOffer, Offers
from cem.core.tunnel import TunnelEnd
from cem.core.uplink import AlertBuilder
from cem.credentials import load_credentials
from cem.errors import (
    AlertError,
    GatewayClosed,
    QueueFull,
    StoreError,
    UnknownMessage,
)
from cem.handles import MessageHandle, ReceivedMessage, StatusBoard
from cem.link import HubLink, websocket_connector
from cem.ports import Connector, Store
from cem.route_2a import Route2aWay
from cem.route_2b.client import RouteState
from cem.route_2b.dialling import Dialler
from cem.route_2b.offers import judge_offer
from cem.route_2b.way import Route2bWay
from cem.store import SqliteStore
from cem.telling import Teller
from gbcs.counters import OriginatorCounter
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal, Randomness
from gbcs.steady import SteadyClock
from openadr_xml import compact as compacted
from smtunnel import Limits, MessageStatus, Originator, Route, RouteChoice
from smtunnel.effects import Effects
from smtunnel.endpoint import Endpoint
from smtunnel.errors import LocalError, MessageTooLong

logger = logging.getLogger("cem")

_REF_OCTETS: Final = 8

_LOOK_EVERY_S: Final = 60.0
"""Longest time without a look at the wall clock, which somebody may set meanwhile."""


class Gateway:
    """The CEM end of the tunnel: sends and receives whole messages, whatever happens between.

    Use it with ``async with``. What `send` took and what was received is on disk, and goes
    on where it was when a gateway is opened again with the same state.

    Args:
        config: who, where to, and how much.
        keystore: certificates of supplier, access control broker and device, and the device's
            private keys.
        clock: the wall clock, seconds since 1970.
        random_octets: unpredictable octets for references, nonces and jitter.
        journal: gets the events "carrier", "message" and "route": specs/journal.md.
        store: where state is kept; None: a SQLite file at config.state. It is closed at the end.
        connector: how to reach the hub; None: by WebSocket.
        dialler: how to reach the DSRSP on route 2b; None: by WebSocket over TLS.
    """

    def __init__(
        self,
        config: CemConfig,
        keystore: KeyStore,
        *,
        clock: Clock = time.time,
        random_octets: Randomness = os.urandom,
        journal: Journal | None = None,
        store: Store | None = None,
        connector: Connector | None = None,
        dialler: Dialler | None = None,
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._clock = clock
        self._random_octets = random_octets
        self._journal = NullJournal() if journal is None else journal
        self._given_store = store
        self._connector = websocket_connector(config) if connector is None else connector
        self._dialler = dialler
        self._counts: Counter[str] = Counter()
        self._board = StatusBoard()
        self._teller = Teller(self._journal, self._board, self._counts)
        self._message_stored = asyncio.Event()
        self._deadline_changed = asyncio.Event()
        self._looks_at = math.inf
        self._last_handed_over = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._open = False

    async def __aenter__(self) -> Self:
        """Open the state, check the keys, begin to connect.

        Raises:
            StoreError: the state file cannot be used.
            AlertError: no Originator Counter is left, or the clock shows no date.
            CertificateError: a key or certificate is missing or not to be trusted.
        """
        if self._open or self._board.closed:
            raise GatewayClosed("a gateway can be opened once: make another with the same state")
        config = self._config
        credentials = load_credentials(config, self._keystore, self._clock())
        self._store: Store = self._given_store or SqliteStore(
            config.state,
            config.device_id,
            replay_window=config.replay_window,
            finished_messages=config.finished_messages,
        )
        try:
            left = read_clock(self._store.tunnel_rows())
            self._steady = SteadyClock(
                self._clock,
                asyncio.get_running_loop().time,
                wall_ahead_s=left.wall_ahead_s,
                not_before=left.seen,
            )
            self._counter = OriginatorCounter(
                self._store.counters, reserve=config.counter_reserve, floor=config.counter_floor
            )
            self._offers = Offers(self._store.offer(), judge_offer, wanted=config.use_route_2b)
            self._tunnel = TunnelEnd(
                self._new_endpoint,
                AlertBuilder(credentials.identities, credentials.signer),
                self._store,
                peer=config.supplier_id.octets,
                window_s=config.alert_window_s,
                offers=self._offers,
                wall=self._clock,
                clock=self._steady,
                clock_set=_tell_clock_set,
                told=self._act_on,
            )
            self._way = Route2bWay(
                config,
                self._keystore,
                credentials.signer,
                self._tunnel,
                self._teller,
                busy=lambda: self._store.count_received() >= config.unacknowledged_messages,
                dialler=self._dialler,
                wall=self._clock,
                clock=self._steady,
                random_octets=self._random_octets,
            )
            downlink = Downlink(
                credentials.admission,
                credentials.signer,
                self._store,
                self._tunnel,
                unacknowledged_messages=config.unacknowledged_messages,
            )
            self._way_2a = Route2aWay(
                downlink, self._tunnel, self._store, self._teller, self._counts, self._steady
            )
            self._link = HubLink(
                config,
                credentials.signer,
                self._connector,
                self._random_octets,
                self._way_2a.serve,
            )
            self._tunnel.start(self._steady())
            self._way.follow(self._offers.followed)
        except BaseException:
            self._store.close()
            raise
        self._open = True
        self._tasks = [
            asyncio.create_task(self._link.run(), name="cem link"),
            asyncio.create_task(self._run_deadlines(), name="cem deadlines"),
            asyncio.create_task(self._way.client.run(), name="cem route 2b"),
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the link and close the state; nothing that was accepted is lost."""
        self._open = False
        # Who is cancelled while this waits leaves nothing running, nor the state locked.
        try:
            await self._way.leave()
        finally:
            for task in self._tasks:
                task.cancel()
            try:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            finally:
                self._close()

    def _close(self) -> None:
        try:
            self._way.close()
            with contextlib.suppress(StoreError):
                self._tunnel.keep_clock()
        finally:
            self._board.close()
            self._message_stored.set()
            self._store.close()

    # What the application uses

    async def send(
        self,
        message: bytes,
        compression: str = "auto",
        *,
        compact: bool | None = None,
        deadline: float | None = None,
        priority: int = 0,
        ref: str | None = None,
        route: RouteChoice = RouteChoice.AUTO,
        urgent: bool = False,
    ) -> MessageHandle:
        """Take a message for the DSRSP; it is on disk when this returns.

        Args:
            message: any octets.
            compression: "auto", "zlib", "dictionary" or "none"; "auto" takes what is smallest of
                what the DSRSP is known to understand.
            compact: True to send XML that holds no signature in its compact form, which is the
                same as canonical XML; False to send every octet as it is; None: as configured.
            deadline: when it is of no more use, in seconds since 1970: what was not handed to the
                hub by then is not sent, and it ends as failed. message_lifetime_s ends it at the
                latest.
            priority: higher goes first; 32 bits with sign.
            ref: its reference, of `new_ref`; None: a new one. Who keeps it before can send again
                after a crash: what was taken already is not taken twice.
            route: which routes it may take; see `smtunnel.RouteChoice`.
            urgent: True to go through the smart metering system at once where route 2b is down.

        Returns:
            A handle that tells what becomes of it.

        Raises:
            smtunnel.errors.LocalError: too long, too late, or the compression is not known, or
                not understood by the DSRSP as far as we know.
            QueueFull: too many messages are on their way.
            StoreError: the state file fails; the message was not taken.
            AlertError: no Originator Counter is left, or the clock shows no date.
            GatewayClosed: the gateway is not open.
        """
        self._require_open()
        if ref is not None and self._store.status(ref) is not None:
            return MessageHandle(ref, self._status, self._board)
        config = self._config
        message = bytes(message)
        if config.compact if compact is None else compact:
            message = compacted(message)
        if len(message) > config.message_octets:
            raise MessageTooLong(
                f"the message has {len(message)} octets, but at most {config.message_octets} are "
                "taken: send less at once, or raise message_octets at both ends"
            )
        if self._store.count_outgoing() >= config.queued_messages:
            raise QueueFull(
                f"{config.queued_messages} messages are on their way already: wait until some "
                "have ended, or raise queued_messages"
            )
        ref = self.new_ref() if ref is None else ref
        _check_deadline(deadline, self._clock())
        self._tunnel.send(
            ref,
            message,
            compression,
            self._steady(),
            priority=priority,
            deadline=deadline,
            route=route,
            urgent=urgent,
        )
        return MessageHandle(ref, self._status, self._board)

    def new_ref(self) -> str:
        """Return a reference for a message that is to be sent: 64 random bits."""
        return self._random_octets(_REF_OCTETS).hex()

    def handle(self, ref: str) -> MessageHandle:
        """Return the handle of a message that was sent, also before a restart.

        Raises:
            UnknownMessage: no message has this reference, or it ended long ago.
            GatewayClosed: the gateway is not open.
        """
        self._status(ref)
        return MessageHandle(ref, self._status, self._board)

    def waits_for_route_2b_s(self, ref: str) -> float | None:
        """Return for how long a sent message waits for route 2b before it goes by 2a, in seconds.

        Infinite: it goes by route 2b only. None: it does not wait for route 2b, as that stands, or
        it goes by 2a already, or has ended.

        Raises:
            StoreError: the state file fails.
            GatewayClosed: the gateway is not open.
        """
        self._require_open()
        return self._tunnel.waits_for_route_2b_s(ref, self._steady())

    async def received(self) -> AsyncIterator[ReceivedMessage]:
        """Yield each whole message from the DSRSP, oldest first; ends when the gateway closes.

        A message is yielded once while the gateway is open, and again after a restart until
        its ``ack()``. Several iterators share the messages between them.

        Raises:
            GatewayClosed: the gateway was not opened.
            StoreError: the state file fails.
        """
        self._require_open()
        while self._open:
            stored = self._store.next_received(self._last_handed_over)
            if stored is None:
                self._message_stored.clear()
                await self._message_stored.wait()
                continue
            self._last_handed_over = stored.number
            yield ReceivedMessage(
                stored.ref,
                stored.peer,
                stored.message,
                stored.received_at,
                stored.route,
                self._acknowledge,
            )

    def labels(self) -> dict[int, str]:
        """Return the labels that were set by commands which carried no fragment, by index."""
        self._require_open()
        return self._store.labels()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many commands had each `Outcome` (by name), and how many were "REFUSED_COMMAND".

        Also "UNKNOWN_RECORD": how many control records were of a kind that is not known here.
        """
        return dict(self._counts)

    @property
    def connected(self) -> bool:
        """Whether the link to the communications hub stands."""
        return self._open and self._link.connected

    async def wait_connected(self) -> None:
        """Return when the link to the communications hub stands."""
        self._require_open()
        await self._link.wait_connected()

    @property
    def route_2b(self) -> RouteState:
        """Where route 2b stands, and why."""
        self._require_open()
        return self._way.client.state

    async def wait_route_2b(self) -> None:
        """Return when route 2b stands."""
        self._require_open()
        await self._way.up.wait()

    @property
    def route_offer(self) -> KnownOffer | None:
        """The DSRSP's newest offer of route 2b, and what was answered; None: none has come."""
        self._require_open()
        return self._offers.known

    # Inside

    def _require_open(self) -> None:
        if not self._open:
            raise GatewayClosed("the gateway is not open: use it inside 'async with'")

    def _status(self, ref: str) -> MessageStatus:
        self._require_open()
        status = self._store.status(ref)
        if status is None:
            raise UnknownMessage(
                f"no message {ref!r} was sent, or it ended so long ago that it is forgotten"
            )
        return status

    def _new_endpoint(self) -> Endpoint:
        config = self._config
        return Endpoint(
            side=Originator.CEM,
            counters=self._counter,
            policy=config.send_policy(),
            random_fraction=lambda: int.from_bytes(self._random_octets(4), "big") / 2**32,
            limits=Limits(
                message_octets=config.message_octets,
                replay_window=config.replay_window,
                message_lifetime_s=config.message_lifetime_s,
            ),
            gathers_receipts=True,
        )

    async def _acknowledge(self, ref: str, answers: str | None) -> None:
        self._require_open()
        answered = None if answers is None else self._status(answers)
        self._tunnel.acknowledge(ref, answered, self._steady())

    def _act_on(self, effects: Effects) -> None:
        """Tell what has happened; it is on the disk."""
        self._teller.tell(effects)
        if effects.received:
            self._message_stored.set()
        for transmit in effects.transmits:
            if transmit.route is Route.ROUTE_2B:
                self._way.transmit(transmit)
            else:
                self._way_2a.alert_added.set()
        if effects.news:
            self._way.follow(self._offers.followed)
        deadline = self._tunnel.get_timer()
        if deadline is not None and deadline < self._looks_at:
            # When it comes later than that, it is looked at in time anyway.
            self._deadline_changed.set()

    async def _run_deadlines(self) -> None:
        while True:
            self._deadline_changed.clear()
            deadline = self._tunnel.get_timer()
            delay_s = _LOOK_EVERY_S
            now = self._steady()
            if deadline is not None:
                delay_s = min(max(deadline - now, 0.0), _LOOK_EVERY_S)
            self._looks_at = now + delay_s
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._deadline_changed.wait()
            now = self._steady()
            deadline = self._tunnel.get_timer()
            try:
                if deadline is not None and deadline <= now:
                    self._tunnel.handle_timer(now)
                else:
                    self._tunnel.keep_clock()
            except (StoreError, AlertError) as error:
                logger.error("cannot do what is due: %s", error)


def _check_deadline(deadline: float | None, wall: float) -> None:
    """Check that a message is of use still.

    Raises:
        LocalError: its deadline has passed, or is no time.
    """
    # Written so that NaN is refused, too.
    if deadline is not None and not deadline > wall:
        raise LocalError(
            f"the deadline {deadline} has passed, it is {wall:.0f} (seconds since 1970): the "
            "message is not sent"
        )


def _tell_clock_set(ahead_s: float) -> None:
    logger.warning("the wall clock was set: it is %+.1f s from ours", ahead_s)
