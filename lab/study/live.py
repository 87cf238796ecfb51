"""The live engine: real processes on real sockets of this machine, in real time.

It measures what no model has: processors, disks, sockets. The network between is the DCC
simulator's; with live_time_scale it runs faster than the clock, and what the software itself takes
counts as so many times longer. On route 2b and for Stream 1 a proxy stands for the internet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from lab.cast import device_id
from lab.control_client import ControlClient
from lab.errors import LabError
from lab.interruption import run_interruptibly
from lab.journal import read_journal
from lab.local_system import Identities, LocalSystem
from lab.openadr_messages import StoryMessage
from lab.pki_files import write_test_pki
from lab.study.cases import Case
from lab.study.engine import Surroundings
from lab.study.errors import EngineError
from lab.study.internet import InternetTimes, SlowProxy, precise_loop
from lab.study.journal_tables import JournalReader
from lab.study.parcels import (
    Awaited,
    cem_settings,
    check_case,
    compression_of,
    dsrsp_settings,
    known_messages,
    network_seed,
)
from lab.study.payloads import messages_of
from lab.study.script import Ends, play
from lab.study.stream_1_live import Stream1Ends
from lab.study.tables import Tables

_POLL_S = 60.0
_ACQUAINTANCE_TRIES = 3000
_ACQUAINTANCE_PAUSE_S = 0.1
_SETTLING_S = 30.0
_DAEMONS = ("dcc-sim", "dsrsp", "cem")


class LiveEngine:
    """Runs cases of routes 2a and 2b and of pushed Stream 1, with one CEM."""

    is_parallel = True  # several at once would measure each other
    is_exact = False

    def run(self, case: Case, surroundings: Surroundings) -> Tables:
        """Carry a case out, see `lab.study.engine.Engine`."""
        check_case(case)
        network = case.network
        if case.workload.cems != 1:
            raise EngineError(
                f"workload {case.workload.name!r}: the live engine has one CEM, not "
                f'{case.workload.cems}: set cems = 1, or "workload.cems" = [1] in vary'
            )
        if network.loss is not None or network.latency_scale != 1.0:
            raise EngineError(
                f"network {network.name!r}: the live engine takes a profile as it is: write a "
                "profile of your own in place of loss and latency_scale"
            )
        with tempfile.TemporaryDirectory(prefix="smtunnel-study-") as folder:
            try:
                run = _run_stream_1 if case.route.kind == "stream1" else _run
                events = run_interruptibly(run(case, Path(folder), surroundings), precise_loop)
            except LabError as error:
                raise EngineError(f"{case.title}: {error}") from None
        reader = JournalReader(
            events, time_scale=network.live_time_scale, known=known_messages(case)
        )
        return reader.tables(case.number, case.deadlines_s)


async def _run(case: Case, folder: Path, surroundings: Surroundings) -> list[dict[str, Any]]:
    # The device of the virtual engine: its network draws the same times.
    device = device_id(0)
    write_test_pki(folder / "pki", devices=(device,), now=None, random_octets=os.urandom)
    scale = case.network.live_time_scale
    simulator = {
        "network": case.network.profile,
        "network_seed": network_seed(case),
        "network_time_scale": scale,
    }
    settings = {
        "simulator": _toml(simulator),
        "dsrsp": _toml(_faster(dsrsp_settings(case), scale)),
        "cem": _toml(_faster(cem_settings(case), scale)),
    }
    async with AsyncExitStack() as stack:
        address = await _internet(case, stack)
        system = LocalSystem(
            folder,
            folder / "pki",
            identities=Identities(device_id=device),
            settings=settings,
            route_2b=case.route.kind == "2b",
            route_2b_address=None if address is None else f"wss://{address.address}",
        )
        await stack.enter_async_context(system)
        if address is not None:
            address.leads_to(*system.route_2b_address())
        dsrsp = await stack.enter_async_context(system.control("dsrsp"))
        cem = await stack.enter_async_context(system.control("cem"))
        ends = await stack.enter_async_context(_LiveEnds(system, dsrsp, cem, case))
        await ends.get_acquainted()
        await _play(case, ends, scale, surroundings)
    events = [
        {**event, "source": name}
        for name in _DAEMONS
        for event in read_journal(system.journal(name))
    ]
    return sorted(events, key=lambda event: float(event["t"]))


async def _run_stream_1(
    case: Case, folder: Path, surroundings: Surroundings
) -> list[dict[str, Any]]:
    times = InternetTimes(case.network.internet, f"{case.seed}/internet")
    scale = case.network.live_time_scale
    async with Stream1Ends(
        folder,
        device_id(0),
        keep=not case.route.connects_anew,
        make_proxy=lambda: _proxy(case, times),
    ) as ends:
        await _play(case, ends, scale, surroundings)
        await ends.settle()
    return sorted(ends.events, key=lambda event: float(event["t"]))


async def _play(case: Case, ends: Ends, scale: float, surroundings: Surroundings) -> None:
    messages = len(messages_of(case.workload, case.seed)) * case.workload.times
    counted = _Counted(ends, messages, surroundings)
    await play(case, counted, lambda seconds: asyncio.sleep(seconds / scale), lambda: None)


class _Counted:
    """Ends that tell how many messages are over."""

    def __init__(self, ends: Ends, messages: int, surroundings: Surroundings) -> None:
        self._ends = ends
        self._messages = messages
        self._surroundings = surroundings
        self._over = 0
        surroundings.progress(0, messages)

    async def carry(self, cem: int, message: StoryMessage) -> bool:
        """Send a message, see `lab.study.script.Ends`."""
        arrived = await self._ends.carry(cem, message)
        self._over += 1
        self._surroundings.progress(self._over, self._messages)
        return arrived


async def _internet(case: Case, stack: AsyncExitStack) -> SlowProxy | None:
    """Return what stands for the internet; None: the route has none."""
    if case.route.kind != "2b":
        return None
    proxy = await _proxy(case, InternetTimes(case.network.internet, f"{case.seed}/internet"))
    stack.push_async_callback(proxy.close)
    return proxy


async def _proxy(case: Case, times: InternetTimes) -> SlowProxy:
    """Start what lets everything pass after the internet's times."""
    connecting = InternetTimes(case.network.internet, f"{case.seed}/connections")
    scale = case.network.live_time_scale
    clock = asyncio.get_running_loop().time

    def line() -> Callable[[int], float]:
        takes_s = times.line(lambda: clock() * scale)
        return lambda octets: takes_s(octets) / scale

    proxy = SlowProxy(line, lambda: connecting.connecting_s() / scale)
    await proxy.start()
    return proxy


