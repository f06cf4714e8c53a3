"""What only a file can get wrong: its mode, its schema version, its durability, two writers, a rewritten past."""

import sqlite3
from datetime import UTC, datetime
from importlib.resources import files

import pytest

from hostward.errors import ConflictError, StoreError
from hostward.store.records import Change, PolicySource
from hostward.store.sqlite import SCHEMA_VERSION, SqliteStore

CHANGE = Change(datetime(2026, 5, 4, tzinfo=UTC), "root", "x", sources={"t": PolicySource("t", "t.yaml", "tenant: t")})


def test_only_the_owner_can_read_it(tmp_path):
    SqliteStore(tmp_path / "s.db").close()
    assert (tmp_path / "s.db").stat().st_mode & 0o777 == 0o600


def test_a_store_is_reopened_with_its_state(tmp_path):
    first = SqliteStore(tmp_path / "s.db")
    first.commit(0, CHANGE)
    first.close()
    again = SqliteStore(tmp_path / "s.db")
    assert again.load().sources["t"].text == "tenant: t"
    again.close()


def test_another_schema_version_is_refused(tmp_path):
    SqliteStore(tmp_path / "s.db").close()
    with sqlite3.connect(tmp_path / "s.db") as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    with pytest.raises(StoreError, match="schema is version"):
        SqliteStore(tmp_path / "s.db")


def test_a_file_that_is_no_database_is_refused_by_name(tmp_path):
    (tmp_path / "s.db").write_text("not a database, but long enough to have a header to be looked at " * 20)
    with pytest.raises(StoreError, match=r"s\.db"):
        SqliteStore(tmp_path / "s.db")


def test_two_writers_do_not_both_win(tmp_path):
    one, two = SqliteStore(tmp_path / "s.db"), SqliteStore(tmp_path / "s.db")
    one.commit(0, CHANGE)
    with pytest.raises(ConflictError):
        two.commit(0, CHANGE)
    one.close()
    two.close()


def test_each_commit_is_synced(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    store.close()


def test_history_cannot_be_rewritten(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    store.commit(0, CHANGE)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store._db.execute("UPDATE revisions SET author = 'nobody'")
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        store._db.execute("DELETE FROM policies")
    store.close()


def test_a_file_of_the_version_before_is_brought_up_with_its_history(tmp_path):
    with sqlite3.connect(tmp_path / "s.db") as db:
        db.executescript(files("hostward.store").joinpath("schema.sql").read_text(encoding="utf-8"))
        db.execute("INSERT INTO revisions VALUES (1, '2026-11-01T00:00:00+00:00', 'root', 'apply', 0)")
        db.execute("PRAGMA user_version = 2")
    db.close()
    again = SqliteStore(tmp_path / "s.db")
    assert [(r.number, r.author, r.allowed_failing) for r in again.revisions(9)] == [(1, "root", ())]
    again.commit(1, CHANGE)
    again.close()
