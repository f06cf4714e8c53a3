"""Bit sets and their members, at the edges of bytes and where nearly all is zero."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from hostward.policy.memberships import bit_set, members


@pytest.mark.parametrize(
    "indices",
    [
        [],
        [0],
        [7],
        [8],
        [0, 7, 8, 15, 16],
        [80],
        [3, 5_000, 5_001, 40_007],
        list(range(300)),
        [*range(64, 128), 4_095],
    ],
)
def test_the_members_of_a_bit_set_are_its_indices_ascending(indices: Sequence[int]) -> None:
    assert bit_set(indices) == sum(1 << index for index in indices)
    assert bit_set(tuple(reversed(indices))) == bit_set(indices)
    assert members(bit_set(indices)) == list(indices)
