"""A run of the simulated system: messages both ways, faults, and an account of every message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cem
import dsrsp
from cem.errors import CemError, QueueFull
from dcc_sim import DccSimError, ResponseBehaviour, ThresholdConfig
from dcc_sim.core.network import NetworkProfile
from dsrsp.errors import DsrspError, SendError
from gbcs.ports import Clock, Journal
from lab.virtual_accounts import Account, Accounts, Fate
from lab.virtual_faults import Disconnect, FaultPlan, Kill
from lab.virtual_internet import InternetSettings
from lab.virtual_process import Life, VirtualProcess
from lab.virtual_system import VirtualSettings, VirtualSystem
from lab.virtual_time import run_virtual
from smtunnel import LocalError, RouteChoice

_LOG = logging.getLogger("lab")

_SIZES = (0, 20, 60, 80, 150, 300, 600, 1500)
_STORM_OF = 24
_STORM_CHANCE = 0.005
_PROGRESS_EVERY_S = 60.0
_OPERATOR_EVERY_S = 60.0
_THRESHOLD_PERIOD_S = 60.0
_WRITES_WITHIN_S = 300.0
_MOMENT_S = 0.001
_DSRSP = "dsrsp"
_ERRORS = (CemError, DsrspError)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPlan:
    """What is to be simulated.

    Attributes:
        seed: of everything that is random.
        duration_s: in which the messages are sent, in seconds of virtual time.
        devices: how many CEMs.
        messages: how many, both ways together.
        profile: the network between DCC and devices.
        faults: what goes wrong.
        settle_s: how long to go on after every message has ended, for what comes late.
        limit_s: after this virtual time a message that has not ended never will.
        dsrsp: settings of the DSRSP's gateway.
        cem: settings of the CEMs' gateways.
        folder: where states are kept; None: in memory.
        journals: returns where a component's journal goes.
        internet: what route 2b goes over; None: there is none. With it, messages choose routes at
            random, most the default.
    """

    seed: int = 1
    duration_s: float = 3600.0
    devices: int = 8
    messages: int = 2000
    profile: NetworkProfile | str = "bad-day"
    faults: FaultPlan = field(default_factory=FaultPlan)
    settle_s: float = 14_400.0
    limit_s: float = 604_800.0
    dsrsp: dict[str, Any] = field(default_factory=dict)
    cem: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    journals: Callable[[str, Clock], Journal] | None = None
    internet: InternetSettings | None = None


@dataclass(frozen=True, slots=True)
class RunReport:
    """What came out.

    Attributes:
        digest: SHA-256 over every octet on every interface, journals included, with times.
        outcomes: how many messages ended how, and why.
        wrong: what must never be, in words.
        delays_s: how long delivered messages took from taking to giving out, by direction.
        messages: how many messages passed each interface.
        octets: how many octets passed each interface.
        deeds: what was done by kind: faults, kills, releases and so on.
        given_out_again: how often a killed application got a message that it had not taken over.
        virtual_s: how much time passed in the simulation, in seconds.
        real_s: how much outside, in seconds.
    """

    digest: str
    outcomes: Counter[tuple[Fate, str]]
    wrong: list[str]
    delays_s: dict[str, list[float]]
    messages: dict[str, int]
    octets: dict[str, int]
    deeds: Counter[str]
    given_out_again: int
    virtual_s: float
    real_s: float


Progress = Callable[[float, int], None]
"""Is told the virtual time since the start, in seconds, and how many messages have ended."""


def run_plan(plan: RunPlan, *, on_progress: Progress = lambda _at_s, _ended: None) -> RunReport:
    """Simulate a plan on virtual time.

    Args:
        plan: what is to be simulated.
        on_progress: told now and then how far it is.
    """
    began = time.perf_counter()

    async def main() -> RunReport:
        return await _Run(plan, on_progress).run(began)

    with _alarms() as alarms:
        report = run_virtual(main())
    report.wrong.extend(alarms)
    return report


class _Alarms(logging.Handler):
    """Keeps what no fault accounts for: what a program of ours did not foresee."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        foreseen = record.name != "asyncio" and not record.exc_info
        # The simulator's logic is made anew after an error in it: here no disk fails.
        if not foreseen or "taking up the state" in record.msg:
            self.found.append(f"{record.name} did not foresee: {self.format(record)}")


