"""The VTN and the VEN as processes of their own, driven and watched from this one."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from lab.errors import DemoError
from lab.openadr_demo.happenings import Exchanges, Happenings

_READY_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 10.0
_LINE_OCTETS = 1 << 20


class Application:
    """One application in a process of its own; see lab.openadr_demo.driven.

    Args:
        role: "vtn" or "ven".
        arguments: for `python -m lab.openadr_demo ROLE`.
        log: where its standard error goes.

    Use as an async context manager. ``seen`` and ``exchanges`` are those of the other process,
    with its times.
    """

    def __init__(self, role: str, *arguments: str, log: Path) -> None:
        self.seen = Happenings()
        self.exchanges = Exchanges()
        self.log = log
        self._role = role
        self._arguments = arguments
        self._ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def __aenter__(self) -> Application:
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lab.openadr_demo", self._role, "--json"),
                *self._arguments,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                limit=_LINE_OCTETS,
                # Ctrl-C is the caller's to handle, who then ends this in order.
                start_new_session=True,
            )
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reading
        if self._ready.done():
            self._ready.exception()  # nobody may have asked for it

    async def url(self) -> str:
        """Return where it listens, as soon as it does.

        Raises:
            DemoError: it ended, or was not ready in time.
        """
        try:
            async with asyncio.timeout(_READY_TIMEOUT_S):
                return await asyncio.shield(self._ready)
        except TimeoutError:
            raise DemoError(f"the {self._role} did not start; its log is {self.log}") from None

    async def order(self, **what: Any) -> None:
        """Have it do something: see lab.openadr_demo.driven.

        Raises:
            DemoError: it has ended.
        """
        stdin = self._process.stdin
        if stdin is None or self._process.returncode is not None:
            raise DemoError(f"the {self._role} has ended; its log is {self.log}")
        stdin.write(json.dumps(what).encode() + b"\n")
        with contextlib.suppress(ConnectionError):
            await stdin.drain()

    async def _read(self) -> None:
        stdout = self._process.stdout
        while stdout is not None and (line := await stdout.readline()):
            await self._take(json.loads(line))
        if not self._ready.done():
            self._ready.set_exception(DemoError(f"the {self._role} ended; its log is {self.log}"))

    async def _take(self, told: dict[str, Any]) -> None:
        t = float(told["t"])
        if "ready" in told:
            self._ready.set_result(told["ready"])
        elif "saw" in told:
            await self.seen.add(*told["saw"], t=t)
        else:
            sent = "sent" in told
            self.exchanges.note(told["sent" if sent else "received"], sent=sent, t=t)
