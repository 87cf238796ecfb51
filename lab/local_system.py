"""A whole smart metering system on this machine: dcc-sim, dsrsp and cem as processes of their own.

Used by the demo and by the end-to-end tests. The listening sockets are opened here, on free
loopback ports, and handed down, so that no two runs can take each other's port and a killed
process can be started again at the same address.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from gbcs import EntityId
from gbcs.pki import (
    DEFAULT_ACCESS_CONTROL_BROKER,
    DEFAULT_DEVICE,
    DEFAULT_LOAD_CONTROLLER,
    DEFAULT_SUPPLIER,
)
from lab.control_client import ControlClient
from lab.errors import DemoError
from lab.pki_files import write_server_certificate

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LOOK_S = 0.05
_LOG_TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Identities:
    """Who is who in the test PKI; the defaults are those of `smtunnel pki init`."""

    supplier_id: EntityId = DEFAULT_SUPPLIER
    load_controller_id: EntityId = DEFAULT_LOAD_CONTROLLER
    dcc_id: EntityId = DEFAULT_ACCESS_CONTROL_BROKER
    device_id: EntityId = DEFAULT_DEVICE


@dataclass(slots=True)
class _Daemon:
    name: str
    arguments: list[str]
    config: Path
    listeners: list[socket.socket]
    process: asyncio.subprocess.Process | None = None
    ready: dict[str, Any] = field(default_factory=dict)


class LocalSystem:
    """Three daemons with a fresh test PKI below one folder.

    Args:
        folder: is filled with keys, configurations, states, journals and logs.
        pki: the folder that `smtunnel pki init` made.
        identities: who is who in it.
        duis_schema: validates all DUIS messages against the official schema, when given.
        settings: extra TOML lines for the tables "simulator", "dsrsp", "cem" and "route_2b", and
            for the user "supplier" of the simulator.
        with_journals: whether the daemons write down every message.
        route_2b: whether the DSRSP offers route 2b, with a certificate of its own.
        route_2b_address: what its offers name, if not the server itself: a proxy in between.

    Use as an async context manager: on entry all three run and are ready.
    """

    def __init__(
        self,
        folder: Path,
        pki: Path,
        *,
        identities: Identities | None = None,
        duis_schema: Path | None = None,
        settings: dict[str, str] | None = None,
        with_journals: bool = True,
        route_2b: bool = False,
        route_2b_address: str | None = None,
    ) -> None:
        self.folder = folder
        self.identities = identities or Identities()
        self._pki = pki
        self._settings = settings or {}
        self._with_journals = with_journals
        self._route_2b = route_2b
        self._route_2b_address = route_2b_address
        self._stack = contextlib.AsyncExitStack()
        self._daemons: dict[str, _Daemon] = {}
        self._schema_arguments = (
            [] if duis_schema is None else ["--duis-schema", str(duis_schema.resolve())]
        )

    async def __aenter__(self) -> LocalSystem:
        try:
            self._prepare()
            for name in ("dcc-sim", "dsrsp", "cem"):
                await self.start(name)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        for name in reversed(list(self._daemons)):
            await self.stop(name)
        await self._stack.aclose()

    def journal(self, name: str) -> Path:
        """Return the path of a daemon's journal."""
        return self.folder / f"{name}.journal"

    def log(self, name: str) -> Path:
        """Return the path of a daemon's log."""
        return self.folder / f"{name}.log"

    def config(self, name: str) -> Path:
        """Return the path of a daemon's configuration."""
        return self.folder / f"{name}.toml"

    def pid(self, name: str) -> int:
        """Return the number of a daemon's process.

        Raises:
            DemoError: it does not run.
        """
        process = self._daemons[name].process
        if process is None:
            raise DemoError(f"{name} does not run")
        return process.pid

    def ready(self, name: str) -> dict[str, Any]:
        """Return what a daemon said when it was ready: where it listens."""
        return self._daemons[name].ready

    def control_url(self, name: str) -> str:
        """Return where a gateway daemon is controlled."""
        return str(self._daemons[name].ready["control"])

    def token_file(self, name: str) -> Path:
        """Return the path of a gateway's control token, or of dcc-sim's admin token."""
        return self.folder / f"{name}.token"

    def control(self, name: str) -> ControlClient:
        """Return a client of a gateway daemon's control interface."""
        return ControlClient.from_token_file(self.control_url(name), self.token_file(name))

    def duis_url(self) -> str:
        """Return the base address of the simulator's DUIS services."""
        return f"http://127.0.0.1:{self._daemons['dcc-sim'].ready['duis_port']}"

    def device_url(self) -> str:
        """Return the base address at which devices dial in."""
        return f"ws://127.0.0.1:{self._daemons['dcc-sim'].ready['device_port']}"

    def receive_url(self) -> str:
        """Return the DSRSP's receive address."""
        port = self._daemons["dsrsp"].listeners[0].getsockname()[1]
        return f"http://127.0.0.1:{port}/smartdcc/duis"

    def route_2b_address(self) -> tuple[str, int]:
        """Return host and port of route 2b's server.

        Raises:
            DemoError: there is none.
        """
        if not self._route_2b:
            raise DemoError("this system was made without route 2b")
        host, port = self._daemons["dsrsp"].listeners[2].getsockname()[:2]
        return str(host), int(port)

    async def route_2b_up(self) -> dict[str, Any]:
        """Wait until the CEM has taken the offer and is connected; return what it says of it.

        Raises:
            DemoError: it was not, in time.
        """
        told: dict[str, Any] = {}
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S), self.control("cem") as cem:
                while True:
                    told = await cem.route()
                    if told["state"] == "up":
                        return told
                    await asyncio.sleep(_LOOK_S)
        raise DemoError(
            f"route 2b did not come up in {_READY_TIMEOUT_S:g} s; the CEM says {told}; its log "
            f"ends:\n{self._log_tail('cem')}"
        )

    async def start(self, name: str) -> None:
        """Start a daemon that does not run and wait until it is ready.

        Raises:
            DemoError: it ended, or was not ready in time; the message has the end of its log.
        """
        daemon = self._daemons[name]
        with self.log(name).open("ab") as log:
            daemon.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-W", "error", "-m", "lab", name),
                *("--config", str(daemon.config), "--until-input-ends", *daemon.arguments),
                # Whoever kills us ends this pipe, and with it the daemons.
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                pass_fds=[listener.fileno() for listener in daemon.listeners],
                # Ctrl-C is ours to handle: the daemons are then stopped in order.
                start_new_session=True,
            )
        line = b""
        if (stdout := daemon.process.stdout) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READY_TIMEOUT_S):
                    line = await stdout.readline()
        if not line:
            await self.stop(name)
            raise DemoError(f"{name} did not start; its log ends:\n{self._log_tail(name)}")
        daemon.ready = json.loads(line)

    async def stop(self, name: str) -> int | None:
        """End a daemon in order (SIGTERM); returns its exit code, None when it did not run."""
        return await self._end(name, signal.SIGTERM)

    async def kill(self, name: str) -> int | None:
        """Kill a daemon at once (SIGKILL): nothing in it can tidy up."""
        return await self._end(name, signal.SIGKILL)

    async def _end(self, name: str, number: signal.Signals) -> int | None:
        process = self._daemons[name].process
        if process is None:
            return None
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        if process.stdin is not None:
            process.stdin.close()
        self._daemons[name].process = None
        return code

    def _log_tail(self, name: str) -> str:
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-_LOG_TAIL_LINES:])

    def _listener(self) -> socket.socket:
        listener = self._stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=128))
        os.set_inheritable(listener.fileno(), True)
        return listener

    def _prepare(self) -> None:
        duis, device, receive, dsrsp_control, cem_control = (self._listener() for _ in range(5))
        who = self.identities
        receive_url = f"http://127.0.0.1:{receive.getsockname()[1]}/smartdcc/duis"
        certificates = self._pki / "certificates"
        self._add(
            "dcc-sim",
            [duis, device],
            f"""
            admin_token_file = "dcc-sim.token"
            [simulator]
            duis_listen = "fd:{duis.fileno()}"
            device_listen = "fd:{device.fileno()}"
            smki_listen = "127.0.0.1:0"
            dcc_id = "{who.dcc_id}"
            state = "dcc-sim.sqlite"
            keys = {_toml_paths(certificates, self._pki / "dcc")}
            test_mode = true
            {self._settings.get("simulator", "")}
            [[simulator.users]]
            entity_id = "{who.supplier_id}"
            role = "supplier"
            receive_url = "{receive_url}"
            {self._settings.get("supplier", "")}
            [[simulator.users]]
            entity_id = "{who.load_controller_id}"
            role = "load-controller"
            receive_url = "{receive_url}"
            [[simulator.devices]]
            entity_id = "{who.device_id}"
            """,
            self._schema_arguments,
        )
        route_2b, offers = self._prepare_route_2b()
        self._add(
            "dsrsp",
            [receive, dsrsp_control, *route_2b],
            f"""
            [control]
            listen = "fd:{dsrsp_control.fileno()}"
            token_file = "dsrsp.token"
            [gateway]
            supplier_id = "{who.supplier_id}"
            load_controller_id = "{who.load_controller_id}"
            dcc_url = "http://127.0.0.1:{duis.getsockname()[1]}"
            receive_listen = "fd:{receive.fileno()}"
            state = "dsrsp.sqlite"
            keys = {_toml_paths(certificates, self._pki / "dsrsp")}
            test_mode = true
            {self._settings.get("dsrsp", "")}
            {offers}
            """,
        )
        self._add(
            "cem",
            [cem_control],
            f"""
            [control]
            listen = "fd:{cem_control.fileno()}"
            token_file = "cem.token"
            [gateway]
            device_id = "{who.device_id}"
            supplier_id = "{who.supplier_id}"
            load_controller_id = "{who.load_controller_id}"
            hub_url = "ws://127.0.0.1:{device.getsockname()[1]}"
            state = "cem.sqlite"
            keys = {_toml_paths(certificates, self._pki / "devices" / who.device_id.hex)}
            test_mode = true
            {self._settings.get("cem", "")}
            """,
        )

    def _prepare_route_2b(self) -> tuple[list[socket.socket], str]:
        """Return the listening socket of route 2b's server and its table of settings."""
        if not self._route_2b:
            return [], ""
        listener = self._listener()
        certificate, key = write_server_certificate(self.folder)
        address = self._route_2b_address or f"wss://127.0.0.1:{listener.getsockname()[1]}"
        return (
            [listener],
            f"""
            [gateway.route_2b]
            listen = "fd:{listener.fileno()}"
            certificate = {json.dumps(str(certificate.relative_to(self.folder)))}
            private_key = {json.dumps(str(key.relative_to(self.folder)))}
            addresses = [{json.dumps(address)}]
            {self._settings.get("route_2b", "")}
            """,
        )

    def _add(
        self, name: str, listeners: list[socket.socket], toml: str, arguments: Iterable[str] = ()
    ) -> None:
        lines = [line.strip() for line in toml.strip().splitlines()]
        # Keys before the first table belong to the file itself.
        journal = [f'journal = "{name}.journal"'] if self._with_journals else []
        text = "\n".join([*journal, *lines, ""])
        self.config(name).write_text(text, encoding="utf-8")
        self._daemons[name] = _Daemon(name, list(arguments), self.config(name), listeners)


def _toml_paths(*paths: Path) -> str:
    return json.dumps([str(path.resolve()) for path in paths])
