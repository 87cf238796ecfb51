"""Real processes, killed with SIGKILL in the middle of their work."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import sys

from gbcs import Response, parse_untrusted
from smtunnel import ECS200, DeliveryState, MessageReassembled, Originator, Reassembler

REASSEMBLED = DeliveryState.REASSEMBLED

DOWN = random.Random(1).randbytes(2000)  # does not shrink: 25 fragments
UP = random.Random(2).randbytes(8000)  # does not shrink: eleven fragments

COUNTERS = """
import random, sys
from cem import SqliteStore
from gbcs import EntityId
from gbcs.counters import OriginatorCounter

store = SqliteStore(sys.argv[1], EntityId(bytes(8)), replay_window=4)
counter = OriginatorCounter(store.counters, reserve=int(sys.argv[2]))
while True:
    count = random.randint(1, 9)
    print(counter.issue_block(count), count, flush=True)
"""

GATEWAY = """
import asyncio, sys
from pathlib import Path
from cem import CemConfig, Gateway
from gbcs import EntityId
from gbcs.keystore import KeyStore

state, keys, hub_url, *ids = sys.argv[1:]
device_id, supplier_id, load_controller_id = map(EntityId.parse, ids)
config = CemConfig(
    device_id=device_id, supplier_id=supplier_id, load_controller_id=load_controller_id,
    state=state, hub_url=hub_url, reconnect_min_s=0.01, reconnect_max_s=0.02,
)
keystore = KeyStore.from_pems(
    {path.name: path.read_bytes() for path in Path(keys).iterdir()}, test_mode=True
)

async def send(gateway):
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        handle = await gateway.send(bytes.fromhex(line))
        print("sent", handle.ref, flush=True)

async def main():
    async with Gateway(config, keystore, clock=lambda: 1_700_000_000.0) as gateway:
        print("ready", flush=True)
        sending = asyncio.create_task(send(gateway))
        async for received in gateway.received():
            print("received", received.ref, received.message.hex(), flush=True)

