"""The study's command, whole: files in, tables, figures and page out."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from lab.cli.app import run
from lab.study.findings import Results
from lab.study.store import results_digest

ROOT = Path(__file__).resolve().parents[2]

SMALL = """
name = "small"
title = "A small study"
question = "Does it all hold together?"
bootstrap_resamples = 50
[[routes]]
name = "2a"
kind = "2a"
[[routes]]
name = "2b"
kind = "2b"
[[workloads]]
name = "dispatch"
kind = "dispatch"
cems = 52000
spread_s = 7200.0
[[workloads]]
name = "trial"
kind = "dispatch"
cems = 24
spread_s = 60.0
[[networks]]
name = "half and half"
regions = { north = 1, central-south = 1 }
[[experiments]]
name = "routes"
workloads = ["dispatch"]
[[experiments]]
name = "more at once"
workloads = ["dispatch"]
vary = { "workload.cems" = [1000, 20000], "workload.spread_s" = [0.0] }
[[experiments]]
name = "engines"
engines = ["virtual", "fleet"]
workloads = ["trial"]
"""


@pytest.fixture(scope="module")
def study_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("study") / "small.toml"
    path.write_text(SMALL, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def results(study_file: Path) -> Path:
    out = study_file.parent / "results"
    assert run(["study", "run", str(study_file), "--out", str(out), "--workers", "2"]) == 0
    return out


def digests(folder: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
        if path.suffix in (".parquet", ".csv", ".md")
    }


def test_a_second_run_with_other_workers_gives_the_same_octets(
    study_file: Path, results: Path
) -> None:
    again = study_file.parent / "again"
    arguments = ["study", "run", str(study_file), "--out", str(again), "--workers", "1"]
    assert run([*arguments, "--no-report"]) == 0
    assert digests(again) == digests(results)
    assert len(digests(results)) == 13
    assert results_digest(again) == results_digest(results)


def test_the_page_needs_nothing_from_elsewhere(results: Path) -> None:
    page = (results / "report.html").read_text(encoding="utf-8")
    assert "A small study" in page
    assert page.index("assumed") < page.index("Which route meets which deadline")
    for address in re.findall(r'(?:src|href)="([^"]*)"', page):
        assert address.startswith(("#", "figures/"))
        if address.startswith("figures/"):
            assert (results / address).is_file()
    assert page.count("<svg") >= 6
    assert "<script" not in page
    names = re.findall(r'\bid="([^"]+)"', page)
    assert len(names) == len(set(names))


def test_findings_and_manifest_say_what_the_tables_do(results: Path) -> None:
    found = Results(results)
    manifest = json.loads((results / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["cases"] == len(found.cases) == 10
    assert manifest["results_sha256"] == results_digest(results)
    assert {info.engine for info in found.cases} == {"fleet", "virtual"}
    findings = json.loads((results / "findings.json").read_text(encoding="utf-8"))
    by_route = {
        one["route"]: one
        for one in findings
        if one.get("experiment") == "routes" and "deadlines" in one and one["direction"] == "down"
    }
    assert by_route["2b"]["percentiles"]["50"][0] < 1 < by_route["2a"]["percentiles"]["50"][0]
    agreement = [one for one in findings if "ks_distance" in one]
    assert len(agreement) == 4  # routes 2a and 2b, both ways
    for one in agreement:
        assert one["ks_distance"] < one["ks_limit_5_per_cent"], one
        assert one["ks_chance"] > 0.05
        assert one["pairs"] == 24
    capacity = {one["capacity"]: one for one in findings if "capacity" in one}
    assert capacity["dcc"]["per_s"] == 1620
    bought = [one for one in findings if "change" in one]
    assert {one["route"] for one in bought} == {"2b"}


def test_results_are_never_mixed_with_those_of_before(
    study_file: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["study", "run", str(study_file), "--out", str(results)]) == 3
    assert "holds results already" in capsys.readouterr().err


def test_times_are_fitted_and_taken_back(
    study_file: Path, results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fitted = study_file.parent / "fitted.json"
    infos = Results(results).cases
    number = next(i.case for i in infos if (i.engine, i.route) == ("virtual", "2a"))
    arguments = ["study", "fit", str(results), "--case", str(number), "--out", str(fitted)]
    assert run([*arguments, "--json"]) == 0
    parts = {one["part"]: one for one in json.loads(capsys.readouterr().out)["fits"]}
    assert {"request", "dispatch", "latency_down", "latency_up"} <= set(parts)
    assert parts["dispatch"]["distribution"]["median_s"] == pytest.approx(0.5, rel=0.4)
    out = {name: study_file.parent / name for name in ("plain", "with-fitted")}
    modelled = study_file.parent / "modelled.toml"
    modelled.write_text(SMALL.replace('["virtual", "fleet"]', '["fleet"]'), encoding="utf-8")
    for name, more in (("plain", []), ("with-fitted", ["--fitted", str(fitted)])):
        arguments = ["study", "run", str(modelled), "--out", str(out[name]), "--try", *more]
        assert run([*arguments, "--no-report", "--workers", "1"]) == 0
    assert results_digest(out["plain"]) != results_digest(out["with-fitted"])


def test_several_machines_give_the_same_octets(
    study_file: Path, results: Path, tmp_path: Path
) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    ) as cluster:
        arguments = ["study", "run", str(study_file), "--out", str(tmp_path / "dask")]
        options = ["--dask", cluster.scheduler_address, "--no-report"]
        assert run([*arguments, *options]) == 0
    assert results_digest(tmp_path / "dask") == results_digest(results)


def test_the_notebook_runs(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTUNNEL_STUDY_RESULTS", str(results))
    notebook = nbformat.read(ROOT / "specs/study.ipynb", as_version=4)
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    pictures = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if "image/png" in output.get("data", {})
    ]
    assert pictures
