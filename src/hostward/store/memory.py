"""A store that forgets at exit: for tests and for the offline commands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock

from hostward.errors import ConflictError, NotFoundError
from hostward.store.audit import AuditRecord, entry_of, successor_record
from hostward.store.records import (
    AccessTokenRecord,
    AttestationRecord,
    AuditEntry,
    Change,
    HostRecord,
    PolicySource,
    RevisionRecord,
    State,
    TokenRecord,
    successor,
    with_attestations,
)
from hostward.store.token_rules import check_redeemable


class MemoryStore:
    """Implements ``Store`` in memory."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._state = State()
        self._history: list[RevisionRecord] = []
        self._policies: dict[int, Mapping[str, PolicySource]] = {}
        self._tokens: dict[str, TokenRecord] = {}
        self._access_tokens: dict[str, AccessTokenRecord] = {}
        self._audit: list[AuditRecord] = []

    def load(self) -> State:
        """Read everything."""
        with self._lock:
            return self._state

    def commit(self, expected_revision: int, change: Change) -> int:
        """See ``Store.commit``."""
        with self._lock:
            state = self._state
            if state.revision != expected_revision:
                raise conflict(expected_revision, state.revision)
            number = state.revision + 1
            policy_before = self._history[-1].policy_revision if self._history else 0
            if change.sources is not None:
                self._policies[number] = dict(change.sources)
                policy_revision = number
            else:
                policy_revision = policy_before
            record = RevisionRecord(
                number, change.time, change.author, change.summary, policy_revision, change.allowed_failing
            )
            self._history.append(record)
            self._append(entry_of(change, self._policy(policy_before)), state.revision, number)
            self._state = successor(state, change)
            return number

    def revisions(self, limit: int) -> Sequence[RevisionRecord]:
        """See ``Store.revisions``."""
        with self._lock:
            return tuple(reversed(self._history[-limit:])) if limit > 0 else ()

    def policy_at(self, revision: int) -> Mapping[str, PolicySource]:
        """See ``Store.policy_at``."""
        with self._lock:
            if not 1 <= revision <= len(self._history):
                raise no_such_revision(revision)
            return self._policy(self._history[revision - 1].policy_revision)

    def put_host(self, host: HostRecord) -> None:
        """See ``Store.put_host``."""
        with self._lock:
            self._state = replace(self._state, hosts={**self._state.hosts, host.name: host})

    def put_attestations(self, records: Mapping[str, AttestationRecord | None]) -> None:
        """See ``Store.put_attestations``."""
        with self._lock:
            self._state = replace(self._state, attestations=with_attestations(self._state.attestations, records))

    def put_numbers(self, numbers: bytes) -> None:
        """See ``Store.put_numbers``."""
        with self._lock:
            self._state = replace(self._state, numbers=numbers)

    def confirm(self, audit: AuditEntry | None = None) -> None:
        """See ``Store.confirm``."""
        with self._lock:
            self._append(audit, self._state.revision, self._state.revision)
            self._state = replace(self._state, unconfirmed=None)

    def put_token(self, token: TokenRecord, audit: AuditEntry | None = None) -> None:
        """See ``Store.put_token``."""
        with self._lock:
            self._append(audit, self._state.revision, self._state.revision)
            self._tokens[token.secret_hash] = token

    def redeem_token(self, secret_hash: str, host: str, now: datetime) -> TokenRecord:
        """See ``Store.redeem_token``."""
        with self._lock:
            token = replace(check_redeemable(self._tokens.get(secret_hash), host, now), used_by=host)
            self._tokens[secret_hash] = token
            return token

    def access_tokens(self) -> Sequence[AccessTokenRecord]:
        """See ``Store.access_tokens``."""
        with self._lock:
            return tuple(self._access_tokens.values())

    def put_access_token(self, token: AccessTokenRecord, audit: AuditEntry) -> None:
        """See ``Store.put_access_token``."""
        with self._lock:
            self._append(audit, self._state.revision, self._state.revision)
            self._access_tokens[token.name] = token

    def put_audit(self, entry: AuditEntry) -> None:
        """See ``Store.put_audit``."""
        with self._lock:
            self._append(entry, self._state.revision, self._state.revision)

    def audit(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """See ``Store.audit``."""
        with self._lock:
            return tuple(self._audit[after : after + max(limit, 0)])

    def audit_length(self) -> int:
        """See ``Store.audit_length``."""
        return len(self._audit)

    def close(self) -> None:
        """Nothing to let go of."""

    def _policy(self, policy_revision: int) -> Mapping[str, PolicySource]:
        return self._policies.get(policy_revision, {})

    def _append(self, entry: AuditEntry | None, before: int, after: int) -> None:
        if entry is not None:
            self._audit.append(successor_record(self._audit[-1] if self._audit else None, entry, before, after))


def conflict(expected: int, head: int) -> ConflictError:
    """The error of a commit whose assumption about the head is out of date."""
    return ConflictError(
        f"it was planned against revision {expected}, but the head is {head}",
        subject="commit",
        hint="look at the plan again and repeat",
    )


def no_such_revision(revision: int) -> NotFoundError:
    """The error of asking for a revision that history does not hold."""
    return NotFoundError(
        "there is no such revision", subject=f"revision {revision}", hint="list them: hostward get revisions"
    )
