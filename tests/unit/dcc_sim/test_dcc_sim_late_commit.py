"""That a user took a message becomes durable with what comes next, or a little later."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dcc_sim import engine as module
from dcc_sim.engine import Engine


class CountingStorage:
    def __init__(self) -> None:
        self.commits = 0
        self.committed = asyncio.Event()

    def commit(self) -> None:
        self.commits += 1
        self.committed.set()


class Logic:
    """A Dcc that has nothing to say."""

    has_work_to_hand_out = False

    def handle_posted(self, _posting_id: int) -> None: ...

    def handle_disconnected(self, _device: object) -> None: ...

    def take_effects(self) -> list[Any]:
        return []

    def get_timer(self) -> None:
        return None


def make(logic: Logic, storage: CountingStorage) -> Engine:
    def nothing(_effect: object) -> None: ...

    return Engine(
        lambda _now: logic,  # type: ignore[arg-type,return-value]
        storage,  # type: ignore[arg-type]
        clock=lambda: 0.0,
        deliver=nothing,
        post=nothing,
        connected_devices=list,
        restart=nothing,
    )


async def turns() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_it_waits_for_what_comes_next() -> None:
    storage = CountingStorage()
    engine = make(Logic(), storage)
    engine.posted(1)
    engine.posted(2)
    await turns()
    assert storage.commits == 0
    engine.disconnected(None)  # type: ignore[arg-type]
    await turns()
    assert storage.commits == 1
    engine.close()
    assert storage.commits == 1


async def test_it_does_not_wait_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LATE_COMMIT_S", 0.0)
    storage = CountingStorage()
    engine = make(Logic(), storage)
    engine.posted(1)
    async with asyncio.timeout(5):
        await storage.committed.wait()
    engine.close()


async def test_it_does_not_hold_up_the_next_message() -> None:
    storage, logic = CountingStorage(), Logic()
    logic.has_work_to_hand_out = True
    engine = make(logic, storage)
    engine.posted(1)
    await turns()
    assert storage.commits == 1
    engine.close()


async def test_it_is_durable_when_the_engine_stops() -> None:
    storage = CountingStorage()
    engine = make(Logic(), storage)
    engine.posted(1)
    engine.close()
    assert storage.commits == 1
