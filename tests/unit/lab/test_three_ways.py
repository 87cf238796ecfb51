"""The demo's judgement: each check can fail; picture, table and failure as a user meets them."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lab.cli import demo as demo_command
from lab.cli.app import run
from lab.errors import DemoError
from lab.explain.journey import Delivery, JourneyStep, MessageJourney, Party
from lab.openadr_demo import Exchanges
from lab.three_ways import Counts, Moments, Way, WayStory, check, draw
from lab.three_ways.hops import hops_of

NAMES_DOWN = ("oadrCreatedPartyRegistration", "oadrRegisteredReport", "oadrDistributeEvent")
NAMES_UP = (
    "oadrCreatePartyRegistration",
    "oadrRegisterReport",
    "oadrUpdateReport",
    "oadrCreatedEvent",
    "oadrCancelPartyRegistration",
)


def payload(name: str, inside: str = "<registrationID>1</registrationID>") -> str:
    return f"<oadrPayload><{name} >{inside}</{name}></oadrPayload>"


def exchanges(sent: tuple[str, ...], received: tuple[str, ...]) -> Exchanges:
    made = Exchanges()
    for names, way in ((sent, True), (received, False)):
        for name in names:
            made.note(payload(name), sent=way, t=1.0)
    return made


def journey(route: str = "2a", *, arrived: bool = True) -> MessageJourney:
    deliveries = tuple(Delivery(i, 1, 10 + i, 100.5, 110, route) for i in range(2))
    steps = [
        JourneyStep(100.5, Party.DSRSP, Party.DSRSP, f"fragment {d.index} handed on", octets=110,
                    delivery=d, kind="carrier")
        for d in deliveries
    ]  # fmt: skip
    steps += [
        JourneyStep(100.51 + d.index / 100, Party.DSRSP, Party.DCC, "asks", octets=7, delivery=d)
        for d in deliveries
    ]
    if arrived:
        steps.append(JourneyStep(100.6, Party.CEM, Party.CEM, "reassembled", kind="message"))
    return MessageJourney(
        "ref", True, "device", 0, 500, 2, "reassembled", "", deliveries, tuple(steps)
    )


def story(way: Way = Way.ROUTE_2A, **changes: Any) -> WayStory:
    route = {Way.ROUTE_2A: "2a", Way.ROUTE_2B: "2b"}.get(way)
    made = WayStory(
        way=way,
        moments=Moments(100.0, 100.4, 100.6, 100.7, 100.8, 100.9, 106.0, 106.002),
        power=[(95.0, 7400.0), (100.8, 2000.0), (106.002, 7400.0)],
        heard=[(99.0, 7400.0), (101.0, 2000.0), (107.0, 7400.0)],
        vtn=exchanges(NAMES_DOWN, (*NAMES_UP, "oadrPoll")),
        ven=exchanges(NAMES_UP, (*NAMES_DOWN, "oadrResponse")),
        counts=Counts(ven_http=40, vtn_http=38, messages=9, messages_2a=11, fragments=20),
        journey=None if route is None else journey(route),
    )
    return replace(made, **changes)


@pytest.mark.parametrize("way", Way)
def test_what_went_well_is_found_good(way: Way) -> None:
    one = story(way)
    if way is Way.STREAM_1:  # here even polls and their answers go from one to the other
        one = story(
            way,
            vtn=exchanges((*NAMES_DOWN, "oadrResponse"), (*NAMES_UP, "oadrPoll")),
            ven=exchanges((*NAMES_UP, "oadrPoll"), (*NAMES_DOWN, "oadrResponse")),
        )
    assert [found for found in check(one, 2000.0) if not found.good] == []


def altered(**moments: float) -> WayStory:
    return replace(story(), moments=replace(story().moments, **moments))


def with_vtn(change: Callable[[Exchanges], None]) -> WayStory:
    vtn = exchanges(NAMES_DOWN, (*NAMES_UP, "oadrPoll"))
    change(vtn)
    return story(vtn=vtn)


BAD = {
    "what the VEN got is what the VTN sent": [
        story(ven=exchanges(NAMES_UP, (*NAMES_DOWN, "oadrCancelReport"))),
        story(ven=exchanges(NAMES_UP, NAMES_DOWN[:2])),
    ],
    "what the VTN got is what the VEN sent": [
        with_vtn(lambda vtn: vtn.note(payload("oadrCreatedEvent", "other"), sent=False)),
        story(vtn=exchanges(NAMES_DOWN, NAMES_UP[1:])),
    ],
    "the charger did what the event asked, and nothing else": [
        story(power=[(95.0, 7400.0), (100.8, 3000.0), (106.0, 7400.0)]),
        story(power=[(95.0, 7400.0), (100.8, 2000.0)]),
    ],
    "it did so within the event's interval": [altered(changed=106.5), altered(changed=99.9)],
    "it returned when the event was over": [altered(returned=107.5), altered(returned=105.9)],
    "the VTN heard of it in the VEN's reports": [
        story(heard=[(99.0, 7400.0), (107.0, 7400.0)]),
        story(heard=[(101.0, 2000.0)]),
    ],
    "the event went this way, and arrived whole": [
        story(journey=journey("2b")),
        story(journey=journey(arrived=False)),
        story(Way.ROUTE_2B, journey=journey("2a")),
    ],
    "the event's journey is in the journals": [story(journey=None)],
    "nothing went through a tunnel": [story(Way.STREAM_1, journey=journey())],
}


@pytest.mark.parametrize(
    ("name", "one"), [(name, one) for name, stories in BAD.items() for one in stories]
)
def test_each_check_can_fail(name: str, one: WayStory) -> None:
    found = {each.name: each for each in check(one, 2000.0)}
    assert not found[name].good
    assert found[name].detail


def test_the_same_xml_written_otherwise_is_the_same() -> None:
    ven = exchanges(NAMES_UP, NAMES_DOWN[:2])
    ven.note(payload("oadrDistributeEvent").replace(" >", ">"), sent=False)
    good = {found.name: found for found in check(story(ven=ven), 2000.0)}
    arrived = good["what the VEN got is what the VTN sent"]
    assert arrived.good
    assert "1 equal as canonical XML" in arrived.detail


def test_hops_put_together_what_is_alike() -> None:
    hops = [(hop.way, hop.title, hop.count, hop.octets) for hop in hops_of(journey())]
    assert hops == [
        ("DSRSP", "fragment handed on", 2, 220),
        ("DSRSP → DCC", "asks", 2, 14),
        ("CEM", "reassembled", 1, 0),
    ]


def test_the_picture_has_a_lane_for_each_way_and_says_what_it_shows() -> None:
    stories = [story(way) for way in Way]
    tree = ET.fromstring(draw(stories, 2000.0))
    words = [text.text or "" for text in tree.iter("{http://www.w3.org/2000/svg}text")]
    for expected in ("What the charger did", "Route 2a", "Route 2b", "Stream 1", "2 kW", "0 s"):
        assert expected in words
    curves = [
        path.attrib["d"]
        for path in tree.iter("{http://www.w3.org/2000/svg}path")
        if path.attrib["class"] == "power"
    ]
    assert len(curves) == 3
    left, step, back, right = map(float, re.findall(r"[MH]([\d.]+)", curves[0]))
    # Two seconds before the decision, 0.8 s after it, the event's end at 6 s, two seconds more.
    assert (step - left) / (right - left) == pytest.approx(2.8 / 10, abs=0.001)
    assert (back - left) / (right - left) == pytest.approx(8.002 / 10, abs=0.001)


@pytest.fixture
def ways(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[Way, WayStory | DemoError]:
    outcomes: dict[Way, WayStory | DemoError] = {way: story(way) for way in Way}
    outcomes[Way.STREAM_1] = story(Way.STREAM_1, vtn=Exchanges(), ven=Exchanges())

    async def run_way(way: Way, folder: Path, *_: object, **__: object) -> WayStory:
        folder.mkdir(parents=True)
        (folder / "dsrsp.log").write_text("words")
        outcome = outcomes[way]
        if isinstance(outcome, DemoError):
            raise outcome
        return outcome

    monkeypatch.setattr(demo_command, "run_way", run_way)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    same = exchanges((*NAMES_DOWN, *NAMES_UP), (*NAMES_DOWN, *NAMES_UP))
    outcomes[Way.STREAM_1] = story(Way.STREAM_1, vtn=same, ven=same)
    return outcomes


def left_over(tmp_path: Path) -> list[Path]:
    return list(tmp_path.glob("smtunnel-demo-*"))


def test_all_good(
    ways: dict[Way, WayStory | DemoError], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "new" / "p.svg"
    assert run(["demo", "--picture", str(picture)]) == 0
    output = capsys.readouterr().out
    assert output.rstrip().endswith(f"What the charger did: {picture}")
    assert "checks hold" in output
    assert "\x1b[" not in output
    assert re.search(r"decision to change +800.0 +800.0 +800.0", output)
    assert picture.read_text().startswith("<svg")
    assert left_over(tmp_path) == []


def test_a_check_that_fails_is_exit_code_1_and_the_logs_stay(
    ways: dict[Way, WayStory | DemoError], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways[Way.ROUTE_2B] = story(Way.ROUTE_2B, heard=[])
    assert run(["demo", "--picture", str(tmp_path / "p.svg"), "--json"]) == 1
    captured = capsys.readouterr()
    told = json.loads(captured.out)
    assert told["good"] is False
    bad = [one for way in told["ways"] for one in way["checks"] if not one["good"]]
    assert [one["name"] for one in bad] == ["the VTN heard of it in the VEN's reports"]
    (folder,) = left_over(tmp_path)
    assert str(folder) in captured.err
    assert (folder / "route-2b" / "dsrsp.log").exists()


def test_what_does_not_happen_in_time_is_told_with_the_way_and_the_place_of_the_logs(
    ways: dict[Way, WayStory | DemoError], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ways[Way.ROUTE_2A] = DemoError("the event did not happen")
    assert run(["demo", "--picture", str(tmp_path / "p.svg")]) == 1
    told = capsys.readouterr().err
    assert "route 2a: the event did not happen" in told
    assert str(left_over(tmp_path)[0]) in told


@pytest.mark.parametrize("option", ["--compact", "--trace=somewhere"])
def test_options_of_the_messages_need_them(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["demo", option]) == 2
    assert "go with --messages" in capsys.readouterr().err


def test_a_folder_in_use_is_not_taken(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine").write_text("keep")
    assert run(["demo", "--keep", str(tmp_path)]) == 3
    assert "not empty" in capsys.readouterr().err