def _faster(settings: Mapping[str, Any], scale: float) -> dict[str, Any]:
    """Return settings whose times are those of a faster network."""
    return {
        name: value / scale if name.endswith("_s") else value for name, value in settings.items()
    }


def _toml(settings: Mapping[str, Any]) -> str:
    # Numbers, texts and truth values are spelled in JSON as in TOML.
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in settings.items())


class _LiveEnds:
    """Both ends of a local system, through their control interfaces."""

    def __init__(
        self, system: LocalSystem, dsrsp: ControlClient, cem: ControlClient, case: Case
    ) -> None:
        self._device = system.identities.device_id
        self._dsrsp, self._cem = dsrsp, cem
        self._compression = compression_of(case)
        self._scale = case.network.live_time_scale
        self._direct = case.route.kind == "2b"
        self._awaited = Awaited()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> _LiveEnds:
        self._start(self._listen(self._cem, downlink=True))
        self._start(self._listen(self._dsrsp, downlink=False))
        return self

    async def __aexit__(self, *ending: object) -> None:
        for task in set(self._tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def get_acquainted(self) -> None:
        """Wait until the DSRSP knows what the CEM understands, and route 2b stands.

        Raises:
            EngineError: it does not hear of it.
        """
        for _ in range(_ACQUAINTANCE_TRIES):
            if await self._dsrsp.capabilities(self._device) is not None and await self._stands():
                # What the CEM said is answered, too: let that end.
                await asyncio.sleep(_SETTLING_S / self._scale)
                return
            await asyncio.sleep(_ACQUAINTANCE_PAUSE_S)
        raise EngineError(
            "the two ends do not find each other: on this network nothing passes, or route 2b "
            "cannot be set up"
        )

    async def _stands(self) -> bool:
        return not self._direct or (await self._cem.route())["state"] == "up"

    async def carry(self, cem: int, message: StoryMessage) -> bool:
        """Send a message, see `lab.study.script.Ends`."""
        sender = self._dsrsp if message.downlink else self._cem
        future = self._awaited.expect(cem, message.downlink)
        to = self._device if message.downlink else None
        status = await sender.send(message.octets, to=to, compression=self._compression)
        self._start(self._watch(sender, str(status["ref"]), future))
        return await future

    async def _watch(self, sender: ControlClient, ref: str, future: asyncio.Future[bool]) -> None:
        async for status in sender.statuses(ref):
            if status["state"] == "FAILED":
                self._awaited.failed(future)

    async def _listen(self, receiver: ControlClient, *, downlink: bool) -> None:
        while True:
            for received in await receiver.received(wait_s=_POLL_S):
                await receiver.ack(received.ref)
                self._awaited.arrived(0, downlink)
