from __future__ import annotations

import re
import subprocess
import sys

from smtunnel import errors


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    written = re.findall(r"^    ([│ ├└─]*)(\w+)", errors.__doc__ or "", re.MULTILINE)
    parents: dict[str, str | None] = {}
    above: list[str] = []
    for lines, name in written:
        depth = len(lines) // 4
        parents[name] = above[depth - 1] if depth else None
        above[depth:] = [name]
    classes = {
        name: cls
        for name, cls in vars(errors).items()
        if isinstance(cls, type) and issubclass(cls, Exception)
    }
    assert parents == {
        name: None if cls is errors.TunnelError else cls.__bases__[0].__name__
        for name, cls in classes.items()
    }


def test_the_package_needs_the_standard_library_only_and_no_input_or_output() -> None:
    program = (
        "import sys; before = set(sys.modules); import smtunnel; "
        "print(*sorted({m.partition('.')[0] for m in set(sys.modules) - before}))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    loaded = set(run.stdout.split()) - {"smtunnel"}
    assert loaded <= sys.stdlib_module_names
    assert not loaded & {"asyncio", "socket", "ssl", "random", "sqlite3", "logging", "threading"}
