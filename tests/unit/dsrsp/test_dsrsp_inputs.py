"""What is held for the disk is acted upon in its turn, also where the tunnel's end is made anew."""

from __future__ import annotations

import asyncio
import random

import pytest

from dsrsp.errors import StorageError
from dsrsp.ports import Changes
from dsrsp.sent_messages import SentMessages
from dsrsp.store import SqliteStore
from dsrsp.tunnel_inputs import TunnelInputs
from gbcs.steady import SteadyClock
from smtunnel.effects import Effects


class Outcomes:
    """Writes down what is acted upon; an end that is made anew says nothing here."""

    def __init__(self) -> None:
        self.acts: list[list[str]] = []

    def changes(self, effects, transmits, beside=None) -> Changes:
        return Changes(tunnel=effects.saves)

    def act(self, effects, changes, transmits, now) -> None:
        self.acts.append(list(effects.saves))


async def test_what_is_held_comes_before_an_end_that_is_made_anew(world, monkeypatch) -> None:
    config = world.config()
    storage = SqliteStore(":memory:", supplier_id=config.supplier_id)
    outcomes = Outcomes()
    inputs = TunnelInputs(
        config,
        storage=storage,
        sent=SentMessages(()),
        outcomes=outcomes,  # type: ignore[arg-type]
        wall=lambda: 0.0,
        clock=SteadyClock(lambda: 0.0, asyncio.get_running_loop().time),
        random_octets=random.Random(1).randbytes,
    )
    inputs.start()
    outcomes.acts.clear()
    monkeypatch.setattr(storage, "tunnel_rows", list)

    def fail(endpoint, now):
        raise StorageError("the disk is full")

    inputs.do(lambda endpoint, now: Effects(saves={"held": b""}), hold=True)
    with pytest.raises(StorageError):
        inputs.do(fail)
    inputs.do(lambda endpoint, now: Effects(saves={"later": b""}))
    assert outcomes.acts == [["held"], [], ["later"]]
    inputs.stop()
    storage.close()
