"""Measure a request and its answer: by route 2b, and as OpenADR over HTTPS.

Both cross a socket between the same two processes, in turns, in the same run; neither parses the
XML. By route 2b: two whole gateways with their stores, the DSRSP's and the CEM's, from `send` of
the request to the answer in the hands of the application that asked; both ends acknowledge each
message. Over HTTPS: aiohttp at both ends, mutual TLS 1.3, the connection kept alive.

Beside it the floor: the same HTTPS, and at its ends the bare work that 2b promises for each message
and HTTPS does not: zlib with the dictionary, one ECDSA signature made and one checked (OpenSSL),
one commit to the disk (SQLite) before it goes and one before it is handed over.

Usage: .venv/bin/python scripts/measure_route_2b_latency.py [--rounds 2000] [--memory]
[--line-ms 30] [--json]. With --memory the gateways keep their states in memory: what durability
costs is the difference. With --line-ms both cross a line with so many milliseconds there and back,
as to a home; without it they do not leave the machine, and what is seen is the work alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import sqlite3
import ssl
import sys
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

import cem
import dsrsp
from cem.core.routes import KnownOffer
from cem.errors import LinkError
from cem.ports import Changes as CemChanges
from cem.ports import HubConnection
from dsrsp.core.offers import RouteRecord, terms_of
from dsrsp.errors import DccUnreachable
from dsrsp.ports import Changes as DsrspChanges
from dsrsp.ports import Service
from dsrsp.route_2b import Route2bServerConfig
from dsrsp.route_2b.tls import read_certificate_sha256
from dsrsp.store import SqliteStore as DsrspStore
from gbcs import KeyStore
from gbcs.pki import DEFAULT_LOAD_CONTROLLER, DEFAULT_SUPPLIER
from lab.cast import Cast, device_id
from lab.openadr_messages import make_story
from lab.pki_files import write_server_certificate
from lab.tls_files import write_tls_files
from smtunnel.dictionaries import DICTIONARIES
from smtunnel.routes import RouteOffer, RouteStatus

WARM_UP = 100
BLOCK = 50
"""So many of one kind, then so many of the other: whatever else the machine does hits both."""

DEVICE = device_id(0)
OFFER_NUMBER = 1


def messages() -> tuple[bytes, bytes]:
    """Return a request and its answer: the longest two of OpenADR's first story, either way."""
    story = make_story(
        datetime(2027, 1, 15, tzinfo=UTC), iter(f"id-{n}" for n in range(99)).__next__
    )
    return (
        max((one.octets for one in story if not one.downlink), key=len),
        max((one.octets for one in story if one.downlink), key=len),
    )


class BareWork:
    """What each end of the floor does for a message, with nothing around it.

    Args:
        path: of its database.
    """

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=FULL")
        self._db.execute("CREATE TABLE kept (id INTEGER PRIMARY KEY CHECK (id < 2), octets BLOB)")
        (self._dictionary,) = DICTIONARIES.values()
        self._key = ec.derive_private_key(7, ec.SECP256R1())
        self._public_key = self._key.public_key()
        self._algorithm = ec.ECDSA(SHA256())

    def give(self, message: bytes) -> bytes:
        """Return what crosses of a message."""
        compressor = zlib.compressobj(9, zdict=self._dictionary)
        octets = compressor.compress(message) + compressor.flush()
        self._keep(message)
        signature = self._key.sign(octets, self._algorithm)
        return bytes([len(signature)]) + signature + octets

    def take(self, crossed: bytes) -> bytes:
        """Return the message."""
        end = 1 + crossed[0]
        octets = crossed[end:]
        self._public_key.verify(crossed[1:end], octets, self._algorithm)
        message = zlib.decompressobj(zdict=self._dictionary).decompress(octets)
        self._keep(message)
        return message

    def _keep(self, message: bytes) -> None:
        self._db.execute("INSERT OR REPLACE INTO kept VALUES (1, ?)", (message,))


class NoDcc:
    """There is no DCC: what must go by route 2a waits."""

    async def post(self, service: Service, request: bytes) -> bytes:
        """Refuse."""
        raise DccUnreachable("there is none here")


@contextlib.asynccontextmanager
async def no_hub(_url: str) -> AsyncIterator[HubConnection]:
    """Connect to no communications hub, and take long for it."""
    await asyncio.sleep(3600.0)
    raise LinkError("there is none here")
    yield


def quantile(times: list[float], part: float) -> float:
    """Return a quantile of times in seconds, in microseconds."""
    return sorted(times)[min(len(times) - 1, int(part * len(times)))] * 1e6


def state(folder: Path, name: str, *, in_memory: bool) -> str:
    """Return where a gateway keeps its state."""
    return ":memory:" if in_memory else str(folder / f"{name}.sqlite")


