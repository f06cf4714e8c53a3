"""Both ends' hosts, each judging the process at its own end, against the oracle, which sees both processes."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hostward.model.slice import Decision
from hostward.policy import Numbers, compile_policy
from hostward.policy.lint import lint
from hostward.policy.reach import Imagined
from tests.property.oracle import Oracle, Party, party
from tests.property.strategies import EXECUTABLES, HOSTS, NOW, PACKETS, World, without, worlds
from tests.property.test_policy_verdicts import EXAMPLES, packets, walk

RANKS = ("deny", "would-deny", "allow")


def judged(slice_, decision: Decision | None, end: str, process: str | None) -> int:
    """What one end's host decides, as a rank."""
    if decision is None:
        return 0
    by_process = getattr(decision, end)
    if by_process is not None:
        named = {path: number for paths, number in by_process.named for path in paths}
        number = by_process.unknown if process is None else named.get(process, by_process.other)
        decision = slice_.decisions[number]
        assert not decision.names, "a decision leads to one that depends on a process again"
    return RANKS.index(decision.verdict)


def both_ends(world: World, process_of, data: st.DataObject):
    """(what the hosts pass between them, what the oracle says, where) of every pair that has endpoints."""
    oracle = Oracle(world.policies, NOW)
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    slices = {host: compiled.slice_for(host, 7) for host in HOSTS}
    for source, local, remote in packets(world):
        peer = party(world.endpoints, source.network, remote) if remote != "host" else None
        if peer is None or peer.endpoint is None:
            continue
        opener, acceptor = process_of(data), process_of(data)
        protocol, port = data.draw(st.sampled_from(PACKETS))
        out = walk(slices[source.host], source, local, remote, "egress", protocol, port)
        into = walk(slices[peer.endpoint.host], peer.endpoint, remote, local, "ingress", protocol, port)
        passed = min(
            judged(slices[source.host], out, "opener", opener),
            judged(slices[peer.endpoint.host], into, "acceptor", acceptor),
        )
        answer = oracle.decide(Party(source.network, local, source), peer, protocol, port, (opener, acceptor))
        yield passed, RANKS.index(answer.verdict), f"{local} {opener} {remote} {acceptor} {protocol}/{port}: {answer}"


def any_process(data: st.DataObject) -> str | None:
    return data.draw(st.sampled_from(EXECUTABLES))


@given(worlds(), st.data())
@EXAMPLES
def test_the_two_ends_never_pass_more_than_the_rules_say(world: World, data: st.DataObject) -> None:
    for passed, said, where in both_ends(world, any_process, data):
        assert passed <= said, where


@given(worlds(), st.data())
@settings(EXAMPLES, suppress_health_check=list(HealthCheck))
def test_where_no_lint_speaks_of_it_they_pass_exactly_what_the_rules_say(world: World, data: st.DataObject) -> None:
    imagined = Imagined(world.policies, NOW)
    known = all(reach.judged for policy in imagined.everybody for reach in imagined.reaches(policy))
    assume(known and not {"not-apart", "not-checked"} & {finding.code for finding in lint(world.policies, (), NOW)})
    for passed, said, where in both_ends(world, any_process, data):
        assert bool(passed) == bool(said), where


@pytest.mark.parametrize("other_end", ["by", "at"])
@given(worlds(), st.data())
@EXAMPLES
def test_where_one_end_alone_matters_they_pass_exactly_that(other_end: str, world: World, data: st.DataObject) -> None:
    for passed, said, where in both_ends(without(world, other_end), any_process, data):
        assert passed == said, where


@given(worlds(), st.data())
@EXAMPLES
def test_a_stranger_at_the_far_end_has_no_known_process(world: World, data: st.DataObject) -> None:
    """The internet has no host of ours: this end decides for both."""
    oracle = Oracle(world.policies, NOW)
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    slices = {host: compiled.slice_for(host, 7) for host in HOSTS}
    for endpoint, local, remote in packets(world):
        peer = Party(endpoint.network, "", None, machine=True)
        if remote != "host":
            peer = party(world.endpoints, endpoint.network, remote)
        if peer.endpoint is not None:
            continue
        mine = Party(endpoint.network, local, endpoint)
        process = any_process(data)
        protocol, port = data.draw(st.sampled_from(PACKETS))
        for direction, end, pair, processes in (
            ("egress", "opener", (mine, peer), (process, None)),
            ("ingress", "acceptor", (peer, mine), (None, process)),
        ):
            decision = walk(slices[endpoint.host], endpoint, local, remote, direction, protocol, port)
            said = oracle.decide(*pair, protocol, port, processes)
            passed = judged(slices[endpoint.host], decision, end, process)
            assert passed == RANKS.index(said.verdict), f"{direction} {local} {remote} {process} {protocol}/{port}"
