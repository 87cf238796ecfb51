"""The server under load and while it runs: revocation, slow readers, storms, settings."""

from __future__ import annotations

import asyncio
import logging
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from cem.errors import ConfigurationError as ClientConfigurationError
from cem.route_2b import Route2bClientConfig
from dsrsp.errors import ConfigurationError, DccUnreachable
from dsrsp.route_2b import Route2bServerConfig
from dsrsp.route_2b.gate import SLOT_S, CallBack, Gate
from dsrsp.route_2b.revocation import Revocations, SmkiRepository, read_revoked
from gbcs.errors import Route2bRefused
from gbcs.route_2b_texts import CloseCode, build_try_later, parse_untrusted_try_later
from gbcs.smki_repository import CertificateStatus
from lab.virtual_time import run_virtual


async def test_a_device_is_put_out_when_it_is_revoked(bench: Any, tmp_path: Path) -> None:
    listed = tmp_path / "revoked"
    listed.write_text("# nobody\n")
    server = await bench.server(revoked=str(listed), revocation_check_s=0.02)
    parties = bench.parties
    _, told = await bench.up(server)
    _, _ = await bench.up(server, device=parties.other_device)
    serial = parties.signs[parties.device].certificate.serial
    listed.write_text(f"# one\n{serial:032X}  # stolen\n")
    assert "4403" in (await told.next("disconnected"))[1]
    assert "4403" in (await told.next("REFUSED"))[1]
    event = await bench.application.next("disconnected")
    assert event[1] == parties.device
    assert event[2].startswith("4403 REVOKED: certificate")
    # And is not let in again, nor does a damaged list let it in.
    listed.write_text("nonsense!")
    again, told = bench.client(bench.offer(server))
    assert "4403" in (await told.next("REFUSED"))[1]
    assert server.devices() == [parties.other_device]
    listed.write_text("")
    again.use(bench.offer(server))
    await told.next("UP")


class Repository:
    """An SMKI repository in this process."""

    def __init__(self) -> None:
        self.status: CertificateStatus | None = CertificateStatus.IN_USE
        self.down = False
        self.asked = 0
        self.serial = 0

    async def statuses(self, entity_id: Any) -> dict[int, CertificateStatus]:
        self.asked += 1
        if self.down:
            raise DccUnreachable("down")
        return {} if self.status is None else {self.serial: self.status}


async def test_the_smki_repository_is_asked(bench: Any) -> None:
    source = Repository()
    source.serial = bench.parties.signs[bench.parties.device].certificate.serial
    server = await bench.server(status_source=source, smki_repository="http://x:1")
    # Asked lately: a reconnection does not ask again, the regular check does.
    for _ in range(2):
        await (await bench.proven(server)).close()
    assert source.asked == 1
    source.status = CertificateStatus.REVOKED
    _, told = await bench.up(server)
    await server.recheck()
    assert "4403" in (await told.next("disconnected"))[1]
    assert source.asked == 2


def test_a_repository_that_is_silent_or_does_not_know(parties: Any) -> None:
    certificate = parties.signs[parties.device].certificate

    async def main() -> None:
        source = Repository()
        source.serial, source.down = certificate.serial, True
        lenient = Revocations(None, source, fresh_s=100)
        await lenient.check(certificate)
        await lenient.check(certificate)
        assert source.asked == 1, "silence is not asked again at once"
        strict = Revocations(None, source, fresh_s=100, required=True)
        with pytest.raises(Route2bRefused) as refused:
            await strict.check(certificate)
        assert refused.value.code == CloseCode.TRY_LATER
        assert parse_untrusted_try_later(refused.value.reason) == 100
        await asyncio.sleep(11)
        source.down, source.status = False, None
        await lenient.check(certificate)
        with pytest.raises(Route2bRefused, match="4411"):
            await strict.check(certificate)
        # What was said before holds while there is silence.
        source.status = CertificateStatus.REVOKED
        await asyncio.sleep(101)
        with pytest.raises(Route2bRefused, match="4403"):
            await lenient.check(certificate)
        source.down = True
        await asyncio.sleep(101)
        with pytest.raises(Route2bRefused, match="4403"):
            await lenient.check(certificate)

    run_virtual(main())


