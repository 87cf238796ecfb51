"""Stream 1 for the live engine: VTN and VEN as processes, HTTPS between them over slow proxies.

Messages are pushed both ways, as between a VTN and a VEN that listens: each end serves the other.
What happens is written down as the events of gateways' journals, so that the same tables come of
it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from gbcs import EntityId
from lab.openadr_messages import StoryMessage
from lab.stream_1 import CLIENT_NAME, SERVER_NAME
from lab.study.errors import EngineError
from lab.study.internet import SlowProxy
from lab.study.payloads import HTTPS_OCTETS, TCP_TLS_OCTETS
from lab.tls_files import write_tls_files

_READY_TIMEOUT_S = 30.0
_LONGEST_LINE = 1 << 16

MakeProxy = Callable[[], Awaitable[SlowProxy]]


class Stream1Ends:
    """Both ends of Stream 1, as an async context manager; carries messages for the script.

    Args:
        folder: for certificates and logs.
        device: the CEM's EUI, for the tables.
        keep: whether each way keeps its connection; False: a new one for each message.
        make_proxy: starts what stands for the internet; asked once for each way.

    ``events`` are those of the journals, ``ends`` the processes, by component.

    Entering raises:
        EngineError: an end does not start.
    """

    def __init__(
        self, folder: Path, device: EntityId, *, keep: bool, make_proxy: MakeProxy
    ) -> None:
        self.events: list[dict[str, Any]] = []
        self._folder = folder
        self._keep = keep
        self._make_proxy = make_proxy
        self._stack = AsyncExitStack()
        self._device = device
        self.ends: dict[str, End] = {}

    async def __aenter__(self) -> Stream1Ends:
        async with AsyncExitStack() as stack:
            tls = {way: self._folder / f"tls-{way}" for way in ("down", "up")}
            for folder in tls.values():
                write_tls_files(folder, (SERVER_NAME, CLIENT_NAME))
            for component, serves, asks in (("dsrsp", "up", "down"), ("cem", "down", "up")):
                end = End(component, self._folder / f"{component}.log", self._happened)
                self.ends[component] = end
                await stack.enter_async_context(end.running(tls[serves], tls[asks]))
            for asking, serving in (("dsrsp", "cem"), ("cem", "dsrsp")):
                await self._connect(stack, self.ends[asking], self.ends[serving].url)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    async def _connect(self, stack: AsyncExitStack, asking: End, url: str) -> None:
        proxy = await self._make_proxy()
        stack.push_async_callback(proxy.close)
        parts = urlsplit(url)
        proxy.leads_to(str(parts.hostname), int(parts.port or 0))
        await asking.connect(f"https://{proxy.address}{parts.path}", keep=self._keep)

    async def carry(self, cem: int, message: StoryMessage) -> bool:
        """Send a message, see `lab.study.script.Ends`.

        Raises:
            EngineError: an end has ended.
        """
        sender = self.ends["dsrsp" if message.downlink else "cem"]
        arrived = self.ends["cem" if message.downlink else "dsrsp"].expect()
        await sender.post(message.octets)
        over = [asyncio.ensure_future(end.over()) for end in self.ends.values()]
        either: list[asyncio.Future[Any]] = [arrived, *over]
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not arrived.done():
                logs = " ".join(end.log_text() for end in self.ends.values())
                raise EngineError(f"an end of Stream 1 has ended: {logs.strip() or 'no reason'}")
        finally:
            for task in over:
                task.cancel()
        return arrived.result()

    async def settle(self) -> None:
        """Wait until both ends have the answers to what they have posted."""
        await asyncio.gather(*(end.answered() for end in self.ends.values()))

    # What is written down

    def _happened(self, end: End, line: dict[str, Any]) -> None:
        event = {"t": line["t"], "component": end.component, "source": end.component}
        if end.component == "cem":
            event["device"] = str(self._device)
        if "posting" in line:
            number = int(line["posting"])
            octets = end.octets[number]
            carried = octets + HTTPS_OCTETS + (0 if self._keep else TCP_TLS_OCTETS)
            name = {"message_ref": str(number), "tunnel_message_id": number}
            self.events += [
                event
                | name
                | {"event": "message", "state": "queued", "message_octets": octets}
                | {"fragments_total": 1, "peer": str(self._device)},
                event
                | name
                | {"event": "carrier", "route": "stream1", "octets": carried}
                | {"index": 0, "originator_counter": number},
            ]
        elif "answered" in line:
            name = {"message_ref": str(line["answered"])}
            self.events.append(event | name | {"event": "message", "state": "answered"})
        else:
            # Each way has one connection at a time: what is posted first is heard first.
            number = end.heard
            name = {"message_ref": f"{self._device.hex}-{number}-{number}"}
            self.events.append(event | name | {"event": "message", "state": "reassembled"})


class End:
    """One process of Stream 1.

    Args:
        component: whose journal it stands for.
        log: gets what it says on standard error.
        happened: is told each thing that it says.
    """

    def __init__(
        self, component: str, log: Path, happened: Callable[[End, dict[str, Any]], None]
    ) -> None:
        self.component = component
        self.octets: dict[int, int] = {}
        self.heard = 0
        self.url = ""
        self._log = log
        self._happened = happened
        self._process: Process | None = None
        self._expected: list[asyncio.Future[bool]] = []
        self._connected = asyncio.Event()
        self._open = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._ended = asyncio.Event()

    @contextlib.asynccontextmanager
    async def running(self, serves: Path, asks: Path) -> AsyncIterator[None]:
        """Run it; at the end its input is closed, upon which it ends."""
        with self._log.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "lab.study.stream_1_end", str(serves), str(asks)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                limit=_LONGEST_LINE,
                # Ctrl-C is the study's to handle.
                start_new_session=True,
            )
        self._process = process
        listening = None
        try:
            await self._ready(process)
            listening = asyncio.ensure_future(self._listen(process))
            yield
        finally:
            if process.stdin is not None:
                process.stdin.close()
            try:
                async with asyncio.timeout(_READY_TIMEOUT_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
            if listening is not None:
                await listening

    async def _ready(self, process: Process) -> None:
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_TIMEOUT_S):
                line = await _stdout(process).readline()
        if not line:
            raise EngineError(
                f"an end of Stream 1 does not start: {self.log_text() or 'no reason'}"
            )
        self.url = str(json.loads(line)["url"])

    async def _listen(self, process: Process) -> None:
        async for text in _stdout(process):
            line = json.loads(text)
            if "connected" in line:
                self._connected.set()
                continue
            if "heard" in line:
                self.heard += 1
            self._happened(self, line)
            if "heard" in line and self._expected:
                self._expected.pop(0).set_result(True)
            elif "answered" in line:
                self._open -= 1
                if not self._open:
                    self._idle.set()
        self._ended.set()

    @property
    def pid(self) -> int:
        """The number of the process.

        Raises:
            EngineError: it does not run.
        """
        if self._process is None:
            raise EngineError("an end of Stream 1 does not run")
        return self._process.pid

    async def connect(self, url: str, *, keep: bool) -> None:
        """Say where the other end is; a connection that is kept stands then."""
        await self.tell(url=url, keep=keep)
        await self._first(self._connected)

    async def tell(self, **line: Any) -> None:
        """Give it one line."""
        if self._process is None or self._process.stdin is None:
            raise EngineError("an end of Stream 1 does not run")
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # that it has ended is told by its output
            await self._process.stdin.drain()

    async def post(self, octets: bytes) -> None:
        """Let it post a message."""
        number = len(self.octets) + 1
        self.octets[number] = len(octets)
        self._open += 1
        self._idle.clear()
        await self.tell(ref=number, message=base64.b64encode(octets).decode())

    def expect(self) -> asyncio.Future[bool]:
        """Return what will tell that it has heard the next message."""
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._expected.append(future)
        return future

    async def over(self) -> None:
        """Wait until it has ended."""
        await self._ended.wait()

    async def answered(self) -> None:
        """Wait until all that it posted is answered, or it has ended."""
        await self._first(self._idle)

    async def _first(self, event: asyncio.Event) -> None:
        waits = [asyncio.ensure_future(one.wait()) for one in (event, self._ended)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()

    def log_text(self) -> str:
        """Return what it said on standard error."""
        return self._log.read_text(encoding="utf-8", errors="replace").strip()


def _stdout(process: Process) -> asyncio.StreamReader:
    if process.stdout is None:
        raise EngineError("an end of Stream 1 has no output")
    return process.stdout
