"""Takes one way: starts what it needs, sends an event, watches it reach the charger and end."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lab.explain import MessageJourney, explain, list_messages, read_events
from lab.explain.join import Event
from lab.local_system import LocalSystem
from lab.openadr_demo import Happenings
from lab.openadr_demo.applications import Application
from lab.three_ways.counts import count
from lab.three_ways.story import FULL_POWER_W, Moments, Told, Way, WayStory
from lab.tls_files import write_tls_files

EVENT_POWER_W: Final = 2000.0
"""What the event lets the charger draw."""

EVENT_S: Final = 6.0
"""How long the event lasts, in seconds, unless told otherwise."""

_PATIENCE_S: Final = 20.0
_POLL_S: Final = 1
_REPORT_S: Final = 1
_DAEMONS: Final = ("dcc-sim", "dsrsp", "cem")


@dataclass(frozen=True, slots=True)
class _Joined:
    vtn: Application
    ven: Application
    system: LocalSystem | None

    def events(self) -> list[Event]:
        """Return what the journals have so far."""
        if self.system is None:
            return []
        return read_events(map(self.system.journal, _DAEMONS))


async def run_way(
    way: Way, folder: Path, pki: Path, tell: Told, *, event_s: float = EVENT_S
) -> WayStory:
    """Register, report, send an event, let it end, deregister.

    Args:
        way: how VTN and VEN are joined.
        folder: new; is filled with configurations, states, journals and logs.
        pki: the folder that `smtunnel pki init` made.
        tell: is told what each party does, as it does it.
        event_s: how long the event lasts, from the VTN's decision on.

    Raises:
        DemoError: something did not start, or did not happen in time.
    """
    folder.mkdir(parents=True)
    async with _joined(way, folder, pki, tell) as joined:
        vtn, ven = joined.vtn.seen, joined.ven.seen
        (_, ven_id, _), *_ = await vtn.wait_for("registered", timeout_s=_PATIENCE_S)
        tell("VEN", f"registers at the VTN and becomes {ven_id}", None)
        await vtn.wait_for("created", timeout_s=_PATIENCE_S)
        tell("VEN", "offers reports of its charger; the VTN wants one each second", None)
        await vtn.wait_for("values", timeout_s=_PATIENCE_S)
        await ven.wait_for("registered", timeout_s=_PATIENCE_S)
        tell("VTN", f"hears that the charger draws {FULL_POWER_W:g} W", None)
        await joined.vtn.order(do="event", ven_id=ven_id, power_w=EVENT_POWER_W, seconds=event_s)
        moments, journey = await _follow(joined, tell, event_s)
        await joined.ven.order(do="deregister")
        await vtn.wait_for("deregistered", timeout_s=_PATIENCE_S)
        await ven.wait_for("deregistered", timeout_s=_PATIENCE_S)
        tell("VEN", "deregisters", vtn.times[-1] - moments.decided)
        return WayStory(
            way=way,
            moments=moments,
            power=_power(joined.ven),
            heard=_heard(joined.vtn),
            vtn=joined.vtn.exchanges,
            ven=joined.ven.exchanges,
            counts=count(joined.vtn.exchanges, joined.ven.exchanges, joined.events()),
            journey=journey,
        )


@contextlib.asynccontextmanager
async def _joined(way: Way, folder: Path, pki: Path, tell: Told) -> AsyncIterator[_Joined]:
    async with contextlib.AsyncExitStack() as stack:
        arguments = ["--port", "0", "--poll-seconds", str(_POLL_S)]
        arguments += ["--report-seconds", str(_REPORT_S)]
        tls: list[str] = []
        if not way.tunnelled:
            write_tls_files(folder / "tls", ("vtn", "ven"))
            tls = ["--tls", str(folder / "tls")]
        vtn = await stack.enter_async_context(
            Application("vtn", *arguments, *tls, log=folder / "vtn.log")
        )
        url = await vtn.url()
        system = None
        if way.tunnelled:
            system = await stack.enter_async_context(
                LocalSystem(folder, pki, settings=_settings(url), route_2b=way is Way.ROUTE_2B)
            )
            if way is Way.ROUTE_2B:
                told = await system.route_2b_up()
                tell("DSRSP", "offers route 2b to the CEM, by route 2a", None)
                tell(
                    "CEM", f"takes it, dials {told['offer']['addresses'][0]}, checks the pin", None
                )
                tell("both", "prove their SMKI identity by a signed challenge", None)
            url = str(system.ready("cem")["openadr"])
        ven = await stack.enter_async_context(
            Application("ven", "--url", url, *tls, log=folder / "ven.log")
        )
        yield _Joined(vtn, ven, system)


def _settings(vtn_url: str) -> dict[str, str]:
    return {
        # Reports come each second here, which no alert storm protection would bear.
        "cem": 'alerts_per_window = 0\n[openadr]\nlisten = "127.0.0.1:0"',
        "dsrsp": f'[openadr]\nvtn_url = "{vtn_url}"',
    }


async def _follow(
    joined: _Joined, tell: Told, event_s: float
) -> tuple[Moments, MessageJourney | None]:
    """Follow the event to the charger and to its end."""
    vtn, ven = joined.vtn.seen, joined.ven.seen
    ((_, _, event_id),) = await vtn.wait_for("event sent", timeout_s=_PATIENCE_S)
    decided = float(vtn.log[_index(vtn, "decided")][3])
    tell("VTN", f"decides: at most {EVENT_POWER_W:g} W, from now, for {event_s:g} s", 0.0)
    await ven.wait_for("event", event_id, timeout_s=_PATIENCE_S)
    await ven.wait_for("power", EVENT_POWER_W, timeout_s=_PATIENCE_S)
    fetched = _when(joined.vtn, event_id, sent=True)
    who = "DSRSP" if joined.system is not None else "VEN"
    tell(who, f"polls the VTN (each {_POLL_S} s) and gets the event", fetched - decided)
    journey = _journey(joined, decided)
    crossed = None
    if journey is not None and journey.arrived_s is not None:
        crossed = journey.began + journey.arrived_s
        tell("CEM", f"has it whole; the VEN polls it each {_POLL_S} s", crossed - decided)
    received = _when(joined.ven, event_id, sent=False)
    tell("VEN", "has the event", received - decided)
    changed = ven.times[_index(ven, "power", EVENT_POWER_W)]
    tell("charger", f"goes down to {EVENT_POWER_W:g} W", changed - decided)
    await vtn.wait_for("event answered", timeout_s=_PATIENCE_S)
    answered = vtn.times[_index(vtn, "event answered")]
    tell("VTN", "gets the VEN's optIn", answered - decided)
    await ven.wait_for("power", FULL_POWER_W, count=2, timeout_s=event_s + _PATIENCE_S)
    returned = _power(joined.ven)[-1][0]
    tell("charger", f"goes back to {FULL_POWER_W:g} W", returned - decided)
    await vtn.wait_for("values", count=len(_heard(joined.vtn)) + 2, timeout_s=_PATIENCE_S)
    ends = decided + event_s
    return Moments(decided, fetched, crossed, received, changed, answered, ends, returned), journey


def _journey(joined: _Joined, decided: float) -> MessageJourney | None:
    """Return the event's journey: the first that the DSRSP sent after the decision."""
    events = joined.events()
    for message in list_messages(events):
        if message.component == "dsrsp" and message.t >= decided and message.state != "control":
            return explain(events, f"dsrsp:{message.ref}")
    return None


def _when(application: Application, event_id: str, *, sent: bool) -> float:
    """Return when the application first sent or received the event."""
    carrying = application.exchanges.named("oadrDistributeEvent", sent=sent)
    return next(exchanged.t for exchanged in carrying if event_id in exchanged.text)


def _index(seen: Happenings, *begins: object) -> int:
    return next(n for n, what in enumerate(seen.log) if what[: len(begins)] == begins)


def _power(ven: Application) -> list[tuple[float, float]]:
    """Return when the charger's power changed, and to what."""
    pairs = zip(ven.seen.times, ven.seen.log, strict=True)
    return [(t, float(what[1])) for t, what in pairs if what[0] == "power"]


def _heard(vtn: Application) -> list[tuple[float, float]]:
    """Return when the VTN had each report, and the last value in it."""
    pairs = zip(vtn.seen.times, vtn.seen.log, strict=True)
    return [(t, float(what[2][-1][1])) for t, what in pairs if what[0] == "values"]
