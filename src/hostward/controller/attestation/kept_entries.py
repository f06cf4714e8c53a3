"""A host's IMA list as it is kept for `attest learn`: of ten thousand hosts, whole entries would fill the memory.

Templates are shared between hosts by the verifier's memory; where each entry stood in its list is forgotten.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import overload

from hostward.attest.ima import ImaEntry, Template


class KeptEntries(Sequence[ImaEntry]):
    """As the entries that it is made from, but that every offset is zero."""

    __slots__ = ("_templates", "_violations")

    def __init__(self, entries: Sequence[ImaEntry]) -> None:
        self._templates: tuple[Template, ...] = tuple(entry.template for entry in entries)
        self._violations = bytes(entry.violation for entry in entries)

    def __len__(self) -> int:
        return len(self._templates)

    @overload
    def __getitem__(self, index: int) -> ImaEntry: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ImaEntry]: ...
    def __getitem__(self, index: int | slice) -> ImaEntry | Sequence[ImaEntry]:
        if isinstance(index, slice):
            return [self[place] for place in range(*index.indices(len(self)))]
        place = range(len(self))[index]
        return ImaEntry(place, 0, 0, self._templates[place], bool(self._violations[place]))

    def __iter__(self) -> Iterator[ImaEntry]:
        return (self[place] for place in range(len(self)))
