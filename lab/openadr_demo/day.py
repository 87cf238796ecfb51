"""A day of one CEM in shortened time: what crosses, against what plain HTTP exchanges."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from lab.journal import read_journal
from lab.local_system import LocalSystem
from lab.openadr_demo.ven import DemoVen
from lab.openadr_demo.vtn import DemoVtn, ReportWish, new_values
from openadr_xml import compact
from smtunnel import (
    DICTIONARIES,
    ECS46A,
    ECS200,
    CompressionChoice,
    Originator,
    encode_message,
)

DAY_POLLS: Final = 8640
"""Polls in a day at openleadr's default of 10 seconds."""

_POLLS_A_REPORT: Final = 90  # a report each 15 minutes


@dataclass(frozen=True, slots=True)
class DayCounts:
    """What was counted. Messages over HTTP are requests and answers; what crossed by route 2a in
    fragments, and whole by route 2b, is all, with repetitions and the tunnel's control messages.
    """

    polls: int
    reports: int
    http_messages: int
    http_as_fragments_down_zlib: int
    http_as_fragments_up_zlib: int
    http_as_fragments_down: int
    http_as_fragments_up: int
    crossed_messages_down: int
    crossed_messages_up: int
    crossed_fragments_down: int
    crossed_fragments_up: int
    crossed_whole_down: int
    crossed_whole_up: int

    @property
    def messages_share(self) -> float:
        """Which part of the messages crossed."""
        return (self.crossed_messages_down + self.crossed_messages_up) / self.http_messages

    @property
    def fragments_share(self) -> float:
        """Which part of the fragments, as well compressed, would be left."""
        crossed = self.crossed_fragments_down + self.crossed_fragments_up
        return crossed / (self.http_as_fragments_down + self.http_as_fragments_up)

    def as_dict(self) -> dict[str, Any]:
        """Return the counts and shares by name."""
        return asdict(self) | {
            "messages_share_percent": round(100 * self.messages_share, 3),
            "fragments_share_percent": round(100 * self.fragments_share, 3),
        }


class _Exchanges:
    """Writes down all that a VEN exchanges with what it takes for its VTN."""

    def __init__(self, ven: DemoVen) -> None:
        self.messages = 0
        self.fragments: Counter[tuple[str, str]] = Counter()
        self._known: dict[tuple[str, str], int] = {}
        ven.client.hooks["before_send_xml"].append(lambda text: self._note("up", text))
        ven.client.hooks["after_receive_xml"].append(lambda text: self._note("down", text))

    def _note(self, way: str, text: str) -> None:
        if not text:
            return
        self.messages += 1
        self.fragments[way, "zlib"] += self._cost(way, text, "zlib")
        self.fragments[way, "best"] += self._cost(way, compact(text.encode()).decode(), "auto")

    def _cost(self, way: str, text: str, compression: CompressionChoice) -> int:
        # Polls and their answers are the same all day.
        key = f"{way} {compression}", text
        if key not in self._known:
            down = way == "down"
            self._known[key] = len(
                encode_message(
                    text.encode(),
                    carrier=ECS46A if down else ECS200,
                    originator=Originator.DSRSP if down else Originator.CEM,
                    tunnel_message_id=0,
                    compression=compression,
                    peer_dictionaries=() if compression == "zlib" else DICTIONARIES,
                ).payloads
            )
        return self._known[key]


