"""Compares what the tables hold with the layout, and mends what differs: somebody with root may have written there.

Everything that decides is compared, cheapest first; a difference is mended from the layout and reported, never silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from hostward.datapath.enforcer import Repair, RepairKind
from hostward.datapath.layout import Layout, blocks_of, class_key, config_of
from hostward.datapath.tables import Tables, policy_index


def mend_tables(tables: Tables, layout: Layout) -> list[Repair]:
    """One line for each thing that was mended; empty when the kernel is as it should be."""
    if not layout.slice.revision:
        return []
    return [
        *_mend_class_sets(tables, layout),
        *_mend_rows(tables, layout),
        *_mend_peer_tables(tables, layout),
        *_mend_prefixes(tables, layout),
        *_mend_endpoints(tables, layout),
    ]


def _mend_class_sets(tables: Tables, layout: Layout) -> Iterator[Repair]:
    for classes in layout.slice.class_sets.values():
        index = layout.class_sets[class_key(classes)]
        if not tables.holds_class_set(index, classes):
            tables.write_class_set(index, classes)
            yield Repair(RepairKind.CLASS_SET, f"class set {index}: its ports had been changed")


def _mend_rows(tables: Tables, layout: Layout) -> Iterator[Repair]:
    for decision, slot in layout.decisions.items():
        if not tables.holds_decision(slot, decision):
            tables.write_decision(slot, decision)
            yield Repair(RepairKind.DECISION, f"decision {decision.number}: it had been changed")
    for (_, cells), extent in layout.rows.items():
        if tuple(tables.read_cells(extent.first, extent.count)) != cells:
            tables.write_cells(extent.first, cells)
            yield Repair(RepairKind.ROW, f"row at {extent.first}: its cells had been changed")


def _mend_peer_tables(tables: Tables, layout: Layout) -> Iterator[Repair]:
    for (identity, direction), table in layout.tables.items():
        held = tables.read_refs(table.extent.first, table.extent.count)
        for index, ref in table.refs.items():
            if tuple(held[index]) != ref:
                tables.write_refs(table.extent.first + index, [ref])
                yield Repair(
                    RepairKind.PEER_TABLE, f"table of identity {identity}, {direction}: peer {index} had been changed"
                )


def _mend_prefixes(tables: Tables, layout: Layout) -> Iterator[Repair]:
    held = tables.read_prefixes()
    changed = {key: index for key, index in layout.prefixes.items() if held.get(key) != index}
    tables.write_prefixes(changed)
    extra = [key for key in held if key not in layout.prefixes]
    tables.remove_prefixes(extra)
    for _, prefix in [*changed, *extra]:
        yield Repair(RepairKind.PREFIX, f"prefix {prefix}: its peer had been changed")


def _mend_endpoints(tables: Tables, layout: Layout) -> Iterator[Repair]:
    for name, endpoint in layout.slice.endpoints.items():
        slot = layout.slots.get(name)
        if slot is None:
            continue
        config = config_of(layout, endpoint)
        if not tables.holds_endpoint(slot, config):
            tables.write_endpoint(slot, config)
            yield Repair(
                RepairKind.ENDPOINT,
                f"{endpoint.id}: its MAC, network, quota, share, namespace, guard or sampling had been changed",
            )
        first = policy_index(slot, layout.halves[slot])
        for place, block in enumerate(blocks_of(layout, layout.slice, name)):
            if tables.read_policy(first + place) != block:
                tables.write_policy(first + place, block)
                whose = f", {block.address}," if block.address else ""
                yield Repair(RepairKind.ENDPOINT, f"{endpoint.id}: policy block {place}{whose} had been changed")
        wanted = (first, layout.generations[slot])
        if tables.read_active(slot) != wanted:
            tables.activate(slot, *wanted)
            yield Repair(RepairKind.ENDPOINT, f"{endpoint.id}: another policy had been put in force")
