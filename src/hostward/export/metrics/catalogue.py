"""Every metric there is: name, kind, labels, and the meaning that a scrape and docs/reference/metrics.md both give.

Labels are bounded (docs/reference/metrics.md, "How many series"): words of enums, hosts, tables, and so many endpoints a
host as its operator configured. Never an address, a port, a rule or anything else that a workload could make up.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Kind(Enum):
    """The types of Prometheus that are used. A counter's name ends in ``_total``."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Metric:
    """One family of series."""

    name: str
    kind: Kind
    meaning: str
    labels: tuple[str, ...] = ()


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM
_ENDPOINT = ("tenant", "endpoint")
_OTHER = 'Endpoints beyond the configured number are summed as endpoint="other".'

BUILD = Metric(
    "hostward_build_info", _G, "1, with what runs: agent or controller, and its version.", ("part", "version")
)

# -- an agent's: of the kernel's maps, exact across a restart of the agent

DENIED = Metric(
    "hostward_denied_packets_total",
    _C,
    "Packets denied on this host, by docs/reference/reasons.md; `policy` counts what audit mode lets pass, too.",
    ("reason",),
)
PASSED_PACKETS = Metric(
    "hostward_passed_packets_total", _C, "Packets that a rule let pass on this host, those in audit mode included."
)
PASSED_BYTES = Metric("hostward_passed_bytes_total", _C, "The same in bytes of frames.")
EVENTS_LOST = Metric(
    "hostward_events_lost_total", _C, "Flow events that an endpoint's quota or a full ring kept from being reported."
)
ANSWERS = Metric("hostward_answers_sent_total", _C, "Answers sent for packets that a `reject` rule denies.")
ANSWERS_SUPPRESSED = Metric(
    "hostward_answers_suppressed_total", _C, "Rejected packets that nobody was told of: no quota left, or none fits."
)
SAMPLE_POOL = Metric(
    "hostward_sample_pool_packets_total", _C, "Packets of endpoints that are sampled: each could have been taken."
)
SAMPLES_TAKEN = Metric("hostward_samples_total", _C, "Packets that were taken as samples.")
SAMPLES_LOST = Metric(
    "hostward_samples_lost_total",
    _C,
    "Samples for which the endpoint's share of the ring, or the ring, had no room.",
)
TABLE_ENTRIES = Metric("hostward_table_entries", _G, "Elements in use of a table of the datapath.", ("table",))
TABLE_CAPACITY = Metric("hostward_table_capacity_entries", _G, "Elements that the table can hold.", ("table",))
ENDPOINT_FLOWS = Metric("hostward_endpoint_flows", _G, f"Connections tracked now. {_OTHER}", _ENDPOINT)
ENDPOINT_QUOTA = Metric(
    "hostward_endpoint_flow_quota", _G, f"Connections that an endpoint may have. {_OTHER}", _ENDPOINT
)
ENDPOINT_DENIED = Metric(
    "hostward_endpoint_denied_packets_total",
    _C,
    f"Packets denied, of all reasons, since the endpoint was attached. {_OTHER}",
    _ENDPOINT,
)
ENDPOINT_EVENTS_LOST = Metric(
    "hostward_endpoint_events_lost_total", _C, f"Flow events lost, since the endpoint was attached. {_OTHER}", _ENDPOINT
)
INSPECTED = Metric(
    "hostward_inspected_packets_total",
    _C,
    "Packets of rules with `inspect=`: seen by the inspector; missed, which passed unseen; denied because unseen.",
    ("outcome",),
)
RECOGNISED = Metric(
    "hostward_guard_recognised_total",
    _C,
    "How often guards on this host recognised a scan, a flood or forged packets of an endpoint's.",
    ("kind",),
)
QUOTA_USED_MAX = Metric(
    "hostward_endpoint_quota_used_max_ratio",
    _G,
    "The largest share of its flow quota that any one endpoint uses, 0 to 1.",
)

# -- an agent's: its own, from zero when it starts

