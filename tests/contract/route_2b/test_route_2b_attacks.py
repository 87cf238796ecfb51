"""What must be refused on route 2b, and that the log tells each refusal from the others."""

from __future__ import annotations

import asyncio
import json
import logging
import random
import ssl
from datetime import UTC, datetime
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

from gbcs import CraFlag, EntityId, KeyStore, KeyUsage
from gbcs.pki import TestPki
from gbcs.route_2b import Route2bMessage, sign_route_2b
from gbcs.route_2b_texts import CloseCode, Proof

STRANGER = EntityId(bytes.fromhex("02534d5400000099"))


async def ended(socket: Any, log: pytest.LogCaptureFixture) -> tuple[int, str]:
    """Return with which code and reason the server closed; its log must say the same."""
    async with asyncio.timeout(10):
        while True:
            try:
                await socket.recv()
            except ConnectionClosed as closed:
                frame = closed.rcvd
                break
    assert frame is not None
    name = CloseCode(frame.code).name if frame.code in set(CloseCode) else ""
    told = [r.getMessage() for r in log.records if f"{frame.code} {name}" in r.getMessage()]
    assert told, log.text
    assert frame.reason in told[-1]
    return frame.code, frame.reason


@pytest.fixture(autouse=True)
def all_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "dsrsp.route_2b")


async def refused_handshake(bench: Any, server: Any, log: Any, **changes: Any) -> tuple[int, str]:
    """Try the handshake with something changed; return what the server says."""
    edit = changes.pop("edit", lambda text: text)
    edit_proof = changes.pop("edit_proof", lambda text: text)
    socket = await bench.raw(server, changes.pop("path_device", changes.get("device")))
    handshake = bench.handshake(server, **changes)
    await socket.send(edit(handshake.begin()))
    try:
        challenge = await socket.recv()
    except ConnectionClosed:
        return await ended(socket, log)
    await socket.send(edit_proof(handshake.receive_untrusted_challenge(challenge)))
    return await ended(socket, log)


async def test_a_forged_proof(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    code, _ = await refused_handshake(
        bench, server, caplog, edit_proof=lambda _: Proof(bytes(range(64))).build()
    )
    assert code == CloseCode.BAD_SIGNATURE


async def test_another_devices_key(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    signer = bench.parties.signer(bench.parties.other_device)
    code, _ = await refused_handshake(bench, server, caplog, signer=signer)
    assert code == CloseCode.BAD_SIGNATURE


async def test_a_proof_of_another_connection(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    proofs: list[str] = []

    def keep(text: str) -> str:
        proofs.append(text)
        return text

    socket = await bench.raw(server)
    handshake = bench.handshake(server)
    await socket.send(handshake.begin())
    keep(handshake.receive_untrusted_challenge(await socket.recv()))
    # The same client nonce, the same names: only the server's nonce differs.
    code, _ = await refused_handshake(bench, server, caplog, edit_proof=lambda _: proofs[0])
    assert code == CloseCode.BAD_SIGNATURE


async def test_a_man_in_the_middle_with_another_certificate(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    # The device was led to believe in another certificate, and its proof is passed on.
    code, _ = await refused_handshake(bench, server, caplog, certificate_sha256=bytes(32))
    assert code == CloseCode.BAD_SIGNATURE


async def test_reflection_of_the_own_proof(bench: Any) -> None:
    """A server without the DSRSP's key sends back what the device signed."""
    server = await bench.server()
    socket = await bench.raw(server)
    handshake = bench.handshake(server)
    await socket.send(handshake.begin())
    proof = json.loads(handshake.receive_untrusted_challenge(await socket.recv()))
    forged = json.dumps(
        {"type": "welcome", "signature": proof["signature"], "message_octets": 1 << 20}
    )
    with pytest.raises(Exception, match="4401 the DSRSP's proof does not hold"):
        handshake.receive_untrusted_welcome(forged)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"device": STRANGER}, CloseCode.UNKNOWN_DEVICE),
        ({"path_device": STRANGER}, CloseCode.WRONG_ENTITY),
        ({"dsrsp": STRANGER}, CloseCode.WRONG_ENTITY),
        ({"version": 2}, CloseCode.NO_COMMON_VERSION),
        ({"version": 0}, CloseCode.NO_COMMON_VERSION),
        ({"offer": 2}, CloseCode.OFFER_OVER),
        ({"edit": lambda text: "{}"}, CloseCode.MALFORMED),
        ({"edit": lambda text: text.encode()}, CloseCode.MALFORMED),
        ({"edit": lambda text: text[:-1] + ', "offer": 1}'}, CloseCode.MALFORMED),
        ({"edit_proof": lambda text: text[:-1]}, CloseCode.MALFORMED),
    ],
)
async def test_each_refusal_has_its_code(bench: Any, caplog: Any, change: Any, code: int) -> None:
    server = await bench.server()
    assert (await refused_handshake(bench, server, caplog, **change))[0] == code


