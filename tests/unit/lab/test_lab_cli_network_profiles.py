"""``smtunnel dcc-sim profiles``."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from dcc_sim.profile_files import load_profile, profile_names
from lab.cli.daemons import dcc_sim


def run(*arguments):
    return CliRunner().invoke(dcc_sim, ["profiles", *arguments], env={"COLUMNS": "200"})


def test_the_list():
    result = run()
    assert result.exit_code == 0
    for name in profile_names():
        assert name in result.output
    (bad_day, *_) = json.loads(run("--json").output)
    assert bad_day["name"] == "bad-day"
    assert bad_day["regions"] == ["north", "central-south"]


@pytest.mark.parametrize("name", profile_names())
def test_every_parameter_is_explained(name):
    facts = json.loads(run(name, "--json").output)
    names = [name for name, _ in load_profile(name).parameters()]
    assert [row["parameter"] for row in facts["parameters"]] == names
    for row in facts["parameters"]:
        assert row["meaning"]
        assert row["source"]
        assert row["standing"] in ("published", "derived", "assumed")
    result = run(name)
    assert result.exit_code == 0
    for row in facts["parameters"]:
        assert row["parameter"] in result.output


def test_a_users_own_profile(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'summary = "mine"\n[dcc.transform]\nvalue = { kind = "constant", value_s = 2.0 }\n'
        'standing = "published"\nsource = "[a] book"\n'
    )
    result = run(str(path))
    assert "2 s" in result.output
    assert "[a] book" in result.output


def test_an_unknown_profile():
    result = run("mars")
    assert result.exit_code == 3
    assert "there are bad-day, gb-assumed, none" in result.output
