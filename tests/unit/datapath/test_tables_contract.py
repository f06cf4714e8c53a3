"""What every implementation of ``Tables`` has to do: the kernel's maps and their model are held to the same words."""

from __future__ import annotations

import os
import random
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from hostward import _core
from hostward.datapath.kernel import OBJECT
from hostward.datapath.kernel_tables import KernelTables
from hostward.datapath.memory import MemoryTables
from hostward.datapath.tables import (
    EMPTY_BLOCK,
    GENERATION_MAX,
    NO_REF,
    Capacity,
    EndpointConfig,
    KernelDecision,
    PolicyBlock,
    Tables,
)
from hostward.errors import DatapathError
from hostward.model.slice import ClassSet
from hostward.model.verdict import Verdict

CAPACITY = Capacity(endpoints=4, flows=256, cells=64, refs=128, prefixes=32, decisions=16, class_sets=4)
_BPFFS = Path("/sys/fs/bpf")


@contextmanager
def _kernel_tables() -> Iterator[Tables]:
    if os.geteuid() != 0 or not _BPFFS.is_mount():
        pytest.skip("needs root and a mounted bpffs")
    pins = _BPFFS / f"hwtest-{uuid.uuid4().hex[:8]}"
    try:
        core = _core.Datapath(
            str(OBJECT),
            str(pins),
            endpoints=CAPACITY.endpoints,
            flows=CAPACITY.flows,
            cells=CAPACITY.cells,
            refs=CAPACITY.refs,
            prefixes=CAPACITY.prefixes,
            decisions=CAPACITY.decisions,
            class_sets=CAPACITY.class_sets,
        )
        yield KernelTables(core, CAPACITY)
    finally:
        shutil.rmtree(pins, ignore_errors=True)


@pytest.fixture(params=["memory", pytest.param("kernel", marks=pytest.mark.netns)])
def tables(request: pytest.FixtureRequest) -> Iterator[Tables]:
    if request.param == "kernel":
        with _kernel_tables() as made:
            yield made
    else:
        yield MemoryTables(CAPACITY)


def test_fresh_tables_hold_nothing(tables: Tables) -> None:
    assert tables.capacity == CAPACITY
    assert not tables.read_prefixes()
    assert not tables.read_decisions()
    assert list(tables.read_cells(1, 8)) == [0] * 8
    assert [tuple(ref) for ref in tables.read_refs(1, 8)] == [NO_REF] * 8
    assert tables.read_policy(16) == EMPTY_BLOCK
    assert tables.read_active(1) == (0, 0)
    assert tables.read_count(1) == (0, 0)


def test_prefixes_of_all_lengths_come_back_as_they_were_written(tables: Tables) -> None:
    written = {
        (0, "0.0.0.0/0"): 1,
        (0, "::/0"): 1,
        (0, "10.0.0.0/8"): 2,
        (0, "10.0.0.0/9"): 3,
        (0, "10.0.0.1/32"): 4,
        (0, "fd00::/8"): 2,
        (0, "fd00::1/128"): 4,
        (3, "10.0.0.1/32"): 5,
        (3, "0.0.0.0/0"): 0,
    }
    tables.write_prefixes(written)
    assert tables.read_prefixes() == written
    tables.write_prefixes({(0, "10.0.0.1/32"): 9})
    tables.remove_prefixes([(0, "10.0.0.0/8"), (3, "10.0.0.1/32"), (1, "10.0.0.1/32")])
    del written[0, "10.0.0.0/8"], written[3, "10.0.0.1/32"]
    assert tables.read_prefixes() == {**written, (0, "10.0.0.1/32"): 9}


def test_writing_and_removing_nothing_is_allowed(tables: Tables) -> None:
    tables.write_prefixes({})
    tables.remove_prefixes([])
    tables.write_cells(1, [])
    tables.write_refs(1, [])
    assert not tables.read_prefixes()
    assert list(tables.read_cells(1, 0)) == []


def test_cells_and_references_are_written_in_place(tables: Tables) -> None:
    tables.write_cells(5, [7, 8, 9])
    tables.write_cells(6, [1])
    assert list(tables.read_cells(4, 5)) == [0, 7, 1, 9, 0]
    tables.write_refs(3, [(5, 3, 1), (6, 1, 2)])
    tables.write_refs(4, [NO_REF])
    assert [tuple(ref) for ref in tables.read_refs(2, 3)] == [NO_REF, (5, 3, 1), NO_REF]


@pytest.mark.parametrize("verdict", [Verdict.ALLOW, Verdict.DENY, Verdict.WOULD_DENY])
@pytest.mark.parametrize("log", [False, True])
def test_a_decision_keeps_its_verdict_and_whether_it_logs(tables: Tables, verdict: Verdict, log: bool) -> None:
    decision = KernelDecision(0xFFFFFFFF, verdict.value, log)
    tables.write_decision(7, decision)
    assert tables.read_decisions() == {7: decision}
    assert tables.holds_decision(7, decision)
    assert not tables.holds_decision(8, decision)
    assert not tables.holds_decision(7, replace(decision, log=not log))
    assert tables.read_count(7) == (0, 0)


