"""The embedded store: one SQLite file, write-ahead log, every commit synced to the disk before it returns.

Owns the file and its schema version. It must not interpret what it stores beyond the keys it looks up by.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from importlib.resources import files
from pathlib import Path
from threading import Lock

import msgspec

from hostward.errors import StoreError
from hostward.model.endpoint import Endpoint
from hostward.store.audit import AuditRecord, entry_of, successor_record
from hostward.store.memory import conflict, no_such_revision
from hostward.store.records import (
    AccessTokenRecord,
    AttestationRecord,
    AuditEntry,
    Change,
    HostRecord,
    PolicySource,
    RetiredAddress,
    RevisionRecord,
    State,
    TokenRecord,
    Unconfirmed,
)
from hostward.store.token_rules import check_redeemable

SCHEMA_VERSION = 4
# A new file takes all of them in order; an existing one, those above its own version.
_STEPS = {2: "schema.sql", 3: "schema_3_access.sql", 4: "schema_4_attestation.sql"}


class SqliteStore:
    """Implements ``Store`` in one file, which only its owner may read (it names every endpoint of every tenant)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = Lock()
        try:
            # Created here, not by SQLite, so that no moment exists at which others could open it.
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        except (OSError, sqlite3.Error) as error:
            raise StoreError(f"cannot be opened: {error}", subject=str(path)) from error
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise

    def _prepare(self) -> None:
        with self._errors_named():
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._db.execute("PRAGMA busy_timeout = 2000")
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if (version == 0 and tables == 0) or version in _STEPS:
            for target, name in _STEPS.items():
                if target > version:
                    self._step(name, target)
        else:
            raise StoreError(
                f"its schema is version {version}, this program writes version {SCHEMA_VERSION}",
                subject=str(self._path),
                hint="run the version of hostward that wrote it, or restore a backup",
            )

    def _step(self, name: str, version: int) -> None:
        """Take the file to ``version``, whole or not at all."""
        script = files("hostward.store").joinpath(name).read_text(encoding="utf-8")
        with self._errors_named():
            self._db.executescript(f"BEGIN IMMEDIATE;\n{script}\nPRAGMA user_version = {version};\nCOMMIT;")

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StoreError(
                str(error), subject=str(self._path), hint="nothing was written; look at the disk and repeat"
            ) from error

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._lock, self._errors_named():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield self._db
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def load(self) -> State:
        """Read everything."""
        with self._transaction() as db:
            revision, policy_revision = _head(db)
            endpoints = [
                msgspec.json.decode(row, type=Endpoint) for (row,) in db.execute("SELECT record FROM endpoints")
            ]
            hosts = [msgspec.json.decode(row, type=HostRecord) for (row,) in db.execute("SELECT record FROM hosts")]
            retired = [
                msgspec.json.decode(row, type=RetiredAddress) for (row,) in db.execute("SELECT record FROM retired")
            ]
            attestations = db.execute("SELECT host, record FROM attestations").fetchall()
            unconfirmed = db.execute("SELECT record FROM unconfirmed").fetchone()
            numbers = db.execute("SELECT record FROM numbers").fetchone()
            return State(
                revision=revision,
                sources=_policy(db, policy_revision),
                endpoints={endpoint.id: endpoint for endpoint in endpoints},
                hosts={host.name: host for host in hosts},
                retired={address.key: address for address in retired},
                unconfirmed=msgspec.json.decode(unconfirmed[0], type=Unconfirmed) if unconfirmed else None,
                numbers=numbers[0] if numbers else b"",
                attestations={host: msgspec.json.decode(row, type=AttestationRecord) for host, row in attestations},
            )

    def commit(self, expected_revision: int, change: Change) -> int:
        """See ``Store.commit``."""
        with self._transaction() as db:
            revision, policy_revision = _head(db)
            if revision != expected_revision:
                raise conflict(expected_revision, revision)
            _append(db, entry_of(change, _policy(db, policy_revision)), revision, revision + 1)
            _write_revision(db, revision + 1, policy_revision, change)
            return revision + 1

    def go_forward(self, revision: int, change: Change) -> None:
        """Write ``change`` as ``revision``, anywhere above the head: what brings a backup back, and nothing else.

        Join tokens go with it. Which of them were used since the backup is not known, and none may be used twice.
        """
        with self._transaction() as db:
            head, policy_revision = _head(db)
            if revision <= head:
                raise conflict(revision - 1, head)
            _append(db, entry_of(change, _policy(db, policy_revision)), head, revision)
            _write_revision(db, revision, policy_revision, change)
            db.execute("DELETE FROM tokens")

    def revisions(self, limit: int) -> Sequence[RevisionRecord]:
        """See ``Store.revisions``."""
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM revisions ORDER BY number DESC LIMIT ?", (max(limit, 0),)).fetchall()
        return tuple(
            RevisionRecord(
                number,
                datetime.fromisoformat(time),
                author,
                summary,
                policy_revision,
                msgspec.json.decode(allowed, type=tuple[str, ...]),
            )
            for number, time, author, summary, policy_revision, allowed in rows
        )

    def policy_at(self, revision: int) -> Mapping[str, PolicySource]:
        """See ``Store.policy_at``."""
        with self._transaction() as db:
            row = db.execute("SELECT policy_revision FROM revisions WHERE number = ?", (revision,)).fetchone()
            if row is None:
                raise no_such_revision(revision)
            return _policy(db, row[0])

    def put_host(self, host: HostRecord) -> None:
        """See ``Store.put_host``."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO hosts VALUES (?, ?)", (host.name, msgspec.json.encode(host)))

    def put_attestations(self, records: Mapping[str, AttestationRecord | None]) -> None:
        """See ``Store.put_attestations``."""
        with self._transaction() as db:
            _write_records(db, "attestations", "host", records)

    def put_numbers(self, numbers: bytes) -> None:
        """See ``Store.put_numbers``."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO numbers VALUES (1, ?)", (numbers,))

    def confirm(self, audit: AuditEntry | None = None) -> None:
        """See ``Store.confirm``."""
        with self._transaction() as db:
            _append_without_revision(db, audit)
            db.execute("DELETE FROM unconfirmed")

    def put_token(self, token: TokenRecord, audit: AuditEntry | None = None) -> None:
        """See ``Store.put_token``."""
        with self._transaction() as db:
            _append_without_revision(db, audit)
            db.execute("INSERT INTO tokens VALUES (?, ?)", (token.secret_hash, msgspec.json.encode(token)))

    def redeem_token(self, secret_hash: str, host: str, now: datetime) -> TokenRecord:
        """See ``Store.redeem_token``."""
        with self._transaction() as db:
            row = db.execute("SELECT record FROM tokens WHERE secret_hash = ?", (secret_hash,)).fetchone()
            known = msgspec.json.decode(row[0], type=TokenRecord) if row else None
            token = replace(check_redeemable(known, host, now), used_by=host)
            db.execute("UPDATE tokens SET record = ? WHERE secret_hash = ?", (msgspec.json.encode(token), secret_hash))
            return token

    def access_tokens(self) -> Sequence[AccessTokenRecord]:
        """See ``Store.access_tokens``."""
        with self._transaction() as db:
            rows = db.execute("SELECT record FROM access_tokens").fetchall()
        return tuple(msgspec.json.decode(row, type=AccessTokenRecord) for (row,) in rows)

    def put_access_token(self, token: AccessTokenRecord, audit: AuditEntry) -> None:
        """See ``Store.put_access_token``."""
        with self._transaction() as db:
            _append_without_revision(db, audit)
            record = msgspec.json.encode(token)
            db.execute("INSERT OR REPLACE INTO access_tokens VALUES (?, ?)", (token.name, record))

    def put_audit(self, entry: AuditEntry) -> None:
        """See ``Store.put_audit``."""
        with self._transaction() as db:
            _append_without_revision(db, entry)

    def audit(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """See ``Store.audit``."""
        with self._transaction() as db:
            rows = db.execute(
                "SELECT record FROM audit WHERE number > ? ORDER BY number LIMIT ?", (after, max(limit, 0))
            ).fetchall()
        return tuple(msgspec.json.decode(row, type=AuditRecord) for (row,) in rows)

    def audit_length(self) -> int:
        """See ``Store.audit_length``."""
        with self._transaction() as db:
            (length,) = db.execute("SELECT ifnull(max(number), 0) FROM audit").fetchone()
        return int(length)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()


def _head(db: sqlite3.Connection) -> tuple[int, int]:
    row: tuple[int, int] | None = db.execute(
        "SELECT number, policy_revision FROM revisions ORDER BY number DESC LIMIT 1"
    ).fetchone()
    return row or (0, 0)


def _append_without_revision(db: sqlite3.Connection, entry: AuditEntry | None) -> None:
    if entry is not None:
        revision, _ = _head(db)
        _append(db, entry, revision, revision)


def _append(db: sqlite3.Connection, entry: AuditEntry, before: int, after: int) -> None:
    row = db.execute("SELECT record FROM audit ORDER BY number DESC LIMIT 1").fetchone()
    last = msgspec.json.decode(row[0], type=AuditRecord) if row else None
    record = successor_record(last, entry, before, after)
    db.execute("INSERT INTO audit VALUES (?, ?)", (record.number, msgspec.json.encode(record)))


def _policy(db: sqlite3.Connection, policy_revision: int) -> dict[str, PolicySource]:
    rows = db.execute(
        "SELECT tenant, file, text FROM policies JOIN texts ON hash = text_hash WHERE revision = ?", (policy_revision,)
    )
    return {tenant: PolicySource(tenant, file, text) for tenant, file, text in rows}


def _write_revision(db: sqlite3.Connection, revision: int, policy_revision: int, change: Change) -> None:
    """One revision with all that it changes; ``policy_revision`` is whose text is in force if it brings none."""
    if change.sources is not None:
        policy_revision = revision
        _write_policy(db, revision, change.sources)
    db.execute(
        "INSERT INTO revisions VALUES (?, ?, ?, ?, ?, ?)",
        (
            revision,
            change.time.isoformat(),
            change.author,
            change.summary,
            policy_revision,
            msgspec.json.encode(change.allowed_failing).decode(),
        ),
    )
    _write_records(db, "endpoints", "id", change.endpoints)
    _write_records(db, "hosts", "name", change.hosts)
    _write_records(db, "retired", "address", change.retired)
    if change.unconfirmed is not None:
        record = msgspec.json.encode(change.unconfirmed)
        db.execute("INSERT OR REPLACE INTO unconfirmed VALUES (1, ?)", (record,))
    if change.numbers is not None:
        db.execute("INSERT OR REPLACE INTO numbers VALUES (1, ?)", (change.numbers,))


def _write_policy(db: sqlite3.Connection, revision: int, sources: Mapping[str, PolicySource]) -> None:
    for source in sources.values():
        digest = hashlib.sha256(source.text.encode()).hexdigest()
        db.execute("INSERT OR IGNORE INTO texts VALUES (?, ?)", (digest, source.text))
        db.execute("INSERT INTO policies VALUES (?, ?, ?, ?)", (revision, source.tenant, source.file, digest))


def _write_records(
    db: sqlite3.Connection,
    table: str,
    key: str,
    changes: Mapping[str, Endpoint | None]
    | Mapping[str, HostRecord | None]
    | Mapping[str, RetiredAddress | None]
    | Mapping[str, AttestationRecord | None],
) -> None:
    gone = [(name,) for name, record in changes.items() if record is None]
    kept = [(name, msgspec.json.encode(record)) for name, record in changes.items() if record is not None]
    db.executemany(f"DELETE FROM {table} WHERE {key} = ?", gone)  # noqa: S608 (the names are this module's own)
    db.executemany(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", kept)  # noqa: S608
