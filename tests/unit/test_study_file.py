from __future__ import annotations

from pathlib import Path

import pytest

from lab.study.errors import StudyFileError
from lab.study.store import data_dictionary
from lab.study.study_file import (
    cases_of,
    configuration_hash,
    load_study,
    parse_study,
    study_names,
    study_text,
)

ROOT = Path(__file__).resolve().parents[2]

SMALL = """
name = "small"
[[routes]]
name = "2a"
kind = "2a"
[[routes]]
name = "2b"
kind = "2b"
[[workloads]]
name = "dispatch"
kind = "dispatch"
[[networks]]
name = "day"
[[experiments]]
name = "all"
"""


def parse(text: str) -> object:
    return parse_study(text, where="x.toml", folder=Path())


def test_every_study_of_the_package_is_one_and_has_a_question() -> None:
    assert {"quick", "paper", "gb"} <= set(study_names())
    for name in study_names():
        study = load_study(name)
        assert study.name == name
        assert study.question
        assert list(cases_of(study))
        assert study_text(name).startswith("#")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (('kind = "2a"', 'kind = "3c"'), "3c"),
        (('name = "all"', 'name = "all"\nroutes = ["2c"]'), "there is no route '2c'"),
        (('name = "all"', 'name = "all"\nvary = { cems = [1] }'), "workload.cems"),
        (('name = "all"', 'name = "all"\nvary = { "workload.cms" = [1] }'), "cms"),
        (('name = "all"', 'name = "all"\nvary = { "workload.cems" = [0] }'), "cems"),
        (('name = "2b"', 'name = "2a"'), "two routes are called '2a'"),
        (('name = "day"', 'name = "day"\nprofile = "no-such"'), "gb-assumed"),
        (('name = "day"', 'name = "day"\nregions = { wales = 1 }'), "central-south"),
        (('name = "day"', 'name = "day"\nloss = 1.5'), "probability"),
        (('kind = "dispatch"', 'kind = "recorded"'), "folder"),
        (('name = "small"', 'name = "small"\ndeadlines_s = []'), "deadlines_s"),
        (('name = "small"', "name = small"), "not valid TOML"),
        (('name = "small"', 'name = "small"\nseeds = 3'), "seeds"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(change: tuple[str, str], told: str) -> None:
    with pytest.raises(StudyFileError) as caught:
        parse(SMALL.replace(*change))
    assert told in str(caught.value)
    assert "x.toml" in str(caught.value) or "experiment" in str(caught.value)


def test_an_unknown_study_names_those_there_are() -> None:
    with pytest.raises(StudyFileError, match="quick"):
        load_study("quik")


def test_routes_share_the_seed_and_nothing_else_does() -> None:
    text = SMALL.replace(
        'name = "all"',
        'name = "all"\nrepetitions = 2\n'
        'vary = { "route.fragment_attempts" = [3, 8], "workload.cems" = [5, 6] }',
    )
    study = parse_study(text, where="x.toml", folder=Path())
    cases = list(cases_of(study))
    assert len(cases) == 2 * 2 * 2 * 2
    assert [case.number for case in cases] == list(range(16))
    seeds: dict[tuple[int, int], set[int]] = {
        (case.workload.cems, case.repetition): set() for case in cases
    }
    for case in cases:
        seeds[case.workload.cems, case.repetition].add(case.seed)
    assert all(len(found) == 1 for found in seeds.values())
    assert len(set.union(*seeds.values())) == 4


def test_the_hash_is_that_of_the_meaning_not_of_the_text() -> None:
    one = parse_study(SMALL, where="x.toml", folder=Path())
    other = parse_study("# a remark\nseed = 1\n" + SMALL, where="x.toml", folder=Path())
    third = parse_study("seed = 2\n" + SMALL, where="x.toml", folder=Path())
    assert configuration_hash(one) == configuration_hash(other) != configuration_hash(third)


def test_the_published_data_dictionary_is_that_of_the_code() -> None:
    assert (ROOT / "specs/study-data.md").read_text(encoding="utf-8") == data_dictionary()


def test_what_is_in_a_network_s_tables_can_be_varied_and_is_assumed_then() -> None:
    text = SMALL.replace(
        'name = "all"',
        'name = "all"\none_at_a_time = true\n'
        'vary = { "network.internet.offline_share" = [0.1, 0.2], "workload.cems" = [7] }',
    )
    study = parse_study(text, where="x.toml", folder=Path())
    cases = [case for case in cases_of(study) if case.route.name == "2b"]
    assert [case.varied for case in cases] == [
        {},
        {"network.internet.offline_share": "0.1"},
        {"network.internet.offline_share": "0.2"},
        {"workload.cems": "7"},
    ]
    share = cases[2].network.internet.offline_share
    assert (share.value, share.standing.value) == (0.2, "assumed")
    assert [case.workload.cems for case in cases] == [10, 10, 10, 7]


@pytest.mark.parametrize("path", ["network.internat.offline_share", "network.internet.offline"])
def test_a_path_that_leads_nowhere_is_told(path: str) -> None:
    with pytest.raises(StudyFileError, match="off"):
        parse(SMALL.replace('name = "all"', f'name = "all"\nvary = {{ "{path}" = [0.1] }}'))
