"""Every captured OpenADR message through the real chain, both ways: untouched, and compact."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab.control_client import ControlClient
from lab.local_system import LocalSystem
from openadr_xml import NotCompactable, canonical


async def _carry(
    sender: ControlClient, receiver: ControlClient, message: bytes, *, compact: bool, to=None
) -> bytes:
    status = first = await sender.send(message, to=to, compact=compact)
    received = (await receiver.received(wait_s=30))[0]
    await receiver.ack(received.ref)
    async for status in sender.statuses(first["ref"]):
        if status["state"] in ("SENT", "REASSEMBLED", "FAILED"):
            break
    expected = ("SENT", "REASSEMBLED") if to is None else ("REASSEMBLED",)
    assert status["state"] in expected, status
    return received.message


def _canonical(message: bytes) -> bytes:
    try:
        return canonical(message)
    except NotCompactable:  # it goes as it is
        return message


async def test_every_message_arrives_as_it_was_sent_in_both_directions(
    new_system: Callable[..., LocalSystem], reference_vectors: Path
) -> None:
    messages = {p.name: p.read_bytes() for p in (reference_vectors / "openadr").glob("*.xml")}
    assert len(messages) > 40
    async with (
        new_system(
            duis_schema=reference_vectors / "duis" / "duis54.xsd",
            # So many messages at once are no use of the real network: without its protection.
            settings={"cem": "alerts_per_window = 0", "dsrsp": 'receipts = "each"'},
        ) as system,
        system.control("dsrsp") as dsrsp,
        system.control("cem") as cem,
    ):
        for name, message in messages.items():
            device = system.identities.device_id
            down = await _carry(dsrsp, cem, message, compact=False, to=device)
            assert down == message, f"{name} down"
            assert await _carry(cem, dsrsp, message, compact=False) == message, f"{name} up"
            same = _canonical(message)
            down = await _carry(dsrsp, cem, message, compact=True, to=device)
            assert _canonical(down) == same, f"{name} down, compact"
            up = await _carry(cem, dsrsp, message, compact=True)
            assert _canonical(up) == same, f"{name} up, compact"
