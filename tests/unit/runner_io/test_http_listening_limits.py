"""What callers with bad manners can take from a server, on real sockets.

A limit that is to be reached is a twentieth of a second, one that is not is an hour.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from lab.tls_files import write_tls_files
from runner_io.http_listening import LimitedServer, Limits, server_tls
from runner_io.http_listening.logs import RefusalLog

HEAD = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n"
REQUEST = HEAD + b"\r\nbody"
SHORT_S = 0.05
LONG_S = 3600.0


class Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def answer(self) -> bytes:
        """Return the first line of an answer with its body read, b"" if the connection was cut."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    await self.reader.readexactly(int(line.split(b":")[1]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""
        return head.split(b"\r\n")[0]

    async def is_cut(self) -> bool:
        async with asyncio.timeout(10):
            return await self.answer() == b""


class Served:
    """A server whose handler can be held."""

    def __init__(self, server: LimitedServer, going: asyncio.Event, begun: asyncio.Event) -> None:
        self.server = server
        self.going = going
        self.begun = begun
        self.callers: list[Caller] = []

    async def call(self, octets: bytes = b"", tls: ssl.SSLContext | None = None) -> Caller:
        reader, writer = await asyncio.open_connection(*self.server.address, ssl=tls)
        writer.write(octets)
        self.callers.append(Caller(reader, writer))
        return self.callers[-1]


@contextlib.asynccontextmanager
async def served(
    connections: int = 4,
    *,
    idle_s: float = LONG_S,
    body_s: float = LONG_S,
    request_s: float = LONG_S,
    tls: ssl.SSLContext | None = None,
    answer: bytes = b"yes",
) -> AsyncIterator[Served]:
    going, begun = asyncio.Event(), asyncio.Event()
    going.set()

    async def handle(request: web.Request) -> web.Response:
        assert await request.read() == b"body"
        begun.set()
        await going.wait()
        return web.Response(body=answer)

    limits = Limits(
        connections=connections,
        idle_timeout_s=idle_s,
        body_timeout_s=body_s,
        request_timeout_s=request_s,
        body_octets=1000,
        setting="its_connections",
    )
    server = LimitedServer(
        "limited", [("/x", "x", handle)], limits, listen=("127.0.0.1", 0), tls=tls
    )
    async with server:
        world = Served(server, going, begun)
        yield world
        for caller in world.callers:
            caller.writer.transport.abort()
            with contextlib.suppress(OSError):
                await caller.writer.wait_closed()


async def test_who_says_nothing_is_cut() -> None:
    async with served(idle_s=SHORT_S) as world:
        assert await (await world.call()).is_cut()


async def test_a_head_that_comes_octet_by_octet_wins_no_time() -> None:
    async with served(idle_s=SHORT_S) as world:
        slow = await world.call()
        cut = asyncio.create_task(slow.is_cut())
        # Each octet comes long before the limit, the whole head long after it.
        for octet in HEAD + b"X: " + b"y" * 8000:
            slow.writer.write(bytes([octet]))
            if cut in (await asyncio.wait({cut}, timeout=SHORT_S / 10))[0]:
                break
        assert cut.done()
        assert await cut


async def test_a_body_that_does_not_come_is_refused() -> None:
    async with served(body_s=SHORT_S) as world:
        slow = await world.call(HEAD + b"\r\nbo")
        assert await slow.answer() == b"HTTP/1.1 408 Request Timeout"
        assert await slow.is_cut(), "the rest of the body is not waited for"


async def test_a_connection_is_cut_when_it_has_rested_for_too_long_after_a_request() -> None:
    async with served(idle_s=0.5) as world:
        caller = await world.call(REQUEST)
        assert await caller.answer() == b"HTTP/1.1 200 OK"
        caller.writer.write(REQUEST)
        assert await caller.answer() == b"HTTP/1.1 200 OK"
        assert await caller.is_cut()


async def test_a_request_ends_though_its_handler_does_not() -> None:
    async with served(request_s=SHORT_S) as world:
        world.going.clear()
        assert await (await world.call(REQUEST)).is_cut()


async def test_who_does_not_read_the_answer_is_cut() -> None:
    async with served(request_s=0.2, answer=bytes(50_000_000)) as world:
        deaf = await world.call()
        deaf.writer.transport.pause_reading()  # type: ignore[attr-defined]
        deaf.writer.write(REQUEST)
        await world.begun.wait()
        async with asyncio.timeout(10):
            while world.server.open_connections:  # noqa: ASYNC110 (nobody tells of it)
                await asyncio.sleep(0)


