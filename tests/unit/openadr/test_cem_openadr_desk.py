"""The CEM's OpenADR face when the gateway's disk fails for a moment, and when it is told to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cem.errors import StoreError
from cem.openadr import OpenAdrConfig, OpenAdrVtn
from cem.openadr.core.state import Binding, FaceState
from cem.openadr.desk import Desk
from openadr_xml import Payload


class Tunnel:
    """A gateway that takes everything; ``unreadable``: so often its state cannot be read."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[str] = asyncio.Queue()
        self.ended: dict[str, asyncio.Event] = {}
        self.unreadable = 0

    def new_ref(self) -> str:
        return f"m{len(self.ended) + 1}"

    async def send(self, octets: bytes, *, priority: int, ref: str) -> None:
        self.ended.setdefault(ref, asyncio.Event())
        self.sent.put_nowait(ref)

    def handle(self, ref: str) -> Any:
        if self.unreadable:
            self.unreadable -= 1
            raise StoreError("disk I/O error")
        ended = self.ended[ref]
        return SimpleNamespace(status=SimpleNamespace(final=ended.is_set()), wait=ended.wait)

    async def received(self) -> AsyncIterator[Any]:
        await asyncio.Event().wait()
        yield


class Store:
    def load(self) -> FaceState:
        return FaceState(binding=Binding(ven_id="VEN1", registration_id="REG1"))

    def save(self, state: FaceState) -> None:
        pass


async def test_what_is_held_goes_in_its_turn_though_the_state_cannot_be_read_for_a_moment(
    xml: Any, read: Callable[[bytes], Payload], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cem.openadr.desk._RETRY_S", 0.0)
    tunnel, store = Tunnel(), Store()
    desk = Desk(OpenAdrConfig(), tunnel, store, vtn_id="V", clock=lambda: 0.0)  # type: ignore[arg-type]
    desk.start()
    joins = xml.created_event("E1")
    async with asyncio.timeout(10):
        for said in (joins, joins.replace(b"optIn", b"optOut")):
            payload = read(said)
            await desk.ask(payload, payload.service, "")
        tunnel.unreadable = 3
        assert desk.face.status()["held_for_order"] == ["oadrCreatedEvent"]
        first = await tunnel.sent.get()
        tunnel.ended[first].set()
        assert await tunnel.sent.get() != first
        assert not tunnel.unreadable
    await desk.stop()


async def test_who_is_cancelled_while_it_ends_leaves_the_state_to_the_next(tmp_path: Path) -> None:
    config = OpenAdrConfig(listen="127.0.0.1:0", state=str(tmp_path / "s"))
    opened, ends, tunnel = asyncio.Event(), asyncio.Event(), Tunnel()

    def face() -> OpenAdrVtn:
        return OpenAdrVtn(config, tunnel, device="D", vtn_id="V")  # type: ignore[arg-type]

    async def live() -> None:
        async with face():
            opened.set()
            await ends.wait()

    living = asyncio.create_task(live())
    await opened.wait()
    ends.set()
    await asyncio.sleep(0)  # now it waits for what it has begun
    living.cancel()
    with pytest.raises(asyncio.CancelledError):
        await living
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "cem openadr"]
    async with face():
        pass
