"""An agent's part of a scrape: the kernel's counters and the agent's own, as ``export.metrics.catalogue`` names them."""

from __future__ import annotations

from collections import Counter

import hostward
from hostward.agent.enforcement import Enforcement
from hostward.agent.event_pump import EventPump
from hostward.agent.inspection import Inspector
from hostward.agent.measures import Measures
from hostward.agent.messages import NackReason
from hostward.agent.sampling import SamplePump
from hostward.agent.sflow import SflowSender
from hostward.datapath.enforcer import RepairKind
from hostward.datapath.flow_export import FlowExportCounts
from hostward.datapath.readings import EndpointReading, Readings
from hostward.export.metrics import catalogue
from hostward.export.metrics.page import Page
from hostward.model.endpoint import EndpointState

# Endpoints with series of their own, unless configured: docs/reference/metrics.md says what that comes to.
NAMED_ENDPOINTS = 16
# Where flow records, or what they would tell, can be lost; the names are those of the exporter's counts.
_LOST_WHERE = {
    "bucket": "bucket_lost_events",
    "ring": "ring_lost_events",
    "table": "untabled",
    "end": "unseen_ends",
    "estimate": "estimated",
    "socket": "socket_lost_records",
    "file": "lines_lost",
}
# No endpoint is called so: an endpoint's label is `tenant/name`.
OTHER = "other"


class AgentMetrics:
    """Adds to pages. Call ``add_to`` on the event loop; it waits for the enforcer's thread, never the loop for it."""

    def __init__(
        self,
        enforcement: Enforcement,
        events: EventPump,
        samples: SamplePump,
        sflow: SflowSender | None,
        named: int,
        inspector: Inspector | None = None,
    ) -> None:
        """``named``: how many endpoints have series of their own, the rest being summed."""
        self._inspector = inspector
        self._enforcement = enforcement
        self._events = events
        self._samples = samples
        self._sflow = sflow
        enforcement.measures.rest.named = named

    async def add_to(self, page: Page) -> None:
        """Everything that this agent tells. Raises DatapathError if the kernel's counters cannot be read."""
        readings = await self._enforcement.readings()
        page.add(catalogue.BUILD, 1, "agent", hostward.__version__)
        _add_host(page, readings)
        _add_endpoints(page, readings, self._enforcement.measures)
        self._add_own(page)

    def _add_own(self, page: Page) -> None:
        enforcement, events, measures = self._enforcement, self._events, self._enforcement.measures
        page.add(catalogue.READ_AT, measures.read_at_epoch_s)
        states = Counter(status.state for status in enforcement.statuses.values())
        for state in EndpointState:
            page.add(catalogue.LOCAL_ENDPOINTS, states[state], state.value)
        page.add(catalogue.ENFORCED_REVISION, enforcement.revision)
        page.add(catalogue.RECEIVED_REVISION, measures.received_revision)
        page.add_durations(catalogue.ENFORCE_SECONDS, measures.enforcing)
        for reason in NackReason:
            page.add(catalogue.REFUSED_REVISIONS, measures.refused[reason], reason.value)
        for kind in RepairKind:
            page.add(catalogue.REPAIRS, measures.repairs[kind], kind.value)
        page.add(catalogue.CHANNEL_UP, measures.channel_up)
        page.add(catalogue.CHANNEL_OPENED, measures.channels_opened)
        page.add(catalogue.CHANNEL_FAILED, measures.channels_failed)
        counts = FlowExportCounts() if enforcement.flow_exporter is None else enforcement.flow_exporter.counts()
        page.add(catalogue.RING_EVENTS, max(events.taken, counts["events"]))
        page.add(catalogue.QUEUE_DROPPED, events.dropped + counts["undrained_events"])
        page.add(catalogue.QUEUE_EVENTS, events.waiting)
        page.add(catalogue.SAMPLES_UNTOLD, self._samples.untold)
        sflow = self._sflow
        page.add(catalogue.SFLOW_DATAGRAMS, 0 if sflow is None else sflow.datagrams)
        page.add(catalogue.SFLOW_FAILED, 0 if sflow is None else sflow.samples_failed)
        page.add(catalogue.UPLINK_CEILINGS, 0 if enforcement.uplink is None else enforcement.uplink.ceilings)
        page.add(catalogue.CEILINGS_REFUSED, measures.ceilings_refused)
        page.add(catalogue.ARRIVALS_TOLD, measures.arrivals_told)
        _add_flow_export(page, counts)
        _add_inspector(page, self._inspector)