async def test_wrong_roles(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    parties = bench.parties
    # An organisation is no device; a device with a key-agreement certificate alone signs nothing.
    supplier = await refused_handshake(bench, server, caplog, device=parties.supplier)
    agrees = await refused_handshake(
        bench, server, caplog, device=parties.agrees.certificate.entity_id
    )
    assert supplier[0] == agrees[0] == CloseCode.WRONG_ROLE
    assert "supplier's digitalSignature" in supplier[1]


async def test_expired_and_untrusted(bench: Any, caplog: Any) -> None:
    year_2100 = datetime(2100, 1, 1, tzinfo=UTC).timestamp()
    server = await bench.server(clock=lambda: year_2100)
    assert (await refused_handshake(bench, server, caplog))[0] == CloseCode.EXPIRED
    # Issued by somebody else's CA.
    pki = TestPki.create(random_octets=random.Random(9).randbytes, clock=lambda: 1.7e9)
    issued = pki.issue_device(STRANGER, KeyUsage.DIGITAL_SIGNATURE)
    pems = bench.parties.public | {
        "strange.pem": issued.certificate.pem,
        "supplier.key": bench.parties.supplier_signs.private_key_pem,
    }
    keystore = KeyStore.from_pems(pems, test_mode=True)
    # Test mode trusts what the operator pinned; outside it a path is asked for.
    keystore._test_mode = False
    server = await bench.server(keystore=keystore)
    code, _ = await refused_handshake(bench, server, caplog, device=STRANGER)
    assert code == CloseCode.UNTRUSTED


async def test_a_version_of_tls_that_is_too_old(bench: Any, caplog: Any) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    server = await bench.server()
    with pytest.raises(OSError):
        await bench.raw(server, ssl=context)
    assert "no TLS with 127.0.0.1: UNSUPPORTED_PROTOCOL" in caplog.text
    lenient = await bench.server(tls_1_2=True)
    socket = await bench.raw(lenient, ssl=context)
    assert socket.transport.get_extra_info("ssl_object").version() == "TLSv1.2"
    # A client that was not told otherwise does not let itself be talked down.
    _, told = bench.client(bench.offer(lenient))
    await told.next("UP")
    (link,) = lenient._links
    tls = link.connection._socket.transport.get_extra_info("ssl_object")
    assert tls.version() == "TLSv1.3"


async def test_without_the_subprotocol_or_the_path(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    for options, status in (
        ({"subprotocols": None}, 400),
        ({"subprotocols": ["other"]}, 400),
        ({"path": "/route-2b/02-53-4D-54-00-00-00-01"}, 404),
        ({"path": "/device/02534d5400000001"}, 404),
    ):
        with pytest.raises(InvalidStatus) as refused:
            await bench.raw(server, **options)
        assert refused.value.response.status_code == status
    await server.close()
    assert "missing subprotocol" in caplog.text
    assert "the path is '/device/" in caplog.text


async def test_messages_that_must_not_come(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    parties = bench.parties
    good = parties.alert(1, b"x" * 40)
    forged = bytearray(good)
    forged[-80] ^= 1
    as_other = sign_route_2b(
        Route2bMessage(parties.other_device, parties.supplier, 1, CraFlag.ALERT, b""),
        parties.signer(parties.device),
    ).to_bytes()
    to_other = sign_route_2b(
        Route2bMessage(parties.device, STRANGER, 1, CraFlag.ALERT, b""),
        parties.signer(parties.device),
    ).to_bytes()
    as_command = sign_route_2b(
        Route2bMessage(parties.device, parties.supplier, 1, CraFlag.COMMAND, b""),
        parties.signer(parties.device),
    ).to_bytes()
    for message, code in (
        (bytes(forged), CloseCode.BAD_SIGNATURE),
        (as_other, CloseCode.WRONG_ENTITY),
        (to_other, CloseCode.WRONG_ENTITY),
        (as_command, CloseCode.MALFORMED),
        (parties.command(1, b"reflected"), CloseCode.WRONG_ENTITY),
        (good[:-65] + b"\0", CloseCode.MALFORMED),
        (good + b"\0", CloseCode.MALFORMED),
        (b"", CloseCode.MALFORMED),
        ("text", CloseCode.MALFORMED),
    ):
        socket = await bench.proven(server)
        await socket.send(message)
        assert (await ended(socket, caplog))[0] == code
    assert not [event for event in bench.application.events if event[0] == "received"]


async def test_what_is_too_long_is_not_even_read(bench: Any, caplog: Any) -> None:
    server = await bench.server(message_octets=2000)
    unproven = await bench.raw(server)
    await unproven.send("x" * 1025)
    proven = await bench.proven(server)
    await proven.send(bytes(2001))
    for socket in (unproven, proven):
        with pytest.raises(ConnectionClosed) as caught:
            await socket.recv()
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
    await bench.application.next("disconnected")
    assert caplog.text.count("1009") >= 2


async def test_a_slow_peer_is_cut_off_wherever_it_stops(bench: Any, caplog: Any) -> None:
    server = await bench.server(handshake_timeout_s=0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x16\x03\x01")  # the beginning of a TLS record
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.write(b"GET /route-2b/02534d5400000001 HTTP/1.1\r\nHost: a\r\n")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    silent = await bench.raw(server)
    assert (await ended(silent, caplog))[0] == CloseCode.TOO_SLOW
    handshake = bench.handshake(server)
    no_proof = await bench.raw(server)
    await no_proof.send(handshake.begin())
    assert (await ended(no_proof, caplog))[0] == CloseCode.TOO_SLOW
    await server.close()
    for told in ("no TLS with", "no WebSocket request from", "4408 TOO_SLOW"):
        assert told in caplog.text


async def test_what_is_not_tls_or_not_http(bench: Any, caplog: Any) -> None:
    server = await bench.server()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context)
    writer.write(b"\x00\x01\x02\r\n\r\n")
    await asyncio.wait_for(reader.read(), 5)
    writer.close()
    await server.close()
    assert "HTTP_REQUEST" in caplog.text
    assert "no WebSocket with 127.0.0.1" in caplog.text


async def test_the_client_refuses_another_certificate(bench: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO, "cem.route_2b")
    impostor = await bench.server(
        certificate=str(bench.parties.other_certificate),
        private_key=str(bench.parties.other_key),
    )
    genuine = await bench.server()
    offer = bench.offer(impostor, pins=genuine.pins)
    _, told = bench.client(offer)
    assert "shows another certificate" in (await told.next("DOWN"))[1]
    # Nothing was said to it, not even which device calls.
    assert not any("02-53-4D-54" in r.getMessage() for r in caplog.records if "dsrsp" in r.name)


async def test_the_client_refuses_a_dsrsp_that_is_not_the_one(bench: Any) -> None:
    server = await bench.server()
    unknown = {name: pem for name, pem in bench.parties.public.items() if "supplier" not in name}
    issued = bench.parties.signs[bench.parties.device]
    keystore = KeyStore.from_pems(unknown | {"device.key": issued.private_key_pem}, test_mode=True)
    _, told = bench.client(bench.offer(server), keystore=keystore)
    assert "4402 no certificate of 90-B3-D5" in (await told.next("DOWN"))[1]


async def test_a_client_that_is_refused_for_good_waits_for_a_newer_offer(bench: Any) -> None:
    server = await bench.server()
    bench.application.offers = {2}
    client, told = bench.client(bench.offer(server))
    assert "4410" in (await told.next("REFUSED"))[1]
    client.use(bench.offer(server, number=2))
    await told.next("UP")


async def test_connections_without_proof_are_bounded(bench: Any, caplog: Any) -> None:
    server = await bench.server(half_open_connections=3, half_open_per_address=3)
    held = [await bench.raw(server) for _ in range(3)]
    with pytest.raises((OSError, InvalidMessage)):
        await bench.raw(server)
    assert "cut off 1 connections, the last from 127.0.0.1" in caplog.text
    await held[0].close()
    # Its place is free again once the server has seen the end.
    handshake = bench.handshake(server)
    await held[1].send(handshake.begin())
    await held[1].send(handshake.receive_untrusted_challenge(await held[1].recv()))
    handshake.receive_untrusted_welcome(await held[1].recv())
    await bench.application.next("connected")
    await bench.raw(server)
