"""Rules wider than their use: by members, by ports, or not used at all."""

from __future__ import annotations

from tests.unit.policy.build import NOW, endpoint, policies

from hostward.model.observed import ObservedFlow, Party
from hostward.policy.usage import WiderRule, wider_than_observed

ENDS = [
    endpoint("acme/web-1", "10.0.0.1", role="web"),
    endpoint("acme/web-2", "10.0.0.2", role="web"),
    endpoint("acme/db-1", "10.0.0.3", role="db"),
]
POLICY = """tenant: acme
groups: {web: role=web, db: role=db}
rules:
  - shop: allow web to db on tcp/5432, tcp/5433
  - any-port: allow web to db on tcp/5000-6000
  - tunnel: allow web to db on esp
  - out: allow db to internet on tcp/443
  - no: deny web to db on tcp/22
"""


def flow(source: str, destination: str, port: int, protocol: int = 6, verdict: str = "allow") -> ObservedFlow:
    addresses = {e.id: e.addresses[0] for e in ENDS}
    ends = [
        Party(name, addresses[name]) if name in addresses else Party("", name, f"{name}/32")
        for name in (source, destination)
    ]
    return ObservedFlow("default", ends[0], ends[1], protocol, port, NOW, NOW, 3, 9, 900, verdict, (), 1)


def found(*flows: ObservedFlow) -> dict[str, WiderRule]:
    return {rule.rule: rule for rule in wider_than_observed(policies(POLICY), ENDS, flows, NOW)}


def test_a_flow_uses_every_rule_that_matches_it() -> None:
    rules = found(flow("acme/web-1", "acme/db-1", 5432))
    assert (rules["acme/shop"].openings, rules["acme/any-port"].openings) == (3, 3)
    assert rules["acme/shop"].sources == (1, 2)
    assert rules["acme/shop"].destinations == (1, 1)
    assert rules["acme/shop"].unused_ports == ("tcp/5433",)
    assert rules["acme/any-port"].unused_ports == ()


def test_a_rule_used_by_all_on_all_its_ports_is_not_wider() -> None:
    flows = [flow(f"acme/web-{n}", "acme/db-1", port) for n in (1, 2) for port in (5432, 5433)]
    rules = found(*flows, flow("acme/db-1", "203.0.113.1", 443), flow("acme/web-1", "acme/db-1", 0, protocol=50))
    assert rules.keys() == {"acme/tunnel"}
    assert rules["acme/tunnel"].sources == (1, 2)


def test_what_was_not_used_and_what_was_denied_is_told_alike() -> None:
    rules = found(flow("acme/db-1", "203.0.113.1", 443, verdict="deny"))
    assert rules.keys() == {"acme/shop", "acme/any-port", "acme/tunnel", "acme/out"}
    assert rules["acme/out"].openings == 0
    assert rules["acme/out"].destinations is None
