"""``smtunnel demo --messages``: seven OpenADR messages, each watched on its own."""

from __future__ import annotations

import os
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from lab.cli.app import EXIT_NO
from lab.cli.control_options import run_checked
from lab.cli.talk import STATE_WORDS
from lab.pki_files import write_test_pki
from lab.seven_messages import DemoResult, Leg, run_demo

_SAME = {True: "byte for byte as sent", False: "equal as canonical XML"}

_PICTURE = """\
  [bold]DSRSP[/] (OpenADR VTN)                                [bold]CEM[/] (OpenADR VEN)
    │ zlib, base64, cut                         put together, checked ▲
    ▼ [cyan]ECS46a[/], 110 characters a fragment                               │
  DCC adaptor ──DUIS──▶ [bold]DCC (simulated)[/] ──GBCS, MAC──▶ communications hub
    ▲                                                                 │
    └────DUIS──── DCC ◀────GBCS──── [cyan]ECS200[/], 1062 characters ◀─────────┘
"""


def show_messages(
    folder: Path, *, trace: Path | None, duis_schema: Path | None, compact: bool
) -> int:
    """Run, tell each message as it arrives, sum up; returns the exit code.

    Args:
        folder: for keys, configurations, states, journals and logs.
        trace: where every octet is written down, or None.
        duis_schema: the official DUIS schema, to validate against, or None.
        compact: leave the gateways to their default, the compact form of OpenADR XML.
    """
    console = Console(highlight=False)
    console.print("\nOpenADR 2.0b through Great Britain's smart metering system, route 2a\n")
    console.print(_PICTURE)
    result: DemoResult = run_checked(_work(folder, trace, duis_schema, compact, console))
    _summary(result, console)
    if trace is not None:
        console.print(
            f"Trace: {result.traced} messages and the keys to check them, in {trace}",
            soft_wrap=True,
        )
    return 0 if result.good else EXIT_NO


async def _work(
    folder: Path, trace: Path | None, duis_schema: Path | None, compact: bool, console: Console
) -> DemoResult:
    pki = folder / "pki"
    write_test_pki(pki, now=None, random_octets=os.urandom)
    return await run_demo(
        folder,
        pki,
        compact=compact,
        trace=trace,
        duis_schema=duis_schema,
        on_leg=lambda number, leg: _tell(number, leg, console),
    )


def _tell(number: int, leg: Leg, console: Console) -> None:
    way = "DSRSP → CEM" if leg.message.downlink else "CEM → DSRSP"
    console.print(
        f"[bold]{number}. {leg.message.name}[/]  {way}, {len(leg.message.octets)} octets of XML"
    )
    same = f"[green]{_SAME[leg.identical]}[/]" if leg.same else "[red]NOT what was sent[/]"
    moments = [(seconds, STATE_WORDS[state]) for seconds, state in leg.states]
    moments.append((leg.arrived_s, f"with the application, {same}"))
    # In order of time: an application has its message before the sender hears of it.
    for seconds, words in sorted(moments):
        console.print(f"   {seconds * 1000:8.1f} ms  {words}", soft_wrap=True)
    if leg.journey is not None:
        carrier = "ECS46a command" if leg.message.downlink else "ECS200 alert"
        plural = "" if leg.journey.fragments == 1 else "s"
        console.print(
            f"   {leg.journey.fragments} {carrier}{plural}; "
            f"GBCS {leg.journey.gbcs_octets} octets in {leg.journey.gbcs}; "
            f"DUIS {leg.journey.duis_octets} octets in {leg.journey.duis}\n"
        )


def _summary(result: DemoResult, console: Console) -> None:
    table = Table(
        title="What crossed, in octets", box=box.SIMPLE, collapse_padding=True, pad_edge=False
    )
    for heading in ("", "message", "way"):
        table.add_column(heading, no_wrap=True)
    for heading in ("XML", "cut in", "GBCS", "DUIS", "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("same", no_wrap=True)
    for number, leg in enumerate(result.legs, start=1):
        journey = leg.journey
        table.add_row(
            str(number),
            leg.message.name,
            "down" if leg.message.downlink else "up",
            str(len(leg.message.octets)),
            str(leg.final["fragments_total"]),
            "" if journey is None else str(journey.gbcs_octets),
            "" if journey is None else str(journey.duis_octets),
            f"{leg.arrived_s * 1000:.0f}",
            ("[green]octets[/]" if leg.identical else "[green]XML[/]")
            if leg.same
            else "[red]NO[/]",
        )
    console.print(table)
    same = sum(leg.same for leg in result.legs)
    identical = sum(leg.identical for leg in result.legs)
    total = len(result.legs)
    if identical == total:
        verdict = f"{total} of {total} messages arrived byte for byte as they were sent"
        hint = "With --compact the gateways' default form is sent, in fewer fragments."
    else:
        verdict = f"{same} of {total} messages arrived as they were sent, as canonical XML"
        hint = "Without --compact each is compared byte for byte."
    console.print(
        f"{verdict}, in {result.seconds:.1f} s with start and stop of the three processes. {hint}\n"
        "Real: every octet of GBCS, DUIS, signatures and MACs. Simulated: the DCC, its network "
        "(here without delays) and the communications hub."
    )
