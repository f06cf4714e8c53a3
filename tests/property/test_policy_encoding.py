"""A slice's bytes: one encoding for each slice, back to the same slice, and nothing else is read."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hostward.errors import ConflictError
from hostward.model.slice import HostSlice, empty_slice
from hostward.policy import Numbers, compile_policy, decode_slice, encode_slice
from tests.property.strategies import HOSTS, NOW, World, worlds

EXAMPLES = settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _slices(world: World) -> list[HostSlice]:
    compiled = compile_policy(world.policies, world.endpoints, Numbers.empty(), NOW)
    return [compiled.slice_for(host, 3) for host in HOSTS]


@given(worlds())
@EXAMPLES
def test_what_is_encoded_is_decoded(world: World) -> None:
    for slice_ in _slices(world):
        content = encode_slice(slice_)
        assert decode_slice(content) == slice_
        assert encode_slice(decode_slice(content)) == content


@given(worlds())
@EXAMPLES
def test_the_order_of_entries_makes_no_difference(world: World) -> None:
    for slice_ in _slices(world):
        turned = replace(
            slice_,
            addresses=dict(reversed(slice_.addresses.items())),
            rows=dict(reversed(slice_.rows.items())),
            tables={key: dict(reversed(table.items())) for key, table in reversed(slice_.tables.items())},
        )
        assert encode_slice(turned) == encode_slice(slice_)


@given(worlds(), st.data())
@EXAMPLES
def test_damaged_bytes_are_refused_or_read_without_another_error(world: World, data: st.DataObject) -> None:
    slice_ = _slices(world)[0]
    content = bytearray(encode_slice(slice_))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.integers(0, len(content)))
    for damaged in (bytes(content), bytes(content[:cut])):
        try:
            assert isinstance(decode_slice(damaged), HostSlice)
        except msgspec.MsgspecError:
            continue


def test_a_table_of_an_unknown_row_is_not_encoded() -> None:
    with pytest.raises(ConflictError, match="row 7"):
        encode_slice(replace(empty_slice(1), tables={(256, "egress"): {257: 7}}))
