"""What a VEN says last about a thing is what the VTN hears last, whatever the tunnel does.

The CEM's desk runs on virtual time, in front of a gateway whose messages take any time, fail, or
are refused for a while; the process is killed at any moment, also in the middle of handing over.
"""

from __future__ import annotations

import asyncio
from asyncio import FIRST_COMPLETED
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from cem.errors import QueueFull, UnknownMessage
from cem.openadr import OpenAdrConfig
from cem.openadr.core.state import Binding, FaceState
from cem.openadr.desk import Desk
from lab.virtual_time import run_virtual, virtual_clock
from openadr_xml import parse_untrusted_payload

HEAD = (
    '<oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07"'
    ' xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110"'
    ' xmlns:p="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"><oadrSignedObject>'
)
TAIL = "</oadrSignedObject></oadrPayload>"


def created_event(number: int, events: tuple[str, ...]) -> bytes:
    opt = "optIn" if number % 2 else "optOut"
    named = "".join(
        f"<ei:eventResponse><ei:responseCode>200</ei:responseCode><p:requestID>r{number}"
        f"</p:requestID><ei:qualifiedEventID><ei:eventID>{event}</ei:eventID>"
        "<ei:modificationNumber>0</ei:modificationNumber></ei:qualifiedEventID>"
        f"<ei:optType>{opt}</ei:optType></ei:eventResponse>"
        for event in events
    )
    return (
        f"{HEAD}<oadrCreatedEvent><p:eiCreatedEvent><ei:eiResponse><ei:responseCode>200"
        f"</ei:responseCode><p:requestID>r{number}</p:requestID></ei:eiResponse>"
        f"<ei:eventResponses>{named}</ei:eventResponses><ei:venID>VEN</ei:venID>"
        f"</p:eiCreatedEvent></oadrCreatedEvent>{TAIL}"
    ).encode()


def opt(number: int, names: tuple[str, ...]) -> bytes:
    """Build an oadrCreateOpt or oadrCancelOpt, which the VEN does not wait for the answer to."""
    kind = "oadrCreateOpt" if number % 2 else "oadrCancelOpt"
    return (
        f"{HEAD}<{kind}><p:requestID>r{number}</p:requestID><ei:optID>{names[0]}</ei:optID>"
        f"<ei:optReason>{number}</ei:optReason>"
        f"<ei:venID>VEN</ei:venID></{kind}>{TAIL}"
    ).encode()


@dataclass
class Act:
    """The VEN says something; then the world does something."""

    names: tuple[str, ...]
    is_opt: bool
    way_s: float
    then_s: float
    fault: str


@dataclass
class Sent:
    final: bool = False
    ended: asyncio.Event = field(default_factory=asyncio.Event)


class Process:
    """What ends all at once: a dead process writes nothing and sends nothing."""

    def __init__(self, disk: Disk, tunnel: Tunnel) -> None:
        self.death = asyncio.get_running_loop().create_future()
        self._disk = disk
        self._tunnel = tunnel
        self.load = disk.load
        self.new_ref = tunnel.new_ref
        self.handle = tunnel.handle
        self.received = tunnel.received

    @property
    def alive(self) -> bool:
        return not self.death.done()

    def die(self) -> None:
        if self.alive:
            self.death.set_result(None)

    def save(self, state: FaceState) -> None:
        if self.alive:
            self._disk.octets = msgspec.msgpack.encode(state)

    async def send(self, octets: bytes, *, priority: int, ref: str) -> Any:
        if self.alive:
            fault, self._tunnel.fault = self._tunnel.fault, ""
            if fault != "killed before":
                self._tunnel.take(octets, ref, fault)
            if not fault.startswith("killed"):
                return self.handle(ref)
            self.die()
        return await asyncio.Event().wait()


class Disk:
    """Where the face's state outlives the process."""

    def __init__(self) -> None:
        binding = Binding(ven_id="VEN", registration_id="REG")
        self.octets = msgspec.msgpack.encode(FaceState(binding=binding))

    def load(self) -> FaceState:
        return msgspec.msgpack.decode(self.octets, type=FaceState)


