"""Whether every host can hold a revision, without making every host's slice for every change.

A slice is made and counted where a revision may change it much. For a host that only learns of a few endpoints elsewhere
the last count is raised by the most that they can add; only when that would not fit is its slice made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from hostward.agent.limits import Limits, excesses, needed
from hostward.errors import CapacityError
from hostward.model.slice import HostSlice


@dataclass(frozen=True, slots=True)
class Need:
    """At most so much does a host's slice take. ``tables`` and ``classes`` say what one more peer adds to it."""

    limits: Limits
    tables: int
    classes: int

    @staticmethod
    def of(slice_: HostSlice) -> Need:
        """Exactly what a slice takes."""
        classes = max((len(row.cells) for row in slice_.rows.values()), default=1)
        return Need(needed(slice_), len(slice_.tables), classes)

    def with_peers(self, addresses: int) -> Need:
        """After so many addresses of other hosts' endpoints came, each with an identity and rows of its own at worst."""
        rows = addresses * self.tables
        cells = rows * self.classes
        limits = replace(
            self.limits,
            prefixes=self.limits.prefixes + addresses,
            class_sets=self.limits.class_sets + addresses,
            table_entries=self.limits.table_entries + rows,
            cells=self.limits.cells + cells,
            decisions=self.limits.decisions + cells,
        )
        return replace(self, limits=limits)


def check(last: Need | None, addresses: int, host: str, limits: Limits, slice_for: Callable[[], HostSlice]) -> Need:
    """What the host needs for a revision. Raises CapacityError if it cannot hold it.

    ``last`` is what it needed before, or None where only its slice can say; ``addresses`` is how many came since, all of
    other hosts' endpoints.
    """
    if last is not None:
        need = last.with_peers(addresses)
        if not excesses(need.limits, limits):
            return need
    need = Need.of(slice_for())
    over = excesses(need.limits, limits)
    if over:
        raise CapacityError(
            f"the revision does not fit: {'; '.join(map(str, over))}",
            subject=f"host {host}",
            hint="nothing was changed; raise the host's limits or place fewer endpoints there",
        )
    return need