READ_AT = Metric(
    "hostward_reading_timestamp_seconds", _G, "When the kernel's counters were read, seconds since the epoch."
)
LOCAL_ENDPOINTS = Metric("hostward_local_endpoints", _G, "Endpoints on this host.", ("state",))
ENFORCED_REVISION = Metric("hostward_enforced_revision", _G, "The revision in force on this host; 0 before the first.")
RECEIVED_REVISION = Metric(
    "hostward_received_revision", _G, "The newest revision that the controller sent to this agent; 0 before one came."
)
ENFORCE_SECONDS = Metric(
    "hostward_enforce_seconds", _H, "From a revision's arrival at the agent to its being in force, refusals left out."
)
REFUSED_REVISIONS = Metric(
    "hostward_refused_revisions_total",
    _C,
    "Revisions that this agent refused; the one before stays whole.",
    ("reason",),
)
REPAIRS = Metric(
    "hostward_repairs_total", _C, "What the kernel held was not what it should be, and was mended.", ("kind",)
)
CHANNEL_UP = Metric("hostward_channel_up", _G, "1 while the agent has a channel to its controller.")
CHANNEL_OPENED = Metric("hostward_channel_opened_total", _C, "Channels that the agent opened.")
CHANNEL_FAILED = Metric("hostward_channel_failed_total", _C, "Attempts to open a channel that failed.")
RING_EVENTS = Metric("hostward_ring_events_total", _C, "Flow events that the agent took from the kernel's ring.")
QUEUE_DROPPED = Metric(
    "hostward_queue_events_dropped_total", _C, "Flow events that the agent dropped, or may not have delivered."
)
QUEUE_EVENTS = Metric("hostward_queue_events", _G, "Flow events that wait for the channel.")
SAMPLES_UNTOLD = Metric(
    "hostward_samples_untold_total",
    _C,
    "Samples that were summed up and not told to the controller one by one, for there were too many.",
)
SFLOW_DATAGRAMS = Metric("hostward_sflow_datagrams_total", _C, "sFlow datagrams that were sent.")
SFLOW_FAILED = Metric(
    "hostward_sflow_samples_failed_total", _C, "Samples whose sFlow datagram the host could not send."
)
UPLINK_CEILINGS = Metric(
    "hostward_uplink_ceilings",
    _G,
    "Ceilings in force at this host's uplink, by receivers whose downlink is nearly full.",
)
CEILINGS_REFUSED = Metric(
    "hostward_uplink_ceilings_refused_total", _C, "Receivers' wishes that were not met: too many receivers at once."
)
ARRIVALS_TOLD = Metric(
    "hostward_arrivals_told_total", _C, "Reports of what fills this host's downlink; they stand still while it is not."
)
INSPECTOR_UP = Metric("hostward_inspector_up", _G, "1 while this host's inspector runs.")
INSPECTOR_STARTS = Metric("hostward_inspector_starts_total", _C, "How often it was started; once is as it should be.")
INSPECTOR_SIGNATURES = Metric(
    "hostward_inspector_signatures",
    _G,
    "Signatures in force, and those left out because they were not understood.",
    ("state",),
)
INSPECTOR_FLOWS = Metric(
    "hostward_inspector_flows_total",
    _C,
    "Flows that a signature stopped, and flows that the inspector was done with and the datapath bypasses.",
    ("treatment",),
)
INSPECTOR_ALERTS = Metric("hostward_inspector_alerts_total", _C, "Alerts that the running inspector raised.")
INSPECTOR_LOST = Metric(
    "hostward_inspector_events_lost_total",
    _C,
    "Events that reached no log or channel, or nobody else (outside); packets left out after a death (detector).",
    ("to",),
)
FLOW_RECORDS = Metric("hostward_flow_records_total", _C, "Flow records made of flows and denials, for any collector.")
FLOW_RECORDS_SENT = Metric("hostward_flow_records_sent_total", _C, "IPFIX data records that the socket took.")
FLOW_MESSAGES_SENT = Metric("hostward_flow_messages_sent_total", _C, "IPFIX messages that the socket took.")
FLOW_LINES = Metric("hostward_flow_lines_total", _C, "Flow records written as lines of JSON.")
FLOW_RECORDS_OPEN = Metric("hostward_flow_records_open", _G, "Flows that the exporter knows, and that go on.")
FLOW_EXPORT_LOST = Metric(
    "hostward_flow_export_lost_total",
    _C,
    "What flow records cannot tell, or did not reach anybody, by where: docs/howto/export-flows.md says what each means.",
    ("where",),
)

# -- a controller's

