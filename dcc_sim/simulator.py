"""The DCC simulator on real sockets."""

from __future__ import annotations

import logging
import os
import socket
import time
from contextlib import AsyncExitStack
from types import TracebackType

from aiohttp import web

from dcc_sim.config import DccSimConfig
from dcc_sim.core.dcc import Dcc
from dcc_sim.core.keys import Keys
from dcc_sim.device_server import DeviceServer
from dcc_sim.engine import Engine
from dcc_sim.errors import ConfigError, DccSimError
from dcc_sim.http_services import make_app
from dcc_sim.logs import quiet_logger
from dcc_sim.poster import Poster
from dcc_sim.store import SqliteStore
from gbcs.duis import Schema
from gbcs.errors import CertificateError
from gbcs.keystore import KeyStore
from gbcs.ports import Clock, Journal, NullJournal, Randomness

_LOG = logging.getLogger("dcc_sim")


class Simulator:
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

    Entering raises:
        ConfigError: an address cannot be listened on.
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
    ) -> None:
        self._config = config
        self._keystore = keystore
        self._schema = schema
        self._clock = clock
        self._random_octets = random_octets
        self._journal = NullJournal() if journal is None else journal
        self._duis_listener = duis_listener
        self._device_listener = device_listener
        self._stack = AsyncExitStack()
        self._ports: tuple[int, int] | None = None

    @property
    def duis_port(self) -> int:
        """TCP port of the HTTP services; known once started."""
        return self._started()[0]

    @property
    def device_port(self) -> int:
        """TCP port for devices; known once started."""
        return self._started()[1]

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

    async def _start(self, stack: AsyncExitStack) -> None:
        config = self._config
        keys = Keys(self._keystore, config.dcc_id)
        self._warn_of_missing_certificates(keys)
        storage = SqliteStore(config.state)
        stack.callback(storage.close)
        duis = _listen(stack, self._duis_listener, config.duis_listen)
        devices = _listen(stack, self._device_listener, config.device_listen)

        def make_dcc(now: float) -> Dcc:
            return Dcc(config, keys, storage, schema=self._schema, journal=self._journal, now=now)

        server = DeviceServer(
            random_octets=self._random_octets, proof_timeout_s=config.device_proof_timeout_s
        )
        poster = Poster(timeout_s=config.post_timeout_s)
        stack.push_async_callback(poster.close)
        engine = Engine(
            make_dcc,
            storage,
            clock=self._clock,
            deliver=server.deliver,
            post=poster.post,
            connected_devices=server.devices,
        )
        poster.start(engine)
        stack.push_async_callback(server.close)
        await server.start(engine, devices)
        runner = web.AppRunner(
            make_app(engine, request_timeout_s=config.request_timeout_s),
            access_log=None,
            # At this level aiohttp tells of what is not HTTP at all.
            logger=quiet_logger("dcc_sim.http", level=logging.DEBUG),
            shutdown_timeout=1.0,
        )
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        await web.SockSite(runner, duis).start()
        # First to be stopped: nothing may be promised while the rest closes.
        stack.callback(engine.close)
        engine.start()
        self._ports = (duis.getsockname()[1], devices.getsockname()[1])
        _LOG.info("DUIS services on port %d, devices on port %d", *self._ports)

    def _warn_of_missing_certificates(self, keys: Keys) -> None:
        now = self._clock()
        for device in self._config.devices:
            try:
                keys.check_device(device.entity_id, now)
            except CertificateError as error:
                _LOG.warning("device %s cannot be used: %s", device.entity_id, error)

    def _started(self) -> tuple[int, int]:
        if self._ports is None:
            raise DccSimError("the simulator is not running: use it in `async with`")
        return self._ports


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
        raise ConfigError(f"cannot listen on {listen}: {error}") from None
    stack.callback(listener.close)
    return listener
