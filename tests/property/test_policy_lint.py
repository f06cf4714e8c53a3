"""What lints claim of rules is true of every packet: the oracle decides with and without them."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, given, settings

from hostward.policy import PolicySet
from hostward.policy.document import Policy
from hostward.policy.lint import lint
from tests.property.oracle import Oracle, Party, party
from tests.property.strategies import NOW, PACKETS, World, worlds
from tests.property.test_policy_verdicts import packets


def without(policies: PolicySet, rules: set[str]) -> PolicySet:
    def less(policy: Policy):
        kept = {
            name: tuple(rule for rule in getattr(policy, name) if rule.id not in rules)
            for name in ("rules", "baseline")
            if hasattr(policy, name)
        }
        return replace(policy, **kept)

    platform = less(policies.platform) if policies.platform else None
    return PolicySet(platform, {name: less(policy) for name, policy in policies.tenants.items()})


@given(worlds())
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_rules_said_to_be_shadowed_or_redundant_could_go(world: World) -> None:
    findings = lint(world.policies, (), NOW)
    never = {finding.rule for finding in findings if finding.code in ("shadowed", "matches-nobody", "expired")}
    going = never | {finding.rule for finding in findings if finding.code == "redundant"}
    if not going:
        return
    before, after = Oracle(world.policies, NOW), Oracle(without(world.policies, going), NOW)
    for endpoint, local, remote in packets(world):
        mine = Party(endpoint.network, local, endpoint)
        peer = party(world.endpoints, endpoint.network, remote)
        for protocol, port in PACKETS:
            for pair in ((mine, peer), (peer, mine)):
                answer = before.decide(*pair, protocol, port)
                assert not never & set(answer.rules), (answer, pair)
                assert answer.verdict == after.decide(*pair, protocol, port).verdict, (pair, protocol, port, going)
