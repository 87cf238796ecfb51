"""The state file: exclusive, durable, whole or not at all; what is held outlives a failure."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner_io.state_file import IN_MEMORY, StateErrors, StateFile


class Failed(Exception):
    pass


class InUse(Failed):
    pass


ERRORS = StateErrors(
    failed=Failed,
    in_use=InUse,
    one_at_a_time="stop it",
    other_owner="one each",
    other_format="take the other version",
    not_usable="restore it",
)


class Notes:
    """A user of a state file: texts, each once."""

    def __init__(self, path: Path | str, *, owner: str = "us", version: int = 1) -> None:
        self.file: StateFile[str] = StateFile(
            str(path),
            schema="CREATE TABLE IF NOT EXISTS note (text TEXT PRIMARY KEY);",
            version=version,
            owner=owner,
            errors=ERRORS,
            apply=self.apply,
        )

    def apply(self, text: str) -> None:
        self.file.db.execute("INSERT INTO note VALUES (?)", (text,))

    def keep(self, text: str) -> None:
        with self.file.transaction():
            self.apply(text)

    @property
    def texts(self) -> list[str]:
        return [text for (text,) in self.file.rows("SELECT text FROM note ORDER BY text")]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.sqlite"


def test_it_is_made_with_its_folder_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "a/b/state.sqlite"
    mask = os.umask(0)
    try:
        Notes(path).file.close()
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_is_kept_is_there_for_the_next(path: Path) -> None:
    notes = Notes(path)
    notes.keep("a")
    notes.file.check_writable()
    notes.file.close()
    notes = Notes(path)
    assert notes.texts == ["a"]
    assert notes.file.row("SELECT text FROM note WHERE text = ?", "b") is None
    notes.file.close()


def test_a_transaction_is_whole_or_not_at_all() -> None:
    notes = Notes(IN_MEMORY)
    notes.keep("a")

    def write(then: Callable[[], object]) -> None:
        with notes.file.transaction():
            notes.apply("b")
            then()

    with pytest.raises(Failed, match="UNIQUE"):
        write(lambda: notes.apply("a"))
    with pytest.raises(ZeroDivisionError):
        write(lambda: 1 / 0)
    assert notes.texts == ["a"]
    notes.file.close()


def test_there_is_one_process_at_a_time(path: Path) -> None:
    notes = Notes(path)
    with pytest.raises(InUse, match=r"another process works with .*: stop it"):
        Notes(path)
    notes.file.close()
    Notes(path).file.close()


@pytest.mark.parametrize(
    ("owner", "version", "told"),
    [
        ("them", 1, "the state of us, not of them: one each"),
        ("us", 2, "format 1, this program knows 2 only: take the other version"),
    ],
)
def test_what_is_not_ours_is_refused_and_not_changed(
    path: Path, owner: str, version: int, told: str
) -> None:
    notes = Notes(path)
    notes.keep("a")
    notes.file.close()
    before = path.read_bytes()
    with pytest.raises(Failed, match=told):
        Notes(path, owner=owner, version=version)
    assert path.read_bytes() == before


def test_tables_that_nobody_has_numbered_are_another_format(path: Path) -> None:
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE facts (name TEXT)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Failed, match="format 0, this program knows 1 only"):
        Notes(path)
    assert path.read_bytes() == before, "the mode of its journal included"


def test_somebody_elses_database_of_the_same_number_is_refused(path: Path) -> None:
    other = sqlite3.connect(path)
    other.executescript("CREATE TABLE facts (name TEXT); PRAGMA user_version=1;")
    other.close()
    before = path.read_bytes()
    with pytest.raises(Failed, match="not a usable state file: no such table: owner; restore it"):
        Notes(path)
    assert path.read_bytes() == before


def test_what_is_no_state_file_is_refused(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"<oadrPayload/>" * 1000)
    with pytest.raises(Failed, match=r"not a usable state file.*; restore it"):
        Notes(path)
    with pytest.raises(Failed, match="cannot open the state file"):
        Notes(path / "below a file")
    with pytest.raises(Failed, match="cannot open the state file"):
        Notes(tmp_path)


def test_what_is_held_is_seen_and_is_durable_with_the_next_transaction(path: Path) -> None:
    notes = Notes(path)
    notes.file.hold("killed")
    assert (notes.texts, notes.file.holds) == (["killed"], True)
    notes.file.abandon()
    assert (notes.texts, notes.file.holds) == ([], False)
    notes.file.hold("flushed")
    notes.file.flush()
    notes.file.hold("with another")
    notes.keep("another")
    assert not notes.file.holds
    notes.file.hold("last")
    notes.file.close()
    notes = Notes(path)
    assert notes.texts == ["another", "flushed", "with another"]
    notes.file.close()


def test_what_fails_takes_nothing_held_with_it(path: Path) -> None:
    notes = Notes(path)
    notes.file.hold("held")
    for write in (notes.keep, notes.file.hold):
        with pytest.raises(Failed, match="UNIQUE"):
            write("held")
        assert (notes.texts, notes.file.holds) == (["held"], True)
    notes.file.close()


class FailsToCommit:
    """A connection whose disk is full, and that has rolled back on its own, or not."""

    def __init__(self, db: sqlite3.Connection, *, rolls_back: bool) -> None:
        self._db = db
        self._rolls_back = rolls_back
        self.broken = True

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, statement: str, *values: object) -> sqlite3.Cursor:
        if self.broken and statement == "COMMIT":
            if self._rolls_back:
                self._db.execute("ROLLBACK")
            raise sqlite3.OperationalError("database or disk is full")
        return self._db.execute(statement, *values)

    def close(self) -> None:
        self._db.close()


@pytest.mark.parametrize("rolls_back", [False, True])
def test_what_is_held_outlives_a_commit_that_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch, rolls_back: bool
) -> None:
    notes = Notes(path)
    notes.file.hold("held")
    db = FailsToCommit(notes.file.db, rolls_back=rolls_back)
    monkeypatch.setattr(notes.file, "db", db)
    for write in (notes.file.flush, lambda: notes.keep("more")):
        with pytest.raises(Failed, match="disk is full; check the disk"):
            write()
        assert (notes.texts, notes.file.holds) == (["held"], True)
    db.broken = False
    notes.keep("more")
    assert (notes.texts, notes.file.holds) == (["held", "more"], False)
    notes.file.close()


def test_what_is_held_outlives_a_query_that_fails(path: Path) -> None:
    notes = Notes(path)
    for number in range(50):
        notes.keep(f"{number:02} {'x' * 3000}")
    notes.file.close()
    notes = Notes(path)
    notes.file.hold("held")
    with unreadable(path), pytest.raises(Failed, match="I/O error"):
        _ = notes.texts
    assert not notes.file.db.in_transaction, "SQLite has rolled back on its own"
    notes.keep("more")
    assert (notes.texts[-2:], notes.file.holds) == (["held", "more"], False)
    notes.file.close()


@contextlib.contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Let this process's open files of a database fail to be read, as a bad disk does."""
    ours = [
        int(link.name)
        for link in Path("/proc/self/fd").iterdir()
        if os.path.realpath(link).startswith(str(path.resolve()))
    ]
    kept = {number: os.dup(number) for number in ours}
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        for number in ours:
            os.dup2(nothing, number)
        yield
    finally:
        for number, was in kept.items():
            os.dup2(was, number)
            os.close(was)
        os.close(nothing)