def keystores() -> tuple[KeyStore, KeyStore]:
    """Return the DSRSP's keys and the CEM's; the same in both processes."""
    cast = Cast(1, seed=7)
    common = dict(cast.certificate_pems())
    device = cast.devices[0]
    return (
        KeyStore.from_pems(common | cast.dsrsp_keys() | cast.device_pems(), test_mode=True),
        KeyStore.from_pems(common | device.certificate_pems() | device.keys(), test_mode=True),
    )


# The process that answers: VTN and DSRSP


async def answer(folder: Path, *, in_memory: bool) -> None:
    """Answer requests both ways, until standard input ends."""
    _, reply = messages()
    config = dsrsp.DsrspConfig(
        supplier_id=DEFAULT_SUPPLIER,
        load_controller_id=DEFAULT_LOAD_CONTROLLER,
        state=state(folder, "dsrsp", in_memory=in_memory),
        route_2b=Route2bServerConfig(
            listen="127.0.0.1:0",
            certificate=str(folder / "route-2b/server.crt"),
            private_key=str(folder / "route-2b/server.privkey"),
            addresses=["wss://127.0.0.1:1"],
        ),
        offer_route_2b=False,
    )
    keystore, _ = keystores()
    storage = DsrspStore(config.state, supplier_id=DEFAULT_SUPPLIER)
    offer = offer_of(0, bytes(32))
    record = RouteRecord(
        device=DEVICE, number=OFFER_NUMBER, terms=terms_of(offer), offered_at=time.time(),
        not_after=float(offer.not_after),
    )  # fmt: skip
    storage.keep(DsrspChanges(offers=(record,)), now=time.time())
    async with dsrsp.Gateway(config, keystore, dcc=NoDcc(), storage=storage) as gateway:
        app = web.Application()
        bare = BareWork(state(folder, "floor-answer", in_memory=in_memory))
        app.router.add_post("/OpenADR2/Simple/2.0b/OadrPoll", http_answerer(reply, None))
        app.router.add_post("/floor", http_answerer(reply, bare))
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls_context(folder, server=True))
        await site.start()
        ports = {"https": runner.addresses[0][1], "route_2b": gateway.route_2b_port}
        print(json.dumps(ports), flush=True)
        answering = asyncio.create_task(answer_messages(gateway, reply))
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        answering.cancel()
        await runner.cleanup()


