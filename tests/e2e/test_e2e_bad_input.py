"""Garbage on every socket of a running system: a clear refusal, and the work goes on."""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
import websockets

from lab.control_client import ControlClient
from lab.errors import ControlError
from lab.local_system import LocalSystem

GARBAGE = [b"", b"\x00\xff" * 100, b"<a>" * 10_000, b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>']

NOT_HTTP = [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",  # as TLS begins
    b"POST /smartdcc/duis HTTP/1.1\r\nbad header\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
]


async def test_garbage_on_every_socket_is_refused_and_the_work_goes_on(
    new_system: Callable[..., LocalSystem],
) -> None:
    async with new_system() as system, aiohttp.ClientSession() as http:
        xml = {"Content-Type": "application/xml"}
        for service in ("serviceT", "serviceS", "serviceD"):
            for garbage in GARBAGE:
                url = f"{system.duis_url()}/api/v1/{service}"
                async with http.post(url, data=garbage, headers=xml) as answer:
                    assert answer.status == 400, (service, garbage[:20])
                    assert "E65" in await answer.text()
        async with http.post(f"{system.duis_url()}/api/v1/serviceX", data=b"") as answer:
            assert answer.status == 404
        async with http.get(f"{system.duis_url()}/api/v1/serviceT") as answer:
            assert answer.status == 405
        for garbage in GARBAGE:
            async with http.post(system.receive_url(), data=garbage, headers=xml) as answer:
                assert answer.status == 400
                assert len(await answer.text()) > 20
        await _garbage_instead_of_http(system)
        await _garbage_on_the_device_link(system)
        await _garbage_on_control(system, http)
        device = system.identities.device_id
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            await dsrsp.send(b"still alive", to=device)
            assert [r.message for r in await cem.received(wait_s=30)] == [b"still alive"]
        for name in ("dcc-sim", "dsrsp", "cem"):
            log = system.log(name).read_text()
            assert "Traceback" not in log, log
        assert "refused" in system.log("dcc-sim").read_text()


async def _garbage_instead_of_http(system: LocalSystem) -> None:
    """Each socket closes the connection; afterwards each log has a line about each."""
    sockets = {
        "dcc-sim": [system.duis_url(), system.device_url()],
        "dsrsp": [system.receive_url(), system.control_url("dsrsp")],
        "cem": [system.control_url("cem")],
    }
    before = {name: len(system.log(name).read_text().splitlines()) for name in sockets}
    for urls in sockets.values():
        for url in urls:
            for octets in NOT_HTTP:
                address = urlsplit(url)
                reader, writer = await asyncio.open_connection(address.hostname, address.port)
                writer.write(octets)
                async with asyncio.timeout(10):
                    with contextlib.suppress(ConnectionError):
                        await reader.read()
                writer.close()
    for name, urls in sockets.items():
        lines = system.log(name).read_text().splitlines()[before[name] :]
        lines = [line for line in lines if " INFO " not in line]  # the ends go on meanwhile
        assert len(lines) == len(urls) * len(NOT_HTTP), lines
        assert all("WARNING" in line for line in lines), lines


async def _garbage_on_the_device_link(system: LocalSystem) -> None:
    url = f"{system.device_url()}/device/{system.identities.device_id}"
    for first in ("not json", b"\x00" * 10, '{"type":"proof","version":1}'):
        async with websockets.connect(url) as device:
            assert "challenge" in str(await device.recv())
            await device.send(first)
            with pytest.raises(websockets.ConnectionClosed) as closed:
                await device.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 4401
    with pytest.raises((websockets.ConnectionClosed, websockets.InvalidStatus)):
        async with websockets.connect(f"{system.device_url()}/device/nobody") as device:
            await device.recv()


async def _garbage_on_control(system: LocalSystem, http: aiohttp.ClientSession) -> None:
    for name in ("dsrsp", "cem"):
        async with http.get(f"{system.control_url(name)}/v1/received") as answer:
            assert answer.status == 401
        async with ControlClient(system.control_url(name), "wrong") as wrong:
            with pytest.raises(ControlError, match="wrong or no token"):
                await wrong.received()
        async with system.control(name) as client:
            with pytest.raises(ControlError):
                await client.status("no-such-message")
            with pytest.raises(ControlError):
                await client.ack("no-such-message")
            to = system.identities.device_id if name == "dsrsp" else None
            with pytest.raises(ControlError, match="65536"):
                await client.send(b"x" * 65537, to=to)
            with pytest.raises(ControlError, match="compression"):
                await client.send(b"x", to=to, compression="bzip2")
    async with system.control("dsrsp") as dsrsp:
        with pytest.raises(ControlError, match="certificate"):
            await dsrsp.send(b"x", to=system.identities.supplier_id)
        with pytest.raises(ControlError, match="which device"):
            await dsrsp.send(b"x")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["dsrsp"], 2, "--example-config"),
        (["cem", "--config", "nowhere.toml"], 3, "no such config"),
        (["dcc-sim", "--config", "broken.toml"], 3, "not valid TOML"),
        (["dsrsp", "--config", "unknown.toml"], 3, "colour"),
        (
            ["dsrsp", "send", "--to", "1", "--config", "nowhere.toml", "x"],
            3,
            "no such configuration",
        ),
        (["cem", "send", "nothing.xml"], 2, "--config"),
        (["nonsense"], 2, "No such command"),
        (["demo", "--messages", "--duis-schema", "unknown.toml"], 3, "does not load"),
        (["demo", "--messages", "--duis-schema", "nowhere.xsd"], 2, "nowhere.xsd"),
    ],
)
def test_wrong_use_of_the_command_line_is_explained(
    tmp_path: Path, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "broken.toml").write_text("a = ")
    (tmp_path / "unknown.toml").write_text('colour = "red"')
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", "lab", *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == code, finished.stderr
    assert words in finished.stderr
    assert "Traceback" not in finished.stderr


@pytest.mark.parametrize("name", ["dcc-sim", "dsrsp", "cem"])
def test_the_example_configuration_starts_a_daemon_as_far_as_its_keys(
    tmp_path: Path, name: str
) -> None:
    def smtunnel(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "lab", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    example = smtunnel(name, "--example-config")
    assert example.returncode == 0
    (tmp_path / "daemon.toml").write_text(example.stdout)
    started = smtunnel(name, "--config", "daemon.toml")
    assert started.returncode == 3
    assert "smtunnel pki init" in started.stderr


@pytest.mark.parametrize("name", ["dcc-sim", "dsrsp", "cem"])
async def test_a_second_daemon_with_the_same_state_is_refused(
    new_system: Callable[..., LocalSystem], name: str
) -> None:
    async with new_system() as system:
        # The same state and keys, but listening elsewhere.
        config = re.sub(r'"fd:\d+"', '"127.0.0.1:0"', system.config(name).read_text())
        second = system.folder / "second.toml"
        second.write_text(config)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "lab", name, "--config", str(second)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            stdout, stderr = await process.communicate()
        assert (process.returncode, stdout) == (3, b"")
        assert b"another process" in stderr
        assert b"Traceback" not in stderr
        assert await system.stop(name) == 0  # the first one was not harmed, and ends in order
