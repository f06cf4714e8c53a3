"""A plan against the flows that were seen: only those for which this change makes the difference."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.unit.controller.lone import Lone, endpoint, lone, run

from hostward.api import views
from hostward.cli.plan_text import coverage, plan_lines
from hostward.errors import ConflictError
from hostward.policy import PolicySet

ENFORCED = """tenant: acme
groups: {web: role=web, db: role=db}
rules:
  - shop: allow web to db on tcp/5432
  - out: allow web to internet on tcp/443
"""
CHANGED = ENFORCED.replace("5432", "5433").replace("  - out: allow web to internet on tcp/443\n", "")
ENDPOINTS = (endpoint("acme/web-1", "10.0.0.1", role="web"), endpoint("acme/db-1", "10.0.0.2", role="db"))
HOUR_S = 3_600.0


def sources(text: str) -> list[tuple[str, bytes]]:
    return [("acme.yaml", text.encode())]


async def planned_change(here: Lone, policies: PolicySet) -> dict[str, object]:
    failing = await here.controller.failing(policies)
    impact = await here.controller.impact(policies, HOUR_S)
    return (await views.plan(here.controller, policies, failing, impact)).model_dump()


def test_a_plan_names_the_seen_flows_that_it_would_break_and_open(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=ENFORCED)
        await here.saw("acme/web-1", "acme/db-1", 5432, packets=1_204, rules=("acme/shop",))
        await here.saw("acme/web-1", "acme/db-1", 5433, verdict="deny")
        await here.saw("acme/web-1", "acme/db-1", 5434, verdict="deny")
        await here.saw("acme/web-1", "203.0.113.7", 443)
        here.clock.pass_time(seconds=12)
        policies = await here.controller.parse(sources(CHANGED))
        plan = await planned_change(here, policies)
        lines = list(plan_lines(plan, here.clock()))
        broken = "would break 2 flows seen in the last 1 h:"
        at = lines.index(broken)
        assert set(lines[at + 1 : at + 3]) == {
            "  acme/web-1 → acme/db-1 tcp/5432 (last seen 12 s ago, 1,204 packets) now denied by acme/default-deny",
            "  acme/web-1 → 203.0.113.7 tcp/443 (last seen 12 s ago, 1 packet) now denied by acme/default-deny",
        }
        opened = lines.index("would newly allow 1 flow denied in the last 1 h:")
        assert lines[opened + 1].startswith("  acme/web-1 → acme/db-1 tcp/5433 ")
        assert "now allowed by acme/shop" in lines[opened + 1]
        # Flows between groups come before them, the text of the change after them.
        assert any(" → acme/db on tcp/5432: allow → deny" in line for line in lines[:at])
        assert [line[0] for line in lines[opened + 2 :]] == ["-", "~"]
        assert list(coverage(plan["observed"], here.clock())) == [
            "flows are known for the last 12 s only: the controller started then"
        ]
        with pytest.raises(
            ConflictError, match=r"would break 2 observed flows: .*acme/db-1 tcp/5432, denied by acme/def"
        ):
            await here.controller.apply(sources(CHANGED), "tester", unbroken_within_s=HOUR_S)
        assert here.controller.ledger.state.revision == 2
        # The control: a window in which nothing was seen has nothing to break.
        await here.controller.apply(sources(CHANGED), "tester", unbroken_within_s=1.0)
        assert here.controller.ledger.state.revision == 3

    run(work())


def test_what_is_denied_already_is_not_broken_by_the_next_change(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=ENFORCED)
        await here.saw("acme/web-1", "acme/db-1", 5432)
        await here.controller.apply(sources(CHANGED), "tester")
        policies = await here.controller.parse(sources(CHANGED + "  - deny any to db on tcp/9\n"))
        impact = await here.controller.impact(policies, HOUR_S)
        assert (impact.broken, impact.opened, impact.seen) == ((), (), 1)

    run(work())


def test_a_relabelled_and_readdressed_endpoint_is_asked_about_as_it_is_now(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=ENFORCED)
        await here.saw("acme/web-1", "acme/db-1", 5432)
        await here.controller.attachments.label("acme/db-1", {"role": "archive"}, "tester")
        policies = await here.controller.parse(sources(ENFORCED.replace("db: role=db", "db: role=archive")))
        # Seen passing when it was a database, denied now, and it would pass again: the last verdict is the same.
        assert (await here.controller.impact(policies, HOUR_S)).broken == ()
        gone = await here.controller.parse(sources(ENFORCED))
        await here.controller.attachments.remove("acme/db-1", "tester")
        assert (await here.controller.impact(gone, HOUR_S)).broken == ()

    run(work())


def test_leaving_audit_breaks_what_was_only_let_through(tmp_path: Path) -> None:
    async def work() -> None:
        audited = ENFORCED.replace("tenant: acme", "tenant: acme\nmode: audit")
        here = await lone(tmp_path, *ENDPOINTS, policy=audited)
        await here.saw("acme/web-1", "acme/db-1", 22, verdict="would-deny")
        still = await here.controller.impact(await here.controller.parse(sources(audited)), HOUR_S)
        assert [one.flow.port for one in still.would_deny] == [22]
        assert still.broken == ()
        enforced = await here.controller.impact(await here.controller.parse(sources(ENFORCED)), HOUR_S)
        assert [(one.flow.port, one.rules) for one in enforced.broken] == [(22, ("acme/default-deny",))]
        assert enforced.would_deny == ()

    run(work())


def test_several_files_are_applied_all_or_none_and_only_on_the_planned_revision(tmp_path: Path) -> None:
    async def work() -> None:
        here = await lone(tmp_path, *ENDPOINTS, policy=ENFORCED)
        both = [*sources(CHANGED), ("b.yaml", b"tenant: other\nrules: [allow own to nobody]\n")]
        with pytest.raises(Exception, match="there is no group 'nobody'"):
            await here.controller.apply(both, "tester")
        assert here.controller.policies.tenants["acme"].source == ENFORCED
        planned = (await planned_change(here, here.controller.policies))["revision"]
        assert planned == 2
        await here.controller.attachments.label("acme/db-1", {"note": "x"}, "somebody else")
        with pytest.raises(ConflictError, match="the plan was made on revision 2, and 3 is committed now"):
            await here.controller.apply(sources(CHANGED), "tester", planned=2)
        await here.controller.apply(sources(CHANGED), "tester", planned=3)

    run(work())
