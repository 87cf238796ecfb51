"""A whole smart metering system in one process on virtual time: DSRSP, DCC and CEMs, no sockets.

The parts are the real ones: `dsrsp.Gateway`, `dcc_sim.LocalSimulator`, `cem.Gateway`. Only what
lies between them is replaced, by function calls (`lab.virtual_network`). Hours of network pass in
seconds, and the same seed gives the same octets: keys, signatures (RFC 6979), nonces, references
and pauses all come from it.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from cem import CemConfig
from cem import Gateway as CemGateway
from cem.errors import StoreError
from cem.store import SqliteStore as CemStore
from dcc_sim import DccSimConfig, DeviceConfig, Fault, LocalSimulator, UserConfig
from dcc_sim.core.network import NetworkProfile
from dcc_sim.profile_files import load_profile
from dsrsp import DsrspConfig
from dsrsp import Gateway as DsrspGateway
from dsrsp.errors import StorageError
from dsrsp.route_2b import Application
from dsrsp.store import SqliteStore as DsrspStore
from gbcs import EntityId, KeyStore
from gbcs.pki import DEFAULT_ACCESS_CONTROL_BROKER, DEFAULT_LOAD_CONTROLLER, DEFAULT_SUPPLIER
from gbcs.ports import Clock, Journal, Randomness
from lab.cast import EPOCH, Cast, device_id
from lab.errors import VirtualError
from lab.virtual_internet import InternetSettings, VirtualInternet, VirtualServer
from lab.virtual_network import ReceiveAddress, VirtualDcc, hub_connector
from lab.virtual_process import Life, MortalJournal, StateHome, VirtualProcess
from lab.virtual_tape import Tape, TapedJournal

_RECEIVE_URL = "http://dsrsp.virtual/{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualSettings:
    """What a simulated system is like.

    Attributes:
        devices: how many CEMs, at least 1.
        seed: of keys, network and everything else that is random.
        profile: the network between DCC and devices, or the name of a profile.
        region_shares: share of the devices in each region of the profile, for example
            {"north": 0.3, "central-south": 0.7}; the same number, the same region. None: as many
            in each.
        scenario: faults that come at their times.
        simulator: settings of the DCC, see dcc_sim.config.
        supplier: settings of the supplier as a user of the DCC.
        dsrsp: settings of the DSRSP's gateway, see dsrsp.config.
        cem: settings of the CEMs' gateways, see cem.config.
        cem_of: settings of one CEM alone, by its number from 0.
        folder: where states are kept, in files; None: in memory.
        journals: returns where a component's journal goes beside the tape.
        internet: what lies between CEMs and DSRSP beside the smart metering system; None: there is
            no route 2b.
    """

    devices: int = 1
    seed: int = 1
    profile: NetworkProfile | str = "none"
    region_shares: Mapping[str, float] | None = None
    scenario: Sequence[Fault] = ()
    simulator: Mapping[str, Any] = field(default_factory=dict)
    supplier: Mapping[str, Any] = field(default_factory=dict)
    dsrsp: Mapping[str, Any] = field(default_factory=dict)
    cem: Mapping[str, Any] = field(default_factory=dict)
    cem_of: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    folder: Path | None = None
    journals: Callable[[str, Clock], Journal] | None = None
    internet: InternetSettings | None = None

    def __post_init__(self) -> None:
        if self.devices < 1:
            raise VirtualError(f"{self.devices} devices: there must be at least one")


def seeded_octets(seed: int, party: str) -> Randomness:
    """Return a party's own source of octets; the same seed gives the same ones."""
    return random.Random(f"{seed}/{party}").randbytes  # noqa: S311  # to come out the same


def regions_of(
    devices: int, profile: NetworkProfile, shares: Mapping[str, float] | None
) -> list[str]:
    """Return the region of each device; "" where the profile has none.

    However many of the devices are taken from the first on, their shares are as near to the wanted
    ones as whole devices can be.

    Args:
        devices: how many.
        profile: has the regions.
        shares: of each region, of any sum; None: as many in each.

    Raises:
        VirtualError: a region is none of the profile's, or the shares are not shares.
    """
    wanted = dict(shares) if shares is not None else dict.fromkeys(profile.regions, 1.0)
    wanted = wanted or {"": 1.0}
    strangers = sorted(wanted.keys() - (profile.regions.keys() or {""}))
    if strangers:
        raise VirtualError(
            f"region_shares: the profile has no region {strangers[0]!r}; it has "
            f"{', '.join(sorted(profile.regions)) or 'none'}"
        )
    total = math.fsum(wanted.values())
    if min(wanted.values()) < 0 or not 0 < total < math.inf:
        raise VirtualError(
            f"region_shares: {wanted}: no share can be below 0, and one must be above"
        )
    placed = dict.fromkeys(sorted(wanted), 0)
    found = []
    for number in range(1, devices + 1):
        # Whoever lacks most is next; of equals the first by name.
        region = max(placed, key=lambda name: wanted[name] / total * number - placed[name])
        placed[region] += 1
        found.append(region)
    return found


