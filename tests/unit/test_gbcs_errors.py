"""The tree in the docstring of gbcs.errors is the tree of the classes."""

from __future__ import annotations

import inspect
import re

from gbcs import errors


def test_the_docstring_shows_the_classes_as_they_are() -> None:
    told: dict[str, str] = {}
    above: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        entry = re.fullmatch(r"    ((?:│   |    )*)(?:├── |└── )?(\w+)(?:  .*)?", line)
        if entry is None:
            continue
        depth = len(entry[1]) // 4 + ("─" in line)
        above[depth:] = [entry[2]]
        told[entry[2]] = above[depth - 1] if depth else "Exception"
    classes = {
        name: value.__bases__[0].__name__
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, Exception)
    }
    assert told == classes


def test_a_format_error_says_where() -> None:
    error = errors.FormatError("found 00", offset=7, field="tag")
    assert str(error) == "found 00 in tag at octet 7"
    assert (error.offset, error.field) == (7, "tag")
    assert str(errors.FormatError("found 00")) == "found 00"
