"""What all tables of a study file have in common."""

from __future__ import annotations

import math
import re

import msgspec

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")


class Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a study file."""


def check_name(what: str, name: str) -> None:
    """Check a name that will stand in file names, tables and figures.

    Raises:
        ValueError: says what is expected.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(
            f"{what} {name!r}: expected 1 to 64 letters, digits, spaces, dots, _, + or -, "
            "a letter or digit first"
        )


def above_0(table: msgspec.Struct, *names: str) -> None:
    """Check that fields, where they are given, are numbers above 0.

    Raises:
        ValueError: says which is not.
    """
    for name in names:
        value = getattr(table, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be a number above 0, not {value}")


def at_least_0(table: msgspec.Struct, *names: str) -> None:
    """Check that fields, where they are given, are numbers of at least 0.

    Raises:
        ValueError: says which is not.
    """
    for name in names:
        value = getattr(table, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} must be a number of at least 0, not {value}")
