"""Route 2b's ends under attack: by anybody on the internet, a hostile device, a hostile server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import socket
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Frame, Opcode
from websockets.typing import Subprotocol

from dsrsp.errors import ConfigurationError
from dsrsp.route_2b.door import UNPROVEN_OCTETS
from dsrsp.route_2b.gate import SLOT_S, Complaints, Gate, HalfOpen
from gbcs import KeyStore, KeyUsage
from gbcs.pki import TestPki
from gbcs.route_2b_texts import SUBPROTOCOL, CloseCode
from lab.virtual_time import run_virtual


@pytest.fixture(autouse=True)
def all_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def loose_context(**changes: Any) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, value in changes.items():
        setattr(context, name, value)
    return context


async def closed_by_server(socket_: Any) -> int | None:
    """Return the code with which the server closed, None when it cut the connection."""
    async with asyncio.timeout(10):
        try:
            while True:
                await socket_.recv()
        except ConnectionClosed as closed:
            return None if closed.rcvd is None else closed.rcvd.code


def frames(opcode: Opcode, fin: bool, data: bytes, count: int) -> bytes:
    return Frame(opcode, data, fin).serialize(mask=True) * count


# Anybody on the internet


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_no_session_goes_on_without_the_certificate(bench: Any, version: Any) -> None:
    """Neither tickets nor early data; the server may take a session of TLS 1.2 up by its id."""
    server = await bench.server(tls_1_2=True)
    context = loose_context(maximum_version=version)

    def connect(session: Any) -> tuple[Any, bool]:
        with (
            socket.create_connection(("127.0.0.1", server.port), 10) as plain,
            context.wrap_socket(plain, session=session) as tls,
        ):
            tls.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert tls.recv(100)
            return tls.session, bool(tls.session_reused)

    session, _ = await asyncio.to_thread(connect, None)
    assert not session.has_ticket
    assert session.ticket_lifetime_hint == 0
    if version is ssl.TLSVersion.TLSv1_3:
        _, reused = await asyncio.to_thread(connect, session)
        assert not reused


async def test_names_and_protocols_of_tls_are_of_no_interest(bench: Any) -> None:
    server = await bench.server()
    context = loose_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    connected = await bench.raw(server, ssl=context, server_hostname="somebody.else")
    tls = connected.transport.get_extra_info("ssl_object")
    assert tls.selected_alpn_protocol() is None


async def test_a_wrong_path_comes_before_a_wrong_subprotocol(bench: Any) -> None:
    server = await bench.server()
    with pytest.raises(InvalidStatus) as refused:
        await bench.raw(server, path="/elsewhere", subprotocols=["other"])
    assert refused.value.response.status_code == 404


async def test_what_is_sent_before_the_proof_is_bounded_in_all(bench: Any, caplog: Any) -> None:
    """Endless headers, a text in endless empty frames, pings: a few octets each, no end."""
    server = await bench.server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=loose_context())
    writer.write(b"GET /route-2b/02534d5400000001 HTTP/1.1\r\n" + b"A: b\r\n" * 5000)
    with contextlib.suppress(OSError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    for begin, flood in (
        (frames(Opcode.TEXT, False, b"", 1), frames(Opcode.CONT, False, b"", 5000)),
        (b"", frames(Opcode.PING, True, b"p" * 100, 500)),
    ):
        unproven = await bench.raw(server)
        unproven.transport.write(begin + flood)
        assert await closed_by_server(unproven) is None
    await server.close()
    assert server._door.half_open.count == 0
    assert f"more than {UNPROVEN_OCTETS} octets before it was proven" in caplog.text


async def test_nobody_without_the_key_takes_a_devices_place(bench: Any) -> None:
    server = await bench.server()
    genuine = await bench.proven(server)
    for forged in (
        '{"type":"proof","signature":"%s"}' % ("A" * 86 + "=="),
        "nonsense",
        None,
    ):
        thief = await bench.raw(server)
        handshake = bench.handshake(server)
        await thief.send(handshake.begin())
        await thief.recv()
        if forged is None:
            await thief.close()
        else:
            await thief.send(forged)
            assert await closed_by_server(thief) in (CloseCode.BAD_SIGNATURE, CloseCode.MALFORMED)
    await genuine.send(bench.parties.alert(1, b"still here"))
    assert (await bench.application.next("received"))[3] == b"still here"
    assert not [event for event in bench.application.events if event[0] == "disconnected"]


async def test_nothing_said_from_outside_makes_a_line_of_the_log(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    bad = "\r\n2026-01-01 ERROR forged \x1b[2J\u2028\x9b"
    leaver = await bench.raw(server)
    await leaver.close(4000, bad)
    for text in (json.dumps({"type": "hello", bad: 1}, ensure_ascii=False), json.dumps([bad]), bad):
        sender = await bench.raw(server)
        await sender.send(text)
        assert await closed_by_server(sender) == CloseCode.MALFORMED
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=loose_context())
    writer.write(
        b"GET /route-2b/\x1b[2J HTTP/1.1\r\nHost: a\r\nUpgrade: \x9b2J\r\nConnection: \x9b\r\n\r\n"
    )
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    proven = await bench.proven(server)
    await proven.close(4000, bad)
    await bench.application.next("disconnected")
    await server.close()
    told = [r.getMessage() for r in caplog.records if r.name.startswith("dsrsp")]
    assert any("4000" in line for line in told)
    for line in told:
        assert line.isprintable(), repr(line)


def test_complaints_do_not_fill_a_disk(caplog: Any) -> None:
    async def main() -> None:
        complaints = Complaints(logging.getLogger("dsrsp.route_2b"))
        for number in range(100_000):
            complaints.tell("no %d", number)
        assert 0 < len(caplog.records) <= 250
        before = len(caplog.records)
        await asyncio.sleep(60)
        complaints.tell("later %s", "on")
        told = [r.getMessage() for r in caplog.records[before:]]
        assert told == [f"route 2b: {100_000 - before} more complaints were not told", "later on"]

    run_virtual(main())


def test_a_home_with_many_ipv6_addresses_is_one_peer() -> None:
    half_open = HalfOpen(total=100, per_address=2)
    with half_open.counted("2001:db8:1:2::1"), half_open.counted("2001:db8:1:2:ffff::9"):
        assert half_open.full("2001:db8:1:2:3:4:5:6")
        assert half_open.full("2001:db8:1:3::1") is None
        assert half_open.full("::ffff:192.0.2.1") is None
        with half_open.counted("::ffff:192.0.2.1"), half_open.counted("192.0.2.1"):
            assert half_open.full("192.0.2.1")
            assert half_open.full("192.0.2.2") is None
    assert half_open.count == 0
    assert half_open.full("fe80::1%eth0") is None
    assert half_open.full("?") is None


def test_who_lets_a_thousand_connections_stall_keeps_only_itself_waiting() -> None:
    async def main() -> None:
        loop, gate = asyncio.get_running_loop(), Gate(at_once=32)

        async def stall(address: str) -> None:
            await gate.enter(address)

        stalling = [loop.create_task(stall(f"2001:db8::{n:x}")) for n in range(1000)]
        await asyncio.sleep(3)
        assert gate.waiting > 800
        began = loop.time()
        leave = await gate.enter("192.0.2.1")
        # The next place is free when the next of those who stall has had its second.
        assert loop.time() - began <= SLOT_S
        leave()
        assert gate.before("192.0.2.2") == 1
        assert gate.before("2001:db8::ffff") == gate.waiting
        for task in stalling:
            task.cancel()
        await asyncio.sleep(SLOT_S)
        assert gate.waiting == gate.before("192.0.2.2") == 0

    run_virtual(main())


# A hostile device with a genuine key


async def test_a_message_in_endless_frames_ends_its_connection(bench: Any) -> None:
    server = await bench.server()
    proven = await bench.proven(server)
    proven.transport.write(
        frames(Opcode.BINARY, False, b"", 1) + frames(Opcode.CONT, False, b"", 10_000)
    )
    assert await closed_by_server(proven) == CloseCode.TOO_LONG
    # As many as the text allows are taken: empty ones, then the message.
    proven = await bench.proven(server)
    message = bench.parties.alert(1, b"in pieces")
    proven.transport.write(
        frames(Opcode.BINARY, False, b"", 1)
        + frames(Opcode.CONT, False, b"", 4094)
        + frames(Opcode.CONT, True, message, 1)
    )
    assert (await bench.application.next("received"))[3] == b"in pieces"


async def test_pings_whose_answers_nobody_reads(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    proven = await bench.proven(server)
    proven.transport.pause_reading()
    flood = frames(Opcode.PING, True, b"p" * 125, 200)
    async with asyncio.timeout(30):
        while not proven.transport.is_closing():
            proven.transport.write(flood)
            await asyncio.sleep(0)
            if "reads no answers" in caplog.text:
                break
    await bench.application.next("disconnected")
    proven.transport.abort()


# A hostile server


class Impostor:
    """A server with the certificate that the offer names, but without the DSRSP's key."""

    def __init__(self, parties: Any, say: Any) -> None:
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(parties.certificate, parties.private_key)
        self._say = say
        self.closed: asyncio.Queue[int | None] = asyncio.Queue()

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[int]:
        async with serve(
            self._handle, "127.0.0.1", 0, ssl=self._context, compression=None,
            subprotocols=[Subprotocol(SUBPROTOCOL)],
        ) as server:  # fmt: skip
            yield next(iter(server.sockets)).getsockname()[1]

    async def _handle(self, connection: Any) -> None:
        await connection.recv()
        try:
            await self._say(connection)
            await connection.recv()
        except ConnectionClosed as closed:
            self.closed.put_nowait(None if closed.rcvd is None else closed.rcvd.code)


