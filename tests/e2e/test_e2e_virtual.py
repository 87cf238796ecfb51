"""The whole chain on virtual time with every fault; the same seed twice; what the accounts catch.

The same at full size, an hour with thousands of messages: `smtunnel virtual run`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dcc_sim import Fault, FaultKind, Hop
from lab.cast import device_id
from lab.virtual_accounts import Fate
from lab.virtual_faults import FaultPlan, Kill, every_fault
from lab.virtual_process import StateHome
from lab.virtual_run import RunPlan, run_plan

SHORT_S = 600.0
MESSAGES = 120
DEVICES = 3


def _virtual_run(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "lab", "virtual", "run", *arguments],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_every_fault_and_every_message_accounted_for() -> None:
    faults = every_fault(3, duration_s=SHORT_S, devices=DEVICES)
    plan = RunPlan(seed=3, duration_s=SHORT_S, devices=DEVICES, messages=MESSAGES, faults=faults)
    progress: list[tuple[float, int]] = []
    report = run_plan(plan, on_progress=lambda at_s, ended: progress.append((at_s, ended)))
    assert report.wrong == []
    fates = dict.fromkeys(Fate, 0)
    for (fate, reason), count in report.outcomes.items():
        fates[fate] += count
        assert reason or fate in (Fate.DELIVERED, Fate.UNPROMISED, Fate.UNPROMISED_DELIVERED)
    assert sum(fates.values()) == MESSAGES
    assert fates[Fate.DELIVERED] > MESSAGES / 2
    kinds = {fault.kind for fault in faults.scenario}
    assert kinds == set(FaultKind)
    assert {(f.kind, f.hop) for f in faults.scenario if f.hop} == {
        (kind, hop)
        for kind in (FaultKind.DROP, FaultKind.CORRUPT, FaultKind.DELAY, FaultKind.DUPLICATE)
        for hop in Hop
    } - {(FaultKind.DUPLICATE, Hop.ANSWER)}
    for deed in ("kill of the DSRSP", "kill of a CEM", "release from quarantine", "alert storms"):
        assert report.deeds[deed] > 0, deed
    assert report.deeds["starts of processes"] == 1 + DEVICES + len(faults.kills)
    assert progress[0] == (0.0, 0)
    assert progress[-1][1] == MESSAGES


def test_the_same_seed_twice_gives_the_same_octets() -> None:
    plan = ("--json", "--hours", "0.05", "--messages", "40", "--devices", "2")
    reports: list[dict[str, Any]] = []
    for seed, hash_seed in (("5", "1"), ("5", "77"), ("6", "1")):
        ran = _virtual_run(*plan, "--seed", seed, hash_seed=hash_seed)
        assert (ran.returncode, ran.stderr) == (0, ""), ran.stderr
        reports.append(json.loads(ran.stdout))
    for report in reports:
        del report["real_s"]
    assert reports[0] == reports[1]
    assert reports[0]["digest"] != reports[2]["digest"]


def _killed(*, cem: int | None) -> RunPlan:
    kills = tuple(Kill(at_s, cem, 1.0, None, before=True) for at_s in (60.0, 120.0, 180.0))
    return RunPlan(
        duration_s=240.0,
        devices=2,
        messages=40,
        profile="gb-assumed",
        faults=FaultPlan(kills=kills),
        settle_s=600.0,
        limit_s=20_000.0,
    )


@pytest.mark.parametrize("cem", [None, 0])
def test_state_that_a_kill_loses_is_caught(
    monkeypatch: pytest.MonkeyPatch, cem: int | None
) -> None:
    plan = _killed(cem=cem)
    assert run_plan(plan).wrong == []
    keeps = StateHome.open

    def forgets(home: StateHome[Any], life: Any) -> Any:
        home._store = None
        return keeps(home, life)

    monkeypatch.setattr(StateHome, "open", forgets)
    assert run_plan(plan).wrong


def test_a_scenario_of_the_simulator_and_journals(tmp_path: Path) -> None:
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('[[fault]]\nkind = "drop"\nhop = "command"\nat_s = 0\ncount = 3\n')
    journals = tmp_path / "journals"
    plan = ("--faults", str(scenario), "--hours", "0.02", "--messages", "6", "--devices", "1")
    ran = _virtual_run(*plan, "--profile", "none", "--journals", str(journals))
    assert (ran.returncode, ran.stderr) == (0, "")
    assert "Every message is accounted for." in ran.stdout
    assert "1 × fault drop on command" in ran.stdout
    assert {path.name for path in journals.iterdir()} == {
        "cem-0.journal",
        "dcc-sim.journal",
        "dsrsp.journal",
    }
    again = _virtual_run(*plan, "--journals", str(journals))
    assert (again.returncode, "journals in it already" in again.stderr) == (3, True)


@pytest.mark.parametrize(
    ("option", "words"),
    [(("--profile", "nowhere"), "nowhere"), (("--faults", "no-such.toml"), "no-such.toml")],
)
def test_what_is_not_there_is_told(option: tuple[str, str], words: str) -> None:
    ran = _virtual_run(*option, "--messages", "1")
    assert ran.returncode == 3
    assert words in ran.stderr


def test_faults_have_something_to_hit() -> None:
    only = Fault(kind=FaultKind.REVOKE, entity_id=device_id(0))
    plan = RunPlan(
        duration_s=60.0,
        devices=1,
        messages=4,
        profile="none",
        faults=FaultPlan(scenario=(only,)),
    )
    report = run_plan(plan)
    assert report.wrong == []
    assert all(fate is not Fate.DELIVERED for fate, _ in report.outcomes)
