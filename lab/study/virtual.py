"""The virtual engine: the real gateways and the real simulator in one process on virtual time.

Hours pass in seconds; the same case gives the same octets. Processors are infinitely fast here:
what the software itself takes of time on the internet is measured live (own_time) or a
parameter (server_s).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from cem.errors import CemError
from dsrsp.errors import DsrspError
from gbcs.ports import Clock, Journal, JournalValue
from lab.cast import device_id
from lab.errors import VirtualError
from lab.openadr_messages import StoryMessage
from lab.study.cases import Case, profile_of, shares_of
from lab.study.engine import Surroundings
from lab.study.errors import EngineError
from lab.study.internet import InternetTimes
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
from lab.study.script import play
from lab.study.tables import Tables
from lab.virtual_internet import InternetSettings
from lab.virtual_system import VirtualSettings, VirtualSystem
from lab.virtual_time import NothingLeftToHappen, run_virtual

_MOST_CEMS = 10_000
_ACQUAINTANCE_TRIES = 12
_ACQUAINTANCE_PAUSE_S = 300.0
_OFFLINE_S = 14_400.0
# What the tables need of a journal; octets of messages would fill the memory.
_DROPPED = ("xml", "octets", "payload")


class _Memory:
    """A journal in memory, without the octets of messages."""

    def __init__(self, events: list[dict[str, Any]], component: str, clock: Clock) -> None:
        self._events = events
        self._source = component
        name, _, number = component.partition("-")
        is_cem = name == "cem" and number.isdigit()
        self._component = "cem" if is_cem else component
        # Which CEM's journal it is: from counters alone nobody could tell, all begin with the same.
        self._own = {"device": str(device_id(int(number)))} if is_cem else {}
        self._clock = clock

    def record(self, event: str, /, **fields: JournalValue) -> None:
        """Keep one event."""
        line: dict[str, Any] = {
            "t": self._clock(),
            "component": self._component,
            "source": self._source,
            "event": event,
            **self._own,
        }
        for name, value in fields.items():
            if name not in _DROPPED or isinstance(value, int):
                line[name] = value
        self._events.append(line)


class VirtualEngine:
    """Runs cases of routes 2a and 2b with up to 10,000 CEMs."""

    is_parallel = False
    is_exact = True

    def run(self, case: Case, surroundings: Surroundings) -> Tables:
        """Carry a case out, see `lab.study.engine.Engine`."""
        check_case(case)
        if case.workload.cems > _MOST_CEMS:
            raise EngineError(
                f"{case.workload.cems} CEMs: the virtual engine takes {_MOST_CEMS} at most; "
                'take engines = ["fleet"] for more'
            )
        events: list[dict[str, Any]] = []

        def journal(component: str, clock: Clock) -> Journal:
            return _Memory(events, component, clock)

        profile = profile_of(case.network)
        settings = VirtualSettings(
            devices=case.workload.cems,
            seed=case.seed,
            profile=profile,
            region_shares=shares_of(case.network, profile),
            simulator={"network_seed": network_seed(case)},
            internet=_internet(case),
            dsrsp=dsrsp_settings(case),
            cem=cem_settings(case),
            journals=journal,
        )
        try:
            run_virtual(_run(case, settings, surroundings))
        except (VirtualError, NothingLeftToHappen, DsrspError, CemError) as error:
            raise EngineError(f"{case.title}: {error}") from None
        return JournalReader(events, known=known_messages(case)).tables(
            case.number, case.deadlines_s
        )


def _internet(case: Case) -> InternetSettings | None:
    """Return the internet with the study's times; None: the route has none."""
    if case.route.kind != "2b":
        return None
    internet = case.network.internet
    times = InternetTimes(internet, f"{case.seed}/internet")
    own = InternetTimes(internet, f"{case.seed}/own time")

    def line(way: str) -> Callable[[int], float]:
        # Software takes no time here by itself.
        values_s = case.own_time.of(way)
        takes_s = times.line(asyncio.get_running_loop().time, lambda: own.own_time_s(values_s))
        return lambda octets: takes_s(octets) + internet.server_s.value

    return InternetSettings(line=line)


