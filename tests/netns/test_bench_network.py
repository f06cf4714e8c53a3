"""The network benchmark on short rounds: figures for every case, refusal of a filter that filters nothing, no remains."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from bench import network, report
from bench.cases import Case, Counting, Filter, Seen
from bench.commands import BenchError
from bench.topology import Topology, set_ports_up

pytestmark = pytest.mark.netns


def remains() -> list[str]:
    """Namespaces and pins of this process's benchmark."""
    namespaces = subprocess.run(["ip", "netns", "list"], check=True, capture_output=True, text=True).stdout.split("\n")
    pins = [str(path) for path in Path("/sys/fs/bpf").glob("hostward-bench-*")]
    return [name for name in namespaces if name.startswith(f"hwbench-{os.getpid()}-")] + pins


def test_short_rounds_give_every_figure_and_leave_nothing() -> None:
    result = network.run(2, 2 * network.SLICE_S, lambda _: None)
    assert remains() == []
    assert set(result.samples) == {
        (measurement, case) for measurement in network.MEASUREMENTS for case in network.CASES
    }
    assert all(len(turns) == 2 for rounds in result.samples.values() for turns in rounds)
    assert all(rate > 0 for rounds in result.samples.values() for turns in rounds for rate in turns)
    protected = [case for case in network.CASES if case.filter is not Filter.NONE]
    assert set(result.evidence) == set(protected)
    rows = report.rows_of(result)
    assert len(rows) == len(network.MEASUREMENTS) * len(network.RULES)
    assert len(report.table(result)) == len(rows) + 1


def test_a_filter_that_filters_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def open_to_all(case: Case, topology: Topology) -> Iterator[Counting]:
        set_ports_up(topology)
        yield lambda: Seen(0, 0)

    monkeypatch.setattr(network, "CASES", (Case(Filter.HOSTWARD, 10),))
    monkeypatch.setattr(network, "protected", open_to_all)
    with pytest.raises(BenchError, match="which its policy denies"):
        network.run(2, network.SLICE_S, lambda _: None)
    assert remains() == []


def test_a_filter_that_lets_nothing_through_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def closed_to_all(case: Case, topology: Topology) -> Iterator[Counting]:
        yield lambda: Seen(0, 0)  # the ports stay down

    monkeypatch.setattr(network, "CASES", (Case(Filter.NFTABLES_SETS, 10),))
    monkeypatch.setattr(network, "protected", closed_to_all)
    with pytest.raises(BenchError, match="which its policy allows"):
        network.run(2, network.SLICE_S, lambda _: None)
    assert remains() == []