async def test_a_client_reads_no_long_text_before_the_proof(bench: Any) -> None:
    impostor = Impostor(bench.parties, lambda connection: connection.send("x" * 1025))
    genuine = await bench.server()
    async with impostor.running() as port:
        _, told = bench.client(bench.offer(genuine, addresses=(f"wss://127.0.0.1:{port}",)))
        assert "1009" in (await told.next("DOWN"))[1]
        assert await asyncio.wait_for(impostor.closed.get(), 5) == CloseCode.TOO_LONG


async def test_a_long_message_right_after_the_welcome_is_taken(bench: Any) -> None:
    server = await bench.server()
    payload = random.Random(1).randbytes(200_000)
    command = bench.parties.command(5, payload)
    connected = bench.application.connected

    def send_at_once(device: Any, *, message_octets: int) -> None:
        connected(device, message_octets=message_octets)
        assert server.send(device, command)

    bench.application.connected = send_at_once
    _, told = bench.client(bench.offer(server))
    assert await told.next("received") == ("received", 5, payload)


async def test_a_message_too_long_for_the_client(bench: Any) -> None:
    server = await bench.server()
    _, told = await bench.up(server, message_octets=1000)
    (link,) = server._links
    link.message_octets = 1 << 20
    assert server.send(bench.parties.device, bench.parties.command(1, bytes(1000)))
    assert "1009" in (await told.next("disconnected"))[1]