def _add_inspector(page: Page, inspector: Inspector | None) -> None:
    """Zeros where there is none: a host that gets one begins no new series."""
    told = {} if inspector is None else inspector.counters
    page.add(catalogue.INSPECTOR_UP, inspector is not None and inspector.pid is not None)
    page.add(catalogue.INSPECTOR_STARTS, inspector.starts if inspector else 0)
    page.add(catalogue.INSPECTOR_SIGNATURES, inspector.signatures if inspector else 0, "in force")
    page.add(catalogue.INSPECTOR_SIGNATURES, inspector.refused_signatures if inspector else 0, "left out")
    page.add(catalogue.INSPECTOR_FLOWS, inspector.stopped if inspector else 0, "stopped")
    page.add(catalogue.INSPECTOR_FLOWS, inspector.bypassed if inspector else 0, "bypassed")
    page.add(catalogue.INSPECTOR_ALERTS, told.get("alerts", 0))
    page.add(catalogue.INSPECTOR_LOST, told.get("events_lost", 0) + (inspector.log_errors if inspector else 0), "log")
    page.add(
        catalogue.INSPECTOR_LOST, told.get("alerts_untold", 0) + (inspector.dropped if inspector else 0), "channel"
    )
    page.add(catalogue.INSPECTOR_LOST, inspector.lost_outside if inspector else 0, "outside")
    page.add(catalogue.INSPECTOR_LOST, inspector.skipped if inspector else 0, "detector")


def _add_flow_export(page: Page, counts: FlowExportCounts) -> None:
    page.add(catalogue.FLOW_RECORDS, counts["records"])
    page.add(catalogue.FLOW_RECORDS_SENT, counts["sent_records"])
    page.add(catalogue.FLOW_MESSAGES_SENT, counts["sent_messages"])
    page.add(catalogue.FLOW_LINES, counts["lines"])
    page.add(catalogue.FLOW_RECORDS_OPEN, counts["flows"])
    for where, name in _LOST_WHERE.items():
        page.add(catalogue.FLOW_EXPORT_LOST, counts[name], where)


def _add_host(page: Page, readings: Readings) -> None:
    inspected = readings.inspected
    page.add(catalogue.INSPECTED, inspected.sent_packets, "seen")
    page.add(catalogue.INSPECTED, inspected.missed_packets, "missed")
    page.add(catalogue.INSPECTED, inspected.refused_packets, "denied")
    for reason, packets in readings.denied.items():
        page.add(catalogue.DENIED, packets, reason)
    page.add(catalogue.PASSED_PACKETS, readings.passed_packets)
    page.add(catalogue.PASSED_BYTES, readings.passed_bytes)
    page.add(catalogue.EVENTS_LOST, readings.events_lost)
    page.add(catalogue.ANSWERS, readings.answers_sent)
    page.add(catalogue.ANSWERS_SUPPRESSED, readings.answers_suppressed)
    page.add(catalogue.SAMPLE_POOL, readings.samples.pool)
    page.add(catalogue.SAMPLES_TAKEN, readings.samples.taken)
    page.add(catalogue.SAMPLES_LOST, readings.samples.lost)
    for kind, count in readings.recognised.items():
        page.add(catalogue.RECOGNISED, count, kind)
    for table, fill in readings.tables.items():
        page.add(catalogue.TABLE_ENTRIES, fill.used, table)
        page.add(catalogue.TABLE_CAPACITY, fill.size, table)
    shares = (one.flows / one.flow_quota for one in readings.endpoints.values() if one.flow_quota)
    page.add(catalogue.QUOTA_USED_MAX, max(shares, default=0.0))


def _add_endpoints(page: Page, readings: Readings, measures: Measures) -> None:
    rest = measures.rest
    others: list[EndpointReading] = []
    for name, reading in readings.endpoints.items():
        if reading.place > rest.named:
            others.append(reading)
            continue
        denied = sum(reading.denied.values())
        _add_endpoint(page, (reading.tenant, name), reading.flows, reading.flow_quota, denied, reading.events_lost)
    flows, quota = sum(one.flows for one in others), sum(one.flow_quota for one in others)
    _add_endpoint(page, ("", OTHER), flows, quota, rest.denied, rest.events_lost)


def _add_endpoint(page: Page, labels: tuple[str, str], flows: int, quota: int, denied: int, events_lost: int) -> None:
    page.add(catalogue.ENDPOINT_FLOWS, flows, *labels)
    page.add(catalogue.ENDPOINT_QUOTA, quota, *labels)
    page.add(catalogue.ENDPOINT_DENIED, denied, *labels)
    page.add(catalogue.ENDPOINT_EVENTS_LOST, events_lost, *labels)
