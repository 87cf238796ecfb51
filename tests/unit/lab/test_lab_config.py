"""Configuration files: what is wrong is named with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gbcs import EntityId
from lab.config import CemFile, DccSimFile, DsrspFile, parse_config
from lab.errors import ConfigError

EXAMPLES = Path(__file__).resolve().parents[3] / "lab" / "examples"


@pytest.mark.parametrize(
    ("name", "file_type"),
    [("dcc-sim", DccSimFile), ("dsrsp", DsrspFile), ("cem", CemFile)],
)
def test_the_examples_are_valid(name: str, file_type: type) -> None:
    text = (EXAMPLES / f"{name}.toml").read_text()
    assert parse_config(text, file_type, where="example")


def test_an_eui_is_read_from_text() -> None:
    config = parse_config((EXAMPLES / "cem.toml").read_text(), CemFile, where="example")
    assert config.gateway.device_id == EntityId.parse("02-53-4D-54-00-00-00-01")


@pytest.mark.parametrize(
    ("find", "replace", "words"),
    [
        ('supplier_id = "90', 'supplier_id = "9', r"not an EUI-64.*\$.gateway.supplier_id"),
        ('state = "dsrsp.sqlite"', "state = 1", r"Expected `str`.*\$.gateway.state"),
        ("test_mode = true", 'test_mode = true\ncolor = "red"', r"color.*\$.gateway"),
        ("[control]", "[control", "not valid TOML"),
        ("\nsupplier_id", "\nsuplier_id", "did you mean `supplier_id`"),
        ("dcc_url =", 'device_id = ""\ndcc_url =', "belongs in the file of `smtunnel cem`"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(find: str, replace: str, words: str) -> None:
    text = (EXAMPLES / "dsrsp.toml").read_text()
    assert find in text
    with pytest.raises(ConfigError, match=words):
        parse_config(text.replace(find, replace, 1), DsrspFile, where="dsrsp.toml")


def test_another_spelling_is_found_in_a_list_of_tables_too() -> None:
    text = (EXAMPLES / "dcc-sim.toml").read_text()
    with pytest.raises(ConfigError, match="did you mean `receive_url`"):
        parse_config(text.replace("receive_url", "recieve_url"), DccSimFile, where="dcc-sim.toml")
