"""Allocation inside fixed-size tables: ranges of cells and references, and single indices. Pure bookkeeping."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass

from hostward.errors import CapacityError


@dataclass(frozen=True, slots=True, order=True)
class Extent:
    """``count`` consecutive elements from ``first``."""

    first: int
    count: int

    @property
    def end(self) -> int:
        """One past the last element."""
        return self.first + self.count


class ExtentAllocator:
    """First fit over the gaps between used extents, which are kept sorted. Element 0 is never given out."""

    def __init__(self, size: int, what: str, used: Iterable[Extent] = ()) -> None:
        self._size = size
        self._what = what
        self._used = sorted(extent for extent in used if extent.count)

    def copy(self) -> ExtentAllocator:
        """An independent allocator with the same extents in use."""
        return ExtentAllocator(self._size, self._what, self._used)

    @property
    def used(self) -> int:
        """Elements that are not free."""
        return sum(extent.count for extent in self._used)

    def allocate(self, count: int) -> Extent:
        """Take ``count`` elements. Raises CapacityError if no gap is wide enough."""
        first = 1
        for extent in self._used:
            if extent.first - first >= count:
                break
            first = max(first, extent.end)
        if first + count > self._size:
            raise CapacityError(
                f"the host's table of {self._what} holds {self._size:,} and has no {count:,} in a row left",
                hint=f"raise datapath.{self._what} in the agent's configuration, or use fewer groups and ports",
            )
        taken = Extent(first, count)
        insort(self._used, taken)
        return taken

    def free(self, extent: Extent) -> None:
        """Give an extent back."""
        if extent.count:
            self._used.remove(extent)


class IndexAllocator:
    """Single indices from 1 up, the lowest free one first."""

    def __init__(self, size: int, what: str, used: Iterable[int] = (), lowest: int = 1) -> None:
        self._size = size
        self._what = what
        self._used = set(used)
        self._next = lowest

    def copy(self) -> IndexAllocator:
        """An independent allocator with the same indices in use."""
        return IndexAllocator(self._size, self._what, self._used, self._next)

    def allocate(self) -> int:
        """Take the lowest free index. Raises CapacityError if there is none."""
        index = self._next
        while index in self._used:
            index += 1
        if index >= self._size:
            raise CapacityError(
                f"the host's table of {self._what} holds {self._size:,} and is full",
                hint=f"raise datapath.{self._what} in the agent's configuration",
            )
        self._used.add(index)
        self._next = index + 1
        return index

    def free(self, index: int) -> None:
        """Give an index back."""
        self._used.discard(index)
        self._next = min(self._next, index)
