"""Real HTTP, real processes: the receive address, the client, and kill -9 at every step."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from dsrsp import ConfigurationError, Gateway, Service
from dsrsp.dcc_client import HttpDccClient
from dsrsp.errors import DccUnreachable
from smtunnel import ECS46A, DeliveryState, MessageReassembled, Originator, Reassembler
from smtunnel.records import MessageName, Receipt

START = time.time()
MESSAGE = bytes(range(256))


@dataclass
class HttpDcc:
    """The fake DCC behind real HTTP. ``hooks`` run at points of the way, once each."""

    dcc: object
    receive_url: str = ""
    hooks: dict = field(default_factory=dict)
    requests: list = field(default_factory=list)
    postings: list = field(default_factory=list)
    port: int = 0

    async def __aenter__(self):
        app = web.Application()
        for service in Service:
            app.router.add_post(f"/api/v1/{service.value}", self._serve(service))
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.port = self._runner.addresses[0][1]
        self._session = aiohttp.ClientSession()
        self.dcc.receive = lambda octets: self.postings.append(
            asyncio.create_task(self._post_until_taken(octets))
        )
        return self

    async def __aexit__(self, *_):
        for task in self.postings:
            task.cancel()
        await asyncio.gather(*self.postings, return_exceptions=True)
        await self._session.close()
        await self._runner.cleanup()

    def _serve(self, service):
        async def serve(request):
            octets = await request.read()
            assert request.content_type == "application/xml"
            self.requests.append((service, octets))
            await self._pass(f"{service.value} in")
            answer = self.dcc.answer(service, octets)
            await self._pass(f"{service.value} done")
            return web.Response(body=answer, content_type="application/xml")

        return serve

    async def _pass(self, point):
        hook = self.hooks.pop(point, None)
        if hook is not None:
            await hook()

    async def post(self, octets):
        async with self._session.post(self.receive_url, data=octets) as answer:
            return answer.status, await answer.text()

    async def _post_until_taken(self, octets):
        await self._pass("response in")
        while True:
            with contextlib.suppress(aiohttp.ClientError):
                status, _ = await self.post(octets)
                if status == 204:
                    break
            await asyncio.sleep(0.02)  # the other process is being started again
        await self._pass("response done")


@pytest.fixture
def real_clock(world):
    """The test's PKI lives in its own time: seconds from its beginning go on as ours do."""

    def clock():
        return 1_800_000_000.0 + time.time() - START

    world.dcc.clock = clock
    world.dcc.latency_s = 0.0
    return clock


@contextlib.asynccontextmanager
async def http_gateway(world, clock, port, **settings):
    config = world.config(
        dcc_url=f"http://127.0.0.1:{port}", receive_listen="127.0.0.1:0", **settings
    )
    async with Gateway(config, world.keystore, clock=clock) as gateway:
        yield gateway


def receive_url(port):
    return f"http://127.0.0.1:{port}/smartdcc/duis"


async def test_a_message_over_real_http(world, real_clock):
    async with (
        HttpDcc(world.dcc) as http,
        http_gateway(world, real_clock, http.port) as gateway,
    ):
        http.receive_url = receive_url(gateway.receive_port)
        handle = await gateway.send(world.device, MESSAGE)
        assert (await handle.wait()).state is DeliveryState.REASSEMBLED
        (alert,) = world.dcc.alerts(b"up", 1)
        assert await http.post(alert) == (204, "")
        async for received in gateway.received():
            assert received.message == b"up"
            await received.ack()
            break


async def test_what_the_receive_address_answers(world, real_clock):
    async with (
        HttpDcc(world.dcc) as http,
        http_gateway(world, real_clock, http.port, max_unacknowledged_messages=1) as gateway,
    ):
        http.receive_url = receive_url(gateway.receive_port)
        for body, says in (
            (b"", "DUIS message refused: not well-formed XML"),
            (b"<a>", "DUIS message refused: not well-formed XML"),
            (b"\x00\xff" * 50, "DUIS message refused"),
            (world.dcc.alert("x", 1, unsigned=True), "DUIS message refused"),
            (
                world.dcc.alert("x", 1, device_signer=world.pki.devices[world.other_device]),
                "the signature does not hold",
            ),
        ):
            status, text = await http.post(body)
            assert status == 400
            assert says in text
        status, _ = await http.post(b"<" * 100_000)
        assert status == 413
        one, two = world.dcc.alerts(b"1", 1) + world.dcc.alerts(b"2", 2, tunnel_message_id=1)
        assert (await http.post(one))[0] == 204
        assert (await http.post(two))[0] == 503
        url = f"http://127.0.0.1:{gateway.receive_port}"
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{url}/smartdcc/duis") as answer:
                assert answer.status == 405
            async with session.post(f"{url}/elsewhere", data=one) as answer:
                assert answer.status == 404


