"""Both OpenADR faces over real HTTP, with a tunnel of two queues between them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

import cem
import dsrsp
from cem.openadr import PATH, OpenAdrVtn
from cem.openadr import OpenAdrConfig as CemOpenAdr
from dsrsp.openadr import OpenAdrConfig as DsrspOpenAdr
from dsrsp.openadr import OpenAdrVens
from gbcs import EntityId
from lab.tls_files import write_tls_files
from openadr_xml import Payload, parse_untrusted_payload
from smtunnel import DeliveryState

DEVICE = EntityId.parse("02-53-4D-54-00-00-00-01")
XML = {"Content-Type": "application/xml"}


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 (nobody tells of it)
            await asyncio.sleep(0)


class Message:
    """A message in the tunnel, unacknowledged until it is acknowledged."""

    def __init__(self, ref: str, message: bytes, end: TunnelEnd) -> None:
        self.ref = ref
        self.message = message
        self.peer = DEVICE
        self._end = end

    async def ack(self, answers: str | None = None) -> None:
        self._end.acked.append((self.ref, answers))
        self._end.unacknowledged.pop(self.ref, None)


class TunnelEnd:
    """A gateway as the faces use it; what is not acknowledged survives `restart`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.peer: TunnelEnd = self
        self.sent: list[Payload | bytes] = []
        self.refs = 0
        self.acked: list[tuple[str, str | None]] = []
        self.unacknowledged: dict[str, Message] = {}
        self.failing: Exception | None = None
        self.state = DeliveryState.SENT
        self._queue: asyncio.Queue[Message] = asyncio.Queue()

    def restart(self) -> None:
        self._queue = asyncio.Queue()
        for message in self.unacknowledged.values():
            self._queue.put_nowait(message)

    def new_ref(self) -> str:
        self.refs += 1
        return f"{self.name}{self.refs}"

    async def send(self, *arguments: Any, priority: int = 0, ref: str = "") -> Any:
        if self.failing is not None:
            raise self.failing
        message = arguments[-1]
        with contextlib.suppress(ValueError):
            self.sent.append(parse_untrusted_payload(message))
        ref = ref or self.new_ref()
        arriving = Message(ref, message, self.peer)
        self.peer.unacknowledged[ref] = arriving
        self.peer._queue.put_nowait(arriving)
        return self.handle(ref)

    def handle(self, ref: str) -> Any:
        class Handle:
            pass

        handle = Handle()
        handle.ref = ref  # type: ignore[attr-defined]
        handle.status = Handle()  # type: ignore[attr-defined]
        handle.status.state = self.state  # type: ignore[attr-defined]
        handle.status.final = True  # type: ignore[attr-defined]
        return handle

    async def received(self) -> AsyncIterator[Message]:
        while True:
            yield await self._queue.get()


class Vtn:
    """A VTN that says what the test tells it to; what it was asked is in ``asked``."""

    def __init__(self) -> None:
        self.asked: list[Payload] = []
        self.say: Callable[[Payload], bytes | web.Response | None] = lambda asked: b""
        self.polls = 0
        self._changed = asyncio.Condition()

    async def serve(self, stack: AsyncExitStack) -> str:
        app = web.Application()
        app.router.add_post("/{path:.*}", self._post)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}{PATH}"

    async def _post(self, request: web.Request) -> web.StreamResponse:
        payload = parse_untrusted_payload(await request.read())
        assert request.path == f"{PATH}/{payload.service}"
        async with self._changed:
            if payload.kind == "oadrPoll":
                self.polls += 1
            else:
                self.asked.append(payload)
            self._changed.notify_all()
        said = self.say(payload)
        if isinstance(said, web.Response):
            return said
        return web.Response(body=said or b"", content_type="application/xml")

    async def wait(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10), self._changed:
            await self._changed.wait_for(condition)


