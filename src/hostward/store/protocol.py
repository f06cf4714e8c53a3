"""The seam between the controller and durable state. Implementations: ``sqlite`` and ``memory``; one contract test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Protocol

from hostward.store.audit import AuditRecord
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
)


class Store(Protocol):
    """Durable state with one writer. A method that returned has reached the disk; one that raised changed nothing.

    Callable from any thread, one call at a time (implementations serialise).
    """

    def load(self) -> State:
        """Read everything."""
        ...

    def commit(self, expected_revision: int, change: Change) -> int:
        """Write ``change`` as the next revision, with its audit record, in one transaction, and return its number.

        Raises ConflictError if the head is not ``expected_revision``: somebody else committed in between.
        """
        ...

    def revisions(self, limit: int) -> Sequence[RevisionRecord]:
        """The newest ``limit`` revisions, newest first."""
        ...

    def policy_at(self, revision: int) -> Mapping[str, PolicySource]:
        """The policy text of a past revision. Raises NotFoundError."""
        ...

    def put_host(self, host: HostRecord) -> None:
        """Write a host's record without making a revision (its certificate changed, not what is enforced)."""
        ...

    def put_attestations(self, records: Mapping[str, AttestationRecord | None]) -> None:
        """Write what is to be remembered of hosts' attestations, or forget it, all at once, without making a revision."""
        ...

    def put_numbers(self, numbers: bytes) -> None:
        """Write the compiler's memory without making a revision: a slice that was made later allocated numbers."""
        ...

    def confirm(self, audit: AuditEntry | None = None) -> None:
        """Forget what waits to be confirmed, without making a revision; ``audit`` is written with it."""
        ...

    def put_token(self, token: TokenRecord, audit: AuditEntry | None = None) -> None:
        """Keep a new join token; ``audit`` is written with it."""
        ...

    def redeem_token(self, secret_hash: str, host: str, now: datetime) -> TokenRecord:
        """Mark a token used by ``host``, once.

        Raises EnrolmentError if it is unknown, used, expired, or bound to another host; then it stays as it was.
        """
        ...

    def access_tokens(self) -> Sequence[AccessTokenRecord]:
        """Every API token."""
        ...

    def put_access_token(self, token: AccessTokenRecord, audit: AuditEntry) -> None:
        """Write an API token, new or changed, and ``audit`` with it."""
        ...

    def put_audit(self, entry: AuditEntry) -> None:
        """Record what changed nothing: refusals."""
        ...

    def audit(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """At most ``limit`` records of the audit log with numbers above ``after``, oldest first.

        They are as they stand there: whoever relies on them verifies the chain.
        """
        ...

    def audit_length(self) -> int:
        """The number of the audit log's newest record; 0 if there is none."""
        ...

    def close(self) -> None:
        """Let go of files. Further calls are errors."""
        ...
