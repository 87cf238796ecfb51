"""The SQLite store."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from dcc_sim import StoreError
from dcc_sim.ports import CommandRow, CommandState, PostingRow
from dcc_sim.store import SqliteStore


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "state.sqlite")


@pytest.fixture
def row(names):
    return CommandRow(
        names["supplier"],
        names["device"],
        2**64 - 1,
        CommandState.TRANSFORMED,
        b"pre",
        b"",
        "5.4",
    )


@pytest.fixture
def posting(names):
    return PostingRow(4, names["supplier"], "reference", "kind", b"<x/>", 12.5)


def reopened(store, path):
    store.close()
    return SqliteStore(path)


def test_life_of_a_command(path, row, posting):
    store = SqliteStore(path)
    store.save_transformed(row, None)
    store.commit()
    store = reopened(store, path)
    loaded = store.load()
    assert loaded.commands == [row]
    assert loaded.counters == {row.user: [2**64 - 1]}
    assert loaded.floors == {}
    accepted = replace(row, state=CommandState.ACCEPTED, command=b"command")
    store.save_accepted(accepted)
    store.commit()
    store = reopened(store, path)
    assert store.load().commands == [accepted]
    timed_out = replace(accepted, state=CommandState.TIMED_OUT)
    store.save_timed_out(timed_out, [posting])
    store.commit()
    store = reopened(store, path)
    assert store.load().commands == [timed_out]
    assert store.load().postings == [posting]
    store.save_answered(timed_out, [replace(posting, posting_id=5)])
    store.delete_posting(4)
    store.commit()
    store = reopened(store, path)
    assert store.load().commands == []
    assert [one.posting_id for one in store.load().postings] == [5]
    assert store.load().last_posting_id == 5
    store.close()


def test_displaced_counter_takes_along_what_was_not_accepted(path, row):
    store = SqliteStore(path)
    for counter in (1, 2, 3):
        store.save_transformed(replace(row, originator_counter=counter), None)
    kept = replace(row, originator_counter=2, state=CommandState.ACCEPTED)
    store.save_accepted(kept)
    store.save_transformed(replace(row, originator_counter=4), 2)
    store.commit()
    loaded = store.load()
    assert [one.originator_counter for one in loaded.commands] == [2, 3, 4]
    assert loaded.floors == {row.user: 2}
    assert sorted(loaded.counters[row.user]) == [3, 4]
    store.close()


def test_what_was_not_committed_is_lost(path, row, posting):
    store = SqliteStore(path)
    store.save_transformed(row, None)
    store.save_postings([posting])
    store = reopened(store, path)
    assert store.load().commands == []
    store.save_postings([posting])
    assert store.load().postings == []
    store.close()


def test_failed_save_leaves_earlier_ones_of_the_same_commit(path, row, posting):
    store = SqliteStore(path)
    store.save_transformed(row, None)
    with pytest.raises(StoreError):
        store.save_transformed(row, None)
    with pytest.raises(StoreError):
        store.save_postings([posting, posting])
    store.commit()
    assert store.load().commands == [row]
    assert store.load().postings == []
    store.close()


def test_second_process_is_refused(path):
    store = SqliteStore(path)
    with pytest.raises(StoreError, match="cannot open"):
        SqliteStore(path)
    store.close()


def test_foreign_and_future_files_are_refused(path, tmp_path):
    garbage = tmp_path / "garbage"
    garbage.write_bytes(b"garbage" * 1000)
    with pytest.raises(StoreError):
        SqliteStore(str(garbage))
    with pytest.raises(StoreError):
        SqliteStore(str(tmp_path / "no" / "such" / "folder"))
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(StoreError, match="version 99"):
        SqliteStore(path)


def test_closed_store_says_so(path, row):
    store = SqliteStore(path)
    store.close()
    with pytest.raises(StoreError):
        store.load()
    with pytest.raises(StoreError):
        store.save_accepted(row)


def test_only_its_owner_may_read_it(path):
    SqliteStore(path).close()
    assert Path(path).stat().st_mode & 0o077 == 0


def test_a_folder_that_is_not_there_is_told(tmp_path):
    with pytest.raises(StoreError, match="cannot open"):
        SqliteStore(str(tmp_path / "none" / "state.sqlite"))
