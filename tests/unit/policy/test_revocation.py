"""What a revoked rule with `keep` still does: it keeps what is open, and nothing else."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy import Numbers, PolicySet, compile_policy
from hostward.policy.revocation import remember_revoked, revoked_text, with_revoked
from hostward.policy.verdicts import REMEMBERED, Outcome

ACME = "tenant: acme\ngroups: {web: role=web, db: role=db}\nexports: [db]\n"
BETA = "tenant: beta\ngroups: {web: role=web}\n"
KEPT = ACME + "rules: [allow web to db on tcp/5432 keep]\n"
NOTHING = ACME + "rules: []\n"
LATER = NOW + timedelta(minutes=5)


def outcome(policy: PolicySet, now: datetime = LATER, source: str = "acme", port: int = 5432, **labels: str) -> Outcome:
    web = endpoint(f"{source}/w", "10.0.0.1", **(labels or {"role": "web"}))
    db = endpoint("acme/d", "10.0.0.2", role="db")
    compiled = compile_policy(policy, [web, db], Numbers.empty(), now)
    ends = [compiled.of_address["default", address][1] for address in ("10.0.0.1", "10.0.0.2")]
    classes = compiled.classes_for(frozenset(subject.tenant for subject in ends))
    return compiled.outcome(*ends, classes.class_set.class_of(6, port), classes)


def kept_by(found: Outcome) -> list[str]:
    return [instance.rule.text for instance in found.keeping]


def changed(*texts: str, to: tuple[str, ...]) -> PolicySet:
    return remember_revoked(policies(*texts), policies(*to), NOW)


def test_its_flows_go_on_and_no_new_one_opens() -> None:
    found = outcome(changed(KEPT, to=(NOTHING,)))
    assert (found.verdict, found.rules) == ("deny", ("acme/default-deny",))
    assert kept_by(found) == ["allow web to db on tcp/5432 keep"]


@pytest.mark.parametrize(
    ("after", "asked"),
    [
        (ACME + "rules: [deny web to db on tcp/5432]\n", {}),
        (NOTHING, {"port": 5433}),
        (NOTHING, {"role": "other"}),
        ("tenant: acme\ngroups: {db: role=db}\nrules: []\n", {}),
        ("tenant: acme\ngroups: {web: role=other, db: role=db}\nrules: []\n", {}),
        (NOTHING, {"now": NOW + REMEMBERED}),
    ],
    ids=["a denial", "another port", "another label", "the group is gone", "the group means others", "after its time"],
)
def test_its_flows_end(after: str, asked: dict[str, object]) -> None:
    assert outcome(changed(KEPT, to=(after,)), **asked).keeping == ()


def test_a_rule_without_keep_leaves_nothing() -> None:
    assert outcome(changed(KEPT.replace(" keep", ""), to=(NOTHING,))).keeping == ()


def test_an_edited_rule_of_the_same_name_is_revoked_for_what_it_says_no_more() -> None:
    before = ACME + "rules: [{shop: allow web to db on tcp/5432 keep}]\n"
    after = ACME + "rules: [{shop: allow web to db on tcp/5433 keep}]\n"
    policy = changed(before, to=(after,))
    assert kept_by(outcome(policy)) == ["allow web to db on tcp/5432 keep"]
    assert outcome(policy, port=5433).verdict == "allow"


def test_a_rule_that_comes_back_is_remembered_no_more_and_one_that_stays_away_is() -> None:
    away = changed(KEPT, to=(NOTHING,))
    still = remember_revoked(away, policies(NOTHING), NOW + timedelta(days=1))
    assert still.tenants["acme"].revoked[0].options.until == NOW + REMEMBERED
    back = remember_revoked(still, policies(KEPT), NOW + timedelta(days=2))
    assert back.tenants["acme"].revoked == ()


def test_a_deleted_tenant_is_forgotten() -> None:
    away = changed(KEPT, to=(NOTHING,))
    gone = remember_revoked(away, PolicySet(), NOW)
    assert remember_revoked(gone, policies(NOTHING), NOW).tenants["acme"].revoked == ()


def test_the_end_of_its_time_revokes_it_too() -> None:
    policy = policies(ACME + "rules: ['allow web to db on tcp/5432 keep until 2026-11-24T00:00Z']\n")
    end = datetime.fromisoformat("2026-11-24T00:00+00:00")
    assert outcome(policy, now=NOW).verdict == "allow"
    assert kept_by(outcome(policy, now=end)) != []
    assert outcome(policy, now=end + REMEMBERED).keeping == ()


def test_across_tenants_the_other_side_still_has_to_consent() -> None:
    acme, beta = ACME + "rules: [allow tenant beta/web to db keep]\n", BETA + "rules: [allow web to tenant acme/db]\n"
    exporting = "exports: [web]\n"
    before = (acme, beta + exporting)
    one = changed(*before, to=(NOTHING, beta + exporting))
    assert len(outcome(one, source="beta").keeping) == 1
    both = changed(*before, to=(NOTHING, BETA + exporting + "rules: []\n"))
    assert outcome(both, source="beta").keeping == ()


def test_the_store_remembers() -> None:
    away = changed(KEPT, to=(NOTHING,))
    assert with_revoked(policies(NOTHING), revoked_text(away)).tenants["acme"].revoked == away.tenants["acme"].revoked
    assert revoked_text(policies(NOTHING)) == ""
