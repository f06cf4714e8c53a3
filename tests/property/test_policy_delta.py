"""Deltas: what two revisions differ by, applied to the first, is the second, also after a trip over the wire."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings

from hostward.errors import ConflictError
from hostward.policy import Numbers, SliceDelta, apply_delta, compile_policy, diff_slices
from tests.property.strategies import HOSTS, NOW, World, worlds

EXAMPLES = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


@given(worlds(), worlds())
@EXAMPLES
def test_applying_the_difference_gives_the_new_slice(old: World, new: World) -> None:
    first = compile_policy(old.policies, old.endpoints, Numbers.empty(), NOW)
    before = {host: first.slice_for(host, 1) for host in HOSTS}
    second = compile_policy(new.policies, new.endpoints, first.numbers, NOW)
    for host in HOSTS:
        after = second.slice_for(host, 2)
        delta = diff_slices(before[host], after)
        sent = msgspec.msgpack.decode(msgspec.msgpack.encode(delta), type=SliceDelta)
        assert apply_delta(before[host], sent) == after
        with pytest.raises(ConflictError):
            apply_delta(replace(before[host], revision=7), delta)


@given(worlds())
@EXAMPLES
def test_no_difference_is_small(world: World) -> None:
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    for host in HOSTS:
        delta = diff_slices(compiled.slice_for(host, 1), compiled.slice_for(host, 2))
        assert not any(value for name, value in _contents(delta) if name.startswith(("set_", "removed_")))


def _contents(delta: SliceDelta) -> list[tuple[str, object]]:
    return [(name, getattr(delta, name)) for name in SliceDelta.__slots__]