async def test_garbage_on_the_socket_harms_nobody(world, real_clock, caplog):
    async with (
        HttpDcc(world.dcc) as http,
        http_gateway(world, real_clock, http.port) as gateway,
    ):
        http.receive_url = receive_url(gateway.receive_port)
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.receive_port)
        writer.write(b"\x16\x03\x01\x02\x00\x01garbage\r\n\r\n" * 20)
        await writer.drain()
        assert b"400" in await reader.readline()
        writer.close()
        for path, status in (("", 405), ("/a%0AERROR%20forged", 404)):
            url = receive_url(gateway.receive_port) + path
            async with aiohttp.ClientSession() as stranger, stranger.get(url) as answer:
                assert answer.status == status
        (alert,) = world.dcc.alerts(b"up", 1)
        assert (await http.post(alert))[0] == 204
    lines = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    for what in ("BadHttpMethod", "HTTP 405", "HTTP 404"):
        assert any(what in line for line in lines), lines
    assert not any("\n" in line for line in lines)
    assert not any(record.exc_info for record in caplog.records)


async def test_a_listener_can_be_handed_over_and_a_taken_port_is_told(world, real_clock):
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    gateway = Gateway(world.config(), world.keystore, clock=real_clock, listener=listener)
    async with gateway:
        assert gateway.receive_port == port
        other = world.config(receive_listen=f"127.0.0.1:{port}", state=":memory:")
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await Gateway(other, world.keystore, clock=real_clock).__aenter__()
    with pytest.raises(ConfigurationError, match="expected host:port"):
        await Gateway(
            world.config(receive_listen="1880"), world.keystore, clock=real_clock
        ).__aenter__()


# The client


async def serve_raw(answer):
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    return await asyncio.start_server(serve, "127.0.0.1", 0)


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 4\r\n\r\noops", "HTTP 502"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "no DUIS message"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nhalf", "payload"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "HTTP 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + b"<" * 70000, "more than 65536"),
        (b"\x00\x01\x02\r\n\r\n", "400"),
        (b"", "disconnected"),
    ],
)
async def test_what_is_no_answer(raw, says):
    server = await serve_raw(raw)
    port = server.sockets[0].getsockname()[1]
    async with HttpDccClient(f"http://127.0.0.1:{port}", attempt_timeout_s=5.0) as client:
        with pytest.raises(DccUnreachable, match=f"(?i){says}"):
            await client.post(Service.SEND, b"<x/>")
    server.close()
    await server.wait_closed()


async def test_silence_and_refused_connections_are_no_answer():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        async with HttpDccClient(url, attempt_timeout_s=0.05) as client:
            with pytest.raises(DccUnreachable, match=r"no answer in 0\.05 s"):
                await client.post(Service.TRANSFORM, b"<x/>")
    async with HttpDccClient(url, attempt_timeout_s=5.0) as client:
        with pytest.raises(DccUnreachable, match="serviceT"):
            await client.post(Service.TRANSFORM, b"<x/>")


async def test_an_error_status_with_a_duis_answer_is_an_answer():
    raw = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 4\r\n\r\n<a/>"
    server = await serve_raw(raw)
    port = server.sockets[0].getsockname()[1]
    async with HttpDccClient(f"http://127.0.0.1:{port}", attempt_timeout_s=5.0) as client:
        assert await client.post(Service.SEND, b"<x/>") == b"<a/>"
    server.close()
    await server.wait_closed()


# Kill -9


class GatewayProcess:
    """A gateway as a process that can be killed and started again with the same state."""

    def __init__(self, world, http, folder: Path) -> None:
        self._world = world
        self._keys = folder / "keys"
        world.pki.write_to(self._keys)
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        os.set_inheritable(self._listener.fileno(), True)
        self.receive_port = self._listener.getsockname()[1]
        self._settings = json.dumps(
            {
                "supplier_id": str(world.supplier),
                "load_controller_id": str(world.load_controller),
                "state": world.state,
                "test_mode": True,
                "dcc_url": f"http://127.0.0.1:{http.port}",
                "retry_first_s": 0.02,
                "fragment_retry_first_s": 0.05,
                "receipt_batch_s": 0.2,
            }
        )
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", str(Path(__file__).parent / "gateway_process.py")),
            *(self._settings, str(self._keys), str(self._listener.fileno())),
            str(1_800_000_000.0 - START),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=[self._listener.fileno()],
        )
        assert await self.read() == {"ready": True}

    async def tell(self, **order) -> None:
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        await self._process.stdin.drain()

    async def read(self) -> dict:
        async with asyncio.timeout(30):
            line = await self._process.stdout.readline()
        assert line, "the gateway's process ended"
        return json.loads(line)

    async def read_until(self, key) -> dict:
        while key not in (line := await self.read()):
            pass
        return line

    async def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        await self._process.wait()

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.stdin.close()
            assert await self._process.wait() == 0
        self._listener.close()

    async def send(self, message: bytes) -> str:
        await self.tell(send=base64.b64encode(message).decode(), to=str(self._world.device))
        return (await self.read_until("sent"))["sent"]

    async def final_state(self, ref: str) -> dict:
        await self.tell(watch=ref)
        while True:
            line = await self.read_until("state")
            if line["ref"] == ref and line["final"]:
                return line


@contextlib.asynccontextmanager
async def killable(world, tmp_path):
    async with HttpDcc(world.dcc) as http:
        process = GatewayProcess(world, http, tmp_path)
        http.receive_url = receive_url(process.receive_port)
        try:
            await process.start()
            yield http, process
        finally:
            await process.end()


