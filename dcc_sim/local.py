"""The DCC simulator without sockets: users and devices are callables on the same event loop.

On a loop with virtual time hours of network pass in seconds; the logic and the engine are those
of `dcc_sim.Simulator`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import TypeAlias

from dcc_sim.assembly import Assembly
from dcc_sim.config import DccSimConfig
from dcc_sim.core.effects import Deliver, Post, Reply, Restart
from dcc_sim.core.faults import Fault, Faults
from dcc_sim.core.network import NetworkProfile
from dcc_sim.core.services import Service
from dcc_sim.engine import Engine
from dcc_sim.errors import DccSimError
from dcc_sim.operation import Operated
from gbcs.device_link import Challenge
from gbcs.duis import Schema
from gbcs.entity_id import EntityId
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal

_LOG = logging.getLogger("dcc_sim")

PostFunction: TypeAlias = Callable[[str, bytes], Awaitable[int]]
"""Brings a DUIS message to a receive address; returns the HTTP status, raises OSError when
nobody is there."""


class LocalLink:
    """A device's end of its link to the communications hub.

    Args:
        device: whose.
        receive: gets each GBCS message for the device.
        closed: is called when the simulator ends the link: by a restart, or because a newer link
            of the same device replaces it.
    """

    def __init__(
        self,
        simulator: LocalSimulator,
        device: EntityId,
        receive: Callable[[bytes], None],
        closed: Callable[[], None],
    ) -> None:
        self._simulator = simulator
        self.device = device
        self.receive = receive
        self.closed = closed

    def send(self, octets: bytes) -> None:
        """Hand a GBCS message to the communications hub."""
        self._simulator.take_message(self, octets)

    def close(self) -> None:
        """End the link."""
        self._simulator.disconnect(self)


class LocalSimulator(Operated):
    """The DCC, its access control broker and the SM WAN, as an async context manager.

    Args:
        config: settings; listen addresses say nothing here.
        keystore: certificates of users and devices; keys of the DCC.
        post: brings messages to the users.
        clock: seconds since 1970, in step with the event loop's time.
        schema: the DUIS schema, if all that comes and goes is to be validated.
        journal: gets every message.
        profile: the network between DCC and devices, instead of config.network.
        scenario: faults that come at their times.

    Making it raises:
        ConfigError: there is no such network profile, or the inventory does not fit it.
        StoreError: the state cannot be read.
        gbcs.errors.CertificateError: a key of the DCC is missing.
    """

    def __init__(
        self,
        config: DccSimConfig,
        keystore: KeyStore,
        *,
        post: PostFunction,
        clock: Clock,
        schema: Schema | None = None,
        journal: Journal | None = None,
        profile: NetworkProfile | None = None,
        scenario: Sequence[Fault] = (),
    ) -> None:
        self._post = post
        self._clock = clock
        self._assembly = Assembly(
            config,
            keystore,
            schema=schema,
            journal=NullJournal() if journal is None else journal,
            profile=profile,
            scenario=scenario,
        )
        self._links: dict[EntityId, LocalLink] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._engine: Engine | None = None

    async def __aenter__(self) -> LocalSimulator:
        try:
            self._start()
        except BaseException:
            self._assembly.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._assembly.close()

    @property
    def faults(self) -> Faults:
        """The faults that are armed and the hubs that are down; `inject` adds to them."""
        return self._assembly.faults

    @property
    def is_running(self) -> bool:
        """Whether it answers at the moment: not while a restart takes its time."""
        return self._engine is not None

    async def request(self, service: Service, octets: bytes) -> Reply:
        """Answer one DUIS request.

        Raises:
            MessageDropped: a fault lost the request or the answer.
            StoreError: the state cannot be written; nothing was done.
            DccSimError: the simulator does not run at the moment.
        """
        return await self._running().request(service, octets)

    def check_untrusted_proof(self, device: EntityId, challenge: Challenge, text: str) -> None:
        """Check a connecting device's proof, for callers that let a device prove its key.

        Raises:
            DeviceMessageRefused: it does not hold, or the device is not in the inventory.
            DccSimError: the simulator does not run at the moment.
        """
        self._running().check_untrusted_proof(device, challenge, text)

    def connect(
        self,
        device: EntityId,
        receive: Callable[[bytes], None],
        closed: Callable[[], None] = lambda: None,
    ) -> LocalLink:
        """Link a device; in one process it need not prove its key.

        Raises:
            DccSimError: the simulator does not run at the moment.
        """
        engine = self._running()
        before = self._links.get(device)
        link = self._links[device] = LocalLink(self, device, receive, closed)
        if before is not None:
            before.closed()
        engine.connected(device)
        return link

    def take_message(self, link: LocalLink, octets: bytes) -> None:
        """Take what a device sends over its link; nothing after the link's end."""
        if self._engine is not None and self._links.get(link.device) is link:
            self._engine.message(link.device, octets)

    def disconnect(self, link: LocalLink) -> None:
        """End a link; a second time does nothing."""
        if self._links.get(link.device) is link:
            del self._links[link.device]
            if self._engine is not None:
                self._engine.disconnected(link.device)

    def _start(self) -> None:
        self._engine = Engine(
            self._assembly.make_dcc,
            self._assembly.storage,
            clock=self._clock,
            deliver=self._deliver,
            post=self._begin_post,
            connected_devices=lambda: list(self._links),
            restart=lambda restart: self._run(self._restart(restart)),
        )
        self._engine.start()

    def _stop(self) -> None:
        if self._engine is not None:
            self._engine.close()
            self._engine = None
        links, self._links = self._links, {}
        for link in links.values():
            link.closed()

    async def _restart(self, restart: Restart) -> None:
        if self._engine is None:
            return
        self._stop()
        await asyncio.sleep(restart.pause_s)
        try:
            self._start()
        except DccSimError as error:
            _LOG.error("the DCC does not start again: %s", error)

    def _deliver(self, delivery: Deliver) -> None:
        link = self._links.get(delivery.device)
        if link is not None:
            link.receive(delivery.octets)

    def _begin_post(self, post: Post) -> None:
        if self._engine is not None:
            self._run(self._report_post(self._engine, post))

    async def _report_post(self, engine: Engine, post: Post) -> None:
        try:
            status = await self._post(post.url, post.xml)
        except OSError as error:
            engine.post_failed(post.posting_id, f"{post.url}: {error}", reached=False)
            return
        if 200 <= status < 300:
            engine.posted(post.posting_id)
        else:
            engine.post_failed(post.posting_id, f"{post.url} answered {status}", reached=True)

    def _run(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _running(self) -> Engine:
        if self._engine is None:
            raise DccSimError("the simulator is not running, or on its way to run again")
        return self._engine
