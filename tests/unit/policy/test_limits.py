"""`limit=`: what a rate says, whose endpoint counts, and which limit holds where several rules allow the same."""

from __future__ import annotations

import pytest
from tests.unit.policy.build import NOW, endpoint, policies

from hostward.model.limit import Rate, Unit
from hostward.model.slice import Decision
from hostward.policy import Numbers, compile_policy
from hostward.policy.limits import parse_rate, rate_text

WEB = endpoint("acme/w", "10.0.0.1", role="web")
DB = endpoint("acme/d", "10.0.0.2", role="db")
API = endpoint("shop/a", "10.0.0.3", role="api")
ACME = "tenant: acme\ngroups: {web: role=web, db: role=db}\nexports: [db]\n"
SHOP = "tenant: shop\ngroups: {api: role=api}\nexports: [api]\n"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("2Gbit/s", Rate(Unit.BITS, 2_000_000_000)),
        ("8kbit/s", Rate(Unit.BITS, 8_000)),
        ("20kpkt/s", Rate(Unit.PACKETS, 20_000)),
        ("1pkt/s", Rate(Unit.PACKETS, 1)),
        ("500conn/s", Rate(Unit.CONNECTIONS, 500)),
        ("00500conn/s", Rate(Unit.CONNECTIONS, 500)),
    ],
)
def test_a_rate(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0pkt/s", "7999bit/s", "10001Gbit/s", f"{'9' * 40}conn/s"])
def test_a_rate_out_of_bounds(text: str) -> None:
    with pytest.raises(ValueError, match="out of bounds"):
        parse_rate(text)


def decided(*texts: str, source: str, destination: str) -> Decision:
    """What is decided between two of the endpoints on tcp/443."""
    found = compile_policy(policies(*texts), [WEB, DB, API], Numbers.empty(), NOW)
    slice_ = found.slice_for("h1", 1)
    identities = {e.id: next(iter(e.addresses.values())) for e in slice_.endpoints.values()}
    row = slice_.rows[slice_.tables[identities[source], "egress"][identities[destination]]]
    return slice_.decisions[row.cells[slice_.class_sets[row.class_set].class_of(6, 443)]]


def held(decision: Decision) -> set[tuple[str, str, int, str]]:
    return {(limit.rule, limit.end.value, limit.rate.per_s, limit.rate.unit.value) for limit in decision.limits}


def test_within_a_tenant_both_ends_count() -> None:
    text = ACME + "rules: [r: allow web to db on tcp/443 limit=5conn/s]\n"
    assert held(decided(text, source="acme/w", destination="acme/d")) == {
        ("acme/r", "source", 5, "conn/s"),
        ("acme/r", "destination", 5, "conn/s"),
    }


def test_across_tenants_each_counts_at_its_own_end() -> None:
    acme = ACME + "rules: [inward: allow tenant shop/api to db on tcp/443 limit=9pkt/s]\n"
    shop = SHOP + "rules: [outward: allow api to tenant acme/db on tcp/443 limit=8kbit/s]\n"
    assert held(decided(acme, shop, source="shop/a", destination="acme/d")) == {
        ("shop/outward", "source", 8_000, "bit/s"),
        ("acme/inward", "destination", 9, "pkt/s"),
    }


def test_of_several_the_strictest_of_each_unit_holds_and_none_lifts_it() -> None:
    rules = [
        "a: allow web to db limit=50pkt/s",
        "b: allow web to any on tcp/443 limit=40pkt/s",
        "c: allow web to db on tcp/443",
        "d: allow own to own limit=1Mbit/s",
    ]
    expected = {("acme/b", 40, "pkt/s"), ("acme/d", 1_000_000, "bit/s")}
    for order in (rules, rules[::-1]):
        decision = decided(ACME + f"rules: [{', '.join(order)}]\n", source="acme/w", destination="acme/d")
        assert {(rule, per_s, unit) for rule, _, per_s, unit in held(decision)} == expected
        assert decision.rules == ("acme/a",)


def test_a_rules_number_is_its_own_in_every_decision() -> None:
    text = ACME + "rules: [r: allow web to db limit=5conn/s, allow web to db on tcp/443 limit=1pkt/s]\n"
    found = compile_policy(policies(text), [WEB, DB], Numbers.empty(), NOW).slice_for("h1", 1)
    limits = [limit for decision in found.decisions.values() for limit in decision.limits]
    numbers = {limit.rule: limit.number for limit in limits}
    assert {(limit.rule, limit.number) for limit in limits} == set(numbers.items())
    assert len(set(numbers.values()) | set(found.decisions)) == len(numbers) + len(found.decisions)


def test_a_tier_that_does_not_decide_does_not_limit() -> None:
    platform = "platform:\n  rules: [allow any to any on tcp/443]\n  baseline: [allow own to own limit=1pkt/s]\n"
    text = ACME + "rules: [allow web to db limit=5conn/s]\n"
    assert held(decided(platform, text, source="acme/w", destination="acme/d")) == set()


@pytest.mark.parametrize("text", ["2Gbit/s", "1500Mbit/s", "20kpkt/s", "1pkt/s", "501conn/s"])
def test_a_rate_is_written_as_it_is_read(text: str) -> None:
    assert rate_text(parse_rate(text)) == text
