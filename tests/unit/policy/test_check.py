"""Assertions: proved over everybody they speak of, and refuted by a flow that one can try."""

from __future__ import annotations

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.policy import check

GROUPS = "tenant: acme\ngroups: {web: role=web, db: role=db, both: role=web and tier=gold, none: a=b and a=c}\n"


def results(assertion: str, *rules: str, endpoints=(), platform: str = ""):
    text = GROUPS + "rules:\n" + "".join(f"  - {rule}\n" for rule in rules) if rules else GROUPS
    files = [text + f"assertions:\n  - {assertion}\n", *([platform] if platform else [])]
    (result,) = check(policies(*files), endpoints, NOW)
    return result


@pytest.mark.parametrize(
    ("assertion", "rule", "holds"),
    [
        ("never internet to db", "allow internet to web", True),
        ("never internet to db", "allow internet to web, db on tcp/1-9", False),
        ("never internet to db on tcp/10", "allow internet to web, db on tcp/1-9", True),
        ("never internet to db on tcp/9-20", "allow internet to web, db on tcp/1-9", False),
        ("always web to db on tcp/5-7", "allow web to db on tcp/1-9", True),
        ("always web to db on tcp/5-10", "allow web to db on tcp/1-9", False),
        ("always web to db", "allow web to db", True),
        ("never web to db on esp", "allow web to db on proto/50", False),
        ("never any to db", "allow 203.0.113.0/24 to db on tcp/1", False),
        ("never none to db", "allow any to db", True),
        ("always none to db", "allow any to db", False),
        ("never own to tenant other/x", "allow own to any", True),
    ],
)
def test_offline(assertion: str, rule: str, holds: bool) -> None:
    assert results(assertion, rule).holds is holds


def test_somebody_in_two_groups_is_tried() -> None:
    result = results("always web to db", "allow web to db", "deny both to db on tcp/7")
    assert not result.holds
    assert "both" in result.counter_example
    assert "tcp/7" in result.counter_example


def test_with_endpoints_only_those_count() -> None:
    web, db = endpoint("acme/w", "10.0.0.1", role="web"), endpoint("acme/d", "10.0.0.2", role="db")
    rules = ("allow web to db", "deny both to db")
    assert results("always web to db", *rules, endpoints=(web, db)).holds
    assert not results("always web to db", *rules, endpoints=(db,)).holds
    assert results("never web to db", *rules, endpoints=(db,)).holds


def test_the_platforms_own_is_each_tenant() -> None:
    platform = "platform:\n  baseline: [allow own to own on tcp/1]\n  assertions: [never own to own on tcp/1-2]\n"
    (result,) = check(policies("tenant: acme\n", platform), (), NOW)
    assert not result.holds
    assert "tcp/1:" in result.counter_example


def test_a_platform_alone_is_proved_for_any_tenant() -> None:
    platform = "platform: {rules: [allow any to internet on tcp/25], assertions: [never any to internet on tcp/25]}"
    assert not check(policies(platform), (), NOW)[0].holds


def test_a_part_of_a_prefix_that_another_rule_does_not_deny_is_tried() -> None:
    rules = ("allow 203.0.113.0/24 to db on tcp/1", "deny 203.0.113.0/25 to db")
    result = results("never any to db", *rules)
    assert not result.holds
    assert result.counter_example.startswith("203.0.113.128 to ")
    assert results("never any to db", *rules, "deny 203.0.113.128/25 to db").holds