class VirtualSystem:
    """The whole chain on the running loop's time, as an async context manager.

    Run it with `lab.virtual_time.run_virtual`; on entry everything runs. ::

        async def main():
            async with VirtualSystem(VirtualSettings(profile="gb-assumed")) as system:
                gateway, _ = await system.dsrsp.running()
                handle = await gateway.send(system.device(0), b"<oadrPayload/>")
                return await handle.wait()

        print(run_virtual(main()))

    Args:
        settings: what it is like.

    Entering raises:
        VirtualError, dcc_sim's, dsrsp's and cem's errors: the settings do not make a system.
    """

    def __init__(self, settings: VirtualSettings) -> None:
        self.settings = settings
        self._cast = Cast(settings.devices, settings.seed)
        self._stack = AsyncExitStack()
        self._running: _Running | None = None

    async def __aenter__(self) -> VirtualSystem:
        loop = asyncio.get_running_loop()
        clock: Clock = lambda: EPOCH + loop.time()  # noqa: E731  # it is one value of many
        tape = Tape(clock)
        settings = self.settings
        internet = VirtualInternet(settings.internet or InternetSettings(), tape, settings.seed)
        async with AsyncExitStack() as stack:
            dsrsp_process = self._dsrsp_process(stack, clock, tape, internet)
            cems = [
                self._cem_process(stack, clock, tape, internet, number)
                for number in range(self.settings.devices)
            ]
            address = ReceiveAddress(dsrsp_process, tape)
            simulator = self._make_simulator(clock, tape, address)
            self._running = _Running(clock, tape, simulator, internet, dsrsp_process, cems)
            await stack.enter_async_context(simulator)
            for start, stop in (
                (dsrsp_process.start, dsrsp_process.stop),
                *((process.start, process.stop) for process in cems),
            ):
                stack.push_async_callback(stop)
                await start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._stack.aclose()

    @property
    def clock(self) -> Clock:
        """The wall clock of everybody: seconds since 1970."""
        return self._parts().clock

    @property
    def tape(self) -> Tape:
        """What was said so far."""
        return self._parts().tape

    @property
    def simulator(self) -> LocalSimulator:
        """The DCC."""
        return self._parts().simulator

    @property
    def internet(self) -> VirtualInternet:
        """What route 2b goes over."""
        return self._parts().internet

    @property
    def dsrsp(self) -> VirtualProcess[DsrspGateway]:
        """The DSRSP's process."""
        return self._parts().dsrsp

    @property
    def cems(self) -> list[VirtualProcess[CemGateway]]:
        """The CEMs' processes, in the order of their numbers."""
        return self._parts().cems

    def device(self, number: int) -> EntityId:
        """Return the EUI-64 of a CEM, counted from 0."""
        return device_id(number)

    def _parts(self) -> _Running:
        if self._running is None:
            raise VirtualError("the system does not run: use it in `async with`")
        return self._running

    # How the parts are made

    def _keystore(self, *pems: Mapping[str, bytes]) -> KeyStore:
        together = dict(self._cast.certificate_pems())
        for more in pems:
            together.update(more)
        return KeyStore.from_pems(together, test_mode=True, deterministic_signatures=True)

    def _journal(self, clock: Clock, tape: Tape, component: str) -> Journal:
        make = self.settings.journals
        return TapedJournal(tape, component, None if make is None else make(component, clock))

    def _state(self, name: str) -> str:
        folder = self.settings.folder
        return ":memory:" if folder is None else str(folder / f"{name}.sqlite")

    def _make_simulator(self, clock: Clock, tape: Tape, address: ReceiveAddress) -> LocalSimulator:
        settings = self.settings
        profile = settings.profile
        if isinstance(profile, str):
            profile = load_profile(profile)
        regions = regions_of(settings.devices, profile, settings.region_shares)
        users = [
            UserConfig(
                entity_id=entity_id,
                role=role,
                receive_url=_RECEIVE_URL.format(role),
                **(settings.supplier if role == "supplier" else {}),
            )
            for entity_id, role in (
                (DEFAULT_SUPPLIER, "supplier"),
                (DEFAULT_LOAD_CONTROLLER, "load-controller"),
            )
        ]
        devices = [
            DeviceConfig(entity_id=device_id(number), region=regions[number])
            for number in range(settings.devices)
        ]
        config = DccSimConfig(
            dcc_id=DEFAULT_ACCESS_CONTROL_BROKER,
            state=self._state("dcc-sim"),
            users=users,
            devices=devices,
            **{"network_seed": settings.seed, **settings.simulator},
        )
        return LocalSimulator(
            config,
            self._keystore(self._cast.dcc_keys(), self._cast.device_pems()),
            post=address.post,
            clock=clock,
            journal=self._journal(clock, tape, "dcc-sim"),
            profile=profile,
            scenario=settings.scenario,
        )

    def _dsrsp_process(
        self, stack: AsyncExitStack, clock: Clock, tape: Tape, internet: VirtualInternet
    ) -> VirtualProcess[DsrspGateway]:
        config = DsrspConfig(
            supplier_id=DEFAULT_SUPPLIER,
            load_controller_id=DEFAULT_LOAD_CONTROLLER,
            state=self._state("dsrsp"),
            **self.settings.dsrsp,
        )
        keystore = self._keystore(self._cast.dsrsp_keys(), self._cast.device_pems())
        octets = seeded_octets(self.settings.seed, "dsrsp")
        journal = self._journal(clock, tape, "dsrsp")
        home = StateHome(
            lambda: DsrspStore(config.state, supplier_id=config.supplier_id),
            in_memory=self.settings.folder is None,
            refusal=lambda: StorageError("the process has ended"),
            writes=frozenset({"keep", "flush"}),
        )
        stack.callback(home.close)

        def make(life: Life) -> DsrspGateway:
            timeout_s = config.attempt_timeout_s

            def make_server(application: Application) -> VirtualServer:
                return VirtualServer(
                    internet,
                    life,
                    keystore,
                    config.supplier_id,
                    application,
                    clock=clock,
                    random_octets=octets,
                )

            return DsrspGateway(
                config,
                keystore,
                clock=clock,
                random_octets=octets,
                journal=MortalJournal(life, journal),
                dcc=VirtualDcc(self.simulator, life, tape, timeout_s=timeout_s),
                storage=home.open(life),
                route_2b_server=None if self.settings.internet is None else make_server,
            )

        return VirtualProcess("the DSRSP", make)

    def _cem_process(
        self,
        stack: AsyncExitStack,
        clock: Clock,
        tape: Tape,
        internet: VirtualInternet,
        number: int,
    ) -> VirtualProcess[CemGateway]:
        settings = self.settings
        name = f"cem-{number}"
        config = CemConfig(
            device_id=device_id(number),
            supplier_id=DEFAULT_SUPPLIER,
            load_controller_id=DEFAULT_LOAD_CONTROLLER,
            state=self._state(name),
            **{**settings.cem, **settings.cem_of.get(number, {})},
        )
        device = self._cast.devices[number]
        keystore = self._keystore(device.certificate_pems(), device.keys())
        octets = seeded_octets(settings.seed, name)
        hub_octets = seeded_octets(settings.seed, f"hub of {name}")
        journal = self._journal(clock, tape, name)
        home = StateHome(
            lambda: CemStore(
                config.state,
                config.device_id,
                replay_window=config.replay_window,
                finished_messages=config.finished_messages,
            ),
            in_memory=settings.folder is None,
            refusal=lambda: StoreError("the process has ended"),
            writes=frozenset({"commit", "flush"}),
        )
        stack.callback(home.close)

        def make(life: Life) -> CemGateway:
            return CemGateway(
                config,
                keystore,
                clock=clock,
                random_octets=octets,
                journal=MortalJournal(life, journal),
                store=home.open(life),
                connector=hub_connector(self.simulator, life, tape, hub_octets),
                dialler=internet.dialler(life),
            )

        return VirtualProcess(f"the CEM {number}", make)


@dataclass(frozen=True, slots=True)
class _Running:
    clock: Clock
    tape: Tape
    simulator: LocalSimulator
    internet: VirtualInternet
    dsrsp: VirtualProcess[DsrspGateway]
    cems: list[VirtualProcess[CemGateway]]
