"""A failing assertion blocks every change of policy; whoever lets it pass stands in history with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.controller.lone import Lone, endpoint, lone, run

from hostward.api import listings, views
from hostward.controller.proofs import FailingAssertions
from hostward.errors import PolicyError

SAFE = """tenant: acme
groups: {web: role=web, db: role=db}
rules:
  - shop: allow web to db on tcp/5432
assertions:
  - never internet to db
"""
OPEN = SAFE.replace("rules:\n", "rules:\n  - allow internet to db on tcp/5432\n")
ENDPOINTS = (endpoint("acme/web-1", "10.0.0.1", role="web"), endpoint("acme/db-1", "10.0.0.2", role="db"))


def sources(text: str) -> list[tuple[str, bytes]]:
    return [("acme.yaml", text.encode())]


async def newest(here: Lone) -> dict[str, object]:
    return (await listings.revisions(here.controller))[0].model_dump()


def test_an_apply_is_blocked_unless_it_is_said_and_then_history_says_who_and_what(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=SAFE)
        with pytest.raises(PolicyError, match="does not hold: never internet to db") as refused:
            await here.controller.apply(sources(OPEN), "ann")
        assert "--allow-failing" in str(refused.value)
        assert "before this change" not in str(refused.value)
        assert here.controller.ledger.state.revision == 2
        await here.controller.apply(sources(OPEN), "ann", assertions=FailingAssertions.ALLOW)
        revision = await newest(here)
        assert revision["author"] == "ann"
        assert revision["summary"] == "apply, with 1 assertion failing: acme: never internet to db"
        assert revision["allowed_failing"] == ["acme: never internet to db"]

    run(work())


def test_allowing_what_does_not_fail_records_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS)
        await here.controller.apply(sources(SAFE), "ann", assertions=FailingAssertions.ALLOW)
        revision = await newest(here)
        assert (revision["summary"], revision["allowed_failing"]) == ("apply", [])

    run(work())


def test_what_failed_before_blocks_too_and_is_told_apart(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS)
        await here.controller.apply(sources(OPEN), "ann", assertions=FailingAssertions.ALLOW)
        worse = OPEN + "  - always web to db on tcp/9\n"
        with pytest.raises(PolicyError) as refused:
            await here.controller.apply(sources(worse), "bob")
        first, second = refused.value.problems
        assert first.message.endswith("never internet to db; it does not hold before this change either")
        assert second.message == "the assertion does not hold: always web to db on tcp/9"
        policies = await here.controller.parse(sources(worse))
        impact = await here.controller.impact(policies, 60.0)
        planned = (
            await views.plan(here.controller, policies, await here.controller.failing(policies), impact)
        ).model_dump()
        assert [(f["text"], f["before"]) for f in planned["failing_assertions"]] == [
            ("never internet to db", True),
            ("always web to db on tcp/9", False),
        ]

    run(work())


def test_deleting_a_tenant_and_rolling_back_are_blocked_alike(tmp_path: Path) -> None:
    """A platform's claim about what its tenants provide falls with the tenant."""
    platform = (
        "platform:\n  groups: {dns: service=dns, client: role=web}\n  assertions: [always client to dns on udp/53]\n"
    )
    provider = "tenant: names\ngroups: {all: service=dns}\nrules: [allow any to all on udp/53]\n"
    client = "tenant: acme\nrules: [allow own to any on udp/53]\n"

    async def work() -> None:
        ends = (endpoint("acme/web-1", "10.0.0.1", role="web"), endpoint("names/d", "10.0.0.3", service="dns"))
        here = await lone(tmp_path, *ends, files=(client,))
        await here.controller.apply([("p", platform.encode()), ("n", provider.encode())], "ann")
        head = here.controller.ledger.state.revision
        with pytest.raises(PolicyError, match="always client to dns"):
            await here.controller.delete_tenant("names", "ann")
        assert here.controller.ledger.state.revision == head
        await here.controller.delete_tenant("names", "ann", assertions=FailingAssertions.ALLOW)
        assert (await newest(here))["allowed_failing"] == ["platform: always client to dns on udp/53"]
        with pytest.raises(PolicyError, match="always client to dns"):
            await here.controller.rollback(head + 1, "ann")
        await here.controller.rollback(head + 1, "bob", FailingAssertions.ALLOW)
        revision = await newest(here)
        assert revision["author"] == "bob"
        assert str(revision["summary"]).startswith(
            f"rollback to {head + 1}, with 1 assertion failing: platform: always"
        )

    run(work())
