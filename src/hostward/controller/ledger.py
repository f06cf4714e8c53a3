"""The head of history in memory, and the one way to move it: every commit goes through here, one at a time.

Owns the pairing of ``State`` with the store. It must not know what a change means.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from hostward.controller.batches import Batches
from hostward.store.audit import AuditRecord, Verified, verify
from hostward.store.protocol import Store
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

Clock = Callable[[], datetime]
# So many records of the audit log are read at once to verify it.
AUDIT_PAGE = 1_000


def utc_now() -> datetime:
    """The clock of a running controller; tests pass their own."""
    return datetime.now(UTC)


class Ledger:
    """The committed state. Reads cost nothing; writes wait for the disk in a thread, so that the loop goes on."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state = store.load()
        self._attestations: Batches[str, AttestationRecord | None] = Batches(self._put_attestations, 2.0, 0.1)
        self._access_tokens = {token.name: token for token in store.access_tokens()}
        # Held by whoever plans and commits, from the reading of the head to the commit: two plans never interleave.
        self.changing = asyncio.Lock()

    @property
    def state(self) -> State:
        """What is committed."""
        return self._state

    async def commit(self, change: Change) -> int:
        """Write the next revision; ``changing`` is held. Raises what ``Store.commit`` raises; then nothing changed."""
        if not self.changing.locked():
            raise RuntimeError("commit without holding Ledger.changing")
        number = await asyncio.to_thread(self._store.commit, self._state.revision, change)
        self._state = successor(self._state, change)
        return number

    async def put_host(self, host: HostRecord) -> None:
        """Write a host's record without a revision."""
        await asyncio.to_thread(self._store.put_host, host)
        self._state = replace(self._state, hosts={**self._state.hosts, host.name: host})

    async def put_attestation(self, host: str, record: AttestationRecord | None) -> None:
        """Write what is to be remembered of a host's attestation, or forget it, without a revision.

        After a power failure all hosts come with a new boot: what comes during one write shares the next.
        """
        await self._attestations.put(host, record)

    async def _put_attestations(self, records: Mapping[str, AttestationRecord | None]) -> Mapping[str, Exception]:
        await asyncio.to_thread(self._store.put_attestations, records)
        self._state = replace(self._state, attestations=with_attestations(self._state.attestations, records))
        return {}

    async def drain(self) -> None:
        """Wait for what is being written."""
        await self._attestations.drain()

    async def put_numbers(self, numbers: bytes) -> None:
        """Write the compiler's memory without a revision."""
        await asyncio.to_thread(self._store.put_numbers, numbers)
        self._state = replace(self._state, numbers=numbers)

    async def confirm(self, audit: AuditEntry | None = None) -> None:
        """Forget what waits to be confirmed; ``changing`` is held."""
        await asyncio.to_thread(self._store.confirm, audit)
        self._state = replace(self._state, unconfirmed=None)

    async def put_token(self, token: TokenRecord, audit: AuditEntry | None = None) -> None:
        """Keep a join token."""
        await asyncio.to_thread(self._store.put_token, token, audit)

    @property
    def access_tokens(self) -> Mapping[str, AccessTokenRecord]:
        """Every API token by name."""
        return self._access_tokens

    async def put_access_token(self, token: AccessTokenRecord, audit: AuditEntry) -> None:
        """Write an API token, new or changed."""
        await asyncio.to_thread(self._store.put_access_token, token, audit)
        self._access_tokens = {**self._access_tokens, token.name: token}

    async def put_audit(self, entry: AuditEntry) -> None:
        """Record refusals."""
        await asyncio.to_thread(self._store.put_audit, entry)

    async def audit(self, after: int, limit: int) -> Sequence[AuditRecord]:
        """At most ``limit`` records of the audit log with numbers above ``after``, oldest first."""
        return await asyncio.to_thread(self._store.audit, after, limit)

    async def audit_length(self) -> int:
        """How many records the audit log has."""
        return await asyncio.to_thread(self._store.audit_length)

    async def verify_audit(self, head: str = "") -> Verified:
        """Verify the whole audit log; raises what ``store.audit.verify`` raises.

        Read in pages, so that it neither lies in memory whole nor holds up who writes.
        """
        return await asyncio.to_thread(verify, self._audit_records(), head)

    def _audit_records(self) -> Iterator[AuditRecord]:
        after = 0
        while page := self._store.audit(after, AUDIT_PAGE):
            yield from page
            after = page[-1].number

    async def redeem_token(self, secret_hash: str, host: str, now: datetime) -> TokenRecord:
        """Use up a join token. Raises EnrolmentError."""
        return await asyncio.to_thread(self._store.redeem_token, secret_hash, host, now)

    async def revisions(self, limit: int) -> Sequence[RevisionRecord]:
        """History, newest first."""
        return await asyncio.to_thread(self._store.revisions, limit)

    async def policy_at(self, revision: int) -> Mapping[str, PolicySource]:
        """The policy text of a past revision. Raises NotFoundError."""
        return await asyncio.to_thread(self._store.policy_at, revision)

    def close(self) -> None:
        """Close the store."""
        self._store.close()
