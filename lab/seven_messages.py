"""Seven OpenADR messages, each watched on its own, from a DSRSP through a DCC to a CEM and back.

Three processes on real sockets with a fresh test PKI. Every message is made at run time by
openleadr, sent through the daemons' control interfaces, and compared on arrival: byte for byte, or
as canonical XML where the gateways' compact form is asked for.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lab.control_client import ControlClient, ReceivedOverControl
from lab.errors import DemoError
from lab.journal import read_journal
from lab.journey import Journey, journey_of
from lab.local_system import LocalSystem
from lab.openadr_messages import StoryMessage, make_story
from lab.trace import check_trace_folder, merged_events, write_trace
from openadr_xml import canonical

_ARRIVAL_TIMEOUT_S = 30.0


@dataclass(slots=True)
class Leg:
    """One message and what became of it.

    ``states`` holds each state with the seconds since the message was handed over; ``untouched``
    is True where the compact form was switched off; ``identical`` when the octets that arrived are
    those that were sent; ``same`` when they are what was agreed: identical, or equal as canonical
    XML where the message went in its compact form.
    """

    message: StoryMessage
    untouched: bool = False
    states: list[tuple[float, str]] = field(default_factory=list)
    final: dict[str, Any] = field(default_factory=dict)
    arrived_s: float = 0.0
    identical: bool = False
    same: bool = False
    journey: Journey | None = None


@dataclass(frozen=True, slots=True)
class DemoResult:
    """All legs, how long they took together, and how many messages the trace has."""

    legs: list[Leg]
    seconds: float
    traced: int

    @property
    def good(self) -> bool:
        """Whether every message arrived as it was sent."""
        return all(leg.same and leg.final["state"] != "FAILED" for leg in self.legs)


async def run_demo(
    folder: Path,
    pki: Path,
    *,
    compact: bool = False,
    trace: Path | None = None,
    duis_schema: Path | None = None,
    on_leg: Callable[[int, Leg], None] = lambda number, leg: None,
) -> DemoResult:
    """Start the three daemons, send the story through them, compare, and stop them.

    Args:
        folder: for configurations, states, journals and logs.
        pki: a fresh test PKI, as `smtunnel pki init` makes it.
        compact: True leaves the gateways to their default, the compact form of OpenADR XML; False
            switches it off, so that the octets themselves can be compared.
        trace: where every octet is written down, or None.
        duis_schema: the official DUIS schema, to validate against, or None.
        on_leg: called with the number and the leg when a message has arrived.

    Raises:
        DemoError: a daemon did not start, or a message did not arrive in time.
        LabError: there is something in the folder of the trace already.
    """
    if trace is not None:
        check_trace_folder(trace)  # before the work, not after it
    started = time.monotonic()
    legs: list[Leg] = []
    async with LocalSystem(folder, pki, duis_schema=duis_schema) as system:
        device = system.identities.device_id
        async with system.control("dsrsp") as dsrsp, system.control("cem") as cem:
            previous: tuple[bool, str] | None = None
            for message in make_story(datetime.now(UTC), lambda: str(uuid.uuid4())):
                leg = Leg(message, untouched=not compact)
                sender, receiver = (dsrsp, cem) if message.downlink else (cem, dsrsp)
                to = device if message.downlink else None
                # What the receiver sent just before is what this message answers.
                answers = previous[1] if previous and previous[0] != message.downlink else None
                ref = await _send(leg, sender, receiver, to=to, answers=answers)
                previous = message.downlink, ref
                leg.journey = journey_of(
                    read_journal(system.journal("dcc-sim")),
                    downlink=message.downlink,
                    first_counter=leg.final["first_counter"],
                    fragments=leg.final["fragments_total"],
                )
                legs.append(leg)
                on_leg(len(legs), leg)
    seconds = time.monotonic() - started
    traced = 0
    if trace is not None:
        journals = [system.journal(name) for name in ("dcc-sim", "dsrsp", "cem")]
        messages = [leg.message for leg in legs]
        traced = write_trace(merged_events(journals), messages, pki, trace)
    return DemoResult(legs, seconds, traced)


async def _send(
    leg: Leg,
    sender: ControlClient,
    receiver: ControlClient,
    *,
    to: Any,
    answers: str | None,
) -> str:
    """Send one message, wait until it has arrived; returns the sender's reference of it.

    ``answers`` is what the receiver had sent before: this message is the answer to it.
    """
    start = time.monotonic()

    async def watch(ref: str) -> None:
        async for status in sender.statuses(ref):
            if not leg.states or leg.states[-1][1] != status["state"]:
                leg.states.append((time.monotonic() - start, status["state"]))
            leg.final = status
            if status["state"] in ("SENT", "REASSEMBLED", "FAILED"):
                return

    async def arrival() -> ReceivedOverControl:
        while True:
            if messages := await receiver.received(wait_s=_ARRIVAL_TIMEOUT_S):
                leg.arrived_s = time.monotonic() - start
                return messages[0]

    compact = False if leg.untouched else None
    leg.final = await sender.send(leg.message.octets, to=to, compact=compact)
    ref = str(leg.final["ref"])
    try:
        async with asyncio.timeout(_ARRIVAL_TIMEOUT_S), asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(ref))
            arriving = tasks.create_task(arrival())
    except TimeoutError:
        raise DemoError(
            f"{leg.message.name} did not arrive within {_ARRIVAL_TIMEOUT_S:g} s; "
            f"its last state: {leg.final}"
        ) from None
    received = arriving.result()
    leg.identical = received.message == leg.message.octets
    leg.same = leg.identical or (
        not leg.untouched and canonical(received.message) == canonical(leg.message.octets)
    )
    await receiver.ack(received.ref, answers=answers)
    return ref
