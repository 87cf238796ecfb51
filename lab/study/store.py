"""A folder of results: Parquet and CSV of every table, a manifest, a data dictionary.

What the tables hold is the same octets on every run of the same study; what belongs to one run
(machine, versions, how long it took) stands in the manifest alone.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from lab.interruption import signals_wait
from lab.study.cases import Case
from lab.study.errors import StudyResultError
from lab.study.tables import COUNTER_MEANINGS, TABLES, Tables, build, schema

FORMAT = 1
MANIFEST = "manifest.json"
UNFINISHED = "unfinished"
_PACKAGES = ("smtunnel", "numpy", "pyarrow", "matplotlib", "msgspec", "cryptography")
_ENGINE_TABLES = ("messages", "fragments", "counters", "histograms", "loads")
_RESULTS = (
    MANIFEST,
    *(f"{name}.{kind}" for name in TABLES for kind in ("parquet", "csv")),
    *("data-dictionary.md", "report.html", "findings.json", "figures"),
)


class ResultWriter:
    """Writes tables case by case; as a context manager.

    They grow in a folder of their own, ``unfinished``, and are moved to their places when all are
    whole, the manifest last: whoever finds a manifest finds all. What ends before leaves the folder
    as it was.

    Args:
        folder: is made; must not hold results already.

    All of it raises:
        StudyResultError: the folder holds results, is another study's at the moment, or cannot be
            written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._unfinished = folder / UNFINISHED
        self._is_ours = False
        self._made: list[Path] = []
        self._parquet: dict[str, Any] = {}
        self._csv: dict[str, Any] = {}
        self._cases: list[Case] = []

    def __enter__(self) -> ResultWriter:
        try:
            with self._told():
                self._make_folder()
                for name in _ENGINE_TABLES:
                    self._parquet[name] = pa.parquet.ParquetWriter(
                        self._unfinished / f"{name}.parquet", schema(name), compression="zstd"
                    )
                    plain = _plain(schema(name).empty_table())
                    path = self._unfinished / f"{name}.csv"
                    self._csv[name] = pa.csv.CSVWriter(path, plain.schema)
        except BaseException:
            self._drop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop()

    def _make_folder(self) -> None:
        folder = self._folder
        for name in _RESULTS:
            if (folder / name).exists():
                raise StudyResultError(
                    f"{folder} holds results already ({name}): name another folder, or remove "
                    "this one first"
                )
        self._made = [one for one in (folder, *folder.parents) if not one.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        try:
            self._unfinished.mkdir()
            self._is_ours = True
        except FileExistsError:
            raise StudyResultError(
                f"{self._unfinished} exists: another study is writing there, or one was killed. "
                "If none runs, remove it; else name another folder"
            ) from None

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # a full disk, a folder that may not be written, a name too long
            raise StudyResultError(f"{self._folder}: cannot write results: {error}") from None

    def _close(self) -> None:
        for writers in (self._parquet, self._csv):
            while writers:
                writers.popitem()[1].close()

    def _drop(self) -> None:
        """Take away what is not finished, and the folders that were made for it."""
        while self._parquet or self._csv:
            with contextlib.suppress(OSError, pa.ArrowException):
                self._close()
        if self._is_ours:
            shutil.rmtree(self._unfinished, ignore_errors=True)
        for folder in self._made:
            with contextlib.suppress(OSError):  # there are results in it
                folder.rmdir()

    def add(self, case: Case, tables: Tables) -> None:
        """Write what a case gave; cases come in their order."""
        self._cases.append(case)
        with self._told():
            for name in _ENGINE_TABLES:
                table = getattr(tables, name)
                if len(table):
                    self._parquet[name].write_table(table)
                    self._csv[name].write_table(_plain(table))

    def finish(self, manifest: dict[str, Any]) -> dict[str, Any]:
        """Write the table of cases, the data dictionary and the manifest, which comes last.

        Args:
            manifest: what belongs to this run.

        Returns:
            It, with the digest of the results.
        """
        with self._told():
            self._close()
            folder = self._unfinished
            cases = cases_table(self._cases)
            pa.parquet.write_table(cases, folder / "cases.parquet", compression="zstd")
            pa.csv.write_csv(cases, folder / "cases.csv")
            (folder / "data-dictionary.md").write_text(data_dictionary(), encoding="utf-8")
            manifest = manifest | {"results_sha256": results_digest(folder)}
            text = json.dumps(manifest, indent=2, sort_keys=True) + "\n"
            (folder / MANIFEST).write_text(text, encoding="utf-8")
            with signals_wait():
                for path in sorted(folder.iterdir(), key=lambda path: path.name == MANIFEST):
                    path.rename(self._folder / path.name)
        return manifest


def results_digest(folder: Path) -> str:
    """Return the SHA-256 of all tables: the same for the same results, in hexadecimal."""
    whole = hashlib.sha256()
    for name in TABLES:
        for kind in ("parquet", "csv"):
            with (folder / f"{name}.{kind}").open("rb") as file:
                octets = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{octets}  {name}.{kind}\n".encode())
    return whole.hexdigest()


def cases_table(cases: list[Case]) -> Any:
    """Return the table of cases."""
    return build(
        "cases",
        {
            "case": [case.number for case in cases],
            "experiment": [case.experiment for case in cases],
            "engine": [case.engine for case in cases],
            "route": [case.route.name for case in cases],
            "route_kind": [case.route.kind for case in cases],
            "workload": [case.workload.name for case in cases],
            "network": [case.network.name for case in cases],
            "varied": [case.varied_text for case in cases],
            "repetition": [case.repetition for case in cases],
            "seed": pa.array([case.seed for case in cases], pa.uint64()),
            "cems": [case.workload.cems for case in cases],
        },
        len(cases),
    )


def read_table(folder: Path, name: str) -> Any:
    """Read one table of results.

    Raises:
        StudyResultError: it is missing, or is no table of this version.
    """
    path = folder / f"{name}.parquet"
    try:
        table = pa.parquet.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise StudyResultError(
            f"{path}: no results: {error}; `smtunnel study run FILE --out DIR` makes them"
        ) from None
    expected = [column.name for column in TABLES[name]]
    if table.column_names != expected:
        raise StudyResultError(
            f"{path}: columns {', '.join(table.column_names)}: expected {', '.join(expected)}; "
            "was it written by another version?"
        )
    return table


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read a manifest.

    Raises:
        StudyResultError: there is none, because the run did not end, or it is of another version.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StudyResultError(
            f"{path}: no finished results here: {error}; a run that was interrupted has none"
        ) from None
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise StudyResultError(f"{path}: expected a manifest of format {FORMAT}")
    return manifest


def machine() -> dict[str, Any]:
    """Return on what a study runs."""
    return {
        "python": sys.version.split()[0],
        "system": platform.system(),
        "machine": platform.machine(),
        "processors": os.cpu_count(),
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def data_dictionary() -> str:
    """Return the documentation of all tables, in Markdown."""
    lines = [
        "# Data of the latency study",
        "",
        "Each table is a file of Parquet and one of CSV with the same rows. Times are in seconds,",
        "sizes in octets. An empty cell (null) of a time means: it never happened. The same study",
        "file gives the same octets again in all cases of the fleet and the virtual engine; the",
        "manifest tells what belongs to one run. Routes 2b and stream1 have one row of `fragments`",
        "for each message, though nothing is cut.",
        "",
        "What the software itself takes is measured in a study's run (`own_time` of an experiment)",
        "and is an input of its modelled cases from then on. The values stand in the manifest,",
        "under `own_times`, in seconds by experiment, route, round trips and repetition; with",
        "`smtunnel study run FILE --own-times MANIFEST` these cases come out as they were.",
        "",
        "The fleet engine writes the rows of some CEMs only, spread evenly, and says in `weight`",
        "how many each stands for; its counters and histograms count all.",
    ]
    for name, columns in TABLES.items():
        lines += ["", f"## {name}", "", "| column | type | meaning |", "|---|---|---|"]
        lines += [f"| `{c.name}` | {_type_name(c.type)} | {c.meaning} |" for c in columns]
    lines += ["", "## Counters", "", "| counter | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {meaning} |" for name, meaning in COUNTER_MEANINGS.items()]
    return "\n".join(lines) + "\n"


def _type_name(kind: Any) -> str:
    return "string" if pa.types.is_dictionary(kind) else str(kind)


def _plain(table: Any) -> Any:
    """Return a table whose names are texts: CSV knows no dictionaries."""
    fields = [
        pa.field(field.name, pa.string() if pa.types.is_dictionary(field.type) else field.type)
        for field in table.schema
    ]
    return table.cast(pa.schema(fields))
