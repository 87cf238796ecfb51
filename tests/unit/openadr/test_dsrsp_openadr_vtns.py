"""The DSRSP's side before VTNs with habits of their own, and for many CEMs."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from dsrsp.openadr import OpenAdrConfig
from dsrsp.openadr.cem_ven import CemVen
from dsrsp.openadr.core.state import VenState
from dsrsp.openadr.core.ven import Ven
from dsrsp.openadr.vtn import VtnClient, VtnError, VtnUnreachable
from gbcs import EntityId
from lab.tls_files import write_tls_files
from lab.virtual_time import run_virtual, virtual_clock
from openadr_xml import Payload

DEVICE = EntityId.parse("02-53-4D-54-00-00-00-01")
OTHER = EntityId.parse("02-53-4D-54-00-00-00-02")


class RawVtn:
    """Says the same octets to whatever it is asked; keeps what it was asked."""

    def __init__(self) -> None:
        self.says = b""
        self.asked: list[bytes] = []
        self.port = 0

    async def start(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        stack.push_async_callback(server.wait_closed)
        stack.callback(server.close)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(head)
        length = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        await reader.readexactly(int(length.split(b":")[1]))
        writer.write(self.says)
        writer.close()

    def say(self, body: bytes, *headers: str, start: str = "HTTP/1.1 200 OK") -> None:
        lines = [start, f"Content-Length: {len(body)}", "Connection: close", *headers]
        self.says = "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@pytest.fixture
async def vtn() -> AsyncIterator[RawVtn]:
    async with AsyncExitStack() as stack:
        vtn = RawVtn()
        await vtn.start(stack)
        yield vtn


async def poll(vtn: RawVtn, xml: Any, host: str = "127.0.0.1", **config: Any) -> Payload | None:
    url = f"http://{host}:{vtn.port}/a"
    async with VtnClient(OpenAdrConfig(vtn_url=url, **config)) as client:
        return await client.post(DEVICE, "OadrPoll", xml.poll())


@pytest.mark.parametrize("start", ["HTTP/1.1 200 OK", "HTTP/1.1 204 No Content", "HTTP/1.0 200 OK"])
async def test_nothing_to_say_is_said_in_several_ways(vtn: RawVtn, xml: Any, start: str) -> None:
    vtn.say(b"", start=start)
    assert await poll(vtn, xml) is None


async def test_the_same_event_is_read_however_it_is_written(vtn: RawVtn, xml: Any) -> None:
    event = xml.event()
    body = event.replace(b"oadr:", b"x:").replace(b"xmlns:oadr", b"xmlns:x")
    chunks = b"".join(
        f"{len(event[i : i + 100]):x}\r\n".encode() + event[i : i + 100] + b"\r\n"
        for i in range(0, len(event), 100)
    )
    chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    for says in (
        (b"\xef\xbb\xbf" + event,),
        (body,),
        (event, "Content-Type: text/xml; charset=utf-8"),
        (event, "Content-Type: application/xml; charset=ISO-8859-1"),
        (gzip.compress(event), "Content-Encoding: gzip"),
    ):
        vtn.say(*says)
        answer = await poll(vtn, xml)
        assert answer is not None
        assert answer.kind == "oadrDistributeEvent"
    vtn.says = chunked.encode() + chunks + b"0\r\n\r\n"
    answer = await poll(vtn, xml)
    assert answer is not None
    assert answer.octets == event


@pytest.mark.parametrize(
    ("body", "headers", "start"),
    [
        ("utf-16", (), "HTTP/1.1 200 OK"),
        ("moved", ("Location: http://127.0.0.1:9/",), "HTTP/1.1 307 Temporary Redirect"),
        ("bomb", ("Content-Encoding: gzip",), "HTTP/1.1 200 OK"),
        ("cut", ("Content-Encoding: gzip",), "HTTP/1.1 200 OK"),
        ("text", (), "HTTP/1.1 204 No Content, but some"),
        ("", (), "garbage"),
    ],
)
async def test_what_cannot_be_used_is_an_error_and_no_crash(
    vtn: RawVtn, xml: Any, body: str, headers: tuple[str, ...], start: str
) -> None:
    bodies = {
        "utf-16": xml.event().decode().encode("utf-16"),
        "bomb": gzip.compress(b" " * 20_000_000),
        "cut": gzip.compress(xml.event())[:-20],
    }
    vtn.say(bodies.get(body, body.encode()), *headers, start=start)
    with pytest.raises(VtnError):
        await poll(vtn, xml)


async def test_a_cookie_of_one_cem_is_not_sent_for_another(vtn: RawVtn, xml: Any) -> None:
    vtn.say(b"", "Set-Cookie: JSESSIONID=first; Path=/")
    config = OpenAdrConfig(vtn_url=f"http://localhost:{vtn.port}/a")
    async with VtnClient(config) as client:
        for device in (DEVICE, OTHER):
            await client.post(device, "OadrPoll", xml.poll())
    assert len(vtn.asked) == 2
    assert not any(b"jsessionid" in head.lower() for head in vtn.asked)


async def test_a_password_in_the_address_is_used_and_not_told(vtn: RawVtn, xml: Any) -> None:
    vtn.say(b"", start="HTTP/1.1 500 Oh")
    with pytest.raises(VtnError) as told:
        await poll(vtn, xml, host="user:secret@127.0.0.1")
    assert b"authorization: basic" in vtn.asked[0].lower()
    assert "secret" not in str(told.value)


async def test_a_file_that_is_gone_does_not_end_the_work(
    vtn: RawVtn, xml: Any, tmp_path: Path
) -> None:
    write_tls_files(tmp_path, ("vtn",))
    trusted = tmp_path / "ca.pem"
    config = OpenAdrConfig(
        vtn_url=f"https://127.0.0.1:{vtn.port}", vtn_ca=str(trusted), certificates=str(tmp_path)
    )
    async with VtnClient(config) as client:
        trusted.unlink()
        with pytest.raises(VtnUnreachable, match="vtn_ca"):
            await client.post(DEVICE, "OadrPoll", xml.poll())


class CountingVtn:
    """Notes when it is polled, on virtual time, and fails when told to."""

    def __init__(self) -> None:
        self.polled_at: list[float] = []
        self.failing = False

    async def post(self, device: EntityId, service: str, octets: bytes) -> Payload | None:
        self.polled_at.append(asyncio.get_running_loop().time())
        if self.failing:
            raise VtnError("it is told to")
        return None


@pytest.mark.parametrize("failing", [False, True])
def test_two_thousand_cems_poll_spread_over_the_interval(
    failing: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "dsrsp.openadr")
    config = OpenAdrConfig(vtn_url="http://127.0.0.1:9")
    vtn = CountingVtn()
    vtn.failing = failing

    async def run() -> None:
        vens = []
        begun = asyncio.get_running_loop().time()
        for number in range(2000):
            state = VenState(ven_id=f"VEN{number}")
            ven = Ven(
                config, state, device="me", owner_of=lambda _: None, registrant_of=lambda _: None
            )
            vens.append(
                CemVen(
                    EntityId((0x02534D5400000000 + number).to_bytes(8, "big")),
                    ven,
                    config=config,
                    vtn=vtn,  # type: ignore[arg-type]
                    send=lambda *_: asyncio.sleep(0),
                    save=lambda *_: None,
                    clock=virtual_clock,
                )
            )
            vens[-1].start()
        await asyncio.sleep(60.0)
        await asyncio.gather(*(ven.stop() for ven in vens))
        vtn.polled_at = [at - begun for at in vtn.polled_at]

    run_virtual(run())
    seconds = [sum(second <= at < second + 1 for at in vtn.polled_at) for second in range(60)]
    # In step, 2000 would come in one second and none in the nine after it.
    assert max(seconds) < 300
    if not failing:
        assert min(seconds) > 100
        assert len(vtn.polled_at) == pytest.approx(12_000, rel=0.05)
