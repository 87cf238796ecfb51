"""The whole chain on virtual time: messages, kills at any write, states in memory and in files."""

from __future__ import annotations

import asyncio

import pytest

from cem.errors import LinkRefused
from dcc_sim import DccSimError, Fault, FaultKind
from lab.cast import Cast, device_id
from lab.errors import VirtualError
from lab.virtual_network import VirtualHub
from lab.virtual_process import Life, StateHome, VirtualProcess
from lab.virtual_system import VirtualSettings, VirtualSystem, seeded_octets
from lab.virtual_time import run_virtual
from smtunnel import DeliveryState

MESSAGE = b"<oadrPayload>an event</oadrPayload>" * 20


def run(story, **settings):
    async def main():
        async with VirtualSystem(VirtualSettings(**settings)) as system:
            return await story(system)

    return run_virtual(main())


async def first(gateway):
    received = await anext(gateway.received())
    await received.ack()
    return received.message


def test_there_and_back():
    async def story(system):
        (dsrsp, _), (cem, _) = await asyncio.gather(
            system.dsrsp.running(), system.cems[1].running()
        )
        down = await dsrsp.send(system.device(1), MESSAGE, compact=False)
        up = await cem.send(MESSAGE[::-1])
        ends = await asyncio.gather(down.wait(), up.wait())
        assert [await first(cem), await first(dsrsp)] == [MESSAGE, MESSAGE[::-1]]
        return [end.state for end in ends], system.tape.octets

    states, octets = run(story, devices=2, profile="gb-assumed")
    assert states == [DeliveryState.REASSEMBLED] * 2
    assert {"request to serviceT", "answer of serviceS"} < octets.keys()
    assert octets["journal of cem-1"] > octets["journal of cem-0"] > 0


@pytest.mark.parametrize(
    ("at_write", "in_files"), [*((number, False) for number in range(1, 9)), (2, True), (5, True)]
)
@pytest.mark.parametrize("before", [False, True])
@pytest.mark.parametrize("victim", ["dsrsp", "cem"])
def test_a_kill_at_any_write_loses_and_doubles_nothing(
    at_write, in_files, before, victim, tmp_path
):
    async def story(system):
        dsrsp, _ = await system.dsrsp.running()
        cem, _ = await system.cems[0].running()
        down = await dsrsp.send(system.device(0), MESSAGE, compact=False)
        up = await cem.send(MESSAGE[::-1], compact=False)
        process = system.dsrsp if victim == "dsrsp" else system.cems[0]
        process.life.end_at_write(at_write, before=before)
        await process.life.ended.wait()
        assert process.living() is None
        await process.buried()
        await asyncio.sleep(3.0)
        await process.start()
        dsrsp, _ = await system.dsrsp.running()
        cem, _ = await system.cems[0].running()
        assert process.starts == 2
        ends = [await dsrsp.handle(down.ref).wait(), await cem.handle(up.ref).wait()]
        inboxes = [cem.received(), dsrsp.received()]
        received = [await anext(inbox) for inbox in inboxes]
        for one in received:
            await one.ack()
        for inbox in inboxes:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(100_000.0):
                    await anext(inbox)
        return [end.state for end in ends], [one.message for one in received]

    folder = tmp_path if in_files else None
    states, messages = run(story, folder=folder, profile="gb-assumed", dsrsp={"receipts": "each"})
    assert states == [DeliveryState.REASSEMBLED] * 2
    assert messages == [MESSAGE, MESSAGE[::-1]]


def test_a_dead_process_reaches_nobody():
    async def story(system):
        gateway, _ = await system.dsrsp.running()
        await asyncio.sleep(600.0)  # nothing is under way any more
        said = system.tape.digest
        system.dsrsp.kill()
        with pytest.raises(Exception, match="the process has ended"):
            await gateway.send(system.device(0), MESSAGE)
        await system.dsrsp.buried()
        assert system.tape.digest == said
        await system.dsrsp.stop()  # there is none: nothing happens
        await system.dsrsp.start()
        with pytest.raises(VirtualError, match="runs already"):
            await system.dsrsp.start()

    run(story)


