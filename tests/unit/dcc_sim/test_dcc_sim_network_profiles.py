"""Network profiles: what comes with the package, what a wrong one is told."""

from __future__ import annotations

import statistics

import pytest

from dcc_sim import ConfigError
from dcc_sim.core.network import Standing, parse_profile
from dcc_sim.profile_files import load_profile, profile_names
from dcc_sim.randomness import SeededStreams


def test_the_profiles_of_the_package():
    assert profile_names() == ["bad-day", "gb-assumed", "none"]
    assert list(load_profile("none").parameters()) == []
    for name in ("gb-assumed", "bad-day"):
        profile = load_profile(name)
        assert set(profile.regions) == {"north", "central-south"}
        assert profile.default_region == "central-south"
        standings = {parameter.standing for _, parameter in profile.parameters()}
        assert standings == set(Standing)


def test_what_the_source_of_the_norths_latency_says():
    """A round trip within 25 s, about 19 times of 20."""
    north = load_profile("gb-assumed").regions["north"]
    assert north.latency_down is not None
    assert north.latency_up is not None
    stream = SeededStreams(1).stream("x")
    trips = [
        north.latency_down.value.draw(stream) + north.latency_up.value.draw(stream)
        for _ in range(20_000)
    ]
    assert statistics.quantiles(trips, n=20)[-1] == pytest.approx(25.0, rel=0.15)


def test_bad_day_has_everything():
    north = load_profile("bad-day").regions["north"]
    missing = [name for name in north.__struct_fields__ if getattr(north, name) is None]
    assert missing == []
    storm = load_profile("bad-day").alert_storm
    assert storm is not None
    assert storm.enabled.value


MINIMAL = """
summary = "s"
default_region = "r"
[regions.r.latency_down]
value = { kind = "constant", value_s = 1.0 }
standing = "assumed"
source = "a test"
"""


def changed(old, new):
    assert old in MINIMAL
    return MINIMAL.replace(old, new)


WRONG = {
    "no TOML": ("= =", "not valid TOML"),
    "no summary": (changed('summary = "s"', ""), "summary"),
    "no such region": (changed('region = "r"', 'region = "x"'), "default_region 'x'"),
    "a bare value": ('summary = "s"\n[dcc]\ntransform = 3.0', "value, standing.*and source"),
    "no source": (changed('source = "a test"', ""), "source"),
    "an empty source": (changed('"a test"', '" "'), "source is empty"),
    "an unknown standing": (changed('"assumed"', '"sure"'), "standing"),
    "an unknown parameter": (changed("latency_down", "latency"), "latency"),
    "an unknown distribution": (changed('"constant"', '"normal"'), "normal"),
    "a negative time": (changed("1.0", "-1.0"), "at least 0"),
    "no number": (changed("1.0", "nan"), "at least 0"),
    "an empty trace": (changed('"constant", value_s = 1.0', '"trace"'), "values_s"),
    "a trace without its file": (
        changed('"constant", value_s = 1.0', '"trace", file = "t"'),
        "'t' is in a file of its own",
    ),
    "an empty mixture": (changed('"constant", value_s = 1.0', '"mixture", parts = []'), "part"),
    "a probability above 1": (
        changed("latency_down", "duplicate_probability").replace(
            '{ kind = "constant", value_s = 1.0 }', "1.5"
        ),
        "probability",
    ),
    "half of a pair": (
        changed("latency_down", "han_fragment_octets").replace(
            '{ kind = "constant", value_s = 1.0 }', "61"
        ),
        "han_fragment_octets and han_fragment_s belong together",
    ),
    "outages without end": (
        changed("latency_down", "random_outages").replace(
            '{ kind = "constant", value_s = 1.0 }',
            '{ mean_interval_s = 1.0, duration_s = { kind = "constant", value_s = 1.0 }, '
            "max_duration_s = 100.0 }",
        ),
        "without end",
    ),
    "a schedule that never ends": (
        changed("latency_down", "scheduled_outages").replace(
            '{ kind = "constant", value_s = 1.0 }',
            "[{ start_s = 0.0, duration_s = 5.0, every_s = 5.0 }]",
        ),
        "never be up",
    ),
    "attempts without a pause": (
        'summary = "s"\n[retries.attempts]\nvalue = 2\nstanding = "assumed"\nsource = "x"',
        "interval_s",
    ),
    "an alert code of nobody": (
        'summary = "s"\n[retries.not_answered_alert]\nvalue = "N2000"\n'
        'standing = "assumed"\nsource = "x"',
        "N2000",
    ),
}


def test_minimal_profile():
    assert len(list(parse_profile(MINIMAL, where="x").parameters())) == 1


@pytest.mark.parametrize("name", WRONG)
def test_wrong_profiles(name):
    text, told = WRONG[name]
    with pytest.raises(ConfigError, match=f"here.toml.*{told}"):
        parse_profile(text, where="here.toml")


def test_a_profile_with_a_trace(tmp_path):
    (tmp_path / "times.txt").write_text("# measured in a dream\n1.5\n\n2.5 # slow\n")
    path = tmp_path / "mine.toml"
    trace = '{ kind = "trace", file = "times.txt" }'
    path.write_text(
        changed(
            '"constant", value_s = 1.0',
            f'"mixture", parts = [{{ weight = 1.0, of = {trace} }}]',
        )
    )
    parameter = load_profile(str(path)).regions["r"].latency_down
    assert parameter is not None
    assert parameter.value.parts[0].of.values_s == (1.5, 2.5)
    (tmp_path / "times.txt").write_text("1.5\nfast\n")
    with pytest.raises(ConfigError, match=r"times.txt, line 2: 'fast' is no number"):
        load_profile(str(path))
    (tmp_path / "times.txt").write_text("# nothing\n")
    with pytest.raises(ConfigError, match="no values"):
        load_profile(str(path))
    (tmp_path / "times.txt").unlink()
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile(str(path))


def test_unknown_profile():
    with pytest.raises(ConfigError, match="there are bad-day, gb-assumed, none"):
        load_profile("mars")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_profile("./mars")