class Tunnel:
    """A gateway with its own disk, and the VTN at its far end: what arrives there, in order."""

    def __init__(self) -> None:
        self.messages: dict[str, Sent] = {}
        self.arrived: list[int] = []
        self.lost: set[int] = set()
        self.way_s = 0.0
        self.fault = ""
        self._refs = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def new_ref(self) -> str:
        self._refs += 1
        return f"m{self._refs}"

    def take(self, octets: bytes, ref: str, fault: str) -> None:
        if fault == "full":
            raise QueueFull("full")
        if ref not in self.messages:
            self.messages[ref] = Sent()
            # What is tried again may be faster than the first try.
            way_s, self.way_s = self.way_s, 0.0
            crossing = self._cross(ref, octets, way_s, fails=fault == "fails")
            self._tasks.add(asyncio.create_task(crossing))

    async def _cross(self, ref: str, octets: bytes, way_s: float, *, fails: bool) -> None:
        await asyncio.sleep(way_s)
        payload = parse_untrusted_payload(octets)
        (self.lost.add if fails else self.arrived.append)(int(payload.correlation[1:]))
        await asyncio.sleep(way_s / 2)  # the receipt
        self.messages[ref].final = True
        self.messages[ref].ended.set()

    def handle(self, ref: str) -> Any:
        message = self.messages.get(ref)
        if message is None:
            raise UnknownMessage(ref)
        status = SimpleNamespace(final=message.final, state=None)
        return SimpleNamespace(ref=ref, status=status, wait=message.ended.wait)

    async def received(self) -> Any:
        await asyncio.Event().wait()
        yield


class Home:
    def __init__(self) -> None:
        self.disk = Disk()
        self.tunnel = Tunnel()
        self.start()
        self.reaper = asyncio.create_task(self._reap())

    def start(self) -> None:
        self.process = Process(self.disk, self.tunnel)
        self.desk = Desk(
            OpenAdrConfig(patience_s=0.5),
            self.process,  # type: ignore[arg-type]
            self.process,  # type: ignore[arg-type]
            vtn_id="V",
            clock=virtual_clock,
        )
        self.desk.start()

    async def _reap(self) -> None:
        """Start a process again that has died."""
        while True:
            await self.process.death
            await self.desk.stop()
            self.start()

    async def say(self, octets: bytes) -> None:
        """Post until it is taken, as a VEN that sends the same request again."""
        payload = parse_untrusted_payload(octets)
        async with asyncio.timeout(10_000):
            while True:
                process = self.process
                asking = asyncio.create_task(self.desk.ask(payload, payload.service, ""))
                await asyncio.wait({asking, process.death}, return_when=FIRST_COMPLETED)
                if process.alive:
                    said = parse_untrusted_payload(asking.result().octets)
                    if said.succeeded or "no answer" in said.response_description:
                        return
                # A dead process gives no answer.
                asking.cancel()
                await asyncio.sleep(1.0)

    async def end(self) -> None:
        self.reaper.cancel()
        await self.desk.stop()


ACTS = st.builds(
    Act,
    names=st.sampled_from([("E1",), ("E2",), ("E1", "E2"), ("E2", "E3")]),
    is_opt=st.booleans(),
    way_s=st.sampled_from([0.0, 1.0, 30.0, 300.0]),
    then_s=st.sampled_from([0.0, 0.1, 5.0, 100.0]),
    fault=st.sampled_from(["", "", "", "full", "fails", "killed before", "killed after", "kill"]),
)


@given(st.lists(ACTS, max_size=12))
def test_the_last_word_is_heard_last(acts: list[Act]) -> None:
    run_virtual(live(acts))


async def live(acts: list[Act]) -> None:
    home = Home()
    for number, act in enumerate(acts):
        home.tunnel.way_s = act.way_s
        home.tunnel.fault = "" if act.fault == "kill" else act.fault
        await home.say((opt if act.is_opt else created_event)(number, act.names))
        if act.fault == "kill":
            home.process.die()
        await asyncio.sleep(act.then_s)
    await asyncio.sleep(100_000)
    assert not home.desk.face.order.held, "all that was held has gone"
    heard = home.tunnel.arrived
    assert set(heard) | home.tunnel.lost == set(range(len(acts))), "and nothing got lost here"
    for is_opt in (False, True):
        for name in ("E1", "E2", "E3"):
            about = [n for n, act in enumerate(acts) if act.is_opt == is_opt and speaks(act, name)]
            in_turn = [number for number in heard if number in about]
            assert in_turn == sorted(in_turn), f"{name}: {in_turn}"
    await home.end()


def speaks(act: Act, name: str) -> bool:
    return name in (act.names[:1] if act.is_opt else act.names)
