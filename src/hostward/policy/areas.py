"""What a rule matches, as rectangles of subjects by subjects by classes of ports, and whether others cover it.

Everything is a bit set in an integer. Nothing here knows tiers or options.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# Taking one rectangle out of another leaves up to three: beyond so many the question is given up.
_MAX_PIECES = 512


@dataclass(frozen=True, slots=True)
class Area:
    """Sources, destinations and classes of ports; all pairs of them."""

    sources: int
    destinations: int
    ports: int

    def __bool__(self) -> bool:
        return bool(self.sources and self.destinations and self.ports)

    def __and__(self, other: Area) -> Area:
        return Area(self.sources & other.sources, self.destinations & other.destinations, self.ports & other.ports)

    def without(self, other: Area) -> list[Area]:
        """What is left of it, in pieces that do not overlap."""
        common = self & other
        pieces = (
            Area(self.sources & ~other.sources, self.destinations, self.ports),
            Area(common.sources, self.destinations & ~other.destinations, self.ports),
            Area(common.sources, common.destinations, self.ports & ~other.ports),
        )
        return [piece for piece in pieces if piece]


def cover(wanted: Sequence[Area], covers: Iterable[tuple[str, Sequence[Area]]]) -> tuple[str, ...] | None:
    """The names of those that between them cover all that is wanted; None if they do not, or it is too much to say.

    One that covers it alone is preferred; else they are taken in their order.
    """
    touching = [(name, areas) for name, areas in covers if any(area & piece for area in areas for piece in wanted)]
    for name, areas in touching:
        if not _left(wanted, areas):
            return (name,)
    used: list[str] = []
    left = list(wanted)
    for name, areas in touching:
        after = _left(left, areas)
        if after != left:
            used.append(name)
        left = after
        if not left:
            return tuple(used)
        if len(left) > _MAX_PIECES:
            return None
    return None


def _left(wanted: Sequence[Area], areas: Sequence[Area]) -> list[Area]:
    left = list(wanted)
    for area in areas:
        left = [rest for piece in left for rest in (piece.without(area) if piece & area else [piece])]
    return left
