"""Measure what route 2b's server holds: memory a connection, a storm, a restart, a broadcast.

Usage: .venv/bin/python scripts/measure_route_2b.py [--connections 5000] [--json]. The clients run
in a process of their own. Takes about a minute for 5,000.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import logging
import os
import resource
import socket
import ssl
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from cem.route_2b import Route2bClient, Route2bClientConfig
from cem.route_2b.dialling import websocket_dialler
from dsrsp.route_2b import Route2bServer, Route2bServerConfig
from gbcs import CraFlag, EcdsaSigner, EntityId, KeyStore, KeyUsage, Role
from gbcs.pki import DEFAULT_SUPPLIER, TestPki
from gbcs.route_2b import Route2bMessage, sign_route_2b
from lab.pki_files import write_server_certificate
from smtunnel.routes import RouteOffer

EVENT_OCTETS = 1000
"""An OpenADR event, compressed, is shorter than this."""


def raise_file_limit(connections: int) -> None:
    """Allow so many sockets.

    Raises:
        SystemExit: the system does not.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < connections + 200:
        sys.exit(f"only {hard} open files are allowed here: `ulimit -Hn` must be raised")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def device_name(number: int) -> EntityId:
    """Return the EUI of a device of the measurement."""
    return EntityId(bytes.fromhex("02534d54") + number.to_bytes(4, "big"))


