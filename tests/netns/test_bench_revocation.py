"""Many live streams stop with the revision that revokes them, kept ones go on; and what proves nothing is refused.

It is the benchmark's own measurement, with few streams: the sink is the server's device.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from bench import revocation
from bench.commands import BenchError
from bench.topology import Topology

from hostward.model.slice import HostSlice
from tests.netns.test_bench_network import remains

pytestmark = pytest.mark.netns

STREAMS = 300


def test_every_revoked_stream_stops_and_every_kept_one_goes_on() -> None:
    (cut,) = revocation.run(1, lambda _: None, STREAMS)
    assert remains() == []
    assert len(cut.stopped_ms) == STREAMS
    assert cut.late == 0
    assert cut.denied >= STREAMS
    assert cut.carried_on == cut.kept == STREAMS // 2
    assert len(revocation.table((cut,))) == 4


def test_a_revision_that_revokes_nothing_is_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """The negative control."""
    original = revocation._slices

    def unchanged(topology: Topology) -> tuple[HostSlice, HostSlice]:
        allowing, _ = original(topology)
        return allowing, replace(allowing, revision=2)

    monkeypatch.setattr(revocation, "_slices", unchanged)
    with pytest.raises(BenchError, match="denied 0 packets of 300 revoked streams"):
        revocation.run(1, lambda _: None, STREAMS)
    assert remains() == []
