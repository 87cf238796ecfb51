"""Journals of a deployment as results: what can be joined, and what is said of the rest."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lab.cli.app import run
from lab.study.errors import StudyResultError
from lab.study.findings import Results
from lab.study.from_journals import tables_from_journals

DEVICES = [f"02-53-4D-54-10-00-00-0{number}" for number in range(3)]


@pytest.fixture(scope="module")
def journals(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Those of a DSRSP, three CEMs and the simulator; both routes."""
    folder = tmp_path_factory.mktemp("journals") / "all"
    arguments = ["--devices", "3", "--messages", "30", "--faults", "none", "--internet-ms", "30"]
    assert run(["virtual", "run", *arguments, "--hours", "5", "--journals", str(folder)]) == 0
    return sorted(folder.iterdir())


@pytest.fixture
def changed(
    journals: list[Path], tmp_path: Path
) -> Callable[[Callable[[dict[str, Any]], dict[str, Any] | None]], list[Path]]:
    """Makes journals of the same names with other events."""

    def change(work: Callable[[dict[str, Any]], dict[str, Any] | None]) -> list[Path]:
        made = []
        for path in journals:
            events = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
            kept = [one for event in events if (one := work(event)) is not None]
            made.append(tmp_path / path.name)
            made[-1].write_text("".join(json.dumps(one) + "\n" for one in kept), "utf-8")
        return made

    return change


def rows(folder: Path) -> list[dict[str, Any]]:
    return list(Results(folder).table("messages").to_pylist())


def without_device(event: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value
        for name, value in event.items()
        if name != "device" or event["component"] != "cem"
    }


def heard_by_cem(event: dict[str, Any]) -> bool:
    name = str(event.get("message_ref", "")).split("-")
    return event["component"] == "cem" and event.get("state") == "reassembled" and len(name) == 3


def test_each_way_is_a_case_of_its_own(journals: list[Path], tmp_path: Path) -> None:
    told = tables_from_journals(journals, tmp_path / "out", "measured")
    assert (told.messages, told.untimed, told.clocks_differ_s) == (30, 0, 0)
    found = Results(tmp_path / "out")
    assert {info.route for info in found.cases} > {"2b"}
    assert all(row["outcome"] == "delivered" for row in rows(tmp_path / "out"))
    assert {row["cem"] for row in rows(tmp_path / "out")} == set(DEVICES)
    for info in found.cases:
        assert (found.counter([info], "internet_octets") > 0) == (info.route == "2b")
        assert found.counter([info], "messages") > 0


def test_whose_journal_it_is_is_found_by_what_it_heard(
    journals: list[Path], changed: Any, tmp_path: Path
) -> None:
    tables_from_journals(journals, tmp_path / "said", "measured")
    tables_from_journals(changed(without_device), tmp_path / "found", "measured")
    assert rows(tmp_path / "found") == rows(tmp_path / "said")


def test_a_journal_that_could_be_anybody_s_is_not_guessed(
    changed: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deaf = changed(lambda event: None if heard_by_cem(event) else without_device(event))
    out = str(tmp_path / "out")
    arguments = ["study", "from-journals", *map(str, deaf), "--out", out]
    assert run(arguments) == 3
    said = capsys.readouterr().err
    assert "whose journal is this?" in said
    assert f"--whose {deaf[0]}={DEVICES[0]}" in said
    assert not Path(out).exists()
    whose = dict(zip(deaf, DEVICES, strict=False))
    tables_from_journals(deaf, tmp_path / "told", "measured", whose)
    up = [row for row in rows(tmp_path / "told") if row["direction"] == "up"]
    assert up
    assert all(row["latency_s"] > 0 for row in up)


def test_what_nobody_saw_arrive_is_left_out_and_told(
    journals: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    known = [path for path in journals if path.name in ("cem-0.journal", "dsrsp.journal")]
    out = tmp_path / "out"
    assert run(["study", "from-journals", *map(str, known), "--out", str(out)]) == 0
    assert "more messages are left out: the journal of their receiver" in capsys.readouterr().err
    assert {row["cem"] for row in rows(out)} == {DEVICES[0]}
    assert all(row["outcome"] == "delivered" for row in rows(out))
    alone = [path for path in known if path.name == "dsrsp.journal"]
    with pytest.raises(StudyResultError, match="stands in the journal of its receiver"):
        tables_from_journals(alone, tmp_path / "none", "measured")


@pytest.mark.parametrize("seconds", [-1000.0, 1000.0])
def test_clocks_that_differ_are_told(
    changed: Any, tmp_path: Path, seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    def late(event: dict[str, Any]) -> dict[str, Any]:
        is_cem = event["component"] == "cem"
        return {**event, "t": event["t"] + seconds} if is_cem else event

    out = str(tmp_path / "out")
    assert run(["study", "from-journals", *map(str, changed(late)), "--out", out]) == 0
    said = capsys.readouterr().err
    assert "The clocks of these journals differ by 9" in said


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"event": "carrier", "message_ref": "x"}, "tunnel_message_id"),
        (
            {"event": "message", "message_ref": "y", "state": "queued", "message_octets": "abc"},
            "abc",
        ),
        ({"event": "message", "message_ref": "z", "state": "queued", "t": float("nan")}, "line 2"),
    ],
)
def test_a_journal_of_other_make_is_told_what_it_lacks(
    tmp_path: Path, line: dict[str, Any], told: str
) -> None:
    path = tmp_path / "own.journal"
    first = {"t": 1.0, "component": "dsrsp", "event": "message"}
    first |= {"message_ref": "x", "state": "queued"}
    lines = [first, {"t": 2.0, "component": "dsrsp"} | line]
    path.write_text("".join(json.dumps(one) + "\n" for one in lines), "utf-8")
    with pytest.raises(StudyResultError, match=told):
        tables_from_journals([path], tmp_path / "out", "measured")
    assert not (tmp_path / "out").exists()


def test_an_owner_that_is_none_is_refused(
    journals: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["study", "from-journals", str(journals[0]), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--whose", f"{journals[0]}=me"]) == 2
    assert run([*arguments, "--whose", f"other={DEVICES[0]}"]) == 3
    assert "not among those given" in capsys.readouterr().err
