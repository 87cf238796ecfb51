"""Server and client over real TLS: messages both ways, reconnection, replacement, broadcast."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from cem.route_2b import Phase
from gbcs.route_2b_texts import CloseCode


async def test_messages_both_ways(bench: Any) -> None:
    server = await bench.server()
    client, told = await bench.up(server)
    device = bench.parties.device
    assert server.devices() == [device]
    big = bytes(range(256)) * 1000
    assert server.send(device, bench.parties.command(1, b"down"))
    written: list[int] = []
    assert client.send(bench.parties.alert(7, b"up"), lambda: written.append(7))
    assert server.send(device, bench.parties.command(2, big))
    assert client.send(bench.parties.alert(8, big))
    assert await told.next("received") == ("received", 1, b"down")
    assert await told.next("received") == ("received", 2, big)
    assert await bench.application.next("received") == ("received", device, 7, b"up")
    assert await bench.application.next("received") == ("received", device, 8, big)
    assert written == [7]


async def test_a_replay_within_the_route_is_for_the_application_to_see(bench: Any) -> None:
    server = await bench.server()
    client, _ = await bench.up(server)
    message = bench.parties.alert(7, b"once")
    assert client.send(message)
    assert client.send(message)
    for _ in range(2):
        assert (await bench.application.next("received"))[2:] == (7, b"once")
    assert server.devices() == [bench.parties.device]


async def test_both_are_told_what_the_other_takes(bench: Any) -> None:
    server = await bench.server(message_octets=5000)
    client, told = bench.client(bench.offer(server), message_octets=4000)
    assert await told.next("connected") == ("connected", 5000)
    assert (await bench.application.next("connected"))[2] == 4000
    # What the other end would refuse is not sent.
    assert not client.send(bytes(5001))
    assert not server.send(bench.parties.device, bytes(4001))


async def test_the_client_comes_back(bench: Any) -> None:
    server = await bench.server()
    client, told = await bench.up(server)
    for _ in range(3):
        server.put_out(bench.parties.device, CloseCode.TRY_LATER, "0 s: for the test")
        assert (await told.next("disconnected"))[1].startswith("the other end closed it: 4429")
        await told.next(Phase.DOWN.name)
        await told.next(Phase.UP.name)
        await bench.application.next("connected")
    assert client.send(bench.parties.alert(9, b"again"))
    assert (await bench.application.next("received"))[2:] == (9, b"again")


async def test_addresses_are_tried_in_their_order(bench: Any) -> None:
    first, second = await bench.server(), await bench.server()
    await first.close()
    offer = bench.offer(
        second,
        addresses=("http://no", "wss://127.0.0.1:1", f"wss://127.0.0.1:{second.port}"),
    )
    _, told = bench.client(offer)
    tried = [(await told.next("CONNECTING"))[1] for _ in range(2)]
    assert tried == list(offer.addresses[1:])
    await told.next("UP")


async def test_a_newer_connection_of_a_device_takes_the_place_of_the_older(bench: Any) -> None:
    server = await bench.server()
    older = await bench.proven(server)
    newer = await bench.proven(server)
    await older.wait_closed()
    assert (older.close_code, older.close_reason) == (
        CloseCode.REPLACED, "the same device has connected once more",
    )  # fmt: skip
    assert [event[0] for event in bench.application.events] == [
        "connected", "disconnected", "connected",
    ]  # fmt: skip
    await newer.send(bench.parties.alert(1, b"still here"))
    assert (await bench.application.next("received"))[3] == b"still here"
    assert len(server.devices()) == 1


async def test_a_broadcast_reaches_all_who_are_there(bench: Any) -> None:
    server = await bench.server()
    parties = bench.parties
    _, told = await bench.up(server)
    _, other_told = await bench.up(server, device=parties.other_device)
    sent = await server.broadcast(lambda device: parties.command(5, b"to all", device))
    assert (sent.queued, sent.not_queued) == (2, 0)
    for each in (told, other_told):
        assert await each.next("received") == ("received", 5, b"to all")
    absent = [parties.device, parties.supplier]
    sent = await server.broadcast(lambda device: parties.command(6, b"", device), absent)
    assert (sent.queued, sent.not_queued) == (1, 1)


async def test_a_newer_offer_that_fits_leaves_the_connection_alone(bench: Any) -> None:
    server = await bench.server()
    client, told = await bench.up(server)
    client.use(bench.offer(server, number=2))
    client.withdraw(1)
    assert client.send(bench.parties.alert(1, b"same connection"))
    await bench.application.next("received")
    assert client.state.phase is Phase.UP
    client.withdraw(2)
    await told.next("NO_OFFER")
    assert (await bench.application.next("disconnected"))[1] == bench.parties.device


async def test_a_newer_offer_elsewhere_moves_the_client(bench: Any) -> None:
    one = await bench.server()
    other = await bench.server(
        certificate=str(bench.parties.other_certificate),
        private_key=str(bench.parties.other_key),
    )
    client, told = await bench.up(one)
    bench.application.offers = {1, 2}
    client.use(bench.offer(other, number=2))
    assert (await told.next("UP"))[1].endswith(str(other.port))
    gone = await bench.application.next("disconnected")
    assert gone[1] == bench.parties.device
    assert "1000" in gone[2]
    assert not one.devices()
    assert other.devices() == [bench.parties.device]


async def test_an_offer_holds_from_its_begin_to_its_end(bench: Any) -> None:
    server = await bench.server()
    wall = 1_000_000.0
    offer = bench.offer(server, not_before=1_000_000, not_after=1_000_001)
    client, told = bench.client(offer, clock=lambda: wall, keystore=None)
    # The DSRSP's certificate is of today: by this clock it is not valid yet.
    assert "4404" in (await told.next("DOWN"))[1]
    state = await told.next("REFUSED")
    assert state[1] == "the offer is over: waiting for a newer one"
    early, told = bench.client(bench.offer(server, not_before=1_000_100), clock=lambda: wall)
    assert await told.next("DOWN") == ("DOWN", "offer 1 has not begun", 100.0)
    assert not early.send(b"")
    assert not client.send(b"")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"versions": (9,)}, "nothing in the offer"),
        (
            {
                "addresses": (
                    "ws://x",
                    "wss://",
                    "wss://u:p@x",
                    "wss://u@x",
                    "wss://x/?q",
                    "wss://x#f",
                    "wss://x:port",
                    "wss:x",
                )
            },
            "nothing in",
        ),
    ],
)
async def test_an_offer_of_no_use_is_waited_out(
    bench: Any, changes: dict[str, Any], reason: str
) -> None:
    server = await bench.server()
    client, told = bench.client(bench.offer(server, **changes))
    assert (await told.next("REFUSED"))[1].startswith(reason)
    client.use(bench.offer(server, number=1))
    await told.next("UP")


async def test_pings_keep_a_connection_and_find_a_dead_one(bench: Any) -> None:
    server = await bench.server(keepalive_s=0.05, keepalive_timeout_s=0.1)
    alive = await bench.proven(server)
    assert (await asyncio.wait_for(alive.ping(), 5)) is not None
    dead = await bench.proven(server, device=bench.parties.other_device,
                              signer=bench.parties.signer(bench.parties.other_device))  # fmt: skip
    dead.transport.pause_reading()
    event = await bench.application.next("disconnected")
    assert event[1] == bench.parties.other_device
    assert "keepalive ping timeout" in event[2]
    assert server.devices() == [bench.parties.device]
    dead.transport.abort()
