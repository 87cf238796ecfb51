"""The demo as a user runs it, and every octet of its trace checked again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from gbcs.duis import Schema, parse_untrusted_request, parse_untrusted_response
from lab.daemon import read_duis_schema


@dataclass
class ThreeWays:
    folder: Path
    process: subprocess.Popen[str]

    @property
    def picture(self) -> Path:
        return self.folder / "charger.svg"

    @property
    def kept(self) -> Path:
        return self.folder / "kept"


@pytest.fixture(scope="module", autouse=True)
def three_ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreeWays]:
    """Begin the demo as a user does; it mostly waits, while the other tests here run."""
    folder = tmp_path_factory.mktemp("three-ways")
    process = subprocess.Popen(
        [
            *(sys.executable, "-W", "error", "-m", "lab", "demo", "--seconds", "3", "--json"),
            *("--picture", str(folder / "charger.svg"), "--keep", str(folder / "kept")),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        yield ThreeWays(folder, process)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    trace = tmp_path_factory.mktemp("demo") / "trace"
    finished = subprocess.run(
        [sys.executable, "-W", "error", "-m", "lab", "demo", "--messages", "--trace", str(trace)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout, trace


def test_the_demo_tells_the_journey_of_each_message(demo: tuple[str, Path]) -> None:
    output, _ = demo
    assert "oadrDistributeEvent" in output
    assert "7 of 7 messages arrived byte for byte as they were sent" in output.replace("\n", " ")
    assert "byte for byte as sent" in output
    assert "\x1b[" not in output  # no colours when not a terminal


def test_the_trace_has_what_readme_names(demo: tuple[str, Path]) -> None:
    _, trace = demo
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\btrace/([\w/.-]+\.\w+)", readme))
    assert len(named) >= 3
    for name in named:
        found = sorted(trace.glob(name.replace("NNNN", "[0-9]*")))
        assert found, name
        assert all(path.stat().st_size > 0 for path in found), name


def test_a_folder_that_is_in_use_is_refused_before_the_run(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    finished = _smtunnel("demo", "--messages", "--trace", str(tmp_path))
    assert finished.returncode == 3
    assert "not empty" in finished.stderr
    assert "1. oadr" not in finished.stdout


def _smtunnel(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "lab", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_inspect_finds_signatures_and_macs_of_the_trace_good(demo: tuple[str, Path]) -> None:
    _, trace = demo
    first_of_each = {
        p.name.split("-", 2)[2]: p for p in sorted(trace.glob("*-gbcs-*"), reverse=True)
    }
    assert set(first_of_each) == {
        f"{kind}.hex"
        for kind in ("pre-command", "signed-pre-command", "command", "response", "alert")
    }
    for path in first_of_each.values():
        finished = _smtunnel("gbcs", "inspect", str(path), "--keys", str(trace / "keys"))
        assert finished.returncode == 0, finished.stdout + finished.stderr


def test_inspect_says_no_when_one_octet_is_other(demo: tuple[str, Path], tmp_path: Path) -> None:
    _, trace = demo
    command = next(iter(sorted(trace.glob("*-gbcs-command.hex"))))
    octets = bytearray.fromhex(command.read_text())
    octets[-1] ^= 1
    forged = tmp_path / "forged.hex"
    forged.write_text(octets.hex())
    finished = _smtunnel("gbcs", "inspect", str(forged), "--keys", str(trace / "keys"))
    assert finished.returncode == 1, finished.stdout


def test_the_payloads_of_the_trace_decode_to_the_event(demo: tuple[str, Path]) -> None:
    _, trace = demo
    index = json.loads((trace / "index.json").read_text())
    fragments: dict[str, list[str]] = {}
    for row in index:
        if row["event"] == "carrier" and row["direction"] == "down":
            payload = (trace / row["file"]).read_text()
            fragments.setdefault(row["message_ref"], []).append(payload)
    longest = max(fragments.values(), key=len)
    assert len(longest) >= 3
    finished = subprocess.run(
        [sys.executable, "-m", "lab", "decode"],
        input="".join(reversed(longest)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    assert "oadrDistributeEvent" in finished.stdout


def test_every_duis_message_of_the_trace_is_valid(
    demo: tuple[str, Path], reference_vectors: Path
) -> None:
    _, trace = demo
    schema: Schema = read_duis_schema(reference_vectors / "duis" / "duis54.xsd")
    messages = sorted(trace.glob("*-duis-*.xml"))
    assert len(messages) > 50
    for path in messages:
        octets = path.read_bytes()
        schema.validate(octets)
        parse = parse_untrusted_request if b":Request " in octets else parse_untrusted_response
        parse(octets)


def test_the_compact_form_arrives_equal_as_canonical_xml() -> None:
    finished = _smtunnel("demo", "--messages", "--compact")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    output = finished.stdout.replace("\n", " ")
    assert "7 of 7 messages arrived as they were sent, as canonical XML" in output


def test_an_event_reaches_the_charger_by_three_ways(three_ways: ThreeWays) -> None:
    output, errors = three_ways.process.communicate(timeout=120)
    assert three_ways.process.returncode == 0, output + errors
    told = json.loads(output)
    assert told["good"] is True
    by_2a, by_2b, direct = told["ways"]
    assert [one["way"] for one in told["ways"]] == ["route 2a", "route 2b", "Stream 1"]
    for one in told["ways"]:
        assert len(one["checks"]) == 7
        assert all(check["good"] for check in one["checks"])
        assert [watts for _, watts in one["charger_w"]] == [7400.0, 2000.0, 7400.0]
        assert 0 < one["parts_s"]["decision to change"] < 3
    # What each way is made of.
    assert by_2a["counts"]["duis_requests"] > 10 * 2
    assert by_2a["counts"]["messages_2b"] == 0
    assert by_2b["counts"]["messages_2b"] > by_2b["counts"]["messages_2a"]
    assert by_2b["counts"]["duis_requests"] < by_2a["counts"]["duis_requests"] / 2
    assert direct["counts"]["messages"] == 0
    kinds = [{step["kind"] for step in one["journey"]["steps"]} for one in (by_2a, by_2b)]
    assert {"duis", "gbcs", "network", "post"} <= kinds[0]
    assert not {"duis", "network"} & kinds[1]
    assert direct["journey"] is None
    assert len(ET.parse(three_ways.picture).getroot()) > 50
    # What was kept is enough to tell any journey again.
    finished = _smtunnel("explain", "--folder", str(three_ways.kept / "route-2b"))
    assert finished.returncode == 0, finished.stderr
    keys = [path for path in three_ways.kept.rglob("*.key") if path.stat().st_mode & 0o077]
    assert keys == []
    assert "Traceback" not in "".join(path.read_text() for path in three_ways.kept.rglob("*.log"))
