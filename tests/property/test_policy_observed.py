"""Observed flows on random policies: a replay answers as the oracle does, and what is learned opens what it came from."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.model.observed import ObservedFlow
from hostward.model.observed import Party as Seen
from hostward.policy import Numbers, compile_policy, parse_sources
from hostward.policy.learning import learn
from hostward.policy.replay import replay
from hostward.policy.sightings import Lack, flows_of, sighted
from hostward.policy.subjects import every_rule
from tests.property.oracle import Oracle, Party, party
from tests.property.strategies import NOW, PACKETS, World, worlds
from tests.property.test_policy_verdicts import packets

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def flows(world: World) -> list[tuple[ObservedFlow, Party, Party]]:
    """One flow for every packet that the endpoints can send."""
    found = []
    for endpoint, local, remote in packets(world):
        if remote == "host":
            continue  # what passes between an endpoint and its machine is counted, not kept
        source, destination = Party(endpoint.network, local, endpoint), party(world.endpoints, endpoint.network, remote)
        bits = 128 if ":" in remote else 32
        to = Seen(destination.endpoint.id, remote) if destination.endpoint else Seen("", remote, f"{remote}/{bits}")
        for protocol, port in PACKETS:
            seen = ObservedFlow(
                endpoint.network, Seen(endpoint.id, local), to, protocol, port, NOW, NOW, 1, 1, 1, "would-deny", (), 1
            )
            found.append((seen, source, destination))
    return found


@given(worlds())
@EXAMPLES
def test_a_replay_answers_as_the_oracle(world: World) -> None:
    oracle = Oracle(world.policies, NOW)
    policies = (world.policies.effective_platform, *world.policies.tenants.values())
    about_both = any(
        rule.options.by_process and rule.options.at_process for policy in policies for rule in every_rule(policy)
    )
    asked = flows(world)
    answers = replay(
        compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW), [seen for seen, _, _ in asked]
    )
    for (seen, source, destination), answer in zip(asked, answers, strict=True):
        assert answer is not None
        expected = oracle.decide(source, destination, seen.protocol, seen.port)
        assert answer.verdict == expected.verdict, seen
        # Of a rule about both processes each host leaves one to the other: what denies anyhow may then be named instead.
        if expected.spoken and not about_both:
            assert answer.rules == expected.rules, seen


@given(worlds(), st.booleans(), st.data())
@EXAMPLES
def test_what_is_learned_opens_what_it_was_learned_from_and_no_denial(
    world: World, propose: bool, data: st.DataObject
) -> None:
    mine = flows_of("acme", [seen for seen, _, _ in flows(world)])
    if not mine:
        return
    taken = data.draw(st.lists(st.sampled_from(mine), max_size=12, unique=True))
    lesson = learn(world.policies, world.endpoints, taken, "acme", NOW, propose_groups=propose)
    assert not [note for note in lesson.notes if note.startswith("the proposals do not open")]
    if not lesson.rules:
        assert lesson.after == lesson.before
        return
    after = world.policies.merged(parse_sources([("acme.yaml", lesson.after.encode())]))
    learned_from = {flow for rule in lesson.rules for flow in rule.flows}
    before = {one.flow: one.lack for one in sighted(world.policies, "acme", world.endpoints, mine, NOW)}
    for one in sighted(after, "acme", world.endpoints, mine, NOW):
        if one.flow in learned_from:
            assert one.lack is Lack.NOTHING, one
        if before[one.flow] in (Lack.PLATFORM_DENIAL, Lack.OWN_DENIAL):
            assert one.lack is before[one.flow], one