async def measure_day(
    folder: Path, pki: Path, *, polls: int = DAY_POLLS, route_2b: bool = False
) -> DayCounts:
    """Run a day, or its first polls, through the chain of real processes.

    Args:
        folder: is filled with states, journals and logs.
        pki: the folder that `smtunnel pki init` made.
        polls: how often the VEN polls; without the pauses.
        route_2b: whether the DSRSP offers route 2b; it is up before the VEN begins.
    """
    quarter = timedelta(minutes=15)
    wish = ReportWish(quarter, quarter)
    async with (
        DemoVtn(0, poll_interval=timedelta(seconds=1), report_wish=wish) as vtn,
        LocalSystem(folder, pki, settings=_settings(vtn), route_2b=route_2b) as system,
        DemoVen(system.ready("cem")["openadr"]) as ven,
    ):
        if route_2b:
            await system.route_2b_up()
        exchanges = _Exchanges(ven)
        await ven.register()
        ven.client.scheduler.remove_all_jobs()  # its own timers: time is ours here
        reports = await _poll_all_day(vtn, ven, polls)
        await vtn.seen.wait_for("values", count=reports, timeout_s=120.0)
    return _count(system, exchanges, polls, reports)


def _settings(vtn: DemoVtn) -> dict[str, str]:
    url = f"http://127.0.0.1:{vtn.port}/OpenADR2/Simple/2.0b"
    return {
        # A day's reports in a minute: more alerts than alert storm protection would bear.
        "cem": 'alerts_per_window = 0\n[openadr]\nlisten = "127.0.0.1:0"',
        "dsrsp": f'[openadr]\nvtn_url = "{url}"',
    }


async def _poll_all_day(vtn: DemoVtn, ven: DemoVen, polls: int) -> int:
    """Poll; report each quarter of an hour; let events come, change and go. Return the reports."""
    plan = _Events(vtn, ven)
    moments = {polls * number // 8: step for number, step in enumerate(plan.steps(), start=1)}
    reports = 0
    for number in range(polls):
        if number in moments:
            moments[number]()
        if number % _POLLS_A_REPORT == 0:
            request = ven.client.report_requests[0]["report_request_id"]
            await ven.client.update_report(request)
            reports += 1
        await ven.client._poll()  # what its timer calls
    return reports


class _Events:
    """Two events in a day: both changed, one of them cancelled."""

    def __init__(self, vtn: DemoVtn, ven: DemoVen) -> None:
        self._vtn = vtn
        self._ven_id = ven.client.ven_id
        self._last = ""

    def steps(self) -> list[Any]:
        """Return what happens, in order."""
        return [self._send, self._change, self._send, self._change, self._cancel]

    def _send(self) -> None:
        start = datetime.now(UTC) + timedelta(hours=1)
        half_hour = timedelta(minutes=30)
        watts = [7400.0, 3700.0, 1400.0, 0.0, 0.0, 1400.0, 3700.0, 7400.0]
        self._last = self._vtn.send_event(
            self._ven_id,
            [(start + n * half_hour, half_hour, power) for n, power in enumerate(watts)],
        )

    def _change(self) -> None:
        self._vtn.modify_event(self._ven_id, self._last, lambda event: new_values(event, 2000.0))

    def _cancel(self) -> None:
        self._vtn.cancel_event(self._ven_id, self._last)


def _count(system: LocalSystem, exchanges: _Exchanges, polls: int, reports: int) -> DayCounts:
    fragments: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for name, way in (("dsrsp", "down"), ("cem", "up")):
        refs = set()
        for event in read_journal(system.journal(name)):
            if event["event"] != "carrier":
                continue
            if event["route"] == "2b":
                whole[way] += 1
            else:
                fragments[way] += 1
            if not event["control"]:
                refs.add(event["message_ref"])
        messages[way] = len(refs)
    return DayCounts(
        polls=polls,
        reports=reports,
        http_messages=exchanges.messages,
        http_as_fragments_down_zlib=exchanges.fragments["down", "zlib"],
        http_as_fragments_up_zlib=exchanges.fragments["up", "zlib"],
        http_as_fragments_down=exchanges.fragments["down", "best"],
        http_as_fragments_up=exchanges.fragments["up", "best"],
        crossed_messages_down=messages["down"],
        crossed_messages_up=messages["up"],
        crossed_fragments_down=fragments["down"],
        crossed_fragments_up=fragments["up"],
        crossed_whole_down=whole["down"],
        crossed_whole_up=whole["up"],
    )
