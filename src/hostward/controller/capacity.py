"""Whether every host can hold a revision, without making every host's slice for every change.

Three ways, the cheapest first. For a host that only learns of a few endpoints elsewhere the last count is raised by the
most that they can add. Where that does not fit, or a revision may change much, what its slice takes is counted from the
identities that it meets. Only where that does not fit either is the slice made: nothing is refused by a bound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace

from hostward.agent.limits import Limits, excesses, most_named, needed
from hostward.errors import CapacityError
from hostward.model.slice import HostSlice
from hostward.policy import Extent
from hostward.policy.rows import RowSize


@dataclass(frozen=True, slots=True)
class Need:
    """At most so much does a host's slice take.

    For one more peer each of its ``tables`` has a row more, and each of its ``tenants``, if it meets the peer's for the
    first time, a class set: ports are cut for every pair of tenants that may talk.
    """

    limits: Limits
    tables: int
    tenants: int

    @staticmethod
    def of(slice_: HostSlice) -> Need:
        """Exactly what a slice takes."""
        tenants = {endpoint.tenant for endpoint in slice_.endpoints.values()}
        return Need(needed(slice_), len(slice_.tables), len(tenants))

    @staticmethod
    def most(extent: Extent) -> Need:
        """No less than a slice of this extent takes."""
        limits = Limits(**{field.name: getattr(extent, field.name) for field in fields(Limits)})
        return Need(limits, extent.tables, extent.tenants)

    def with_peers(self, addresses: int, largest: RowSize) -> Need:
        """After so many addresses of other hosts' endpoints came, each with an identity and rows of its own at worst.

        No row of the policy exceeds the ``largest``. Those that the host has now say nothing of it: a tenant's
        first peer of another tenant is met by ports that were never cut before.
        """
        rows = addresses * self.tables
        limits = replace(
            self.limits,
            prefixes=self.limits.prefixes + addresses,
            class_sets=self.limits.class_sets + addresses * self.tenants,
            table_entries=self.limits.table_entries + rows,
            cells=self.limits.cells + rows * largest.cells,
            decisions=self.limits.decisions + rows * largest.decisions,
            executables=len(frozenset().union(*largest.named)) if rows else self.limits.executables,
        )
        return replace(self, limits=limits)


def check(
    last: Mapping[str, Need | None],
    addresses: int,
    largest: RowSize,
    limits_of: Callable[[str], Limits],
    extent_of: Callable[[str], Extent],
    slice_for: Callable[[str], HostSlice],
) -> Mapping[str, Need]:
    """What each host needs for a revision. Raises CapacityError, naming the worst, if any cannot hold it.

    ``last`` is what each needed before, None where that does not bound it; ``addresses`` is how many came since, all of
    other hosts' endpoints, and ``largest`` bounds the rows of each.
    """
    needs: dict[str, Need] = {}
    doubtful: list[tuple[float, str]] = []
    for host, before in last.items():
        need = None if before is None else before.with_peers(addresses, largest)
        limits = limits_of(host)
        if need is None or excesses(need.limits, limits):
            need = Need.most(extent_of(host))
        needs[host] = need
        over = excesses(need.limits, limits)
        if over:
            doubtful.append((max(each.needed / max(each.limit, 1) for each in over), host))
    for _, host in sorted(doubtful, reverse=True):
        slice_ = slice_for(host)
        need = needs[host] = Need.of(slice_)
        over = excesses(need.limits, limits_of(host))
        if over:
            others = f"; {len(doubtful) - 1} more may not hold it either" if len(doubtful) > 1 else ""
            advice = "raise the host's limits or place fewer endpoints there"
            if any(each.what == "executables" for each in over):
                advice = f"have rules name fewer executables for {most_named(slice_)[0]} and those like it"
            raise CapacityError(
                f"the revision does not fit: {'; '.join(map(str, over))}",
                subject=f"host {host}",
                hint=f"nothing was changed; {advice}{others}",
            )
    return needs
