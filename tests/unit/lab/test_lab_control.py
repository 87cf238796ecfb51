"""The control interface in front of a gateway that does what the test says."""

from __future__ import annotations

import asyncio
import base64
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from gbcs import EntityId
from lab import control
from lab.control import ControlInterface
from lab.control_client import ControlClient
from lab.control_values import SendOptions, load_or_make_token
from lab.daemon import check_loopback
from lab.errors import ConfigError, ControlError
from smtunnel import MessageStatus, Route
from smtunnel.records import Capabilities

TOKEN = "a token of the test"
PEER = EntityId.parse("02-53-4D-54-00-00-00-01")


class Unknown(Exception):
    """There is no such message."""


class Failing(Exception):
    """The disk, for instance."""


class FakeReceived:
    received_at = 1.0
    peer = PEER
    route = Route.ROUTE_2B

    def __init__(self, ref: str, message: bytes) -> None:
        self.ref = ref
        self.message = message

    async def ack(self, answers: str | None = None) -> None:
        """Take it."""


class FakeHandle:
    def __init__(self, status: MessageStatus) -> None:
        self.ref = status.ref
        self.status = status

    async def statuses(self) -> AsyncIterator[MessageStatus]:
        yield self.status


class FakeGateway:
    """Gives out what is in ``inbox``: messages, or errors that it raises."""

    def __init__(self, *inbox: FakeReceived | Exception) -> None:
        self.inbox = list(inbox)

    def handle(self, ref: str) -> FakeHandle:
        if ref == "failing":
            raise Failing("no space left")
        if ref != "known":
            raise Unknown(f"no message {ref!r}")
        return FakeHandle(MessageStatus(ref=ref, fragments_total=1, message_octets=1))

    async def received(self) -> AsyncIterator[FakeReceived]:
        while self.inbox:
            item = self.inbox.pop(0)
            if isinstance(item, Exception):
                raise item
            yield item
        await asyncio.Event().wait()


@asynccontextmanager
async def serving(
    gateway: FakeGateway,
    *,
    asked: list[Any] | None = None,
    wished: list[Any] | None = None,
    **options: Any,
) -> AsyncIterator[tuple[str, ControlClient]]:
    async def send(to: EntityId | None, message: bytes, options: SendOptions) -> FakeHandle:
        if asked is not None:
            asked.append((options.compression, options.compact))
        if wished is not None:
            wished.append(options)
        return gateway.handle("known")

    interface = ControlInterface(gateway, send, TOKEN, {Unknown: 404, Failing: 503}, **options)
    async with _site(interface.app) as url, ControlClient(url, TOKEN) as client:
        yield url, client


@asynccontextmanager
async def _site(app: web.Application) -> AsyncIterator[str]:
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield "http://{}:{}".format(*runner.addresses[0])
    finally:
        await runner.cleanup()


async def test_a_gateway_that_fails_for_a_while_still_gives_its_messages(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(control, "_RETRY_S", 0.0)
    gateway = FakeGateway(
        FakeReceived("1", b"one"), Failing("disk"), Failing("disk"), FakeReceived("2", b"two")
    )
    async with serving(gateway) as (_, client):
        assert (await client.received(wait_s=10))[0].message == b"one"
        await client.ack("1")
        assert (await client.received(wait_s=10))[0].message == b"two"
    assert "received messages cannot be read" in caplog.text


async def test_an_answer_has_a_size_and_the_rest_follows() -> None:
    large = bytes(control._MAX_ANSWER_OCTETS // 2)
    gateway = FakeGateway(*(FakeReceived(str(number), large) for number in range(5)))
    async with serving(gateway) as (_, client):
        taken: list[str] = []
        while len(taken) < 5:
            messages = await client.received(wait_s=10)
            assert len(messages) <= 3
            for message in messages:
                await client.ack(message.ref)
                taken.append(message.ref)
        assert taken == list("01234")


@pytest.mark.parametrize("wait_s", ["nan", "-1", "-inf", "soon", ""])
async def test_a_time_to_wait_that_is_none_is_refused_at_once(wait_s: str) -> None:
    async with serving(FakeGateway()) as (url, _), aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        target = f"{url}/v1/received"
        async with (
            asyncio.timeout(10),
            http.get(target, params={"wait_s": wait_s}, headers=headers) as answer,
        ):
            assert answer.status == 400
            assert "number of seconds" in (await answer.json())["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [("messages/known", 200), ("messages/other", 404), ("messages/failing", 503), ("x", 404)],
)
async def test_each_error_has_its_http_status(path: str, status: int) -> None:
    async with serving(FakeGateway()) as (url, _), aiohttp.ClientSession() as http:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with http.get(f"{url}/v1/{path}", headers=headers) as answer:
            assert answer.status == status


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
async def test_nothing_is_told_without_the_token(header: str) -> None:
    async with serving(FakeGateway()) as (url, _), aiohttp.ClientSession() as http:
        for path in ("received", "messages/known", "x"):
            headers = {"Authorization": header}
            async with http.get(f"{url}/v1/{path}", headers=headers) as answer:
                assert answer.status == 401


async def test_a_stream_of_statuses_that_ends_early_is_an_error_for_the_client() -> None:
    async with serving(FakeGateway()) as (_, client):
        with pytest.raises(ControlError, match="before message known had ended"):
            await _watch(client)


Call = Callable[[ControlClient], Awaitable[object]]


async def _watch(client: ControlClient) -> None:
    async for _ in client.statuses("known"):
        pass


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/html", b"<p>somebody else's server</p>"),
        ("application/json", b"["),
        ("application/json", b"\xff\xfe"),
        ("application/json", b"[1]"),
        ("application/json", b'{"messages": [{}]}'),
        ("application/json", b'{"messages": [{"ref": "1", "peer": "x", "message": "!"}]}'),
        ("application/json", b'{"messages": 1}'),
        (
            "application/json",
            b'{"messages": [{"ref": "../../x", "peer": "02-53-4D-54-00-00-00-01", "message": "",'
            b' "received_at": 1}]}',
        ),
        ("application/json", b'"text"'),
    ],
)
@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.received(),
        lambda client: client.send(b"x"),
        lambda client: client.status("x"),
        _watch,
    ],
)
async def test_another_server_in_the_place_of_the_daemon_is_told(
    call: Call, content_type: str, body: bytes
) -> None:
    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, headers={"Content-Type": content_type})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with _site(app) as url, ControlClient(url, TOKEN) as client:
        with pytest.raises(ControlError, match="not the control interface"):
            await call(client)


