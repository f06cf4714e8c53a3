"""Which addresses a sender may be told of: those that its slice has as peers of the tenant's endpoints, and no other."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings

from hostward.policy import Numbers, compile_policy
from tests.property.strategies import HOSTS, NOW, World, worlds


@given(worlds())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_a_ceiling_names_the_peers_of_the_slice(world: World) -> None:
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    everywhere = [(endpoint.network, address) for endpoint in world.endpoints for address in endpoint.addresses]
    for host in HOSTS:
        held = compiled.slice_for(host, 1)
        names = held.networks
        for tenant in {endpoint.tenant for endpoint in held.endpoints.values()}:
            local = [endpoint for endpoint in held.endpoints.values() if endpoint.tenant == tenant]
            expected = {
                (names[network], prefix.partition("/")[0])
                for (network, prefix), peer in held.addresses.items()
                if prefix.endswith("/32" if "." in prefix else "/128")
                for endpoint in local
                if endpoint.network == network
                for identity in endpoint.addresses.values()
                if any(peer in held.tables[identity, way] for way in ("egress", "ingress"))
            }
            found = compiled.peers_among(host, tenant, everywhere)
            assert set(found) <= expected
            assert {key for key in expected if key in set(compiled.of_address)} == set(found)
        assert compiled.peers_among(host, "nobody", everywhere) == []
