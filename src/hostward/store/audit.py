"""The audit log's chain: each record holds the hash of the one before it, so that none can be changed or taken out unseen.

Whoever can write the file can also make a new chain, or cut off its end: only a head hash kept elsewhere shows that.
Pure: the stores keep the records.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import msgspec

from hostward.errors import StoreError
from hostward.store.records import PLATFORM, REVOKED, AuditEntry, AuditResult, Change, PolicySource

# What the first record holds as the hash before it.
GENESIS = "0" * 64


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One link. The revisions are equal where a change made none."""

    number: int
    entry: AuditEntry
    revision_before: int
    revision_after: int
    previous: str
    hash: str = ""


def entry_of(change: Change, policy_before: Mapping[str, PolicySource]) -> AuditEntry:
    """What the log says of a commit: which tenants' texts, endpoints and hosts it touched."""
    tenants: list[str] = []
    if change.sources is not None:
        names = sorted((policy_before.keys() | change.sources.keys()) - {REVOKED})
        changed = [name for name in names if policy_before.get(name) != change.sources.get(name)]
        tenants = ["platform" if name == PLATFORM else f"tenant {name}" for name in changed]
    endpoints = [f"endpoint {name}" for name in sorted(change.endpoints)]
    hosts = [f"host {name}" for name in sorted(change.hosts)]
    objects = (*tenants, *endpoints, *hosts)
    return AuditEntry(change.time, change.author, "commit", objects, change.summary, AuditResult.DONE)


def successor_record(last: AuditRecord | None, entry: AuditEntry, before: int, after: int) -> AuditRecord:
    """The record that follows ``last``."""
    number, previous = (last.number + 1, last.hash) if last else (1, GENESIS)
    unsealed = AuditRecord(number, entry, before, after, previous)
    return replace(unsealed, hash=_hash(unsealed))


@dataclass(frozen=True, slots=True)
class Verified:
    """A chain that is whole: the hash of its newest record, and how many there are."""

    head: str
    records: int


def verify(records: Iterable[AuditRecord], head: str = "") -> Verified:
    """Follow the chain from its start. Raises StoreError naming the first record at which it breaks.

    With ``head``, a hash that an earlier call returned, that record must still be there.
    """
    newest, number, head_seen = GENESIS, 0, head in ("", GENESIS)
    for record in records:
        number += 1
        why = ""
        if record.number != number:
            why = f"record {number} is missing"
        elif record.previous != newest:
            why = "it does not hold the hash of the record before it"
        elif record.hash != _hash(record):
            why = "it is not what was written: its hash differs"
        if why:
            raise StoreError(
                f"the audit log was tampered with: {why}",
                subject=f"audit record {record.number}",
                hint="compare with a backup from before",
            )
        newest = record.hash
        head_seen = head_seen or newest == head
    if not head_seen:
        raise StoreError(
            f"the audit log does not hold the record of head {head}",
            subject="audit log",
            hint="its end was cut off, or it is another log; compare with a backup",
        )
    return Verified(newest, number)


def _hash(record: AuditRecord) -> str:
    # Field order is the order of the dataclasses, numbers and text have one encoding: the same record, the same bytes.
    body = msgspec.to_builtins(replace(record, hash=""))
    if record.entry.count == 1:
        # As it was before there was a count: the logs of earlier versions stay whole.
        del body["entry"]["count"]
    return hashlib.sha256(msgspec.json.encode(body)).hexdigest()
