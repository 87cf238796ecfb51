"""Every captured OpenADR message through the real chain, both ways, byte for byte."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.control_client import ControlClient
from lab.local_system import LocalSystem


async def _carry(sender: ControlClient, receiver: ControlClient, message: bytes, to=None) -> bytes:
    status = first = await sender.send(message, to=to)
    received = (await receiver.received(wait_s=30))[0]
    await receiver.ack(received.ref)
    async for status in sender.statuses(first["ref"]):
        if status["state"] in ("SENT", "REASSEMBLED", "FAILED"):
            break
    assert status["state"] == ("SENT" if to is None else "REASSEMBLED"), status
    return received.message


async def test_every_message_arrives_as_it_was_sent_in_both_directions(
    new_system: Callable[..., LocalSystem], reference_vectors: Path
) -> None:
    messages = {p.name: p.read_bytes() for p in (reference_vectors / "openadr").glob("*.xml")}
    assert len(messages) > 40
    async with (
        new_system(duis_schema=reference_vectors / "duis" / "duis54.xsd") as system,
        system.control("dsrsp") as dsrsp,
        system.control("cem") as cem,
    ):
        for name, message in messages.items():
            down = await _carry(dsrsp, cem, message, to=system.identities.device_id)
            assert down == message, f"{name} down"
            assert await _carry(cem, dsrsp, message) == message, f"{name} up"
