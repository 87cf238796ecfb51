"""The DCC simulator on real sockets."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import TypeAlias

from aiohttp import web

from dcc_sim.admin_api import PATH_PREFIX as ADMIN_PATH_PREFIX
from dcc_sim.admin_api import make_admin_app
from dcc_sim.assembly import Assembly
from dcc_sim.config import DccSimConfig
from dcc_sim.core.effects import Restart
from dcc_sim.core.faults import Fault, Faults
from dcc_sim.core.journeys import Journeys
from dcc_sim.core.keys import Keys
from dcc_sim.core.network import NetworkProfile
from dcc_sim.device_server import DeviceServer
from dcc_sim.engine import Engine
from dcc_sim.errors import ConfigError, DccSimError
from dcc_sim.http_services import make_app
from dcc_sim.logs import quiet_logger
from dcc_sim.operation import Operated
from dcc_sim.page import add_page
from dcc_sim.poster import Poster
from dcc_sim.smki_service import make_smki_app
from gbcs.duis import Schema
from gbcs.errors import CertificateError, GbcsError
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal, Randomness
from runner_io.http_listening import listen_reason

_LOG = logging.getLogger("dcc_sim")


_Start: TypeAlias = Callable[[], Awaitable[None]]


class Simulator(Operated):
    """The DCC, its access control broker and the SM WAN, as an async context manager.

    Args:
        config: settings.
        keystore: certificates of users and devices; keys of the DCC.
        schema: the DUIS schema, if all that comes and goes is to be validated.
        clock: seconds since 1970.
        random_octets: makes nonces.
        journal: gets every message.
        duis_listener: a listening socket for the HTTP services, instead of config.duis_listen.
        device_listener: a listening socket for devices, instead of config.device_listen.
        profile: the network between DCC and devices, instead of config.network.
        scenario: faults that come at their times.
        smki_listener: a listening socket for the SMKI repository, instead of config.smki_listen.
        admin_token: the secret of those who may use the admin interface, which is served beside
            the services for users; None: there is none. With it the last journeys are kept in
            memory, for the page at "/".

    Entering raises:
        ConfigError: an address cannot be listened on, there is no such network profile, or the
            inventory does not fit it.
        StoreError: the state cannot be read.
        gbcs.errors.CertificateError: a key of the DCC is missing.
    """

    def __init__(
        self,
        config: DccSimConfig,
        keystore: KeyStore,
        *,
        schema: Schema | None = None,
        clock: Clock = time.time,
        random_octets: Randomness = os.urandom,
        journal: Journal | None = None,
        duis_listener: socket.socket | None = None,
        device_listener: socket.socket | None = None,
        profile: NetworkProfile | None = None,
        scenario: Sequence[Fault] = (),
        smki_listener: socket.socket | None = None,
        admin_token: str | None = None,
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._schema = schema
        self._clock = clock
        self._random_octets = random_octets
        self._journal: Journal = NullJournal() if journal is None else journal
        self._journeys: Journeys | None = None
        if admin_token is not None:
            self._journal = self._journeys = Journeys(self._journal, clock)
        self._duis_listener = duis_listener
        self._device_listener = device_listener
        self._smki_listener = smki_listener
        self._admin_token = admin_token
        self._profile = profile
        self._scenario = scenario
        self._faults = Faults()
        self._stack = AsyncExitStack()
        self._parts = AsyncExitStack()
        self._engine: Engine | None = None
        self._restarting: asyncio.Task[None] | None = None
        self._ports: tuple[int, int, int] | None = None

    @property
    def duis_port(self) -> int:
        """TCP port of the HTTP services; known once started."""
        return self._started()[0]

    @property
    def device_port(self) -> int:
        """TCP port for devices; known once started."""
        return self._started()[1]

    @property
    def smki_port(self) -> int:
        """TCP port of the SMKI repository; known once started."""
        return self._started()[2]

    async def __aenter__(self) -> Simulator:
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ports = None
        await self._stack.aclose()

    @property
    def faults(self) -> Faults:
        """The faults that are armed and the hubs that are down; `inject` adds to them."""
        return self._faults

    def _running(self) -> Engine:
        if self._engine is None:
            raise DccSimError("the simulator is not running, or on its way to run again")
        return self._engine

    async def _start(self, stack: AsyncExitStack) -> None:
        """Get what outlives a restart of the DCC, then start the DCC."""
        config = self._config
        assembly = Assembly(
            config,
            self._keystore,
            schema=self._schema,
            journal=self._journal,
            profile=self._profile,
            scenario=self._scenario,
        )
        stack.callback(assembly.close)
        self._faults = assembly.faults
        self._warn_of_missing_certificates(assembly.keys)
        duis = _listen(stack, self._duis_listener, config.duis_listen)
        devices = _listen(stack, self._device_listener, config.device_listen)
        smki = _listen(stack, self._smki_listener, config.smki_listen)

        def make_engine(server: DeviceServer, poster: Poster) -> Engine:
            return Engine(
                assembly.make_dcc,
                assembly.storage,
                clock=self._clock,
                deliver=server.deliver,
                post=poster.post,
                connected_devices=server.devices,
                restart=functools.partial(self._begin_restart, start_parts),
            )

        async def start_parts() -> None:
            # Servers close their sockets when they stop: they get duplicates.
            async with AsyncExitStack() as parts:
                await self._start_parts(parts, make_engine, duis.dup(), devices.dup(), smki.dup())
                self._parts = parts.pop_all()

        stack.push_async_callback(self._stop_parts)
        await start_parts()
        self._ports = (
            duis.getsockname()[1],
            devices.getsockname()[1],
            smki.getsockname()[1],
        )
        _LOG.info("DUIS services on port %d, devices on port %d, SMKI on port %d", *self._ports)

    async def _start_parts(
        self,
        stack: AsyncExitStack,
        make_engine: Callable[[DeviceServer, Poster], Engine],
        duis: socket.socket,
        devices: socket.socket,
        smki: socket.socket,
    ) -> None:
        """Start what a restart of the DCC stops and starts again."""
        for listener in (duis, devices, smki):
            stack.callback(listener.close)
        config = self._config
        server = DeviceServer(
            random_octets=self._random_octets, proof_timeout_s=config.device_proof_timeout_s
        )
        poster = Poster(timeout_s=config.post_timeout_s)
        stack.push_async_callback(poster.close)
        engine = make_engine(server, poster)
        poster.start(engine)
        stack.push_async_callback(server.close)
        await server.start(engine, devices)
        timeout_s = config.request_timeout_s
        app = make_app(engine, request_timeout_s=timeout_s)
        add_page(app)
        if self._admin_token is not None and self._journeys is not None:
            admin = make_admin_app(engine, self._admin_token, self._journeys)
            app.add_subapp(ADMIN_PATH_PREFIX, admin)
        await _serve(stack, app, duis)
        await _serve(stack, make_smki_app(engine, request_timeout_s=timeout_s), smki)
        # First to be stopped: nothing may be promised while the rest closes.
        stack.callback(engine.close)
        engine.start()
        self._engine = engine

    def _begin_restart(self, start: _Start, restart: Restart) -> None:
        if self._restarting is None or self._restarting.done():
            again = self._restart(start, restart.pause_s)
            self._restarting = asyncio.get_running_loop().create_task(again)

    async def _restart(self, start: _Start, pause_s: float) -> None:
        _LOG.warning("the DCC stops for %g s: a fault on order", pause_s)
        self._engine = None
        await self._parts.aclose()
        await asyncio.sleep(pause_s)
        try:
            await start()
        except (DccSimError, GbcsError, OSError) as error:
            _LOG.error("the DCC does not start again: %s", error)
        else:
            _LOG.warning("the DCC runs again")

    async def _stop_parts(self) -> None:
        self._engine = None
        if self._restarting is not None:
            self._restarting.cancel()
            await asyncio.gather(self._restarting, return_exceptions=True)
        await self._parts.aclose()

    def _warn_of_missing_certificates(self, keys: Keys) -> None:
        if self._config.device_certificates is not None:
            # Reading them all is what that folder is there to avoid.
            return
        now = self._clock()
        for device in self._config.devices:
            try:
                keys.check_device(device.entity_id, now)
            except CertificateError as error:
                _LOG.warning("device %s cannot be used: %s", device.entity_id, error)

    def _started(self) -> tuple[int, int, int]:
        if self._ports is None:
            raise DccSimError("the simulator is not running: use it in `async with`")
        return self._ports


async def _serve(stack: AsyncExitStack, app: web.Application, listener: socket.socket) -> None:
    runner = web.AppRunner(
        app,
        access_log=None,
        # At this level aiohttp tells of what is not HTTP at all.
        logger=quiet_logger("dcc_sim.http", level=logging.DEBUG),
        shutdown_timeout=1.0,
    )
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.SockSite(runner, listener).start()


def _listen(stack: AsyncExitStack, given: socket.socket | None, listen: str) -> socket.socket:
    if given is not None:
        stack.callback(given.close)
        return given
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"listen address {listen!r}: expected host:port, for example 127.0.0.1:0")
    host = host.strip("[]")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise ConfigError(f"cannot listen on {listen}: {listen_reason(error)}") from None
    stack.callback(listener.close)
    return listener
