"""Intervals of what repetitions give together."""

from __future__ import annotations

from pathlib import Path

from lab.study.findings import Results
from lab.study.runner import RunSettings, run_study
from lab.study.study_file import parse_study


def test_intervals_hold_what_each_repetition_gave_by_itself(tmp_path: Path) -> None:
    study = parse_study(STUDY, where="test", folder=tmp_path)
    run_study(study, tmp_path / "out", RunSettings(workers=1))
    results = Results(tmp_path / "out")
    (infos,) = results.groups().values()
    both = results.distribution(infos, "down")
    # Two repetitions of a network that loses much lie further apart than chance among 6,000 CEMs.
    found = [both.percentiles[50.0], both.probability(300.0, study.confidence)]
    for info in infos:
        one = Results(tmp_path / "out").distribution([info], "down")
        mine = [one.percentiles[50.0], one.probability(300.0, study.confidence)]
        for estimate, all_of_them in zip(mine, found, strict=True):
            assert all_of_them.low <= estimate.value <= all_of_them.high


STUDY = """
name = "s"
repetitions = 2
rows_per_case = 10
percentiles = [50.0]
deadlines_s = [300.0]
[[routes]]
name = "2a no dictionary"
kind = "2a"
dictionary = false
compact = false
[[workloads]]
name = "dispatch"
kind = "dispatch"
cems = 6000
spread_s = 1000.0
[[networks]]
name = "bad day"
profile = "bad-day"
[[experiments]]
name = "bad day"
"""
