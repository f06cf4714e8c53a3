"""A revision made by changing endpoints is the one that a whole compilation makes, and leaves the one before as it was."""

from __future__ import annotations

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from hostward.errors import ConflictError
from hostward.model.endpoint import Endpoint
from hostward.model.slice import HostSlice
from hostward.policy import Allocator, Compiled, Numbers, compile_policy, encode_slice
from tests.property.strategies import HOSTS, NOW, World, worlds

EXAMPLES = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(worlds(), worlds(), st.randoms(use_true_random=False))
@EXAMPLES
def test_changed_endpoints_give_what_a_whole_compilation_gives(world: World, other: World, random: object) -> None:
    first = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    before = slices(first)
    wanted = {endpoint.id: endpoint for endpoint in other.endpoints}
    try:
        compile_policy(world.policies, other.endpoints, Numbers.empty(), NOW)
    except ConflictError:
        assume(False)  # the other world's networks are not this one's
    moving = [e for e in first.endpoints if wanted.get(e) != first.endpoints[e]]
    compiled = first.with_endpoints(dict.fromkeys(moving))
    coming = [endpoint for name, endpoint in wanted.items() if name not in compiled.endpoints]
    random.shuffle(coming)
    for endpoint in coming:
        compiled = compiled.with_endpoints({endpoint.id: endpoint})
    mine = slices(compiled)  # first: slices allocate the numbers that the whole compilation then finds
    whole = compile_policy(world.policies, other.endpoints, compiled.numbers, NOW)
    assert mine == slices(whole)
    assert slices(first) == before


@given(worlds())
@EXAMPLES
def test_a_relabelled_endpoint_is_the_same_as_one_that_left_and_came(world: World) -> None:
    assume(world.endpoints)
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    old = world.endpoints[0]
    new = Endpoint(old.tenant, old.name, {"role": "app"}, old.mac, old.addresses, old.host, old.port, old.network)
    at_once = compiled.with_endpoints({old.id: new})
    in_turn = compiled.with_endpoints({old.id: None}).with_endpoints({old.id: new})
    assert slices(at_once) == slices(in_turn)  # both draw on one allocator


@given(worlds(), worlds())
@EXAMPLES
def test_a_slice_made_again_is_the_same_bytes_whatever_was_made_meanwhile(world: World, other: World) -> None:
    """The controller keeps few slices and makes the base of a delta again, under a digest that the host already has."""
    allocator = Allocator(Numbers.empty())
    early = compile_policy(world.policies, world.endpoints, allocator, NOW)
    before = {host: encode_slice(slice_) for host, slice_ in slices(early).items()}
    try:
        slices(early.with_endpoints({endpoint.id: endpoint for endpoint in other.endpoints}))
        slices(compile_policy(other.policies, other.endpoints, allocator, NOW))
    except ConflictError:
        pass  # the other world's networks or addresses are not this one's: what was made up to there was made
    slices(early.with_endpoints(dict.fromkeys(early.endpoints)))
    assert {host: encode_slice(early.slice_for(host, 1)) for host in reversed(HOSTS)} == before


def slices(compiled: Compiled) -> dict[str, HostSlice]:
    return {host: compiled.slice_for(host, 1) for host in HOSTS}