@contextlib.contextmanager
def _alarms() -> Iterator[list[str]]:
    handler = _Alarms()
    loggers = [logging.getLogger(name) for name in ("dsrsp", "cem", "dcc_sim", "asyncio")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield handler.found
    finally:
        for logger in loggers:
            logger.removeHandler(handler)


class _Run:
    def __init__(self, plan: RunPlan, on_progress: Progress) -> None:
        self._plan = plan
        self._on_progress = on_progress
        self._accounts = Accounts()
        self._ended = 0
        self._deeds: Counter[str] = Counter(
            f"fault {fault.kind.value}{'' if fault.hop is None else ' on ' + fault.hop.value}"
            for fault in plan.faults.scenario
        )
        self._system = VirtualSystem(self._settings())

    def _settings(self) -> VirtualSettings:
        plan = self._plan
        thresholds = []
        if plan.faults.quarantine:
            # Near what the load makes, so that some of it is held.
            limit = max(2, round(plan.messages * _THRESHOLD_PERIOD_S / plan.duration_s))
            threshold = ThresholdConfig(
                service_reference_variant="6.14.1", limit=limit, period_s=_THRESHOLD_PERIOD_S
            )
            thresholds.append(threshold)
        return VirtualSettings(
            devices=plan.devices,
            seed=plan.seed,
            profile=plan.profile,
            scenario=plan.faults.scenario,
            supplier={"thresholds": thresholds},
            dsrsp=plan.dsrsp,
            # The status of every message is asked for at the end.
            cem={"finished_messages": plan.messages, **plan.cem},
            cem_of={number: {"alerts_per_window": 0} for number in plan.faults.storms},
            folder=plan.folder,
            journals=plan.journals,
            internet=plan.internet,
        )

    async def run(self, began: float) -> RunReport:
        loop = asyncio.get_running_loop()
        async with self._system as system:
            background = [self._read(number) for number in (None, *range(self._plan.devices))]
            background += [self._operate(), self._tell_progress()]
            helpers = [loop.create_task(work) for work in background]
            work = [self._kill(kill) for kill in self._plan.faults.kills]
            work += [self._disconnect(one) for one in self._plan.faults.disconnects]
            work += self._load()
            tasks = [loop.create_task(one) for one in work]
            try:
                async with asyncio.timeout(self._plan.limit_s):
                    await asyncio.gather(*tasks)
            except TimeoutError:
                pass  # told by the accounts
            await asyncio.sleep(self._plan.settle_s)
            for task in helpers:
                task.cancel()
            for outcome in await asyncio.gather(*helpers, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome
            virtual_s = loop.time()
        return self._report(system, virtual_s, time.perf_counter() - began)

    def _report(self, system: VirtualSystem, virtual_s: float, real_s: float) -> RunReport:
        delays: dict[str, list[float]] = {"down": [], "up": []}
        for account in self._accounts.all():
            if account.arrived_at is not None and account.sent_at is not None:
                delays[account.name.split()[0]].append(account.arrived_at - account.sent_at)
        self._deeds["starts of processes"] = system.dsrsp.starts + sum(
            process.starts for process in system.cems
        )
        if self._plan.internet is not None:
            self._deeds["connections of route 2b"] = system.internet.dialled
        return RunReport(
            digest=system.tape.digest,
            outcomes=self._accounts.outcomes(),
            wrong=self._accounts.wrong(),
            delays_s=delays,
            messages=system.tape.messages,
            octets=system.tape.octets,
            deeds=self._deeds,
            given_out_again=self._accounts.given_out_again,
            virtual_s=virtual_s,
            real_s=real_s,
        )

    # The applications

    def _load(self) -> list[Coroutine[Any, Any, None]]:
        plan = self._plan
        chance = random.Random(f"{plan.seed}/load")  # noqa: S311  # to come out the same
        work: list[Coroutine[Any, Any, None]] = []
        storms = sorted(plan.faults.storms)
        while len(work) < plan.messages:
            at_s = chance.uniform(0.0, 0.95) * plan.duration_s
            if storms and (not work or chance.random() < _STORM_CHANCE):
                # Many at once from a CEM that knows no pace.
                number = chance.choice(storms)
                left = min(_STORM_OF, plan.messages - len(work))
                work += [
                    self._send("up", number, at_s, len(work) + n, _body(chance, 60))
                    for n in range(left)
                ]
                self._deeds["alert storms"] += 1
                continue
            number = chance.randrange(plan.devices)
            way = chance.choice(("down", "up"))
            work.append(
                self._send(way, number, at_s, len(work), _body(chance, chance.choice(_SIZES)))
            )
        return work

    def _send(
        self, way: str, number: int, at_s: float, serial: int, body: bytes
    ) -> Coroutine[Any, Any, None]:
        device = self._system.device(number)
        down = way == "down"
        name = f"{way} {serial} {_cem(number)} to {_cem(number) if down else _DSRSP}"
        message = f"{name}\n".encode() + body
        account = self._accounts.open(name, message)
        how = self._routes(serial)

        async def take(gateway: Any) -> str:
            to = (device,) if down else ()
            return str((await gateway.send(*to, message, **how)).ref)

        return self._follow(account, at_s, None if down else number, take)

    def _routes(self, serial: int) -> dict[str, Any]:
        """Say by which routes a message may go."""
        if self._plan.internet is None:
            return {}
        chance = random.Random(f"{self._plan.seed}/route/{serial}")  # noqa: S311
        route = chance.choice((*(RouteChoice.AUTO,) * 6, *RouteChoice))
        return {"route": route, "urgent": chance.random() < 0.1}

    async def _follow(
        self, account: Account, at_s: float, sender: int | None, take: Callable[[Any], Any]
    ) -> None:
        """Send a message when its time has come, and learn of its end."""
        await asyncio.sleep(at_s)
        process = self._process(sender)
        ref: str | None = None
        while ref is None:
            gateway, life = await process.running()
            try:
                ref = await take(gateway)
            except (SendError, QueueFull, LocalError) as error:
                account.refusal = str(error)
            except _ERRORS as error:
                # It is not taken: the application tries again.
                _LOG.info("%s waits: %s", account.name, error)
                await asyncio.sleep(1.0)
                continue
            else:
                # Whatever a killed process says is heard by nobody.
                account.unpromised = not life.alive
            if account.refusal is not None or account.unpromised:
                self._ended += 1
                return
        account.sent_at = self._system.clock()
        await self._learn_end(account, process, ref)
        self._ended += 1

    async def _learn_end(self, account: Account, process: VirtualProcess[Any], ref: str) -> None:
        while account.status is None or not account.status.final:
            gateway, life = await process.running()
            try:
                status = await gateway.handle(ref).wait()
                if life.alive:
                    account.status = status
            except (dsrsp.UnknownMessage, cem.UnknownMessage) as error:
                account.refusal = f"its sender has forgotten it: {error}"
                return
            except _ERRORS:
                await asyncio.sleep(_MOMENT_S)

    async def _read(self, reader: int | None) -> None:
        """Take whatever arrives at one end, also across kills of its process."""
        where = _DSRSP if reader is None else _cem(reader)
        chance = random.Random(f"{self._plan.seed}/reader/{where}")  # noqa: S311
        process = self._process(reader)
        async with asyncio.TaskGroup() as later:
            while True:
                gateway, life = await process.running()
                try:
                    async for received in gateway.received():
                        if not life.alive:
                            break
                        at = self._system.clock()
                        self._accounts.arrived(where, received.ref, received.message, at)
                        wait_s = chance.uniform(1.0, 100.0) if chance.random() < 0.1 else 0.0
                        acknowledge = self._acknowledge(where, received, life, wait_s)
                        if wait_s:
                            later.create_task(acknowledge)
                        else:
                            await acknowledge
                except _ERRORS as error:
                    _LOG.info("%s receives nothing: %s", where, error)
                await asyncio.sleep(_MOMENT_S)

    async def _acknowledge(self, where: str, received: Any, life: Life, wait_s: float) -> None:
        await asyncio.sleep(wait_s)
        try:
            await received.ack()
        except _ERRORS:
            return  # it comes again
        if life.alive:
            self._accounts.acknowledged(where, received.ref)

    # Those who disturb, and those who look after it

    async def _kill(self, kill: Kill) -> None:
        await asyncio.sleep(kill.at_s)
        process = self._process(kill.cem)
        _, life = await process.running()
        if kill.at_write is not None:
            life.end_at_write(kill.at_write, before=kill.before)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WRITES_WITHIN_S):
                    await life.ended.wait()
        life.end()
        await process.buried()
        self._deeds[f"kill of {'the DSRSP' if kill.cem is None else 'a CEM'}"] += 1
        await asyncio.sleep(kill.pause_s)
        # Another kill of the same process may have started it already.
        if process.life is None:
            await process.start()

    async def _disconnect(self, disconnect: Disconnect) -> None:
        await asyncio.sleep(disconnect.at_s)
        internet, device = self._system.internet, self._system.device(disconnect.cem)
        self._deeds["connection of route 2b cut"] += internet.cut(device)
        if disconnect.away_s:
            internet.take_offline(device)
            await asyncio.sleep(disconnect.away_s)
            internet.bring_online(device)

    async def _operate(self) -> None:
        """Release and discard what is in quarantine; let the DCC repeat itself now and then."""
        faults = self._plan.faults
        chance = random.Random(f"{self._plan.seed}/operator")  # noqa: S311
        while faults.quarantine or faults.repeated_posts:
            await asyncio.sleep(_OPERATOR_EVERY_S)
            try:
                if faults.repeated_posts and chance.random() < 0.2:
                    behaviour = ResponseBehaviour(
                        copies=chance.choice((1, 1, 3)), delay_s=chance.choice((0.0, 0.0, 20.0))
                    )
                    await self._system.simulator.change_behaviour(behaviour)
                    self._deeds["change of how often and how late the DCC posts"] += 1
                for held in await self._system.simulator.quarantined():
                    await self._judge(held.event_reference, chance.random())
            except DccSimError as error:
                _LOG.info("the operator waits: %s", error)

    async def _judge(self, event_reference: int, fraction: float) -> None:
        if fraction < 0.6:
            await self._system.simulator.release(event_reference)
            self._deeds["release from quarantine"] += 1
        elif fraction < 0.75:
            await self._system.simulator.discard(event_reference)
            self._deeds["discard in quarantine"] += 1

    async def _tell_progress(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._on_progress(loop.time(), self._ended)
            await asyncio.sleep(_PROGRESS_EVERY_S)

    def _process(self, cem_number: int | None) -> VirtualProcess[Any]:
        return self._system.dsrsp if cem_number is None else self._system.cems[cem_number]


def _cem(number: int) -> str:
    return f"cem-{number}"


def _body(chance: random.Random, size: int) -> bytes:
    """Make what makes a message as long as it is; half of it can be compressed."""
    half = chance.randbytes(size // 2)
    return half + half.hex().encode()[: size - size // 2]