class System:
    """VEN (the test) -> CEM's face -> queues -> DSRSP's face -> VTN (programmable)."""

    def __init__(self, stack: AsyncExitStack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.up = TunnelEnd("up")
        self.down = TunnelEnd("down")
        self.up.peer, self.down.peer = self.down, self.up
        self.vtn = Vtn()
        self.faces = AsyncExitStack()
        self.config: dict[str, dict[str, Any]] = {"cem": {}, "dsrsp": {}}

    async def start(self, *, dsrsp_too: bool = True) -> None:
        self.cem = await self.faces.enter_async_context(
            OpenAdrVtn(
                CemOpenAdr(
                    **{
                        "listen": "127.0.0.1:0",
                        "state": str(self.folder / "cem.sqlite"),
                        "patience_s": 5.0,
                        **self.config["cem"],
                    }
                ),
                self.up,  # type: ignore[arg-type]
                device=str(DEVICE),
                vtn_id="SUPPLIER",
            )
        )
        if dsrsp_too:
            self.dsrsp = await self.faces.enter_async_context(
                OpenAdrVens(
                    DsrspOpenAdr(
                        **{
                            "vtn_url": self.vtn_url,
                            "state": str(self.folder / "dsrsp.sqlite"),
                            "retry_first_s": 0.01,
                            "poll_interval_s": 0.02,
                            "poll_interval_min_s": 0.01,
                            **self.config["dsrsp"],
                        }
                    ),
                    self.down,  # type: ignore[arg-type]
                )
            )

    async def restart(self, *, dsrsp_too: bool = True) -> None:
        await self.faces.aclose()
        self.faces = AsyncExitStack()
        self.up.restart()
        self.down.restart()
        await self.start(dsrsp_too=dsrsp_too)

    async def post(self, octets: bytes, service: str = "", **more: Any) -> tuple[int, bytes]:
        service = service or parse_untrusted_payload(octets).service
        url = f"{self.cem.url}/{service}"
        async with self.http.post(url, data=octets, headers=XML, **more) as answer:
            return answer.status, await answer.read()

    async def ask(self, octets: bytes, service: str = "") -> Payload | None:
        status, body = await self.post(octets, service)
        assert status == 200
        return parse_untrusted_payload(body) if body else None

    async def poll_until(self, xml: Any, kind: str) -> Payload:
        """Poll until something of a kind comes: the VEN's own habit."""
        async with asyncio.timeout(10):
            while True:
                answer = await self.ask(xml.poll())
                if answer is not None and answer.kind == kind:
                    return answer
                await asyncio.sleep(0)

    async def register(self, xml: Any) -> None:
        answer = await self.ask(xml.registration("reg"))
        assert answer is not None
        assert answer.ven_id == "VEN1"


def usual(xml: Any) -> Callable[[Payload], bytes]:
    """Return what a VTN without news says."""

    def say(asked: Payload) -> bytes:
        request_id = asked.request_id
        if asked.kind == "oadrCreatePartyRegistration":
            registered: bytes = xml.registered(request_id)
            return registered.replace(b"PT30S", b"PT0.02S")
        if asked.kind == "oadrUpdateReport":
            updated: bytes = xml.updated_report(request_id)
            return updated
        response: bytes = xml.response(request_id or None)
        return response

    return say


@pytest.fixture
async def system(tmp_path: Path, xml: Any) -> AsyncIterator[System]:
    async with AsyncExitStack() as stack:
        system = System(stack, tmp_path)
        system.vtn_url = await system.vtn.serve(stack)
        system.vtn.say = usual(xml)
        system.http = await stack.enter_async_context(aiohttp.ClientSession())
        await system.start()
        yield system
        await system.faces.aclose()


async def test_a_session_crosses_with_the_octets_of_both(system: System, xml: Any) -> None:
    await system.register(xml)
    assert system.vtn.asked[0].octets == xml.registration("reg")
    await system.ask(xml.update_report("u1"))
    await system.vtn.wait(lambda: system.vtn.asked[-1].kind == "oadrUpdateReport")
    assert system.vtn.asked[-1].octets == xml.update_report("u1")
    assert [p.kind for p in system.down.sent] == ["oadrCreatedPartyRegistration"]
    say, events = system.vtn.say, [xml.event()]
    system.vtn.say = lambda p: events.pop() if p.kind == "oadrPoll" and events else say(p)
    given = await system.poll_until(xml, "oadrDistributeEvent")
    assert given.octets == xml.event()
    await system.ask(xml.created_event())
    await system.vtn.wait(lambda: system.vtn.asked[-1].kind == "oadrCreatedEvent")
    await system.vtn.wait(lambda: system.vtn.polls > 10)
    assert [p.kind for p in system.down.sent] == [
        "oadrCreatedPartyRegistration",
        "oadrDistributeEvent",
    ]
    assert system.up.unacknowledged == {}
    assert system.down.unacknowledged == {}
    assert ("down1", "up1") in system.up.acked


async def test_patience_ends_with_an_error_and_the_answer_is_kept(system: System, xml: Any) -> None:
    system.config["cem"]["patience_s"] = 0.05
    await system.restart(dsrsp_too=False)
    answer = await system.ask(xml.registration("a"))
    assert answer is not None
    assert (answer.response_code, answer.answered_request_id) == (469, "a")
    assert "again" in answer.response_description
    await system.restart()
    async with asyncio.timeout(10):
        answer = await system.ask(xml.registration("b"))
        while answer is not None and answer.response_code == 469:
            answer = await system.ask(xml.registration("b"))
    assert answer is not None
    assert (answer.ven_id, answer.answered_request_id) == ("VEN1", "b")
    assert len(system.vtn.asked) == 1, "it crossed once"


async def test_a_request_that_failed_in_the_tunnel_crosses_again(system: System, xml: Any) -> None:
    system.config["cem"]["patience_s"] = 0.02
    await system.restart(dsrsp_too=False)
    await system.ask(xml.registration("a"))
    await system.ask(xml.registration("a"))
    assert len(system.up.sent) == 1
    system.up.state = DeliveryState.FAILED
    await system.ask(xml.registration("a"))
    assert len(system.up.sent) == 2


async def test_a_gateway_that_takes_nothing_is_told_as_an_error(system: System, xml: Any) -> None:
    await system.register(xml)
    system.up.failing = cem.QueueFull("full")
    for octets in (xml.update_report("u1"), xml.request_event()):
        answer = await system.ask(octets)
        assert answer is not None
        assert answer.response_code == 469
    system.up.failing = None
    answer = await system.ask(xml.update_report("u1"))
    assert answer is not None
    assert answer.succeeded


@pytest.mark.parametrize(
    ("fault", "posts", "code"),
    [
        (web.Response(status=500), 3, 469),
        (web.Response(body=b"garbage"), 3, 469),
        (web.Response(body=b"<a>" * 60_000), 3, 469),
        (web.Response(status=302, headers={"Location": "http://127.0.0.1:9/"}), 3, 469),
        (web.Response(status=403), 1, 463),
        (web.Response(status=400), 1, 469),
        (web.Response(status=200), 1, 469),
    ],
    ids=["500", "garbage", "huge", "redirect", "403", "400", "nothing"],
)
async def test_a_faulty_vtn_is_tried_again_where_that_can_help(
    system: System, xml: Any, fault: web.Response, posts: int, code: int
) -> None:
    system.config["dsrsp"]["vtn_attempts"] = 3
    await system.restart()
    body, status, headers = fault.body, fault.status, fault.headers
    system.vtn.say = lambda asked: web.Response(body=body, status=status, headers=headers)
    answer = await system.ask(xml.registration("r"))
    assert answer is not None
    assert answer.response_code == code
    assert len(system.vtn.asked) == posts
    assert system.down.unacknowledged == {}


async def test_a_vtn_that_is_away_is_waited_for(system: System, xml: Any) -> None:
    say = usual(xml)
    times = iter(range(100))
    system.vtn.say = lambda p: web.Response(status=503) if next(times) < 2 else say(p)
    await system.register(xml)
    polls = system.vtn.polls
    system.vtn.say = lambda p: web.Response(status=500) if p.kind == "oadrPoll" else say(p)
    await system.vtn.wait(lambda: system.vtn.polls > polls)
    say, events = system.vtn.say, [xml.event()]
    system.vtn.say = lambda p: events.pop() if p.kind == "oadrPoll" and events else usual(xml)(p)
    assert (await system.poll_until(xml, "oadrDistributeEvent")).events[0].event_id == "E1"


async def test_a_restart_loses_nothing_and_repeats_no_request(system: System, xml: Any) -> None:
    await system.register(xml)
    asked = len(system.vtn.asked)
    # The VTN has answered, but nothing goes down: a crash then must not ask it again.
    system.down.failing = dsrsp.StorageError("the disk is full")
    say = system.vtn.say
    system.vtn.say = lambda p: xml.event(answers="q") if p.kind == "oadrRequestEvent" else say(p)
    waiting = asyncio.create_task(system.ask(xml.request_event("q")))
    await system.vtn.wait(lambda: len(system.vtn.asked) > asked)
    ven = system.dsrsp.ven(DEVICE)
    assert ven is not None
    await eventually(lambda: bool(ven.ven.state.outbox))
    system.down.failing = None
    waiting.cancel()
    await system.restart()
    answer = await system.ask(xml.request_event("q2"))
    assert answer is not None
    assert answer.kind == "oadrDistributeEvent"
    assert len([p for p in system.vtn.asked if p.kind == "oadrRequestEvent"]) == 1
    assert system.down.unacknowledged == {}
    polls = system.vtn.polls
    await system.vtn.wait(lambda: system.vtn.polls > polls)


async def test_a_full_queue_holds_up_no_answer(system: System, xml: Any) -> None:
    system.config["cem"]["queued_messages"] = 1
    await system.restart()
    await system.register(xml)
    for number in range(3):
        await system.down.send(xml.event(f"E{number}"))
    # A VEN that was away registers before it polls.
    answer = await system.ask(xml.registration("again", ven_id="VEN1"))
    assert answer is not None
    assert answer.kind == "oadrCreatedPartyRegistration"
    assert len(system.up.unacknowledged) == 2
    for number in range(3):
        event = await system.poll_until(xml, "oadrDistributeEvent")
        assert event.events[0].event_id == f"E{number}"
    await eventually(lambda: not system.up.unacknowledged)


async def test_what_is_no_openadr_goes_to_the_application(system: System) -> None:
    json = b'{"programName": "OpenADR 3", "intervals": []}'
    await system.down.send(DEVICE, json)
    async for received in system.cem.received():
        assert received.message == json
        await received.ack()
        break
    await system.up.send(json)
    async for received in system.dsrsp.received():
        assert received.message == json
        await received.ack()
        break
    assert system.up.unacknowledged == {}
    assert system.down.unacknowledged == {}


async def test_bad_input_at_the_cems_face(system: System, xml: Any) -> None:
    system.config["cem"] = {"body_timeout_s": 0.05}
    await system.restart()
    await system.register(xml)
    bomb = b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>'
    for body, status in ((b"", 400), (b"\x00\xff", 400), (bomb, 400), (b"x" * 70_000, 413)):
        assert (await system.post(body, "EiReport"))[0] == status
    url = system.cem.url
    for path in ("", "/", "/EiNonsense", "/EiReport/../../x", "/" + "a" * 3000):
        async with system.http.post(url + path, data=xml.poll(), headers=XML) as answer:
            assert answer.status == 404
    async with system.http.get(f"{url}/EiReport") as answer:
        assert answer.status == 405
    for content_type in ("text/plain", "application/json", "multipart/form-data"):
        headers = {"Content-Type": content_type}
        async with system.http.post(f"{url}/OadrPoll", data=xml.poll(), headers=headers) as answer:
            assert answer.status == 415
    # A body that never ends.
    reader, writer = await asyncio.open_connection("127.0.0.1", system.cem.port)
    writer.write(
        f"POST {PATH}/EiReport HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
        "Content-Length: 1000\r\n\r\n<".encode()
    )
    async with asyncio.timeout(10):
        head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408")
    writer.close()
    assert (await system.ask(xml.poll())) is not None
    assert len(system.up.sent) == 1


async def test_another_ven_is_refused_at_both_ends(system: System, xml: Any) -> None:
    await system.register(xml)
    answer = await system.ask(xml.update_report(ven_id="VEN2"))
    assert answer is not None
    assert answer.response_code == 452
    # A CEM that lets it through does not get it past the DSRSP.
    await system.up.send(xml.update_report("u9", ven_id="VEN2"))
    await eventually(lambda: not system.down.unacknowledged)
    assert [p.kind for p in system.vtn.asked] == ["oadrCreatePartyRegistration"]
    assert system.down.sent[-1].response_code == 452


async def test_a_vtn_pushes_and_a_ven_is_pushed_to(system: System, xml: Any) -> None:
    pushed: list[Payload] = []

    async def ven(request: web.Request) -> web.Response:
        payload = parse_untrusted_payload(await request.read())
        pushed.append(payload)
        said = (
            xml.canceled_report(payload.request_id)
            if payload.kind == "oadrCancelReport"
            else xml.response(payload.request_id)
        )
        return web.Response(body=said, content_type="application/xml")

    app = web.Application()
    app.router.add_post("/ven/{service}", ven)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    system.stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    ven_url = f"http://127.0.0.1:{runner.addresses[0][1]}/ven"
    system.config["cem"]["push"] = True
    system.config["dsrsp"] |= {"push_listen": "127.0.0.1:0", "push_url": "http://pushes.example"}
    await system.restart()
    answer = await system.ask(
        xml.registration("reg", http_pull_model=False, transport_address=ven_url)
    )
    assert answer is not None
    assert answer.ven_id == "VEN1"
    address = system.vtn.asked[0].transport_address
    assert address == f"http://pushes.example/{DEVICE}{PATH}"
    base = f"http://127.0.0.1:{system.dsrsp.push_port}"

    async def push(octets: bytes, device: str = str(DEVICE)) -> tuple[int, bytes]:
        url = f"{base}/{device}{PATH}/{parse_untrusted_payload(octets).service}"
        async with system.http.post(url, data=octets, headers=XML) as answer:
            return answer.status, await answer.read()

    status, body = await push(xml.event())
    assert (status, parse_untrusted_payload(body).kind) == (200, "oadrResponse")
    # A VTN waits for what the VEN says to a cancellation.
    status, body = await push(xml.cancel_report("RR1", "c7"))
    canceled = parse_untrusted_payload(body)
    assert (canceled.kind, canceled.answered_request_id) == ("oadrCanceledReport", "c7")
    assert [p.kind for p in pushed] == ["oadrDistributeEvent", "oadrCancelReport"]
    assert pushed[0].octets == xml.event()
    assert system.vtn.polls == 0
    # Bad input at this face.
    assert (await push(xml.event(), "02-53-4D-54-00-00-00-99"))[0] == 404
    assert (await push(xml.event(), "nobody"))[0] == 404
    wrong = parse_untrusted_payload((await push(xml.event().replace(b">VTN<", b">EVE<")))[1])
    assert wrong.response_code == 452
    wrong = parse_untrusted_payload((await push(xml.update_report(ven_id="VEN2")))[1])
    assert wrong.response_code == 452
    wrong = parse_untrusted_payload((await push(xml.poll()))[1])
    assert wrong.response_code == 459
    url = f"{base}/{DEVICE}{PATH}/EiEvent"
    for data, headers, status in (
        (b"<a>", XML, 400),
        (b"x" * 70_000, XML, 413),
        (b"", {"Content-Type": "text/plain"}, 415),
    ):
        async with system.http.post(url, data=data, headers=headers) as refused:
            assert refused.status == status
    assert len(pushed) == 2


async def test_a_vtn_that_pushes_and_pushes_fills_no_state(system: System, xml: Any) -> None:
    system.config["dsrsp"] |= {"push_listen": "127.0.0.1:0", "push_url": "http://pushes.example"}
    await system.restart()
    await system.register(xml)
    url = f"http://127.0.0.1:{system.dsrsp.push_port}/{DEVICE}{PATH}/EiEvent"
    ven = system.dsrsp.ven(DEVICE)
    assert ven is not None
    system.down.failing = dsrsp.StorageError("the disk is full")

    async def push(number: int) -> int:
        async with system.http.post(url, data=xml.event(f"E{number}"), headers=XML) as answer:
            return answer.status

    pushing = [asyncio.create_task(push(number)) for number in range(64)]
    await eventually(lambda: len(ven.ven.state.outbox) == 64)
    assert await push(64) == 503
    assert not any(task.done() for task in pushing), "they wait for the gateway to take theirs"
    system.down.failing = None
    assert set(await asyncio.gather(*pushing)) == {200}
    assert await push(65) == 200


async def test_an_answer_that_is_cut_off_is_given_again(system: System, xml: Any) -> None:
    await system.register(xml)
    event = xml.event()
    await system.down.send(event)
    await eventually(lambda: bool(system.cem.status()["queued_for_polls"]))
    poll = xml.poll()
    head = (
        f"POST {PATH}/OadrPoll HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(poll)}\r\n\r\n"
    ).encode()
    for part in (head[:40], head + poll[:20], head + poll):
        _, writer = await asyncio.open_connection("127.0.0.1", system.cem.port)
        writer.write(part)
        await writer.drain()
        writer.transport.abort()
    assert (await system.poll_until(xml, "oadrDistributeEvent")).octets == event


async def test_thousands_of_requests_at_once_leave_the_face_working(
    system: System, xml: Any
) -> None:
    system.config["cem"]["connections"] = 8
    await system.restart()
    await system.register(xml)
    poll = xml.poll()
    request = (
        f"POST {PATH}/OadrPoll HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
        f"Content-Length: {len(poll)}\r\n\r\n"
    ).encode() + poll

    async def flood() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", system.cem.port)
        try:
            writer.write(request * 40)  # one after the other, without reading an answer
            with contextlib.suppress(OSError):
                await reader.read()
        finally:
            writer.transport.abort()

    floods = [asyncio.create_task(flood()) for _ in range(50)]
    await asyncio.wait(floods, return_when=asyncio.FIRST_COMPLETED)  # one was cut
    assert (await system.ask(poll)) is not None
    for task in floods:
        task.cancel()
    await asyncio.gather(*floods, return_exceptions=True)
    assert len(system.up.sent) == 1


async def test_an_answer_to_a_push_whose_vtn_has_gone_is_posted(system: System, xml: Any) -> None:
    system.config["dsrsp"] |= {"push_listen": "127.0.0.1:0", "push_url": "http://pushes.example"}
    await system.restart()
    await system.register(xml)
    _, writer = await asyncio.open_connection("127.0.0.1", system.dsrsp.push_port)
    cancel = xml.cancel_report("RR1", "c7")
    head = f"POST /{DEVICE}{PATH}/EiReport HTTP/1.1\r\nHost: x\r\n"
    head += f"Content-Type: application/xml\r\nContent-Length: {len(cancel)}\r\n\r\n"
    writer.write(head.encode() + cancel)
    await system.poll_until(xml, "oadrCancelReport")
    ven = system.dsrsp.ven(DEVICE)
    assert ven is not None
    assert ven._pushed
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: not ven._pushed)
    await system.ask(xml.canceled_report("c7"))
    await system.vtn.wait(lambda: system.vtn.asked[-1].kind == "oadrCanceledReport")


