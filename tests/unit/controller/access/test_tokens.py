"""API tokens: recognised while they live, and nothing in the store to make one from."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from hostward.controller.access import AccessTokens, Role
from hostward.controller.ledger import Ledger
from hostward.errors import ConflictError, NotFoundError, UsageError
from hostward.store.memory import MemoryStore
from hostward.store.sqlite import SqliteStore

NOON = datetime(2026, 5, 4, 12, tzinfo=UTC)
DAY = timedelta(days=1)


class Clock:
    def __init__(self):
        self.now = NOON

    def __call__(self):
        return self.now


def test_a_token_counts_until_it_ends_or_is_revoked():
    async def run():
        clock = Clock()
        tokens = AccessTokens(Ledger(MemoryStore()), clock)
        one = await tokens.create("ci", Role.TENANT_EDITOR, ["b", "a", "a"], DAY, "socket:root")
        two = await tokens.create("audit", Role.AUDITOR, [], DAY, "socket:root")
        known = tokens.authenticate(one)
        assert known is not None
        assert (known.id, known.role, known.tenants) == ("token:ci", Role.TENANT_EDITOR, {"a", "b"})
        assert tokens.authenticate(one[:-1]) is None
        assert tokens.authenticate("") is None
        await tokens.revoke("ci", "socket:root")
        assert tokens.authenticate(one) is None
        with pytest.raises(ConflictError, match="already revoked"):
            await tokens.revoke("ci", "socket:root")
        with pytest.raises(NotFoundError):
            await tokens.revoke("nobody", "socket:root")
        assert tokens.authenticate(two) is not None
        clock.now += DAY
        assert tokens.authenticate(two) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "role", "tenants"),
    [("x", Role.TENANT_EDITOR, []), ("x", Role.AUDITOR, ["a"]), ("", Role.AUDITOR, []), ("a b", Role.AUDITOR, [])],
)
def test_a_senseless_token_is_not_made(name, role, tenants):
    ledger = Ledger(MemoryStore())
    with pytest.raises(UsageError):
        asyncio.run(AccessTokens(ledger, Clock()).create(name, role, tenants, DAY, "socket:root"))
    assert ledger.access_tokens == {}


def test_the_secret_is_not_in_the_file_and_the_token_outlives_a_restart(tmp_path):
    path = tmp_path / "s.db"
    first = Ledger(SqliteStore(path))
    text = asyncio.run(AccessTokens(first, Clock()).create("ci", Role.AUDITOR, [], DAY, "socket:root"))
    first.close()
    assert all(text.removeprefix("hwt_").encode() not in file.read_bytes() for file in tmp_path.iterdir())
    again = Ledger(SqliteStore(path))
    assert AccessTokens(again, Clock()).authenticate(text) is not None
    again.close()
