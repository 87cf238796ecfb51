"""The software's own time: measured live, given to the models, an input of a rerun."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lab.study import runner
from lab.study.agreement import measured_table
from lab.study.cases import Case, OwnTime
from lab.study.engine import Engine, Surroundings
from lab.study.engines import make_engine
from lab.study.errors import EngineError, StudyFileError, StudyResultError
from lab.study.findings import Results
from lab.study.fit import FittedTimes
from lab.study.own_time import OwnTimes, read_own_times
from lab.study.parameters import EngineName, Study
from lab.study.runner import RunSettings, run_study
from lab.study.study_file import cases_of, parse_study
from lab.study.tables import Tables, build

MEASURING = """
[[experiments]]
name = "own"
engines = ["live"]
routes = ["2b"]
networks = ["line"]
repetitions = 2
"""
ASKING = """
[[experiments]]
name = "asking"
engines = ["virtual", "fleet", "live"]
routes = ["2b"]
networks = ["day"]
own_time = "own"
repetitions = 2
"""
STUDY = """
name = "s"
[[routes]]
name = "2b"
kind = "2b"
[[routes]]
name = "2a"
kind = "2a"
[[workloads]]
name = "w"
kind = "session"
cems = 1
[[networks]]
name = "day"
[[networks]]
name = "line"
[networks.internet.round_trip]
value = { kind = "constant", value_s = 0.030 }
standing = "assumed"
source = "test"
[networks.internet.loss_probability]
value = 0.0
standing = "assumed"
source = "test"
"""


def _study(experiments: str) -> Study:
    return parse_study(STUDY + experiments, where="test", folder=Path())


def _tables(case: Case, latencies_s: list[float | None]) -> Tables:
    count = len(latencies_s)
    columns = {
        "case": case.number,
        "message": list(range(count)),
        "cem": "one",
        "direction": ["down" if number % 2 else "up" for number in range(count)],
        "latency_s": latencies_s,
        "outcome": ["failed" if value is None else "delivered" for value in latencies_s],
    }
    return Tables(messages=build("messages", columns, count))


def test_what_a_message_takes_longer_than_the_line_is_given_to_the_models() -> None:
    cases = list(cases_of(_study(MEASURING + ASKING)))
    # Each repetition is measured right before it is tested.
    engines = ["live", "virtual", "fleet", "live"]
    assert [(case.engine, case.repetition) for case in cases] == [
        *((engine, 0) for engine in engines),
        *((engine, 1) for engine in engines),
    ]
    assert [case.number for case in cases] == list(range(8))
    times = OwnTimes()
    times.learn(cases[0], _tables(cases[0], [0.0165, 0.017, 0.018, None]))
    times.learn(cases[4], _tables(cases[4], [0.0149, 0.019]))
    for case in (one for one in cases if one.own_time_of):
        given = times.given(case)
        if case.engine == "live":
            assert given.own_time == OwnTime()
        elif case.repetition == 0:
            assert given.own_time.up == pytest.approx((0.0015, 0.003))
            assert given.own_time.down == pytest.approx((0.002,))
        else:
            assert given.own_time.up == (0.0,)  # no time is below zero
            assert given.own_time.down == pytest.approx((0.004,))
        # What is tested is never learned from.
        times.learn(case, _tables(case, [5.0, 5.0]))
    assert list(times.values()) == ["own / 2b / 0.5 / 0", "own / 2b / 0.5 / 1"]
    assert max(times.values()["own / 2b / 0.5 / 0"].up) < 1


def test_nothing_measured_is_an_error_and_no_zero() -> None:
    measuring, asking, *_ = cases_of(_study(MEASURING + ASKING))
    times = OwnTimes()
    times.learn(measuring, _tables(measuring, [0.0165]))
    with pytest.raises(EngineError, match="both ways"):
        times.given(asking)


@pytest.mark.parametrize(
    ("experiments", "told"),
    [
        (ASKING, "earlier experiment 'own' of the live engine"),
        (ASKING + MEASURING, "nothing before it measures"),
        (MEASURING.replace('"line"', '"day"') + ASKING, "a constant round_trip"),
        (MEASURING.replace('["live"]', '["virtual"]') + ASKING, "of the live engine"),
        (
            MEASURING + ASKING + 'vary = { "route.exchange_round_trips" = [0.5, 2.5] }',
            "'own / 2b / 2.5 / 0'",
        ),
        (MEASURING.replace("= 2", "= 1") + ASKING, "'own / 2b / 0.5 / 1'"),
        (MEASURING + ASKING.replace('"2b"', '"2a"'), "routes 2b and stream1"),
        (MEASURING + ASKING + 'vary = { "network.live_time_scale" = [5.0] }', "live_time_scale"),
    ],
)
def test_a_study_in_which_nothing_measures_what_is_asked_for_is_refused(
    experiments: str, told: str
) -> None:
    with pytest.raises(StudyFileError, match=told):
        _study(experiments)


class _Live:
    """A live engine that takes another time at each run."""

    is_parallel = True
    is_exact = False
    runs = 0

    def run(self, case: Case, surroundings: Surroundings) -> Tables:
        type(self).runs += 1
        return _tables(case, [0.016 + 0.0001 * number * self.runs for number in range(8)])


def _engine(name: EngineName, fitted: FittedTimes | None = None) -> Engine:
    return _Live() if name == "live" else make_engine(name, fitted)


def test_with_the_own_times_of_its_manifest_a_study_comes_out_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "make_engine", _engine)
    monkeypatch.setattr(_Live, "runs", 0)
    study = _study(MEASURING + ASKING)
    first, other, again = (tmp_path / name for name in ("first", "other", "again"))
    run_study(study, first, RunSettings(workers=1))
    run_study(study, other, RunSettings(workers=1))
    known = read_own_times(first / "manifest.json")
    run_study(study, again, RunSettings(workers=1, own_times=known))
    inputs = [
        json.loads((folder / "manifest.json").read_bytes())["own_times"]
        for folder in (first, again, other)
    ]
    assert inputs[0] == inputs[1] != inputs[2]

    def modelled(folder: Path) -> list[object]:
        results = Results(folder)
        cases = [info.case for info in results.cases if info.engine != "live"]
        assert len(cases) == 4
        return [
            results.rows_of(name, case).to_pylist()
            for case in cases
            for name in ("messages", "fragments", "counters", "histograms")
        ]

    assert modelled(again) == modelled(first) != modelled(other)
    measured = measured_table(Results(first)).splitlines()[2:]
    # The stand-in's messages of its first and third, and second and fourth run.
    assert measured == [
        "| own | 2b | 8 / 8 | 16.7 ms / 16.6 ms | 18.1 ms / 17.8 ms |",
        "| asking | 2b | 8 / 8 | 17.2 ms / 16.8 ms | 18.8 ms / 18.4 ms |",
    ]


def test_own_times_of_another_study_are_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "make_engine", _engine)
    monkeypatch.setattr(_Live, "runs", 0)
    study = _study(MEASURING + ASKING)
    one = OwnTime(down=(0.001,), up=(0.001,))
    of_others: list[dict[str, OwnTime]] = [{}, {"own / 2b / 0.5 / 0": one}]
    for known in of_others:
        with pytest.raises(StudyResultError, match=r"of another study: 'own / 2b / 0.5 / \d'"):
            run_study(study, tmp_path / "out", RunSettings(workers=1, own_times=known))
    assert _Live.runs == 0
    assert not (tmp_path / "out").exists()


def test_a_file_without_own_times_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    for text in ("no JSON", "[]", "{}", '{"own_times": {"own": {"down": ["x"]}}}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(StudyResultError, match=r"manifest.json of a study"):
            read_own_times(path)
