"""The difference of two slices.

A slice is a handful of mappings whose keys keep their meaning, so a delta is what to set and what to remove in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from hostward.errors import ConflictError
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, PrefixKey, Row, TableKey
from hostward.policy.encoding import slice_digest
from hostward.policy.shared import LastResults

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_diffed_last: LastResults[tuple[dict[PrefixKey, int], tuple[PrefixKey, ...]]] = LastResults()


@dataclass(frozen=True, slots=True)
class SliceDelta:
    """From revision ``base`` to ``revision``. ``set_*`` hold new and changed entries, ``removed_*`` keys that are gone.

    Tables are compared peer by peer: a table that is new, or one with changed peers, is in ``set_tables`` with just those
    peers, and ``removed_peers`` names those that left. ``digest`` is of the slice that must result.
    """

    base: int
    base_digest: str
    revision: int
    digest: str
    set_networks: dict[int, str]
    removed_networks: tuple[int, ...]
    set_endpoints: dict[str, LocalEndpoint]
    removed_endpoints: tuple[str, ...]
    set_addresses: dict[PrefixKey, int]
    removed_addresses: tuple[PrefixKey, ...]
    set_class_sets: dict[int, ClassSet]
    removed_class_sets: tuple[int, ...]
    set_rows: dict[int, Row]
    removed_rows: tuple[int, ...]
    set_tables: dict[TableKey, dict[int, int]]
    removed_peers: dict[TableKey, tuple[int, ...]]
    removed_tables: tuple[TableKey, ...]
    set_decisions: dict[int, Decision]
    removed_decisions: tuple[int, ...]


def diff_slices(old: HostSlice, new: HostSlice, digests: tuple[str, str] | None = None) -> SliceDelta:
    """What turns ``old`` into ``new``; ``digests`` are theirs, where the caller has them already."""
    old_digest, new_digest = digests or (slice_digest(old), slice_digest(new))
    tables: dict[TableKey, dict[int, int]] = {}
    removed_peers: dict[TableKey, tuple[int, ...]] = {}
    for key, table in new.tables.items():
        before = old.tables.get(key)
        if before is table:
            continue
        changed, gone = _diff(before or {}, table)
        if changed or before is None:
            tables[key] = changed
        if gone:
            removed_peers[key] = gone
    networks = _diff(old.networks, new.networks)
    endpoints = _diff(old.endpoints, new.endpoints)
    addresses = _diffed_last.of(_diff, old.addresses, new.addresses)
    class_sets = _diff(old.class_sets, new.class_sets)
    rows = _diff(old.rows, new.rows)
    decisions = _diff(old.decisions, new.decisions)
    return SliceDelta(
        old.revision,
        old_digest,
        new.revision,
        new_digest,
        *networks,
        *endpoints,
        *addresses,
        *class_sets,
        *rows,
        tables,
        removed_peers,
        tuple(key for key in old.tables if key not in new.tables),
        *decisions,
    )


def apply_delta(old: HostSlice, delta: SliceDelta, old_digest: str = "") -> HostSlice:
    """The slice that a delta leads to; ``old_digest`` is that of ``old``, where the caller has it already.

    Raises ConflictError if the delta was not made from ``old`` or leads elsewhere.
    """
    if delta.base != old.revision or delta.base_digest != (old_digest or slice_digest(old)):
        raise ConflictError(f"a delta from revision {delta.base} does not fit revision {old.revision}")
    tables: dict[TableKey, Mapping[int, int]] = {}
    for key, table in old.tables.items():
        if key not in delta.removed_tables:
            tables[key] = _apply(table, {}, delta.removed_peers.get(key, ()))
    for key, changed in delta.set_tables.items():
        tables[key] = {**tables.get(key, {}), **changed}
    new = HostSlice(
        delta.revision,
        _apply(old.networks, delta.set_networks, delta.removed_networks),
        _apply(old.endpoints, delta.set_endpoints, delta.removed_endpoints),
        _apply(old.addresses, delta.set_addresses, delta.removed_addresses),
        _apply(old.class_sets, delta.set_class_sets, delta.removed_class_sets),
        _apply(old.rows, delta.set_rows, delta.removed_rows),
        tables,
        _apply(old.decisions, delta.set_decisions, delta.removed_decisions),
    )
    if slice_digest(new) != delta.digest:
        raise ConflictError(f"revision {delta.revision} came out different from what the controller computed")
    return new


def _diff(old: Mapping[_Key, _Value], new: Mapping[_Key, _Value]) -> tuple[dict[_Key, _Value], tuple[_Key, ...]]:
    changed = {key: value for key, value in new.items() if key not in old or old[key] != value}
    return changed, tuple(key for key in old if key not in new)


def _apply(old: Mapping[_Key, _Value], changed: Mapping[_Key, _Value], removed: tuple[_Key, ...]) -> dict[_Key, _Value]:
    gone = set(removed)
    return {**{key: value for key, value in old.items() if key not in gone}, **changed}