asyncio.run(main())
"""


def test_counters_are_never_used_twice(tmp_path) -> None:
    state = str(tmp_path / "cem.sqlite")
    chance = random.Random(7)
    last = 0
    for _ in range(8):
        reserve = chance.choice([1, 4, 64])
        process = subprocess.Popen(
            [sys.executable, "-c", COUNTERS, state, str(reserve)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        wanted = chance.randint(1, 100)
        lines = [process.stdout.readline() for _ in range(wanted)]
        process.kill()
        lines += process.stdout.read().splitlines(keepends=True)  # what it still got out
        process.stdout.close()
        process.wait()
        for line in lines:
            if not line.endswith("\n"):  # killed in the middle of the line
                continue
            first, count = map(int, line.split())
            assert first > last
            last = first + count - 1
    assert last > 500


class Process:
    """A gateway in a process of its own."""

    def __init__(self, world, keys, state, hub_url) -> None:
        ids = (world.device_id, world.supplier_id, world.load_controller_id)
        self.arguments = [GATEWAY, state, str(keys), hub_url, *map(str, ids)]
        self.process = None

    async def start(self) -> None:
        pipe = asyncio.subprocess.PIPE
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", *self.arguments, stdin=pipe, stdout=pipe, limit=2**20
        )
        assert await self.line() == ["ready"]

    async def line(self) -> list[str]:
        return (await self.process.stdout.readline()).decode().split()

    async def send(self, message: bytes) -> str:
        self.process.stdin.write(message.hex().encode() + b"\n")
        word, ref = await self.line()
        assert word == "sent"
        return ref

    async def kill(self) -> None:
        if self.process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()
        self.process = None


async def response_of(world, device):
    """The next response of the CEM; its alerts are passed over."""
    while not isinstance(parse_untrusted(octets := await device.recv()), Response):
        pass
    return world.response(octets)


@contextlib.asynccontextmanager
async def gateway_process(world, keys, tmp_path, hub_url):
    process = Process(world, keys, str(tmp_path / "cem.sqlite"), hub_url)
    await process.start()
    try:
        yield process
    finally:
        await process.kill()


async def test_accepted_fragments_and_messages_survive(world, hub, world_folder, tmp_path) -> None:
    commands = world.commands(DOWN, 1000)
    chance = random.Random(11)
    chance.shuffle(commands)
    kills = {3, 4, 11, 18, 24}
    async with gateway_process(world, world_folder, tmp_path, hub.url) as process:
        device = await hub.devices.get()
        for number, command in enumerate(commands):
            await device.send(command)
            assert (await response_of(world, device)).success
            if number in kills:  # at once after an answer that promised durability
                await process.kill()
                await process.start()
                device = await hub.devices.get()
        for _ in range(2):  # not acknowledged: there again after each restart
            word, ref, octets = await process.line()
            assert (word, bytes.fromhex(octets)) == ("received", DOWN)
            assert ref == f"{world.supplier_id.hex}-0-1000"
            await process.kill()
            await process.start()
        device = await hub.devices.get()


async def test_killed_before_the_answer(world, hub, world_folder, tmp_path) -> None:
    """Whether it was stored is not known: the DCC sends again; nothing is lost or twice."""
    commands = world.commands(DOWN, 1000)
    async with gateway_process(world, world_folder, tmp_path, hub.url) as process:
        device = await hub.devices.get()
        for number, command in enumerate(commands):
            if number % 6 == 5:
                await device.send(command)
                await process.kill()
                await process.start()
                device = await hub.devices.get()
            await device.send(command)
            assert (await response_of(world, device)).success
        word, _, octets = await process.line()
        assert (word, bytes.fromhex(octets)) == ("received", DOWN)
        await device.send(world.commands(b"next", 2000, 1)[0])
        await response_of(world, device)
        _, _, octets = await process.line()
        assert bytes.fromhex(octets) == b"next"  # and DOWN came once only


async def test_accepted_for_sending_survives(world, hub, new_dsrsp, world_folder, tmp_path) -> None:
    messages = [b"message %d" % number for number in range(5)]
    nobody = "ws://127.0.0.1:9"
    refs = []
    async with gateway_process(world, world_folder, tmp_path, nobody) as process:
        for message in messages:
            refs.append(await process.send(message))
            await process.kill()
            await process.start()
    config = world.config(hub_url=hub.url, state=str(tmp_path / "cem.sqlite"))
    dsrsp = new_dsrsp()
    async with world.gateway(config) as gateway:
        device = await hub.devices.get()
        while any(gateway.handle(ref).status.state is not REASSEMBLED for ref in refs):
            dsrsp.take(await device.recv())
            for command in dsrsp.take_commands():
                await device.send(command)
    assert dsrsp.received == messages


async def test_killed_whenever_it_sends_or_receives(
    world, hub, new_dsrsp, world_folder, tmp_path
) -> None:
    """Both ways at once, with a DSRSP that gives receipts, and a kill every few messages."""
    chance = random.Random(23)
    dsrsp = new_dsrsp()
    wanted = [chance.randbytes(1500) for _ in range(4)]
    down = [chance.randbytes(200) for _ in range(4)]
    got = set()
    async with gateway_process(world, world_folder, tmp_path, hub.url) as process:
        device = await hub.devices.get()
        for message in wanted:
            await process.send(message)
        for number, message in enumerate(down):
            dsrsp.send(message, f"down{number}")
        unanswered = dict(dsrsp.commands)
        dsrsp.take_commands()
        for command in unanswered.values():
            await device.send(command)
        countdown = 5
        while unanswered or len(dsrsp.received) < len(wanted):
            octets = await device.recv()
            dsrsp.take(octets)
            response = parse_untrusted(octets)
            if isinstance(response, Response):
                unanswered.pop(response.originator_counter, None)
            new = dict(dsrsp.commands)
            dsrsp.take_commands()
            unanswered |= new
            countdown -= 1
            if countdown:
                for command in new.values():
                    await device.send(command)
                continue
            countdown = chance.randint(2, 6)
            await process.kill()
            await process.start()
            device = await hub.devices.get()
            for command in unanswered.values():  # the DCC tries again
                await device.send(command)
        for _ in down:
            _, _, message = await process.line()
            got.add(bytes.fromhex(message))
    assert got == set(down)
    assert sorted(dsrsp.received) == sorted(wanted)


def reassembled(alerts):
    reassembler = Reassembler(originator=Originator.CEM, carrier=ECS200)
    events = []
    for alert in alerts:
        events += reassembler.receive_fragment(
            b"cem", alert.text, originator_counter=alert.originator_counter, now=0.0
        )
    return [event.message for event in events if isinstance(event, MessageReassembled)]


async def test_alerts_are_repeated_octet_for_octet(world, hub, world_folder, tmp_path) -> None:
    by_counter: dict[int, bytes] = {}
    order = []
    async with gateway_process(world, world_folder, tmp_path, hub.url) as process:
        device = await hub.devices.get()
        await process.send(UP)
        while len(by_counter) < 12:  # eleven fragments, and the CEM's capabilities
            for _ in range(3):
                octets = await device.recv()
                counter = world.alert(octets).originator_counter
                assert by_counter.setdefault(counter, octets) == octets
                order.append(counter)
                if len(by_counter) == 12:
                    break
            await process.kill()
            await process.start()
            device = await hub.devices.get()
        await process.send(b"afterwards")
        last = world.alert(await device.recv())
        while last.originator_counter in by_counter:
            last = world.alert(await device.recv())
    # The first reservation covers 64: a restart skips the rest of it.
    block = sorted(by_counter)[-11:]
    assert block == list(range(block[0], block[0] + 11))
    assert last.originator_counter > block[-1]
    alerts = [world.alert(by_counter[counter]) for counter in order]
    assert reassembled(alerts) == [UP]
