"""The two applications by themselves, to try things with::

    python -m lab.openadr_demo vtn --port 8080
    python -m lab.openadr_demo ven --url http://127.0.0.1:8703/OpenADR2/Simple/2.0b

The VTN sends each VEN that has registered an event: an hour at 2 kW, beginning now.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
from datetime import UTC, datetime, timedelta

from lab.openadr_demo import DemoVen, DemoVtn
from lab.openadr_demo.vtn import Happenings

_HOUR = timedelta(hours=1)


async def _tell(seen: Happenings) -> None:
    """Print what happens, a line each."""
    told = 0
    while True:
        await seen.wait_for(count=told + 1, timeout_s=float("inf"))
        for what in seen.log[told:]:
            sys.stdout.write(" ".join(str(part) for part in what) + "\n")
        sys.stdout.flush()
        told = len(seen.log)


async def _vtn(port: int, poll_s: int) -> None:
    async with DemoVtn(port, poll_interval=timedelta(seconds=poll_s)) as vtn:
        telling = asyncio.create_task(_tell(vtn.seen))
        registered = 0
        while not telling.done():
            registered += 1
            found = await vtn.seen.wait_for("registered", count=registered, timeout_s=float("inf"))
            ven_id = found[registered - 1][1]
            event_id = vtn.send_event(ven_id, [(datetime.now(UTC), _HOUR, 2000.0)])
            await vtn.seen.add("event sent", ven_id, event_id)


async def _ven(url: str) -> None:
    async with DemoVen(url) as ven:
        telling = asyncio.create_task(_tell(ven.seen))
        await ven.register()
        await telling


def main() -> None:
    """Run one of them until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m lab.openadr_demo")
    roles = parser.add_subparsers(dest="role", required=True)
    vtn = roles.add_parser("vtn", help="a VTN of openleadr")
    vtn.add_argument("--port", type=int, default=8080)
    vtn.add_argument("--poll-seconds", type=int, default=10, help="what it asks VENs to wait")
    ven = roles.add_parser("ven", help="a VEN of openleadr with a simulated charger")
    ven.add_argument("--url", default="http://127.0.0.1:8703/OpenADR2/Simple/2.0b")
    arguments = parser.parse_args()
    logging.getLogger("openleadr").setLevel(logging.ERROR)
    with contextlib.suppress(KeyboardInterrupt):
        if arguments.role == "vtn":
            asyncio.run(_vtn(arguments.port, arguments.poll_seconds))
        else:
            asyncio.run(_ven(arguments.url))


if __name__ == "__main__":
    main()
