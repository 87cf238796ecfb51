"""Runs one of the three daemons from its configuration file until it is told to stop.

When a daemon can take work it prints one JSON line on standard output,
``{"ready": true, "component": ..., ...}``, with the addresses that it listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import json
import logging
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec
from aiohttp import web

import cem
import dcc_sim
import dsrsp
from cem.link import websocket_connector
from cem.route_2b.dialling import websocket_dialler
from dcc_sim.profile_files import is_profile_path
from dsrsp.http_signer import HttpSigner
from dsrsp.route_2b import Route2bServerConfig
from gbcs import EntityId
from gbcs.duis import SCHEMA_FILES, Schema
from gbcs.errors import BuildError
from gbcs.ports import Journal, NullJournal
from lab.config import CemFile, ControlConfig, DccSimFile, DsrspFile, load_config
from lab.control import ControlInterface, SendFunction
from lab.control_ports import AskableGateway, ControlledGateway, Handle
from lab.control_values import SendOptions, load_or_make_token
from lab.errors import ConfigError
from lab.journal import JsonLinesJournal
from lab.keys import read_keystore
from lab.openadr import openadr_vens, openadr_vtn
from lab.route_2b import CemRoute, DsrspRoutes, RouteView
from lab.scenario_file import read_scenario
from runner_io.http_listening import listen_reason, quiet_logger
from smtunnel.errors import TunnelError

P = ParamSpec("P")
C = TypeVar("C")

_DSRSP_ERRORS: Mapping[type[Exception], int] = {
    dsrsp.UnknownMessage: 404,
    dsrsp.StorageError: 503,
    dsrsp.NoEcho: 503,
    dsrsp.DsrspError: 400,
    TunnelError: 400,
}
_CEM_ERRORS: Mapping[type[Exception], int] = {
    cem.UnknownMessage: 404,
    cem.StoreError: 503,
    cem.QueueFull: 503,
    cem.CemError: 400,
    TunnelError: 400,
}


def inherited_listener(listen: str) -> socket.socket | None:
    """Return the inherited listening socket that "fd:N" names, or None for "host:port".

    Raises:
        ConfigError: there is no such socket.
    """
    kind, _, number = listen.partition(":")
    if kind != "fd":
        return None
    try:
        listener = socket.socket(fileno=int(number))
        listener.setblocking(False)
    except (ValueError, OSError) as error:
        raise ConfigError(
            f"listen = {listen!r}: no such inherited socket: {error}; expected fd:N with the "
            "number of a listening socket that the parent process passed on, or host:port"
        ) from None
    return listener


def split_address(listen: str) -> tuple[str, int]:
    """Split "host:port"; the host of an IPv6 address stands in brackets.

    Raises:
        ConfigError: it is nothing of the kind.
    """
    host, _, port = listen.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"listen = {listen!r}: expected host:port with a port of 0 to 65535")
    return host.strip("[]"), int(port)


def read_duis_schema(main_file: Path) -> Schema:
    """Read the DUIS schema and the files that it includes, which lie beside it.

    Raises:
        ConfigError: a file is missing.
        gbcs.errors.DuisSchemaError: it is not a schema that can be loaded.
    """
    beside = [main_file.parent / name for name in SCHEMA_FILES]
    try:
        files = {path.name: path.read_bytes() for path in (main_file, *beside) if path.exists()}
    except OSError as error:
        raise ConfigError(f"{main_file}: cannot read the DUIS schema: {error}") from None
    return Schema(files, main_file.name)


async def run_dcc_sim(
    config_path: Path, *, duis_schema: Path | None = None, scenario: Path | None = None
) -> None:
    """Run the DCC simulator until SIGTERM or SIGINT.

    Args:
        config_path: a TOML file, see lab.config.DccSimFile.
        duis_schema: overrides the schema of the file.
        scenario: overrides the scenario of the file.
    """
    file = load_config(config_path, DccSimFile)
    base = config_path.resolve().parent
    config = msgspec.structs.replace(file.simulator, state=_state_path(base, file.simulator.state))
    if is_profile_path(config.network):
        config = msgspec.structs.replace(config, network=str(base / config.network))
    schema_path = duis_schema or (base / config.duis_schema if config.duis_schema else None)
    scenario_path = scenario or (base / config.scenario if config.scenario else None)
    _raise_file_limit()
    config = _with_inventory(base, config)
    keystore = read_keystore(
        (base / f for f in config.keys),
        test_mode=config.test_mode,
        device_certificates=(
            None if config.device_certificates is None else base / config.device_certificates
        ),
    )
    async with contextlib.AsyncExitStack() as stack:
        stop = stop_event("dcc-sim")
        simulator = await stack.enter_async_context(
            dcc_sim.Simulator(
                config,
                keystore,
                schema=None if schema_path is None else read_duis_schema(schema_path),
                journal=_journal(stack, base, file.journal, "dcc-sim"),
                duis_listener=inherited_listener(config.duis_listen),
                device_listener=inherited_listener(config.device_listen),
                smki_listener=inherited_listener(config.smki_listen),
                admin_token=(
                    None
                    if file.admin_token_file is None
                    else load_or_make_token(base / file.admin_token_file)
                ),
                scenario=() if scenario_path is None else read_scenario(scenario_path),
            )
        )
        announce_ready(
            "dcc-sim",
            duis_port=simulator.duis_port,
            device_port=simulator.device_port,
            smki_port=simulator.smki_port,
        )
        await stop.wait()


def _raise_file_limit() -> None:
    """Let this process have as many sockets as the system allows: one for each device."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _with_inventory(base: Path, config: dcc_sim.DccSimConfig) -> dcc_sim.DccSimConfig:
    """Add the devices of the inventory's file to those of the configuration."""
    if config.devices_file is None:
        return config
    path = base / config.devices_file
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            devices = dcc_sim.parse_inventory(lines, where=str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot read the inventory: {error}") from None
    return msgspec.structs.replace(config, devices=[*config.devices, *devices])


async def run_dsrsp(config_path: Path) -> None:
    """Run the DSRSP's gateway until SIGTERM or SIGINT; see lab.config.DsrspFile."""
    file = load_config(config_path, DsrspFile)
    base = config_path.resolve().parent
    config = msgspec.structs.replace(
        file.gateway,
        state=_state_path(base, file.gateway.state),
        route_2b=below(base, file.gateway.route_2b),
    )
    if config.route_2b is not None:
        _raise_file_limit()
    keystore = read_keystore((base / f for f in config.keys), test_mode=config.test_mode)
    async with contextlib.AsyncExitStack() as stack:
        stop = stop_event("dsrsp")
        signer: HttpSigner | None = None
        if config.signing is not None:
            config.signing.check()
            signer = await stack.enter_async_context(
                HttpSigner(config.signing, base, supplier_id=config.supplier_id)
            )
        gateway = await stack.enter_async_context(
            dsrsp.Gateway(
                config,
                keystore,
                signer=signer,
                journal=_journal(stack, base, file.journal, "dsrsp"),
                listener=inherited_listener(config.receive_listen),
                route_2b_listener=(
                    None if config.route_2b is None else inherited_listener(config.route_2b.listen)
                ),
            )
        )

        async def send(to: EntityId | None, message: bytes, options: SendOptions) -> Handle:
            if to is None:
                raise BuildError("say which device the message is for: ?to=EUI")
            return await gateway.send(to, message, **asdict(options))

        vens = await stack.enter_async_context(openadr_vens(file.openadr, base, gateway))
        control = await stack.enter_async_context(
            _control(
                vens or gateway,
                send,
                file.control,
                base,
                _DSRSP_ERRORS,
                asks=gateway,
                routes=DsrspRoutes(gateway),
                openadr=None if vens is None else vens.status,
                waits=gateway.waits_for_route_2b_s,
            )
        )
        facts: dict[str, Any] = {} if vens is None else {"openadr_push_port": vens.push_port}
        if config.route_2b is not None:
            facts["route_2b_port"] = gateway.route_2b_port
        announce_ready("dsrsp", receive_port=gateway.receive_port, control=control, **facts)
        await stop.wait()


async def run_cem(config_path: Path) -> None:
    """Run the CEM's gateway until SIGTERM or SIGINT; see lab.config.CemFile."""
    file = load_config(config_path, CemFile)
    base = config_path.resolve().parent
    config = msgspec.structs.replace(file.gateway, state=_state_path(base, file.gateway.state))
    keystore = read_keystore((base / f for f in config.keys), test_mode=config.test_mode)
    # What can fail on this machine comes first: then nobody has heard of this process.
    opened = asyncio.Event()
    async with contextlib.AsyncExitStack() as stack:
        stop = stop_event("cem")
        gateway = await stack.enter_async_context(
            cem.Gateway(
                config,
                keystore,
                journal=_journal(stack, base, file.journal, "cem", str(config.device_id)),
                connector=_after(opened, websocket_connector(config)),
                dialler=_after(opened, websocket_dialler(config.route_2b)),
            )
        )

        async def send(to: EntityId | None, message: bytes, options: SendOptions) -> Handle:
            if to is not None:
                raise BuildError("a CEM has one DSRSP only: leave ?to= out")
            if options.topic is not None or options.supersedes is not None:
                raise BuildError("a CEM's messages do not supersede each other: leave them out")
            return await gateway.send(
                message,
                options.compression,
                compact=options.compact,
                deadline=options.deadline,
                priority=options.priority,
                route=options.route,
                urgent=options.urgent,
            )

        vtn = await stack.enter_async_context(openadr_vtn(file.openadr, base, gateway, config))
        control = await stack.enter_async_context(
            _control(
                vtn or gateway,
                send,
                file.control,
                base,
                _CEM_ERRORS,
                routes=CemRoute(gateway),
                openadr=None if vtn is None else vtn.status,
                waits=gateway.waits_for_route_2b_s,
            )
        )
        opened.set()
        announce_ready("cem", control=control, **({} if vtn is None else {"openadr": vtn.url}))
        await stop.wait()


def _after(
    opened: asyncio.Event, dial: Callable[P, AbstractAsyncContextManager[C]]
) -> Callable[P, AbstractAsyncContextManager[C]]:
    """Return what dials as ``dial`` does, but not before an event."""

    @contextlib.asynccontextmanager
    async def dial_later(*args: P.args, **options: P.kwargs) -> AsyncIterator[C]:
        await opened.wait()
        async with dial(*args, **options) as connection:
            yield connection

    return dial_later


def check_loopback(host: str) -> None:
    """Check that a host name or address is of this machine.

    Raises:
        ConfigError: it is another, or all of its addresses.
    """
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return
    if host != "localhost":
        raise ConfigError(
            f"control: listen on {host!r}: the token crosses the wire in the clear, so the control "
            "interface is for this machine alone; use 127.0.0.1, and a tunnel from elsewhere"
        )


def _state_path(base: Path, state: str) -> str:
    return state if state == ":memory:" else str(base / state)


def below(base: Path, config: Route2bServerConfig | None) -> Route2bServerConfig | None:
    """Return the settings of route 2b's server with the paths below a folder."""
    if config is None:
        return None
    return msgspec.structs.replace(
        config,
        certificate=str(base / config.certificate),
        private_key=str(base / config.private_key),
        revoked=None if config.revoked is None else str(base / config.revoked),
    )


def _journal(
    stack: contextlib.AsyncExitStack,
    base: Path,
    path: str | None,
    component: str,
    device: str | None = None,
) -> Journal:
    if path is None:
        return NullJournal()
    import time  # the one clock of a live process

    return stack.enter_context(JsonLinesJournal(base / path, component, time.time, device=device))


def stop_event(component: str) -> asyncio.Event:
    """Return what SIGTERM and SIGINT set."""
    stop = asyncio.Event()

    def begin(signal_name: str) -> None:
        logging.getLogger(component).info("stopping: %s", signal_name)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, begin, number.name)
    return stop