DESIRED_REVISION = Metric("hostward_desired_revision", _G, "The committed revision, which every host is to enforce.")
HOSTS = Metric("hostward_hosts", _G, "Enrolled hosts.", ("state",))
HOSTS_BEHIND = Metric(
    "hostward_hosts_behind", _G, "Admitted hosts that do not enforce the committed revision, or have no channel."
)
HOST_CONNECTED = Metric("hostward_host_connected", _G, "1 while the admitted host's agent has a channel.", ("host",))
HOST_REVISION = Metric(
    "hostward_host_enforced_revision", _G, "The revision that the admitted host enforces.", ("host",)
)
HOST_CONTACT = Metric(
    "hostward_host_contact_timestamp_seconds",
    _G,
    "When the admitted host's agent was last heard, seconds since the epoch; 0: not since the controller started.",
    ("host",),
)
ENDPOINTS = Metric("hostward_endpoints", _G, "Endpoints of all hosts, as last told by their agents.", ("state",))
CHANGE_SECONDS = Metric(
    "hostward_change_to_enforced_seconds",
    _H,
    "From a commit to a host's acknowledgement; hosts that had no channel at the commit are left out.",
)
COMPILE_SECONDS = Metric(
    "hostward_compile_seconds", _H, "From a planned change to a compiled revision that fits every host."
)
CHANNELS_ACCEPTED = Metric("hostward_channels_accepted_total", _C, "Agents' channels that the controller accepted.")
NACKS = Metric("hostward_refusals_total", _C, "Revisions that hosts refused.", ("reason",))
API_REQUESTS = Metric(
    "hostward_api_requests_total",
    _C,
    "Requests to the API by operation (its method and path in docs/reference/api.md) and HTTP status.",
    ("operation", "status"),
)
AUDIT_RECORDS = Metric("hostward_audit_records", _G, "Records in the audit log.")
DOWNLINK_RATE = Metric(
    "hostward_downlink_bits_per_second",
    _G,
    "What arrives of a source tenant at a host whose downlink is nearly full; without labels, of all.",
    ("host", "tenant"),
)
HOST_CEILINGS = Metric(
    "hostward_host_ceilings",
    _G,
    "Ceilings that a sending host was told of for its receivers; without label, of all.",
    ("host",),
)
ARRIVALS_IGNORED = Metric(
    "hostward_arrivals_ignored_total", _C, "Reports of arrivals that came too fast or were too long."
)

AGENT = (
    DENIED,
    PASSED_PACKETS,
    PASSED_BYTES,
    EVENTS_LOST,
    ANSWERS,
    ANSWERS_SUPPRESSED,
    SAMPLE_POOL,
    SAMPLES_TAKEN,
    SAMPLES_LOST,
    TABLE_ENTRIES,
    TABLE_CAPACITY,
    ENDPOINT_FLOWS,
    ENDPOINT_QUOTA,
    ENDPOINT_DENIED,
    ENDPOINT_EVENTS_LOST,
    INSPECTED,
    RECOGNISED,
    QUOTA_USED_MAX,
    READ_AT,
    LOCAL_ENDPOINTS,
    ENFORCED_REVISION,
    RECEIVED_REVISION,
    ENFORCE_SECONDS,
    REFUSED_REVISIONS,
    REPAIRS,
    CHANNEL_UP,
    CHANNEL_OPENED,
    CHANNEL_FAILED,
    RING_EVENTS,
    QUEUE_DROPPED,
    QUEUE_EVENTS,
    SAMPLES_UNTOLD,
    SFLOW_DATAGRAMS,
    SFLOW_FAILED,
    UPLINK_CEILINGS,
    CEILINGS_REFUSED,
    ARRIVALS_TOLD,
    INSPECTOR_UP,
    INSPECTOR_STARTS,
    INSPECTOR_SIGNATURES,
    INSPECTOR_FLOWS,
    INSPECTOR_ALERTS,
    INSPECTOR_LOST,
    FLOW_RECORDS,
    FLOW_RECORDS_SENT,
    FLOW_MESSAGES_SENT,
    FLOW_LINES,
    FLOW_RECORDS_OPEN,
    FLOW_EXPORT_LOST,
)
CONTROLLER = (
    DESIRED_REVISION,
    HOSTS,
    HOSTS_BEHIND,
    HOST_CONNECTED,
    HOST_REVISION,
    HOST_CONTACT,
    ENDPOINTS,
    CHANGE_SECONDS,
    COMPILE_SECONDS,
    CHANNELS_ACCEPTED,
    NACKS,
    API_REQUESTS,
    AUDIT_RECORDS,
    DOWNLINK_RATE,
    HOST_CEILINGS,
    ARRIVALS_IGNORED,
)
EVERY = (BUILD, *AGENT, *CONTROLLER)