@pytest.mark.parametrize("flag", ["reject", "keep", "keeps"])
def test_a_decision_keeps_each_of_its_flags(tables: Tables, flag: str) -> None:
    decision = replace(KernelDecision(5, "deny", log=False), **{flag: True})
    tables.write_decision(7, decision)
    assert tables.read_decisions() == {7: decision}
    assert tables.holds_decision(7, decision)
    assert not tables.holds_decision(7, replace(decision, **{flag: False}))


def test_a_policy_block_keeps_every_field(tables: Tables) -> None:
    for address in ("10.0.0.1", "fd00::1", "fe80::ff:fe00:1", ""):
        block = PolicyBlock(1 << 40, (1, 2), (3, 4), 301, address)
        tables.write_policy(33, block)
        assert tables.read_policy(33) == block
    assert tables.read_policy(32) == EMPTY_BLOCK


def test_a_slot_is_activated_and_closed(tables: Tables) -> None:
    tables.activate(1, 48, GENERATION_MAX)
    assert tables.read_active(1) == (48, GENERATION_MAX)
    assert tables.read_active(2) == (0, 0)
    tables.activate(1, 0, 0)
    assert tables.read_active(1) == (0, 0)


def test_a_slot_is_configured_cleared_and_configured_again(tables: Tables) -> None:
    for quota in (64, 32):
        tables.write_endpoint(1, EndpointConfig("02:00:00:00:00:01", 0, quota, 10, 20))
        tables.create_ring(1, quota)
        tables.clear_slot(1)
    tables.advance_epoch(0)
    tables.synchronize()


def test_a_slot_tells_whether_it_is_configured_so(tables: Tables) -> None:
    config = EndpointConfig("02:00:00:00:00:01", 0, 64, 10, 20)
    assert not tables.holds_endpoint(1, config)
    tables.write_endpoint(1, config)
    assert tables.holds_endpoint(1, config)
    assert not tables.holds_endpoint(1, replace(config, mac="02:00:00:00:00:02"))
    assert not tables.holds_endpoint(1, replace(config, flow_quota=65))
    # The number 0 is one, and not the same as none.
    for known, other in ((0, None), (0, 1), (None, 0)):
        tables.write_endpoint(1, replace(config, workload_netns=known))
        assert tables.holds_endpoint(1, replace(config, workload_netns=known))
        assert not tables.holds_endpoint(1, replace(config, workload_netns=other))


def test_a_class_set_may_be_written_again_once_nothing_names_it(tables: Tables) -> None:
    everything = ((0, 0),)
    first = ClassSet(9, ((0, 0), (80, 1), (65_535, 2)), everything, everything, everything, everything, everything)
    tables.write_class_set(1, first)
    assert tables.holds_class_set(1, replace(first, id=10))
    assert not tables.holds_class_set(2, first)
    tables.write_class_set(1, ClassSet(9, *(everything,) * 6))
    assert not tables.holds_class_set(1, first)
    assert tables.holds_class_set(1, ClassSet(9, *(everything,) * 6))


def test_class_sets_share_blocks_and_never_change_each_other(tables: Tables) -> None:
    """The blocks of a set that is written anew may be those of another."""
    everything = ((0, 0),)
    cuts = [everything, ((0, 0), (80, 1)), ((0, 0), (443, 1), (444, 2))]
    chosen = random.Random(7)
    held: dict[int, ClassSet] = {}
    for _ in range(60):
        index = chosen.randrange(CAPACITY.class_sets)
        held[index] = ClassSet(1, chosen.choice(cuts), chosen.choice(cuts), *(everything,) * 4)
        tables.write_class_set(index, held[index])
        assert all(tables.holds_class_set(other, classes) for other, classes in held.items())


@pytest.mark.netns
def test_the_kernel_refuses_what_does_not_exist() -> None:
    with _kernel_tables() as tables:
        with pytest.raises(DatapathError, match="no such verdict"):
            tables.write_decision(1, KernelDecision(1, "perhaps", log=False))
        with pytest.raises(_core.CoreError):
            tables.write_cells(CAPACITY.cells - 1, [1, 1])
        with pytest.raises(_core.CoreError):
            tables.activate(CAPACITY.endpoints, 0, 1)
        with pytest.raises(ValueError, match="no IP address"):
            tables.write_policy(1, PolicyBlock(1, (0, 0), (0, 0), 1, "10.0.0.256"))


@pytest.mark.parametrize("verdict", ["allow", "deny", "would-deny"])
def test_the_verdicts_numbers_are_those_of_the_datapath(verdict: str) -> None:
    from hostward.datapath.kernel_tables import _VERDICT_NUMBERS

    assert _core.verdict_word(_VERDICT_NUMBERS[verdict]) == verdict