def announce_ready(component: str, **facts: Any) -> None:
    """Print the one line that says that a daemon is ready, with what callers need to know."""
    line = {"ready": True, "component": component} | facts
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()
    logging.getLogger(component).info("ready")


@contextlib.asynccontextmanager
async def _control(
    gateway: ControlledGateway,
    send: SendFunction,
    config: ControlConfig,
    base: Path,
    gateway_errors: Mapping[type[Exception], int],
    *,
    asks: AskableGateway | None = None,
    routes: RouteView | None = None,
    openadr: Callable[[], dict[str, Any]] | None = None,
    waits: Callable[[str], float | None] | None = None,
) -> AsyncIterator[str]:
    token = load_or_make_token(base / config.token_file)
    interface = ControlInterface(
        gateway,
        send,
        token,
        gateway_errors,
        asks=asks,
        routes=routes,
        openadr=openadr,
        waits=waits,
    )
    runner = web.AppRunner(
        interface.app, access_log=None, logger=quiet_logger("control"), shutdown_timeout=1.0
    )
    await runner.setup()
    try:
        listener = inherited_listener(config.listen)
        site: web.BaseSite
        if listener is not None:
            site = web.SockSite(runner, listener)
        else:
            host, port = split_address(config.listen)
            check_loopback(host)
            site = web.TCPSite(runner, host, port)
        await site.start()
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    except OSError as error:
        raise ConfigError(
            f"control: cannot listen on {config.listen}: {listen_reason(error)}; another address "
            "goes into [control] of the configuration"
        ) from None
    finally:
        await runner.cleanup()
