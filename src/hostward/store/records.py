"""What the store keeps, as frozen values.

This module must not know how anything is written, and nothing here may hold what is neither intent nor enrolment:
flows, statuses and heartbeats are re-derivable and never reach the store.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import TypeVar

from hostward.model.endpoint import Endpoint

# The owner of the platform's file; no tenant can have an empty name.
PLATFORM = ""
# The owner of what is remembered of revoked rules with `keep`: no tenant's name begins so.
REVOKED = "~revoked"


@dataclass(frozen=True, slots=True)
class PolicySource:
    """One policy file as its author wrote it. ``tenant`` is ``PLATFORM`` for the platform's."""

    tenant: str
    file: str
    text: str


class HostState(Enum):
    """What the controller lets a host be. Only an ``ADMITTED`` host gets revisions and has its endpoints published."""

    ADMITTED = "admitted"
    # Its evidence speaks against it; the next good evidence admits it again.
    UNTRUSTED = "untrusted"
    QUARANTINED = "quarantined"
    EVICTED = "evicted"


@dataclass(frozen=True, slots=True)
class AttestationRecord:
    """What has to outlive the controller of a host's attestation: who it is, and the boot that was proven last.

    ``boots`` counts its boots for the gates. The numbers are the TPM's at the last evidence that was written down: the
    first of each boot.
    """

    ek: str  # SHA-256 of the endorsement key, hexadecimal: the host's name
    ak_name: str  # of the key that was activated in its TPM
    boots: int
    clock_ms: int
    reset_count: int
    restart_count: int
    boot_id: str
    revision: int


@dataclass(frozen=True, slots=True)
class HostRecord:
    """An enrolled host.

    ``serials`` are the certificates that may open its channel, newest first: two while a renewal is under way, none
    once the host is evicted, and none after a restore until the host shows the one it has.
    """

    name: str
    state: HostState
    joined: datetime
    serials: tuple[str, ...]
    certificate_end: datetime


@dataclass(frozen=True, slots=True)
class TokenRecord:
    """A join token. Only the hash of its secret is kept, so a stolen store enrols nobody.

    ``host`` binds it to one host name; empty leaves the name to the host. ``used_by`` is empty until it is redeemed.
    """

    secret_hash: str
    host: str
    expires: datetime
    used_by: str = ""


@dataclass(frozen=True, slots=True)
class AccessTokenRecord:
    """An API token. Only the hash of its text is kept. ``role`` and ``tenants`` mean nothing here."""

    name: str
    secret_hash: str
    role: str
    tenants: tuple[str, ...]
    expires: datetime
    revoked: bool = False


class AuditResult(Enum):
    """What became of what was asked for."""

    DONE = "done"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What the audit log is to say of one change or refusal. ``who`` tells how they were authenticated, too.

    ``count`` is how many refusals alike it stands for, of which ``time`` is the last's.
    """

    time: datetime
    who: str
    action: str
    objects: tuple[str, ...]
    summary: str
    result: AuditResult
    count: int = 1


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """One line of the append-only history. ``policy_revision`` is the revision whose policy text this one shares.

    ``allowed_failing`` are the assertions that did not hold, and that the author committed it with all the same.
    """

    number: int
    time: datetime
    author: str
    summary: str
    policy_revision: int
    allowed_failing: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RetiredAddress:
    """An address that an endpoint has given up. Another may have it once the hosts acknowledged ``revision``."""

    network: str
    address: str
    endpoint: str
    revision: int

    @property
    def key(self) -> str:
        """What the store keeps it under."""
        return retirement_key(self.network, self.address)


def retirement_key(network: str, address: str) -> str:
    """The key of a retired address; a network's name holds no space."""
    return f"{network} {address}"


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A change that goes back to the policy of ``return_to`` unless it is confirmed before ``deadline``."""

    return_to: int
    deadline: datetime


@dataclass(frozen=True, slots=True)
class State:
    """Everything a controller needs to start. ``numbers`` is the compiler's own memory, opaque here."""

    revision: int = 0
    sources: Mapping[str, PolicySource] = field(default_factory=dict)
    endpoints: Mapping[str, Endpoint] = field(default_factory=dict)
    hosts: Mapping[str, HostRecord] = field(default_factory=dict)
    retired: Mapping[str, RetiredAddress] = field(default_factory=dict)
    unconfirmed: Unconfirmed | None = None
    numbers: bytes = b""
    attestations: Mapping[str, AttestationRecord] = field(default_factory=dict)  # by host


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit writes.

    ``sources`` and ``numbers``, where given, replace what was there whole. ``endpoints``, ``hosts`` and ``retired`` name
    only what changes (``None``: it is removed), so that a commit costs what it changes, not what the store holds.
    ``unconfirmed``, where given, is what the store then waits for. ``allowed_failing`` goes into history.
    """

    time: datetime
    author: str
    summary: str
    sources: Mapping[str, PolicySource] | None = None
    endpoints: Mapping[str, Endpoint | None] = field(default_factory=dict)
    hosts: Mapping[str, HostRecord | None] = field(default_factory=dict)
    retired: Mapping[str, RetiredAddress | None] = field(default_factory=dict)
    unconfirmed: Unconfirmed | None = None
    numbers: bytes | None = None
    allowed_failing: tuple[str, ...] = ()


def successor(state: State, change: Change) -> State:
    """The state that committing ``change`` on ``state`` makes."""
    return State(
        revision=state.revision + 1,
        sources=state.sources if change.sources is None else dict(change.sources),
        endpoints=_merged(state.endpoints, change.endpoints),
        hosts=_merged(state.hosts, change.hosts),
        retired=_merged(state.retired, change.retired),
        unconfirmed=change.unconfirmed or state.unconfirmed,
        numbers=state.numbers if change.numbers is None else change.numbers,
        attestations=state.attestations,
    )


def with_attestations(
    present: Mapping[str, AttestationRecord], records: Mapping[str, AttestationRecord | None]
) -> Mapping[str, AttestationRecord]:
    """The same with hosts' records written or forgotten."""
    return _merged(present, records)


_R = TypeVar("_R")


def _merged(present: Mapping[str, _R], changes: Mapping[str, _R | None]) -> Mapping[str, _R]:
    if not changes:
        return present
    return {key: record for key, record in {**present, **changes}.items() if record is not None}
