"""What takes longest of the study: the long studies, cut short, and real processes."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from gbcs.pki import DEFAULT_DEVICE
from lab.cli.app import run
from lab.journal import read_journal
from lab.study.findings import Results
from lab.study.from_journals import tables_from_journals
from lab.study.report import write_report
from lab.study.runner import RunSettings, run_study
from lab.study.study_file import load_study, tried


@pytest.mark.parametrize("name", ["paper", "gb"])
def test_the_long_studies_run_with_few_cems(name: str, tmp_path: Path) -> None:
    study = tried(load_study(name))
    modelled = [one for one in study.experiments if one.engines == ("fleet",)]
    # Compressing the largest messages takes longer than all the rest.
    modelled = [
        msgspec.structs.replace(
            one,
            vary={
                path: values[:1] if path == "workload.message_octets" else values
                for path, values in one.vary.items()
            },
        )
        for one in modelled
    ]
    study = msgspec.structs.replace(study, experiments=tuple(modelled))
    manifest = run_study(study, tmp_path, RunSettings(workers=1))
    found = Results(tmp_path)
    assert manifest["cases"] == len(found.cases) >= 40
    assert all(found.counter([info], "messages") > 0 for info in found.cases)
    if name == "gb":
        page = write_report(tmp_path).read_text(encoding="utf-8")
        for heading in ("What each change would buy", "What the shared parts carry"):
            assert f"{heading}</h2>" in page
        assert "which assumption matters?" in page


def test_real_processes_measured_live_and_from_their_journals(tmp_path: Path) -> None:
    study = tmp_path / "live.toml"
    study.write_text(
        """
name = "live"
[[routes]]
name = "2a"
kind = "2a"
[[workloads]]
name = "one home"
kind = "session"
cems = 1
[[networks]]
name = "nothing between"
profile = "none"
live_time_scale = 100.0
[[experiments]]
name = "live"
engines = ["live"]
routes = ["2a"]
""",
        encoding="utf-8",
    )
    assert run(["study", "run", str(study), "--out", str(tmp_path / "live"), "--no-report"]) == 0
    rows = Results(tmp_path / "live").table("messages").to_pylist()
    assert [row["outcome"] for row in rows] == ["delivered"] * 7
    assert {row["type"] for row in rows} >= {"oadrDistributeEvent", "oadrUpdateReport"}
    assert all(row["latency_s"] > 0 for row in rows)

    assert run(["demo", "--messages", "--keep", str(tmp_path / "demo")]) == 0
    journals = [tmp_path / "demo" / f"{name}.journal" for name in ("dsrsp", "cem", "dcc-sim")]
    assert {event["device"] for event in read_journal(journals[1])} == {str(DEFAULT_DEVICE)}
    measured = tmp_path / "measured"
    assert run(["study", "from-journals", "--out", str(measured), *map(str, journals)]) == 0
    with_dcc = Results(measured)
    assert [row["outcome"] for row in with_dcc.table("messages").to_pylist()] == ["delivered"] * 7
    assert with_dcc.counter(with_dcc.cases, "duis_requests") > 0
    # A real DCC gives no journal: latencies are known all the same.
    assert tables_from_journals(journals[:2], tmp_path / "without", "measured").messages == 7
    without = Results(tmp_path / "without").table("messages").to_pylist()
    assert [row["latency_s"] for row in without] == [
        row["latency_s"] for row in with_dcc.table("messages").to_pylist()
    ]
