"""The HTTP services against users who do it wrong."""

from __future__ import annotations

import asyncio
import logging

import pytest

from dcc_sim import CHECKS, Check
from gbcs.duis import MAX_DUIS_OCTETS, parse_untrusted_response


@pytest.fixture(autouse=True)
def no_traceback(caplog):
    caplog.set_level(logging.INFO)
    yield
    assert not [record for record in caplog.get_records("call") if record.exc_info]


async def still_serves(world):
    await world.send(counter=999)


@pytest.mark.parametrize(
    ("method", "path", "content_type", "octets", "status", "why"),
    [
        ("POST", "/", "application/xml", b"<a/>", 405, "405"),
        ("POST", "/api/v1/serviceX", "application/xml", b"<a/>", 404, "404"),
        ("POST", "/api/v1/serviceT/", "application/xml", b"<a/>", 404, "404"),
        ("GET", "/api/v1/serviceT", "application/xml", b"", 405, "405"),
        ("PUT", "/api/v1/serviceS", "application/xml", b"<a/>", 405, "405"),
        ("POST", "/api/v1/serviceT", "application/json", b"{}", 415, "Content-Type"),
        ("POST", "/api/v1/serviceT", "text/xml", b"<a/>", 415, "Content-Type"),
        ("POST", "/api/v1/serviceT", "application/xml", b"x" * (MAX_DUIS_OCTETS + 1), 413, "413"),
        ("POST", "/api/v1/serviceD", "application/xml", b"x" * MAX_DUIS_OCTETS, 400, "E65"),
        ("POST", "/api/v1/serviceT", "application/xml", b"", 400, "E65"),
        ("POST", "/api/v1/serviceS", "application/xml", b"\x00" * 100, 400, "E65"),
    ],
)
async def test_refusals(world, caplog, method, path, content_type, octets, status, why):
    async with world.client.session.request(
        method, world.client.base + path, data=octets, headers={"Content-Type": content_type}
    ) as response:
        assert response.status == status
        body = await response.read()
    if status == 400:
        assert response.content_type == "application/xml"
        message = parse_untrusted_response(body).message
        assert (message.response_code, message.request_id) == (CHECKS[Check.XML].code, None)
    assert any("refused" in line and why in line for line in caplog.messages)
    await still_serves(world)


async def test_content_type_may_have_parameters(world, requests):
    octets = requests.octets(requests.transform())
    status, _ = await world.client.post("serviceT", octets, "application/xml; charset=utf-8")
    assert status == 200


async def test_body_that_never_comes(start_world):
    async with start_world(request_timeout_s=0.05) as world:
        reader, writer = await asyncio.open_connection("127.0.0.1", world.simulator.duis_port)
        writer.write(
            b"POST /api/v1/serviceT HTTP/1.1\r\nHost: x\r\nContent-Type: application/xml\r\n"
            b"Content-Length: 100\r\n\r\n<half"
        )
        async with asyncio.timeout(10):
            assert b" 408 " in await reader.readline()
        writer.close()
        await writer.wait_closed()
        await still_serves(world)


@pytest.mark.parametrize(
    "octets",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xff" * 200,
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /api/v1/serviceT HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
        b"POST /api/v1/serviceT HTTP/1.1\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"\r\n\r\n\r\n\x00\x00",
    ],
)
async def test_garbage_instead_of_http(world, octets):
    reader, writer = await asyncio.open_connection("127.0.0.1", world.simulator.duis_port)
    writer.write(octets)
    writer.write_eof()
    async with asyncio.timeout(10):
        answer = await reader.read()
    assert answer == b"" or b" 400 " in answer.split(b"\r\n")[0]
    writer.close()
    await writer.wait_closed()
    await still_serves(world)


async def test_path_cannot_forge_log_lines(world, caplog):
    async with world.client.session.post(world.client.base + "/a%0AERROR%20forged") as response:
        assert response.status == 404
    assert not [line for line in caplog.messages if "\n" in line.strip()]
    assert any("forged" in line for line in caplog.messages)


async def test_many_at_once_each_get_their_own_answer(world, requests):
    async def one(counter):
        pre_command = await world.transform(counter, f"text {counter}")
        assert pre_command.labels[0].text == f"text {counter}"

    await asyncio.gather(*(one(counter) for counter in range(1, 41)))


async def test_eui_in_lower_case(world, requests, pki):
    request = requests.transform()
    text = requests.octets(request).decode()
    lower = str(request.request_id).lower()
    unsigned = text[: text.index("<ds:Signature")] + "</sr:Request>"
    if unsigned.startswith("<?xml"):
        unsigned = unsigned[unsigned.index("?>") + 2 :].lstrip()
    canonical = unsigned.replace(str(request.request_id), lower)
    signature = pki.supplier_xml.signature_over(canonical)
    octets = canonical.replace("</sr:Request>", signature + "</sr:Request>").encode()
    answer = (await world.client.send("serviceT", octets)).message
    assert answer.response_code == "I0"