def test_a_revoked_device_is_refused_by_its_hub():
    async def story(system):
        await system.simulator.inject(Fault(kind=FaultKind.REVOKE, entity_id=system.device(0)))
        hub = VirtualHub(system.simulator, system.device(0), system.tape, seeded_octets(1, "x"))
        await hub.receive()
        await hub.send("no proof")
        with pytest.raises(LinkRefused):
            await hub.receive()
        with pytest.raises(LinkRefused):
            await hub.send(b"more")

    run(story)


def test_a_dcc_that_restarts_is_not_there():
    async def story(system):
        gateway, _ = await system.cems[0].running()
        await gateway.wait_connected()
        assert system.simulator.is_running
        await system.simulator.inject(Fault(kind=FaultKind.RESTART, duration_s=60.0))
        await asyncio.sleep(1.0)
        assert not system.simulator.is_running
        assert not gateway.connected
        with pytest.raises(DccSimError):
            await system.simulator.quarantined()
        await asyncio.sleep(120.0)
        return gateway.connected

    assert run(story) is True


def test_a_system_that_does_not_run_says_so():
    with pytest.raises(VirtualError, match="async with"):
        _ = VirtualSystem(VirtualSettings()).clock
    with pytest.raises(VirtualError, match="at least one"):
        VirtualSettings(devices=0)


def test_the_same_seed_makes_the_same_certificates():
    one, same, other = Cast(2, 5), Cast(2, 5), Cast(2, 6)
    for pems in ("certificate_pems", "device_pems", "dcc_keys", "dsrsp_keys"):
        assert getattr(one, pems)() == getattr(same, pems)()
        assert getattr(one, pems)() != getattr(other, pems)()
    assert device_id(1) == one.devices[1].entity_id


class Store:
    def __init__(self):
        self.kept = []
        self.closed = 0

    def keep(self, what):
        self.kept.append(what)

    def read(self):
        return tuple(self.kept)

    def abandon(self) -> None:
        """All is kept at once."""

    def close(self):
        self.closed += 1


@pytest.mark.parametrize(("before", "kept"), [(True, ("a",)), (False, ("a", "b"))])
def test_a_write_is_kept_or_not(before, kept):
    stores = []

    def make():
        stores.append(Store())
        return stores[-1]

    async def story():
        home = StateHome(
            make, in_memory=True, refusal=lambda: OSError("dead"), writes=frozenset({"keep"})
        )
        life = Life()
        ended = []
        life.at_end(lambda: ended.append(1))
        store = home.open(life)
        life.end_at_write(2, before=before)
        store.keep("a")
        assert store.read() == ("a",)
        if before:
            with pytest.raises(OSError, match="dead"):
                store.keep("b")
        else:
            store.keep("b")
        for call in (store.read, lambda: store.keep("c")):
            with pytest.raises(OSError, match="dead"):
                call()
        life.end()
        assert ended == [1]
        store.close()
        assert home.open(Life()).read() == kept
        home.close()
        assert stores[0].closed == 1
        assert len(stores) == 1

    run_virtual(story())


def test_a_process_that_does_not_start_can_be_started_later():
    class Gateway:
        failures = 1

        async def __aenter__(self):
            if Gateway.failures:
                Gateway.failures -= 1
                raise OSError("no")

        async def __aexit__(self, *error):
            pass

    async def story():
        process = VirtualProcess("it", lambda _life: Gateway())
        with pytest.raises(OSError, match="no"):
            await process.start()
        waiting = asyncio.create_task(process.running())
        await asyncio.sleep(1.0)
        await process.start()
        _, life = await waiting
        assert life.alive
        await process.stop()
        assert not life.alive
        return process.starts

    assert run_virtual(story()) == 1
