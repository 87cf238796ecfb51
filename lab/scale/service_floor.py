"""The second floor: what any durable service on a network pays beside the bare operations.

HTTP exchanges and WebSocket messages with the libraries that we use and nothing around them, and
commits of one row each. Two threads with an event loop each stand for the two ends, so that the
processor time of either is known.
"""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import statistics
import threading
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
from aiohttp import web
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection, serve

from lab.scale.traffic import Journey

T = TypeVar("T")

_BLOCKS = 5


@dataclass(frozen=True, slots=True)
class Exchanges:
    """How often a component does what for one fragment.

    Attributes:
        served: HTTP requests answered.
        asked: HTTP requests made.
        messages: WebSocket messages received and answered by one.
        commits: durable transactions.
    """

    served: int
    asked: int
    messages: int
    commits: int


EXCHANGES = {
    "dcc-sim": Exchanges(served=2, asked=1, messages=1, commits=1),
    "dsrsp": Exchanges(served=1, asked=2, messages=0, commits=1),
    "cem": Exchanges(served=0, asked=0, messages=1, commits=1),
}
"""What cannot be left out, by component; each makes at least one thing durable."""


def measure_service_floor(
    folder: Path, journey: Journey, bare_s: Mapping[str, float], rounds: int = 100
) -> dict[str, float]:
    """Measure the bare operations' floor with exchanges and commits on top.

    Args:
        folder: gets a database file.
        journey: whose octets are carried.
        bare_s: the floor of the bare operations, by component.
        rounds: in a block; the middle one of five blocks counts.

    Returns:
        Seconds of processor time for one fragment, by component.
    """
    # What this process holds is no part of it: the collector passes it over.
    gc.collect()
    gc.freeze()
    try:
        with _End() as near, _End() as far:
            served_s, asked_s = _measure_http(near, far, journey, rounds)
            message_s = _measure_websocket(near, far, journey, rounds)
    finally:
        gc.unfreeze()
    commit_s = _measure_commit(folder / "floor.sqlite", journey.send, rounds)
    return {
        name: bare_s[name]
        + one.served * served_s
        + one.asked * asked_s
        + one.messages * message_s
        + one.commits * commit_s
        for name, one in EXCHANGES.items()
    }


class _End:
    """An event loop in a thread of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> _End:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do work in the thread and return what it returns."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()

    def cpu_s(self) -> float:
        """Return the processor time that the thread has used so far."""
        return self.run(_thread_time())


async def _thread_time() -> float:
    return time.thread_time()


def _measure_http(near: _End, far: _End, journey: Journey, rounds: int) -> tuple[float, float]:
    """Return the processor time of one HTTP exchange at the server and at the client."""

    async def answer(request: web.BaseRequest) -> web.Response:
        await request.read()
        return web.Response(body=journey.transform, content_type="application/xml")

    async def open_server() -> tuple[web.ServerRunner, str]:
        runner = web.ServerRunner(web.Server(answer, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner, f"http://127.0.0.1:{runner.addresses[0][1]}/"

    async def ask(url: str) -> list[tuple[float, float]]:
        times = []
        async with aiohttp.ClientSession() as session:
            for turn in range(_BLOCKS * rounds + 1):
                if turn % rounds == 0:
                    times.append((await _far_time(far), time.thread_time()))
                async with session.post(
                    url, data=journey.send, headers={"Content-Type": "application/xml"}
                ) as response:
                    await response.read()
        return times

    runner, url = far.run(open_server())
    try:
        times = near.run(ask(url))
    finally:
        far.run(runner.cleanup())
    server_s, client_s = (_middle([one[end] for one in times], rounds) for end in (0, 1))
    return server_s, client_s


def _middle(times: Sequence[float], rounds: int) -> float:
    """Return what one round took in the middle one of the blocks between these times."""
    return statistics.median(end - begin for begin, end in pairwise(times)) / rounds


async def _far_time(far: _End) -> float:
    return await asyncio.to_thread(far.cpu_s)


def _measure_websocket(near: _End, far: _End, journey: Journey, rounds: int) -> float:
    """Return the processor time of a message and its answer at the end that answers."""
    command = journey.command.to_bytes()

    async def answer(connection: ServerConnection) -> None:
        async for _ in connection:
            await connection.send(journey.response)

    async def open_server() -> Any:
        return await serve(answer, "127.0.0.1", 0, compression=None)

    async def close(server: Any) -> None:
        server.close()
        await server.wait_closed()

    async def ask(port: int) -> list[float]:
        times = []
        async with connect(f"ws://127.0.0.1:{port}/", compression=None) as connection:
            for turn in range(_BLOCKS * rounds + 1):
                if turn % rounds == 0:
                    times.append(await _far_time(far))
                await connection.send(command)
                await connection.recv()
        return times

    server = far.run(open_server())
    try:
        times = near.run(ask(server.sockets[0].getsockname()[1]))
    finally:
        far.run(close(server))
    return _middle(times, rounds)


def _measure_commit(path: Path, octets: bytes, rounds: int) -> float:
    """Return the processor time of one row made durable."""
    db = sqlite3.connect(path, isolation_level=None)
    for pragma in ("locking_mode=EXCLUSIVE", "journal_mode=WAL", "synchronous=FULL"):
        db.execute(f"PRAGMA {pragma}")
    db.execute("CREATE TABLE row (number INTEGER PRIMARY KEY, octets BLOB)")
    times = [time.thread_time()]
    for number in range(_BLOCKS * rounds):
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO row VALUES (?, ?)", (number, octets))
        db.execute("COMMIT")
        if (number + 1) % rounds == 0:
            times.append(time.thread_time())
    db.close()
    return _middle(times, rounds)
