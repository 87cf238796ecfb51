"""A gateway in a process of its own, for tests that kill it; talks JSON lines on stdin and stdout.

Arguments: settings (JSON), folder of keys, file descriptor of the listener, offset of the clock.
"""

from __future__ import annotations

import asyncio
import base64
import json
import socket
import sys
import time
from pathlib import Path

from dsrsp import DsrspConfig, Gateway
from gbcs.entity_id import EntityId
from gbcs.keystore import KeyStore


def say(**fields: object) -> None:
    sys.stdout.write(json.dumps(fields) + "\n")
    sys.stdout.flush()


async def hand_out(gateway: Gateway, taken: dict[str, object]) -> None:
    async for received in gateway.received():
        taken[received.ref] = received
        say(received=received.ref, message=base64.b64encode(received.message).decode())


async def watch(gateway: Gateway, ref: str) -> None:
    async for status in gateway.handle(ref).statuses():
        say(ref=ref, state=status.state.name, reason=status.reason, final=status.final)


async def main() -> None:
    settings, keys, descriptor, offset_s = sys.argv[1:]
    config = json.loads(settings)
    for name in ("supplier_id", "load_controller_id"):
        config[name] = EntityId.parse(config[name])
    pems = {path.name: path.read_bytes() for path in Path(keys).iterdir()}
    gateway = Gateway(
        DsrspConfig(**config),
        KeyStore.from_pems(pems, test_mode=True),
        clock=lambda: time.time() + float(offset_s),
        listener=socket.socket(fileno=int(descriptor)),
    )
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    taken: dict[str, object] = {}
    async with gateway:
        tasks = [asyncio.create_task(hand_out(gateway, taken))]
        say(ready=True)
        while line := await lines.readline():
            order = json.loads(line)
            if "send" in order:
                handle = await gateway.send(
                    EntityId.parse(order["to"]), base64.b64decode(order["send"])
                )
                say(sent=handle.ref)
            elif "watch" in order:
                tasks.append(asyncio.create_task(watch(gateway, order["watch"])))
            elif "ack" in order:
                await taken[order["ack"]].ack()  # type: ignore[attr-defined]
                say(acknowledged=order["ack"])
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main())