@pytest.mark.parametrize(
    "point",
    [
        "serviceT in",
        "serviceT done",
        "serviceS in",
        "serviceS done",
        "response in",
        "response done",
    ],
)
async def test_killed_while_a_message_goes_down(world, real_clock, tmp_path, point):
    async with killable(world, tmp_path) as (http, process):
        killed = asyncio.Event()

        async def kill():
            await process.kill()
            killed.set()

        honest_send = world.dcc.accept
        accepted = set()

        def send(request):
            if request.originator_counter in accepted:
                return world.dcc.refusal(request.request_id, "E47")
            accepted.add(request.originator_counter)
            return honest_send(request)

        world.dcc.on_send = send
        http.hooks[point] = kill
        # Taken, and on disk, before the process can die of it.
        ref = await process.send(MESSAGE)
        await killed.wait()
        await process.start()
        assert (await process.final_state(ref))["state"] == "REASSEMBLED"
        second = await process.send(b"second")
        assert (await process.final_state(second))["state"] == "REASSEMBLED"

    octets_by_counter = {}
    for service, octets in http.requests:
        if service is Service.SEND:
            name = octets.split(b"RequestID>")[1]
            octets_by_counter.setdefault(name, set()).add(octets)
    assert all(len(octets) == 1 for octets in octets_by_counter.values())
    reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A)
    messages = []
    for payload, signed in zip(world.dcc.payloads(), world.dcc.signed, strict=True):
        counter = signed.pre_command.originator_counter
        for event in reassembler.receive_fragment(
            b"peer", payload, originator_counter=counter, now=0.0
        ):
            if isinstance(event, MessageReassembled):
                messages.append(event.message)
    assert messages == [MESSAGE, b"second"]


@pytest.mark.parametrize("point", ["response in", "response done", "serviceT in", "serviceS done"])
async def test_killed_while_a_fragment_goes_again(world, real_clock, tmp_path, point):
    """One fragment is answered 02 once; the kill comes when its second attempt is under way."""
    async with killable(world, tmp_path) as (http, process):
        killed = asyncio.Event()
        busy = []

        async def kill():
            await process.kill()
            killed.set()

        def results(pre):
            if not busy:
                busy.append(pre.originator_counter)
                http.hooks[point] = kill
                return (2,) * len(pre.labels)
            return (0,) * len(pre.labels)

        world.dcc.results = results
        ref = await process.send(MESSAGE)
        await killed.wait()
        await process.start()
        assert (await process.final_state(ref))["state"] == "REASSEMBLED"
    reassembler = Reassembler(originator=Originator.DSRSP, carrier=ECS46A)
    messages, again = [], 0
    for payload, signed in zip(world.dcc.payloads(), world.dcc.signed, strict=True):
        counter = signed.pre_command.originator_counter
        again += counter > busy[0] and (counter - busy[0]) % 65536 == 0
        if counter in busy:
            continue
        for event in reassembler.receive_fragment(
            b"peer", payload, originator_counter=counter, now=0.0
        ):
            if isinstance(event, MessageReassembled):
                messages.append(event.message)
    assert messages == [MESSAGE]
    assert again >= 1


async def test_a_receipt_that_is_owed_survives_a_kill(world, real_clock, tmp_path):
    async with killable(world, tmp_path) as (http, process):
        (alert,) = world.dcc.alerts(b"up", 1)
        assert (await http.post(alert))[0] == 204
        await process.kill()
        assert world.dcc.control == []
        told = asyncio.Event()

        async def receipted():
            told.set()

        await process.start()
        http.hooks["serviceS done"] = receipted
        async with asyncio.timeout(30):
            await told.wait()
        ((_, receipt),) = world.dcc.control
        assert receipt == Receipt((MessageName.of(0, 1),))


async def test_killed_right_after_send_returned(world, real_clock, tmp_path):
    async with killable(world, tmp_path) as (_, process):
        refs = [await process.send(b"message %d" % number) for number in range(5)]
        await process.kill()
        await process.start()
        for ref in refs:
            assert (await process.final_state(ref))["state"] == "REASSEMBLED"


async def test_killed_between_the_fragments_of_a_message_up(world, real_clock, tmp_path):
    message = os.urandom(3000)
    async with killable(world, tmp_path) as (http, process):
        for alert in world.dcc.alerts(message, 100):
            assert (await http.post(alert))[0] == 204
            await process.kill()
            await process.start()
        received = await process.read_until("received")
        assert base64.b64decode(received["message"]) == message
        await process.kill()
        await process.start()
        assert (await process.read_until("received")) == received
        await process.tell(ack=received["received"])
        await process.read_until("acknowledged")
        await process.kill()
        await process.start()
        for alert in world.dcc.alerts(message, 100):
            assert (await http.post(alert))[0] == 204
        (other,) = world.dcc.alerts(b"other", 200, tunnel_message_id=1)
        assert (await http.post(other))[0] == 204
        assert base64.b64decode((await process.read_until("received"))["message"]) == b"other"
