"""The audit log's chain, in both stores: written with the change, and broken by whatever somebody does to it."""

import hashlib
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from importlib.resources import files

import msgspec
import pytest

from hostward.errors import ConflictError, StoreError
from hostward.store.audit import GENESIS, AuditRecord, Verified, successor_record, verify
from hostward.store.memory import MemoryStore
from hostward.store.records import AccessTokenRecord, AuditEntry, AuditResult, Change, PolicySource
from hostward.store.sqlite import SqliteStore

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
ACME = PolicySource("acme", "acme.yaml", "tenant: acme\n")
REFUSAL = AuditEntry(NOON, "token:x", "apply", ("tenant evil",), "may not", AuditResult.REFUSED)


@pytest.fixture(params=["memory", "sqlite"])
def store(request, tmp_path):
    made = MemoryStore() if request.param == "memory" else SqliteStore(tmp_path / "state.db")
    yield made
    made.close()


def fill(store):
    store.commit(0, Change(NOON, "token:ci", "apply", sources={"acme": ACME}))
    store.put_audit(REFUSAL)
    store.commit(1, Change(NOON, "socket:root", "delete tenant acme", sources={}))
    token = AccessTokenRecord("t", "h", "auditor", (), NOON + timedelta(days=1))
    store.put_access_token(token, replace(REFUSAL, result=AuditResult.DONE))
    return store.audit(0, 100)


def test_each_change_and_refusal_is_one_record(store):
    records = fill(store)
    told = [(r.number, r.entry.who, r.entry.objects, r.revision_before, r.revision_after) for r in records]
    assert told == [
        (1, "token:ci", ("tenant acme",), 0, 1),
        (2, "token:x", ("tenant evil",), 1, 1),
        (3, "socket:root", ("tenant acme",), 1, 2),
        (4, "token:x", ("tenant evil",), 2, 2),
    ]
    assert records[1].entry.result is AuditResult.REFUSED
    assert verify(records) == Verified(records[-1].hash, 4)
    assert [token.name for token in store.access_tokens()] == ["t"]


def test_a_commit_that_did_not_happen_leaves_no_record(store):
    with pytest.raises(ConflictError):
        store.commit(7, Change(NOON, "token:ci", "apply", sources={"acme": ACME}))
    assert store.audit(0, 100) == ()
    assert verify(()) == Verified(GENESIS, 0)


def forged(record):
    """The record with each of its fields changed in turn."""
    for field, value in {
        "time": NOON + timedelta(seconds=1),
        "who": "token:y",
        "action": "plan",
        "objects": (),
        "summary": "may",
        "result": AuditResult.DONE,
        "count": 2,
    }.items():
        yield replace(record, entry=replace(record.entry, **{field: value}))
    for field, value in {
        "number": 9,
        "revision_before": 9,
        "revision_after": 9,
        "previous": "f" * 64,
        "hash": "f" * 64,
    }.items():
        yield replace(record, **{field: value})


def test_any_changed_field_breaks_the_chain_at_its_record(store):
    records = fill(store)
    changed = list(forged(records[1]))
    assert len(changed) == len(AuditEntry.__slots__) + len(AuditRecord.__slots__) - 1
    for forgery in changed:
        with pytest.raises(StoreError, match=f"audit record {forgery.number}"):
            verify((records[0], forgery, *records[2:]))


def test_a_record_taken_out_is_missed(store):
    records = fill(store)
    for index in range(len(records) - 1):
        with pytest.raises(StoreError, match=f"record {index + 1} is missing"):
            verify(records[:index] + records[index + 1 :])


def test_a_cut_off_end_is_seen_only_by_who_knows_a_later_head(store):
    records = fill(store)
    assert verify(records[:-1]).head == records[-2].hash
    assert verify(records, records[1].hash).head == records[-1].hash
    with pytest.raises(StoreError, match="does not hold the record of head"):
        verify(records[:-1], records[-1].hash)


def test_sql_cannot_rewrite_it(tmp_path):
    store = SqliteStore(tmp_path / "s.db")
    fill(store)
    for statement in ("UPDATE audit SET record = ''", "DELETE FROM audit WHERE number = 2"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            store._db.execute(statement)
    store.close()


def test_a_file_of_schema_two_is_taken_over_whole(tmp_path):
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        db.executescript(files("hostward.store").joinpath("schema.sql").read_text() + "PRAGMA user_version = 2;")
        db.execute("INSERT INTO texts VALUES ('x', 'tenant: acme')")
        db.execute("INSERT INTO revisions VALUES (1, ?, 'root', 'apply', 1)", (NOON.isoformat(),))
        db.execute("INSERT INTO policies VALUES (1, 'acme', 'acme.yaml', 'x')")
        db.execute(
            "INSERT INTO tokens VALUES ('h', ?)",
            (msgspec.json.encode({"secret_hash": "h", "host": "", "expires": NOON}),),
        )
    db.close()
    for _ in range(2):
        store = SqliteStore(path)
        assert store.load().sources["acme"].text == "tenant: acme"
        assert store._db.execute("PRAGMA user_version").fetchone() == (4,)
        store.close()
    store = SqliteStore(path)
    assert store.redeem_token("h", "alpha", NOON - timedelta(hours=1)).used_by == "alpha"
    store.commit(1, Change(NOON, "token:ci", "apply", sources={}))
    assert verify(store.audit(0, 9)).head == store.audit(0, 9)[-1].hash
    store.close()


def test_pages_follow_each_other_without_gap_or_repetition(store):
    records = fill(store)
    assert store.audit(0, 3) == records[:3]
    assert store.audit(3, 3) == records[3:]
    assert store.audit(4, 3) == ()
    assert store.audit(2**63 - 1, 3) == ()
    assert store.audit(0, 0) == ()


def test_a_count_is_sealed_too_and_comes_back(store):
    store.put_audit(replace(REFUSAL, count=7))
    (record,) = store.audit(0, 9)
    assert record.entry.count == 7
    with pytest.raises(StoreError, match="its hash differs"):
        verify((replace(record, entry=replace(record.entry, count=1)),))


def test_a_record_from_before_there_was_a_count_is_still_whole():
    """Written down as version 3 of the schema first had it."""
    written = (
        b'{"number":1,"entry":{"time":"2026-05-04T12:00:00Z","who":"token:x","action":"apply","objects":["tenant evil"],'
        b'"summary":"may not","result":"refused"},"revision_before":1,"revision_after":1,"previous":"%s","hash":"%s"}'
    )
    sealed = hashlib.sha256(written % (GENESIS.encode(), b"")).hexdigest()
    record = msgspec.json.decode(written % (GENESIS.encode(), sealed.encode()), type=AuditRecord)
    assert verify((record,)) == Verified(sealed, 1)
    assert successor_record(None, REFUSAL, 1, 1) == record
