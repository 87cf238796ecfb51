"""What one CEM may take of the shared bounds."""

from __future__ import annotations

from dsrsp.inbox import Inbox
from dsrsp.ports import IncomingMessage


def test_one_device_cannot_shut_out_the_others(world):
    config = world.config(
        max_unacknowledged_messages=10,
        max_unacknowledged_octets=1000,
        max_unacknowledged_share=0.3,
    )
    inbox = Inbox([])

    def take(number, device, octets):
        inbox.take(IncomingMessage(f"m{number}", device, bytes(octets), 0.0))

    for number in range(3):
        assert inbox.too_much_waits(world.device, config) is None
        take(number, world.device, 10)
    assert "3 messages of 02-53" in (inbox.too_much_waits(world.device, config) or "")
    assert inbox.too_much_waits(world.other_device, config) is None
    inbox.forget("m0")
    inbox.forget("m0")
    assert inbox.too_much_waits(world.device, config) is None
    take(3, world.other_device, 300)
    assert "300 octets of messages of" in (inbox.too_much_waits(world.other_device, config) or "")
    # A restart counts what is in the store.
    again = Inbox([IncomingMessage(f"m{n}", world.device, b"x", 0.0) for n in range(3)])
    assert again.too_much_waits(world.device, config) is not None
    assert again.too_much_waits(world.other_device, config) is None