async def test_those_who_only_sit_there_shut_nobody_out(caplog: pytest.LogCaptureFixture) -> None:
    async with served(connections=4) as world:
        for octets in (b"", HEAD, HEAD + b"\r\n", b"gar") * 25:
            await world.call(octets)
        honest = await world.call(REQUEST)
        assert await honest.answer() == b"HTTP/1.1 200 OK"
        assert world.server.open_connections <= 4
    told = [r.getMessage() for r in caplog.records if "idle for longest" in r.getMessage()]
    assert len(told) == 30
    assert "its_connections" in told[0]


async def test_who_is_being_answered_is_not_cut_for_others() -> None:
    async with served(connections=2) as world:
        world.going.clear()
        first, second = await world.call(REQUEST), await world.call(REQUEST)
        for _ in range(2):
            await world.begun.wait()
            world.begun.clear()
        third = await world.call(REQUEST)
        assert await third.is_cut()
        world.going.set()
        assert [await first.answer(), await second.answer()] == [b"HTTP/1.1 200 OK"] * 2
        fourth = await world.call(REQUEST)
        assert await fourth.answer() == b"HTTP/1.1 200 OK"


async def test_huge_heads_and_bodies_are_refused() -> None:
    async with served() as world:
        long_line = await world.call(b"POST /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n")
        assert b" 400 " in await long_line.answer()
        long_field = await world.call(HEAD + b"X: " + b"y" * 9000 + b"\r\n\r\nbody")
        assert b" 400 " in await long_field.answer()
        many = await world.call(HEAD + b"".join(b"X%d: y\r\n" % n for n in range(60_000)))
        assert b" 200 " not in await many.answer()
        big = await world.call(HEAD.replace(b"4", b"2000") + b"\r\n" + b"b" * 2000)
        assert b" 413 " in await big.answer()
        honest = await world.call(REQUEST)
        assert await honest.answer() == b"HTTP/1.1 200 OK"


async def test_a_packed_body_is_not_unpacked() -> None:
    bomb = zlib.compress(bytes(100_000_000))[:900]
    async with served() as world:
        head = HEAD.replace(b"4", b"%d" % len(bomb)) + b"Content-Encoding: deflate\r\n\r\n"
        assert b" 415 " in await (await world.call(head + bomb)).answer()


async def test_tls_handshakes_that_stand_still_are_cut_and_shut_nobody_out(tmp_path: Path) -> None:
    write_tls_files(tmp_path, ("face",))
    tls = server_tls(str(tmp_path / "face.pem"), str(tmp_path / "face.key"), None)
    trust = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    trust.check_hostname = False

    async with served(idle_s=SHORT_S, tls=tls) as world:
        mute, garbage = await world.call(), await world.call(b"GET / HTTP/1.1\r\n\r\n")
        assert await mute.is_cut()
        await garbage.is_cut()
    async with served(connections=3, tls=tls) as world:
        for _ in range(20):
            await world.call(b"\x16\x03\x01")
        honest = await world.call(REQUEST, tls=trust)
        assert await honest.answer() == b"HTTP/1.1 200 OK"


async def test_it_ends_with_connections_in_every_state() -> None:
    async with served(connections=9) as world:
        world.going.clear()
        for octets in (b"", HEAD, HEAD + b"\r\n", REQUEST):
            await world.call(octets)
        await world.begun.wait()
    with pytest.raises(ConnectionRefusedError):
        await world.call()
    for caller in world.callers:
        assert await caller.is_cut()


async def test_who_is_cancelled_while_it_ends_leaves_nothing_open() -> None:
    async with served() as world:
        caller = await world.call(REQUEST)
        assert await caller.answer()
        ending = asyncio.create_task(world.server.__aexit__(None, None, None))
        await asyncio.sleep(0)
        ending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await ending
        assert await caller.is_cut()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*world.server.address)


async def test_a_port_that_is_taken_leaves_nothing_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        limits = Limits(
            connections=1,
            idle_timeout_s=1,
            body_timeout_s=1,
            request_timeout_s=1,
            body_octets=1,
            setting="c",
        )
        server = LimitedServer("limited", [], limits, listen=taken.getsockname(), tls=None)
        with pytest.raises(ValueError, match="cannot listen"):
            await server.__aenter__()


def test_refusals_fill_no_log(caplog: pytest.LogCaptureFixture) -> None:
    time_s = 0.0
    log = RefusalLog(logging.getLogger("limited"), clock=lambda: time_s)
    for number in range(10_000):
        log.warning("refused %d", number)
    assert len(caplog.records) == 30
    time_s = 61.0
    log.warning("refused again")
    assert [r.getMessage() for r in caplog.records[30:]] == [
        "9970 more lines of this kind were not written",
        "refused again",
    ]