async def test_a_message_of_any_octets_comes_as_it_is() -> None:
    message = bytes(range(256))
    async with serving(FakeGateway(FakeReceived("1", message))) as (_, client):
        (received,) = await client.received(wait_s=10)
        assert received.message == message
        assert base64.b64encode(received.message)


def test_a_token_is_made_once_and_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new" / "token"
    token = load_or_make_token(path)
    assert len(token) >= 32
    assert load_or_make_token(path) == token
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_token_that_a_kill_kept_from_being_written_is_made(tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    assert load_or_make_token(path) == path.read_text().strip() != ""


def test_a_token_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "token"
    load_or_make_token(path)
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        load_or_make_token(path)


@pytest.mark.parametrize("content", [b"short\n", b"\xff" * 40, b" \n"])
def test_a_token_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token"
    path.touch(0o600)
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="token"):
        load_or_make_token(path)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_the_control_interface_is_for_this_machine(host: str) -> None:
    check_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.1", "example.org", ""])
def test_the_control_interface_is_for_nobody_else(host: str) -> None:
    with pytest.raises(ConfigError, match="this machine alone"):
        check_loopback(host)


async def test_the_token_is_in_no_log_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        async with serving(FakeGateway()) as (_, client):
            await client.received()
            with pytest.raises(ControlError):
                await client.status("other")
    assert TOKEN not in caplog.text


async def test_what_a_gateway_can_ask_its_cems() -> None:
    peer = EntityId.parse("02-53-4D-54-00-00-00-01")

    class Asking:
        known: Capabilities | None = None

        async def echo(self, device: EntityId, *, timeout_s: float | None = None) -> float:
            if timeout_s == 0.5:
                raise Failing("no echo in 0.5 s")
            return 41.5

        def capabilities(self, device: EntityId) -> Capabilities | None:
            assert device == peer
            return self.known

    asking = Asking()
    async with serving(FakeGateway(), asks=asking) as (url, client):
        assert await client.echo(peer, timeout_s=10.0) == 41.5
        with pytest.raises(ControlError, match=r"0\.5 s"):
            await client.echo(peer, timeout_s=0.5)
        assert await client.capabilities(peer) is None
        asking.known = Capabilities(dictionaries=(0x1D9B0BCE,))
        told = await client.capabilities(peer)
        assert told is not None
        assert (told["dictionaries"], told["receipts"]) == (["1D9B0BCE"], "off")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for query in ("", "?to=nobody", f"?to={peer}&timeout_s=nan"):
                async with http.post(f"{url}/v1/echo{query}") as answer:
                    assert answer.status == 400
    async with serving(FakeGateway()) as (_, client):
        with pytest.raises(ControlError):
            await client.echo(peer, timeout_s=10.0)


@pytest.mark.parametrize(("compact", "passed_on"), [(None, None), (True, True), (False, False)])
async def test_compact_is_passed_on(compact: bool | None, passed_on: bool | None) -> None:
    asked: list[tuple[str, bool | None]] = []
    async with serving(FakeGateway(), asked=asked) as (url, client):
        await client.send(b"x", compression="dictionary", compact=compact)
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.post(f"{url}/v1/messages?compact=maybe") as answer,
        ):
            assert answer.status == 400
            assert "true or false" in (await answer.json())["error"]
    assert asked == [("dictionary", passed_on)]


async def test_what_is_wished_is_passed_on_and_what_cannot_be_is_refused() -> None:
    asked: list[Any] = []
    wishes = {"deadline": 1_800_000_000.25, "priority": -3, "topic": "a & b", "supersedes": "0f"}
    async with serving(FakeGateway(), wished=asked) as (url, client):
        await client.send(b"x", **wishes)
        await client.send(b"x")
        headers = {"Authorization": f"Bearer {TOKEN}"}
        async with aiohttp.ClientSession(headers=headers) as http:
            for query in ("deadline=tomorrow", "priority=1.5", "priority=high"):
                async with http.post(f"{url}/v1/messages?{query}") as answer:
                    assert answer.status == 400
                    assert "expected a number" in (await answer.json())["error"]
    assert asked == [SendOptions(**wishes), SendOptions()]


@pytest.mark.parametrize(
    ("waits_s", "told"),
    [(None, (False, None)), (287.5, (True, 287.5)), (math.inf, (True, None))],
)
async def test_what_waits_for_route_2b_is_told(waits_s: float | None, told: Any) -> None:
    options = {"waits": lambda ref: waits_s if ref == "known" else 1.0}
    async with serving(FakeGateway(), **options) as (_, client):
        for status in (await client.send(b"x"), await client.status("known")):
            assert (status["waits_for_route_2b"], status["by_2a_in_s"]) == told
    async with serving(FakeGateway()) as (_, client):
        assert "waits_for_route_2b" not in await client.status("known")
