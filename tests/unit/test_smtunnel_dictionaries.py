"""The preset dictionaries as data."""

from __future__ import annotations

import zlib
from pathlib import Path

from smtunnel.dictionaries import DICTIONARIES, DICTIONARY_IDS

SPECS = Path(__file__).resolve().parents[2] / "specs"


def test_each_is_known_by_its_adler_32() -> None:
    assert all(zlib.adler32(octets) == identifier for identifier, octets in DICTIONARIES.items())


def test_the_specification_has_the_same_octets() -> None:
    for number, identifier in DICTIONARY_IDS.items():
        published = (SPECS / f"dictionary-{number}.bin").read_bytes()
        assert DICTIONARIES[identifier] == published


def test_a_published_dictionary_never_changes() -> None:
    assert {number: f"{identifier:08X}" for number, identifier in DICTIONARY_IDS.items()} == {
        1: "1D9B0BCE"
    }


def test_its_size_is_what_receivers_reckon_with() -> None:
    assert all(len(octets) <= 8192 for octets in DICTIONARIES.values())
