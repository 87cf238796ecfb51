"""Whether engines agree: what chance makes of distances, and what a comparison cannot see."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from lab.cast import device_id
from lab.study.agreement import (
    LEAST_PAIRS,
    Agreement,
    Pair,
    agreement_table,
    agreements,
    own_time_table,
    permutation_limit,
    seen_shift_s,
)
from lab.study.cases import OwnTime
from lab.study.findings import Results
from lab.study.fit import distance
from lab.study.runner import RunSettings, run_study
from lab.study.study_file import parse_study

_PAIRS, _EACH = 8, 30


def _pairs(numbers: np.random.Generator, common: float, shift: float = 0.0) -> list[Pair]:
    """Return halves of pairs; values of one half have much in common with each other."""
    return [
        (
            numbers.normal(numbers.normal(0.0, common), 1.0, _EACH),
            numbers.normal(numbers.normal(shift, common), 1.0, _EACH),
        )
        for _ in range(_PAIRS)
    ]


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_chance_passes_the_limit_once_in_twenty(common: float) -> None:
    numbers = np.random.Generator(np.random.PCG64(5))
    tries, passed, asymptotic = 200, 0, 0
    for _ in range(tries):
        pairs = _pairs(numbers, common)
        limit, chance = permutation_limit(pairs, 1)
        one, two = (np.concatenate([pair[side] for pair in pairs]) for side in (0, 1))
        found = distance(one, two)
        passed += found > limit
        assert (chance <= 0.05) == (found > limit) or chance == pytest.approx(0.05, abs=0.01)
        asymptotic += found > 1.358 * math.sqrt(2 / (_PAIRS * _EACH))
    assert passed / tries < 0.1
    # What messages of one repetition have in common passes the limit for independent ones often.
    assert (asymptotic / tries > 0.3) == (common > 0)


def test_engines_that_differ_pass_the_limit() -> None:
    numbers = np.random.Generator(np.random.PCG64(6))
    limit, chance = permutation_limit(_pairs(numbers, 0.1, shift=1.0), 1)
    assert chance == pytest.approx(1 / 128)
    assert 0 < limit < 0.3


def test_many_pairs_are_exchanged_at_random_and_come_out_the_same() -> None:
    numbers = np.random.Generator(np.random.PCG64(7))
    pairs = [(numbers.random(5), numbers.random(5)) for _ in range(60)]
    first = permutation_limit(pairs, 1)
    assert first == permutation_limit(pairs, 1)
    assert first != permutation_limit(pairs, 2)
    # Independent values: Smirnov's asymptotic limit is right for them.
    assert first[0] == pytest.approx(1.358 * math.sqrt(2 / 300), rel=0.15)


def test_halves_of_different_length_and_empty_ones_are_exchanged_too() -> None:
    numbers = np.random.Generator(np.random.PCG64(8))
    pairs = [(numbers.random(4 + n % 3), numbers.random(n % 4)) for n in range(7)]
    limit, chance = permutation_limit(pairs, 1)
    assert 0 < limit <= 1
    assert 0 < chance <= 1


def test_too_few_pairs_have_no_limit() -> None:
    numbers = np.random.Generator(np.random.PCG64(9))
    pairs = _pairs(numbers, 0.0, shift=100.0)
    for count in range(1, LEAST_PAIRS):
        assert all(map(math.isnan, permutation_limit(pairs[:count], 1)))
    assert permutation_limit(pairs[:LEAST_PAIRS], 1)[1] == pytest.approx(1 / 32)


def test_a_comparison_says_what_it_cannot_see() -> None:
    values = np.linspace(0.0, 1.0, 1001)
    # Uniform values that are shifted by a tenth are a tenth apart.
    assert seen_shift_s(values, 0.1) == pytest.approx(0.1, abs=0.01)
    assert seen_shift_s(values, 0.3) > seen_shift_s(values, 0.1)
    assert math.isnan(seen_shift_s(values, math.nan))


class _Told:
    """Results of two engines, told CEM by CEM in the order in which they came."""

    study = SimpleNamespace(seed=1)

    def __init__(self, virtual: dict[str, list[float]], fleet: dict[str, list[float]]) -> None:
        self._told = {"virtual": virtual, "fleet": fleet}

    def groups(self, _experiment: str) -> dict[str, list[SimpleNamespace]]:
        common = {"route": "2b", "workload": "trial", "network": "day", "varied": "", "case": 0}
        return {name: [SimpleNamespace(**common, engine=name)] for name in self._told}

    def directions(self, _infos: object) -> list[str]:
        return ["down"]

    def of_each_cem(self, infos: list[SimpleNamespace], _way: str) -> dict[tuple[int, str], Any]:
        told = self._told[infos[0].engine]
        return {(0, cem): np.asarray(values) for cem, values in told.items()}


def _agreement(virtual: dict[int, list[float]], fleet: dict[int, list[float]]) -> Agreement:
    devices = {str(device_id(cem)): values for cem, values in virtual.items()}
    told = _Told(devices, {str(cem): values for cem, values in fleet.items()})
    (found,) = agreements(cast(Results, told), "engines")
    return found


def test_halves_of_a_pair_are_of_one_cem_in_whatever_order_they_came() -> None:
    values = {cem: [1.0 + cem, 2.0 + cem] for cem in range(12)}
    found = _agreement(dict(reversed(values.items())), values)
    # Halves are alike: to exchange them changes nothing.
    assert (found.pairs, found.distance, found.limit, found.chance) == (12, 0.0, 0.0, 1.0)
    # A CEM of which an engine knows nothing moves no other's half.
    found = _agreement({cem: told for cem, told in values.items() if cem != 3}, values)
    assert found.pairs == 12
    assert found.distance == pytest.approx(found.limit)


def test_what_never_arrived_is_a_difference() -> None:
    values = {cem: [1.0 + cem / 100, 2.0 + cem / 100] for cem in range(12)}
    lost = {cem: [told[0], math.inf] for cem, told in values.items()}
    halved = {cem: [told[0], told[0]] for cem, told in values.items()}
    found = _agreement(halved, lost)
    assert found.counts == (24, 12)
    assert found.distance == 0.5 > found.limit


def test_the_tables_of_agreement_name_what_was_measured(tmp_path: Path) -> None:
    study = parse_study(STUDY, where="test", folder=tmp_path)
    own = {"own / 2b / 0.5 / 0": {"down": [0.001, 0.002], "up": [0.004]}}
    known = {key: OwnTime(down=tuple(v["down"]), up=tuple(v["up"])) for key, v in own.items()}
    run_study(study, tmp_path / "out", RunSettings(workers=1, own_times=known))
    results = Results(tmp_path / "out")
    rows = [line.split(" | ") for line in agreement_table(results).splitlines()[2:]]
    assert [row[1:3] for row in rows] == [
        ["virtual / fleet", "2b, trial, down"],
        ["virtual / fleet", "2b, trial, up"],
    ]
    for row in rows:
        assert row[3:5] == ["9 / 9", "9"]
        assert float(row[6].strip("*")) >= 0
        assert 0 < float(row[7]) < 1
    own_rows = own_time_table(results).splitlines()[2:]
    assert own_rows[0] == "| own / 2b / 0.5 | down | 2 | 1.5 ms | 1.9 ms | 1.5 ms to 1.5 ms |"
    assert len(own_rows) == 2


STUDY = """
name = "s"
[[routes]]
name = "2b"
kind = "2b"
[[workloads]]
name = "trial"
kind = "dispatch"
cems = 9
[[networks]]
name = "day"
internet.offline_share = { value = 0.0, standing = "assumed", source = "test" }
[[experiments]]
name = "engines"
engines = ["virtual", "fleet"]
"""
