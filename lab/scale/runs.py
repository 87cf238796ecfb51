"""The measurements themselves: a great inventory with many connections, and a stream of fragments.

Every run makes real processes and talks to them over sockets of this machine.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from lab.cast import Cast
from lab.errors import DemoError
from lab.local_system import LocalSystem
from lab.scale.floor import OPERATIONS, measure_floor
from lab.scale.parties import (
    DeviceConnection,
    ReceiveAddress,
    UserConnection,
    connect_devices,
)
from lab.scale.process import SimulatorProcess, usage
from lab.scale.service_floor import measure_service_floor
from lab.scale.traffic import Journey, make_journeys

_STALL_S = 120.0
_AT_THE_CEM = frozenset({"REASSEMBLED", "ANSWERED"})


@dataclass(frozen=True, slots=True)
class Holding:
    """What it takes to hold devices; times in seconds, memory in octets.

    Attributes:
        devices: in the inventory.
        connections: of devices, open at once.
        start_s: from the start of the process until it is ready.
        start_octets: memory then.
        handshakes_per_s: how fast devices came in, with client and server on this machine.
        handshake_cpu_s: processor time of the simulator for one, certificates read and verified.
        connection_octets: memory for one connection with its certificates.
        idle_cpu: processor time by time while nothing happens but keep-alive, 0.01 is one percent.
    """

    devices: int
    connections: int
    start_s: float
    start_octets: int
    handshakes_per_s: float
    handshake_cpu_s: float
    connection_octets: float
    idle_cpu: float


@dataclass(frozen=True, slots=True)
class Flow:
    """What a stream of fragments costs.

    Attributes:
        fragments: how many went their whole way.
        per_s: how many in a second.
        cpu_s: processor time for one, by component, in seconds.
        floor_s: of the bare operations, by component, measured in the same run.
        service_floor_s: the same with HTTP exchanges, WebSocket messages and a commit.
    """

    fragments: int
    per_s: float
    cpu_s: dict[str, float]
    floor_s: dict[str, float]
    service_floor_s: dict[str, float]

    @property
    def ratio(self) -> float:
        """Processor time of all components in floors of all components."""
        return sum(self.cpu_s.values()) / sum(self.floor_s[name] for name in self.cpu_s)

    @property
    def service_ratio(self) -> float:
        """The same in floors of a durable service on a network."""
        return sum(self.cpu_s.values()) / sum(self.service_floor_s[name] for name in self.cpu_s)


class _Posts:
    """Counts what is posted to the users; tells when all has come."""

    def __init__(self) -> None:
        self._count = 0
        self._wanted = 0
        self._all = asyncio.Event()

    def receive(self, _message: bytes) -> None:
        self._count += 1
        if self._count >= self._wanted:
            self._all.set()

    async def wait(self, count: int) -> None:
        self._wanted = count
        if self._count < count:
            async with asyncio.timeout(_STALL_S):
                await self._all.wait()


@asynccontextmanager
async def _receive_address(posts: _Posts) -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(
        lambda: ReceiveAddress(posts.receive), "127.0.0.1", 0
    )
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/smartdcc/duis"
    finally:
        server.close()


async def measure_holding(
    folder: Path, *, devices: int, connections: int, idle_s: float
) -> Holding:
    """Start a simulator with a great inventory and connect many of its devices.

    Args:
        folder: empty; is filled.
        devices: in the inventory.
        connections: how many of them connect.
        idle_s: how long nothing then happens, in seconds; keep-alive comes every 20.
    """
    cast = Cast(connections)
    simulator = SimulatorProcess(
        folder, cast, device_count=devices, receive_url="http://127.0.0.1:9/"
    )
    async with simulator:
        at_start = simulator.usage()
        begin = time.perf_counter()
        links = await connect_devices(
            cast.devices, simulator.ready["device_port"], lambda _octets: None
        )
        connecting_s = time.perf_counter() - begin
        connected = simulator.usage()
        await asyncio.sleep(idle_s)
        idle = simulator.usage()
        _check_open(links)
        for link in links:
            link.close()
    return Holding(
        devices=devices,
        connections=connections,
        start_s=simulator.start_s,
        start_octets=at_start.memory_octets,
        handshakes_per_s=connections / connecting_s,
        handshake_cpu_s=(connected.cpu_s - at_start.cpu_s) / connections,
        connection_octets=(idle.memory_octets - at_start.memory_octets) / connections,
        idle_cpu=(idle.cpu_s - connected.cpu_s) / idle_s,
    )


def _check_open(links: list[DeviceConnection]) -> None:
    closed = sum(not link.is_open for link in links)
    if closed:
        raise DemoError(f"{closed} of {len(links)} devices lost their connection")


async def measure_simulator(
    folder: Path, *, fragments: int, at_once: int, devices: int = 16
) -> Flow:
    """Send a stream of fragments through the simulator alone; users and devices cost nothing.

    Args:
        folder: empty; is filled.
        fragments: how many.
        at_once: how many are under way at a time.
        devices: how many share them.
    """
    cast, posts = Cast(devices), _Posts()
    # The first ones are not counted: they fill caches.
    warm_up = devices * 4
    journeys = make_journeys(cast, warm_up + fragments)
    answers = {journey.command.to_bytes(): journey.response for journey in journeys}
    async with (
        _receive_address(posts) as url,
        SimulatorProcess(folder, cast, device_count=devices, receive_url=url) as simulator,
    ):
        links = await connect_devices(cast.devices, simulator.ready["device_port"], answers.get)
        port = simulator.ready["duis_port"]
        await _send(journeys[:warm_up], port, at_once)
        await posts.wait(warm_up)
        before, begin = simulator.usage(), time.perf_counter()
        await _send(journeys[warm_up:], port, at_once)
        await posts.wait(warm_up + fragments)
        spent_s, after = time.perf_counter() - begin, simulator.usage()
        for link in links:
            link.close()
    return _flow(
        folder,
        fragments,
        spent_s,
        {"dcc-sim": (after.cpu_s - before.cpu_s) / fragments},
        journeys[0],
    )


def _flow(
    folder: Path, fragments: int, spent_s: float, cpu_s: dict[str, float], journey: Journey
) -> Flow:
    floor_s = measure_floor(journey)
    return Flow(
        fragments=fragments,
        per_s=fragments / spent_s,
        cpu_s=cpu_s,
        floor_s=floor_s,
        service_floor_s=measure_service_floor(folder, journey, floor_s),
    )


async def _send(journeys: list[Journey], port: int, at_once: int) -> None:
    waiting = iter(journeys)
    async with asyncio.TaskGroup() as users:
        for _ in range(at_once):
            users.create_task(_use(waiting, port))


async def _use(waiting: Iterator[Journey], port: int) -> None:
    user = await UserConnection.open(port)
    for journey in waiting:
        for service, xml, code in (
            ("serviceT", journey.transform, b">I0<"),
            ("serviceS", journey.send, b">I99<"),
        ):
            answer = await user.post(service, xml)
            if code not in answer:
                raise DemoError(f"{service} answered {answer.decode(errors='replace')}")
    user.close()


async def measure_system(folder: Path, pki: Path, *, messages: int, message_octets: int) -> Flow:
    """Send messages from a real DSRSP through the simulator to a real CEM.

    Args:
        folder: empty; is filled.
        pki: made by `smtunnel pki init`.
        messages: how many are handed over at once.
        message_octets: of each; random, so that nothing is compressed.
    """
    octets = random.Random(1).randbytes  # noqa: S311  # to be the same in each run
    async with (
        LocalSystem(folder, pki, with_journals=False) as system,
        system.control("dsrsp") as dsrsp,
    ):

        async def carry(message: bytes) -> int:
            sent = await dsrsp.send(message, to=system.identities.device_id)
            async for status in dsrsp.statuses(sent["ref"]):
                if status["state"] in _AT_THE_CEM:
                    return int(status["fragments_total"])
            raise DemoError(f"message {sent['ref']} did not arrive: see {folder}")

        await carry(octets(message_octets))
        pids = {name: system.pid(name) for name in OPERATIONS}
        before = {name: usage(pid) for name, pid in pids.items()}
        begin = time.perf_counter()
        counts = await asyncio.gather(*(carry(octets(message_octets)) for _ in range(messages)))
        spent_s = time.perf_counter() - begin
        after = {name: usage(pid) for name, pid in pids.items()}
    fragments = sum(counts)
    cpu_s = {name: (after[name].cpu_s - before[name].cpu_s) / fragments for name in pids}
    return _flow(folder, fragments, spent_s, cpu_s, make_journeys(Cast(1), 1)[0])
