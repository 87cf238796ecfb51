"""The journal: whole lines or none, and a full disk never stops the work."""

from __future__ import annotations

import logging
import resource
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from lab.errors import LabError
from lab.journal import JsonLinesJournal, read_journal


@pytest.fixture
def files_end_at() -> Callable[[int], AbstractContextManager[None]]:
    """No file can grow beyond a size: what a process meets on a full disk."""

    @contextmanager
    def limit(octets: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, ignored)

    return limit


def test_a_full_disk_costs_lines_but_raises_nothing(
    tmp_path: Path,
    files_end_at: Callable[[int], AbstractContextManager[None]],
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = tmp_path / "journal"
    with JsonLinesJournal(path, "cem", lambda: 1.0) as journal:
        journal.record("first", octets=b"\x01\x02")
        with files_end_at(path.stat().st_size + 20), caplog.at_level(logging.ERROR):
            journal.record("does not fit")
            journal.record("nor this")
        assert [record.message for record in caplog.records] == [
            f"{path}: events are not written down: no space for the whole line"
        ]
        journal.record("last")
    assert "2 events are missing" in caplog.text
    assert [event["event"] for event in read_journal(path)] == ["first", "last"]
    assert next(iter(read_journal(path)))["octets"] == "0102"


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    with JsonLinesJournal(tmp_path / "journal", "cem", lambda: 1.0):
        assert (tmp_path / "journal").stat().st_mode & 0o077 == 0


def test_a_line_that_a_kill_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text('{"t":1,"component":"cem","event":"whole"}\n{"event":"cu')
    assert [event["event"] for event in read_journal(path)] == ["whole"]
    with JsonLinesJournal(path, "cem", lambda: 1.0) as journal:
        journal.record("after the restart")
    assert [event["event"] for event in read_journal(path)] == ["whole", "after the restart"]


def test_a_journal_of_nothing_but_a_cut_line_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_text("x" * 200_000)
    with JsonLinesJournal(path, "cem", lambda: 1.0) as journal:
        journal.record("first")
    assert [event["event"] for event in read_journal(path)] == ["first"]


def test_what_comes_after_the_end_is_not_written_anywhere(tmp_path: Path) -> None:
    with JsonLinesJournal(tmp_path / "journal", "cem", lambda: 1.0) as journal:
        pass
    with (tmp_path / "other").open("wb") as other:
        journal.record("late")
        assert other.tell() == 0
    assert (tmp_path / "other").read_bytes() == b""


def test_a_journal_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(LabError, match="cannot write the journal"):
        JsonLinesJournal(tmp_path, "cem", lambda: 1.0)


@pytest.mark.parametrize(
    "line",
    [b"x", b"[]", b'{"event":"e"}', b'{"t":"1","component":"c","event":"e"}', b"\xff", b"[" * 9999],
)
def test_a_damaged_line_is_told(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"t":1,"component":"cem","event":"whole"}\n' + line + b"\n")
    with pytest.raises(LabError, match="line 2: not an event"):
        list(read_journal(path))
