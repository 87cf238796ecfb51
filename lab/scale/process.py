"""A simulator in a process of its own, and what processes cost."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER, DEFAULT_LOAD_CONTROLLER, DEFAULT_SUPPLIER
from lab.cast import Cast, device_id
from lab.errors import DemoError

_READY_TIMEOUT_S = 120.0
_STOP_TIMEOUT_S = 20.0
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process has used so far.

    Attributes:
        cpu_s: processor time of all its threads, in seconds.
        memory_octets: what it holds in memory now.
    """

    cpu_s: float
    memory_octets: int


def usage(pid: int) -> Usage:
    """Read what a process has used.

    Args:
        pid: its number.
    """
    # The name in the second field may have blanks and brackets.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    ticks = int(fields[11]) + int(fields[12])
    return Usage(ticks / _TICKS, pages * os.sysconf("SC_PAGE_SIZE"))


class SimulatorProcess:
    """``smtunnel dcc-sim`` with as many devices as wanted; an async context manager.

    Args:
        folder: is filled with keys, inventory, configuration, state and log.
        cast: who takes part; the inventory begins with its devices.
        device_count: of the whole inventory.
        receive_url: where the users listen.
        settings: extra TOML lines of the table "simulator".
        with_journal: whether everything is written down, as in a demonstration.
    """

    def __init__(
        self,
        folder: Path,
        cast: Cast,
        *,
        device_count: int,
        receive_url: str,
        settings: str = "",
        with_journal: bool = False,
    ) -> None:
        self._folder = folder
        self._cast = cast
        self._process: asyncio.subprocess.Process | None = None
        self.start_s = 0.0
        self.ready: dict[str, Any] = {}
        self._write(device_count, receive_url, settings, with_journal)

    @property
    def pid(self) -> int:
        """The number of the process."""
        if self._process is None:
            raise DemoError("the simulator is not running")
        return self._process.pid

    def usage(self) -> Usage:
        """Read what the simulator has used so far."""
        return usage(self.pid)

    async def __aenter__(self) -> SimulatorProcess:
        begin = time.perf_counter()
        with (self._folder / "dcc-sim.log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lab", "dcc-sim", "--log-level", "warning"),
                *("--config", str(self._folder / "dcc-sim.toml")),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
            )
        line = b""
        if (stdout := self._process.stdout) is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_READY_TIMEOUT_S):
                    line = await stdout.readline()
        if not line:
            await self._stop()
            raise DemoError(f"the simulator did not start: see {self._folder / 'dcc-sim.log'}")
        self.ready = json.loads(line)
        self.start_s = time.perf_counter() - begin
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stop()

    async def _stop(self) -> None:
        process = self._process
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()

    def _write(
        self, device_count: int, receive_url: str, settings: str, with_journal: bool
    ) -> None:
        folder = self._folder
        for name, pems in (
            ("keys", self._cast.certificate_pems() | self._cast.dcc_keys()),
            ("devices", self._cast.device_pems()),
        ):
            (folder / name).mkdir()
            for file, pem in pems.items():
                (folder / name / file).write_bytes(pem)
        with (folder / "devices.csv").open("w", encoding="utf-8", newline="") as lines:
            rows = csv.writer(lines)
            rows.writerow(["entity_id", "status"])
            rows.writerows([device_id(index), "Commissioned"] for index in range(device_count))
        text = f"""{'journal = "dcc-sim.journal"' if with_journal else ""}
            [simulator]
            duis_listen = "127.0.0.1:0"
            device_listen = "127.0.0.1:0"
            smki_listen = "127.0.0.1:0"
            dcc_id = "{DEFAULT_ACCESS_CONTROL_BROKER}"
            state = "dcc-sim.sqlite"
            keys = ["keys"]
            test_mode = true
            devices_file = "devices.csv"
            device_certificates = "devices"
            {settings}
            [[simulator.users]]
            entity_id = "{DEFAULT_SUPPLIER}"
            role = "supplier"
            receive_url = "{receive_url}"
            [[simulator.users]]
            entity_id = "{DEFAULT_LOAD_CONTROLLER}"
            role = "load-controller"
            receive_url = "{receive_url}"
            """
        toml = "\n".join(line.strip() for line in text.splitlines())
        (folder / "dcc-sim.toml").write_text(toml, encoding="utf-8")
