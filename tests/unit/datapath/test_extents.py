"""Room in tables of a fixed size: nothing is given out twice, and what is given back is used again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostward.datapath.extents import Extent, ExtentAllocator, IndexAllocator
from hostward.errors import CapacityError

SIZE = 50


@given(st.lists(st.one_of(st.integers(0, 12), st.floats(0, 1, exclude_max=True)), max_size=60))
def test_extents_never_overlap_and_stay_inside(steps: list[int | float]) -> None:
    """An integer takes that many elements; a fraction gives back the extent at that place of those held."""
    space, held = ExtentAllocator(SIZE, "cells"), list[Extent]()
    for step in steps:
        if isinstance(step, float):
            if held:
                space.free(held.pop(int(step * len(held))))
            continue
        used = {element for extent in held for element in range(extent.first, extent.end)}
        fits = any(not used & set(range(first, first + step)) for first in range(1, SIZE - step + 1))
        if not fits:
            with pytest.raises(CapacityError):
                space.allocate(step)
            continue
        extent = space.allocate(step)
        assert extent.count == step
        assert extent.first >= 1
        assert extent.end <= SIZE
        assert not used & set(range(extent.first, extent.end))
        held.append(extent)


def test_a_gap_is_filled_before_the_end_is_used() -> None:
    space = ExtentAllocator(SIZE, "cells")
    first, second = space.allocate(5), space.allocate(5)
    space.free(first)
    assert space.allocate(6).first == second.end
    assert space.allocate(3) == Extent(1, 3)
    assert space.allocate(2) == Extent(4, 2)


def test_a_copy_goes_its_own_way() -> None:
    space = ExtentAllocator(SIZE, "cells", [Extent(1, 4)])
    other = space.copy()
    assert other.allocate(2) == Extent(5, 2)
    assert space.allocate(3) == Extent(5, 3)
    indices = IndexAllocator(4, "refs", [1])
    twin = indices.copy()
    assert (twin.allocate(), indices.allocate()) == (2, 2)


def test_a_full_table_is_refused_by_name_and_with_its_size() -> None:
    space = ExtentAllocator(SIZE, "cells")
    space.allocate(SIZE - 1)
    with pytest.raises(CapacityError, match="cells holds 50") as refused:
        space.allocate(1)
    assert "datapath.cells" in refused.value.hint
    indices = IndexAllocator(2, "decisions")
    indices.allocate()
    with pytest.raises(CapacityError, match="decisions holds 2"):
        indices.allocate()


@given(st.sets(st.integers(1, 9)), st.lists(st.integers(0, 9), max_size=30))
def test_the_lowest_free_index_is_given_out(used: set[int], steps: list[int]) -> None:
    """0 takes an index, anything else gives that one back."""
    space, held = IndexAllocator(10, "refs", used), set(used)
    for step in steps:
        if step:
            space.free(step)
            held.discard(step)
            continue
        free = [index for index in range(1, 10) if index not in held]
        if free:
            assert space.allocate() == free[0]
            held.add(free[0])
        else:
            with pytest.raises(CapacityError):
                space.allocate()