def http_answerer(
    reply: bytes, bare: BareWork | None
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return what answers over HTTPS; with the bare work of the floor or without."""

    async def handle(request: web.Request) -> web.Response:
        octets = await request.read()
        if bare is None:
            return web.Response(body=reply, content_type="application/xml")
        bare.take(octets)
        return web.Response(body=bare.give(reply), content_type="application/octet-stream")

    return handle


async def answer_messages(gateway: dsrsp.Gateway, reply: bytes) -> None:
    """Answer what comes by the tunnel."""
    async for received in gateway.received():
        await gateway.send(received.peer, reply, compact=False)
        await received.ack()


def tls_context(folder: Path, *, server: bool) -> ssl.SSLContext:
    """Return a context of mutual TLS 1.3."""
    purpose = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
    name = "server" if server else "client"
    context = ssl.SSLContext(purpose)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(folder / "tls/ca.pem")
    context.load_cert_chain(folder / f"tls/{name}.pem", folder / f"tls/{name}.key")
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def offer_of(port: int, pin: bytes) -> RouteOffer:
    """Return the offer that both ends know of from before."""
    return RouteOffer(
        offer=OFFER_NUMBER, addresses=(f"wss://127.0.0.1:{port}",), pins=(pin,), not_before=0,
        not_after=2**33, message_octets=1 << 20,
    )  # fmt: skip


# The process that stands for the line


async def delay(ports: list[int], line_ms: float) -> None:
    """Carry octets to each of some ports and back, late, until standard input ends."""
    loop = asyncio.get_running_loop()
    late_s = line_ms / 2000

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while octets := await source.read(65_536):
                loop.call_later(late_s, sink.write, octets)
        loop.call_later(late_s, sink.close)

    servers = {}
    for port in ports:

        async def carry(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port
        ) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", port)
            # At the end of the process what is still open is cancelled, and that is no error.
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.gather(pump(reader, back), pump(there, writer))

        servers[port] = await asyncio.start_server(carry, "127.0.0.1", 0)
    print(json.dumps([one.sockets[0].getsockname()[1] for one in servers.values()]), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


# The process that asks: VEN and CEM


async def ask(
    folder: Path, ports: dict[str, int], *, rounds: int, in_memory: bool
) -> dict[str, Any]:
    """Ask by both, in turns; return how long each took."""
    request, reply = messages()
    _, keystore = keystores()
    config = cem.CemConfig(
        device_id=DEVICE,
        supplier_id=DEFAULT_SUPPLIER,
        load_controller_id=DEFAULT_LOAD_CONTROLLER,
        state=state(folder, "cem", in_memory=in_memory),
    )
    pin = read_certificate_sha256(folder / "route-2b/server.crt")
    store = cem.SqliteStore(config.state, DEVICE, replay_window=config.replay_window)
    known = KnownOffer(offer_of(ports["route_2b"], pin), RouteStatus.ACCEPTED)
    store.commit(CemChanges(offer=known))
    url = f"https://127.0.0.1:{ports['https']}"
    connector = aiohttp.TCPConnector(ssl=tls_context(folder, server=False))
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        cem.Gateway(config, keystore, store=store, connector=no_hub) as gateway,
    ):
        await gateway.wait_route_2b()
        received = gateway.received()
        bare = BareWork(state(folder, "floor-ask", in_memory=in_memory))

        async def post(path: str, octets: bytes) -> bytes:
            async with session.post(
                url + path, data=octets, headers={"Content-Type": "application/xml"}
            ) as response:
                return await response.read()

        async def by_https() -> float:
            began = time.perf_counter()
            got = await post("/OpenADR2/Simple/2.0b/OadrPoll", request)
            took = time.perf_counter() - began
            if got != reply:
                sys.exit("another answer came over HTTPS")
            return took

        async def by_floor() -> float:
            began = time.perf_counter()
            got = bare.take(await post("/floor", bare.give(request)))
            took = time.perf_counter() - began
            if got != reply:
                sys.exit("another answer came over the floor")
            return took

        async def by_route_2b() -> float:
            began = time.perf_counter()
            await gateway.send(request, compact=False)
            got = await anext(received)
            took = time.perf_counter() - began
            if got.message != reply:
                sys.exit("another answer came by route 2b")
            await got.ack()
            return took

        kinds = {"https": by_https, "floor": by_floor, "route_2b": by_route_2b}
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for one in kinds.values():
            for _ in range(WARM_UP):
                await one()
        for _ in range(-(-rounds // BLOCK)):
            for name, one in kinds.items():
                times[name] += [await one() for _ in range(BLOCK)]
    figures: dict[str, Any] = {
        "rounds": len(times["https"]), "store": "memory" if in_memory else "disk",
        "request_octets": len(request), "answer_octets": len(reply),
    }  # fmt: skip
    for part, label in ((0.5, "median"), (0.99, "p99")):
        https, floor, route_2b = (quantile(times[name], part) for name in kinds)
        figures |= {
            f"https_{label}_us": https, f"floor_{label}_us": floor,
            f"route_2b_{label}_us": route_2b,
            f"{label}_ratio": route_2b / https, f"{label}_ratio_to_floor": route_2b / floor,
        }  # fmt: skip
    return figures


@contextlib.asynccontextmanager
async def helper(*arguments: str) -> AsyncIterator[Any]:
    """Run this script in another role; gives the JSON line that it says when it is ready."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, __file__, *arguments),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    if process.stdin is None or process.stdout is None:
        sys.exit("no pipes to the other process")
    try:
        yield json.loads(await process.stdout.readline())
    finally:
        process.stdin.close()
        await process.wait()


async def measure(*, rounds: int, in_memory: bool, line_ms: float) -> dict[str, Any]:
    """Run the processes; this one asks."""
    async with contextlib.AsyncExitStack() as stack:
        name = stack.enter_context(tempfile.TemporaryDirectory())
        folder = Path(name)
        write_server_certificate(folder)
        write_tls_files(folder / "tls", ["server", "client"])
        memory = ["--memory"] if in_memory else []
        ports = await stack.enter_async_context(helper("--answer", name, *memory))
        if line_ms:
            names, real = list(ports), [str(port) for port in ports.values()]
            late = helper("--delay", *real, "--line-ms", str(line_ms))
            ports = dict(zip(names, await stack.enter_async_context(late), strict=True))
        figures = await ask(folder, ports, rounds=rounds, in_memory=in_memory)
        return {"line_ms": line_ms} | figures


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2000)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--line-ms", type=float, default=0.0)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--answer", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--delay", type=int, nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.basicConfig(level=logging.ERROR)
    if options.answer is not None:
        asyncio.run(answer(options.answer, in_memory=options.memory))
        return
    if options.delay is not None:
        asyncio.run(delay(options.delay, options.line_ms))
        return
    figures = asyncio.run(
        measure(rounds=options.rounds, in_memory=options.memory, line_ms=options.line_ms)
    )
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:<24}{value:,.2f}" if isinstance(value, float) else f"{name:<24}{value}")


if __name__ == "__main__":
    main()
