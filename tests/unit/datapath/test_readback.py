"""Whatever somebody changes in the tables behind Hostward's back is mended and reported; nothing else is touched."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from hostward.datapath.memory import MemoryTables
from hostward.datapath.programmer import Programmer
from hostward.datapath.readback import mend_tables
from hostward.datapath.tables import EMPTY_BLOCK, NO_REF, Capacity, KernelDecision, PolicyBlock
from hostward.model.endpoint import Port
from hostward.model.slice import ClassSet, Decision, HostSlice, LocalEndpoint, Row

ALL = ((0, 0),)
CLASSES = ClassSet(1, ((0, 0), (80, 1), (81, 0)), ALL, ALL, ALL, ALL, ALL)
MAC = "02:00:00:00:00:01"
LINK_LOCAL = "fe80::ff:fe00:1"


def example() -> HostSlice:
    endpoint = LocalEndpoint("t/a", "t", 0, MAC, {"10.0.0.1": 300}, Port("p"))
    addresses = {(0, "0.0.0.0/0"): 1, (0, "::/0"): 1, (0, "10.0.0.1/32"): 300, (0, "10.0.0.2/32"): 301}
    rows = {1: Row(1, 1, (1, 2))}
    tables = {(300, "egress"): {301: 1}, (300, "ingress"): {301: 1}}
    decisions = {1: Decision(1, "deny", ("t/no",)), 2: Decision(2, "allow", ("t/yes",))}
    return HostSlice(5, {0: "default"}, {"t/a": endpoint}, addresses, {1: CLASSES}, rows, tables, decisions)


def in_force() -> tuple[MemoryTables, Programmer]:
    tables = MemoryTables(Capacity(endpoints=4, cells=64, refs=512, prefixes=16, decisions=16, class_sets=4))
    programmer = Programmer(tables, {})
    value = example()
    programmer.claim_slot("t/a")
    programmer.configure(value.endpoints["t/a"])
    programmer.program(value)
    return tables, programmer


def _first_cell(tables: MemoryTables, programmer: Programmer) -> None:
    extent = next(iter(programmer.layout.rows.values()))
    tables.write_cells(extent.first, [0])


def _reference(tables: MemoryTables, programmer: Programmer) -> None:
    table = programmer.layout.tables[300, "egress"]
    tables.write_refs(table.extent.first + programmer.layout.peers[301], [NO_REF])


def _decision(tables: MemoryTables, programmer: Programmer) -> None:
    slot = programmer.layout.decisions[KernelDecision(1, "deny", log=False)]
    tables.write_decision(slot, KernelDecision(1, "allow", log=False))


def _decision_gone(tables: MemoryTables, programmer: Programmer) -> None:
    del tables.decisions[programmer.layout.decisions[KernelDecision(2, "allow", log=False)]]


def _write(tables: MemoryTables, place: int, block: PolicyBlock) -> None:
    tables.write_policy(tables.read_active(1)[0] + place, block)


def _added_address(tables: MemoryTables, programmer: Programmer) -> None:
    _write(tables, 2, replace(tables.read_policy(tables.read_active(1)[0]), address="10.0.0.9"))


def _policy(tables: MemoryTables, programmer: Programmer) -> None:
    first = tables.read_policy(tables.read_active(1)[0])
    _write(tables, 0, replace(first, egress=(0, 0)))


def _spare_policy(tables: MemoryTables, programmer: Programmer) -> None:
    _write(tables, 7, tables.read_policy(tables.read_active(1)[0]))


TAMPERINGS: dict[str, tuple[Callable[[MemoryTables, Programmer], None], str]] = {
    "a cell": (_first_cell, "cells"),
    "a reference": (_reference, "identity 300, egress"),
    "a decision": (_decision, "decision 1"),
    "a decision taken away": (_decision_gone, "decision 2"),
    "an address taken away": (lambda tables, _: _write(tables, 0, EMPTY_BLOCK), "10.0.0.1, had"),
    "the link-local address": (lambda tables, _: _write(tables, 1, EMPTY_BLOCK), LINK_LOCAL),
    "an address added": (_added_address, "policy block 2"),
    "a prefix": (lambda tables, _: tables.write_prefixes({(0, "10.0.0.2/32"): 0}), "10.0.0.2/32"),
    "a prefix taken away": (lambda tables, _: tables.remove_prefixes([(0, "10.0.0.2/32")]), "10.0.0.2/32"),
    "a prefix added": (lambda tables, _: tables.write_prefixes({(0, "10.0.0.0/24"): 1}), "10.0.0.0/24"),
    "a policy block": (_policy, "policy block 0"),
    "a policy block of no address": (_spare_policy, "policy block 7"),
    "the policy in force": (lambda tables, _: tables.activate(1, 0, 1), "another policy"),
    "the slot closed": (lambda tables, _: tables.activate(1, 0, 0), "another policy"),
}


@pytest.mark.parametrize("tampering", TAMPERINGS)
def test_a_change_behind_its_back_is_mended_and_reported(tampering: str) -> None:
    change, report = TAMPERINGS[tampering]
    tables, programmer = in_force()
    change(tables, programmer)
    lines = mend_tables(tables, programmer.layout)
    assert len(lines) == 1
    assert report in lines[0]
    assert mend_tables(tables, programmer.layout) == []
    assert tables.decide(1, "egress", "10.0.0.1", "10.0.0.2", 6, 80).verdict == "allow"
    assert tables.decide(1, "egress", "10.0.0.1", "10.0.0.2", 6, 81).verdict == "deny"
    assert tables.decide(1, "egress", "10.0.0.9", "10.0.0.2", 6, 80).reason == "ip-spoof"


def test_tables_as_they_should_be_are_not_written() -> None:
    tables, programmer = in_force()
    assert mend_tables(tables, programmer.layout) == []


def test_nothing_is_mended_before_a_slice_is_in_force() -> None:
    tables, _ = in_force()
    assert mend_tables(tables, Programmer(tables, {"t/a": 1}).layout) == []
