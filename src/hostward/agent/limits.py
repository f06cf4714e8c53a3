"""How much one host can enforce. The agent reports it, and the controller refuses a revision beyond it before commit."""

from __future__ import annotations

from dataclasses import dataclass, fields

from hostward.datapath.executables import MOST_NUMBERS, named_at_ends
from hostward.model.slice import HostSlice


@dataclass(frozen=True, slots=True)
class Limits:
    """Sizes of the datapath's tables; the defaults are those that its maps are made with."""

    endpoints: int = 256
    prefixes: int = 262_144
    class_sets: int = 4_096
    cells: int = 1_048_576
    table_entries: int = 1_048_576
    decisions: int = 131_072
    flows: int = 262_144
    executables: int = MOST_NUMBERS  # that decisions about any one endpoint name at its end


@dataclass(frozen=True, slots=True)
class Excess:
    """One thing that a slice has too much of."""

    what: str
    needed: int
    limit: int

    def __str__(self) -> str:
        return f"{self.needed} {self.what.replace('_', ' ')}, the host can hold {self.limit}"


def needed(slice_: HostSlice) -> Limits:
    """What a slice takes of each limited thing."""
    return Limits(
        endpoints=len(slice_.endpoints),
        prefixes=len(slice_.addresses),
        class_sets=len(slice_.class_sets),
        cells=sum(len(row.cells) for row in slice_.rows.values()),
        table_entries=sum(len(table) for table in slice_.tables.values()),
        decisions=len(slice_.decisions),
        flows=sum(endpoint.quota.flows for endpoint in slice_.endpoints.values()),
        executables=most_named(slice_)[1],
    )


def most_named(slice_: HostSlice) -> tuple[str, int]:
    """The endpoint at whose end decisions name the most executables, and how many."""
    named = {name: len(paths) for name, paths in named_at_ends(slice_).items()}
    worst = max(named, key=named.__getitem__, default="")
    return worst, named.get(worst, 0)


def excesses(need: Limits, limits: Limits) -> tuple[Excess, ...]:
    """Everything that does not fit; empty if what is needed fits."""
    pairs = ((field.name, getattr(need, field.name), getattr(limits, field.name)) for field in fields(Limits))
    return tuple(Excess(name, amount, limit) for name, amount, limit in pairs if amount > limit)
