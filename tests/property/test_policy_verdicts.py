"""The compiled slices, walked as their docstring says, decide as the naive oracle does, on both hosts of a flow."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

from hypothesis import HealthCheck, given, settings

from hostward.model.endpoint import Endpoint
from hostward.model.slice import IDENTITY_HOST, IDENTITY_UNKNOWN, HostSlice
from hostward.policy import Numbers, compile_policy
from tests.property.oracle import Answer, Oracle, Party, party
from tests.property.strategies import HOSTS, NOW, OUTSIDE_ADDRESSES, PACKETS, POOL_ADDRESSES, World, without, worlds

MACHINE = "host"  # in place of a remote address: which ones are the machine's, the agent says
EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def walk(slice_: HostSlice, endpoint: Endpoint, local: str, remote: str, direction: str, protocol: int, port: int):
    """What a host decides; None where the remote address is unknown to it."""
    attached = slice_.endpoints[endpoint.id]
    identity = attached.addresses[str(ip_address(local))]
    if remote == MACHINE:
        row = slice_.rows[slice_.tables[identity, direction][IDENTITY_HOST]]
        return slice_.decisions[row.cells[slice_.class_sets[row.class_set].class_of(protocol, port)]]
    parsed = ip_address(remote)
    containing = [
        (prefix, peer)
        for (network, text), peer in slice_.addresses.items()
        if network == attached.network and (prefix := ip_network(text)).version == parsed.version and parsed in prefix
    ]
    peer = max(containing, key=lambda pair: pair[0].prefixlen)[1]
    if peer == IDENTITY_UNKNOWN:
        assert peer not in slice_.tables[identity, direction]
    if peer not in slice_.tables[identity, direction]:
        return None
    row = slice_.rows[slice_.tables[identity, direction][peer]]
    return slice_.decisions[row.cells[slice_.class_sets[row.class_set].class_of(protocol, port)]]


def agrees(answer: Answer, decision, where: str) -> None:
    if decision is None:
        assert answer.verdict == "deny", f"{where}: unknown to the host, but {answer}"
        assert not answer.spoken, f"{where}: unknown to the host, though a rule speaks: {answer}"
    else:
        given_answer = (decision.verdict, decision.rules, decision.log, decision.reject)
        assert given_answer == (answer.verdict, answer.rules, answer.log, answer.reject), where
        held = {(limit.end.value, limit.rate.unit.value, limit.rate.per_s, limit.rule) for limit in decision.limits}
        assert held == answer.limits, where


def packets(world: World):
    for endpoint in world.endpoints:
        for local in endpoint.addresses:
            version = ip_address(local).version
            for remote in (*POOL_ADDRESSES, *OUTSIDE_ADDRESSES):
                if ip_address(remote).version == version:
                    yield endpoint, local, remote
            yield endpoint, local, MACHINE


@given(worlds())
@EXAMPLES
def test_slices_decide_as_the_oracle(world: World) -> None:
    # With process conditions each end leaves the other's to the other, and may name another rule of those that deny: what
    # passes then is in test_policy_processes.py.
    world = without(without(world, "by"), "at")
    oracle = Oracle(world.policies, NOW)
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    slices = {host: compiled.slice_for(host, 7) for host in HOSTS}
    for endpoint, local, remote in packets(world):
        mine = Party(endpoint.network, local, endpoint)
        peer = (
            Party(endpoint.network, "", None, machine=True)
            if remote == MACHINE
            else party(world.endpoints, endpoint.network, remote)
        )
        for protocol, port in PACKETS:
            for direction, pair in (("egress", (mine, peer)), ("ingress", (peer, mine))):
                answer = oracle.decide(*pair, protocol, port)
                where = f"{direction} {local} {remote} {protocol}/{port}"
                decision = walk(slices[endpoint.host], endpoint, local, remote, direction, protocol, port)
                agrees(answer, decision, where)
                if direction == "egress" and peer.endpoint is not None:
                    other = walk(slices[peer.endpoint.host], peer.endpoint, remote, local, "ingress", protocol, port)
                    assert decision == other, f"the two hosts differ: {where}"
