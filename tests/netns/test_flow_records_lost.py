"""What is lost before the exporter: by the ring and by a bucket, told apart, exact, and mostly found again by walks."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

from hostward import _core
from hostward.datapath.bench import BENCH_OBJECT
from hostward.datapath.bench_frames import Conversation, TcpFlags
from hostward.datapath.bench_slice import ENDPOINT, Scenario, build_slice
from hostward.datapath.flow_export import FlowExportCounts, FlowExporter, FlowExportSettings
from hostward.datapath.kernel import OBJECT, KernelEnforcer, open_enforcer
from hostward.datapath.tables import Capacity
from hostward.model.slice import HostSlice

FLOWS = 60_000
SCENARIO = Scenario(10, 100, flows=FLOWS)
CAPACITY = Capacity(endpoints=4)


def _slice(events: int) -> HostSlice:
    """One endpoint that may have so many events, a second and at once."""
    made = build_slice(SCENARIO)
    endpoint = made.endpoints[ENDPOINT]
    quota = replace(endpoint.quota, events_per_s=events, events_burst=events)
    return replace(made, endpoints={ENDPOINT: replace(endpoint, quota=quota)})


def _open_flows(enforcer: KernelEnforcer, pins: Path, flows: int, at_once: int = FLOWS) -> None:
    """Each with one packet; so many at once, that the ring holds what they tell."""
    programs = _core.Bench(str(BENCH_OBJECT), str(pins), enforcer.port_of(ENDPOINT).slot)
    conversation = Conversation(4, "egress", SCENARIO.service_port(allowed=True))
    programs.rotate(**conversation.rotation("egress", TcpFlags.SYN, flows, 100))
    for _ in range(flows // at_once):
        passed, _ = programs.run("egress", conversation.frame("egress", TcpFlags.SYN), at_once)
        assert passed
        if at_once < flows:
            time.sleep(0.05)


def _soon(exporter: FlowExporter, holds: Callable[[FlowExportCounts], bool]) -> None:
    end = time.monotonic() + 15
    while not holds(exporter.counts()):
        assert time.monotonic() < end, exporter.counts()
        time.sleep(0.05)


def test_what_a_full_ring_had_no_room_for_is_counted(pins: Path) -> None:
    enforcer = open_enforcer(pins, capacity=CAPACITY)
    enforcer.enforce(_slice(10_000_000))
    _open_flows(enforcer, pins, FLOWS)  # and nobody reads
    core = _core.Datapath(str(OBJECT), str(pins), **asdict(CAPACITY))
    exporter = FlowExporter(core, FlowExportSettings(), FLOWS)
    exporter.tell_endpoints({}, {})
    _soon(exporter, lambda counts: counts["events"] > 0 and counts["resumed"] > 0)
    exporter.close()
    counts = exporter.counts()
    assert counts["ring_lost_events"] > 0
    assert counts["bucket_lost_events"] == 0
    assert counts["events"] + counts["ring_lost_events"] == FLOWS
    assert counts["packets"] == counts["records"] == counts["events"]
    assert counts["resumed"] == counts["ring_lost_events"], "they are told of from now on"
    enforcer.close()


def test_flows_of_which_a_bucket_refused_all_events_are_found_by_the_walk(pins: Path) -> None:
    enforcer = open_enforcer(pins, capacity=CAPACITY, flow_export=FlowExportSettings(events_per_s=100))
    enforcer.enforce(_slice(100))
    exporter = enforcer.flow_exporter
    assert exporter is not None
    time.sleep(0.5)  # the first walk is over, and what comes now is new
    _open_flows(enforcer, pins, FLOWS)
    _soon(exporter, lambda counts: counts["flows"] == FLOWS)
    enforcer.close()
    counts = exporter.counts()
    assert counts["ring_lost_events"] == 0
    assert counts["events"] + counts["bucket_lost_events"] == FLOWS
    assert counts["bucket_lost_events"] > FLOWS * 9 // 10
    assert counts["packets"] == counts["records"] == FLOWS
    assert counts["resumed"] == counts["unseen_ends"] == counts["estimated"] == 0


def test_a_small_table_delays_and_loses_nothing(pins: Path) -> None:
    settings = FlowExportSettings(flows=1_000, events_per_s=10_000_000)
    enforcer = open_enforcer(pins, capacity=CAPACITY, flow_export=settings)
    enforcer.enforce(_slice(100))
    exporter = enforcer.flow_exporter
    assert exporter is not None
    time.sleep(0.5)
    # More than there are places: the older ones end.
    _open_flows(enforcer, pins, 2 * FLOWS, at_once=5_000)
    enforcer.close()
    counts = exporter.counts()
    assert counts["untabled"] > 0
    assert counts["bucket_lost_events"] == counts["ring_lost_events"] == 0
    assert counts["packets"] == counts["records"] == 2 * FLOWS
