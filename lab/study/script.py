"""What every CEM of a case sends and receives, played through whatever carries it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Protocol

from lab.openadr_messages import StoryMessage
from lab.study.cases import Case
from lab.study.payloads import messages_of


class Ends(Protocol):
    """Both ends of a system, as the script needs them."""

    async def carry(self, cem: int, message: StoryMessage) -> bool:
        """Send a message; returns when it has arrived (True) or failed (False)."""
        ...


async def play(
    case: Case, ends: Ends, sleep: Callable[[float], Awaitable[None]], done: Callable[[], None]
) -> None:
    """Play a case's workload.

    Args:
        case: which.
        ends: carry the messages.
        sleep: waits, in seconds of the case.
        done: called when a CEM has done all its turns.
    """
    numbers = random.Random(case.seed)  # noqa: S311 (a simulation's)
    workload = case.workload
    starts = sorted(numbers.random() * workload.spread_s for _ in range(workload.cems))

    async def one(cem: int, start_s: float) -> None:
        await sleep(start_s)
        for turn in range(workload.times):
            if turn:
                await sleep(workload.interval_s)
            await _turn(case, ends, cem, turn)
        done()

    async with asyncio.TaskGroup() as tasks:
        for cem, start_s in enumerate(starts):
            tasks.create_task(one(cem, start_s))


async def _turn(case: Case, ends: Ends, cem: int, turn: int) -> None:
    messages = messages_of(case.workload, case.seed ^ (cem * 1009 + turn))
    if case.workload.kind == "alert-storm":
        await asyncio.gather(*(ends.carry(cem, message) for message in messages))
        return
    for message in messages:
        if not await ends.carry(cem, message):
            return