# Certificates and keys


async def test_an_older_certificate_serves_while_the_newer_is_revoked(
    bench: Any, tmp_path: Path
) -> None:
    """Who can have a false certificate issued shuts nobody out once it is revoked."""
    parties = bench.parties
    pki = TestPki(
        parties.pki.root, parties.pki.organisation_ca, parties.pki.device_ca,
        random_octets=random.Random(8).randbytes, clock=lambda: time.time() + 3600,
    )  # fmt: skip
    newer = pki.issue_device(parties.device, KeyUsage.DIGITAL_SIGNATURE)
    pems = parties.public | {
        "newer.pem": newer.certificate.pem,
        "supplier.key": parties.supplier_signs.private_key_pem,
    }
    listed = tmp_path / "revoked"
    listed.write_text("")
    server = await bench.server(
        keystore=KeyStore.from_pems(pems, test_mode=True), revoked=str(listed)
    )
    # While it is not revoked the newer counts: this is not its key.
    _, told = bench.client(bench.offer(server))
    assert "4401" in (await told.next("DOWN"))[1]
    listed.write_text(f"{newer.certificate.serial:x}\n")
    await told.next("UP")
    listed.write_text(
        f"{newer.certificate.serial:x}\n{parties.signs[parties.device].certificate.serial:x}\n"
    )
    await server.recheck()
    assert "4403" in (await told.next("REFUSED"))[1]


async def test_a_key_of_somebody_else_is_not_used(bench: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 12_345_678)
    owner = bench.parties.private_key.stat().st_uid
    if owner == 0:
        # What root owns may be used by anybody who may read it.
        await bench.server()
        return
    with pytest.raises(ConfigurationError, match="belongs to user"):
        await bench.server()


async def test_a_key_behind_a_link_is_judged_as_itself(bench: Any, tmp_path: Path) -> None:
    key, link = tmp_path / "key", tmp_path / "link"
    key.write_bytes(bench.parties.private_key.read_bytes())
    key.chmod(0o604)
    link.symlink_to(key)
    with pytest.raises(ConfigurationError, match="chmod 600"):
        await bench.server(private_key=str(link))
    key.chmod(0o600)
    await bench.server(private_key=str(link))
