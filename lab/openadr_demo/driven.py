"""One of the two applications, driven by another process over its standard input and output.

Each line out is a JSON object with ``t``, seconds since 1970, and one of

    {"ready": URL}             the VTN listens
    {"saw": [WHAT, ...]}       something happened: see lab.openadr_demo.happenings
    {"sent": XML}, {"received": XML}   one message of an HTTP exchange

Each line in is one of

    {"do": "event", "ven_id": ID, "power_w": W, "seconds": S}   the VTN: limit from now on
    {"do": "deregister"}                                        the VEN

The end of the input ends the application.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

from lab.openadr_demo.happenings import Exchanged, Happenings
from lab.openadr_demo.ven import DemoVen
from lab.openadr_demo.vtn import DemoVtn


def _say(t: float, **what: Any) -> None:
    # sys.stdout itself leads elsewhere here: openleadr prints.
    if (out := sys.__stdout__) is not None:
        out.write(json.dumps({"t": t} | what, default=str) + "\n")
        out.flush()


def _say_exchanged(exchanged: Exchanged) -> None:
    _say(exchanged.t, **{"sent" if exchanged.sent else "received": exchanged.text})


async def _say_all(seen: Happenings) -> None:
    told = 0
    while True:
        await seen.wait_for(count=told + 1, timeout_s=float("inf"))
        for number in range(told, len(seen.log)):
            _say(seen.times[number], saw=seen.log[number])
        told = len(seen.log)


async def _orders() -> AsyncIterator[dict[str, Any]]:
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    try:
        while line := await reader.readline():
            yield json.loads(line)
    finally:
        transport.close()


async def drive_vtn(vtn: DemoVtn) -> None:
    """Run a VTN and do what is read, until the input ends."""
    vtn.exchanges.listener = _say_exchanged
    with contextlib.redirect_stdout(sys.stderr):
        async with vtn:
            telling = asyncio.create_task(_say_all(vtn.seen))
            _say(time.time(), ready=vtn.url)
            async for order in _orders():
                await _send_event(vtn, order["ven_id"], order["power_w"], order["seconds"])
            telling.cancel()


async def _send_event(vtn: DemoVtn, ven_id: str, power_w: float, seconds: float) -> None:
    start, length = datetime.now(UTC), timedelta(seconds=seconds)
    await vtn.seen.add("decided", ven_id, power_w, start.timestamp(), seconds)
    event_id = vtn.send_event(ven_id, [(start, length, power_w)])
    await vtn.seen.add("event sent", ven_id, event_id)


async def drive_ven(ven: DemoVen) -> None:
    """Run a VEN and do what is read, until the input ends."""
    ven.exchanges.listener = _say_exchanged
    with contextlib.redirect_stdout(sys.stderr):
        async with ven:
            telling = asyncio.create_task(_say_all(ven.seen))
            registering = asyncio.create_task(ven.register())
            async for order in _orders():
                if order["do"] == "deregister":
                    await registering
                    await ven.deregister()
            registering.cancel()
            telling.cancel()
