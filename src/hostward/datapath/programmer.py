"""Brings one slice after another into force, by an order of writes that is safe to stop anywhere.

The order (design §5): decisions, class sets, rows; then addresses, which for as long as two revisions meet are given
*transitional* peer indices that mean the old peer to the tables in force and the new peer to the new ones; then new
tables beside the old; then one atomic word per endpoint; then everything that only the old revision needed. So each
endpoint sees the old revision, whole, until its word is written and the new one, whole, from then on. What only the old
revision needed is taken down later (``settle``), when no packet can be using it.

After a restart nobody knows any more what the tables in force mean. Then every endpoint is first *parked*: its policy is
replaced by one that knows no peer, under the same generation, so that live flows go on and a new one waits for the
moment until its endpoint's word is written.

Nothing of the kernel is known here but ``Tables``, and nothing of devices.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from hostward.datapath.executables import named_at_ends, numbered, path_hash
from hostward.datapath.extents import Extent
from hostward.datapath.layout import (
    ClassKey,
    Layout,
    PeerTable,
    PrefixIndex,
    RowKey,
    blocks_of,
    class_key,
    config_of,
    number_profiles,
    recover,
)
from hostward.datapath.readings import Fill
from hostward.datapath.tables import (
    ADDRESSES_PER_ENDPOINT,
    GENERATION_MAX,
    HALVES,
    NO_REF,
    PEER_UNKNOWN,
    KernelDecision,
    PolicyBlock,
    Ref,
    Tables,
    kernel_decision,
    policy_index,
)
from hostward.model.slice import Decision, HostSlice, LocalEndpoint, PrefixKey, TableKey

# Verdicts under which a packet goes on.
PASSING = frozenset({"allow", "would-deny"})
_DIRECTIONS = ("egress", "ingress")
# Room for peers that come later without writing a table anew: a quarter more, and at least this many.
TABLE_SLACK = 64


@dataclass(slots=True)
class Change:
    """Everything to write for one revision, in full, before the first write."""

    layout: Layout
    decisions: list[tuple[int, KernelDecision]] = field(default_factory=list)
    class_sets: list[tuple[int, int]] = field(default_factory=list)  # (index, id in the slice)
    rows: list[tuple[Extent, tuple[int, ...]]] = field(default_factory=list)
    old_refs: list[tuple[int, Ref]] = field(default_factory=list)  # into tables in force
    transitional: dict[PrefixKey, int] = field(default_factory=dict)
    regrown: dict[TableKey, PeerTable] = field(default_factory=dict)
    tables: list[PeerTable] = field(default_factory=list)
    final: dict[PrefixKey, int] = field(default_factory=dict)
    removed: list[PrefixKey] = field(default_factory=list)
    flips: list[tuple[int, int, int]] = field(default_factory=list)  # (slot, policy, generation)
    blocks: list[tuple[int, PolicyBlock]] = field(default_factory=list)
    epochs: set[int] = field(default_factory=set)
    refs_of_rows: dict[int, Ref] = field(default_factory=dict)  # by row id of the slice
    meaning: dict[int, int | None] = field(default_factory=dict)  # peer index to identity in the new revision
    free_indices: set[int] = field(default_factory=set)


class Programmer:
    """Owns the layout of one host's tables."""

    def __init__(self, tables: Tables, slots: Mapping[str, int]) -> None:
        """Take over tables in which ``slots`` (endpoint id to slot) are in use, whatever they hold."""
        self._tables = tables
        self._layout = recover(tables, slots)
        # Totals of decisions whose slot was given back, so that counters never run backwards.
        self._retired: dict[int, tuple[int, int]] = {}
        self._unsettled: Change | None = None

    @property
    def slice(self) -> HostSlice:
        """The slice in force."""
        return self._layout.slice

    @property
    def tables(self) -> Tables:
        """The tables, for reading back and for tests that change them behind its back."""
        return self._tables

    @property
    def slots(self) -> Mapping[str, int]:
        """Endpoint id to slot."""
        return self._layout.slots

    @property
    def layout(self) -> Layout:
        """Where everything stands; for reading back, not for changing."""
        return self._layout

    def counts(self) -> dict[int, tuple[int, int]]:
        """Packets and bytes by decision number, since the tables were created."""
        totals = dict(self._retired)
        for decision, slot in self._layout.decisions.items():
            packets, count_bytes = self._tables.read_count(slot)
            before = totals.get(decision.number, (0, 0))
            totals[decision.number] = (before[0] + packets, before[1] + count_bytes)
        return totals

    def passing(self) -> list[int]:
        """The slots of decisions that let packets pass."""
        return [slot for decision, slot in self._layout.decisions.items() if decision.verdict in PASSING]

    def fills(self) -> dict[str, Fill]:
        """How full the tables are. One element of most is nobody's, and one slot is Hostward's own."""
        layout, capacity = self._layout, self._tables.capacity
        used = {
            "endpoints": len(layout.slots),
            "cells": layout.cell_space.used,
            "refs": layout.ref_space.used,
            "prefixes": len(layout.prefixes),
            "decisions": len(layout.decisions),
            "class_sets": len(layout.class_sets),
        }
        return {name: Fill(count, getattr(capacity, name)) for name, count in used.items()}

    def identity_of(self, peer: int) -> int:
        """The identity that a peer index stands for; 0 if none does any more."""
        return next((identity for identity, index in self._layout.peers.items() if index == peer), 0)

    def executables(self) -> dict[tuple[int, int], str]:
        """The paths of the executables that rules name, by slot and by the number that flows remember."""
        found: dict[tuple[int, int], str] = {}
        for name, paths in named_at_ends(self._layout.slice).items():
            slot = self._layout.slots[name]
            for path in paths:
                found[slot, self._layout.executables[slot][path_hash(path)]] = path
        return found

    def claim_slot(self, endpoint: str) -> int:
        """The slot of an endpoint, a free one if it has none. Raises CapacityError."""
        layout = self._layout
        if endpoint not in layout.slots:
            slot = layout.slot_space.allocate()
            layout.slots[endpoint] = slot
            layout.generations[slot] = 0
            layout.halves[slot] = 0
        return layout.slots[endpoint]

    def release_slot(self, endpoint: str) -> None:
        """Close and forget an endpoint's slot. Only when nothing is attached for it any more."""
        self.settle()
        layout = self._layout
        slot = layout.slots.pop(endpoint)
        self._tables.activate(slot, 0, 0)
        self._tables.synchronize()
        self._tables.clear_slot(slot)
        del layout.generations[slot], layout.halves[slot]
        layout.executables.pop(slot, None)
        layout.slot_space.free(slot)

    def prioritise(self, priorities: Mapping[str, int]) -> None:
        """From now on ``configure`` has the packets of a tenant's endpoints carry this; see ``datapath.uplink``."""
        self._layout.priorities = dict(priorities)

    def locate(self, namespaces: Mapping[str, int]) -> None:
        """From now on ``configure`` says so where endpoints' sockets are; of others it is not known."""
        self._layout.namespaces = dict(namespaces)

    def configure(self, endpoint: LocalEndpoint) -> None:
        """Write what the datapath has to know of an endpoint besides policy. Its slot must be claimed."""
        self._tables.write_endpoint(self._layout.slots[endpoint.id], config_of(self._layout, endpoint))

    def program(self, desired: HostSlice) -> None:
        """Bring a slice into force for the endpoints whose slots are claimed.

        Raises CapacityError before the first write if it does not fit. If a write fails, this object is of no further
        use: make a new one from the same tables, which still hold the old revision or the new one for each endpoint.
        """
        self.settle()
        change = self._plan(desired)
        self._execute(change)
        self._layout = change.layout

    # -- planning: no writes

    def _plan(self, desired: HostSlice) -> Change:
        change = Change(self._layout.copy())
        self._plan_rows(change, desired)
        self._plan_peers(change, desired)
        changed = self._plan_tables(change, desired)
        self._plan_endpoints(change, desired, changed)
        self._plan_frees(change, desired)
        change.layout.slice = desired
        return change

    def _plan_rows(self, change: Change, desired: HostSlice) -> None:
        layout = change.layout
        slots: dict[int, int] = {}
        number_profiles(layout.profiles, desired)
        for number, decision in _plain_first(desired):
            key = kernel_decision(decision, slots, layout.profiles)
            if key not in layout.decisions:
                layout.decisions[key] = layout.decision_space.allocate()
                change.decisions.append((layout.decisions[key], key))
            slots[number] = layout.decisions[key]
        indices: dict[int, int] = {}
        for classes in desired.class_sets.values():
            content = class_key(classes)
            if content not in layout.class_sets:
                layout.class_sets[content] = layout.class_space.allocate()
                change.class_sets.append((layout.class_sets[content], classes.id))
            indices[classes.id] = layout.class_sets[content]
        for row in desired.rows.values():
            row_key: RowKey = (indices[row.class_set], tuple(slots[number] for number in row.cells))
            if row_key not in layout.rows:
                layout.rows[row_key] = layout.cell_space.allocate(len(row.cells))
                change.rows.append((layout.rows[row_key], row_key[1]))
            extent = layout.rows[row_key]
            change.refs_of_rows[row.id] = (extent.first, extent.count, row_key[0])

    def _plan_peers(self, change: Change, desired: HostSlice) -> None:
        """Give every identity an index, and every changed prefix a transitional one while two revisions meet."""
        layout, old = change.layout, self._layout.slice
        known = {identity for table in desired.tables.values() for identity in table}
        for identity in desired.addresses.values():
            if identity in known and identity not in layout.peers:
                layout.peers[identity] = layout.peer_space.allocate()
        gone_identities = [identity for identity in layout.peers if identity not in known]
        for identity in gone_identities:
            change.free_indices.add(layout.peers.pop(identity))
        change.meaning = {index: identity for identity, index in layout.peers.items()}
        for key, identity in desired.addresses.items():
            change.final[key] = layout.peers.get(identity, PEER_UNKNOWN)
        change.removed = [key for key in layout.prefixes if key not in desired.addresses]
        if layout.tables:
            self._plan_transition(change, desired, old)

    def _plan_transition(self, change: Change, desired: HostSlice, old: HostSlice) -> None:
        layout = change.layout
        # An identity that tables begin or cease to have rows about changes its index, though not its number.
        reindexed = layout.peers.keys() ^ self._layout.peers.keys()
        differing: dict[PrefixKey, tuple[int | None, int | None]] = {
            key: (old.addresses.get(key), identity)
            for key, identity in desired.addresses.items()
            if old.addresses.get(key) != identity or identity in reindexed
        }
        differing.update(
            {key: (identity, None) for key, identity in old.addresses.items() if key not in desired.addresses}
        )
        if not differing:
            return
        before, after = PrefixIndex(old.addresses), PrefixIndex(desired.addresses)
        indices: dict[tuple[int | None, int | None], int] = {}
        for key, (was, becomes) in differing.items():
            # A prefix that comes or goes had, or will have, the meaning of the next shorter one.
            pair = (before.shorter(key) if was is None else was, after.shorter(key) if becomes is None else becomes)
            # Flows with whom it was until now are decided anew; an unknown peer had none.
            if was is not None or pair[0] in self._layout.peers:
                change.epochs.add(key[0])
            if pair not in indices:
                indices[pair] = layout.peer_space.allocate()
                change.meaning[indices[pair]] = pair[1]
            change.transitional[key] = indices[pair]
        change.free_indices.update(indices.values())
        top = max(indices.values())
        for table_key, table in list(layout.tables.items()):
            for (was, _), index in indices.items():
                table.refs[index] = self._ref_in_force(table_key, was)
            if top < table.extent.count:
                change.old_refs.extend((table.extent.first + index, table.refs[index]) for index in indices.values())
                continue
            # The table in force has no room for the transitional indices: move it, unchanged, to where it has.
            layout.stale_tables.add(table.extent)
            grown = PeerTable(layout.ref_space.allocate(_table_size(top)), dict(table.refs))
            layout.tables[table_key] = grown
            change.regrown[table_key] = grown

    def _ref_in_force(self, key: TableKey, identity: int | None) -> Ref:
        index = self._layout.peers.get(identity) if identity is not None else None
        return NO_REF if index is None else self._layout.tables[key].refs.get(index, NO_REF)

    def _plan_tables(self, change: Change, desired: HostSlice) -> set[TableKey]:
        """New tables where a peer's verdicts change; additions go into those in force. Returns the changed keys."""
        layout = change.layout
        top = max(change.meaning, default=0)
        changed: set[TableKey] = set()
        for key, rows in desired.tables.items():
            refs: dict[int, Ref] = {}
            for index, identity in change.meaning.items():
                row = None if identity is None else rows.get(identity)
                refs[index] = NO_REF if row is None else change.refs_of_rows[row]
            table = layout.tables.get(key)
            if table is not None:
                same = all(table.refs.get(index, ref) == ref for index, ref in refs.items())
                if same and top < table.extent.count:
                    added = {index: ref for index, ref in refs.items() if index not in table.refs}
                    if key not in change.regrown:
                        change.old_refs.extend((table.extent.first + index, ref) for index, ref in added.items())
                    table.refs.update(added)
                    continue
                layout.stale_tables.add(table.extent)
                if not same:
                    changed.add(key)
            layout.tables[key] = PeerTable(layout.ref_space.allocate(_table_size(top)), refs)
            change.tables.append(layout.tables[key])
        for key in [key for key in layout.tables if key not in desired.tables]:
            layout.stale_tables.add(layout.tables.pop(key).extent)
        return changed

    def _plan_endpoints(self, change: Change, desired: HostSlice, changed: set[TableKey]) -> None:
        layout, old = change.layout, self._layout.slice
        for name, slot in layout.slots.items():
            if name not in desired.endpoints and layout.generations[slot]:
                # It leaves: with the flips it loses its network, since addresses stop meaning what its tables say.
                layout.generations[slot] = 0
                change.flips.append((slot, policy_index(slot, layout.halves[slot]), 0))
        named = named_at_ends(desired)
        for name, endpoint in desired.endpoints.items():
            slot = layout.slots[name]
            wanted = map(path_hash, named[name])
            layout.executables[slot] = numbered(layout.executables.get(slot, {}), wanted, name)
            before = old.endpoints.get(name)
            keys = {(identity, direction) for identity in endpoint.addresses.values() for direction in _DIRECTIONS}
            anew = before is None or dict(before.addresses) != dict(endpoint.addresses) or bool(keys & changed)
            half = 1 - layout.halves[slot]
            generation = layout.generations[slot]
            if anew or not generation:
                generation = generation % GENERATION_MAX + 1
            change.blocks.extend(enumerate(blocks_of(layout, desired, name), policy_index(slot, half)))
            change.flips.append((slot, policy_index(slot, half), generation))
            layout.halves[slot] = half
            layout.generations[slot] = generation

    @staticmethod
    def _plan_frees(change: Change, desired: HostSlice) -> None:
        """What only the old revision needs is given back in the layout; the writes that follow a flip come first."""
        layout = change.layout
        keep_rows = {(first, count) for first, count, _ in change.refs_of_rows.values()}
        for key in [key for key, extent in layout.rows.items() if (extent.first, extent.count) not in keep_rows]:
            layout.stale_rows.add(layout.rows.pop(key))
        keep_classes: set[ClassKey] = {class_key(classes) for classes in desired.class_sets.values()}
        for content in [content for content in layout.class_sets if content not in keep_classes]:
            layout.stale_class_sets.add(layout.class_sets.pop(content))
        layout.prefixes = dict(change.final)

    # -- executing: writes, in the order of the module's docstring

    def _execute(self, change: Change) -> None:
        tables, layout = self._tables, change.layout
        if not layout.parked:
            self._park(change)
        for slot, decision in change.decisions:
            tables.write_decision(slot, decision)
        for index, identifier in change.class_sets:
            tables.write_class_set(index, layout.slice.class_sets[identifier])
        for extent, cells in change.rows:
            tables.write_cells(extent.first, cells)
        if change.regrown:
            self._move_tables(change)
        for first, ref in change.old_refs:
            tables.write_refs(first, [ref])
        if self._layout.tables:
            tables.write_prefixes(change.transitional)
        else:
            # No table is in force that could read an index: the addresses may change at once, and before the first flip.
            before = self._layout.prefixes
            tables.write_prefixes({key: index for key, index in change.final.items() if before.get(key) != index})
            tables.remove_prefixes(change.removed)
        for table in change.tables:
            tables.write_refs(table.extent.first, _dense(table))
        for index, block in change.blocks:
            tables.write_policy(index, block)
        for slot, numbers in layout.executables.items():
            held = self._layout.executables.get(slot, {})
            tables.write_executables(slot, {path: number for path, number in numbers.items() if path not in held})
        for slot, policy, generation in change.flips:
            tables.activate(slot, policy, generation)
        for network in sorted(change.epochs):
            tables.advance_epoch(network)
        self._unsettled = change

    def settle(self) -> None:
        """Take down what only the revision before needed, once no packet can be using it any more.

        Not part of ``program``: the new revision is in force without it, and waiting for a grace period takes longer than
        all the writes. The next ``program`` begins with it.
        """
        change = self._unsettled
        if change is None:
            return
        tables = self._tables
        tables.synchronize()
        tables.write_prefixes({key: change.final[key] for key in change.transitional if key in change.final})
        tables.remove_prefixes(change.removed)
        self._give_back(change)
        # Only now: if a write failed, the next call begins again, and each of them may be repeated.
        self._unsettled = None

    def _park(self, change: Change) -> None:
        tables, layout = self._tables, self._layout
        for slot in layout.slots.values():
            policy, generation = tables.read_active(slot)
            if not generation:
                continue
            parked = policy_index(slot, 1 - layout.halves[slot])
            for place in range(ADDRESSES_PER_ENDPOINT):
                block = tables.read_policy(policy + place)
                tables.write_policy(parked + place, replace(block, egress=(0, 0), ingress=(0, 0)))
            tables.activate(slot, parked, generation)
        tables.synchronize()
        self._turn_halves(change)
        change.layout.parked = True

    def _move_tables(self, change: Change) -> None:
        """Put grown copies of tables in force: the same verdicts, so no endpoint's generation changes."""
        tables, current = self._tables, self._layout
        for table in change.regrown.values():
            tables.write_refs(table.extent.first, _dense(table))
        places = {current.tables[key].extent.first: table.extent for key, table in change.regrown.items()}

        def moved(table: tuple[int, int]) -> tuple[int, int]:
            place = places.get(table[0])
            return table if place is None else (place.first, place.count)

        for slot in current.slots.values():
            policy, generation = tables.read_active(slot)
            if not generation:
                continue
            other = policy_index(slot, 1 - current.halves[slot])
            for place in range(ADDRESSES_PER_ENDPOINT):
                block = tables.read_policy(policy + place)
                copy = replace(block, egress=moved(block.egress), ingress=moved(block.ingress))
                tables.write_policy(other + place, copy)
            tables.activate(slot, other, generation)
        tables.synchronize()
        self._turn_halves(change)

    @staticmethod
    def _turn_halves(change: Change) -> None:
        """The half that the plan meant to fill has just come into force: the plan takes the other one."""
        change.blocks = [(_other_half(index), block) for index, block in change.blocks]
        change.flips = [(slot, _other_half(policy), generation) for slot, policy, generation in change.flips]
        change.layout.halves = {slot: 1 - half for slot, half in change.layout.halves.items()}

    def _give_back(self, change: Change) -> None:
        layout = change.layout
        for extent in layout.stale_tables:
            layout.ref_space.free(extent)
        for extent in layout.stale_rows:
            layout.cell_space.free(extent)
        for index in layout.stale_class_sets:
            layout.class_space.free(index)
        layout.stale_tables, layout.stale_rows, layout.stale_class_sets = set(), set(), set()
        for index in change.free_indices:
            layout.peer_space.free(index)
            for table in layout.tables.values():
                table.refs.pop(index, None)
        keep: set[KernelDecision] = set()
        slots: dict[int, int] = {}
        for number, kept in _plain_first(layout.slice):
            key = kernel_decision(kept, slots, layout.profiles)
            slots[number] = layout.decisions[key]
            keep.add(key)
        for decision in [decision for decision in layout.decisions if decision not in keep]:
            slot = layout.decisions.pop(decision)
            packets, count_bytes = self._tables.read_count(slot)
            before = self._retired.get(decision.number, (0, 0))
            self._retired[decision.number] = (before[0] + packets, before[1] + count_bytes)
            if decision.verdict in PASSING:
                self._tables.retire_count(slot)
            layout.decision_space.free(slot)


def _plain_first(desired: HostSlice) -> list[tuple[int, Decision]]:
    """The decisions, those that lead to others behind these."""
    return sorted(desired.decisions.items(), key=lambda item: bool(item[1].names))


def _table_size(top: int) -> int:
    return top + 1 + max(TABLE_SLACK, top // 4)


def _other_half(index: int) -> int:
    per_half = ADDRESSES_PER_ENDPOINT
    return index + per_half if index // per_half % HALVES == 0 else index - per_half


def _dense(table: PeerTable) -> list[Ref]:
    return [table.refs.get(index, NO_REF) for index in range(table.extent.count)]
