"""The CEM pushes to a VEN of the PUSH model: a small HTTP server with habits of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from cem.errors import QueueFull
from cem.openadr import OpenAdrConfig, OpenAdrVtn
from openadr_xml import Payload, parse_untrusted_payload


class Tunnel:
    """A gateway as the face uses it."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[Payload] = asyncio.Queue()
        self.acked: list[str] = []
        self.failures = 0
        self._arriving: asyncio.Queue[Any] = asyncio.Queue()

    def come(self, octets: bytes) -> None:
        async def ack(answers: str | None = None) -> None:
            self.acked.append(answers or "")

        self._arriving.put_nowait(SimpleNamespace(message=octets, ack=ack))

    def new_ref(self) -> str:
        return "m"

    def handle(self, ref: str) -> Any:
        return SimpleNamespace(status=SimpleNamespace(final=True))

    async def send(self, octets: bytes, *, priority: int, ref: str) -> Any:
        if self.failures:
            self.failures -= 1
            raise QueueFull("too many")
        self.sent.put_nowait(parse_untrusted_payload(octets))
        return SimpleNamespace(ref="m")

    async def received(self) -> AsyncIterator[Any]:
        while True:
            yield await self._arriving.get()


class PushVen:
    """Serves HTTP by hand: one piece of its answer after another."""

    def __init__(self, xml: Any) -> None:
        self.xml = xml
        self.pushed: asyncio.Queue[Payload] = asyncio.Queue()
        self.paths: list[str] = []
        self.heads: list[bytes] = []
        self.status = "200 OK"
        self.pieces = 1
        self.url = ""
        self._serving: set[asyncio.Task[None]] = set()

    async def start(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._begin, "localhost", 0)
        stack.push_async_callback(self._end)
        stack.callback(server.close)
        self.url = f"http://localhost:{server.sockets[0].getsockname()[1]}/ven"

    def answer(self, payload: Payload) -> bytes:
        if payload.kind == "oadrCancelReport":
            canceled: bytes = self.xml.canceled_report(payload.request_id)
            return canceled
        response: bytes = self.xml.response(payload.request_id or None)
        return response

    def _begin(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.create_task(self._serve(reader, writer)))

    async def _end(self) -> None:
        await asyncio.gather(*self._serving)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        payload = parse_untrusted_payload(await reader.readexactly(int(length.split(b":")[1])))
        said = self.answer(payload)
        writer.write(
            f"HTTP/1.1 {self.status}\r\nContent-Length: {len(said)}\r\n"
            "Set-Cookie: a=b; Path=/\r\nConnection: close\r\n\r\n".encode()
        )
        size = -(-len(said) // self.pieces)
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(said), size):
                writer.write(said[start : start + size])
                await writer.drain()
                for _ in range(20):  # the other end has its turns in between
                    await asyncio.sleep(0)
            writer.close()
            await writer.wait_closed()
        self.pushed.put_nowait(payload)


class Home:
    """A CEM's face with a registered VEN of the PUSH model."""

    def __init__(self, tunnel: Tunnel, ven: PushVen, face: OpenAdrVtn) -> None:
        self.tunnel = tunnel
        self.ven = ven
        self.face = face

    async def sent(self) -> Payload:
        async with asyncio.timeout(10):
            return await self.tunnel.sent.get()

    async def pushed(self) -> Payload:
        async with asyncio.timeout(10):
            return await self.ven.pushed.get()


@pytest.fixture
async def home(tmp_path: Path, xml: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Home]:
    monkeypatch.setattr("cem.openadr.pushing._RETRY_MIN_S", 0.01)
    async with AsyncExitStack() as stack:
        tunnel = Tunnel()
        ven = PushVen(xml)
        await ven.start(stack)
        config = OpenAdrConfig(listen="127.0.0.1:0", state=str(tmp_path / "s"), push=True)
        face = await stack.enter_async_context(
            OpenAdrVtn(config, tunnel, device="D", vtn_id="V")  # type: ignore[arg-type]
        )
        home = Home(tunnel, ven, face)
        http = await stack.enter_async_context(aiohttp.ClientSession())
        registration = xml.registration("r", http_pull_model=False, transport_address=ven.url)
        headers = {"Content-Type": "application/xml"}

        async def register() -> bytes:
            url = f"{face.url}/EiRegisterParty"
            async with http.post(url, data=registration, headers=headers) as answer:
                return await answer.read()

        posting = asyncio.create_task(register())
        assert (await home.sent()).kind == "oadrCreatePartyRegistration"
        tunnel.come(xml.registered("r"))
        assert parse_untrusted_payload(await posting).ven_id == "VEN1"
        yield home


@pytest.mark.parametrize("pieces", [1, 5])
async def test_what_the_ven_answers_to_a_push_crosses(home: Home, xml: Any, pieces: int) -> None:
    home.ven.pieces = pieces
    home.tunnel.come(xml.event())
    home.tunnel.come(xml.cancel_report("RR1", "c7"))
    assert (await home.pushed()).octets == xml.event()
    assert (await home.pushed()).octets == xml.cancel_report("RR1", "c7")
    answer = await home.sent()
    assert (answer.kind, answer.answered_request_id) == ("oadrCanceledReport", "c7")
    assert home.ven.heads[0].startswith(b"POST /ven/EiEvent HTTP/1.1\r\n")
    assert not any(b"cookie" in head.lower() for head in home.ven.heads)


async def test_an_answer_that_cannot_be_sent_is_not_lost(home: Home, xml: Any) -> None:
    home.tunnel.failures = 2
    home.tunnel.come(xml.cancel_report("RR1", "c7"))
    assert (await home.sent()).kind == "oadrCanceledReport"
    assert [(await home.pushed()).kind for _ in range(3)] == ["oadrCancelReport"] * 3
    assert home.ven.pushed.empty()


@pytest.mark.parametrize("status", ["500 Oh", "302 Found", "404 Not Found"])
async def test_a_push_that_the_ven_did_not_take_comes_again(
    home: Home, xml: Any, status: str
) -> None:
    home.ven.status = status
    home.tunnel.come(xml.event())
    for _ in range(2):
        assert (await home.pushed()).kind == "oadrDistributeEvent"
    assert home.face.status()["queued_for_polls"] == ["oadrDistributeEvent"]


@pytest.mark.parametrize("said", [b"garbage", b"<" * 200_000, "another"])
async def test_what_the_ven_may_not_say_does_not_cross_and_stops_nothing(
    home: Home, xml: Any, said: bytes | str
) -> None:
    other = xml.canceled_report("c7").replace(b">VEN1<", b">VEN2<")
    usual: Callable[[Payload], bytes] = home.ven.answer
    home.ven.answer = lambda _: other if isinstance(said, str) else said  # type: ignore[method-assign]
    home.tunnel.come(xml.cancel_report("RR1", "c7"))
    await home.pushed()
    home.ven.answer = usual  # type: ignore[method-assign]
    home.tunnel.come(xml.cancel_report("RR1", "c8"))
    answer = await home.sent()
    assert answer.answered_request_id == "c8"


async def test_a_push_ven_is_asked_to_register_again(home: Home, xml: Any) -> None:
    home.tunnel.come(xml.reregister())
    assert (await home.pushed()).kind == "oadrRequestReregistration"
    assert home.ven.heads[0].startswith(b"POST /ven/EiRegisterParty HTTP/1.1\r\n")
    home.tunnel.come(xml.event())
    assert (await home.pushed()).kind == "oadrDistributeEvent"