def make_keys(connections: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return PEMs for the server and for the clients."""
    pki = TestPki.create(random_octets=os.urandom, clock=time.time)
    usage = KeyUsage.DIGITAL_SIGNATURE
    supplier = pki.issue_organisation(DEFAULT_SUPPLIER, Role.SUPPLIER, usage)
    public = {item.file_stem: item.certificate.pem.decode() for item in pki.authorities()}
    public[supplier.file_stem] = supplier.certificate.pem.decode()
    devices = [pki.issue_device(device_name(n), usage) for n in range(connections)]
    public |= {item.file_stem: item.certificate.pem.decode() for item in devices}
    keys = {f"{item.file_stem}.key": item.private_key_pem.decode() for item in devices}
    return public | {"supplier.key": supplier.private_key_pem.decode()}, public | keys


def read_store(pems: dict[str, str]) -> KeyStore:
    """Make a key store of PEM texts."""
    return KeyStore.from_pems({k: v.encode() for k, v in pems.items()}, test_mode=True)


def rss_octets() -> int:
    """Return this process's resident memory."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


# ---- the clients' process ----


class Crowd:
    """All clients; says on standard output when all are up, and when all have an event."""

    def __init__(self, connections: int) -> None:
        self.connections = connections
        self.up = 0
        self.got = 0

    def connected(self, *, message_octets: int) -> None:
        """Count."""
        self.up += 1
        if self.up == self.connections:
            self._say("up")

    def disconnected(self, reason: str) -> None:
        """Count."""
        self.up -= 1

    async def received(self, message: Route2bMessage) -> None:
        """Count."""
        self.got += 1
        if self.got == self.connections:
            self.got = 0
            self._say("event")

    def _say(self, what: str) -> None:
        sys.stdout.write(json.dumps({"what": what, "at": time.monotonic()}) + "\n")
        sys.stdout.flush()


async def run_clients(folder: Path, connections: int) -> None:
    """Connect all devices and stay until standard input ends."""
    raise_file_limit(connections)
    logging.disable(logging.WARNING)
    keystore = read_store(json.loads((folder / "clients.json").read_text(encoding="utf-8")))
    fields = json.loads((folder / "offer.json").read_text(encoding="utf-8"))
    offer = RouteOffer(
        offer=1,
        addresses=tuple(fields["addresses"]),
        pins=(bytes.fromhex(fields["pin"]),),
        not_before=0,
        not_after=2**40,
        message_octets=1 << 20,
    )
    config = Route2bClientConfig(keepalive_s=600.0)
    dialler = websocket_dialler(config)
    crowd = Crowd(connections)
    async with asyncio.TaskGroup() as group:
        tasks = []
        for number in range(connections):
            client = Route2bClient(
                config, keystore, device_name(number), DEFAULT_SUPPLIER, crowd, dialler=dialler
            )
            client.use(offer)
            tasks.append(group.create_task(client.run()))
        await asyncio.to_thread(sys.stdin.read)
        for task in tasks:
            task.cancel()


# ---- the server's process ----


class Nobody:
    """An application that takes whatever comes."""

    def check_offer(self, device: EntityId, offer: int) -> str | None:
        """Take every offer."""
        return None

    def connected(self, device: EntityId, *, message_octets: int) -> None:
        """Do nothing."""

    async def received(self, device: EntityId, message: Route2bMessage) -> None:
        """Do nothing."""

    def disconnected(self, device: EntityId, reason: str) -> None:
        """Do nothing."""


async def measure(connections: int, folder: Path) -> dict[str, Any]:
    """Return all figures."""
    raise_file_limit(connections)
    server_pems, client_pems = make_keys(connections)
    (folder / "clients.json").write_text(json.dumps(client_pems), encoding="utf-8")
    certificate, key = write_server_certificate(folder)
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    address = f"wss://127.0.0.1:{listener.getsockname()[1]}"
    config = Route2bServerConfig(
        listen="127.0.0.1:0",
        certificate=str(certificate),
        private_key=str(key),
        addresses=[address],
        # All come from one address here.
        half_open_per_address=100_000,
        keepalive_s=600.0,
    )
    keystore = read_store(server_pems)
    signer = EcdsaSigner(
        keystore.private_key(DEFAULT_SUPPLIER, KeyUsage.DIGITAL_SIGNATURE, role=Role.SUPPLIER)
    )
    server = Route2bServer(config, keystore, DEFAULT_SUPPLIER, Nobody())
    await server.start(listener.dup())
    (folder / "offer.json").write_text(
        json.dumps({"addresses": [address], "pin": server.pins[0].hex()}), encoding="utf-8"
    )
    before = rss_octets()
    clients = await asyncio.create_subprocess_exec(
        sys.executable, __file__, "--clients", str(folder), "--connections", str(connections),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    if clients.stdout is None or clients.stdin is None:
        sys.exit("the clients' process has no pipes")
    lines = clients.stdout

    async def told(what: str) -> float:
        while True:
            said = json.loads(await lines.readline())
            if said["what"] == what:
                return float(said["at"])

    began, cpu = time.monotonic(), time.process_time()
    figures: dict[str, Any] = {"connections": connections}
    all_up = await told("up")
    figures["first_storm_s"] = all_up - began
    figures["cpu_ms_a_handshake"] = (time.process_time() - cpu) / connections * 1000
    await asyncio.sleep(2)
    figures["octets_a_connection"] = round((rss_octets() - before) / connections)
    figures["rss_octets"] = rss_octets()

    counter = iter(range(1, 1 << 30))

    def make(device: EntityId) -> bytes:
        message = Route2bMessage(
            DEFAULT_SUPPLIER, device, next(counter), CraFlag.COMMAND, bytes(EVENT_OCTETS)
        )
        return sign_route_2b(message, signer).to_bytes()

    began = time.monotonic()
    sent = await server.broadcast(make)
    figures["broadcast_queued"] = sent.queued
    figures["broadcast_queued_s"] = time.monotonic() - began
    figures["broadcast_received_s"] = await told("event") - began
    await asyncio.sleep(1)
    figures["octets_a_connection_after_broadcast"] = round((rss_octets() - before) / connections)

    began = time.monotonic()
    await server.close()
    server = Route2bServer(config, keystore, DEFAULT_SUPPLIER, Nobody())
    await server.start(listener)
    closed = time.monotonic()
    all_up = await told("up")
    figures["restart_closing_s"] = closed - began
    figures["restart_until_all_are_back_s"] = all_up - closed
    clients.stdin.close()
    await clients.wait()
    await server.close()
    return figures


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=5000)
    parser.add_argument("--clients", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.clients is not None:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(run_clients(options.clients, options.connections))
        return
    with tempfile.TemporaryDirectory() as name:
        figures = asyncio.run(measure(options.connections, Path(name)))
    if options.json:
        print(json.dumps(figures))
        return
    print(f"Python {sys.version.split()[0]}, {ssl.OPENSSL_VERSION}, {os.cpu_count()} cores")
    for name, value in figures.items():
        print(f"{name:<36}{value:,.2f}" if isinstance(value, float) else f"{name:<36}{value:,}")


if __name__ == "__main__":
    main()
