"""The bounds on what a host needs are never below what its slice takes, whatever endpoints come elsewhere."""

from __future__ import annotations

from dataclasses import fields
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings

from hostward.agent.limits import Limits
from hostward.controller.capacity import Need
from hostward.policy import Extents, Numbers, compile_policy, slicing
from tests.property.strategies import HOSTS, NOW, World, worlds

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(worlds())
@EXAMPLES
def test_the_bound_holds_when_endpoints_of_other_hosts_come(world: World) -> None:
    for host in HOSTS:
        here = [endpoint for endpoint in world.endpoints if endpoint.host == host]
        there = {endpoint.id: endpoint for endpoint in world.endpoints if endpoint.host != host}
        compiled = compile_policy(world.policies, here, Numbers.empty(), NOW)
        counted = Need.most(Extents(compiled).of(host))
        made = Need.of(compiled.slice_for(host, 1))
        after = Need.of(compiled.with_endpoints(there).slice_for(host, 2)).limits
        for before in (made, counted):
            coming = sum(len(endpoint.addresses) for endpoint in there.values())
            bound = before.with_peers(coming, compiled.rows.largest).limits
            for field in fields(Limits):
                assert getattr(after, field.name) <= getattr(bound, field.name), field.name


@pytest.mark.parametrize("many_parts", [0, 1_024])
@given(worlds())
@EXAMPLES
def test_a_slice_takes_no_more_than_its_extent_and_of_most_things_exactly_as_much(
    many_parts: int, world: World
) -> None:
    """Both where peers are counted in parts and where they are too many parts for that."""
    # As after endpoints left: identities that nobody has any more must not count.
    leaving = dict.fromkeys(endpoint.id for endpoint in world.endpoints[::3])
    whole = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    for compiled in (whole, whole.with_endpoints(leaving)):
        extents = Extents(compiled)
        for host in HOSTS:
            with patch.object(slicing, "_MANY_PARTS", many_parts):
                bound = Need.most(extents.of(host))
            taken = Need.of(compiled.slice_for(host, 1))
            for field in fields(Limits):
                assert getattr(taken.limits, field.name) <= getattr(bound.limits, field.name), field.name
            for name in ("endpoints", "flows", "table_entries"):
                assert getattr(taken.limits, name) == getattr(bound.limits, name), name
            assert taken.tables == bound.tables
