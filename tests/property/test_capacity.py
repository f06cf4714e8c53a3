"""The bound on what a host needs is never below what its slice takes, whatever endpoints come elsewhere."""

from __future__ import annotations

from dataclasses import fields

from hypothesis import HealthCheck, given, settings

from hostward.agent.limits import Limits
from hostward.controller.capacity import Need
from hostward.policy import Numbers, compile_policy
from tests.property.strategies import HOSTS, NOW, World, worlds


@given(worlds())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_the_bound_holds_when_endpoints_of_other_hosts_come(world: World) -> None:
    for host in HOSTS:
        here = [endpoint for endpoint in world.endpoints if endpoint.host == host]
        there = {endpoint.id: endpoint for endpoint in world.endpoints if endpoint.host != host}
        compiled = compile_policy(world.policies, here, Numbers.empty(), NOW)
        before = Need.of(compiled.slice_for(host, 1))
        after = Need.of(compiled.with_endpoints(there).slice_for(host, 2)).limits
        bound = before.with_peers(sum(len(endpoint.addresses) for endpoint in there.values())).limits
        for field in fields(Limits):
            assert getattr(after, field.name) <= getattr(bound, field.name), field.name