async def test_state_of_another_device_or_version_is_refused(
    system: System, tmp_path: Path, xml: Any
) -> None:
    await system.register(xml)
    await system.faces.aclose()
    system.faces = AsyncExitStack()
    config = CemOpenAdr(listen="127.0.0.1:0", state=str(tmp_path / "cem.sqlite"))
    with pytest.raises(cem.StoreError, match="give each device"):
        OpenAdrVtn(config, system.up, device="another", vtn_id="V")  # type: ignore[arg-type]
    for name in ("cem", "dsrsp"):
        for part in ("-wal", "-shm"):
            (tmp_path / f"{name}.sqlite{part}").unlink(missing_ok=True)
        garbage = b"no database at all, and long enough to be looked at" * 9
        (tmp_path / f"{name}.sqlite").write_bytes(garbage)
    with pytest.raises(cem.StoreError, match="register again"):
        OpenAdrVtn(config, system.up, device=str(DEVICE), vtn_id="V")  # type: ignore[arg-type]
    system.config["cem"]["state"] = ":memory:"
    with pytest.raises(dsrsp.StorageError, match="not a usable state file"):
        await system.start(dsrsp_too=True)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"listen": "0.0.0.0:1"}, "without ven_ca"),
        ({"listen": "nonsense"}, "host:port"),
        ({"certificate": "a.pem"}, "both certificate and key"),
        ({"ven_ca": "a.pem"}, "which only TLS can"),
        ({"patience_s": 0}, "above 0"),
        ({"certificate": "/nowhere", "key": "/nowhere"}, "PEM files that fit"),
        ({"state": ""}, "path of the state file"),
    ],
)
def test_impossible_settings_of_the_cem_are_explained(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(cem.ConfigurationError, match=words):
        OpenAdrVtn(
            CemOpenAdr(**({"state": ":memory:"} | settings)),
            TunnelEnd("x"),  # type: ignore[arg-type]
            device="d",
            vtn_id="v",
        )


def test_tls_alone_does_not_tell_who_the_ven_is(tmp_path: Path) -> None:
    write_tls_files(tmp_path, ("face",))
    config: dict[str, Any] = {
        "listen": "0.0.0.0:0",
        "state": ":memory:",
        "certificate": str(tmp_path / "face.pem"),
        "key": str(tmp_path / "face.key"),
    }

    def face(**more: Any) -> OpenAdrVtn:
        end: Any = TunnelEnd("x")
        return OpenAdrVtn(CemOpenAdr(**(config | more)), end, device="d", vtn_id="v")

    with pytest.raises(cem.ConfigurationError, match="without ven_ca"):
        face()
    for admitted in ({"ven_ca": str(tmp_path / "ca.pem")}, {"plain_http": True}):
        assert face(**admitted).port == 0  # not open yet, but allowed to


async def test_tls_alone_does_not_tell_who_pushes(tmp_path: Path) -> None:
    write_tls_files(tmp_path, ("vtn",))
    config = DsrspOpenAdr(
        vtn_url="http://127.0.0.1:1",
        state=":memory:",
        push_listen="0.0.0.0:0",
        push_url="https://x",
        push_certificate=str(tmp_path / "vtn.pem"),
        push_key=str(tmp_path / "vtn.key"),
    )
    with pytest.raises(dsrsp.ConfigurationError, match="without push_ca"):
        async with OpenAdrVens(config, TunnelEnd("x")):  # type: ignore[arg-type]
            pass


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"vtn_url": "ftp://x"}, "expected http"),
        ({"push_listen": "127.0.0.1:0"}, "both push_listen and push_url"),
        ({"push_key": "x"}, "both push_certificate"),
        ({"push_ca": "x"}, "push_ca needs"),
        ({"vtn_attempts": 0}, "above 0"),
        ({"poll_interval_min_s": 7200}, "is above poll_interval_max_s = 3600"),
        ({"vtn_ca": "/nowhere"}, "PEM file of certificates"),
        ({"push_listen": "0.0.0.0:1", "push_url": "http://x"}, "without push_ca"),
        ({"push_listen": "x", "push_url": "http://x"}, "host:port"),
    ],
)
async def test_impossible_settings_of_the_dsrsp_are_explained(
    settings: dict[str, Any], words: str
) -> None:
    base = {"vtn_url": "http://127.0.0.1:1", "state": ":memory:"}
    with pytest.raises(dsrsp.ConfigurationError, match=words):
        async with OpenAdrVens(
            DsrspOpenAdr(**(base | settings)),
            TunnelEnd("x"),  # type: ignore[arg-type]
        ):
            pass
