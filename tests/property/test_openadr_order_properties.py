"""What a VEN says last about a thing is what the VTN hears last, whatever the tunnel does.

The CEM's desk runs on virtual time, in front of a gateway whose messages take any time, fail, or
are refused for a while; the process is killed at any moment, also in the middle of handing over.
"""

from __future__ import annotations

import asyncio
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


class Disk:
    """A store of the face's state that outlives the process."""

    def __init__(self) -> None:
        binding = Binding(ven_id="VEN", registration_id="REG")
        self.octets = msgspec.msgpack.encode(FaceState(binding=binding))

    def load(self) -> FaceState:
        return msgspec.msgpack.decode(self.octets, type=FaceState)

    def save(self, state: FaceState) -> None:
        self.octets = msgspec.msgpack.encode(state)


class Tunnel:
    """A gateway with its own disk, and the VTN at its far end: what arrives there, in order."""

    def __init__(self) -> None:
        self.messages: dict[str, Sent] = {}
        self.arrived: list[int] = []
        self.lost: set[int] = set()
        self.way_s = 0.0
        self.fault = ""
        self.killed = asyncio.Event()
        self._refs = 0
        self._tasks: set[asyncio.Task[None]] = set()

    def new_ref(self) -> str:
        self._refs += 1
        return f"m{self._refs}"

    async def send(self, octets: bytes, *, priority: int, ref: str) -> Any:
        fault, self.fault = self.fault, ""
        if fault == "full":
            raise QueueFull("full")
        if fault == "killed before":
            await self._die()
        if ref not in self.messages:
            self.messages[ref] = Sent()
            task = asyncio.create_task(self._cross(ref, octets, self.way_s, fails=fault == "fails"))
            self._tasks.add(task)
        if fault == "killed after":
            await self._die()
        return self.handle(ref)

    async def _die(self) -> None:
        self.killed.set()
        await asyncio.Event().wait()

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
        self.asking: asyncio.Task[Any] | None = None
        self.reaper = asyncio.create_task(self._reap())
        self.start()

    def start(self) -> None:
        self.desk = Desk(
            OpenAdrConfig(patience_s=0.5),
            self.tunnel,  # type: ignore[arg-type]
            self.disk,  # type: ignore[arg-type]
            vtn_id="V",
            clock=virtual_clock,
        )
        self.desk.start()

    async def _reap(self) -> None:
        """Kill the process where the tunnel says so, and start it again."""
        while True:
            await self.tunnel.killed.wait()
            self.tunnel.killed.clear()
            kept = self.disk.octets
            if self.asking is not None:
                self.asking.cancel()
            await self.desk.stop()
            self.disk.octets = kept
            self.start()

    async def say(self, octets: bytes) -> None:
        """Post until it is taken, as a VEN that sends the same request again."""
        payload = parse_untrusted_payload(octets)
        async with asyncio.timeout(10_000):
            while True:
                self.asking = asyncio.create_task(self.desk.ask(payload, payload.service, ""))
                await asyncio.wait({self.asking})
                if not self.asking.cancelled():
                    said = parse_untrusted_payload(self.asking.result().octets)
                    if said.succeeded or "no answer" in said.response_description:
                        return
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
            home.tunnel.killed.set()
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