async def test_the_repository_over_http(bench: Any) -> None:
    from aiohttp import web

    from gbcs.smki_repository import build_search_response, parse_untrusted_search_request

    certificate = bench.parties.signs[bench.parties.device].certificate
    answers: list[web.Response] = []

    async def answer(request: web.Request) -> web.Response:
        asked = parse_untrusted_search_request(await request.read())
        assert asked.entity_id == bench.parties.device
        return answers.pop()

    app = web.Application()
    app.router.add_post("/services/certificatesearch", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    bench.stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/"
    async with SmkiRepository(url) as repository:
        body = build_search_response([(certificate, CertificateStatus.REVOKED)])
        answers.append(web.Response(body=body))
        found = await repository.statuses(bench.parties.device)
        assert found == {certificate.serial: CertificateStatus.REVOKED}
        for bad in (
            web.Response(status=503),
            web.Response(body=b"<no"),
            web.Response(body=b"<CertificateSearchRequest/>"),
            web.Response(body=b"<CertificateSearchResponse><Result/></CertificateSearchResponse>"),
        ):
            answers.append(bad)
            with pytest.raises(DccUnreachable):
                await repository.statuses(bench.parties.device)
    async with SmkiRepository("http://127.0.0.1:1") as nobody:
        with pytest.raises(DccUnreachable):
            await nobody.statuses(bench.parties.device)


async def test_a_slow_reader_loses_its_own_connection(bench: Any) -> None:
    server = await bench.server(queued_messages=4, send_timeout_s=60.0)
    parties = bench.parties
    _, told = await bench.up(server, device=parties.other_device)
    slow = await bench.proven(server)
    slow.transport.pause_reading()
    big = parties.command(1, bytes(500_000))
    count = 0
    while server.send(parties.device, big):
        count += 1
        assert count < 1000
        await asyncio.sleep(0)
    event = await bench.application.next("disconnected")
    assert event[1] == parties.device
    assert event[2].startswith("4413 SLOW_READER")
    assert server.send(parties.other_device, parties.command(1, b"x", parties.other_device))
    assert (await told.next("received"))[2] == b"x"
    slow.transport.abort()


async def test_who_takes_nothing_for_long_is_put_out(bench: Any) -> None:
    server = await bench.server(send_timeout_s=0.2, queued_octets=1 << 30)
    slow = await bench.proven(server)
    slow.transport.pause_reading()
    # More than all buffers on the way hold.
    for _ in range(40):
        server.send(bench.parties.device, bench.parties.command(1, bytes(500_000)))
        await asyncio.sleep(0)
    assert "4413" in (await bench.application.next("disconnected"))[2]
    slow.transport.abort()


async def test_an_application_that_is_slow_slows_the_sender_not_the_memory(bench: Any) -> None:
    server = await bench.server()
    bench.application.hold = asyncio.Event()
    client, _ = await bench.up(server, queued_messages=8)
    message = bench.parties.alert(1, bytes(900_000))
    sent = 0
    while client.send(message):
        sent += 1
        assert sent < 100
        await asyncio.sleep(0.001)
    bench.application.hold.set()
    for _ in range(sent):
        await bench.application.next("received")


async def test_a_fault_of_the_application_ends_one_connection_and_is_told(
    bench: Any, caplog: Any
) -> None:
    class Faulty(type(bench.application)):  # type: ignore[misc]
        async def received(self, device: Any, message: Any) -> None:
            if message.payload == b"bad":
                raise RuntimeError("for the test")
            await super().received(device, message)

    application = bench.application = Faulty()
    server = await bench.server(application=application)
    client, told = await bench.up(server)
    other, _ = await bench.up(server, device=bench.parties.other_device)
    assert client.send(bench.parties.alert(1, b"bad"))
    assert "1011 'unforeseen error'" in (await told.next("disconnected"))[1]
    assert other.send(bench.parties.alert(1, b"good", bench.parties.other_device))
    assert (await application.next("received"))[3] == b"good"
    assert "RuntimeError: for the test" in caplog.text


async def test_a_storm_is_paced_and_everybody_gets_in(bench: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, "dsrsp.route_2b")
    server = await bench.server(handshakes_at_once=1, handshakes_waiting=2)
    parties = bench.parties
    offer = bench.offer(server)
    told = [
        bench.client(offer, device=device)[1]
        for _ in range(8)
        for device in (parties.device, parties.other_device)
    ]
    await asyncio.gather(*(each.next("UP") for each in told))
    refused = [r for r in caplog.records if "4429 TRY_LATER" in r.getMessage()]
    assert refused


async def test_a_client_waits_as_long_as_it_is_told(bench: Any) -> None:
    server = await bench.server(connections=1)
    await bench.proven(server, device=bench.parties.other_device,
                       signer=bench.parties.signer(bench.parties.other_device))  # fmt: skip
    _, told = bench.client(bench.offer(server))
    down = await told.next("DOWN")
    assert "4429 '1 s: too many at once'" in down[1]
    assert 1 <= down[2] <= 1.1


def test_the_gate_does_not_wait_for_who_stalls() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = Gate(2)
        first, second = await gate.enter(), await gate.enter()
        third = loop.create_task(gate.enter())
        gone = loop.create_task(gate.enter())
        fourth = loop.create_task(gate.enter())
        await asyncio.sleep(0)
        assert gate.waiting == 3
        gone.cancel()
        first()
        first()
        leave = await third
        assert loop.time() == 0
        # The second stalls: its place is free after a second.
        await fourth
        assert loop.time() == SLOT_S
        second()
        leave()
        assert gate.waiting == 0

    run_virtual(main())


def test_those_told_to_come_back_come_one_after_another() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        gate = Gate(1)
        call_back = CallBack(longest_s=60.0)
        assert call_back.wait_s(0, gate) == pytest.approx(1.0, abs=0.01)
        tasks = [loop.create_task(gate.enter()) for _ in range(301)]
        await asyncio.sleep(0)
        # Each takes a tenth of a second: that is the pace that shows.
        for task in tasks[:201]:
            leave = await task
            await asyncio.sleep(0.1)
            leave()
        assert gate.pace_s == pytest.approx(0.1, rel=0.1)
        assert gate.waiting == 99
        assert gate.wait_s == pytest.approx(9.9, rel=0.1)
        waits = [call_back.wait_s(loop.time(), gate) for _ in range(900)]
        assert waits[0] == pytest.approx(1 + gate.wait_s + gate.pace_s)
        assert waits[10] - waits[9] == pytest.approx(gate.pace_s)
        assert waits[-1] == pytest.approx(60.0)
        for task in tasks[201:]:
            (await task)()

    run_virtual(main())


@pytest.mark.parametrize(
    ("reason", "wait_s"),
    [
        (build_try_later(12.4, "busy"), 12),
        (build_try_later(0, "busy"), 1),
        ("12", None),
        ("", None),
        ("x s", None),
        ("123456 s", None),
        ("-1 s", None),
        ("² s", None),
    ],
)
def test_the_reason_of_try_later(reason: str, wait_s: int | None) -> None:
    assert parse_untrusted_try_later(reason) == wait_s


def test_revoked_lists(tmp_path: Path) -> None:
    file = tmp_path / "revoked"
    file.write_text(f"00AB # serial\n\n{'0' * 64}\n")
    assert read_revoked(file) == {"ab", "0" * 64}
    for text in ("xyz", "a" * 33, "1 2"):
        file.write_text(f"1\n{text}\n")
        with pytest.raises(ConfigurationError, match="line 2"):
            read_revoked(file)
    with pytest.raises(ConfigurationError, match="cannot read"):
        Revocations(tmp_path / "missing", None, fresh_s=1)


async def test_keys_and_certificates_that_cannot_be_used(bench: Any, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(bench.parties.private_key.read_bytes())
    key.chmod(0o640)
    for settings, what in (
        ({"private_key": str(key)}, "chmod 600"),
        ({"private_key": str(tmp_path / "missing")}, "pki route-2b-certificate"),
        ({"private_key": str(bench.parties.other_key)}, "are not a certificate and its"),
        ({"certificate": str(tmp_path / "missing")}, "are not a certificate"),
    ):
        with pytest.raises(ConfigurationError, match=what):
            await bench.server(**settings)
    assert stat.S_IMODE(bench.parties.private_key.stat().st_mode) == 0o600
    assert os.fspath(bench.parties.certificate).endswith("server.crt")


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("listen", "nowhere"),
        ("listen", ":1"),
        ("listen", "h:99999"),
        ("addresses", []),
        ("addresses", ["ws://h:1"]),
        ("addresses", ["wss://h:1/?q"]),
        ("addresses", ["wss://h:port"]),
        ("next_pins", ["AB"]),
        ("next_pins", ["0" * 64] * 4),
        ("message_octets", 511),
        ("message_octets", 1 << 27),
        ("keepalive_s", 0),
        ("send_timeout_s", float("inf")),
        ("smki_repository", "ftp://x"),
        ("smki_required", True),
    ],
)
def test_server_settings_that_cannot_be(setting: str, value: Any) -> None:
    fields: dict[str, Any] = {
        "listen": "h:1", "certificate": "c", "private_key": "k", "addresses": ["wss://h:1"],
    }  # fmt: skip
    Route2bServerConfig(**fields)
    with pytest.raises(ConfigurationError, match=setting):
        Route2bServerConfig(**fields | {setting: value})


@pytest.mark.parametrize(
    ("setting", "value"),
    [("message_octets", 0), ("keepalive_s", -1), ("reconnect_max_s", 0.1)],
)
def test_client_settings_that_cannot_be(setting: str, value: Any) -> None:
    with pytest.raises(ClientConfigurationError, match=setting):
        Route2bClientConfig(**{setting: value})
