"""The two applications by themselves, to try things with::

    python -m lab.openadr_demo vtn --port 8080
    python -m lab.openadr_demo ven --url http://127.0.0.1:8703/OpenADR2/Simple/2.0b

The VTN sends each VEN that has registered an event: an hour at 2 kW, beginning now.

With --tls FOLDER both use mutual TLS: ca.pem and vtn.pem, vtn.key or ven.pem, ven.key in there, as
`smtunnel stream-1 keys FOLDER` makes them. With --json they are driven by a program: see
lab.openadr_demo.driven.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from lab.openadr_demo import DemoVen, DemoVtn, Happenings, ReportWish
from lab.openadr_demo.driven import drive_ven, drive_vtn
from lab.openadr_demo.tls import ven_options, vtn_options

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


async def _vtn(vtn: DemoVtn) -> None:
    async with vtn:
        telling = asyncio.create_task(_tell(vtn.seen))
        registered = 0
        while not telling.done():
            registered += 1
            found = await vtn.seen.wait_for("registered", count=registered, timeout_s=float("inf"))
            ven_id = found[registered - 1][1]
            event_id = vtn.send_event(ven_id, [(datetime.now(UTC), _HOUR, 2000.0)])
            await vtn.seen.add("event sent", ven_id, event_id)


async def _ven(ven: DemoVen) -> None:
    async with ven:
        telling = asyncio.create_task(_tell(ven.seen))
        await ven.register()
        await telling


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m lab.openadr_demo")
    roles = parser.add_subparsers(dest="role", required=True)
    vtn = roles.add_parser("vtn", help="a VTN of openleadr")
    vtn.add_argument("--port", type=int, default=8080, help="on 127.0.0.1; 0: any free one")
    vtn.add_argument("--poll-seconds", type=int, default=10, help="what it asks VENs to wait")
    vtn.add_argument(
        "--report-seconds", type=int, default=900, help="how often it wants reports, and values"
    )
    ven = roles.add_parser("ven", help="a VEN of openleadr with a simulated charger")
    ven.add_argument("--url", default="http://127.0.0.1:8703/OpenADR2/Simple/2.0b")
    for role in (vtn, ven):
        role.add_argument("--tls", type=Path, metavar="FOLDER", help="use mutual TLS, keys in here")
        role.add_argument("--json", action="store_true", help="be driven by a program")
    return parser.parse_args()


async def _run(arguments: argparse.Namespace) -> None:
    tls: Path | None = arguments.tls
    if arguments.role == "vtn":
        every = timedelta(seconds=arguments.report_seconds)
        vtn = DemoVtn(
            arguments.port,
            poll_interval=timedelta(seconds=arguments.poll_seconds),
            report_wish=ReportWish(every, every),
            **({} if tls is None else vtn_options(tls)),
        )
        await (drive_vtn(vtn) if arguments.json else _vtn(vtn))
    else:
        ven = DemoVen(arguments.url, **({} if tls is None else ven_options(tls)))
        await (drive_ven(ven) if arguments.json else _ven(ven))


def main() -> None:
    """Run one of them until Ctrl-C, or until its program lets go of it."""
    arguments = _arguments()
    logging.getLogger("openleadr").setLevel(logging.ERROR)
    try:
        asyncio.run(_run(arguments))
    except OSError as error:
        sys.exit(f"{arguments.role}: {error}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
