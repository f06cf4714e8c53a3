"""A short run of the benchmark against the kernel: every row that is promised, and nothing left behind."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from hostward.datapath import bench

BPFFS = Path("/sys/fs/bpf")
pytestmark = pytest.mark.netns


def test_a_quick_run_has_every_row_and_leaves_no_pins() -> None:
    before = set(BPFFS.glob("hostward-bench-*"))
    lines: list[str] = []
    result = bench.run(quick=True, progress=lines.append)
    assert result["unit"] == "ns/packet"
    assert result["floor"] > 0
    assert lines == ["10 rules, 2 endpoints", "100,000 rules, 100,000 endpoints"]
    rows = result["rows"]
    assert {(row["rules"], row["endpoints"]) for row in rows} == {(10, 2), (100_000, 100_000)}
    for path in ("established", "reply", "deny"):
        assert {row["flows"] for row in rows if row["path"] == path} == {1, 100_000}
    kinds = Counter((row["path"], row["direction"], row["family"], row["flows"]) for row in rows)
    assert len(kinds) == 4 * 2 * 2 * 2
    assert set(kinds.values()) == {2}
    assert all(row["min"] == row["over_floor"] + result["floor"] for row in rows)
    assert set(BPFFS.glob("hostward-bench-*")) == before
