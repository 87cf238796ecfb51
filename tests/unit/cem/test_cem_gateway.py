from __future__ import annotations

from smtunnel import DeliveryState


async def test_message_down_and_up(world, hub) -> None:
    message = bytes(range(256)) * 2
    async with world.gateway(world.config(hub_url=hub.url)) as gateway:
        device = await hub.devices.get()
        for command in world.commands(message, first_counter=1000):
            await device.send(command)
            assert world.response(await device.recv()).success
        received = await anext(gateway.received())
        assert received.message == message
        assert received.peer == world.supplier_id
        await received.ack()
        handle = await gateway.send(b"an answer")
        alert = world.alert(await device.recv())
        assert alert.originator_counter == 1
        assert (await handle.wait()).state is DeliveryState.SENT
