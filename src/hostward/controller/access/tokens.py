"""API tokens: made, shown once, listed, revoked, and recognised. Only the hash of a secret is kept."""

from __future__ import annotations

import re
import secrets
from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

from hostward.agent.join_token import hash_secret
from hostward.controller.access.principal import Authentication, Principal, Role
from hostward.controller.ledger import Clock, Ledger
from hostward.errors import ConflictError, NotFoundError, UsageError
from hostward.store.records import AccessTokenRecord, AuditEntry, AuditResult

# So that a leaked token is found by whoever scans for secrets.
PREFIX = "hwt_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


class AccessTokens:
    """The tokens of one controller."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger = ledger
        self._clock = clock

    async def create(self, name: str, role: Role, tenants: Collection[str], life: timedelta, author: str) -> str:
        """A new token's text, which cannot be shown again. Raises UsageError and ConflictError."""
        if not _NAME.fullmatch(name):
            raise UsageError("a token's name is 1 to 63 of letters, digits, '.', '_' and '-'", subject=name)
        if role.of_tenants and not tenants:
            raise UsageError(f"a {role.value} is one of some tenant", subject=name, hint="give --tenant")
        if tenants and not role.of_tenants:
            raise UsageError(f"a {role.value} is of no tenant", subject=name, hint="leave --tenant out")
        if name in self._ledger.access_tokens:
            raise ConflictError("there is a token of this name", subject=name, hint="choose another; names stay used")
        text = PREFIX + secrets.token_urlsafe(32)
        now = self._clock()
        record = AccessTokenRecord(name, hash_secret(text), role.value, tuple(sorted(set(tenants))), now + life)
        summary = f"{role.value}{''.join(f' {tenant}' for tenant in record.tenants)} until {record.expires.isoformat()}"
        entry = AuditEntry(now, author, "change-access", (f"token {name}",), summary, AuditResult.DONE)
        await self._ledger.put_access_token(record, entry)
        return text

    def all(self) -> list[AccessTokenRecord]:
        """Every token there ever was, by name."""
        return sorted(self._ledger.access_tokens.values(), key=lambda record: record.name)

    async def revoke(self, name: str, author: str) -> None:
        """End a token at once. Raises NotFoundError and ConflictError."""
        record = self._ledger.access_tokens.get(name)
        if record is None:
            raise NotFoundError("there is no such token", subject=name, hint="list them: hostward access list")
        if record.revoked:
            raise ConflictError("the token is already revoked", subject=name)
        entry = AuditEntry(self._clock(), author, "change-access", (f"token {name}",), "revoked", AuditResult.DONE)
        await self._ledger.put_access_token(replace(record, revoked=True), entry)

    def authenticate(self, text: str) -> Principal | None:
        """Whose token this is, if it is one that counts now.

        Looked up by hash, so the time it takes says nothing about how much of a secret was right.
        """
        wanted = hash_secret(text)
        record = next((r for r in self._ledger.access_tokens.values() if r.secret_hash == wanted), None)
        if record is None or record.revoked or self._clock() >= record.expires:
            return None
        return Principal(record.name, Authentication.TOKEN, Role(record.role), frozenset(record.tenants))
