"""What lints claim of rules is true of every packet: the oracle decides with and without them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.policy import PolicySet, parse_sources
from hostward.policy.document import Policy
from hostward.policy.lint import lint
from tests.property.oracle import Oracle, Party, party
from tests.property.strategies import NOW, PACKETS, World, endpoint_sets, worlds
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


@st.composite
def crowded_worlds(draw: Any) -> World:
    """Many rules over few peers, so that rules cover each other."""

    def rules(*peers: str) -> str:
        lines = []
        for _ in range(draw(st.integers(3, 7))):
            sides = [draw(st.sampled_from(peers)) + draw(st.sampled_from(("", "", " except web"))) for _ in range(2)]
            action = draw(st.sampled_from(("allow", "deny")))
            option = draw(st.sampled_from(("", "", "", " log", *([" audit"] if action == "deny" else []))))
            ports = draw(st.sampled_from(("", " on tcp/80", " on tcp/80-443", " on tcp, udp", " on pg")))
            lines.append(f"{' to '.join((f'{action} {sides[0]}', sides[1]))}{ports}{option}")
        return "".join(f"  - r{number}: {line}\n" for number, line in enumerate(lines))

    named = "groups: {web: role=web, app: role=web or env=prod, odd: not has env}\nservices: {pg: [tcp/5432, udp/53]}\n"
    mode = draw(st.sampled_from(("enforce", "enforce", "audit")))
    texts = {
        "acme": f"tenant: acme\nmode: {mode}\n{named}exports: [web]\nrules:\n"
        + rules("any", "own", "web", "app", "internet", "tenant beta/*", "tenant beta/web", "203.0.113.0/24"),
        "beta": f"tenant: beta\n{named}exports: [web, odd]\nrules:\n" + rules("any", "own", "tenant acme/*"),
    }
    if draw(st.booleans()):
        lines = (named + "rules:\n" + rules("any", "own", "web", "internet", "tenant acme/web")).splitlines(
            keepends=True
        )
        texts["platform"] = "platform:\n" + "".join("  " + line for line in lines)
        if draw(st.booleans()):
            texts["platform"] = texts["platform"].replace("  rules:", "  baseline:")
    policies = parse_sources([(f"{name}.yaml", text.encode()) for name, text in texts.items()])
    return World(policies, draw(endpoint_sets(("default",))), "---\n".join(texts.values()))


@given(st.one_of(worlds(), crowded_worlds(), crowded_worlds()))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_rules_said_to_be_shadowed_or_redundant_could_go(world: World) -> None:
    findings = lint(world.policies, (), NOW)
    never = {finding.rule for finding in findings if finding.code in ("shadowed", "matches-nobody", "expired")}
    going = never | {finding.rule for finding in findings if finding.code == "redundant"}
    if not going:
        return
    before, after = Oracle(world.policies, NOW), Oracle(without(world.policies, going), NOW)
    for endpoint, local, remote in packets(world):
        if remote == "host":
            continue  # no address that the oracle could be asked about here
        mine = Party(endpoint.network, local, endpoint)
        peer = party(world.endpoints, endpoint.network, remote)
        for protocol, port in PACKETS:
            for pair in ((mine, peer), (peer, mine)):
                answer = before.decide(*pair, protocol, port)
                assert not never & set(answer.rules), (answer, pair)
                assert answer.verdict == after.decide(*pair, protocol, port).verdict, (pair, protocol, port, going)
