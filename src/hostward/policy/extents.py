"""How much a host's slice takes, counted without making it: what has to fit a host before a revision is committed.

A table follows from the local identity, the direction and the peers alone, and a site has far fewer identities than
endpoints, so each is looked at once for all hosts. Endpoints, flows and table entries come out exactly. The rest is never
less than the slice takes: rows with equal cells count as often as rules make them, and so do their decisions.
"""

from __future__ import annotations

from dataclasses import dataclass

from hostward.policy.compiler import Compiled
from hostward.policy.prefixes import parse_address
from hostward.policy.rows import RowKey, RowSize
from hostward.policy.rule_index import Direction
from hostward.policy.slicing import DIRECTIONS
from hostward.policy.subjects import Subject, members

# Rows of remembered tables, some 100 MiB: where every identity has thousands, few would be asked for again.
_ROWS_KEPT = 1_000_000


@dataclass(frozen=True, slots=True)
class Extent:
    """At most so much does a slice take."""

    endpoints: int
    flows: int
    tables: int
    table_entries: int
    prefixes: int
    class_sets: int
    cells: int
    decisions: int
    executables: int  # that decisions about any one endpoint name at its end
    tenants: int  # whose endpoints the host has


@dataclass(frozen=True, slots=True)
class _Table:
    known: int
    entries: int
    rows: frozenset[int]  # places in Extents._sizes
    executables: frozenset[str]  # that rows name at this end


class Extents:
    """Counts the hosts of one revision. Meant to live as long as one check of them all; not for several threads."""

    def __init__(self, compiled: Compiled) -> None:
        self._compiled = compiled
        self._tables: dict[tuple[int, Direction, int], _Table] = {}
        self._places: dict[RowKey, int] = {}
        self._sizes: list[RowSize] = []
        self._addresses: dict[int, int] = {}
        self._rows_kept = 0

    def of(self, host: str) -> Extent:
        """The extent of a host's slice. Raises CapacityError beyond a quota, as the slice itself would."""
        vicinity = self._compiled.vicinity(host)
        if self._rows_kept > _ROWS_KEPT:
            self._forget()
        tables: dict[tuple[int, Direction], _Table] = {}
        executables = 0
        for endpoint in vicinity.endpoints:
            named: set[str] = set()
            for address in endpoint.addresses:
                subject = self._compiled.of_address[endpoint.network, parse_address(address)[1]][1]
                for direction in DIRECTIONS:
                    if (subject.index, direction) not in tables:
                        table = self._table(subject, direction, vicinity.peers[endpoint.network])
                        tables[subject.index, direction] = table
                    named |= tables[subject.index, direction].executables
            executables = max(executables, len(named))
        known = 0
        for table in tables.values():
            known |= table.known
        prefixes = 0
        for network in vicinity.peers:
            here = known & self._compiled.subjects.attached_to(network)
            prefixes += len(vicinity.regions) + self._addresses_of(here)
        rows = [self._sizes[place] for place in frozenset().union(*(table.rows for table in tables.values()))]
        return Extent(
            endpoints=len(vicinity.endpoints),
            flows=sum(endpoint.quota.flows for endpoint in vicinity.endpoints),
            tables=len(tables),
            table_entries=sum(table.entries for table in tables.values()),
            prefixes=prefixes,
            class_sets=len({row.class_set for row in rows}),
            cells=sum(row.cells for row in rows),
            decisions=sum(row.decisions for row in rows),
            executables=executables,
            tenants=len({endpoint.tenant for endpoint in vicinity.endpoints}),
        )

    def _table(self, subject: Subject, direction: Direction, peers: int) -> _Table:
        key = (subject.index, direction, peers)
        found = self._tables.get(key)
        if found is None:
            outline = self._compiled.tables.outline(subject, direction, peers)
            rows = frozenset(map(self._place, outline.rows))
            self._rows_kept += len(rows)
            end = DIRECTIONS.index(direction)
            named = frozenset().union(*(self._sizes[place].named[end] for place in rows))
            found = self._tables[key] = _Table(outline.known, outline.known.bit_count(), rows, named)
        return found

    def _addresses_of(self, subjects: int) -> int:
        # The hosts of one tenant mostly know the same peers.
        found = self._addresses.get(subjects)
        if found is None:
            found = self._addresses[subjects] = sum(map(self._compiled.addresses_of, members(subjects)))
        return found

    def _place(self, key: RowKey) -> int:
        place = self._places.get(key)
        if place is None:
            self._sizes.append(self._compiled.rows.size(key))
            place = self._places[key] = len(self._sizes) - 1
        return place

    def _forget(self) -> None:
        self._tables.clear()
        self._places.clear()
        self._sizes.clear()
        self._rows_kept = 0