def _offline(case: Case) -> list[int]:
    """Return which CEMs have no internet, by number."""
    chances = InternetTimes(case.network.internet, f"{case.seed}/offline")
    return [number for number in range(case.workload.cems) if chances.is_offline()]


async def _run(case: Case, settings: VirtualSettings, surroundings: Surroundings) -> None:
    async with VirtualSystem(settings) as system:
        ends = _VirtualEnds(system, case)
        listeners = [asyncio.ensure_future(ends.listen_down(n)) for n in range(settings.devices)]
        listeners.append(asyncio.ensure_future(ends.listen_up()))
        done = 0

        def one_done() -> None:
            nonlocal done
            done += 1
            surroundings.progress(done, settings.devices)

        try:
            await ends.get_acquainted()
            if case.route.kind == "2b":
                for number in _offline(case):
                    system.internet.take_offline(system.device(number))
                # They have been offline for hours; whoever sends to them knows it.
                await asyncio.sleep(_OFFLINE_S)
            await play(case, ends, asyncio.sleep, one_done)
            await ends.settle()
        finally:
            for listener in listeners:
                listener.cancel()
            for listener in listeners:
                with suppress(asyncio.CancelledError):
                    await listener


class _VirtualEnds:
    """Both ends of a virtual system."""

    def __init__(self, system: VirtualSystem, case: Case) -> None:
        self._system = system
        self._compression = compression_of(case)
        self._direct = case.route.kind == "2b"
        self._awaited = Awaited()
        self._numbers = {system.device(n): n for n in range(case.workload.cems)}
        self._watchers: set[asyncio.Task[None]] = set()

    async def get_acquainted(self) -> None:
        """Wait until the DSRSP knows what each CEM understands, and route 2b stands.

        For an hour at most.

        On a bad network some stay unknown; messages to them go without a dictionary, as they would.
        """
        gateway, _ = await self._system.dsrsp.running()
        for _ in range(_ACQUAINTANCE_TRIES):
            # What they say of themselves is answered, too: let that end.
            await asyncio.sleep(_ACQUAINTANCE_PAUSE_S)
            known = all(gateway.capabilities(device) is not None for device in self._numbers)
            connected = {info.device for info in gateway.routes() if info.connected}
            if known and (not self._direct or connected >= self._numbers.keys()):
                return

    async def carry(self, cem: int, message: StoryMessage) -> bool:
        """Send a message, see `lab.study.script.Ends`."""
        future = self._awaited.expect(cem, message.downlink)
        handle: Any
        if message.downlink:
            dsrsp, _ = await self._system.dsrsp.running()
            device = self._system.device(cem)
            handle = await dsrsp.send(device, message.octets, self._compression)
        else:
            gateway, _ = await self._system.cems[cem].running()
            handle = await gateway.send(message.octets, self._compression)
        watcher = asyncio.ensure_future(self._watch(handle, future))
        self._watchers.add(watcher)
        watcher.add_done_callback(self._watchers.discard)
        return await future

    async def _watch(self, handle: Any, future: asyncio.Future[bool]) -> None:
        status = await handle.wait()
        if status.state.value == "failed":
            self._awaited.failed(future)

    async def listen_down(self, cem: int) -> None:
        """Take what arrives at a CEM."""
        gateway, _ = await self._system.cems[cem].running()
        async for received in gateway.received():
            await received.ack()
            self._awaited.arrived(cem, True)

    async def listen_up(self) -> None:
        """Take what arrives at the DSRSP."""
        gateway, _ = await self._system.dsrsp.running()
        async for received in gateway.received():
            await received.ack()
            self._awaited.arrived(self._numbers[received.peer], False)

    async def settle(self) -> None:
        """Wait until the senders know what became of their messages."""
        if self._watchers:
            await asyncio.wait(set(self._watchers))
